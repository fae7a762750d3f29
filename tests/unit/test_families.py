"""Families on tiny models: streamed as resident, files in every naming, conversion."""

import json

import numpy as np
import pytest
import tiny
from budgets import least_gib
from tiny import fused, open_clip, rename

import sdcpp_py
from sdcpp_py import convert, errors

GIB = 2**30
SPEEDS = (2e10, 2e9)
NETWORKS = {
    "sdxl": ("clip_l", "clip_g", "unet"),
    "z-image": ("llm", "z_image"),
    "flux.1": ("clip_l", "t5", "flux"),
    "chroma": ("t5", "flux"),
    "flux.2": ("llm", "flux_2"),
    "krea-2": ("llm", "krea"),
    "qwen-image": ("llm", "qwen_image"),
    "sd3": ("clip_l", "clip_g", "t5", "sd3"),
}
TITLES = {
    "sdxl": "Stable Diffusion XL",
    "z-image": "Z-Image",
    "flux.1": "FLUX.1",
    "chroma": "Chroma",
    "flux.2": "FLUX.2",
    "krea-2": "Krea 2",
    "qwen-image": "Qwen-Image",
    "sd3": "Stable Diffusion 3",
}
DECODERS = {family: "vae.decoder" for family in NETWORKS} | dict.fromkeys(("krea-2", "qwen-image"), "wan_vae.decoder")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {family: tiny.write_family(tmp_path_factory.mktemp(family), family) for family in NETWORKS}


def latents(model, *, cfg=3.0, batch=1, device="CPU", **options):
    with sdcpp_py.Pipeline(model, device=device, link_speed=SPEEDS, **options) as pipeline:
        made = pipeline.generate(
            "a red circle left of a blue square on a white background, with a long description of everything else in it",
            negative_prompt="blurry",
            width=64,
            height=64,
            steps=2,
            cfg_scale=cfg,
            seed=5,
            batch_count=batch,
            progress=False,
        )
        return np.stack(made.latents), made


@pytest.fixture(scope="module")
def resident(folders):
    return {
        (family, batch): latents(folder, batch=batch, max_vram=0)[0] for family, folder in folders.items() for batch in (1, 2)
    }


@pytest.mark.parametrize("family", NETWORKS)
@pytest.mark.parametrize("policy", ["pipelined", "capped", "full", "auto"])
@pytest.mark.parametrize(("share", "batch"), [(1.6, 1), (2.5, 2)])
def test_latents_are_bit_identical_under_every_policy(folders, resident, family, policy, share, batch):
    budget = least_gib(folders[family], policy, dict.fromkeys((*NETWORKS[family], DECODERS[family]), 64)) * share
    found, made = latents(folders[family], device="simulated:vram=1,link=2", max_vram=budget, plan_policy=policy, batch=batch)
    np.testing.assert_array_equal(found, resident[family, batch])
    assert made.memory["peak"] <= budget * GIB


@pytest.mark.parametrize("family", NETWORKS)
def test_a_family_is_known_by_its_tensors(folders, family):
    with sdcpp_py.Pipeline(folders[family]) as pipeline:
        assert pipeline.family == family
        assert pipeline.default("width") == (1328 if family == "qwen-image" else 1024)
        assert pipeline.networks[: len(NETWORKS[family])] == list(NETWORKS[family])
    summary = sdcpp_py.summarize(folders[family])
    assert summary.missing == [] and summary.family == TITLES[family]


def test_z_images_defaults_follow_its_shift(folders, tmp_path):
    with sdcpp_py.Pipeline(folders["z-image"]) as turbo:
        found = [turbo.default(name) for name in ("steps", "cfg_scale", "sampler", "scheduler")]
    assert found == [8, 1.0, "euler", "simple"]
    folder = tiny.write_family(tmp_path, "z-image")
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"shift": 6.0}))
    with sdcpp_py.Pipeline(folder) as base:
        assert (base.default("steps"), base.default("cfg_scale")) == (50, 5.0)


