"""Writes sdcpp_py/data/families.json and tensor_shapes.json.gz: networks that are planned for without a file.

usage: python benchmarks/network_stages.py        (needs the extra `oracle`)

Parameters are counted in diffusers' own modules of the released shapes, made on the meta device, so nothing is downloaded. Widths
of what a stage works on come from the same shapes: for a transformer block the larger of attention (input, normed input, queries,
keys, values, result) and feed-forward (input, normed input, its two inner products); for a UNet block the input, its
normed copy, the output and, where it has transformers, their feed-forward. All are f32 values per token. Of networks
that the engine runs, the second file has every tensor's shape.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import diffusers
import torch

TARGET = Path(__file__).parent.parent / "sdcpp_py" / "data" / "families.json"
SHAPES = TARGET.with_name("tensor_shapes.json.gz")


def count(*modules: torch.nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def stage(name: str, params: int, *, workspace: float, carry: float, attention: int = 0, area: float = 1.0) -> dict[str, Any]:
    """`area`: tokens of this stage for each of the network's; `attention`: width times number of self-attentions."""
    values = {"name": name, "params": params, "area": area, "attention": attention}
    return values | {"workspace": workspace, "carry_in": carry, "carry_out": carry}


def z_image() -> dict[str, Any]:
    net = diffusers.ZImageTransformer2DModel()
    d, inner = 3840, net.layers[0].feed_forward.w1.out_features
    block = {"workspace": max(6 * d, 2 * d + 2 * inner), "carry": d, "attention": d}
    stages = [stage("embedders", count(net.all_x_embedder, net.t_embedder, net.cap_embedder), workspace=3 * d, carry=d)]
    stages += [stage(f"noise_refiner.{i}", count(layer), **block) for i, layer in enumerate(net.noise_refiner)]
    text = {**block, "area": 0.05}
    stages += [stage(f"context_refiner.{i}", count(layer), **text) for i, layer in enumerate(net.context_refiner)]
    stages += [stage(f"layers.{i}", count(layer), **block) for i, layer in enumerate(net.layers)]
    stages.append(stage("final_layer", count(net.all_final_layer), workspace=3 * d, carry=d))
    return {"patch": 16, "text_tokens": 128, "guided": False, "stages": stages}


def flux() -> dict[str, Any]:
    net = diffusers.FluxTransformer2DModel(guidance_embeds=True)
    d = 3072
    stages = [stage("embedders", count(net.time_text_embed, net.context_embedder, net.x_embedder), workspace=3 * d, carry=d)]
    for i, layer in enumerate(net.transformer_blocks):
        stages.append(stage(f"double_blocks.{i}", count(layer), workspace=6 * d, carry=d, attention=d))
    for i, layer in enumerate(net.single_transformer_blocks):  # attention and feed-forward side by side
        stages.append(stage(f"single_blocks.{i}", count(layer), workspace=10 * d, carry=d, attention=d))
    stages.append(stage("final_layer", count(net.norm_out, net.proj_out), workspace=3 * d, carry=d))
    return {"patch": 16, "text_tokens": 512, "guided": False, "stages": stages}


def qwen_image() -> dict[str, Any]:
    net = diffusers.QwenImageTransformer2DModel()
    d = 3072
    stages = [stage("embedders", count(net.time_text_embed, net.img_in, net.txt_in, net.txt_norm), workspace=3 * d, carry=d)]
    for i, layer in enumerate(net.transformer_blocks):
        # half of a block's weights are for the text's tokens, which are few
        stages.append(stage(f"transformer_blocks.{i}", count(layer), workspace=6 * d, carry=d, attention=d, area=0.53))
    stages.append(stage("final_layer", count(net.norm_out, net.proj_out), workspace=3 * d, carry=d))
    return {"patch": 16, "text_tokens": 256, "guided": True, "stages": stages}


def wan_14b() -> dict[str, Any]:
    net = diffusers.WanTransformer3DModel()
    d, inner = 5120, 13824
    stages = [stage("embedders", count(net.patch_embedding, net.condition_embedder), workspace=3 * d, carry=d)]
    for i, layer in enumerate(net.blocks):
        work = max(6 * d, 2 * d + inner)
        stages.append(stage(f"blocks.{i}", count(layer), workspace=work, carry=d, attention=d))
    stages.append(stage("head", count(net.proj_out), workspace=3 * d, carry=d))
    return {"patch": 16, "text_tokens": 0, "frames": 9, "guided": True, "stages": stages}


