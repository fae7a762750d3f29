"""Packed weights (int8, ConvRot, nvfp4, mxfp8, w4a4, w4a8, bitsandbytes) give the numbers that their codes stand for."""

import itertools
import json
import re

import adapters
import numpy as np
import packed
import pytest
import tiny
from packed import FORMATS, SUMMED, TITLES, pack, read_gguf
from tiny import fused, rename, write_safetensors

import sdcpp_py
from sdcpp_py import convert, errors

SPEEDS = (2e10, 2e9)
BUDGET = errors.OverBudgetError
CONFIG = {"sdcpp.config": json.dumps({"transformer": tiny.configs()["z_transformer"], "vae": tiny.configs()["z_vae"]})}


def z_image():
    """Z-Image's transformer with fused q, k and v, in original names."""
    rules = [("all_x_embedder.2-1.", "x_embedder."), ("all_final_layer.2-1.", "final_layer.")]
    rules += [("attention.to_out.0.", "attention.out."), ("norm_q", "q_norm"), ("norm_k", "k_norm")]
    names = [f"attention.to_{letter}.weight" for letter in "qkv"]
    return fused(rename(tiny.part("z_transformer"), rules), names[0], names, "attention.qkv.weight")


def in_blocks(kind):
    return lambda x, shape: kind if re.search(r"layers|refiner", x) else None


def files(path, choose, in_metadata=False):
    """A file of packed weights and one of their f32 values."""
    small, metadata, true = pack(z_image(), choose, in_metadata)
    path.mkdir()
    small = write_safetensors(path / "small.safetensors", small, CONFIG | metadata)
    return small, write_safetensors(path / "true.safetensors", true, CONFIG)


def output(path, **options):
    rng = np.random.default_rng(0)
    inputs = {"x": rng.standard_normal((1, 16, 8, 8)), "context": rng.standard_normal((1, 40, 32))}
    with sdcpp_py.Pipeline(diffusion_model=path, **options) as pipeline:
        return pipeline.evaluate("z_image", timesteps=np.array([500.0]), **inputs)


def distance(found, expected):
    assert np.isfinite(expected).all() and np.isfinite(found).all()
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("kind", FORMATS)
def test_values_are_those_that_the_codes_stand_for(tmp_path, kind):
    small, true = files(tmp_path / "files", in_blocks(kind))
    for path in (small, true):
        convert(None, path.with_suffix(".gguf"), diffusion_model=path, wtype="f32")
    found, expected = (read_gguf(path.with_suffix(".gguf")) for path in (small, true))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        ours = found[name]
        assert ours.shape == values.shape or "feed_forward" in name
        ours = ours[tuple(slice(side) for side in values.shape)]  # hidden sides of 170 stay padded in all three matrices
        if kind in SUMMED:
            np.testing.assert_allclose(ours, values, rtol=0, atol=1e-6 * np.abs(values).max())
        else:
            np.testing.assert_array_equal(ours, values)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_network_gives_what_its_values_in_f32_give(tmp_path, kind):
    small, true = files(tmp_path / "files", in_blocks(kind), in_metadata=kind in ("nvfp4", "mxfp8"))
    expected = output(true, wtype="f32", max_vram=0)
    assert distance(output(small, wtype="f32", max_vram=0), expected) < 1e-5
    resident = output(small, max_vram=0)
    assert distance(resident, expected) < 0.01
    budget = {"device": "simulated:vram=1,link=2", "link_speed": SPEEDS}
    with sdcpp_py.Pipeline(diffusion_model=small, max_vram=1e-5, **budget) as pipeline, pytest.raises(BUDGET) as caught:
        pipeline.plan(width=64, height=64, network="z_image")
    for share in (1.05, 2):
        np.testing.assert_array_equal(output(small, max_vram=share * caught.value.least_bytes / 2**30, **budget), resident)
    convert(None, tmp_path / "whole.gguf", diffusion_model=small)
    np.testing.assert_array_equal(output(tmp_path / "whole.gguf", max_vram=0), resident)


@pytest.mark.parametrize("kind", ["int8 with ConvRot", "nf4", "nvfp4"])
def test_text_encoders_and_their_tables_may_be_packed(tmp_path, kind):
    folder = tiny.write_family(tmp_path / "z", "z-image")
    text = {f"model.{name}": array for name, array in tiny.part("z_text_encoder").items()}
    config = {"sdcpp.config": json.dumps({"text_encoder": tiny.configs()["z_text_encoder"]})}
    small, metadata, true = pack(text, lambda x, shape: kind)
    small = write_safetensors(tmp_path / "small.safetensors", small, config | metadata)
    true = write_safetensors(tmp_path / "true.safetensors", true, config)
    states = []
    for path, wtype in ((true, "f32"), (small, "f32"), (small, None)):
        with sdcpp_py.Pipeline(folder, llm=path, wtype=wtype) as pipeline:
            states.append(pipeline.prompt_states("a red circle"))
    assert distance(states[1], states[0]) < 1e-5 and distance(states[2], states[0]) < 0.02


