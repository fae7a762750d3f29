"""Pipeline, facade and command line share names, order, types and defaults: those of the engine's table of options."""

import argparse
import inspect
import math
import re
import types
import typing
from collections.abc import Sequence

import pytest

import sdcpp_py
from sdcpp_py import _compat, _images, cli, convert, options
from sdcpp_py.cli import flags
from sdcpp_py.plan import planner

# The keywords of stable-diffusion-cpp-python 0.4.7 in its order, with its defaults.
OPENING = {
    **dict.fromkeys(("model_path", "clip_l_path", "clip_g_path", "clip_vision_path", "t5xxl_path", "llm_path"), ""),
    **dict.fromkeys(("llm_vision_path", "diffusion_model_path", "high_noise_diffusion_model_path", "vae_path", "taesd_path"), ""),
    **dict.fromkeys(("control_net_path", "upscaler_path"), ""),
    "upscale_tile_size": 128,
    "lora_model_dir": "",
    "embedding_paths": [],
    "photo_maker_path": "",
    "tensor_type_rules": "",
    "vae_decode_only": False,
    "n_threads": -1,
    "wtype": "default",
    "rng_type": "cuda",
    "sampler_rng_type": "cuda",
    "prediction": "default",
    "lora_apply_mode": "auto",
    **dict.fromkeys(("offload_params_to_cpu", "enable_mmap", "keep_clip_on_cpu", "keep_control_net_on_cpu"), False),
    **dict.fromkeys(("keep_vae_on_cpu", "flash_attn", "diffusion_flash_attn", "tae_preview_only"), False),
    **dict.fromkeys(("diffusion_conv_direct", "vae_conv_direct", "circular_x", "circular_y"), False),
    "force_sdxl_vae_conv_scale": False,
    "chroma_use_dit_mask": True,
    "chroma_use_t5_mask": False,
    "chroma_t5_mask_pad": 1,
    "qwen_image_zero_cond_t": False,
    "max_vram": 0,
    "image_resize_method": "crop",
    "verbose": True,
}
GENERATING = {
    "prompt": inspect.Parameter.empty,
    "negative_prompt": "",
    "clip_skip": -1,
    "init_image": None,
    "ref_images": None,
    "auto_resize_ref_image": True,
    "increase_ref_index": False,
    "mask_image": None,
    "width": 512,
    "height": 512,
    "cfg_scale": 7.0,
    "image_cfg_scale": None,
    "guidance": 3.5,
    "scheduler": "default",
    "sample_method": "default",
    "sample_steps": 20,
    "eta": 0.0,
    "timestep_shift": 0,
    "sigmas": None,
    "flow_shift": math.inf,
    "skip_layers": [7, 8, 9],
    "skip_layer_start": 0.01,
    "skip_layer_end": 0.2,
    "slg_scale": 0.0,
    "strength": 0.75,
    "seed": 42,
    "batch_count": 1,
    "control_image": None,
    "control_strength": 0.9,
    "pm_id_embed_path": "",
    "pm_id_images": None,
    "pm_style_strength": 20.0,
    "vae_tiling": False,
    "vae_tile_overlap": 0.5,
    "vae_tile_size": "0x0",
    "vae_relative_tile_size": "0x0",
    "cache_mode": "disabled",
    "cache_reuse_threshold": 1.0,
    "cache_start_percent": 0.15,
    "cache_end_percent": 0.95,
    "cache_error_decay_rate": 1.0,
    "cache_use_relative_threshold": True,
    "cache_reset_error_on_compute": True,
    "cache_Fn_compute_blocks": 8,
    "cache_Bn_compute_blocks": 0,
    "cache_residual_diff_threshold": 0.08,
    "cache_max_warmup_steps": 8,
    "cache_max_continuous_cached_steps": -1,
    "cache_taylorseer_n_derivatives": 1,
    "cache_taylorseer_skip_interval": 1,
    "cache_spectrum_w": 0.4,
    "cache_spectrum_m": 3,
    "cache_spectrum_lam": 1.0,
    "cache_spectrum_window_size": 2,
    "cache_spectrum_flex_window": 0.5,
    "cache_spectrum_warmup_steps": 4,
    "cache_spectrum_stop_percent": 0.9,
    "scm_mask": "",
    "scm_policy": "dynamic",
    "hires": False,
    "hires_path": "",
    "hires_upscaler": "Latent",
    "hires_scale": 2.0,
    "hires_width": 0,
    "hires_height": 0,
    "hires_steps": 0,
    "hires_denoising_strength": 0.7,
    "hires_upscale_tile_size": 128,
    "canny": False,
    "upscale_factor": 1,
    "preview_method": "none",
    "preview_noisy": False,
    "preview_interval": 1,
    "preview_callback": None,
    "progress_callback": None,
}
CONVERTING = {
    "input_path": inspect.Parameter.empty,
    "vae_path": "",
    "output_path": "output.gguf",
    "output_type": "default",
    "tensor_type_rules": "",
    "convert_name": True,
}
THE_MODELS_OWN = ("width", "height", "cfg_scale", "sample_steps")  # if they are left out