def unet(net: Any, widths: tuple[int, ...]) -> dict[str, Any]:
    """Input, middle and output blocks, as checkpoints name them; skips are carried from one side to the other."""
    stages: list[dict[str, Any]] = []
    skips: list[float] = []
    embedders = [net.time_embedding] + ([net.add_embedding] if getattr(net, "add_embedding", None) is not None else [])
    stages.append(stage("time_embed", count(*embedders), workspace=0.1, carry=0.1))
    state = widths[0]

    def add(name: str, modules: list[torch.nn.Module], into: float, out: int, level: int, skip: bool, transformer: Any) -> None:
        nonlocal state
        area = 1 / 4**level
        work = into * 2 + 2 * out
        attention = 0
        if transformer is not None:
            work = max(work, 12 * out)
            attention = out * len(transformer.transformer_blocks)
        waiting = sum(skips)
        row = stage(name, count(*modules), workspace=work * area, carry=0, attention=attention, area=area)
        row["carry_in"] = into * area + waiting
        if skip:
            skips.append(out * area)
        row["carry_out"] = out * area + sum(skips)
        stages.append(row)
        state = out

    add("input_blocks.0", [net.conv_in], 4, widths[0], 0, True, None)
    number = 1
    for level, block in enumerate(net.down_blocks):
        for j, res in enumerate(block.resnets):
            attention = block.attentions[j] if hasattr(block, "attentions") else None
            modules = [res] + ([attention] if attention is not None else [])
            add(f"input_blocks.{number}", modules, res.in_channels, res.out_channels, level, True, attention)
            number += 1
        if block.downsamplers:
            add(f"input_blocks.{number}", [block.downsamplers[0]], state, state, level + 1, True, None)
            number += 1
    last = len(net.down_blocks) - 1
    middle = net.mid_block
    add("middle_block", [middle], state, state, last, False, middle.attentions[0])
    number = 0
    for level, block in zip(range(last, -1, -1), net.up_blocks):
        for j, res in enumerate(block.resnets):
            skips.pop()
            attention = block.attentions[j] if hasattr(block, "attentions") else None
            modules = [res] + ([attention] if attention is not None else [])
            if block.upsamplers and j + 1 == len(block.resnets):
                modules.append(block.upsamplers[0])
            add(f"output_blocks.{number}", modules, res.in_channels, res.out_channels, level, False, attention)
            number += 1
    add("out", [net.conv_norm_out, net.conv_out], widths[0], widths[0], 0, False, None)
    return {"patch": 8, "text_tokens": 0, "guided": True, "stages": stages}


def sd15_net() -> torch.nn.Module:
    return diffusers.UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)


def sd15() -> dict[str, Any]:
    return unet(sd15_net(), (320, 640, 1280, 1280))


def sdxl_net() -> torch.nn.Module:
    return diffusers.UNet2DConditionModel(
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def sdxl() -> dict[str, Any]:
    return unet(sdxl_net(), (320, 640, 1280))


def write_shapes() -> None:
    nets = {"sd15": sd15_net(), "sdxl": sdxl_net(), "z-image": diffusers.ZImageTransformer2DModel()}
    shapes = {name: {key: list(value.shape) for key, value in net.state_dict().items()} for name, net in nets.items()}
    SHAPES.write_bytes(gzip.compress(json.dumps(shapes).encode(), 9, mtime=0))


def main() -> None:
    torch.set_grad_enabled(False)
    with torch.device("meta"):
        write_shapes()
        families = {
            "sd15": sd15(),
            "sdxl": sdxl(),
            "z-image": z_image(),
            "flux": flux(),
            "qwen-image": qwen_image(),
            "wan-14b": wan_14b(),
        }
    TARGET.parent.mkdir(exist_ok=True)
    rows = []
    for name, family in families.items():
        stages = ",\n    ".join(json.dumps(row) for row in family.pop("stages"))
        rows.append(f' "{name}": {{{json.dumps(family)[1:-1]}, "stages": [\n    {stages}]}}')
        print(f"{name:12} {len(stages.splitlines()):4} stages")
    TARGET.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