@pytest.mark.parametrize("family", NETWORKS)
def test_conversion_changes_nothing_where_types_stay(folders, resident, family, tmp_path):
    path = convert(folders[family], tmp_path / "one.gguf")
    np.testing.assert_array_equal(latents(path, max_vram=0)[0], resident[family, 1])
    again = convert(path, tmp_path / "two.gguf")
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("family", NETWORKS)
@pytest.mark.parametrize("wtype", ["f16", "q8_0"])
def test_conversion_is_what_happens_on_load(folders, family, wtype, tmp_path):
    rules = "embed_tokens=f32,token_embedding=f32,t5.shared=f32,pos_embed=f32"  # tables that are read from the file unchanged
    path = convert(folders[family], tmp_path / "one.gguf", wtype=wtype, tensor_type_rules=rules, threads=2)
    assert path.stat().st_size < 0.99 * sum(file.stat().st_size for file in folders[family].rglob("*.safetensors"))
    np.testing.assert_array_equal(latents(path)[0], latents(folders[family], wtype=wtype)[0])


def test_types_by_name(folders, tmp_path):
    path = convert(folders["sdxl"], tmp_path / "one.gguf", wtype="f16", tensor_type_rules="attn1=q8_0,^clip_l=f32")
    types = {tensor.canonical: tensor.type for tensor in sdcpp_py.summarize(path).tensors}
    assert types["clip_l.encoder.layers.0.mlp.fc1.weight"] == "f32"
    assert types["clip_g.encoder.layers.0.mlp.fc1.weight"] == "f16"
    assert {kind for name, kind in types.items() if "attn1.to_q" in name} == {"q8_0"}
    for rules in ("attn1", "=f16", "(=f16", "attn1=q9"):
        with pytest.raises(errors.InvalidArgumentError):
            convert(folders["sdxl"], tmp_path / "two.gguf", tensor_type_rules=rules)
    assert not (tmp_path / "two.gguf").exists() and len(list(tmp_path.iterdir())) == 1


def test_conversion_of_a_part_and_of_nothing(folders, tmp_path):
    vae = folders["z-image"] / "vae" / "diffusion_pytorch_model.safetensors"
    convert(None, tmp_path / "vae.gguf", vae=vae)
    z = folders["z-image"]
    with sdcpp_py.Pipeline(
        diffusion_model=z / "transformer" / "diffusion_pytorch_model.safetensors",
        llm=z / "text_encoder" / "model.safetensors",
        vae=tmp_path / "vae.gguf",
    ) as pipeline:
        assert pipeline.family == "z-image"
    with pytest.raises(errors.InvalidArgumentError, match="model"):
        convert(None, tmp_path / "x.gguf")
    with pytest.raises(errors.InvalidArgumentError, match="gguf"):
        convert(z, tmp_path / "x.safetensors")
    with pytest.raises(errors.ModelNotFoundError):
        convert(tmp_path / "none.safetensors", tmp_path / "x.gguf")
    with pytest.raises(errors.MissingPartError, match="llm"):
        latents(z / "transformer" / "diffusion_pytorch_model.safetensors")


def original(folder, part, kind):
    """The tensors of a part under the engine's names, which are the original ones."""
    entries = sdcpp_py.summarize(folder, part=kind).tensors
    arrays = tiny.part(part)
    return {entry.canonical.split(".", 1)[1]: arrays[entry.name] for entry in entries}


def test_sdxl_as_one_file_in_the_original_naming(folders, resident, tmp_path):
    folder = folders["sdxl"]
    tensors = {}
    for part, kind, file, prefix in (
        ("xl_unet", "diffusion", "unet/diffusion_pytorch_model", "model.diffusion_model."),
        ("vae", "vae", "vae/diffusion_pytorch_model", "first_stage_model."),
        ("text_encoder", "clip_l", "text_encoder/model", "conditioner.embedders.0.transformer.text_model."),
    ):
        found = original(folder / f"{file}.safetensors", part, kind)
        tensors |= {prefix + name: array for name, array in found.items()}
    second = open_clip(tiny.part("xl_text_encoder_2"))
    tensors |= {"conditioner.embedders.1.model." + name: array for name, array in second.items()}
    configs = tiny.configs()
    config = {
        "unet": configs["xl_unet"],
        "vae": configs["vae"],
        "text_encoder": configs["text_encoder"],
        "text_encoder_2": configs["xl_text_encoder_2"],
    }
    path = tiny.write_safetensors(tmp_path / "one.safetensors", tensors, {"sdcpp.config": json.dumps(config)})
    np.testing.assert_array_equal(latents(path, max_vram=0)[0], resident["sdxl", 1])


