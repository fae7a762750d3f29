"""Quantized files give the numbers that their values stand for: scaled f8, and K-quants of rows that are not whole blocks."""

import json
import math
import re

import numpy as np
import pytest
import tiny
from tiny import fused, rename

import sdcpp_py
from sdcpp_py import convert, errors

SPEEDS = (2e10, 2e9)
CONFIGS = {"transformer": "z_transformer", "vae": "z_vae", "text_encoder": "z_text_encoder"}
METADATA = {"sdcpp.config": json.dumps({name: tiny.configs()[part] for name, part in CONFIGS.items()})}


def values_of(codes):
    """The numbers of f8_e4m3."""
    exponent, fraction = codes >> 3 & 15, codes & 7
    size = np.where(exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent.astype(int) - 7))
    return np.where(codes >> 7, -size, size).astype(np.float32)


def z_image_tensors():
    """Z-Image's transformer with fused q, k and v, and its text encoder, in original names."""
    rules = [("all_x_embedder.2-1.", "x_embedder."), ("all_final_layer.2-1.", "final_layer.")]
    rules += [("attention.to_out.0.", "attention.out."), ("norm_q", "q_norm"), ("norm_k", "k_norm")]
    names = [f"attention.to_{letter}.weight" for letter in "qkv"]
    transformer = fused(rename(tiny.part("z_transformer"), rules), names[0], names, "attention.qkv.weight")
    text = {f"model.{name}": array for name, array in tiny.part("z_text_encoder").items()}
    return transformer, text


def scale_weight(rng, name, shape):
    scale = np.float32(rng.uniform(0.1, 0.5))
    return {f"{name}.scale_weight": scale.reshape(rng.choice([0, 1]) * (1,)), f"{name}.scale_input": np.float32(3)}, scale


def weight_scale(rng, name, shape):
    scale = np.float32(rng.uniform(0.1, 0.5))
    text = np.frombuffer(json.dumps({"format": "float8_e4m3fn"}).encode(), np.uint8)
    return {f"{name}.weight_scale": scale, f"{name}.input_scale": np.float32(3), f"{name}.comfy_quant": text}, scale


def by_rows(rng, name, shape):
    scale = rng.uniform(0.1, 0.5, (shape[0], 1)).astype(np.float32)
    return {f"{name}.weight_scale": scale if rng.choice(2) else scale.ravel()}, scale


def blocks(rng, name, shape):
    rows, columns = (-(-side // 128) for side in shape)
    scale = rng.uniform(0.1, 0.5, (rows, columns)).astype(np.float32)
    whole = np.repeat(np.repeat(scale, 128, 0), 128, 1)[: shape[0], : shape[1]]
    return {f"{name}.weight_scale_inv": scale}, whole


CONVENTIONS = {"scale_weight": scale_weight, "weight_scale": weight_scale, "rows": by_rows, "blocks": blocks}


def write_u8_safetensors(path, tensors, metadata):
    """`comfy_quant` is U8, other bytes are F8_E4M3."""
    tiny.write_safetensors(path, tensors, metadata)
    size = int.from_bytes(path.read_bytes()[:8], "little")
    whole = path.read_bytes()
    header = json.loads(whole[8 : 8 + size])
    for name, entry in header.items():
        if name.endswith(".comfy_quant"):
            entry["dtype"] = "U8"
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + size :])
    return path


def scaled_pair(tensors, convention, path, metadata=None):
    """A file of scaled f8 matrices, and one of the f16 values that they stand for."""
    rng = np.random.default_rng(1)
    small, true = {}, {}
    for name, array in tensors.items():
        if array.ndim != 2 or not re.search(r"layers|refiner", name) or not name.endswith(".weight"):
            small[name] = true[name] = array
            continue
        codes = rng.integers(0x20, 0x40, array.shape).astype(np.uint8) | rng.integers(0, 2, array.shape).astype(np.uint8) << 7
        companions, scale = CONVENTIONS[convention](rng, name.removesuffix(".weight"), array.shape)
        small |= {name: codes} | companions
        # small enough for the network to stay tame
        true[name] = (values_of(codes) * scale).astype(np.float16)
    small = {name: np.asarray(array) for name, array in small.items()}
    path.mkdir()
    small_path = write_u8_safetensors(path / "small.safetensors", small, metadata)
    return small_path, tiny.write_safetensors(path / "true.safetensors", true, metadata)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_family(tmp_path_factory.mktemp("z"), "z-image")