def mixture():
    """All formats in turn. The layers of a feed forward share one, as its hidden side is padded."""
    kinds = itertools.cycle([*FORMATS, None])

    def choose(x, shape):
        block, _, layer = x.partition(".feed_forward.")
        if layer:
            return in_blocks(("nvfp4", "mxfp8", None)[len(block) % 3])(x, shape)
        return next(kinds) if in_blocks("any")(x, shape) else None

    return choose


def test_layers_of_a_file_may_have_formats_of_their_own(tmp_path):
    for in_metadata in (False, True):
        small, true = files(tmp_path / str(in_metadata), mixture(), in_metadata)
        assert distance(output(small, wtype="f32", max_vram=0), output(true, wtype="f32", max_vram=0)) < 1e-5
        found = {tensor.type for tensor in sdcpp_py.summarize(small).tensors}
        assert len(found & set(FORMATS)) > 6 and "f32" in found


def test_a_bias_tells_the_true_rows(tmp_path):
    """Of a layer whose rows are padded."""
    tensors = tiny.black_forest(tiny.part("f_transformer"))
    config = {"sdcpp.config": json.dumps({"transformer": tiny.configs()["f_transformer"]})}
    small, metadata, true = pack(tensors, lambda x, shape: "mxfp8" if "blocks" in x else None)
    paths = [
        write_safetensors(tmp_path / "small.safetensors", small, config | metadata),
        write_safetensors(tmp_path / "true.safetensors", true, config),
    ]
    found, expected = ({tensor.name: tensor for tensor in sdcpp_py.summarize(path).tensors} for path in paths)
    name = "double_blocks.0.img_attn.qkv.weight"
    assert small[name][1].shape == (160, 64) and expected[name].shape == (144, 48)
    assert (found[name].type, found[name].shape) == ("mxfp8", (144, 64))
    for path in paths:
        convert(None, path.with_suffix(".gguf"), diffusion_model=path, wtype="f32")
    found, expected = (read_gguf(path.with_suffix(".gguf")) for path in paths)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("kind", ["int8 with ConvRot", "nvfp4", "nf4 nested"])
def test_loras_change_the_true_weights(tmp_path, kind):
    base = tiny.write_folder(tmp_path / "base")
    layers = adapters.matrices("unet", "attn")
    config = {"sdcpp.config": json.dumps(tiny.configs())}
    small, metadata, true = pack(tiny.part("unet"), lambda x, shape: kind if "attn" in x else None)
    lora = write_safetensors(tmp_path / "lora.safetensors", adapters.kohya(layers, "lora_unet_"))
    made = []
    for number, tensors in enumerate((small, true)):
        path = write_safetensors(tmp_path / f"{number}.safetensors", tensors, config | (metadata if number == 0 else {}))
        with sdcpp_py.Pipeline(base, diffusion_model=path, wtype="f32") as pipeline:
            made += [pipeline.evaluate("unet", loras=loras, **adapters.unet_inputs()) for loras in (None, [(lora, 0.7)])]
    assert distance(made[1], made[3]) < 1e-5 and distance(made[0], made[2]) < 1e-5
    assert distance(made[1], made[0]) > 1e-3


def test_factors_of_columns_are_applied(tmp_path):
    """`pre_quant_scale` of packs whose inputs are smoothed."""
    x = "layers.0.attention.out"
    factors = np.linspace(0.5, 2, 64).astype(np.float32)
    small, metadata, true = pack(z_image(), lambda name, shape: "nvfp4" if name == x else None)
    small[f"{x}.pre_quant_scale"] = factors
    true[f"{x}.weight"] = true[f"{x}.weight"] * factors
    small = write_safetensors(tmp_path / "small.safetensors", small, CONFIG | metadata)
    true = write_safetensors(tmp_path / "true.safetensors", true, CONFIG)
    assert np.array_equal(output(small, wtype="f32"), output(true, wtype="f32"))


def test_marks_may_stand_in_the_metadata_of_each_shard(tmp_path):
    small, metadata, true = pack(z_image(), in_blocks("nvfp4"), in_metadata=True)
    marks = json.loads(metadata["_quantization_metadata"])["layers"]
    shards = {"a.safetensors": {}, "b.safetensors": {}}
    for number, (name, tensor) in enumerate(small.items()):  # companions are torn from their weights
        list(shards.values())[number % 2][name] = tensor
    for name, tensors in shards.items():
        own = {x: mark for x, mark in marks.items() if f"{x}.weight" in tensors}
        assert own
        write_safetensors(tmp_path / name, tensors, CONFIG | packed.marked({}, own, True)[1])
    index = {"weight_map": {tensor: name for name, tensors in shards.items() for tensor in tensors}}
    (tmp_path / "x.safetensors.index.json").write_text(json.dumps(index))
    true = write_safetensors(tmp_path / "true.safetensors", true, CONFIG)
    assert distance(output(tmp_path / "x.safetensors.index.json", wtype="f32"), output(true, wtype="f32")) < 1e-5