def test_marks_of_v_prediction_and_zero_snr_are_honoured(folders, tmp_path):
    found = original(folders["sdxl"] / "unet" / "diffusion_pytorch_model.safetensors", "xl_unet", "diffusion")
    tensors = {"model.diffusion_model." + name: array for name, array in found.items()}
    second = open_clip(tiny.part("xl_text_encoder_2"))  # its width sets conditions of the text apart from those of the size
    tensors |= {"conditioner.embedders.1.model." + name: array for name, array in second.items()}
    marks = {"v_pred": np.zeros(1, np.float32), "ztsnr": np.zeros(1, np.float32)}
    configs = {"unet": tiny.configs()["xl_unet"], "text_encoder_2": tiny.configs()["xl_text_encoder_2"]}
    config = {"sdcpp.config": json.dumps(configs)}
    path = tiny.write_safetensors(tmp_path / "one.safetensors", {**tensors, **marks}, config)
    with sdcpp_py.Pipeline(path) as marked:
        assert marked._facts["v_prediction"]
    convert(path, tmp_path / "two.gguf")
    with sdcpp_py.Pipeline(tmp_path / "two.gguf") as kept:
        assert kept._facts["v_prediction"]


LLAMA_CPP = [
    ("embed_tokens.", "token_embd."),
    ("layers.", "blk."),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
]


@pytest.mark.parametrize("naming", ["transformers", "llama.cpp"])
def test_z_image_from_three_files_in_the_original_namings(folders, resident, tmp_path, naming):
    transformer = rename(
        tiny.part("z_transformer"),
        [
            ("all_x_embedder.2-1.", "x_embedder."),
            ("all_final_layer.2-1.", "final_layer."),
            ("attention.to_out.0.", "attention.out."),
            ("norm_q", "q_norm"),
            ("norm_k", "k_norm"),
        ],
    )
    names = [f"attention.to_{letter}.weight" for letter in "qkv"]
    transformer = fused(transformer, names[0], names, "attention.qkv.weight")
    if naming == "llama.cpp":  # whose tools drop sides of one
        transformer |= {name: transformer[name].reshape(-1) for name in ("x_pad_token", "cap_pad_token")}
    llm = tiny.part("z_text_encoder")
    if naming == "llama.cpp":
        llm = {("output_norm.weight" if name == "norm.weight" else name): array for name, array in rename(llm, LLAMA_CPP).items()}
    else:
        llm = {f"model.{name}": array for name, array in llm.items()}
    configs = tiny.configs()
    prefixed = {f"model.diffusion_model.{name}": array for name, array in transformer.items()}
    config = {"transformer": configs["z_transformer"], "vae": configs["z_vae"], "text_encoder": configs["z_text_encoder"]}
    one = tiny.write_safetensors(tmp_path / "z_image_turbo.safetensors", prefixed, {"sdcpp.config": json.dumps(config)})
    two = tiny.write_safetensors(tmp_path / "qwen.safetensors", llm)
    vae = folders["z-image"] / "vae" / "diffusion_pytorch_model.safetensors"
    with sdcpp_py.Pipeline(diffusion_model=one, llm=two, vae=vae, max_vram=0) as pipeline:
        found = pipeline.prompt_states("a red circle")
    with sdcpp_py.Pipeline(folders["z-image"], max_vram=0) as pipeline:
        np.testing.assert_array_equal(found, pipeline.prompt_states("a red circle"))
    found = latents(None, diffusion_model=one, llm=two, vae=vae, max_vram=0)[0]
    np.testing.assert_array_equal(found, resident["z-image", 1])


T5_OF_LLAMA_CPP = [
    ("shared.", "token_embd."),
    ("encoder.final_layer_norm", "enc.output_norm"),
    ("encoder.block.", "enc.blk."),
    ("layer.0.SelfAttention.relative_attention_bias", "attn_rel_b"),
    ("layer.0.SelfAttention.", "attn_"),
    ("layer.0.layer_norm", "attn_norm"),
    ("layer.1.DenseReluDense.wi_0", "ffn_gate"),
    ("layer.1.DenseReluDense.wi_1", "ffn_up"),
    ("layer.1.DenseReluDense.wo", "ffn_down"),
    ("layer.1.layer_norm", "ffn_norm"),
]