def outputs(vae, transformer, text, **options):
    rng = np.random.default_rng(0)
    inputs = {"x": rng.standard_normal((1, 16, 8, 8)), "context": rng.standard_normal((1, 40, 32))}
    with sdcpp_py.Pipeline(diffusion_model=transformer, llm=text, vae=vae, **options) as pipeline:
        states = pipeline.prompt_states("a red circle")
        return states, pipeline.evaluate("z_image", timesteps=np.array([500.0]), **inputs)


def strays(tensors, rename_scale):
    """A UNet of scaled f8 in diffusers' names, and the same with its scales under other names."""
    rng = np.random.default_rng(2)
    exact, other, true = {}, {}, {}
    for name, array in tensors.items():
        if array.ndim != 2 or not name.endswith(".weight") or "attn" not in name:
            exact[name] = other[name] = true[name] = array
            continue
        scale = np.float32(rng.uniform(0.1, 0.5))
        codes = rng.integers(0x20, 0x40, array.shape).astype(np.uint8)
        exact |= {name: codes, f"{name}_scale": scale}
        other |= {name: codes, rename_scale(f"{name}_scale"): scale}
        true[name] = (values_of(codes) * scale).astype(np.float16)
    return exact, other, true


def test_scales_whose_names_have_another_prefix_are_applied(tmp_path):
    folder = tiny.write_folder(tmp_path / "folder")
    config = {"sdcpp.config": json.dumps(tiny.configs())}
    exact, other, true = strays(tiny.part("unet"), lambda scale: "diffusion_model." + scale)
    original = strays(tiny.part("unet"), lambda scale: "model.diffusion_model." + scale)[1]
    made = []
    for tensors in (exact, other, original, true):
        path = tiny.write_safetensors(tmp_path / "x.safetensors", tensors, config)
        inputs = {"x": np.ones((1, 4, 8, 8)), "context": np.ones((1, 77, 32)), "timesteps": np.array([500.0])}
        with sdcpp_py.Pipeline(folder, diffusion_model=path) as pipeline:
            made.append(pipeline.evaluate("unet", **inputs))
        assert not [one for one in sdcpp_py.summarize(path).unused if "scale" in one]
    assert np.array_equal(made[0], made[1]) and np.array_equal(made[0], made[2])
    assert np.abs(made[1] - made[3]).max() < 0.01 * np.abs(made[3]).max()


def test_scales_of_shards_may_stand_in_another_one(tmp_path):
    folder = tiny.write_folder(tmp_path / "folder")
    exact, _, _ = strays(tiny.part("unet"), str)
    config = {"sdcpp.config": json.dumps(tiny.configs())}
    whole = tiny.write_safetensors(tmp_path / "whole.safetensors", exact, config)
    scales = {name: array for name, array in exact.items() if name.endswith("_scale")}
    parts = {"a.safetensors": {name: array for name, array in exact.items() if name not in scales}, "b.safetensors": scales}
    for name, tensors in parts.items():
        tiny.write_safetensors(tmp_path / name, tensors, config)
    index = {"weight_map": {tensor: name for name, tensors in parts.items() for tensor in tensors}}
    (tmp_path / "x.safetensors.index.json").write_text(json.dumps(index))
    inputs = {"x": np.ones((1, 4, 8, 8)), "context": np.ones((1, 77, 32)), "timesteps": np.array([500.0])}
    made = []
    for path in (whole, tmp_path / "x.safetensors.index.json"):
        with sdcpp_py.Pipeline(folder, diffusion_model=path) as pipeline:
            made.append(pipeline.evaluate("unet", **inputs))
    assert np.array_equal(*made)


def test_scales_that_belong_to_no_weight_are_told(tmp_path):
    folder = tiny.write_folder(tmp_path / "folder")
    config = {"sdcpp.config": json.dumps(tiny.configs())}
    _, other, true = strays(tiny.part("unet"), lambda scale: "elsewhere." + scale)
    path = tiny.write_safetensors(tmp_path / "other.safetensors", other, config)
    for use in (lambda: sdcpp_py.Pipeline(folder, diffusion_model=path), lambda: convert(path, tmp_path / "x.gguf")):
        with pytest.raises(errors.UnsupportedModelError, match=r"elsewhere.*belongs to no weight"):
            use()
    found = sdcpp_py.summarize(path)
    assert "belongs to no weight" in str(found.refusal)
    stray = {"elsewhere.attn.weight_scale": np.float32(1)}  # beside weights that need none
    path = tiny.write_safetensors(tmp_path / "plain.safetensors", true | stray, config)
    assert "elsewhere.attn.weight_scale" in sdcpp_py.summarize(path).unused
    sdcpp_py.Pipeline(folder, diffusion_model=path).close()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_scaled_f8_is_multiplied_by_its_scales(folder, tmp_path, convention):
    transformer, text = z_image_tensors()
    pairs = [
        scaled_pair(transformer, convention, tmp_path / "transformer", METADATA),
        scaled_pair(text, convention, tmp_path / "text", METADATA),
    ]
    vae = folder / "vae" / "diffusion_pytorch_model.safetensors"
    small, true = ([pair[which] for pair in pairs] for which in (0, 1))
    expected = outputs(vae, *true, max_vram=0)
    assert np.isfinite(expected[1]).all()
    least = least_of({"diffusion_model": small[0], "llm": small[1], "vae": vae}, "z_image", "llm")
    for options in ({"max_vram": 0}, {"device": "simulated:vram=1,link=2", "max_vram": 1.5 * least, "link_speed": SPEEDS}):
        found = outputs(vae, *small, **options)
        for ours, theirs in zip(found, expected):
            np.testing.assert_array_equal(ours, theirs)
    convert(None, tmp_path / "whole.gguf", diffusion_model=small[0], llm=small[1], vae=vae)
    with sdcpp_py.Pipeline(tmp_path / "whole.gguf") as pipeline:
        np.testing.assert_array_equal(pipeline.prompt_states("a red circle"), expected[0])


