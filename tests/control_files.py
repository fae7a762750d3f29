"""Tiny ControlNets and T2I-Adapters for the tiny models of tests/tiny.py, written by numpy."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import tiny

HINT_CHANNELS = (4, 6, 8, 10)  # of the convolutions that see the hint


def _hint_layers(width: int) -> dict[str, tuple[int, ...]]:
    first, *_, last = channels = HINT_CHANNELS
    kernels = {"conv_in": (first, 3), "conv_out": (width, last)}
    for i in range(len(channels) - 1):
        kernels[f"blocks.{2 * i}"] = (channels[i], channels[i])
        kernels[f"blocks.{2 * i + 1}"] = (channels[i + 1], channels[i])
    return {f"controlnet_cond_embedding.{name}": (*sides, 3, 3) for name, sides in kernels.items()}


def control_net(unet: str = "unet", seed: str = "control", types: int = 0) -> dict[str, np.ndarray]:
    """A ControlNet for the tiny UNet of this name, under diffusers' names; one of several ``types`` of hints if that is not 0."""
    shapes = {
        name: shape
        for name, shape in tiny.shapes()[unet].items()
        if name.startswith(("conv_in", "time_embedding", "add_embedding", "down_blocks", "mid_block"))
    }
    width, emb = shapes["conv_in.weight"][0], shapes["time_embedding.linear_1.weight"][0]
    down = [name for name in shapes if re.search(r"down_blocks.*(resnets\.\d+\.conv2|downsamplers\.0\.conv)\.weight", name)]
    skips = [width, *(shapes[name][0] for name in sorted(down, key=_order))]
    layers = {f"controlnet_down_blocks.{i}": (skip, skip, 1, 1) for i, skip in enumerate(skips)}
    layers |= {"controlnet_mid_block": (skips[-1], skips[-1], 1, 1), **_hint_layers(width)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    if types:
        shapes |= {
            "task_embedding": (types, width),
            "transformer_layes.0.attn.in_proj_weight": (3 * width, width),
            "transformer_layes.0.attn.in_proj_bias": (3 * width,),
            "control_add_embedding.linear_1.weight": (emb, 256 * types),
            "control_add_embedding.linear_1.bias": (emb,),
        }
        for name, sides in {
            "transformer_layes.0.attn.out_proj": (width, width),
            "transformer_layes.0.mlp.c_fc": (4 * width, width),
            "transformer_layes.0.mlp.c_proj": (width, 4 * width),
            "transformer_layes.0.ln_1": (width,),
            "transformer_layes.0.ln_2": (width,),
            "spatial_ch_projs": (width, width),
            "control_add_embedding.linear_2": (emb, emb),
        }.items():
            shapes |= {f"{name}.weight": sides, f"{name}.bias": sides[:1]}
    return {name: tiny.values(f"{seed}.{name}", shape) for name, shape in shapes.items()}


def _order(name: str) -> tuple[int, int, int]:
    level = int(name.split(".")[1])
    return (level, 1, 0) if "downsamplers" in name else (level, 0, int(name.split(".")[3]))


def cldm(tensors: dict[str, np.ndarray], layers: int = 1) -> dict[str, np.ndarray]:
    """A ControlNet under the names of the original files; ``layers`` a level."""
    out = {}
    resnet = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1"}
    resnet |= {"norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    whole = {
        "conv_in": "input_blocks.0.0",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "controlnet_cond_embedding.conv_in": "input_hint_block.0",
        "controlnet_cond_embedding.conv_out": f"input_hint_block.{2 * (2 * len(HINT_CHANNELS) - 1)}",
        "controlnet_mid_block": "middle_block_out.0",
    }
    for name, array in tensors.items():
        layer, _, kind = name.rpartition(".")
        part = layer.split(".")
        if layer in whole:
            new = whole[layer]
        elif layer.startswith("controlnet_cond_embedding.blocks"):
            new = f"input_hint_block.{2 * (int(part[2]) + 1)}"
        elif layer.startswith("controlnet_down_blocks"):
            new = f"zero_convs.{part[1]}.0"
        elif part[0] == "mid_block":
            rest = ".".join(part[3:])
            new = f"middle_block.1.{rest}" if part[1] == "attentions" else f"middle_block.{2 * int(part[2])}.{resnet[rest]}"
        else:
            first, rest = 1 + int(part[1]) * (layers + 1), ".".join(part[4:])
            if part[2] == "downsamplers":
                new = f"input_blocks.{first + layers}.0.op"
            else:
                place = 0 if part[2] == "resnets" else 1
                new = f"input_blocks.{first + int(part[3])}.{place}.{resnet[rest] if place == 0 else rest}"
        out[f"{new}.{kind}"] = array
    return out


def write(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    return tiny.write_safetensors(path, {name: np.ascontiguousarray(array) for name, array in tensors.items()})


def hint(width: int = 64, height: int = 64, seed: int = 3) -> np.ndarray:
    """White lines on black."""
    random = np.random.RandomState(seed)
    picture = np.zeros((height, width, 3), np.uint8)
    for _ in range(6):
        picture[random.randint(height)] = 255
        picture[:, random.randint(width)] = 255
    return picture


def control_lora(unet: str = "unet", rank: int = 3) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A control-LoRA in the original names, and the ControlNet that it makes of the tiny UNet, under diffusers' names."""
    whole, base = control_net(unet, "whole"), tiny.part(unet)
    lora: dict[str, np.ndarray] = {"lora_controlnet": np.zeros(1, np.float32)}
    for name, array in list(whole.items()):
        (new,) = cldm({name: array})
        if not name.endswith(".weight") or array.ndim < 2 or name not in base:
            lora[new] = array
            continue
        rows = array.reshape(len(array), -1)
        up = tiny.values(f"up.{name}", (len(rows), rank))
        down = tiny.values(f"down.{name}", (rank, rows.shape[1]))
        lora[new.removesuffix("weight") + "up"] = up
        lora[new.removesuffix("weight") + "down"] = down.reshape(rank, *array.shape[1:])
        whole[name] = base[name] + (up @ down).reshape(array.shape)
    return lora, whole


def t2i_adapter(channels: tuple[int, ...], pixels: int = 8, grey: bool = False, light: bool = False) -> dict[str, np.ndarray]:
    """A T2I-Adapter with features of these widths, under diffusers' names."""
    patch = (1 if grey else 3) * pixels**2
    shapes: dict[str, tuple[int, ...]] = {} if light else {"conv_in": (channels[0], patch, 3, 3)}
    for i, width in enumerate(channels):
        before = (patch if light else channels[0]) if i == 0 else channels[i - 1]
        inner = width // 4 if light else width
        if light or before != width:
            shapes[f"body.{i}.in_conv"] = (inner, before, 1, 1)
        for j in range(2):
            shapes[f"body.{i}.resnets.{j}.block1"] = (inner, inner, 3, 3)
            shapes[f"body.{i}.resnets.{j}.block2"] = (inner, inner, 3, 3) if light else (inner, inner, 1, 1)
        if light:
            shapes[f"body.{i}.out_conv"] = (width, inner, 1, 1)
    out = {}
    for name, shape in shapes.items():
        out[f"adapter.{name}.weight"] = tiny.values(f"t2i.{name}.weight", shape)
        out[f"adapter.{name}.bias"] = tiny.values(f"t2i.{name}.bias", shape[:1])
    return out


def t2i_original(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A T2I-Adapter under its authors' names."""
    out = {}
    for name, array in tensors.items():
        plain = name.removeprefix("adapter.")
        if "out_conv" in plain or any("out_conv" in other for other in tensors):
            plain = plain.replace(".resnets.", ".body.")
        elif found := re.match(r"body\.(\d+)\.(?:resnets\.(\d+)\.)?(.*)", plain):
            plain = f"body.{2 * int(found[1]) + int(found[2] or 0)}.{found[3]}"
        out[plain] = array
    return out
