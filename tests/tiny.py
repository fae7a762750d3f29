"""Tiny random models of each family, written without torch: what the plain tests run on.

Names and shapes stand in `goldens/tiny_shapes.json` (written by oracle/write_goldens.py from the reference libraries); values
follow from the names alone, so that the references can be given the same ones.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np

GOLDENS = Path(__file__).parent / "goldens"
NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
_SAFETENSORS_TYPES = {"f4": "F32", "f2": "F16", "u2": "BF16", "u1": "F8_E4M3", "i8": "I64"}


def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random f32 weights of sensible size, always the same for the same name."""
    normal = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith("running_var"):
        return np.abs(normal) + np.float32(0.5)
    if len(shape) >= 2:
        return normal / np.float32(np.sqrt(np.prod(shape[1:])))
    return normal * np.float32(0.1) + np.float32("norm" in name and name.endswith("weight"))


def shapes() -> dict[str, dict[str, tuple[int, ...]]]:
    raw = json.loads((GOLDENS / "tiny_shapes.json").read_text())
    return {part: {name: tuple(shape) for name, shape in tensors.items()} for part, tensors in raw["tensors"].items()}


def configs() -> dict[str, dict]:
    return json.loads((GOLDENS / "tiny_shapes.json").read_text())["configs"]