def least_of(files, *networks):
    """The smallest budget in GiB for pictures of 64 pixels."""
    needs = []
    options = {"device": "simulated:vram=1,link=2", "max_vram": 1e-5, "link_speed": SPEEDS}
    with sdcpp_py.Pipeline(**files, **options) as pipeline:
        for network in networks:
            with pytest.raises(errors.OverBudgetError) as caught:
                pipeline.plan(width=64, height=64, network=network)
            needs.append(caught.value.least_bytes)
    return max(needs) / 2**30


def test_scales_of_other_shapes_are_refused(tmp_path):
    tensors = {
        "layers.0.attention.qkv.weight": np.zeros((192, 64), np.uint8),
        "cap_embedder.1.weight": np.zeros((64, 32), np.uint8),
    }
    tensors |= {"x_pad_token": np.zeros((1, 64), np.float32), "layers.0.attention.qkv.weight_scale": np.zeros((3, 5), np.float32)}
    path = tiny.write_safetensors(tmp_path / "x.safetensors", tensors)
    with pytest.raises(errors.UnsupportedModelError, match=r"qkv\.weight_scale do not fit"):
        sdcpp_py.Pipeline(diffusion_model=path)


@pytest.mark.parametrize("place", ["tensor", "metadata"])
def test_other_formats_of_comfyui_are_named(tmp_path, place):
    tensors = {
        "layers.0.attention.qkv.weight": np.zeros((192, 64), np.uint8),
        "cap_embedder.1.weight": np.zeros((64, 32), np.uint8),
    }
    metadata = {}
    if place == "tensor":
        tensors["layers.0.attention.qkv.comfy_quant"] = np.frombuffer(b'{"format": "svdquant_w4a4"}', np.uint8)
    else:
        metadata["_quantization_metadata"] = json.dumps({"layers": {"layers.0.attention.qkv": {"format": "svdquant_w4a4"}}})
    path = write_u8_safetensors(tmp_path / "x.safetensors", tensors, metadata)
    with pytest.raises(errors.UnsupportedModelError, match="quantized as svdquant_w4a4"):
        sdcpp_py.Pipeline(diffusion_model=path)


# K-quants ---------------------------------------------------------------------------------------------------------------------


def q4_k(rng, count):
    """Blocks of random values in q4_K, and the numbers that they stand for."""
    number = count // 256
    d, low = (rng.uniform(0.5, 1, number) * 2e-4).astype(np.float16), (rng.uniform(0.5, 1, number) * 1.5e-3).astype(np.float16)
    scales = rng.integers(0, 256, (number, 12), np.uint8)
    codes = rng.integers(0, 256, (number, 128), np.uint8)
    packed = np.concatenate([d.view(np.uint8).reshape(-1, 2), low.view(np.uint8).reshape(-1, 2), scales, codes], axis=1)
    first, second, last = scales[:, :4], scales[:, 4:8], scales[:, 8:]
    factors = np.concatenate([first & 63, last & 15 | first >> 6 << 4], axis=1).astype(np.float32)
    offsets = np.concatenate([second & 63, last >> 4 | second >> 6 << 4], axis=1).astype(np.float32)
    factors, offsets = factors * d.astype(np.float32)[:, None], offsets * low.astype(np.float32)[:, None]
    numbers = np.stack([codes.reshape(-1, 4, 32) & 15, codes.reshape(-1, 4, 32) >> 4], axis=2).reshape(-1, 8, 32)
    return packed, (numbers * factors[:, :, None] - offsets[:, :, None]).reshape(-1)