def test_marks_whose_names_have_another_prefix_count(tmp_path):
    small, metadata, true = pack(z_image(), in_blocks("int8 with ConvRot"), in_metadata=True)
    marks = json.loads(metadata["_quantization_metadata"])["layers"]
    metadata = packed.marked({}, {f"model.diffusion_model.{x}": mark for x, mark in marks.items()}, True)[1]
    small = write_safetensors(tmp_path / "small.safetensors", small, CONFIG | metadata)
    true = write_safetensors(tmp_path / "true.safetensors", true, CONFIG)
    assert distance(output(small, wtype="f32"), output(true, wtype="f32")) < 1e-5


@pytest.mark.parametrize("kind", FORMATS)
def test_info_names_the_format_and_true_shapes(tmp_path, kind):
    small, _ = files(tmp_path / "files", in_blocks(kind))
    found = sdcpp_py.summarize(small)
    assert found.refusal is None and found.unused == ()
    name = "layers.0.attention.qkv.weight"
    (entry,) = (tensor for tensor in found.tensors if tensor.name == name)
    assert (entry.type, entry.shape) == (TITLES.get(kind, kind), (192, 64))
    bits = {"nvfp4": 4, "w4a4": 4, "w4a8": 4, "w6a8": 6, "nf4": 4, "fp4": 4}.get(entry.type, 8)
    assert entry.bytes == 192 * 64 * bits // 8 and found.bytes_by_type[entry.type] >= entry.bytes


@pytest.mark.parametrize("kind", ["int8", "nf4 nested"])
def test_plans_count_the_type_on_the_device(tmp_path, kind):
    small, true = files(tmp_path / "files", in_blocks(kind))
    bytes_of = []
    for path, wtype in ((small, None), (small, "q8_0"), (true, None)):
        with sdcpp_py.Pipeline(diffusion_model=path, max_vram=0, wtype=wtype) as pipeline:
            stages = pipeline.plan(width=64, height=64, network="z_image").stages
            bytes_of.append({stage.name: stage.param_bytes for stage in stages})
    f16, q8_0, f32 = bytes_of
    block = "z_image.noise_refiner.0.1"
    assert sum(q8_0.values()) < sum(f16.values()) < sum(f32.values())
    assert f16[block] < 0.6 * f32[block]


# Files that are damaged, or that nobody can read ------------------------------------------------------------------------------

X = "layers.0.attention.qkv"


def changed(kind, change, tmp_path, in_metadata=False):
    """A file whose layer X is packed and then changed."""
    small, metadata, _ = pack(z_image(), lambda x, shape: kind if x == X else None, in_metadata)
    change(small, metadata)
    return write_safetensors(tmp_path / "x.safetensors", small, CONFIG | metadata)


def without(ending):
    return lambda tensors, metadata: tensors.pop(f"{X}{ending}")


def put(ending, value):
    return lambda tensors, metadata: tensors.__setitem__(f"{X}{ending}", value)


def mark(**facts):
    return put(".comfy_quant", ("U8", np.frombuffer(json.dumps(facts).encode(), np.uint8)))


def spoiled(ending, value, at=(0, 0)):
    def change(tensors, metadata):
        kind, array = given if isinstance(given := tensors[f"{X}{ending}"], tuple) else (None, given)
        array = array.copy()
        array[at[: array.ndim]] = value
        tensors[f"{X}{ending}"] = (kind, array) if kind else array

    return change