def flux_config():
    configs = tiny.configs()
    config = {"transformer": configs["f_transformer"], "vae": configs["z_vae"], "text_encoder": configs["text_encoder"]}
    return {"sdcpp.config": json.dumps(config)}


@pytest.mark.parametrize("naming", ["parts", "llama.cpp", "all in one"])
def test_flux_in_its_original_namings(folders, resident, tmp_path, naming):
    transformer = tiny.black_forest(tiny.part("f_transformer"))
    assert "single_blocks.1.linear1.weight" in transformer and "double_blocks.0.txt_attn.qkv.bias" in transformer
    clip = folders["flux.1"] / "text_encoder" / "model.safetensors"
    vae = folders["flux.1"] / "vae" / "diffusion_pytorch_model.safetensors"
    t5 = tiny.part("f_text_encoder_2")
    if naming == "all in one":
        tensors = {f"model.diffusion_model.{name}": array for name, array in transformer.items()}
        tensors |= {f"text_encoders.t5xxl.transformer.{name}": array for name, array in t5.items()}
        tensors |= {f"text_encoders.clip_l.transformer.{name}": array for name, array in tiny.part("text_encoder").items()}
        tensors |= {f"vae.{name}": array for name, array in original(vae, "z_vae", "vae").items()}
        path = tiny.write_safetensors(tmp_path / "flux1-dev.safetensors", tensors, flux_config())
        np.testing.assert_array_equal(latents(path, max_vram=0)[0], resident["flux.1", 1])
        return
    one = tiny.write_safetensors(tmp_path / "flux1-dev.safetensors", transformer, flux_config())
    two = tiny.write_safetensors(tmp_path / "t5xxl.safetensors", rename(t5, T5_OF_LLAMA_CPP) if naming == "llama.cpp" else t5)
    found = latents(None, diffusion_model=one, text_encoders=[clip], parts={"t5": two}, vae=vae, max_vram=0)[0]
    np.testing.assert_array_equal(found, resident["flux.1", 1])
    found = latents(None, diffusion_model=one, text_encoders=[two, clip], vae=vae, max_vram=0)[0]
    np.testing.assert_array_equal(found, resident["flux.1", 1])
    found = latents(None, parts={"vae": vae, "clip_l": clip, "t5": two, "flux": one}, max_vram=0)[0]
    np.testing.assert_array_equal(found, resident["flux.1", 1])


def test_schnell_takes_no_guidance_and_four_steps(folders, tmp_path):
    whole = tiny.black_forest(tiny.part("f_transformer"))
    schnell = {name: array for name, array in whole.items() if not name.startswith("guidance_in.")}
    path = tiny.write_safetensors(tmp_path / "flux1-schnell.safetensors", schnell, flux_config())
    with sdcpp_py.Pipeline(folders["flux.1"], diffusion_model=path) as pipeline:
        assert (pipeline.default("steps"), pipeline.default("cfg_scale")) == (4, 1.0)
        one, two = (pipeline.generate("x", width=64, height=64, seed=1, steps=2, guidance=g, progress=False) for g in (1.0, 9.0))
    np.testing.assert_array_equal(one.latents[0], two.latents[0])
    with sdcpp_py.Pipeline(folders["flux.1"]) as pipeline:
        assert pipeline.default("steps") == 20 and pipeline.default("guidance") == 3.5
        one, two = (pipeline.generate("x", width=64, height=64, seed=1, steps=2, guidance=g, progress=False) for g in (1.0, 9.0))
    assert np.abs(one.latents[0] - two.latents[0]).max() > 1e-3


def test_flux_says_what_it_lacks(folders, tmp_path):
    path = folders["flux.1"] / "transformer" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(errors.MissingPartError, match=r"T5.*text_encoders"), sdcpp_py.Pipeline(path) as pipeline:
        pipeline.generate("x")
    with pytest.raises(errors.MissingPartError, match="T5"), sdcpp_py.Pipeline(path) as pipeline:
        pipeline.prompt_states("x")
    missing = sdcpp_py.summarize(path).missing
    assert missing == ["text encoder (T5)", "text encoder (CLIP-L)", "VAE decoder"]
    prompt = "a very long sentence " * 200
    with pytest.raises(errors.InvalidArgumentError, match="512"), sdcpp_py.Pipeline(folders["flux.1"]) as pipeline:
        pipeline.generate(prompt, width=64, height=64)