def parameters(function):
    found = dict(inspect.signature(function).parameters)
    found.pop("self", None)
    return found


def command_line(*arguments):
    return vars(cli._parser().parse_args(["generate", "x", *arguments]))


def test_options_are_keyword_only():
    for function in (sdcpp_py.Pipeline, sdcpp_py.Pipeline.generate):
        kinds = [p.kind for p in parameters(function).values()]
        assert kinds[0] is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert all(kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD) for kind in kinds[1:])


def test_the_command_line_has_every_option_with_the_same_default():
    given = command_line()
    # `sdcpp plan` takes link_speed as two numbers; the command line is a whole process
    left_out = {"prompt", "noise", "init_latent", "conditioning", "negative_conditioning", "preview_callback"}
    left_out |= {"picture_callback"}
    left_out |= {
        "rng",
        "callback",
        "cancel",
        "denoising_start",
        "denoising_end",
        "use_taesd",
        "link_speed",
        "whole_process",
        "parts",
    }
    given |= cli.flags.parts(argparse.Namespace(**given))
    for function in (sdcpp_py.Pipeline, sdcpp_py.Pipeline.generate):
        for name, parameter in parameters(function).items():
            if name in left_out:
                continue
            assert name in given, f"the command line lacks {name}"
            assert given[name] == parameter.default, name


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (sdcpp_py.StableDiffusion, OPENING),
        (sdcpp_py.StableDiffusion.generate_image, GENERATING),
        (sdcpp_py.StableDiffusion.convert, CONVERTING),
    ],
)
def test_the_facade_has_the_other_packages_names_order_and_defaults(function, expected):
    found = parameters(function)
    assert list(found) == list(expected)
    for name, parameter in found.items():
        if name in THE_MODELS_OWN:
            assert parameter.default is None
        else:
            default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            assert (default, type(default)) == (expected[name], type(expected[name])), name
        assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD


NOT_IN_TABLE = {
    sdcpp_py.Pipeline: {
        "model",
        "diffusion_model",
        "vae",
        "text_encoders",
        "llm",
        "taesd",
        "clip_vision",
        "upscaler",
        "parts",
        "rng",
    }
    | {"lora_model_dir"}
    | {"embeddings", "embedding_dir"},
    sdcpp_py.Pipeline.generate: {"prompt", "negative_prompt", "rng", "init_image", "mask_image", "outpaint", "loras", "controls"}
    | {
        "ip_adapters",
        "conditioning",
        "negative_conditioning",
        "ref_images",
        "depth_image",
        "preview_callback",
        "picture_callback",
        "callback",
        "cancel",
        "progress",
    },
    planner.plan: {"stages"},
}
# The package's own; what another keyword gives; the pipeline's, for all of its pictures unless a call has its own.
NOT_KEYWORDS = {"blas_library", "extra", "mask", "references", "reference_sides", "rng", "seeds"}


@pytest.mark.parametrize(
    ("function", "table"),
    [(sdcpp_py.Pipeline, options.MODEL), (sdcpp_py.Pipeline.generate, options.GENERATE), (planner.plan, options.PLAN)],
)
def test_keywords_are_the_tables_in_its_order(function, table):
    found = {name: one for name, one in parameters(function).items() if name not in NOT_IN_TABLE[function]}
    expected = [name for name in table if name not in NOT_KEYWORDS]
    assert list(found) == expected
    for name, parameter in found.items():
        assert parameter.default == table[name].keyword_default or (function is planner.plan and name == "budget_bytes"), name


