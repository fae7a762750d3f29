"""IP-Adapters on tiny models."""

import control_files
import hollow
import ip_adapter_files as files
import layouts
import numpy as np
import pytest
import released
import tiny
from adapters import unet_inputs
from budgets import SIMULATED, least_gib
from PIL import Image

import sdcpp_py
from sdcpp_py import cli, errors, ip_adapter, metadata
from sdcpp_py.ip_adapter import IPAdapter

SMALL = {"width": 64, "height": 64, "steps": 3, "seed": 1, "progress": False}
SPEEDS = (2e10, 2e9)
PICTURE = Image.fromarray(files.picture())


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """An adapter of each kind for the tiny model, and the vision encoder."""
    target = tmp_path_factory.mktemp("adapters")
    for name, made_of in files.KINDS.items():
        files.write(target / f"{name}.safetensors", made_of())
    files.write_vision(target / "image_encoder")
    return target


@pytest.fixture(scope="module")
def seeing(folder, kinds):
    with sdcpp_py.Pipeline(folder, clip_vision=kinds / "image_encoder") as pipeline:
        yield pipeline


def adapter(kinds, kind="base", strength=1.0, **more):
    return IPAdapter(kinds / f"{kind}.safetensors", more.pop("image", PICTURE), strength, **more)


def made(pipeline, adapters=None, **more):
    return pipeline.generate("a cat", **{**SMALL, **more}, ip_adapters=adapters).latents[0]


@pytest.mark.parametrize("kind", files.KINDS)
def test_an_adapter_changes_the_picture_and_leaves_no_trace(folder, seeing, kinds, kind):
    with sdcpp_py.Pipeline(folder) as blind:
        plain = made(blind)
    np.testing.assert_array_equal(made(seeing), plain)
    led = made(seeing, [adapter(kinds, kind)])
    assert np.abs(led - plain).max() > 0.01
    np.testing.assert_array_equal(made(seeing), plain)
    np.testing.assert_array_equal(made(seeing, [adapter(kinds, kind)]), led)
    np.testing.assert_array_equal(made(seeing, [adapter(kinds, kind, 0)]), plain)
    np.testing.assert_array_equal(made(seeing, [adapter(kinds, kind, start=0.5, end=0.5)]), plain)
    assert np.abs(made(seeing, [adapter(kinds, kind, image=Image.fromarray(files.picture(seed=8)))]) - led).max() > 1e-3


def test_a_picture_may_be_an_array_a_picture_or_a_file(seeing, kinds, tmp_path):
    PICTURE.save(tmp_path / "seen.png")
    path = kinds / "base.safetensors"
    led = made(seeing, [(path, PICTURE)])
    for image in (files.picture(), tmp_path / "seen.png", str(tmp_path / "seen.png")):
        np.testing.assert_array_equal(made(seeing, [{"path": path, "image": image}]), led)
    np.testing.assert_array_equal(made(seeing, [(str(path), PICTURE, 1.0)]), led)


@pytest.mark.parametrize("whole", [False, True])
def test_an_encoder_under_open_clips_names_is_the_same(folder, seeing, kinds, tmp_path, whole):
    """Alone, or with the text model that open_clip's files hold beside it."""
    tensors = files.open_clip(files.vision())
    if whole:
        tensors |= tiny.open_clip(tiny.part("xl_text_encoder_2"))
    eyes = files.write_vision(tmp_path / "eyes", tensors)
    x = np.random.RandomState(1).standard_normal((2, 3, files.SIDE, files.SIDE)).astype(np.float32)
    with sdcpp_py.Pipeline(folder, clip_vision=eyes) as pipeline:
        np.testing.assert_allclose(pipeline.evaluate("clip_vision", x=x), seeing.evaluate("clip_vision", x=x), atol=1e-5)
        found = pipeline.generate("a cat", ip_adapters=[adapter(kinds, "plus")], **SMALL).latents[0]
    np.testing.assert_array_equal(found, seeing.generate("a cat", ip_adapters=[adapter(kinds, "plus")], **SMALL).latents[0])


def test_strength_changes_without_a_reload(seeing, kinds):
    """What the networks made of the picture is kept, and counts by the strength."""
    inputs = unet_inputs()
    plain = seeing.evaluate("unet", **inputs)
    little, twice = (seeing.evaluate("unet", ip_adapters=[adapter(kinds, "plus", s)], **inputs) - plain for s in (1e-3, 2e-3))
    assert np.abs(twice - 2 * little).max() < 0.02 * np.abs(twice).max()
    made(seeing, [adapter(kinds, "plus")])
    result = seeing.generate("a cat", **SMALL, ip_adapters=[adapter(kinds, "plus", 0.3)])
    assert "clip_vision" not in result.reports
    assert not any(name.startswith("picture.") for name in result.reports)
    assert result.reports["unet"].loaded_bytes == 0


