"""Packed weights against those who pack them: comfy-kitchen's layouts and bitsandbytes."""

import json

import numpy as np
import packed
import pytest
import tiny
import torch

import sdcpp_py
from sdcpp_py import convert


def comfy(layout, name, bits=None, **options):
    """A packer by a layout of comfy-kitchen: from X and a weight to tensors, a mark and the values that the layout gives back."""
    kitchen = pytest.importorskip("comfy_kitchen.tensor")
    cls = getattr(kitchen, layout)

    def pack(x, weight):
        rows, columns = weight.shape
        own, mark = dict(options), {"format": name}
        if "convrot_groupsize" in own or own.get("convrot"):
            own["convrot_groupsize"] = mark["convrot_groupsize"] = packed.group_of(columns)
            if own.get("convrot"):
                mark["convrot"] = True
        if bits:
            own["bits"] = bits
        data, params = cls.quantize(torch.from_numpy(weight), **own)
        values = cls.dequantize(data, params)[:rows, :columns]
        tensors = {f"{x}.weight{end}": numpy_of(one) for end, one in cls.state_dict_tensors(data, params).items()}
        return tensors, mark, values.float().numpy()

    return pack


def numpy_of(tensor):
    kinds = {torch.float8_e4m3fn: "F8_E4M3", torch.float8_e8m0fnu: "U8", torch.uint8: "U8", torch.int8: "I8"}
    if tensor.dtype in kinds:
        return kinds[tensor.dtype], tensor.contiguous().view(torch.uint8).numpy()
    return tensor.float().numpy()


def bitsandbytes_4(nested, kind):
    functional = pytest.importorskip("bitsandbytes.functional")

    def pack(x, weight):
        # blocks are of the weight written as one row; on the processor bitsandbytes takes rows that are no blocks apart
        blocks = torch.from_numpy(weight.reshape(-1, 64))
        codes, state = functional.quantize_4bit(blocks, quant_type=kind, compress_statistics=nested)
        values = functional.dequantize_4bit(codes, state).numpy().reshape(weight.shape)
        state.shape = torch.Size(weight.shape)
        parts = {f"{x}.weight": codes} | {f"{x}.weight.{end}": one for end, one in state.as_dict(packed=True).items()}
        return {name: numpy_of(one) for name, one in parts.items()}, None, values

    return pack


def bitsandbytes_8():
    functional = pytest.importorskip("bitsandbytes.functional")

    def pack(x, weight):
        codes, scale, _ = functional.int8_vectorwise_quant(torch.from_numpy(weight).half())
        values = functional.int8_vectorwise_dequant(codes, scale).numpy()
        return {f"{x}.weight": numpy_of(codes), f"{x}.SCB": scale.numpy()}, None, values

    return pack


MAKERS = {
    "int8": lambda: comfy("TensorWiseINT8Layout", "int8_tensorwise"),
    "int8 rows": lambda: comfy("TensorWiseINT8Layout", "int8_tensorwise", per_channel=True),
    "int8 ConvRot": lambda: comfy("TensorWiseINT8Layout", "int8_tensorwise", per_channel=True, convrot=True),
    "nvfp4": lambda: comfy("TensorCoreNVFP4Layout", "nvfp4"),
    "mxfp8": lambda: comfy("TensorCoreMXFP8Layout", "mxfp8"),
    "w4a4": lambda: comfy("TensorCoreConvRotW4A4Layout", "convrot_w4a4", convrot_groupsize=64),
    "w4a8": lambda: comfy("AsymW4A8Int8Layout", "asym_w4a8_int8", convrot_groupsize=64),
    "w6a8": lambda: comfy("AsymW4A8Int8Layout", "asym_w4a8_int8", 6, convrot_groupsize=64),
    "nf4": lambda: bitsandbytes_4(False, "nf4"),
    "nf4 nested": lambda: bitsandbytes_4(True, "nf4"),
    "fp4": lambda: bitsandbytes_4(True, "fp4"),
    "int8 of bitsandbytes": bitsandbytes_8,
}
#: What a row must be whole multiples of.
WHOLE = {"w4a4": 64, "w4a8": 16, "w6a8": 32, "int8 ConvRot": 16}
EXACT = ("int8", "int8 rows", "nvfp4", "mxfp8", "nf4")
FAMILIES = {
    "sd1": ("unet", "attn", {}),
    "z-image": ("z_transformer", "layers", {"steps": 3}),
    "flux.1": ("f_transformer", "blocks", {"steps": 3, "guidance": 3.5}),
}


def pair(folder, part, words, kind):
    """Files of a tiny part with packed layers and with the values that their maker gives them, and how many are packed."""
    make = MAKERS[kind]()
    small, marks, true, count = {}, {}, {}, 0
    for name, array in tiny.part(part).items():
        small[name] = true[name] = array
        x = name.removesuffix(".weight")
        if array.ndim != 2 or x == name or words not in name or array.shape[1] % WHOLE.get(kind, 1):
            continue
        del small[name]
        parts, mark, true[name] = make(x, array)
        small |= parts
        count += 1
        if mark:
            marks[x] = mark
    small, metadata = packed.marked(small, marks, in_metadata=count % 2 == 0)
    key = {"z_transformer": "transformer", "f_transformer": "transformer"}.get(part, part)
    config = {"sdcpp.config": json.dumps({key: tiny.configs()[part]})}
    return (
        tiny.write_safetensors(folder / "small.safetensors", small, config | metadata),
        tiny.write_safetensors(folder / "true.safetensors", true, config),
        count,
    )


@pytest.mark.parametrize("kind", MAKERS)
def test_values_equal_the_makers(tmp_path, kind):
    *files, count = pair(tmp_path, "unet", "", kind)
    assert count > 10
    base = tiny.write_folder(tmp_path / "base")
    for path in files:
        convert(base, path.with_suffix(".gguf"), diffusion_model=path, wtype="f32")
    found, expected = (packed.read_gguf(path.with_suffix(".gguf")) for path in files)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        # torch sums the 256 products of a rotation in f32
        share = 0 if kind in EXACT else 2e-6 if kind in ("int8 ConvRot", "w4a4", "w4a8", "w6a8") else 1e-6
        limit = share * np.abs(values).max()
        assert np.abs(found[name] - values).max() <= limit, name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", MAKERS)
def test_pictures_equal_those_of_the_values_in_f32(tmp_path, family, kind):
    part, words, options = FAMILIES[family]
    small, true, count = pair(tmp_path, part, words, kind)
    base = tmp_path / "base"
    if family == "sd1":
        tiny.write_folder(base)
    else:
        tiny.write_family(base, family)
    if count == 0:
        pytest.skip("no row of the tiny model is whole groups")
    pictures = []
    for path, wtype in ((small, None), (true, "f32")):
        with sdcpp_py.Pipeline(base, diffusion_model=path, wtype=wtype) as pipeline:
            image = pipeline.generate("a red circle", width=64, height=64, seed=3, **({"steps": 4} | options)).images[0]
            pictures.append(np.asarray(image).astype(int))
    assert pictures[1].std() > 10, "a flat picture proves nothing"
    share = 0.995 if kind == "nf4" else 0.999  # plain nf4 of f32 is held in bf16, which has fewer bits than f16
    assert (np.abs(pictures[0] - pictures[1]).max(-1) <= 1).mean() >= share
