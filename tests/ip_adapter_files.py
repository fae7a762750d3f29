"""Tiny IP-Adapters and a tiny CLIP vision encoder for the tiny models of tests/tiny.py, written by numpy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tiny

WIDTH, PROJECTED, SIDE, PATCH, LAYERS = 32, 24, 32, 8, 3
PATCHES = (SIDE // PATCH) ** 2
VISION = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "projection_dim": PROJECTED,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": PATCH,
    "hidden_act": "gelu",
}


def vision(width: int = WIDTH, projected: int = PROJECTED) -> dict[str, np.ndarray]:
    """A CLIP vision encoder under transformers' names."""
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.class_embedding": (width,),
        "vision_model.embeddings.patch_embedding.weight": (width, 3, PATCH, PATCH),
        "vision_model.embeddings.position_embedding.weight": (PATCHES + 1, width),
        "visual_projection.weight": (projected, width),
    }
    layers = {"vision_model.pre_layrnorm": (width,), "vision_model.post_layernorm": (width,)}
    for i in range(LAYERS):
        here = f"vision_model.encoder.layers.{i}"
        layers |= {f"{here}.self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
        layers |= {f"{here}.layer_norm{n}": (width,) for n in (1, 2)}
        layers |= {f"{here}.mlp.fc1": (2 * width, width), f"{here}.mlp.fc2": (width, 2 * width)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return {name: tiny.values(f"vision.{name}", shape) for name, shape in shapes.items()}


def open_clip(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A vision encoder under open_clip's names, which keep q, k and v together and the projection the other way round."""
    names = [
        ("vision_model.embeddings.class_embedding", "class_embedding"),
        ("vision_model.embeddings.patch_embedding", "conv1"),
        ("vision_model.embeddings.position_embedding.weight", "positional_embedding"),
        ("vision_model.pre_layrnorm", "ln_pre"),
        ("vision_model.post_layernorm", "ln_post"),
        ("vision_model.encoder.layers", "transformer.resblocks"),
        ("layer_norm1", "ln_1"),
        ("layer_norm2", "ln_2"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
        ("self_attn", "attn"),
    ]
    tensors = tiny.rename(tensors, names)
    for end in ("weight", "bias"):
        parts = [f"attn.{letter}_proj.{end}" for letter in "qkv"]
        tensors = tiny.fused(tensors, parts[0], parts, f"attn.in_proj_{end}")
    tensors["proj"] = np.ascontiguousarray(tensors.pop("visual_projection.weight").T)
    return {f"visual.{name}": array for name, array in tensors.items()}


def write_vision(folder: Path, tensors: dict[str, np.ndarray] | None = None) -> Path:
    """The encoder as a folder, with its config."""
    folder.mkdir(exist_ok=True)
    tiny.write_safetensors(folder / "model.safetensors", vision() if tensors is None else tensors)
    (folder / "config.json").write_text(json.dumps(VISION))
    return folder


def attentions(unet: str = "unet") -> list[tuple[int, int]]:
    """Width and context of each cross-attention, as IP-Adapters count them: the first blocks, the last, the middle."""
    return [shape for name, shape in tiny.shapes()[unet].items() if name.endswith("attn2.to_k.weight")]


def _keys(unet: str, seed: str) -> dict[str, np.ndarray]:
    return {
        f"ip_adapter.{2 * i + 1}.to_{part}_ip.weight": 3 * tiny.values(f"{seed}.{i}.{part}", shape)
        for i, shape in enumerate(attentions(unet))
        for part in ("k", "v")
    }


def _filled(shapes: dict[str, tuple[int, ...]], seed: str) -> dict[str, np.ndarray]:
    return {f"image_proj.{name}": tiny.values(f"{seed}.{name}", shape) for name, shape in shapes.items()}


def base(unet: str = "unet", seed: str = "ip", tokens: int = 4) -> dict[str, np.ndarray]:
    """An IP-Adapter that takes the picture's one vector."""
    context = attentions(unet)[0][1]
    shapes = {"proj.weight": (tokens * context, PROJECTED), "proj.bias": (tokens * context,)}
    shapes |= {"norm.weight": (context,), "norm.bias": (context,)}
    return _filled(shapes, seed) | _keys(unet, seed)


def plus(unet: str = "unet", seed: str = "plus", tokens: int = 5, width: int = 48) -> dict[str, np.ndarray]:
    """An IP-Adapter Plus, with heads of 64 in its Resampler."""
    context, inner = attentions(unet)[0][1], 128
    shapes: dict[str, tuple[int, ...]] = {"latents": (1, tokens, width)}
    layers = {"proj_in": (width, WIDTH), "proj_out": (context, width), "norm_out": (context,)}
    for i in range(4):  # diffusers knows no other number
        layers |= {f"layers.{i}.0.norm1": (width,), f"layers.{i}.0.norm2": (width,), f"layers.{i}.1.0": (width,)}
        matrices = {"0.to_q": (inner, width), "0.to_kv": (2 * inner, width), "0.to_out": (width, inner)}
        matrices |= {"1.1": (4 * width, width), "1.3": (width, 4 * width)}
        shapes |= {f"layers.{i}.{name}.weight": shape for name, shape in matrices.items()}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return _filled(shapes, seed) | _keys(unet, seed)


def full(unet: str = "unet", seed: str = "full") -> dict[str, np.ndarray]:
    """An IP-Adapter Full Face, which makes a token of each patch."""
    context = attentions(unet)[0][1]
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in {"proj.0": (WIDTH, WIDTH), "proj.2": (context, WIDTH), "proj.3": (context,)}.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return _filled(shapes, seed) | _keys(unet, seed)


KINDS = {"base": base, "plus": plus, "full": full}


def write(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    return tiny.write_safetensors(path, {name: np.ascontiguousarray(array) for name, array in tensors.items()})


def picture(width: int = 50, height: int = 40, seed: int = 7) -> np.ndarray:
    """Coloured squares."""
    coarse = np.random.RandomState(seed).randint(0, 256, (height // 5, width // 5, 3)).astype(np.uint8)
    return np.kron(coarse, np.ones((5, 5, 1), np.uint8))