def test_several_add(seeing, kinds):
    """Near zero, what two do is the sum of what each does."""

    def change(*names):
        given = [adapter(kinds, name, 1e-3) for name in names]
        return (seeing.evaluate("unet", ip_adapters=given, **inputs) - plain) / 1e-3

    inputs = unet_inputs()
    plain = seeing.evaluate("unet", **inputs)
    one, two, both = change("base"), change("plus"), change("base", "plus")
    assert np.abs(both - one - two).max() < 0.02 * np.abs(both).max()
    assert min(np.abs(one).max(), np.abs(two).max()) > 0.1 * np.abs(both).max()


@pytest.mark.parametrize("policy", ["pipelined", "capped", "full"])
def test_streamed_is_as_resident(folder, seeing, kinds, policy):
    given = [adapter(kinds, "base", 0.8), adapter(kinds, "plus", start=0.3)]
    plain, expected = made(seeing), made(seeing, given)
    eyes = kinds / "image_encoder"
    budget = 2.2 * least_gib(folder, policy, {"clip_l": 64, "unet": 64, "vae.decoder": 64})
    more = {"device": SIMULATED, "max_vram": budget, "plan_policy": policy, "link_speed": SPEEDS}
    with sdcpp_py.Pipeline(folder, clip_vision=eyes, **more) as pipeline:
        for adapters, wanted in ((None, plain), (given, expected), (None, plain), (given, expected)):
            result = pipeline.generate("a cat", **SMALL, ip_adapters=adapters)
            np.testing.assert_array_equal(result.latents[0], wanted)
            assert result.memory["peak"] <= budget * 2**30
        assert result.reports["unet"].uploaded_bytes > 0


def test_a_plan_without_adapters_is_that_of_a_model_without_eyes(folder, kinds):
    least = least_gib(folder, "pipelined", {"unet": 64, "vae.decoder": 64})
    more = {"device": SIMULATED, "max_vram": 2.2 * least, "link_speed": SPEEDS}
    with sdcpp_py.Pipeline(folder, **more) as pipeline:
        plain = pipeline.plan(width=64, height=64)
    with sdcpp_py.Pipeline(folder, clip_vision=kinds / "image_encoder", **more) as pipeline:
        assert pipeline.plan(width=64, height=64) == plain
        led = pipeline.generate("a cat", **SMALL, ip_adapters=[adapter(kinds)]).reports["unet"].plan
        assert [stage.param_bytes for stage in led.stages] == [stage.param_bytes for stage in plain.stages]
        assert pipeline.plan(width=64, height=64).stages[0].name == plain.stages[0].name


def test_pictures_of_a_batch_are_those_of_single_calls(seeing, kinds):
    given = [adapter(kinds, "plus", 0.7)]
    both = seeing.generate("a cat", **SMALL, batch_count=2, ip_adapters=given).latents
    np.testing.assert_array_equal(both[0], made(seeing, given))
    np.testing.assert_array_equal(both[1], made(seeing, given, seed=2))
    alone = made(seeing, given, cfg_scale=1.0)
    assert np.abs(alone - both[0]).max() > 1e-3


def test_negative_prompts_see_nothing(seeing, kinds):
    """They are led by zeros, not by the picture: guidance leads towards it."""
    given = [adapter(kinds, "base")]
    weak, strong = (made(seeing, given, cfg_scale=scale) for scale in (2.0, 7.0))
    assert np.abs(weak - strong).max() > 1e-2


def test_it_goes_with_a_control_net_and_a_lora(seeing, kinds, tmp_path):
    net = control_files.write(tmp_path / "net.safetensors", control_files.control_net())
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"
    lora = {f"{name}.lora_up.weight": tiny.values("up", (64, 2)), f"{name}.lora_down.weight": tiny.values("down", (2, 64))}
    path = tiny.write_safetensors(tmp_path / "lora.safetensors", lora)
    more = {"controls": [(net, control_files.hint(), 0.8)], "loras": [path]}
    plain, led, adapted = made(seeing), made(seeing, **more), made(seeing, [adapter(kinds)])
    all_of_it = made(seeing, [adapter(kinds)], **more)
    for other in (plain, led, adapted):
        assert np.abs(all_of_it - other).max() > 1e-3
    np.testing.assert_array_equal(made(seeing, **more), led)
    np.testing.assert_array_equal(made(seeing, [adapter(kinds)]), adapted)
    np.testing.assert_array_equal(made(seeing), plain)


