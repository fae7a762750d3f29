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
from collections.abc import Callable, Iterable
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


def flux_2_net(width: int, doubles: int, singles: int, text: int) -> torch.nn.Module:
    return diffusers.Flux2Transformer2DModel(
        num_layers=doubles,
        num_single_layers=singles,
        num_attention_heads=width // 128,
        joint_attention_dim=text,
        guidance_embeds=False,
    )


def sd3_net(depth: int, places: int, dual: Iterable[int]) -> torch.nn.Module:
    return diffusers.SD3Transformer2DModel(
        num_layers=depth,
        num_attention_heads=depth,
        caption_projection_dim=64 * depth,
        pos_embed_max_size=places,
        dual_attention_layers=tuple(dual),
        qk_norm="rms_norm",
    )


#: Networks that the engine runs: the family's name, other names for it, its own side of pictures, whether they are usually made
#: with guidance.
OWN: tuple[tuple[str, list[str], int, bool, Callable[[], Any]], ...] = (
    ("sd1", ["sd15"], 512, True, sd15_net),
    ("sdxl", [], 1024, True, sdxl_net),
    ("z-image", [], 1024, False, diffusers.ZImageTransformer2DModel),
    ("flux.1", ["flux"], 1024, False, lambda: diffusers.FluxTransformer2DModel(guidance_embeds=True)),
    ("chroma", [], 1024, True, diffusers.ChromaTransformer2DModel),
    ("flux.2-klein-4b", ["flux.2", "flux2"], 1024, False, lambda: flux_2_net(3072, 5, 20, 7680)),
    ("flux.2-klein-9b", [], 1024, False, lambda: flux_2_net(4096, 8, 24, 12288)),
    ("krea-2", ["krea2"], 1024, False, diffusers.Krea2Transformer2DModel),
    ("qwen-image", [], 1328, True, diffusers.QwenImageTransformer2DModel),
    ("sd3.5-medium", ["sd3"], 1024, True, lambda: sd3_net(24, 384, range(13))),
    ("sd3.5-large", [], 1024, True, lambda: sd3_net(38, 192, ())),
)


def main() -> None:
    torch.set_grad_enabled(False)
    with torch.device("meta"):
        shapes = {name: {key: list(value.shape) for key, value in make().state_dict().items()} for name, _, _, _, make in OWN}
        estimated = {"wan-14b": wan_14b()}
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