def write_safetensors(path: Path, tensors: dict, metadata: dict[str, str] | None = None) -> Path:
    """The arrays unchanged; uint16 stands for BF16 and uint8 for F8_E4M3. A pair is another type and an array."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, array in tensors.items():
        kind, array = array if isinstance(array, tuple) else (_SAFETENSORS_TYPES[array.dtype.str[1:]], array)
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            out.write(np.ascontiguousarray(array[1] if isinstance(array, tuple) else array).tobytes())
    return path


def part(name: str) -> dict[str, np.ndarray]:
    """The tensors of "unet", "vae", "text_encoder" or "taesd" under their diffusers names."""
    return {tensor: values(f"{name}.{tensor}", shape) for tensor, shape in shapes()[name].items()}


_FAMILIES: dict[str, tuple[dict[str, tuple[str, str]], dict[str, object]]] = {  # folder: library, tiny part; scheduler
    "sdxl": (
        {
            "unet": ("diffusers", "xl_unet"),
            "vae": ("diffusers", "vae"),
            "text_encoder": ("transformers", "text_encoder"),
            "text_encoder_2": ("transformers", "xl_text_encoder_2"),
        },
        {**NOISE, "prediction_type": "epsilon"},
    ),
    "z-image": (
        {
            "transformer": ("diffusers", "z_transformer"),
            "vae": ("diffusers", "z_vae"),
            "text_encoder": ("transformers", "z_text_encoder"),
        },
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0},
    ),
    "flux.1": (
        {
            "transformer": ("diffusers", "f_transformer"),
            "vae": ("diffusers", "z_vae"),
            "text_encoder": ("transformers", "text_encoder"),
            "text_encoder_2": ("transformers", "f_text_encoder_2"),
        },
        {
            "_class_name": "FlowMatchEulerDiscreteScheduler",
            "use_dynamic_shifting": True,
            "base_shift": 0.5,
            "max_shift": 1.15,
            "base_image_seq_len": 256,
            "max_image_seq_len": 4096,
            "shift": 3.0,
        },
    ),
    "chroma": (
        {
            "transformer": ("diffusers", "c_transformer"),
            "vae": ("diffusers", "z_vae"),
            "text_encoder": ("transformers", "f_text_encoder_2"),
        },
        {
            "_class_name": "FlowMatchEulerDiscreteScheduler",
            "use_dynamic_shifting": True,
            "base_shift": 0.5,
            "max_shift": 1.15,
            "base_image_seq_len": 256,
            "max_image_seq_len": 4096,
            "shift": 3.0,
        },
    ),
    "sd3": (
        {
            "transformer": ("diffusers", "s_transformer"),
            "vae": ("diffusers", "s_vae"),
            "text_encoder": ("transformers", "s_text_encoder"),
            "text_encoder_2": ("transformers", "xl_text_encoder_2"),
            "text_encoder_3": ("transformers", "s_text_encoder_3"),
        },
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0},
    ),
    "flux.2": (
        {
            "transformer": ("diffusers", "f2_transformer"),
            "vae": ("diffusers", "f2_vae"),
            "text_encoder": ("transformers", "f2_text_encoder"),
        },
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True, "shift": 3.0},
    ),
    "qwen-image": (
        {
            "transformer": ("diffusers", "q_transformer"),
            "vae": ("diffusers", "wan_vae"),
            "text_encoder": ("transformers", "q_text_encoder"),
        },
        {
            "_class_name": "FlowMatchEulerDiscreteScheduler",
            "use_dynamic_shifting": True,
            "base_shift": 0.5,
            "max_shift": 0.9,
            "base_image_seq_len": 256,
            "max_image_seq_len": 8192,
            "shift_terminal": 0.02,
        },
    ),
    "krea-2": (
        {
            "transformer": ("diffusers", "k_transformer"),
            "vae": ("diffusers", "wan_vae"),
            "text_encoder": ("transformers", "k_text_encoder"),
        },
        {
            "_class_name": "FlowMatchEulerDiscreteScheduler",
            "use_dynamic_shifting": True,
            "base_shift": 0.5,
            "max_shift": 1.15,
            "base_image_seq_len": 256,
            "max_image_seq_len": 6400,
        },
    ),
}


def write_family(folder: Path, family: str, convert=lambda array: array) -> Path:
    """A model of a family in `_FAMILIES` as a diffusers folder; `convert` as in `write_folder`."""
    parts, scheduler = _FAMILIES[family]
    for name, (library, tiny_part) in parts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        stem = "model" if library == "transformers" else "diffusion_pytorch_model"
        tensors = {key: convert(array) if array.ndim > 1 else array for key, array in part(tiny_part).items()}
        write_safetensors(folder / name / f"{stem}.safetensors", tensors)
        (folder / name / "config.json").write_text(json.dumps(configs().get(tiny_part, {})))
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    index = {name: [library, "Network"] for name, (library, _) in parts.items()}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def write_folder(folder: Path, prediction_type: str = "epsilon", convert=lambda array: array) -> Path:
    """The model as a diffusers folder; `convert` is applied to every array of two or more dimensions."""
    index = {"_class_name": "StableDiffusionPipeline"}
    for name, library in (("unet", "diffusers"), ("vae", "diffusers"), ("text_encoder", "transformers")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        stem = "model" if name == "text_encoder" else "diffusion_pytorch_model"
        tensors = {key: convert(array) if array.ndim > 1 else array for key, array in part(name).items()}
        write_safetensors(folder / name / f"{stem}.safetensors", tensors)
        (folder / name / "config.json").write_text(json.dumps(configs()[name]))
        index[name] = [library, "Network"]
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**NOISE, "prediction_type": prediction_type}))
    (folder / "model_index.json").write_text(json.dumps(index))
    write_safetensors(folder / "taesd.safetensors", part("taesd"))
    return folder


def rename(tensors, pairs):
    out = {}
    for name, array in tensors.items():
        for old, new in pairs:
            name = name.replace(old, new)
        out[name] = array
    return out


def fused(tensors, q, names, joined):
    """q, k and v as one tensor, as original checkpoints have them."""
    out = {}
    for name, array in tensors.items():
        if q in name:
            parts = [tensors[name.replace(q, other)] for other in names]
            out[name.replace(q, joined)] = np.concatenate(parts)
        elif not any(other in name for other in names):
            out[name] = array
    return out


OPEN_CLIP = [
    ("text_model.", ""),
    ("embeddings.token_embedding", "token_embedding"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("encoder.layers", "transformer.resblocks"),
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
    ("self_attn", "attn"),
    ("final_layer_norm", "ln_final"),
]


def open_clip(tensors):
    tensors = rename(tensors, OPEN_CLIP)
    for end, joined in (("_proj.weight", "in_proj_weight"), ("_proj.bias", "in_proj_bias")):
        names = [f"attn.{letter}{end}" for letter in "qkv"]
        tensors = fused(tensors, names[0], names, f"attn.{joined}")
    if "text_projection.weight" in tensors:
        tensors["text_projection"] = np.ascontiguousarray(tensors.pop("text_projection.weight").T)
    return tensors


BLACK_FOREST = [
    ("time_text_embed.timestep_embedder.linear_1", "time_in.in_layer"),
    ("time_text_embed.timestep_embedder.linear_2", "time_in.out_layer"),
    ("time_text_embed.guidance_embedder.linear_1", "guidance_in.in_layer"),
    ("time_text_embed.guidance_embedder.linear_2", "guidance_in.out_layer"),
    ("time_text_embed.text_embedder.linear_1", "vector_in.in_layer"),
    ("time_text_embed.text_embedder.linear_2", "vector_in.out_layer"),
    ("context_embedder", "txt_in"),
    ("x_embedder", "img_in"),
    ("norm_out.linear", "final_layer.adaLN_modulation.1"),
    ("single_transformer_blocks", "single_blocks"),
    ("transformer_blocks", "double_blocks"),
    ("norm1_context.linear", "txt_mod.lin"),
    ("norm1.linear", "img_mod.lin"),
    ("ff_context.net.0.proj", "txt_mlp.0"),
    ("ff_context.net.2", "txt_mlp.2"),
    ("ff.net.0.proj", "img_mlp.0"),
    ("ff.net.2", "img_mlp.2"),
    ("attn.to_out.0", "img_attn.proj"),
    ("attn.to_add_out", "txt_attn.proj"),
    ("attn.norm_added_q.weight", "txt_attn.norm.query_norm.scale"),
    ("attn.norm_added_k.weight", "txt_attn.norm.key_norm.scale"),
]


def black_forest(tensors):
    """FLUX.1's transformer in its original naming, which fuses, and has the last shift before the last scale."""
    tensors = rename(tensors, BLACK_FOREST)
    out = {}
    for name, array in tensors.items():
        if name.startswith("single_blocks."):
            name = name.replace("norm.linear", "modulation.lin").replace("proj_out", "linear2")
            for letter, whole in (("q", "query"), ("k", "key")):
                name = name.replace(f"attn.norm_{letter}.weight", f"norm.{whole}_norm.scale")
        elif name.startswith("double_blocks."):
            for letter, whole in (("q", "query"), ("k", "key")):
                name = name.replace(f"attn.norm_{letter}.weight", f"img_attn.norm.{whole}_norm.scale")
        elif name.startswith("final_layer."):
            scale, shift = np.split(array, 2)
            array = np.concatenate([shift, scale])
        else:
            name = name.replace("proj_out", "final_layer.linear")
        out[name] = array
    for end in ("weight", "bias"):
        single = [f"attn.to_{letter}.{end}" for letter in "qkv"] + [f"proj_mlp.{end}"]
        blocks = {name: array for name, array in out.items() if name.startswith("single_blocks.")}
        rest = {name: array for name, array in out.items() if name not in blocks}
        text = [f"attn.add_{letter}_proj.{end}" for letter in "qkv"]
        picture = single[:3]
        rest = fused(fused(rest, text[0], text, f"txt_attn.qkv.{end}"), picture[0], picture, f"img_attn.qkv.{end}")
        out = rest | fused(blocks, single[0], single, f"linear1.{end}")
    return out


def widened(weight: np.ndarray, channels: int) -> np.ndarray:
    """The first convolution of the same network with further input channels."""
    out, own, *kernel = weight.shape
    return np.concatenate([weight, values("conv_in.more", (out, channels - own, *kernel))], 1)


def write_wide_folder(folder: Path, channels: int) -> Path:
    """The model as a diffusers folder, its UNet with so many input channels."""
    write_folder(folder)
    tensors = part("unet")
    tensors["conv_in.weight"] = widened(tensors["conv_in.weight"], channels)
    write_safetensors(folder / "unet" / "diffusion_pytorch_model.safetensors", tensors)
    config = {**configs()["unet"], "in_channels": channels}
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    return folder