TYPES = {
    "number": float,
    "integer": int,
    "text": str,
    "choice": str,
    "switch": bool,
    "budget": float | str,
    "numbers": tuple[float, float],
}


@pytest.mark.parametrize(
    ("function", "table"),
    [
        (sdcpp_py.Pipeline.__init__, options.MODEL),
        (sdcpp_py.Pipeline.generate, options.GENERATE),
        (sdcpp_py.Pipeline.decode, options.GENERATE),
        (sdcpp_py.Pipeline.plan, options.GENERATE),
        (planner.plan, options.PLAN),
        (convert, options.MODEL),
    ],
)
def test_keywords_have_the_tables_types(function, table):
    hints = typing.get_type_hints(function)
    for name in set(table) & set(hints) - {"rng"}:
        option = table[name]
        if option.kind == "array":
            continue
        expected = TYPES[option.kind] if option.default_from == "fixed" else TYPES[option.kind] | None
        if name == "blas":
            expected = bool | expected
        if name == "seed":
            expected = Sequence[int] | expected
        if name == "sigmas":
            expected = Sequence[float] | str | None
        if name == "skip_layers":
            expected = Sequence[int] | str | None
        assert set(typing.get_args(hints[name]) or [hints[name]]) == (
            set(typing.get_args(expected)) if isinstance(expected, types.UnionType) else {expected}
        ), name


def test_completion_and_help_show_every_keyword():
    import pydoc

    text = pydoc.render_doc(sdcpp_py.Pipeline.generate, renderer=pydoc.plaintext)
    assert all(re.search(rf"\b{name}: ", text) for name in options.GENERATE if name not in NOT_KEYWORDS)


class Recorder:
    """Stands for `Pipeline`: keeps what it is given."""

    opened: typing.ClassVar[dict] = {}
    made: typing.ClassVar[dict] = {}

    def __init__(self, *arguments, **given):
        Recorder.opened = {"model": arguments[0], **given}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def generate(self, prompt, **given):
        Recorder.made = {"prompt": prompt, **given}
        timings = dict.fromkeys(("total", "encode", "sample", "decode"), 0.0)
        used = {"width": 64, "height": 64, "steps": 1, "sampler": "euler", "scheduler": "simple", "cfg_scale": 1.0}
        return types.SimpleNamespace(images=[], seed=1, seeds=[], parameters=used, timings=timings, reports={})

    def take_profile(self):
        return []


def other_value(option):
    """A value that is not the option's default, as Python and as the command line have it."""
    if option.kind == "switch":
        return not option.flags[0].startswith("--no-")
    if option.kind == "choice":
        return option.choices[-1]
    if option.kind == "number" and option.least > 0.25:
        return option.least
    return {"integer": 9, "number": 0.25, "text": "f16", "budget": "3.5", "numbers": "3,0"}[option.kind]


def test_the_command_line_passes_every_option_on(monkeypatch):
    monkeypatch.setattr(cli.generate, "Pipeline", Recorder)
    given, expected = [], {}
    for option in (*options.MODEL.values(), *options.GENERATE.values()):
        if not option.flags or option.name == "blas":
            continue
        expected[option.name] = other_value(option)
        given += [option.flags[-1]] if option.kind == "switch" else [option.flags[-1], str(expected[option.name])]
    parts = {name: f"{name}.gguf" for name in ("diffusion_model", "vae", "llm", "taesd")}
    for name, path in parts.items():
        given += ["--" + name.replace("_", "-"), path]
    given += ["--upscale-model", "u.pth", "--clip_vision", "eyes"]
    parts |= {"upscaler": "u.pth", "clip_vision": "eyes"}
    given += ["--clip_l", "l", "--clip_g", "g", "-m", "x.gguf", "--no-blas", "-n", "no", "-i", "photo.png", "--no-progress"]
    given += ["--mask", "mask.png", "--lora-model-dir", "styles", "--lora", "a.safetensors", "--lora", "b:c:-0.5"]
    given += ["--embedding", "w.pt", "--embd-dir", "words", "--outpaint", "1,2,3,4", "--depth-image", "deep.png"]
    given += ["-r", "one.png", "--ref-image", "two.png"]
    assert cli.main(["generate", "a cat", *given]) == 0
    rng = {"rng": expected.pop("rng")}
    model = {name: value for name, value in expected.items() if name in options.MODEL}
    assert Recorder.opened == {
        **{"model": "x.gguf", **parts, "text_encoders": None, **model, **rng, "lora_model_dir": "styles"},
        **{"embeddings": ["w.pt"], "embedding_dir": "words"},
        **{"parts": {"clip_l": "l", "clip_g": "g"}, "blas": False, "whole_process": True},
    }
    picture = {name: value for name, value in expected.items() if name in options.GENERATE}
    more = {"prompt": "a cat", "negative_prompt": "no", "init_image": "photo.png", "mask_image": "mask.png"}
    more |= {"outpaint": "1,2,3,4", "depth_image": "deep.png", "controls": None, "ip_adapters": None}
    more |= {"ref_images": ["one.png", "two.png"]}
    more |= {"use_taesd": True, "progress": False, "loras": [("a.safetensors", 1.0), ("b:c", -0.5)]}
    assert callable(Recorder.made.pop("preview_callback")) and callable(Recorder.made.pop("picture_callback"))
    assert Recorder.made == {**picture, **more}
    assert len(expected) > 20