def write_city96(path, tensors):
    """As city96's tool writes them, with the f32 values in place of those that were quantized."""
    rng, data, infos, metadata, true, at = np.random.default_rng(2), [], b"", {}, {}, 0

    def text(value):
        return len(value.encode()).to_bytes(8, "little") + value.encode()

    for name, array in tensors.items():
        shape, kind, raw = array.shape, 0, np.ascontiguousarray(array)
        if array.ndim == 2 and array.size >= 1024 and array.size % 256 == 0:
            raw, numbers = q4_k(rng, array.size)
            true[name] = numbers.reshape(shape)
            if shape[-1] % 256:
                metadata[f"comfy.gguf.orig_shape.{name}"] = shape
                shape = (array.size // 256, 256)
            kind = 12
        else:
            true[name] = array
        infos += text(name) + len(shape).to_bytes(4, "little") + b"".join(side.to_bytes(8, "little") for side in shape[::-1])
        infos += kind.to_bytes(4, "little") + at.to_bytes(8, "little")
        data.append(raw.tobytes() + b"\0" * (-raw.nbytes % 32))
        at += len(data[-1])
    head = b"GGUF" + (3).to_bytes(4, "little") + len(tensors).to_bytes(8, "little") + len(metadata).to_bytes(8, "little")
    for key, shape in metadata.items():
        sides = np.array(shape, np.int32).tobytes()
        head += text(key) + (9).to_bytes(4, "little") + (5).to_bytes(4, "little") + len(shape).to_bytes(8, "little") + sides
    head += infos
    path.write_bytes(head + b"\0" * (-len(head) % 32) + b"".join(data))
    return true, len(metadata)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A UNet in q4_K whose rows are not whole blocks, with the f32 values that it stands for."""
    place = tmp_path_factory.mktemp("narrow")
    base = tiny.write_folder(place / "base")
    tensors = tiny.part("unet")
    true, count = write_city96(place / "unet.gguf", tensors)
    assert count > 20
    (place / "config.json").write_text(json.dumps(tiny.configs()["unet"]))
    return base, place / "unet.gguf", tiny.write_safetensors(place / "unet.safetensors", true)


def unet_output(base, unet, **options):
    rng = np.random.default_rng(3)
    inputs = {"x": rng.standard_normal((1, 4, 8, 8)), "context": rng.standard_normal((1, 77, 32))}
    with sdcpp_py.Pipeline(base, diffusion_model=unet, **options) as made:
        return made.evaluate("unet", timesteps=np.array([300.0]), **inputs)


def distance(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(("wtype", "blas"), [(None, None), ("f16", None), ("q8_0", None), ("q4_K", None), (None, False)])
def test_k_quants_of_narrow_rows_are_right(narrow, wtype, blas):
    base, small, true = narrow
    assert distance(unet_output(base, small, wtype=wtype, blas=blas), unet_output(base, true, wtype="f32")) < 0.02


def test_k_quants_of_narrow_rows_stream_and_convert(narrow, tmp_path):
    base, small, _ = narrow
    expected = unet_output(base, small, max_vram=0)
    least = least_of({"model": base, "diffusion_model": small}, "unet")
    for share in (1.05, 1.5, 3):
        budget = share * least
        options = {"device": "simulated:vram=1,link=2", "max_vram": budget, "link_speed": SPEEDS}
        np.testing.assert_array_equal(unet_output(base, small, **options), expected)
    convert(base, tmp_path / "whole.gguf", diffusion_model=small)
    assert sdcpp_py.summarize(tmp_path / "whole.gguf").missing == []
    rng = np.random.default_rng(3)
    inputs = {"x": rng.standard_normal((1, 4, 8, 8)), "context": rng.standard_normal((1, 77, 32))}
    with sdcpp_py.Pipeline(tmp_path / "whole.gguf") as made:
        np.testing.assert_array_equal(made.evaluate("unet", timesteps=np.array([300.0]), **inputs), expected)
    for wtype in ("q4_K", "q5_K", "q6_K", "bf16"):
        convert(base, tmp_path / "other.gguf", diffusion_model=small, wtype=wtype)
        for tensor in sdcpp_py.summarize(tmp_path / "other.gguf").tensors:
            assert tensor.bytes == bytes_of(tensor.type, tensor.shape)


def bytes_of(kind, shape):
    blocks = {
        "f32": (1, 4),
        "f16": (1, 2),
        "bf16": (1, 2),
        "q8_0": (32, 34),
        "q4_K": (256, 144),
        "q5_K": (256, 176),
        "q6_K": (256, 210),
    }
    block, size = blocks[kind]
    return math.prod(shape) // block * size