def test_a_distilled_unet_may_lack_its_middle(folders, tmp_path):
    tensors = {name: array for name, array in tiny.part("xl_unet").items() if not name.startswith("mid_block.")}
    (tmp_path / "config.json").write_text(json.dumps(tiny.configs()["xl_unet"]))
    path = tiny.write_safetensors(tmp_path / "unet.safetensors", tensors)
    found, _ = latents(folders["sdxl"], diffusion_model=path)
    assert np.isfinite(found).all()
    assert np.abs(found - latents(folders["sdxl"])[0]).max() > 1e-3


def test_a_flow_takes_its_own_schedules_only(folders):
    with sdcpp_py.Pipeline(folders["z-image"]) as pipeline:
        with pytest.raises(errors.InvalidArgumentError, match="ays"):
            pipeline.generate("x", width=64, height=64, steps=2, scheduler="ays", progress=False)
        with pytest.raises(errors.InvalidArgumentError, match="flow_shift"):
            pipeline.generate("x", width=64, height=64, steps=2, flow_shift=0, progress=False)
        near = pipeline.generate("x", width=64, height=64, steps=2, seed=1, flow_shift=3.0, progress=False)
        own = pipeline.generate("x", width=64, height=64, steps=2, seed=1, progress=False)
        far = pipeline.generate("x", width=64, height=64, steps=2, seed=1, flow_shift=1.0, progress=False)
    np.testing.assert_array_equal(near.latents[0], own.latents[0])
    assert np.abs(near.latents[0] - far.latents[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("width", "height", "shift"),
    [  # exp(0.5 + (1.15 - 0.5) * (n - 256) / (4096 - 256)) for n patches of 16 x 16 pixels
        (64, 64, 1.5830842),
        (128, 64, 1.5873776),
        (128, 96, 1.5916826),
    ],
)
@pytest.mark.parametrize("said_by", ["the config", "the family"])
def test_fluxs_shift_grows_with_the_size(folders, tmp_path, width, height, shift, said_by):
    files = {}
    if said_by == "the family":
        path = tiny.write_safetensors(tmp_path / "x.safetensors", tiny.black_forest(tiny.part("f_transformer")), flux_config())
        clip, t5, vae = (folders["flux.1"] / name for name in ("text_encoder", "text_encoder_2", "vae"))
        files = {
            "diffusion_model": path,
            "text_encoders": [clip / "model.safetensors", t5 / "model.safetensors"],
            "vae": vae / "diffusion_pytorch_model.safetensors",
        }
    run = {"width": width, "height": height, "steps": 3, "seed": 1, "progress": False}
    with sdcpp_py.Pipeline(**files) if files else sdcpp_py.Pipeline(folders["flux.1"]) as pipeline:
        own, same, near, fixed = (
            pipeline.generate("x", **run, **({"flow_shift": given} if given else {})).latents[0]
            for given in (None, shift, shift * 1.01, 3.0)
        )
    size = np.abs(own).max()
    assert np.abs(own - same).max() < 1e-5 * size
    assert np.abs(own - near).max() > 1e-4 * size
    assert np.abs(own - fixed).max() > 1e-2 * size


@pytest.mark.parametrize("family", NETWORKS)
@pytest.mark.parametrize(
    ("convert", "tolerance"),
    [
        (lambda array: array.astype(np.float16), 2e-2),
        (lambda array: (array.view(np.uint32) >> 16).astype(np.uint16), 0.2),  # bf16, cut off
    ],
    ids=["f16", "bf16"],
)
def test_files_of_other_types(folders, resident, tmp_path, family, convert, tolerance):
    found, _ = latents(tiny.write_family(tmp_path, family, convert))
    assert np.abs(found - resident[family, 1]).max() < tolerance * np.abs(resident[family, 1]).max()


def test_files_of_f8_are_what_their_values_are(folders, tmp_path):
    """Every f8 value is one of f32."""
    rng = np.random.default_rng(0)
    codes = {}

    def as_f8(array):
        code = rng.integers(0, 0x30, array.shape).astype(np.uint8) | rng.integers(0, 2, array.shape).astype(np.uint8) << 7
        codes[len(codes)] = code
        return code

    def value(code):
        exponent, fraction = code >> 3 & 15, code & 7
        size = np.where(exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent.astype(int) - 7))
        return (np.where(code >> 7, -size, size)).astype(np.float32)

    small = tiny.write_family(tmp_path / "small", "z-image", as_f8)
    stored = iter(list(codes.values()))
    large = tiny.write_family(tmp_path / "large", "z-image", lambda array: value(next(stored)))
    inputs = {"x": rng.standard_normal((1, 16, 8, 8)), "context": rng.standard_normal((1, 40, 32))}
    outputs = []
    for folder in (small, large):
        with sdcpp_py.Pipeline(folder) as pipeline:
            outputs.append(pipeline.evaluate("z_image", timesteps=np.array([500.0]), **inputs))
    # they are held as f16, for which ggml's small products round the other factor
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-2 * np.abs(outputs[1]).max()