def test_the_command_line_says_nothing_of_what_was_left_out(monkeypatch):
    monkeypatch.setattr(cli.generate, "Pipeline", Recorder)
    assert cli.main(["generate", "a cat"]) == 0
    defaults = {name: one.default for name, one in parameters(sdcpp_py.Pipeline).items()}
    assert Recorder.opened == {name: defaults[name] for name in Recorder.opened} | {"whole_process": True}
    defaults = {name: one.default for name, one in parameters(sdcpp_py.Pipeline.generate).items()}
    assert callable(Recorder.made.pop("picture_callback"))
    assert Recorder.made == {name: defaults[name] for name in Recorder.made} | {"prompt": "a cat"}


def test_the_facade_passes_every_keyword_on(monkeypatch):
    monkeypatch.setattr(_compat, "Pipeline", Recorder)
    taken = ("model", "clip_l", "clip_g", "t5xxl", "diffusion_model", "llm", "vae", "taesd")
    paths = {f"{name}_path": f"{name}.gguf" for name in taken}
    others = {"n_threads": 3, "wtype": "q8_0", "tensor_type_rules": "a=f16", "rng_type": "cpu", "max_vram": 2.5}
    model = sdcpp_py.StableDiffusion(**paths, **others, offload_params_to_cpu=True)
    assert Recorder.opened == {
        "model": "model.gguf",
        "diffusion_model": "diffusion_model.gguf",
        "vae": "vae.gguf",
        "parts": {"clip_l": "clip_l.gguf", "clip_g": "clip_g.gguf", "t5": "t5xxl.gguf"},
        "llm": "llm.gguf",
        "taesd": "taesd.gguf",
        "wtype": "q8_0",
        "tensor_type_rules": "a=f16",
        "threads": 3,
        "rng": "cpu",
        "max_vram": 2.5,
        "offload_to_cpu": True,
    }
    given = {
        "negative_prompt": "no",
        "clip_skip": 2,
        "width": 64,
        "height": 128,
        "cfg_scale": 3.0,
        "guidance": 2.0,
        "scheduler": "karras",
        "sample_method": "heun",
        "sample_steps": 7,
        "eta": 0.5,
        "flow_shift": 2.5,
        "seed": 9,
        "batch_count": 2,
        "vae_tiling": True,
        "vae_tile_overlap": 0.25,
    }
    model.generate_image("a cat", **given, vae_tile_size="24x24", strength=0.5, init_image="photo.png", progress_callback=None)
    renamed = {"sample_method": "sampler", "sample_steps": "steps"}
    expected = {renamed.get(name, name): value for name, value in given.items()}
    expected |= {"vae_tile_size": 24, "init_image": "photo.png", "strength": 0.5}
    assert Recorder.made == {"prompt": "a cat", **expected, "use_taesd": True, "callback": None}
    model.generate_image("a cat", slg_scale=2.5)
    layers = {name: Recorder.made[name] for name in ("slg_scale", "skip_layers", "skip_layer_start", "skip_layer_end")}
    assert layers == {"slg_scale": 2.5, "skip_layers": (7, 8, 9), "skip_layer_start": 0.01, "skip_layer_end": 0.2}
    sdcpp_py.StableDiffusion(taesd_path="t.gguf", tae_preview_only=True).generate_image("x")
    assert not Recorder.made["use_taesd"]