FEW = ("F8_E4M3", np.zeros((64, 4), np.uint8))
BAD = {
    "no factor": ("int8", without(".weight_scale"), "weight_scale is missing"),
    "factors of other rows": ("int8", put(".weight_scale", np.ones(7, np.float32)), "has 7 values in place of 192"),
    "a factor that is none": ("int8", put(".weight_scale", np.float32(np.nan)), "nan"),
    "a group that does not divide": ("int8", mark(format="int8_tensorwise", convrot=True), "no whole ConvRot groups of 256"),
    "a group of 8": ("int8", mark(format="int8_tensorwise", convrot=True, convrot_groupsize=8), "no power of 4"),
    "a group that is a text": ("int8", mark(format="int8_tensorwise", convrot=True, convrot_groupsize="x"), "bad convrot_group"),
    "an int8 mark of floats": ("nvfp4", mark(format="int8_tensorwise"), "has the type u8"),
    "nvfp4 without its scale": ("nvfp4", without(".weight_scale_2"), "weight_scale_2 is missing"),
    "nvfp4 without scales": ("nvfp4", without(".weight_scale"), "weight_scale is missing"),
    "nvfp4 with few scales": ("nvfp4", put(".weight_scale", FEW), "256 values in place of 1024"),
    "nvfp4 with f32 scales": ("nvfp4", put(".weight_scale", np.zeros((256, 4), np.float32)), "has the type f32"),
    "plain nvfp4 with few": ("nvfp4 plain", put(".weight_scale", FEW), "in place of 768"),
    "nvfp4 with no number": ("nvfp4", spoiled(".weight_scale", 0x7F), "a factor in .*weight_scale is -?nan"),
    "mxfp8 with no number": ("mxfp8", spoiled(".weight_scale", 255), "a factor in .*weight_scale is -?nan"),
    "mxfp8 of other scales": ("mxfp8", put(".weight_scale", ("F8_E4M3", np.zeros((256, 4), np.uint8))), "type f8_e4m3"),
    "a mark that is no JSON": ("nvfp4", put(".comfy_quant", ("U8", np.zeros(20, np.uint8))), "comfy_quant is no JSON"),
    "f8 without its scale": (
        "mxfp8",
        lambda tensors, metadata: (mark(format="float8_e4m3fn")(tensors, metadata), without(".weight_scale")(tensors, metadata)),
        "marked as scaled f8",
    ),
    "w4a4 of other rows": ("w4a4", put(".weight_scale", np.ones(3, np.float32)), "has 3 values"),
    "w4a8 without factors": ("w4a8", without(".weight_s_channel"), "weight_s_channel is missing"),
    "w4a8 of another width": ("w4a8", put(".weight", ("I8", np.zeros((192, 40), np.int8))), "do not hold 64 values"),
    "w6a8 with a codebook": ("w6a8", put(".weight_codebook", packed.CODEBOOK), "codebook"),
    "nf4 without its map": ("nf4", without(".weight.quant_map"), "quant_map is missing"),
    "nf4 with few sizes": ("nf4", put(".weight.absmax", np.ones(5, np.float32)), "has 5 values in place of 192"),
    "nf4 with no number": ("nf4", spoiled(".weight.absmax", np.inf, (3,)), "a factor in .*absmax is inf"),
    "nf4 of another shape": ("nf4", put(".weight", ("U8", np.zeros((9, 1), np.uint8))), "9 bytes in place of 6144"),
    "nf4 whose state is no JSON": (
        "nf4",
        put(".weight.quant_state.bitsandbytes__nf4", ("U8", np.full(9, 65, np.uint8))),
        "is no JSON",
    ),
    "nested nf4 without its map": ("nf4 nested", without(".weight.nested_quant_map"), "nested_quant_map is missing"),
    "bnb int8 of other rows": ("int8 of bitsandbytes", put(".SCB", np.ones(3, np.float32)), "has 3 values"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_file_is_told(tmp_path, case):
    kind, change, words = BAD[case]
    path = changed(kind, change, tmp_path)
    with pytest.raises(errors.BadFileError, match=words) as caught:
        output(path)
    assert "download it again" in str(caught.value)


def test_metadata_that_is_no_json_is_told(tmp_path):
    path = changed("nvfp4", lambda tensors, metadata: metadata.update(_quantization_metadata="{"), tmp_path, True)
    with pytest.raises(errors.BadFileError, match="_quantization_metadata is no JSON"):
        output(path)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("int8", mark(format="svdquant_w4a4"), "quantized as svdquant_w4a4"),
        ("int8", mark(full_precision_matrix_mult=True), "a format without a name"),
        ("int8", without(".comfy_quant"), "int8 of an unknown format"),
        ("w4a8", put(".weight_correction", np.ones((4, 192), np.float32)), "offsets"),
        ("int8 of bitsandbytes", put(".weight_format", ("U8", np.full((), 2, np.uint8))), "order of its kernels"),
        ("int8", put(".weight_qdata", np.ones(2, np.float32)), "torchao"),
        ("int8", put(".weight._data", np.ones(2, np.float32)), "optimum-quanto"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, kind, change, words):
    path = changed(kind, change, tmp_path)
    with pytest.raises(errors.UnsupportedModelError, match=words) as caught:
        output(path)
    assert re.search("bf16|q8_0", str(caught.value))
    assert str(sdcpp_py.summarize(path).refusal) == str(caught.value)


def test_other_versions_of_the_metadata_are_refused(tmp_path):
    other = json.dumps({"format_version": "2.0", "layers": {}})
    path = changed("nvfp4", lambda tensors, metadata: metadata.update(_quantization_metadata=other), tmp_path, True)
    with pytest.raises(errors.UnsupportedModelError, match=r"version '2\.0'"):
        output(path)
