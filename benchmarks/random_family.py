"""Write a model of true size with random weights as a diffusers folder: for measuring memory and time, not for pictures.

usage: python benchmarks/random_family.py z-image|sdxl|flux.1 FOLDER

Needs the extra `oracle`: shapes come from diffusers and transformers on the meta device. Weights are bf16 in shards of 2 GB,
normal with a variance of 1 / inputs, so that activations stay finite. FLUX.1 takes 34 GB of disk, Z-Image
21 GB, SDXL 7 GB. Tensors are made and written in pieces: memory stays small.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel, UNet2DConditionModel, ZImageTransformer2DModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

SHARD_BYTES = 2 * 10**9
BLOCK = 1 << 24

DOWN, UP = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
QWEN3_4B = {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32}
NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
XL_UNET = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def vae(channels: int, **options: Any) -> AutoencoderKL:
    widths = (128, 256, 512, 512)
    return AutoencoderKL(
        down_block_types=DOWN,
        up_block_types=UP,
        block_out_channels=widths,
        layers_per_block=2,
        latent_channels=channels,
        **options,
    )


def qwen() -> Qwen3Model:
    return Qwen3Model(Qwen3Config(vocab_size=151936, num_key_value_heads=8, head_dim=128, rope_theta=1e6, **QWEN3_4B))


def clip_l() -> CLIPTextModel:
    return CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12))


def t5_xxl() -> T5EncoderModel:
    sizes = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    return T5EncoderModel(T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **sizes))


def clip_g() -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(CLIPTextConfig(hidden_act="gelu", projection_dim=1280, **CLIP_G))


FAMILIES: dict[str, dict[str, Callable[[], Any]]] = {
    "z-image": {
        "transformer": ZImageTransformer2DModel,
        "text_encoder": qwen,
        "vae": lambda: vae(16, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159),
    },
    "sdxl": {
        "unet": lambda: UNet2DConditionModel(**XL_UNET),
        "text_encoder": clip_l,
        "text_encoder_2": clip_g,
        "vae": lambda: vae(4, scaling_factor=0.13025),
    },
    "flux.1": {
        "transformer": lambda: FluxTransformer2DModel(guidance_embeds=True),
        "text_encoder": clip_l,
        "text_encoder_2": t5_xxl,
        "vae": lambda: vae(16, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159),
    },
}


def values(name: str, shape: tuple[int, ...], normal: np.ndarray) -> Iterator[bytes]:
    """The tensor's bf16 bytes in blocks."""
    count = math.prod(shape)
    if len(shape) < 2:
        yield np.full(count, 0x3F80 if "norm" in name and name.endswith("weight") else 0, np.uint16).tobytes()
        return
    scale = np.float32(1 / math.sqrt(math.prod(shape[1:])))
    for first in range(0, count, BLOCK):
        block = normal[: min(BLOCK, count - first)] * scale
        yield (block.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def write_shard(path: Path, tensors: list[tuple[str, tuple[int, ...]]], normal: np.ndarray) -> None:
    header, at = {}, 0
    for name, shape in tensors:
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors:
            for piece in values(name, shape, normal):
                out.write(piece)


def write_part(folder: Path, net: Any, stem: str, normal: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    size = 0
    for name, tensor in net.state_dict().items():
        if not tensor.is_floating_point() or name == "encoder.embed_tokens.weight":  # another name of "shared.weight"
            continue
        size += 2 * tensor.numel()
        if size > SHARD_BYTES and shards[-1]:
            shards.append([])
            size = 2 * tensor.numel()
        shards[-1].append((name, tuple(tensor.shape)))
    index = {}
    for number, shard in enumerate(shards):
        name = f"{stem}.safetensors" if len(shards) == 1 else f"{stem}-{number + 1:05}-of-{len(shards):05}.safetensors"
        write_shard(folder / name, shard, normal)
        index |= {tensor: name for tensor, _ in shard}
    if len(shards) > 1:
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    config = net.config if isinstance(net.config, dict) else net.config.to_dict()
    (folder / "config.json").write_text(json.dumps(dict(config), default=str))


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in FAMILIES:
        sys.exit(__doc__)
    family, folder = sys.argv[1], Path(sys.argv[2])
    normal = np.random.default_rng(0).standard_normal(BLOCK, np.float32)
    index = {}
    for name, make in FAMILIES[family].items():
        with torch.device("meta"):
            net = make()
        encoder = name.startswith("text_encoder")
        write_part(folder / name, net, "model" if encoder else "diffusion_pytorch_model", normal)
        index[name] = ["transformers" if encoder else "diffusers", type(net).__name__]
        print(f"{name}: {sum(p.numel() for p in net.parameters()) / 1e6:.0f} M parameters", flush=True)
    (folder / "scheduler").mkdir(exist_ok=True)
    scheduler = {"z-image": {"shift": 3.0}, "flux.1": {"use_dynamic_shifting": True}}.get(family, NOISE)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    (folder / "model_index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