def test_the_facades_defaults_leave_the_engine_its_own(monkeypatch):
    monkeypatch.setattr(_compat, "Pipeline", Recorder)
    sdcpp_py.StableDiffusion().generate_image("x")
    assert Recorder.opened == {"model": None, "parts": None, "rng": "cuda"}
    more = {"prompt": "x", "negative_prompt": "", "vae_tile_overlap": 0.5, "use_taesd": False, "callback": None}
    assert Recorder.made == {"seed": 42, "batch_count": 1} | more


def test_the_facade_takes_every_keyword_at_the_other_packages_default(monkeypatch):
    monkeypatch.setattr(_compat, "Pipeline", Recorder)
    model = sdcpp_py.StableDiffusion(**OPENING)
    model.generate_image(**{**GENERATING, "prompt": "x"})
    assert (Recorder.made["width"], Recorder.made["steps"], Recorder.made["cfg_scale"]) == (512, 20, 7.0)
    model.generate_image("a cat", "ugly", 2)
    assert (Recorder.made["prompt"], Recorder.made["negative_prompt"], Recorder.made["clip_skip"]) == ("a cat", "ugly", 2)


REFUSED = {
    "increase_ref_index": True,
    "auto_resize_ref_image": False,
    "timestep_shift": 250,
    "pm_id_images": ["a.png"],
    "vae_relative_tile_size": "0.5x0.5",
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_facade_refuses_what_would_change_a_picture(monkeypatch, name):
    monkeypatch.setattr(_compat, "Pipeline", Recorder)
    with pytest.raises(ValueError, match=f"{name}=.* is not supported"):
        sdcpp_py.StableDiffusion().generate_image("x", **{name: REFUSED[name]})


@pytest.mark.parametrize(
    ("name", "value"),
    [("circular_x", True), ("circular_y", 1), ("prediction", "v"), ("chroma_use_t5_mask", True)],
)
def test_the_facade_refuses_models_that_would_be_others(monkeypatch, name, value):
    monkeypatch.setattr(_compat, "Pipeline", Recorder)
    with pytest.raises(ValueError, match=f"{name}=.* is not supported"):
        sdcpp_py.StableDiffusion(**{name: value})


def test_the_facades_keywords_are_all_accounted_for():
    for function, table in (
        (sdcpp_py.StableDiffusion, _compat._OPENING),
        (sdcpp_py.StableDiffusion.generate_image, _compat._GENERATING),
    ):
        refused = set(parameters(function)) - set(table) - _compat._OWN - _compat._NO_EFFECT
        assert refused >= ({"circular_x"} if function is sdcpp_py.StableDiffusion else set(REFUSED))
    assert set(OPENING) | set(GENERATING) >= _compat._NO_EFFECT


def test_networks_in_a_prompt_are_refused(folder):
    with sdcpp_py.Pipeline(folder) as pipeline:
        for prompt in ("a cat <lora:style:0.8>", "<lyco:a>, b"):
            with pytest.raises(ValueError, match="lora_model_dir"):
                pipeline.generate(prompt, width=64, height=64, steps=1)
        assert pipeline.generate("a <b> c < d", width=64, height=64, steps=1).images


def test_the_facades_pictures_carry_their_arguments_and_convert_writes(folder, tmp_path):
    with sdcpp_py.StableDiffusion(folder) as model:
        picture = model.generate_image("a cat", width=64, height=64, sample_steps=2, batch_count=2)[1]
        assert (picture.info["prompt"], picture.info["seed"], picture.info["sample_steps"]) == ("a cat", 43, 2)
        assert picture.info["sample_method"] == "euler_a" and picture.info["model_path"] == folder
        path = model.convert(folder, output_path=tmp_path / "x.gguf", output_type="q8_0")
    with sdcpp_py.StableDiffusion(path) as model:
        assert model.generate_image("a cat", width=64, height=64, sample_steps=1)


WRITTEN = ["Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Clip skip", "Denoising strength", "RNG", "Sigmas"]
WRITTEN += [
    "Image CFG scale",
    "Guidance start",
    "Guidance end",
    "Guidance rescale",
    "APG eta",
    "APG momentum",
    "APG norm threshold",
]
WRITTEN += ["Hires upscaler", "Hires upscale", "Hires steps", "Hires denoising strength"]
WRITTEN += ["Zero init steps", "Mimic scale", "Threshold percentile", "Interpolate Phi"]
WRITTEN += ["Cache threshold", "Cache interval"]
WRITTEN += ["SLG scale", "Skip layers", "Skip layer start", "Skip layer end"]
WRITTEN += ["Soft inpainting enabled", "Soft inpainting schedule bias", "Soft inpainting preservation strength"]
WRITTEN += ["Soft inpainting transition contrast boost", "Soft inpainting mask influence"]
WRITTEN += ["Soft inpainting difference threshold", "Soft inpainting difference contrast"]
WRITTEN += ["Guidance norm"]
WRITTEN += ["Mask blur", "Masked content", "Masked area padding"]


def test_a_pictures_metadata_come_from_the_table():
    used = {"width": 64, "height": 128, "steps": 3, "cfg_scale": 2.5, "sampler": "euler", "scheduler": "karras", "seed": 7}
    text = _images.parameters_of({**used, "clip_skip": 2, "rng": "cpu", "prompt": "a", "negative_prompt": ""}, "my, model")
    version = sdcpp_py.__version__
    assert text == (
        "a\nSteps: 3, Sampler: Euler, Schedule type: Karras, CFG scale: 2.5, Seed: 7, Size: 64x128, "
        f'Model: "my, model", Clip skip: 2, RNG: CPU, Version: sdcpp_py {version}'
    )
    keys = {option.written for option in options.GENERATE.values() if option.written}
    assert keys == set(WRITTEN)


@pytest.mark.parametrize("value", ["a, b", "a: b", "a\nb"])
def test_values_that_would_break_the_text_are_quoted(value):
    assert _images.parameters_text("p", "n", {"Model": value}) == f'p\nNegative prompt: n\nModel: "{value}"'


def test_an_error_spells_the_option_as_its_face_does():
    error = sdcpp_py.errors.InvalidArgumentError.of("cfg_scale", "is 9000; 0 to 1000 are possible")
    assert str(error) == "cfg_scale is 9000; 0 to 1000 are possible"
    assert error.spelled(flags.spell) == "--cfg-scale is 9000; 0 to 1000 are possible"
    missing = sdcpp_py.errors.MissingPartError.of("x has no VAE decoder", "vae")
    assert str(missing) == "x has no VAE decoder; give one with vae=…"
    assert missing.spelled(flags.spell) == "x has no VAE decoder; give one with --vae FILE"
    other = sdcpp_py.errors.NotFiniteError("try option wtype=f32")
    other.option = "wtype=f32"
    assert (str(other), other.spelled(flags.spell)) == ("try wtype='f32'", "try --type f32")


def test_the_facade_generates(folder):
    steps = []
    with sdcpp_py.StableDiffusion(model_path=folder, n_threads=2, verbose=False) as model:
        images = model.generate_image(
            prompt="x",
            width=64,
            height=64,
            sample_steps=2,
            sample_method="euler",
            progress_callback=lambda step, total, seconds: steps.append((step, total, seconds >= 0)),
        )
    assert images[0].size == (64, 64)
    assert steps == [(1, 2, True), (2, 2, True)]


def test_the_facades_maps_hold_what_its_keywords_take(monkeypatch):
    monkeypatch.setattr(_compat, "Pipeline", Recorder)
    assert {"euler", "dpm++2m"} <= set(sdcpp_py.SAMPLE_METHOD_MAP) and "karras" in sdcpp_py.SCHEDULER_MAP
    model = sdcpp_py.StableDiffusion(rng_type=sdcpp_py.RNG_TYPE_MAP["cpu"])
    model.generate_image("x", sample_method=sdcpp_py.SAMPLE_METHOD_MAP["heun"], scheduler=sdcpp_py.SCHEDULER_MAP["karras"])
    assert (Recorder.opened["rng"], Recorder.made["sampler"], Recorder.made["scheduler"]) == ("cpu", "heun", "karras")