def test_steps_outside_of_the_share_are_the_models_own(seeing, kinds):
    def led(start, end):
        return made(seeing, [adapter(kinds, start=start, end=end)], steps=4)

    middle = led(0.25, 0.75)
    np.testing.assert_array_equal(led(0.2, 0.8), middle)
    np.testing.assert_array_equal(led(0.26, 0.49), made(seeing, steps=4))
    assert np.abs(led(0.26, 0.75) - middle).max() > 1e-4


def test_sdxl_takes_its_own(kinds, tmp_path):
    ours = {kind: files.write(tmp_path / f"{kind}.safetensors", files.KINDS[kind]("xl_unet")) for kind in files.KINDS}
    model = tiny.write_family(tmp_path / "sdxl", "sdxl")
    with sdcpp_py.Pipeline(model, clip_vision=kinds / "image_encoder") as pipeline:
        plain = made(pipeline)
        for path in ours.values():
            assert np.abs(made(pipeline, [(path, PICTURE)]) - plain).max() > 1e-3
        with pytest.raises(errors.UnsupportedModelError, match="its tokens have 32 values, the model takes 64"):
            made(pipeline, [adapter(kinds)])
        np.testing.assert_array_equal(made(pipeline), plain)


def test_a_folder_of_a_whole_model_may_hold_the_encoder(folder, kinds, seeing, tmp_path):
    import json
    import shutil

    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    shutil.copytree(kinds / "image_encoder", whole / "image_encoder")
    index = json.loads((whole / "model_index.json").read_text())
    index["image_encoder"] = ["transformers", "CLIPVisionModelWithProjection"]
    (whole / "model_index.json").write_text(json.dumps(index))
    expected = made(seeing, [adapter(kinds)])
    with sdcpp_py.Pipeline(whole) as pipeline:
        np.testing.assert_array_equal(made(pipeline, [adapter(kinds)]), expected)
    with sdcpp_py.Pipeline(folder, clip_vision=whole) as pipeline:
        np.testing.assert_array_equal(made(pipeline, [adapter(kinds)]), expected)
    target = sdcpp_py.convert(None, tmp_path / "eyes.gguf", clip_vision=kinds / "image_encoder", progress=False)
    with sdcpp_py.Pipeline(folder, clip_vision=target) as pipeline:
        np.testing.assert_array_equal(made(pipeline, [adapter(kinds)]), expected)


