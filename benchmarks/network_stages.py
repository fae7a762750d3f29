"""Writes sdcpp_py/data/families.json and tensor_shapes.json.gz: networks that are planned for without a file.

usage: python benchmarks/network_stages.py        (needs the extra `oracle`)

Networks are diffusers' own modules of the released shapes, made on the meta device, so nothing is downloaded. The second file has
every tensor's shape of those that the engine runs. For the others, parameters are counted, and widths of what a stage works on
come from the same shapes: for a transformer block the larger of attention (input, normed input, queries, keys, values,
result) and feed-forward (input, normed input, its two inner products), in f32 values per token.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
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


def qwen_image() -> dict[str, Any]:
    net = diffusers.QwenImageTransformer2DModel()
    d = 3072
    stages = [stage("embedders", count(net.time_text_embed, net.img_in, net.txt_in, net.txt_norm), workspace=3 * d, carry=d)]
    for i, layer in enumerate(net.transformer_blocks):
        # half of a block's weights are for the text's tokens, which are few
        stages.append(stage(f"transformer_blocks.{i}", count(layer), workspace=6 * d, carry=d, attention=d, area=0.53))
    stages.append(stage("final_layer", count(net.norm_out, net.proj_out), workspace=3 * d, carry=d))
    return {"size": [1328, 1328], "patch": 16, "text_tokens": 256, "guided": True, "stages": stages}


def wan_14b() -> dict[str, Any]:
    net = diffusers.WanTransformer3DModel()
    d, inner = 5120, 13824
    stages = [stage("embedders", count(net.patch_embedding, net.condition_embedder), workspace=3 * d, carry=d)]
    for i, layer in enumerate(net.blocks):
        work = max(6 * d, 2 * d + inner)
        stages.append(stage(f"blocks.{i}", count(layer), workspace=work, carry=d, attention=d))
    stages.append(stage("head", count(net.proj_out), workspace=3 * d, carry=d))
    return {"size": [1280, 720], "patch": 16, "text_tokens": 0, "frames": 9, "guided": True, "stages": stages}


def sd15_net() -> torch.nn.Module:
    return diffusers.UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)


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


#: Networks that the engine runs: the family's name, other names for it, its own side of pictures, whether they are usually made
#: with guidance.
OWN: tuple[tuple[str, list[str], int, bool, Callable[[], Any]], ...] = (
    ("sd1", ["sd15"], 512, True, sd15_net),
    ("sdxl", [], 1024, True, sdxl_net),
    ("z-image", [], 1024, False, diffusers.ZImageTransformer2DModel),
    ("flux.1", ["flux"], 1024, False, lambda: diffusers.FluxTransformer2DModel(guidance_embeds=True)),
)


def main() -> None:
    torch.set_grad_enabled(False)
    with torch.device("meta"):
        shapes = {name: {key: list(value.shape) for key, value in make().state_dict().items()} for name, _, _, _, make in OWN}
        estimated = {"qwen-image": qwen_image(), "wan-14b": wan_14b()}
    SHAPES.write_bytes(gzip.compress(json.dumps(shapes).encode(), 9, mtime=0))
    TARGET.parent.mkdir(exist_ok=True)
    rows = [
        f' "{name}": {json.dumps({"size": [side, side], "also": also, "guided": guided})}' for name, also, side, guided, _ in OWN
    ]
    for name, family in estimated.items():
        stages = ",\n    ".join(json.dumps(row) for row in family.pop("stages"))
        rows.append(f' "{name}": {{{json.dumps(family)[1:-1]}, "stages": [\n    {stages}]}}')
    TARGET.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
