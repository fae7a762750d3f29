"""Packed weights in files, and the numbers that they stand for, in numpy.

A row of `FORMATS` makes from a name X and a shape the tensors of a packed X.weight, ComfyUI's mark of it (None if the format has
none), and its values.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
E2M1 = np.concatenate([E2M1, -E2M1])
NF4 = np.sort(np.random.default_rng(4).uniform(-1, 1, 16)).astype(np.float32)
CODEBOOK = np.linspace(-1, 1, 16).astype(np.float32)


def f8(codes):
    """The numbers of f8_e4m3."""
    exponent, fraction = codes >> 3 & 15, codes & 7
    size = np.where(exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent.astype(int) - 7))
    return np.where(codes >> 7, -size, size).astype(np.float32)


def up(side, to):
    return -(-side // to) * to


def rotation(group):
    """ConvRot's matrix, which is symmetric and its own inverse."""
    four = np.array([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]]) / 2
    out = np.ones((1, 1))
    while len(out) < group:
        out = np.kron(out, four)
    return out


def rotated(weight, group):
    blocks = weight.astype(np.float64).reshape(len(weight), -1, group) @ rotation(group)
    return blocks.reshape(weight.shape).astype(np.float32)


def group_of(columns):
    """The largest power of 4 that divides a row."""
    group = 4
    while columns % (4 * group) == 0 and group < 256:
        group *= 4
    return group


def halves(codes, high_first):
    """Two codes a byte."""
    first, second = codes[..., 0::2], codes[..., 1::2]
    return (first << 4 | second if high_first else second << 4 | first).astype(np.uint8)