RELEASED = {
    "ip-adapter_sd15": (released.ip_adapter(released.SD1_ATTENTIONS, 768, 1024), 4),
    "ip-adapter-plus_sd15": (released.ip_adapter_plus(released.SD1_ATTENTIONS, 768, 768, 768), 16),
    "ip-adapter-full-face_sd15": (released.ip_adapter_full_face(), 257),
    "ip-adapter_sdxl": (released.ip_adapter(released.SDXL_ATTENTIONS, 2048, 1280), 4),
    "ip-adapter_sdxl_vit-h": (released.ip_adapter(released.SDXL_ATTENTIONS, 2048, 1024), 4),
    "ip-adapter-plus_sdxl_vit-h": (released.ip_adapter_plus(released.SDXL_ATTENTIONS, 2048, 1280, 1280), 16),
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_files_fit(tmp_path, name):
    """By hollow files of their shapes, each with the encoder that it was made with."""
    shapes, tokens = RELEASED[name]
    model = layouts.sdxl() if "sdxl" in name else layouts.sd1()
    eyes = released.vit_big_g() if name == "ip-adapter_sdxl" else released.vit_h()
    paths = [
        hollow.safetensors(tmp_path / f"{number}.safetensors", layouts.typed(part))
        for number, part in enumerate((model, eyes, shapes))
    ]
    with sdcpp_py.Pipeline(paths[0], clip_vision=paths[1]) as pipeline:
        given = ip_adapter.of_keyword([(paths[2], PICTURE)])[0].for_engine(224)
        assert pipeline._model.set_ip_adapters([given])[0]["tokens"] == tokens
        assert pipeline._model.plan("clip_vision", {})["stages"]


def without(tensors, *endings):
    return {name: array for name, array in tensors.items() if not name.endswith(endings)}


def faceid():
    lora = {"ip_adapter.0.to_q_lora.down.weight": np.zeros((2, 32), np.float32)}
    return without(files.base(), "image_proj.proj.weight", "image_proj.proj.bias") | lora


def narrow_keys():
    return {name: array[:16] if "ip_adapter.7." in name else array for name, array in files.base().items()}


BAD = {
    "faceid": (faceid, "is an IP-Adapter FaceID, which needs a network that recognises faces"),
    "faceid_plus": (
        lambda: files.base() | {"image_proj.perceiver_resampler.latents": np.zeros((1, 4, 8), np.float32)},
        "is an IP-Adapter FaceID Plus",
    ),
    "flux": (lambda: {"double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight": np.zeros((4, 4), np.float32)}, "FLUX"),
    "net": (control_files.control_net, "is a ControlNet, no IP-Adapter"),
    "nothing": (lambda: {"a.weight": np.zeros((4, 4), np.float32)}, "holds no IP-Adapter"),
    "few": (lambda: without(files.base(), "ip_adapter.7.to_k_ip.weight", "ip_adapter.7.to_v_ip.weight"), "for 3 attentions"),
    "half": (lambda: without(files.base(), "ip_adapter.3.to_v_ip.weight"), "lacks"),
    "widths": (narrow_keys, "of other widths"),
    "no keys": (lambda: {name: a for name, a in files.base().items() if "image_proj" in name}, "has no keys and values"),
    "context": (lambda: files.base("xl_unet"), "its tokens have 64 values, the model takes 32"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_no_adapter_for_the_model(seeing, tmp_path, name):
    tensors, words = BAD[name]
    path = files.write(tmp_path / "adapter.safetensors", tensors())
    plain = made(seeing)
    with pytest.raises(errors.SdcppError, match=words):
        made(seeing, [(path, PICTURE)])
    np.testing.assert_array_equal(made(seeing), plain)


def test_an_encoder_of_the_wrong_width(folder, kinds, tmp_path):
    for number, (vision, kind, words) in enumerate(
        (
            (files.vision(projected=40), "base", "takes 24 values of a CLIP vision encoder, and that of .* gives 40"),
            (files.vision(64), "plus", "takes 32 values for each patch of a CLIP vision encoder, and that of .* gives 64"),
        )
    ):
        eyes = files.write_vision(tmp_path / str(number), vision)
        with sdcpp_py.Pipeline(folder, clip_vision=eyes) as pipeline, pytest.raises(errors.UnsupportedModelError, match=words):
            made(pipeline, [adapter(kinds, kind)])


def test_what_is_lacking_is_said(folder, seeing, kinds, tmp_path):
    with (
        sdcpp_py.Pipeline(folder) as pipeline,
        pytest.raises(errors.MissingPartError, match=r"no CLIP vision encoder.*clip_vision"),
    ):
        made(pipeline, [adapter(kinds)])
    flux = tiny.write_family(tmp_path / "flux", "flux.1")
    pipeline = sdcpp_py.Pipeline(flux, clip_vision=kinds / "image_encoder")
    with pipeline, pytest.raises(errors.UnsupportedModelError, match="this model is FLUX"):
        made(pipeline, [adapter(kinds)], steps=1)
    with pytest.raises(errors.UnsupportedModelError, match=r"is an IP-Adapter, .* give it with ip_adapters"):
        sdcpp_py.Pipeline(kinds / "base.safetensors")
    with pytest.raises(errors.InvalidArgumentError, match="given as clip_vision"):
        sdcpp_py.Pipeline(folder, clip_vision=folder / "vae")
    eyes = sdcpp_py.Pipeline(kinds / "image_encoder" / "model.safetensors")
    with eyes, pytest.raises(errors.MissingPartError, match="only a CLIP vision encoder"):
        eyes.generate("a cat", width=64, height=64)
    broken = files.write_vision(tmp_path / "broken", without(files.vision(), "layer_norm2.bias"))
    with pytest.raises(errors.MissingPartError, match=r"layer_norm2\.bias"):
        sdcpp_py.Pipeline(folder, clip_vision=broken)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("x.safetensors", "must be a list"),
        ([("{base}",)], "an entry is an IPAdapter"),
        ([{"path": "{base}"}], "there are path, image, strength, start, end"),
        ([("{base}", PICTURE, float("nan"))], "strength=nan"),
        ([("{base}", PICTURE, "much")], "strength='much'"),
        ([{"path": "{base}", "image": PICTURE, "start": 0.6, "end": 0.5}], "start=0.6 after end=0.5"),
        ([{"path": "{base}", "image": PICTURE, "end": 2}], "end=2"),
        ([(3, PICTURE)], "3 instead of a path"),
        ([("none.safetensors", PICTURE)], "no such file"),
        ([("{base}", "none.png")], "no such file: none.png"),
        ([("{base}", np.zeros((0, 4, 3), np.uint8))], "picture"),
        ([("{base}", PICTURE)] * 17, "17 entries"),
    ],
)
def test_bad_arguments(seeing, kinds, given, words):
    def filled(value):
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(map(filled, value))
        return str(kinds / "base.safetensors") if isinstance(value, str) and value == "{base}" else value

    with pytest.raises((errors.InvalidArgumentError, errors.ModelNotFoundError), match=words):
        made(seeing, filled(given))


def test_an_error_of_the_budget_names_one_that_is_enough(folder, seeing, kinds):
    given, eyes = [adapter(kinds, "plus")], kinds / "image_encoder"
    pipeline = sdcpp_py.Pipeline(folder, clip_vision=eyes, device=SIMULATED, max_vram=1e-4, link_speed=SPEEDS)
    with pipeline, pytest.raises(errors.OverBudgetError) as raised:
        made(pipeline, given)
    enough = raised.value.least_bytes / 2**30
    with sdcpp_py.Pipeline(folder, clip_vision=eyes, device=SIMULATED, max_vram=enough, link_speed=SPEEDS) as pipeline:
        np.testing.assert_array_equal(made(pipeline, given), made(seeing, given))


def test_the_middle_square_is_seen():
    wide = np.zeros((8, 40, 3), np.uint8)
    wide[:, 16:24] = 255
    seen = ip_adapter.seen_by_clip(Image.fromarray(wide), 8)
    assert seen.shape == (3, 8, 8) and seen.dtype == np.float32
    np.testing.assert_allclose(seen, np.broadcast_to(seen[:, :1, :1], seen.shape), atol=1e-6)
    np.testing.assert_allclose(seen[0, 0, 0], (1 - 0.48145466) / 0.26862954, rtol=1e-6)
    assert ip_adapter.seen_by_clip(Image.new("RGB", (1, 100_000)), 224).shape == (3, 224, 224)


def test_the_command_line_makes_what_python_makes(folder, seeing, kinds, tmp_path, capsys):
    PICTURE.save(tmp_path / "seen.png")
    flags = ["generate", "a cat", "-m", str(folder), "--steps", "3", "-W", "64", "-H", "64", "-s", "1", "--no-progress"]
    flags += ["--clip_vision", str(kinds / "image_encoder")]
    flags += ["--ip-adapter", str(kinds / "base.safetensors"), "--ip-adapter", str(kinds / "plus.safetensors")]
    flags += ["--ip-adapter-image", str(tmp_path / "seen.png"), "--ip-adapter-strength", "0.7", "--ip-adapter-strength", "0.2"]
    assert cli.main([*flags, "--ip-adapter-end", "0.7", "-o", str(tmp_path / "out.png")]) == 0
    given = [adapter(kinds, kind, strength, end=0.7) for kind, strength in (("base", 0.7), ("plus", 0.2))]
    expected = seeing.generate("a cat", **SMALL, ip_adapters=given).image
    np.testing.assert_array_equal(Image.open(tmp_path / "out.png"), expected)
    assert "IP-Adapter 0" in expected.info["parameters"]
    assert "ip_adapters" in metadata.read(tmp_path / "out.png").lacking
    capsys.readouterr()
    base = str(kinds / "base.safetensors")
    for wrong, words in (
        (["--ip-adapter-strength", "1"], "--ip-adapter-strength has no effect without --ip-adapter FILE"),
        (["--ip-adapter", base], "--ip-adapter needs a picture to show to the model: --ip-adapter-image FILE"),
        (["--ip-adapter", base, "--ip-adapter-image", str(tmp_path / "seen.png")], "--clip_vision FILE"),
        (["--ip-adapter", base, "--ip-adapter-image", "y", "--ip-adapter-image", "z"], "--ip-adapter-image is given 2 times"),
    ):
        assert cli.main(["generate", "a cat", "-m", str(folder), *wrong, "-o", str(tmp_path / "no_out.png")]) != 0
        assert words in capsys.readouterr().err


def test_the_other_packages_name_opens_the_encoder(folder, kinds):
    with sdcpp_py.StableDiffusion(str(folder), clip_vision_path=str(kinds / "image_encoder")) as model:
        assert "clip_vision" in model.pipeline.networks