def test_the_facade_takes_z_images_files(folders):
    z = folders["z-image"]
    with sdcpp_py.StableDiffusion(
        diffusion_model_path=z / "transformer" / "diffusion_pytorch_model.safetensors",
        llm_path=z / "text_encoder" / "model.safetensors",
        vae_path=z / "vae" / "diffusion_pytorch_model.safetensors",
    ) as model:
        images = model.generate_image("x", width=64, height=64, sample_steps=2, cfg_scale=1.0)
    assert images[0].size == (64, 64)


def test_an_unknown_family_is_refused(tmp_path):
    tensors = {"model.diffusion_model.odd_blocks.0.x_block.attn.qkv.weight": np.zeros((96, 32), np.float32)}
    path = tiny.write_safetensors(tmp_path / "unknown.safetensors", tensors)
    with pytest.raises(errors.UnsupportedModelError, match=r"odd_blocks.*known are .*Z-Image"):
        sdcpp_py.Pipeline(path)


def test_an_unused_text_encoder_is_logged(folders, caplog):
    llm = folders["z-image"] / "text_encoder" / "model.safetensors"
    with sdcpp_py.Pipeline(folders["sdxl"], llm=llm):
        assert "llm is not used by Stable Diffusion XL" in caplog.text


def test_options_without_effect_are_logged(folders, caplog):
    with sdcpp_py.Pipeline(folders["sdxl"]) as pipeline:
        pipeline.generate("x", width=64, height=64, steps=1, cfg_scale=1.0, negative_prompt="y", guidance=2.0, flow_shift=2.0)
    found = [record.message for record in caplog.records if "no effect" in record.message]
    assert [text.split(" has")[0] for text in found] == ["the negative prompt", "guidance", "flow_shift"]
    caplog.clear()
    with sdcpp_py.Pipeline(folders["flux.1"]) as pipeline:
        pipeline.generate("x", width=64, height=64, steps=1, guidance=2.0, flow_shift=2.0)
    assert not [record for record in caplog.records if "no effect" in record.message]


def test_files_given_as_what_they_are_not_are_told(folders):
    vae = folders["flux.1"] / "vae" / "diffusion_pytorch_model.safetensors"
    for files in ({"parts": {"t5": vae}}, {"text_encoders": vae}, {"diffusion_model": vae}):
        with pytest.raises(errors.InvalidArgumentError, match="holds 'vae'"):
            sdcpp_py.Pipeline(**files)
    for parts in ({3: vae}, str(vae), [vae]):
        with pytest.raises(errors.InvalidArgumentError, match="parts must map"):
            sdcpp_py.Pipeline(parts=parts)


def test_values_of_other_kinds_are_told(folders):
    with sdcpp_py.Pipeline(folders["sdxl"]) as pipeline:
        with pytest.raises(errors.InvalidArgumentError, match="noise is no array"):
            pipeline.generate("x", width=64, height=64, noise="x")
        with pytest.raises(errors.InvalidArgumentError, match="callback must be a function"):
            pipeline.generate("x", width=64, height=64, callback=3)