def tiled(scales):
    """Scales of blocks as tensor cores take them: tiles of 128 x 4, each as 32 rows of 16."""
    rows, columns = (up(side, to) for side, to in zip(scales.shape, (128, 4)))
    whole = np.zeros((rows, columns), scales.dtype)
    whole[: scales.shape[0], : scales.shape[1]] = scales
    tiles = whole.reshape(rows // 128, 4, 32, columns // 4, 4).transpose(0, 3, 2, 1, 4)
    return np.ascontiguousarray(tiles).reshape(rows, columns)


def gain(columns):
    """A size of weights for which networks stay tame."""
    return 1 / math.sqrt(columns)


def int8(rng, x, shape, by_rows, convrot, scale_shape=(-1, 1)):
    codes = rng.integers(-127, 128, shape).astype(np.int8)
    scale = (rng.uniform(0.5, 1, (shape[0], 1) if by_rows else ()) * gain(shape[1]) / 64).astype(np.float32)
    values = codes.astype(np.float32) * scale
    mark = {"format": "int8_tensorwise"}
    if convrot:
        group = group_of(shape[1])
        mark |= {"convrot": True, "convrot_groupsize": group}
        values = rotated(values, group)
    return {f"{x}.weight": ("I8", codes), f"{x}.weight_scale": scale.reshape(scale_shape) if by_rows else scale}, mark, values


def nvfp4(rng, x, shape, comfy):
    """The sides are padded to 16 in ComfyUI's."""
    rows, columns = shape
    codes = rng.integers(0, 16, (rows, columns)).astype(np.uint8)
    blocks = rng.integers(0x28, 0x48, (rows, -(-columns // 16))).astype(np.uint8)
    whole = np.float32(gain(columns) / 4)
    values = E2M1[codes] * (whole * np.repeat(f8(blocks), 16, 1)[:, :columns])
    more = {f"{x}.weight_scale_2": whole, f"{x}.input_scale": np.float32(2)}
    if not comfy:
        assert columns % 16 == 0
        packed = {f"{x}.weight": ("U8", halves(codes, False)), f"{x}.weight_scale": ("F8_E4M3", blocks)}
        return packed | more, None, values
    padded = np.zeros((up(rows, 16), up(columns, 16)), np.uint8)
    padded[:rows, :columns] = codes
    scales = np.zeros((len(padded), padded.shape[1] // 16), np.uint8)
    scales[:rows] = blocks
    packed = {f"{x}.weight": ("U8", halves(padded, True)), f"{x}.weight_scale": ("F8_E4M3", tiled(scales))}
    return packed | more, {"format": "nvfp4"}, values


def mxfp8(rng, x, shape):
    """The sides are padded to 32."""
    rows, columns = shape
    codes = rng.integers(0x20, 0x40, shape).astype(np.uint8) | rng.integers(0, 2, shape).astype(np.uint8) << 7
    lift = round(math.log2(gain(columns)))
    blocks = (127 + lift + rng.integers(-1, 2, (rows, -(-columns // 32)))).astype(np.uint8)
    values = f8(codes) * np.repeat(2.0 ** (blocks.astype(np.float32) - 127), 32, 1)[:, :columns]
    padded = np.zeros((up(rows, 32), up(columns, 32)), np.uint8)
    padded[:rows, :columns] = codes
    scales = np.zeros((len(padded), padded.shape[1] // 32), np.uint8)
    scales[:rows] = blocks
    packed = {f"{x}.weight": ("F8_E4M3", padded), f"{x}.weight_scale": ("U8", tiled(scales))}
    return packed, {"format": "mxfp8"}, values.astype(np.float32)


def w4a4(rng, x, shape):
    codes = rng.integers(-7, 8, shape)
    scale = (rng.uniform(0.5, 1, shape[0]) * gain(shape[1]) / 4).astype(np.float32)
    group = group_of(shape[1])
    values = rotated(codes.astype(np.float32) * scale[:, None], group)
    packed = halves((codes & 15).astype(np.uint8), False).view(np.int8)
    mark = {"format": "convrot_w4a4", "convrot_groupsize": group}
    return {f"{x}.weight": ("I8", packed), f"{x}.weight_scale": scale}, mark, values


def w4a8(rng, x, shape, bits=4):
    rows, columns = shape
    codes = rng.integers(0, 1 << bits, shape).astype(np.uint8)
    blocks = rng.integers(0x60, 0x70, (rows, columns // 16)).astype(np.uint8)
    channel = (rng.uniform(0.5, 1, rows) * gain(columns) / 64).astype(np.float32)
    if bits == 4:
        levels, packed = CODEBOOK[codes], halves(codes, False)
        more = {f"{x}.weight_codebook": CODEBOOK}
    else:
        blocks -= 0x28
        levels, top = codes.astype(np.float32) - 32, codes >> 4
        crumbs = top[:, 0::4] | top[:, 1::4] << 2 | top[:, 2::4] << 4 | top[:, 3::4] << 6
        packed, more = np.concatenate([halves(codes & 15, False), crumbs], 1), {}
    whole = np.clip(np.round(levels * np.repeat(f8(blocks), 16, 1)), -127, 127)
    group = group_of(columns)
    values = rotated(whole * channel[:, None], group)
    packed = {f"{x}.weight": ("I8", packed.view(np.int8)), f"{x}.weight_s_rel": ("F8_E4M3", blocks)}
    mark = {"format": "asym_w4a8_int8", "group_size": 16, "convrot_groupsize": group}
    return packed | more | {f"{x}.weight_s_channel": channel}, mark, values


def nf4(rng, x, shape, nested, kind="nf4"):
    count = math.prod(shape)
    codes, blocks = rng.integers(0, 16, count).astype(np.uint8), -(-count // 64)
    state = {"quant_type": kind, "blocksize": 64, "dtype": "float16", "shape": list(shape)}
    w = f"{x}.weight"
    if nested:
        table = np.linspace(-1, 1, 256).astype(np.float32)
        over = (rng.uniform(0.5, 1, -(-blocks // 256)) * gain(shape[1])).astype(np.float32)
        offset = np.float32(1.5 * gain(shape[1]))
        sizes = rng.integers(0, 256, blocks).astype(np.uint8)
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": float(offset)}
        more = {f"{w}.absmax": ("U8", sizes), f"{w}.nested_absmax": over, f"{w}.nested_quant_map": table}
        factors = table[sizes] * np.repeat(over, 256)[:blocks] + offset
    else:
        factors = (rng.uniform(0.5, 1, blocks) * gain(shape[1])).astype(np.float32)
        more = {f"{w}.absmax": factors}
    values = (NF4[codes] * np.repeat(factors, 64)[:count]).reshape(shape)
    text = np.frombuffer(json.dumps(state).encode(), np.uint8)
    more |= {f"{w}.quant_map": NF4, f"{w}.quant_state.bitsandbytes__{kind}": ("U8", text)}
    return {w: ("U8", halves(codes, True).reshape(-1, 1))} | more, None, values


def bnb_int8(rng, x, shape):
    codes = rng.integers(-127, 128, shape).astype(np.int8)
    scale = (rng.uniform(0.5, 1, shape[0]) * gain(shape[1])).astype(np.float32)
    values = codes.astype(np.float32) * (scale * np.float32(1 / 127))[:, None]
    order = ("U8", np.zeros((), np.uint8))
    return {f"{x}.weight": ("I8", codes), f"{x}.SCB": scale, f"{x}.weight_format": order}, None, values


FORMATS = {
    "int8": lambda *given: int8(*given, False, False),
    "int8 rows": lambda *given: int8(*given, True, False, (-1,)),
    "int8 with ConvRot": lambda *given: int8(*given, True, True),
    "nvfp4": lambda *given: nvfp4(*given, True),
    "nvfp4 plain": lambda *given: nvfp4(*given, False),
    "mxfp8": mxfp8,
    "w4a4": w4a4,
    "w4a8": w4a8,
    "w6a8": lambda *given: w4a8(*given, 6),
    "nf4": lambda *given: nf4(*given, False),
    "nf4 nested": lambda *given: nf4(*given, True),
    "fp4": lambda *given: nf4(*given, False, "fp4"),
    "int8 of bitsandbytes": bnb_int8,
}
#: What `sdcpp info` calls them, if it is something else; columns that rows are whole multiples of.
TITLES = {"int8 rows": "int8", "nvfp4 plain": "nvfp4", "nf4 nested": "nf4"}
WHOLE = {"nvfp4 plain": 16, "int8 with ConvRot": 4, "w4a4": 4, "w4a8": 16, "w6a8": 32}
#: Formats whose values f32 arithmetic gives in no one order.
SUMMED = {"int8 with ConvRot", "w4a4", "w4a8", "w6a8"}


def marked(tensors, marks, in_metadata):
    """ComfyUI's marks as tensors, or as metadata beside them."""
    if in_metadata:
        return tensors, {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": marks})}
    texts = {f"{x}.comfy_quant": ("U8", np.frombuffer(json.dumps(mark).encode(), np.uint8)) for x, mark in marks.items()}
    return tensors | texts, {}


def pack(tensors, choose, in_metadata=False, seed=1):
    """The tensors with packed matrices, metadata, and the tensors as f32.

    ``choose`` gets a name without ".weight" and a shape, and returns a name in `FORMATS`, or None.
    """
    rng = np.random.default_rng(seed)
    small, marks, true = {}, {}, {}
    for name, array in tensors.items():
        x = name.removesuffix(".weight")
        kind = choose(x, array.shape) if array.ndim == 2 and x != name else None
        if kind is None or array.shape[1] % WHOLE.get(kind, 1):
            small[name] = true[name] = array
            continue
        parts, mark, true[name] = FORMATS[kind](rng, x, array.shape)
        small |= parts
        if mark:
            marks[x] = mark
    return *marked(small, marks, in_metadata), true


def read_gguf(path: Path):
    """The f32 tensors of a file that `convert` wrote."""
    data, at = path.read_bytes(), 24
    _, _, count, pairs = struct.unpack_from("<4sIQQ", data)

    def text():
        nonlocal at
        (length,) = struct.unpack_from("<Q", data, at)
        at += 8 + length
        return data[at - length : at].decode()

    for _ in range(pairs):
        text()
        at += 4
        text()
    entries = []
    for _ in range(count):
        name = text()
        (sides,) = struct.unpack_from("<I", data, at)
        *shape, kind, offset = struct.unpack_from(f"<{sides}QIQ", data, at + 4)
        at += 4 + 8 * sides + 12
        entries.append((name, shape[::-1], kind, offset))
    start = up(at, 32)
    return {
        name: np.frombuffer(data, np.float32, math.prod(shape), start + offset).reshape(shape)
        for name, shape, kind, offset in entries
        if kind == 0
    }
