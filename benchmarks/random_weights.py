"""Networks of true size with random weights, written in seconds: for measuring memory and time, not for pictures.

usage: python benchmarks/random_weights.py FOLDER PART... [--dtype bf16|f16|f32]       PART: sd15, sdxl, z-image, flux, vae,
qwen3-4b

Shapes of the denoisers are the package's own (`sdcpp_py/data/tensor_shapes.json.gz`); those of Stable Diffusion's VAE decoder and
of Qwen3-4B follow from a few widths. Neither torch nor diffusers is needed. Matrices are normal with a variance of
1 / inputs, so that activations stay finite; norms are 1. A file that is complete is used again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import struct
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import numpy as np

Shapes = dict[str, tuple[int, ...]]

_PACKED_AS = {"sd15": "sd1", "flux": "flux.1"}
_ITEM_BYTES = {"bf16": 2, "f16": 2, "f32": 4}
_BLOCK = 1 << 22  # values made at a time
_SHARD_BYTES = 1 << 29  # at least
_PERIOD = (1 << 24) - 3  # the random numbers': odd, so that no two matrices get the same ones in the same places


def denoiser(name: str) -> Shapes:
    """The shapes of "sd15", "sdxl", "z-image" or "flux" under diffusers' names."""
    packed = (resources.files("sdcpp_py") / "data" / "tensor_shapes.json.gz").read_bytes()
    return {key: tuple(shape) for key, shape in json.loads(gzip.decompress(packed))[_PACKED_AS.get(name, name)].items()}


def vae_decoder() -> Shapes:
    """Stable Diffusion's and SDXL's: widths of 512, 512, 256 and 128, three blocks a level."""
    out: Shapes = {}

    def layer(name: str, *weight: int) -> None:
        out[f"{name}.weight"], out[f"{name}.bias"] = weight, weight[:1]

    def block(name: str, before: int, after: int) -> None:
        layer(f"{name}.norm1", before)
        layer(f"{name}.conv1", after, before, 3, 3)
        layer(f"{name}.norm2", after)
        layer(f"{name}.conv2", after, after, 3, 3)
        if before != after:
            layer(f"{name}.nin_shortcut", after, before, 1, 1)

    layer("post_quant_conv", 4, 4, 1, 1)
    layer("decoder.conv_in", 512, 4, 3, 3)
    block("decoder.mid.block_1", 512, 512)
    layer("decoder.mid.attn_1.norm", 512)
    for letter in ("q", "k", "v", "proj_out"):
        layer(f"decoder.mid.attn_1.{letter}", 512, 512, 1, 1)
    block("decoder.mid.block_2", 512, 512)
    width = 512
    for level, next_width in ((3, 512), (2, 512), (1, 256), (0, 128)):
        for number in range(3):
            block(f"decoder.up.{level}.block.{number}", width, next_width)
            width = next_width
        if level:
            layer(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    layer("decoder.norm_out", width)
    layer("decoder.conv_out", 3, width, 3, 3)
    return out


def qwen3_4b() -> Shapes:
    """The language model of Z-Image, without its head."""
    width, inner, layers, queries, keys, head, vocabulary = 2560, 9728, 36, 32, 8, 128, 151936
    out: Shapes = {"model.embed_tokens.weight": (vocabulary, width)}
    for number in range(layers):
        name = f"model.layers.{number}"
        for projection, heads in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            out[f"{name}.self_attn.{projection}.weight"] = (heads * head, width)
        out[f"{name}.self_attn.o_proj.weight"] = (width, queries * head)
        out[f"{name}.self_attn.q_norm.weight"] = out[f"{name}.self_attn.k_norm.weight"] = (head,)
        out[f"{name}.mlp.gate_proj.weight"] = out[f"{name}.mlp.up_proj.weight"] = (inner, width)
        out[f"{name}.mlp.down_proj.weight"] = (width, inner)
        out[f"{name}.input_layernorm.weight"] = out[f"{name}.post_attention_layernorm.weight"] = (width,)
    return out | {"model.norm.weight": (width,)}


PARTS: dict[str, Callable[[], Shapes]] = {
    "sd15": lambda: denoiser("sd15"),
    "sdxl": lambda: denoiser("sdxl"),
    "z-image": lambda: denoiser("z-image"),
    "flux": lambda: denoiser("flux"),
    "vae": vae_decoder,
    "qwen3-4b": qwen3_4b,
}


def as_bf16(values: np.ndarray) -> np.ndarray:
    """f32 to the upper halves of its bits."""
    return (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def _values(name: str, shape: tuple[int, ...], first: int, count: int, normal: np.ndarray) -> np.ndarray:
    """`count` of a tensor's numbers from the one numbered `first`, f32."""
    start = (zlib.crc32(name.encode()) + first) % _PERIOD
    if len(shape) > 1:
        return normal[start : start + count] * np.float32(1 / math.sqrt(math.prod(shape[1:])))
    if name.endswith("weight"):
        return np.ones(count, np.float32)
    return normal[start : start + count] * np.float32(0.02)


def _write_shard(path: Path, shapes: Shapes, dtype: str, normal: np.ndarray) -> None:
    header, at = {}, 0
    for name, shape in shapes.items():
        size = _ITEM_BYTES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype.upper(), "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb", buffering=0) as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            for first in range(0, math.prod(shape), _BLOCK):
                values = _values(name, shape, first, min(_BLOCK, math.prod(shape) - first), normal)
                stored = as_bf16(values) if dtype == "bf16" else values.astype(np.float16) if dtype == "f16" else values
                rest = memoryview(stored).cast("B")
                while rest:
                    rest = rest[out.write(rest) :]


def write(folder: Path, shapes: Shapes, dtype: str = "bf16") -> Path:
    """Shards of random weights in ``folder``, and their index, which is returned; it comes last, and one that is there is kept.

    Shards are written side by side, because the system lets one at a time write to a file. Threads do here what
    processes would: numpy lets others run while it computes, and so does writing.
    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return index
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {name: _ITEM_BYTES[dtype] * math.prod(shape) for name, shape in shapes.items()}
    count = max(1, min(16, sum(sizes.values()) // _SHARD_BYTES))
    shards: list[Shapes] = [{} for _ in range(count)]
    before = 0
    for name, shape in shapes.items():  # neighbours stay together
        shards[min(count - 1, before * count // sum(sizes.values()))][name] = shape
        before += sizes[name]
    shards = [shard for shard in shards if shard]
    normal = np.random.default_rng(0).standard_normal(_PERIOD, np.float32)
    normal = np.concatenate([normal, normal[:_BLOCK]])  # a block may begin anywhere
    places = {f"model-{number + 1:05}-of-{len(shards):05}.safetensors": shard for number, shard in enumerate(shards)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for job in [pool.submit(_write_shard, folder / name, shard, dtype, normal) for name, shard in places.items()]:
            job.result()
    unfinished = index.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps({"weight_map": {tensor: name for name, shard in places.items() for tensor in shard}}))
    unfinished.replace(index)
    return index


def write_part(folder: Path, part: str, dtype: str = "bf16") -> Path:
    """One of `PARTS` in a folder of its own; the index of its shards."""
    return write(folder / f"{part}-{dtype}", PARTS[part](), dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--dtype", choices=_ITEM_BYTES, default="bf16")
    options = parser.parse_args()
    for part in options.parts:
        start = time.perf_counter()
        path = write_part(options.folder, part, options.dtype)
        size = sum(shard.stat().st_size for shard in path.parent.glob("*.safetensors"))
        print(f"{path}: {size / 1e9:.2f} GB, {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
