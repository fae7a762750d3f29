"""How released models' files are laid out, as hollow files, and what the package has to make of each.

`LAYOUTS` has a row a layout. `python tests/layouts.py FOLDER [NAME…]` writes them and says what becomes of each.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import hollow
import numpy as np
import released as r
import tiny

Files = dict[str, Any]  # arguments of Pipeline


@dataclass(frozen=True)
class Layout:
    name: str
    what: str
    write: Callable[[Path], Files]
    family: str = ""  #: the family that it opens as; "" if it is refused
    missing: tuple[str, ...] = ()  #: components that it lacks, nevertheless
    refusal: str = ""  #: a regular expression in the message
    unused: int = 0  #: tensors that have no use
    late: bool = False  #: it opens, for its networks to be run alone, and is refused when a picture is wanted
    stored: dict[str, str] = field(default_factory=dict)  #: canonical names and types to be found in a listing


LAYOUTS: list[Layout] = []


def layout(what: str, **facts: Any) -> Callable[[Callable[[Path], Files]], Callable[[Path], Files]]:
    """Add a row; the function writes its files into a folder."""

    def add(write: Callable[[Path], Files]) -> Callable[[Path], Files]:
        LAYOUTS.append(Layout(write.__name__, what, write, **facts))
        return write

    return add


def typed(shapes: Mapping[str, tuple[int, ...]], kind: str = "F16", vectors: str | None = None) -> dict:
    """Tensors of a type, those of one side of another."""
    ids = {"position_ids": "I64"}
    return {
        name: (ids.get(name.rpartition(".")[2], kind if len(shape) > 1 else vectors or kind), shape)
        for name, shape in shapes.items()
    }


# Files of several parts -------------------------------------------------------------------------------------------------------

UNET, VAE = "model.diffusion_model.", "first_stage_model."
SCHEDULE = [
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
]


def clip_l() -> dict:
    return r.under("cond_stage_model.transformer.", r.clip(*r.CLIP_L))


def without_ids(shapes: Mapping) -> dict:
    return {name: shape for name, shape in shapes.items() if "position_ids" not in name}


def sd1(unet: dict | None = None) -> dict:
    return r.under(UNET, unet or r.sd1_unet()) | r.under(VAE, r.vae()) | clip_l()


def sdxl(unet: dict | None = None) -> dict:
    return (
        r.under(UNET, unet or r.sdxl_unet())
        | r.under(VAE, r.vae())
        | r.under("conditioner.embedders.0.transformer.", r.clip(*r.CLIP_L))
        | r.under("conditioner.embedders.1.model.", r.open_clip(*r.CLIP_G))
    )


def sd2(text: str = "cond_stage_model.model.", **unet: int) -> dict:
    return r.under(UNET, r.sd2_unet(**unet)) | r.under(VAE, r.vae()) | r.under(text, r.open_clip(*r.CLIP_H))


def buffers() -> dict:
    return {name: ("F32", (1000,)) for name in SCHEDULE}


def averages() -> dict:
    names = {
        "model_ema." + name.replace(".", ""): ("F32", shape) for name, shape in r.under("diffusion_model.", r.sd1_unet()).items()
    }
    return names | {"model_ema.decay": ("F32", ()), "model_ema.num_updates": ("I64", ())}


def one(folder: Path, shapes: Mapping, kind: str = "F16", more: Mapping | None = None, **rest: Any) -> Files:
    return {"model": hollow.safetensors(folder / "model.safetensors", {**typed(shapes, kind), **(more or {})}, **rest)}


# Stable Diffusion 1.x ---------------------------------------------------------------------------------------------------------


@layout("v1-5-pruned-emaonly: f32, buffers, position_ids", family="sd1")
def sd15_pruned_emaonly(folder: Path) -> Files:
    return one(folder, sd1(), "F32", buffers())


@layout("a fine-tune as web UIs save it: f16, no buffers", family="sd1")
def sd15_fp16_community(folder: Path) -> Files:
    return one(folder, sd1())


@layout("merged files whose position_ids became floats", family="sd1")
def sd15_position_ids_float(folder: Path) -> Files:
    return one(folder, sd1(), more={"cond_stage_model.transformer.text_model.embeddings.position_ids": ("F16", (1, 77))})


@layout("sd-scripts: no position_ids, metadata", family="sd1")
def sd15_kohya(folder: Path) -> Files:
    return one(folder, without_ids(sd1()), metadata={"modelspec.architecture": "stable-diffusion-v1", "modelspec.title": "☃"})


@layout("v1-5-pruned: weights and their average", family="sd1")
def sd15_full_ema(folder: Path) -> Files:
    return one(folder, sd1(), "F32", buffers() | averages())


@layout("merges of 2022: CLIP-L without text_model", family="sd1")
def sd15_old_clip_names(folder: Path) -> Files:
    return one(folder, r.renamed(sd1(), (r"transformer\.text_model\.", "transformer.")))


def lightning_extras() -> bytes:
    """What PyTorch Lightning writes beside the weights: callbacks by their class, numbers of numpy, sets, objects."""
    checkpoint = b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n"
    state = checkpoint + b"}(" + hollow.pickled("best_model_score") + hollow.pickled(np.float32(0.1)) + b"u"
    thing = checkpoint + b")\x81}(" + hollow.pickled("monitor") + b"Nub"
    moments = hollow.torch_tensor("0", "F32", (320, 4, 3, 3))
    out = hollow.pickled("callbacks") + b"}(" + state + b"u" + hollow.pickled("object") + thing
    out += hollow.pickled("global_step") + hollow.pickled(2**80)
    out += hollow.pickled("lr") + hollow.pickled({"a": np.float64(1e-4), "set": {1, 2}, "bytes": b"\x00\xff", "x": 3.5})
    return out + hollow.pickled("optimizer_states") + b"](}(" + hollow.pickled("exp_avg") + moments + b"ue"


@layout("sd-v1-4.ckpt: PyTorch Lightning's, with callbacks and numpy's numbers beside", family="sd1")
def sd14_lightning_ckpt(folder: Path) -> Files:
    tensors = typed(sd1(), "F32") | buffers() | averages()
    return {"model": hollow.torch_zip(folder / "sd-v1-4.ckpt", tensors, lightning_extras())}


@layout("a pruned .ckpt", family="sd1")
def sd15_plain_ckpt(folder: Path) -> Files:
    return {"model": hollow.torch_zip(folder / "pruned.ckpt", typed(sd1()))}


@layout("pruned without its VAE", family="sd1", missing=("vae",))
def sd15_without_vae(folder: Path) -> Files:
    return one(folder, {name: shape for name, shape in sd1().items() if not name.startswith(VAE)})


@layout("with vae-ft-mse-840000-ema-pruned", family="sd1")
def sd15_other_vae(folder: Path) -> Files:
    return one(folder, sd1()) | {"vae": hollow.safetensors(folder / "vae-ft-mse.safetensors", typed(r.vae(), "F32"))}


@layout("with taesd_decoder", family="sd1")
def sd15_taesd(folder: Path) -> Files:
    return one(folder, sd1()) | {"taesd": hollow.safetensors(folder / "taesd_decoder.safetensors", typed(r.taesd_decoder()))}


@layout("with a VAE .ckpt that carries its losses and its average", family="sd1")
def sd15_kl_f8_ckpt_vae(folder: Path) -> Files:
    vae = typed(r.vae(), "F32") | {"loss.logvar": ("F32", ()), "loss.discriminator.main.0.weight": ("F32", (64, 3, 4, 4))}
    vae |= {"model_ema.decay": ("F32", ()), "model_ema.num_updates": ("I64", ()), "model_ema.decoderconv_inbias": ("F32", (512,))}
    return one(folder, sd1()) | {"vae": hollow.torch_zip(folder / "kl-f8.vae.pt", vae)}


def component(folder: Path, shapes: Mapping, file: str, config: Mapping | None = None, kind: str = "F16") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if file.endswith(".bin"):
        hollow.torch_zip(folder / file, typed(shapes, kind), wrapped=None)
    else:
        hollow.safetensors(folder / file, typed(shapes, kind))
    (folder / "config.json").write_text(json.dumps(config or {}))


def sharded(folder: Path, shapes: Mapping, index: str, shard: str, count: int, config: Mapping | None = None) -> None:
    """Shards by a pattern such as "model-{:05}-of-{:05}.safetensors"."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or {}))
    items, weights = list(shapes.items()), {}
    for number in range(count):
        name, own = shard.format(number + 1, count), dict(items[number::count])
        if name.endswith(".bin"):
            hollow.torch_zip(folder / name, typed(own), wrapped=None)
        else:
            hollow.safetensors(folder / name, typed(own))
        weights |= dict.fromkeys(own, name)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weights}))


def index_of(folder: Path, pipeline: str, parts: Mapping[str, str], scheduler: Mapping[str, Any]) -> Files:
    libraries = {name: [library, "Network"] for name, library in parts.items()}
    others = {"scheduler": ["diffusers", "Scheduler"], "safety_checker": [None, None]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline, **libraries, **others}))
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return {"model": folder}


SD_PARTS = {"unet": "diffusers", "vae": "diffusers", "text_encoder": "transformers"}
VAE_CONFIG = {"scaling_factor": 0.18215}


def sd15_folder(folder: Path, weights: str, text: str, old: bool = False) -> Files:
    component(folder / "unet", r.packaged("sd1"), weights, {"cross_attention_dim": 768})
    component(folder / "vae", r.vae_of_diffusers(old=old), weights.replace(".non_ema", ""), VAE_CONFIG)
    component(folder / "text_encoder", r.clip(*r.CLIP_L), text)
    return index_of(folder, "StableDiffusionPipeline", SD_PARTS, tiny.NOISE)


@layout("stable-diffusion-v1-5 as diffusers keeps it, old names in the VAE", family="sd1")
def sd15_diffusers_folder(folder: Path) -> Files:
    return sd15_folder(folder, "diffusion_pytorch_model.safetensors", "model.safetensors", old=True)


@layout("the fp16 variant alone", family="sd1")
def sd15_diffusers_fp16_folder(folder: Path) -> Files:
    return sd15_folder(folder, "diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors")


@layout("a folder of 2022 with .bin files only", family="sd1")
def sd15_diffusers_bin_folder(folder: Path) -> Files:
    return sd15_folder(folder, "diffusion_pytorch_model.bin", "pytorch_model.bin", old=True)


@layout("the same, the fp16 variant", family="sd1")
def sd15_diffusers_fp16_bin_folder(folder: Path) -> Files:
    return sd15_folder(folder, "diffusion_pytorch_model.fp16.bin", "pytorch_model.fp16.bin")


@layout("only *.non_ema.safetensors in unet/", family="sd1")
def sd15_diffusers_non_ema(folder: Path) -> Files:
    return sd15_folder(folder, "diffusion_pytorch_model.non_ema.safetensors", "model.safetensors")


@layout("shards of .bin with their index", family="sd1")
def sd15_diffusers_bin_shards(folder: Path) -> Files:
    files = sd15_folder(folder, "diffusion_pytorch_model.bin", "pytorch_model.bin")
    (folder / "unet" / "diffusion_pytorch_model.bin").unlink()
    stem = "diffusion_pytorch_model"
    sharded(folder / "unet", r.packaged("sd1"), f"{stem}.bin.index.json", stem + "-{:05}-of-{:05}.bin", 2)
    return files


@layout("a checkpoint with a VAE and a text encoder given as folders", family="sd1")
def sd15_parts_as_folders(folder: Path) -> Files:
    other = sd15_folder(folder / "other", "diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors")["model"]
    return one(folder, sd1()) | {"vae": other / "vae", "text_encoders": other / "text_encoder"}


@layout("a checkpoint with a whole diffusers model given as its VAE", family="sd1")
def sd15_vae_of_a_whole_folder(folder: Path) -> Files:
    other = sd15_folder(folder / "other", "diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors")["model"]
    return one(folder, sd1()) | {"vae": other}


@layout("a checkpoint whose VAE is that of another whole checkpoint", family="sd1")
def sd15_vae_of_a_checkpoint(folder: Path) -> Files:
    return one(folder, sd1()) | {"vae": hollow.safetensors(folder / "other.safetensors", typed(sd1()))}


def quantized(shapes: Mapping, kind: str, keep: Callable[[str], bool] = lambda name: False) -> dict:
    """As stable-diffusion.cpp converts: matrices of whole rows quantized, the rest f16 and f32."""
    block = hollow.GGML[kind][1]
    out = {}
    for name, shape in shapes.items():
        whole = len(shape) == 2 and shape[1] % block == 0 and not keep(name)
        out[name] = (kind if whole else "F16" if len(shape) > 1 else "F32", shape or (1,))
    return out


def city96(shapes: Mapping, kind: str) -> tuple[dict, dict]:
    """As city96's tool converts: everything of 1024 values and more quantized, in rows of whole blocks."""
    block, out, true = hollow.GGML[kind][1], {}, {}
    for name, shape in shapes.items():
        count = math.prod(shape)
        if len(shape) < 2 or count < 1024 or count % block:
            out[name] = ("F32", shape)
        elif shape[-1] % block:
            out[name] = (kind, (count // 256, 256))
            true[f"comfy.gguf.orig_shape.{name}"] = list(shape)
        else:
            out[name] = (kind, shape)
    return out, true


@layout("Q4_0 of stable-diffusion.cpp's convert: no metadata, names as in the checkpoint", family="sd1")
def sd15_gguf_sdcpp(folder: Path) -> Files:
    return {"model": hollow.gguf(folder / "v1-5-pruned_Q4_0.gguf", quantized(without_ids(sd1()), "q4_0"))}


def city96_unet(folder: Path, shapes: Mapping, kind: str, architecture: str) -> Files:
    tensors, true = city96(shapes, kind)
    return {"diffusion_model": hollow.gguf(folder / "unet.gguf", tensors, {"general.architecture": architecture} | true)}


def text_files(folder: Path, *which: str, kind: str = "F16") -> list[Path]:
    known = {
        "clip_l": lambda: r.clip(*r.CLIP_L),
        "clip_g": lambda: r.clip(*r.CLIP_G, projected=True),
        "t5xxl": r.t5,
        "qwen": r.qwen3_4b,
        "qwen3vl_4b": r.qwen3_vl_4b,
        "qwen_2.5_vl_7b": r.qwen2_vl_7b,
    }
    return [hollow.safetensors(folder / f"{name}.safetensors", typed(known[name](), kind)) for name in which]


def vae_file(folder: Path, channels: int = 4, quantized: bool = True) -> Path:
    return hollow.safetensors(folder / "vae.safetensors", typed(r.vae(channels, quantized)))


@layout("a UNet alone in city96's GGUF (q4_K, rows laid out as 256), CLIP-L and VAE beside", family="sd1")
def sd15_gguf_city96_unet(folder: Path) -> Files:
    files = city96_unet(folder, r.sd1_unet(), "q4_K", "sd1")
    return files | {"text_encoders": text_files(folder, "clip_l"), "vae": vae_file(folder)}


# Stable Diffusion 2.x ---------------------------------------------------------------------------------------------------------


@layout("v2-1_768-ema-pruned: buffers, model_ema.decay, open_clip's names", family="sd2")
def sd21_768(folder: Path) -> Files:
    return one(folder, sd2(), "F32", buffers() | {"model_ema.decay": ("F32", ()), "model_ema.num_updates": ("I64", ())})


@layout("wd-1-5: 23 layers, no projection", family="sd2")
def waifu_diffusion_15(folder: Path) -> Files:
    text = r.under("cond_stage_model.model.", r.open_clip(1024, 23, projected=False))
    return one(folder, r.under(UNET, r.sd2_unet()) | r.under(VAE, r.vae()) | text)


@layout("sd_turbo: SD 2.1's networks in sgm's names", family="sd2")
def sd_turbo(folder: Path) -> Files:
    return one(folder, sd2("conditioner.embedders.0.model."))


@layout("an older stable-diffusion.cpp's GGUF: CLIP-H as cond_stage_model.transformer.text_model.*", family="sd2")
def sd21_gguf_sdcpp(folder: Path) -> Files:
    text = without_ids(r.clip(*r.CLIP_H)) | {"text_model.text_projection": (1024, 1024)}
    shapes = r.under(UNET, r.sd2_unet()) | r.under(VAE, r.vae()) | r.under("cond_stage_model.transformer.", text)
    return {"model": hollow.gguf(folder / "sd21-q4_0.gguf", quantized(shapes, "q4_0"))}


@layout("stable-diffusion-2-1: 23 layers in transformers' names", family="sd2")
def sd21_diffusers_folder(folder: Path) -> Files:
    weights = "diffusion_pytorch_model.fp16.safetensors"
    component(
        folder / "unet", r.sd2_unet_of_diffusers(), weights, {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20]}
    )
    component(folder / "vae", r.vae_of_diffusers(), weights, VAE_CONFIG)
    component(folder / "text_encoder", r.clip(1024, 23), "model.fp16.safetensors", {"hidden_act": "gelu"})
    return index_of(folder, "StableDiffusionPipeline", SD_PARTS, tiny.NOISE | {"prediction_type": "v_prediction"})


# Stable Diffusion XL ----------------------------------------------------------------------------------------------------------


@layout("sd_xl_base_1.0", family="sdxl")
def sdxl_base(folder: Path) -> Files:
    return one(folder, sdxl())


@layout("saved by ComfyUI: ids of both encoders, denoiser.sigmas, a projection as a linear layer's", family="sdxl")
def sdxl_comfy_saved(folder: Path) -> Files:
    shapes = sdxl()
    del shapes["conditioner.embedders.1.model.text_projection"]
    shapes |= {"conditioner.embedders.1.model.text_projection.weight": (1280, 1280), "denoiser.sigmas": (1000,)}
    shapes |= {"conditioner.embedders.1.model.transformer.text_model.embeddings.position_ids": (1, 77)}
    return one(folder, shapes | {"conditioner.embedders.0.logit_scale": ()})


@layout("sd-scripts: no position_ids, logit_scale kept", family="sdxl")
def sdxl_kohya(folder: Path) -> Files:
    return one(folder, without_ids(sdxl()))


@layout("NoobAI-XL v-pred: empty tensors v_pred and ztsnr", family="sdxl")
def sdxl_vpred_marks(folder: Path) -> Files:
    return one(folder, sdxl(), more={"v_pred": ("F32", (0,)), "ztsnr": ("F32", (0,))})


@layout("a plain f8 checkpoint, norms too", family="sdxl")
def sdxl_fp8(folder: Path) -> Files:
    return one(folder, sdxl(), "F8_E4M3")


@layout("a UNet alone in city96's GGUF, CLIP-L, CLIP-G and VAE beside", family="sdxl")
def sdxl_gguf_city96_unet(folder: Path) -> Files:
    files = city96_unet(folder, r.sdxl_unet(), "q4_K", "sdxl")
    return files | {"text_encoders": text_files(folder, "clip_l", "clip_g"), "vae": vae_file(folder)}


@layout("the same with q8_0", family="sdxl")
def sdxl_gguf_city96_q8(folder: Path) -> Files:
    files = city96_unet(folder, r.sdxl_unet(), "q8_0", "sdxl")
    return files | {"text_encoders": text_files(folder, "clip_l", "clip_g"), "vae": vae_file(folder)}


@layout("Q4_0 of stable-diffusion.cpp: names as in the checkpoint", family="sdxl")
def sdxl_gguf_sdcpp_new(folder: Path) -> Files:
    return {"model": hollow.gguf(folder / "sd_xl_base_1.0_0_Q4_0.gguf", quantized(without_ids(sdxl()), "q4_0"))}


@layout("an older converter's: CLIP-G as cond_stage_model.1.transformer.text_model.*", family="sdxl")
def sdxl_gguf_sdcpp_old(folder: Path) -> Files:
    shapes = r.under(UNET, r.sdxl_unet()) | r.under(VAE, r.vae()) | without_ids(clip_l())
    big = without_ids(r.clip(*r.CLIP_G)) | {"text_model.text_projection": (1280, 1280)}
    shapes |= r.under("cond_stage_model.1.transformer.", big)
    return {"model": hollow.gguf(folder / "sdxl-turbo-Q4_0.gguf", quantized(shapes, "q4_0"))}


@layout("sdxl_lightning_4step_unet (diffusers' names) in place of the base's UNet", family="sdxl")
def sdxl_lightning_unet(folder: Path) -> Files:
    unet = hollow.safetensors(folder / "sdxl_lightning_4step_unet.safetensors", typed(r.packaged("sdxl")))
    return one(folder, sdxl()) | {"diffusion_model": unet}


@layout("with a whole CLIP-L (vision tower, logit_scale) and CLIP-G as text encoders", family="sdxl")
def sdxl_other_clips(folder: Path) -> Files:
    whole = hollow.safetensors(folder / "ViT-L-14.safetensors", typed(r.clip(*r.CLIP_L) | r.vision_tower()))
    return one(folder, sdxl()) | {"text_encoders": [whole, *text_files(folder, "clip_g")]}


def sdxl_folder(folder: Path) -> Files:
    weights = "diffusion_pytorch_model.fp16.safetensors"
    component(folder / "unet", r.packaged("sdxl"), weights, {"cross_attention_dim": 2048})
    component(folder / "vae", r.vae_of_diffusers(), weights, {"scaling_factor": 0.13025})
    component(folder / "text_encoder", r.clip(*r.CLIP_L), "model.fp16.safetensors")
    component(folder / "text_encoder_2", r.clip(*r.CLIP_G, projected=True), "model.fp16.safetensors")
    return index_of(folder, "StableDiffusionXLPipeline", SD_PARTS | {"text_encoder_2": "transformers"}, tiny.NOISE)


@layout("stable-diffusion-xl-base-1.0, the fp16 variant", family="sdxl")
def sdxl_diffusers_folder(folder: Path) -> Files:
    return sdxl_folder(folder)


def sdxl_shards(folder: Path, index: str, shard: str) -> Files:
    files = sdxl_folder(folder)
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    sharded(folder / "unet", r.packaged("sdxl"), index, shard, 2, {"cross_attention_dim": 2048})
    return files


@layout("fp16 in shards, the index named as diffusers >= 0.31 does", family="sdxl")
def sdxl_diffusers_fp16_shards_new(folder: Path) -> Files:
    stem = "diffusion_pytorch_model"
    return sdxl_shards(folder, f"{stem}.safetensors.index.fp16.json", stem + ".fp16-{:05}-of-{:05}.safetensors")


@layout("fp16 in shards, the index named as diffusers < 0.31 did", family="sdxl")
def sdxl_diffusers_fp16_shards_old(folder: Path) -> Files:
    stem = "diffusion_pytorch_model"
    return sdxl_shards(folder, f"{stem}.safetensors.fp16.index.json", stem + "-{:05}-of-{:05}.fp16.safetensors")


@layout("the fp16 variant, with the index of shards that were not downloaded", family="sdxl")
def sdxl_diffusers_half_downloaded(folder: Path) -> Files:
    files = sdxl_folder(folder)
    stem = "diffusion_pytorch_model"
    sharded(folder / "unet", r.packaged("sdxl"), f"{stem}.safetensors.index.json", stem + "-{:05}-of-{:05}.safetensors", 2)
    for path in (folder / "unet").glob("*-of-*"):
        path.unlink()
    return files


@layout("sd_xl_refiner_1.0", family="sdxl-refiner")
def sdxl_refiner(folder: Path) -> Files:
    text = r.under("conditioner.embedders.0.model.", r.open_clip(*r.CLIP_G))
    return one(folder, r.under(UNET, r.refiner_unet()) | r.under(VAE, r.vae()) | text)


def distilled(folder: Path, unet: dict) -> Files:
    shapes = sdxl(unet)
    del shapes["conditioner.embedders.1.model.text_projection"]
    shapes |= {"conditioner.embedders.1.model.text_projection.weight": (1280, 1280)}
    return one(folder, shapes | {"conditioner.embedders.1.model.transformer.text_model.embeddings.position_ids": (1, 77)})


@layout("SSD-1B: no attention in the middle", family="sdxl")
def ssd_1b(folder: Path) -> Files:
    return distilled(folder, r.ssd_1b_unet())


@layout("segmind-vega", family="sdxl")
def segmind_vega(folder: Path) -> Files:
    return distilled(folder, r.vega_unet())


# Z-Image ----------------------------------------------------------------------------------------------------------------------


def qwen(folder: Path) -> Files:
    return {"llm": text_files(folder, "qwen", kind="BF16")[0]}


def z_parts(folder: Path) -> Files:
    return qwen(folder) | {"vae": vae_file(folder, 16, quantized=False)}


@layout("z_image_turbo_bf16 + qwen_3_4b + ae", family="z-image")
def z_image_comfy_parts(folder: Path) -> Files:
    return z_parts(folder) | {"diffusion_model": hollow.safetensors(folder / "z.safetensors", typed(r.z_image(), "BF16"))}


def z_fine_tune() -> dict:
    return typed(r.under(UNET, r.z_image() | {"norm_final.weight": (3840,)}), "BF16")


@layout("a fine-tune: model.diffusion_model.* alone, norm_final left over", family="z-image")
def z_image_prefixed_part(folder: Path) -> Files:
    return z_parts(folder) | {"diffusion_model": hollow.safetensors(folder / "z.safetensors", z_fine_tune())}


@layout("the same fine-tune as the model", family="z-image")
def z_image_prefixed_as_model(folder: Path) -> Files:
    return z_parts(folder) | {"model": hollow.safetensors(folder / "z.safetensors", z_fine_tune())}


@layout("with taef1_decoder", family="z-image")
def z_image_taef1(folder: Path) -> Files:
    small = hollow.safetensors(folder / "taef1_decoder.safetensors", typed(r.taesd_decoder(16)))
    return z_image_comfy_parts(folder) | {"taesd": small}


def z_all_in_one(text: str) -> dict:
    shapes = r.under(UNET, r.z_image()) | r.under(text, r.qwen3_4b()) | r.under("vae.", r.vae(16, quantized=False))
    return shapes | {"text_encoders.qwen3_4b.logit_scale": ()}


@layout("ComfyUI's CheckpointSave: text_encoders.qwen3_4b.transformer.model.*, vae.*", family="z-image")
def z_image_all_in_one(folder: Path) -> Files:
    return one(folder, z_all_in_one("text_encoders.qwen3_4b.transformer."), "BF16")


@layout("the same without `transformer.` in the language model's names", family="z-image")
def z_image_all_in_one_short(folder: Path) -> Files:
    return one(folder, z_all_in_one("text_encoders.qwen3_4b."), "BF16")


def qwen_gguf(folder: Path, own_names: bool, kind: str, more: Mapping[str, str] = MappingProxyType({})) -> Path:
    shapes = r.qwen3_4b() if own_names else r.of_llama_cpp(r.qwen3_4b())
    metadata = {"general.architecture": "qwen3", "qwen3.attention.head_count": "32", **more}
    return hollow.gguf(folder / "qwen.gguf", quantized(shapes, kind), {} if own_names else metadata)


@layout("a Qwen3 GGUF of a diffusion tool: transformers' names", family="z-image")
def z_image_qwen_gguf_transformers_names(folder: Path) -> Files:
    return z_image_comfy_parts(folder) | {"llm": qwen_gguf(folder, True, "q6_K")}


@layout("Q4_K of stable-diffusion.cpp (flat pad tokens), Qwen3 as llama.cpp's", family="z-image")
def z_image_gguf_leejet(folder: Path) -> Files:
    shapes = r.z_image() | {"x_pad_token": (3840,), "cap_pad_token": (3840,)}
    own = hollow.gguf(folder / "z_image_turbo-Q4_K.gguf", quantized(shapes, "q4_K"))
    return z_parts(folder) | {"diffusion_model": own, "llm": qwen_gguf(folder, False, "q4_K")}


@layout("Q5_K of city96's tool", family="z-image")
def z_image_gguf_city96(folder: Path) -> Files:
    return z_parts(folder) | city96_unet(folder, r.z_image(), "q5_K", "lumina2")


def z_folder(folder: Path) -> Files:
    weights = "diffusion_pytorch_model.safetensors"
    stem = "diffusion_pytorch_model"
    sharded(
        folder / "transformer", r.packaged("z-image"), f"{stem}.safetensors.index.json", stem + "-{:05}-of-{:05}.safetensors", 3
    )
    sharded(folder / "text_encoder", r.qwen3_4b(), "model.safetensors.index.json", "model-{:05}-of-{:05}.safetensors", 3)
    component(
        folder / "vae", r.vae_of_diffusers(16, quantized=False), weights, {"scaling_factor": 0.3611, "shift_factor": 0.1159}
    )
    parts = {"transformer": "diffusers", "vae": "diffusers", "text_encoder": "transformers"}
    return index_of(folder, "ZImagePipeline", parts, {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})


@layout("Z-Image-Turbo's folder: three shards of transformer and text encoder", family="z-image")
def z_image_diffusers_folder(folder: Path) -> Files:
    return z_folder(folder)


@layout("its language model and VAE as folders", family="z-image")
def z_image_parts_as_folders(folder: Path) -> Files:
    other = z_folder(folder / "other")["model"]
    files = z_image_comfy_parts(folder)
    return files | {"llm": other / "text_encoder", "vae": other / "vae", "diffusion_model": other / "transformer"}


def f8(shapes: Mapping, kind: str = "F8_E4M3", rest: str = "BF16") -> dict:
    """Matrices of the blocks in f8."""
    wide = re.compile(r"(layers|blocks)\.\d+\..*weight$")
    return {name: (kind if len(shape) == 2 and wide.search(name) else rest, shape) for name, shape in shapes.items()}


@layout("matrices as plain f8", family="z-image")
def z_image_fp8_plain(folder: Path) -> Files:
    return z_parts(folder) | {"diffusion_model": hollow.safetensors(folder / "z.safetensors", f8(r.z_image()))}


def companions(tensors: Mapping, of: Callable[[str, tuple[int, ...]], Mapping]) -> dict:
    """The tensors with further ones for each matrix in f8; `of` gets its name without ".weight" and its shape."""
    out = dict(tensors)
    for name, (kind, shape) in tensors.items():
        if kind.startswith("F8") or kind in ("I8", "U8"):
            out |= of(name.removesuffix(".weight"), shape)
    return out


@layout("scaled f8, first convention: *.scale_weight and the mark scaled_fp8", family="z-image")
def z_image_fp8_scaled_old(folder: Path) -> Files:
    tensors = companions(f8(r.z_image()), lambda x, _: {f"{x}.scale_weight": ("F32", ()), f"{x}.scale_input": ("F32", ())})
    own = hollow.safetensors(folder / "z.safetensors", tensors | {"scaled_fp8": ("F8_E4M3", (2,))})
    return z_parts(folder) | {"diffusion_model": own}


def written_with(folder: Path, name: str, tensors: Mapping, mark: Mapping[str, Any], in_metadata: bool = False) -> Path:
    """A file with ComfyUI's mark on each matrix that has a scale, as a tensor or in the metadata."""
    ends = (".weight_scale", ".weight_s_rel")
    layers = [end.rpartition(".")[0] for end in tensors if end.endswith(ends)]
    if in_metadata:
        metadata = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": dict.fromkeys(layers, mark)})}
        return hollow.safetensors(folder / name, tensors, metadata)
    text = json.dumps(mark).encode()
    marks = {f"{x}.comfy_quant": ("U8", (len(text),)) for x in layers}
    return hollow.safetensors(folder / name, {**tensors, **marks}, contents=dict.fromkeys(marks, text))


def scaled(x: str, _: object) -> dict:
    return {f"{x}.weight_scale": ("F32", ()), f"{x}.input_scale": ("F32", ())}


@layout("scaled f8, second convention: *.weight_scale, *.comfy_quant", family="z-image")
def z_image_fp8_scaled_new(folder: Path) -> Files:
    tensors = companions(f8(r.z_image()), scaled)
    return z_parts(folder) | {"diffusion_model": written_with(folder, "z.safetensors", tensors, {"format": "float8_e4m3fn"})}


@layout("the language model in that convention", family="z-image")
def qwen_fp8_scaled(folder: Path) -> Files:
    tensors = companions(f8(r.qwen3_4b()), scaled)
    language = written_with(folder, "qwen_fp8.safetensors", tensors, {"format": "float8_e4m3fn"})
    return z_image_comfy_parts(folder) | {"llm": language}


@layout("Qwen3-4B-FP8: a scale for 128 x 128 values", family="z-image")
def qwen_fp8_official(folder: Path) -> Files:
    def blocks(x: str, shape: tuple[int, ...]) -> dict:
        return {f"{x}.weight_scale_inv": ("BF16", (-(-shape[0] // 128), -(-shape[1] // 128)))}

    tensors = companions(f8(r.qwen3_4b()), blocks)
    return z_image_comfy_parts(folder) | {"llm": hollow.safetensors(folder / "qwen_fp8.safetensors", tensors)}


# Packed weights ---------------------------------------------------------------------------------------------------------------

CONVROT = {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 256}


def up(side: int, to: int) -> int:
    return -(-side // to) * to


def tiles(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """The shape of scales of blocks in tiles of 128 x 4."""
    return up(shape[0], 128), up(-(-shape[1] // side), 4)


def packed(shapes: Mapping, of: Callable[[str, tuple[int, ...]], Mapping]) -> dict:
    """The blocks' matrices as `of` makes them from a name without ".weight" and a shape, the rest in bf16."""
    out: dict[str, Any] = {}
    for name, (kind, shape) in f8(shapes).items():
        out |= {name: (kind, shape)} if kind == "BF16" else of(name.removesuffix(".weight"), shape)
    return out


def int8_rows(x: str, shape: tuple[int, ...]) -> dict:
    return {f"{x}.weight": ("I8", shape), f"{x}.weight_scale": ("F32", (shape[0], 1))}


def nvfp4_tiled(x: str, shape: tuple[int, ...]) -> dict:
    more = {f"{x}.weight_scale_2": ("F32", ()), f"{x}.weight_scale": ("F8_E4M3", tiles(shape, 16))}
    return {f"{x}.weight": ("U8", (shape[0], shape[1] // 2))} | more


def nvfp4_plain(x: str, shape: tuple[int, ...]) -> dict:
    more = {f"{x}.weight_scale_2": ("F32", ()), f"{x}.weight_scale": ("F8_E4M3", (shape[0], shape[1] // 16))}
    return {f"{x}.weight": ("U8", (shape[0], shape[1] // 2)), f"{x}.input_scale": ("F32", ())} | more


def w4a8(x: str, shape: tuple[int, ...]) -> dict:
    more = {f"{x}.weight_s_rel": ("F8_E4M3", (shape[0], shape[1] // 16)), f"{x}.weight_s_channel": ("F32", (shape[0],))}
    return {f"{x}.weight": ("I8", (shape[0], shape[1] // 2)), f"{x}.weight_codebook": ("F32", (16,))} | more


@layout("z_image_turbo_int8_convrot: rows of int8 with a scale each, rotated, *.comfy_quant", family="z-image")
def z_image_int8_convrot(folder: Path) -> Files:
    return z_parts(folder) | {"diffusion_model": written_with(folder, "z.safetensors", packed(r.z_image(), int8_rows), CONVROT)}


@layout("z_image_turbo_nvfp4: two values a byte, tiled scales of 16, marks in the metadata", family="z-image")
def z_image_nvfp4(folder: Path) -> Files:
    tensors = packed(r.z_image(), nvfp4_tiled)
    return z_parts(folder) | {"diffusion_model": written_with(folder, "z.safetensors", tensors, {"format": "nvfp4"}, True)}


@layout("nvfp4 of ModelOpt: scales in rows, no marks", family="z-image")
def z_image_nvfp4_plain(folder: Path) -> Files:
    return z_parts(folder) | {"diffusion_model": hollow.safetensors(folder / "z.safetensors", packed(r.z_image(), nvfp4_plain))}


@layout("mxfp8: f8 with tiled powers of two for 32 values", family="z-image")
def z_image_mxfp8(folder: Path) -> Files:
    def scales(x: str, shape: tuple[int, ...]) -> dict:
        return {f"{x}.weight": ("F8_E4M3", shape), f"{x}.weight_scale": ("U8", tiles(shape, 32))}

    tensors = packed(r.z_image(), scales)
    return z_parts(folder) | {"diffusion_model": written_with(folder, "z.safetensors", tensors, {"format": "mxfp8"})}


@layout("w4a4: four bits with a scale a row, rotated", family="z-image")
def z_image_w4a4(folder: Path) -> Files:
    def scales(x: str, shape: tuple[int, ...]) -> dict:
        return {f"{x}.weight": ("I8", (shape[0], shape[1] // 2)), f"{x}.weight_scale": ("F32", (shape[0],))}

    mark = {"format": "convrot_w4a4", "convrot_groupsize": 256}
    return z_parts(folder) | {"diffusion_model": written_with(folder, "z.safetensors", packed(r.z_image(), scales), mark)}


@layout("the language model as int8 with ConvRot", family="z-image")
def qwen_int8_convrot(folder: Path) -> Files:
    tensors = packed(r.qwen3_4b(), int8_rows)
    return z_image_comfy_parts(folder) | {"llm": written_with(folder, "qwen_int8.safetensors", tensors, CONVROT)}


@layout("the language model as w4a8", family="z-image")
def qwen_w4a8(folder: Path) -> Files:
    mark = {"format": "asym_w4a8_int8", "group_size": 16, "convrot_groupsize": 256}
    tensors = packed(r.qwen3_4b(), w4a8)
    return z_image_comfy_parts(folder) | {"llm": written_with(folder, "qwen_w4a8.safetensors", tensors, mark)}


def bitsandbytes_4(name: str, shape: tuple[int, ...], kind: str, nested: bool) -> tuple[dict, dict]:
    """The tensors of a packed matrix, and the contents of its state."""
    count = math.prod(shape)
    state = {"quant_type": kind, "blocksize": 64, "dtype": "bfloat16", "shape": list(shape)}
    more = {name: ("U8", (count // 2, 1)), f"{name}.absmax": ("U8" if nested else "F32", (-(-count // 64),))}
    more |= {f"{name}.quant_map": ("F32", (16,))}
    if nested:
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.03}
        more |= {f"{name}.nested_absmax": ("F32", (-(-count // 64 // 256),)), f"{name}.nested_quant_map": ("F32", (256,))}
    text = json.dumps(state).encode()
    mark = f"{name}.quant_state.bitsandbytes__{kind}"
    return more | {mark: ("U8", (len(text),))}, {mark: text}


def with_bitsandbytes_4(path: Path, shapes: Mapping, kind: str, nested: bool) -> Path:
    """Matrices of blocks in four bits, the rest in f16."""
    tensors: dict[str, Any] = {}
    contents: dict[str, bytes] = {}
    for name, (own, shape) in typed(shapes).items():
        tensors[name] = (own, shape)
        if len(shape) == 2 and re.search(r"blocks\.\d+\..*\.weight$", name):
            parts, text = bitsandbytes_4(name, shape, kind, nested)
            tensors |= parts
            contents |= text
    return hollow.safetensors(path, tensors, contents=contents)


@layout("an nf4 checkpoint of bitsandbytes, its scales packed, too", family="sdxl")
def sdxl_bnb_nf4(folder: Path) -> Files:
    return {"model": with_bitsandbytes_4(folder / "model.safetensors", sdxl(), "nf4", True)}


@layout("fp4 of bitsandbytes", family="sdxl")
def sdxl_bnb_fp4(folder: Path) -> Files:
    return {"model": with_bitsandbytes_4(folder / "model.safetensors", sdxl(), "fp4", False)}


# Later transformers -----------------------------------------------------------------------------------------------------------


def wan_vae_file(folder: Path) -> Path:
    return hollow.safetensors(folder / "qwen_image_vae.safetensors", typed(r.wan_vae(), "BF16"))


def krea_texts(folder: Path) -> Files:
    return {"llm": text_files(folder, "qwen3vl_4b", kind="BF16")[0], "vae": wan_vae_file(folder)}


@layout("krea2_turbo_bf16 + qwen3vl_4b + qwen_image_vae", family="krea-2")
def krea_2_parts(folder: Path) -> Files:
    return krea_texts(folder) | {
        "diffusion_model": hollow.safetensors(folder / "krea2_turbo.safetensors", typed(r.krea(), "BF16"))
    }


@layout("Krea 2 with Qwen3-4B, whose positions are others", family="", refusal="Qwen3-VL-4B")
def krea_2_with_another_qwen(folder: Path) -> Files:
    return krea_2_parts(folder) | {"llm": qwen_gguf(folder, False, "q4_K", {"qwen3.rope.freq_base": "1000000"})}


@layout("krea2 as GGUF (q4_K)", family="krea-2")
def krea_2_gguf(folder: Path) -> Files:
    return krea_texts(folder) | city96_unet(folder, r.krea(), "q4_K", "krea2")


@layout("Krea 2 alone under its prefix", family="krea-2", missing=("llm", "wan_vae"))
def krea_2_prefixed(folder: Path) -> Files:
    return one(folder, r.under(UNET, r.krea()), "BF16")


@layout("flux-2-klein-4b + qwen_3_4b + flux2-vae", family="flux.2")
def flux_2_klein_parts(folder: Path) -> Files:
    small = hollow.safetensors(folder / "flux2-vae.safetensors", typed(r.flux_2_vae(), "BF16"))
    own = hollow.safetensors(folder / "flux-2-klein-4b.safetensors", typed(r.flux_2_klein(), "BF16"))
    return qwen(folder) | {"vae": small, "diffusion_model": own}


@layout("FLUX.2 klein alone in scaled f8", family="flux.2", missing=("llm", "vae"))
def flux_2_klein_fp8(folder: Path) -> Files:
    tensors = companions(f8(r.flux_2_klein()), scaled)
    return {"model": written_with(folder, "flux2_fp8.safetensors", tensors, {"format": "float8_e4m3fn"})}


@layout("qwen_image_bf16 + qwen_2.5_vl_7b + qwen_image_vae", family="qwen-image")
def qwen_image_parts(folder: Path) -> Files:
    own = hollow.safetensors(folder / "qwen_image.safetensors", typed(r.packaged("qwen-image"), "BF16"))
    text = text_files(folder, "qwen_2.5_vl_7b", kind="BF16")[0]
    return {"llm": text, "vae": wan_vae_file(folder), "diffusion_model": own}


@layout("qwen-image as GGUF (q8_0)", family="qwen-image", missing=("llm", "wan_vae"))
def qwen_image_gguf(folder: Path) -> Files:
    return city96_unet(folder, r.packaged("qwen-image"), "q8_0", "qwen_image")


def sd3_texts(folder: Path) -> Files:
    return {"text_encoders": text_files(folder, "clip_l", "clip_g", "t5xxl"), "vae": vae_file(folder, 16, quantized=False)}


@layout("sd3.5_large with clip_l, clip_g and t5xxl", family="sd3")
def sd35_large_parts(folder: Path) -> Files:
    own = r.under(UNET, r.sd3("sd3.5-large")) | r.under(VAE, r.vae(16, quantized=False))
    return {"model": one(folder, own)["model"], "text_encoders": sd3_texts(folder)["text_encoders"]}


@layout("sd3.5_medium alone, whose first blocks attend twice", family="sd3", missing=("clip_l", "clip_g", "t5", "vae"))
def sd35_medium(folder: Path) -> Files:
    return one(folder, r.sd3("sd3.5-medium"))


@layout("SD 3.5 medium as GGUF (q8_0)", family="sd3")
def sd35_medium_gguf(folder: Path) -> Files:
    return sd3_texts(folder) | city96_unet(folder, r.sd3("sd3.5-medium"), "q8_0", "sd3")


@layout("Chroma1-HD + t5xxl + ae", family="chroma")
def chroma_parts(folder: Path) -> Files:
    texts = {"text_encoders": text_files(folder, "t5xxl"), "vae": vae_file(folder, 16, quantized=False)}
    return texts | {"diffusion_model": hollow.safetensors(folder / "Chroma1-HD.safetensors", typed(r.chroma(), "BF16"))}


# FLUX.1 -----------------------------------------------------------------------------------------------------------------------


def flux_texts(folder: Path) -> Files:
    return {"text_encoders": text_files(folder, "clip_l", "t5xxl"), "vae": vae_file(folder, 16, quantized=False)}


@layout("flux1-dev with clip_l, t5xxl and ae", family="flux.1")
def flux_dev_parts(folder: Path) -> Files:
    return flux_texts(folder) | {"diffusion_model": hollow.safetensors(folder / "flux1-dev.safetensors", typed(r.flux(), "BF16"))}


@layout("flux1-schnell given as the model, the others beside", family="flux.1")
def flux_schnell_as_model(folder: Path) -> Files:
    own = hollow.safetensors(folder / "flux1-schnell.safetensors", typed(r.flux(guided=False), "BF16"))
    return flux_texts(folder) | {"model": own}


@layout("flux1-dev alone", family="flux.1", missing=("clip_l", "t5", "vae"))
def flux_dev(folder: Path) -> Files:
    return one(folder, r.flux(), "BF16")


@layout("flux1-dev-fp8 of Comfy-Org: model.diffusion_model.*, text_encoders.*, vae.*", family="flux.1")
def flux_all_in_one_fp8(folder: Path) -> Files:
    shapes = r.under(UNET, r.flux()) | r.under("vae.", r.vae(16, quantized=False))
    shapes |= r.under("text_encoders.t5xxl.transformer.", r.t5())
    shapes |= r.under("text_encoders.clip_l.transformer.", r.clip(*r.CLIP_L) | {"text_projection.weight": (768, 768)})
    shapes |= {"text_encoders.clip_l.logit_scale": (), "text_encoders.t5xxl.logit_scale": ()}
    return one(folder, shapes, "F8_E4M3")


@layout("flux1-dev-Q4_K_S.gguf, T5 and CLIP-L beside", family="flux.1")
def flux_gguf(folder: Path) -> Files:
    return flux_texts(folder) | city96_unet(folder, r.flux(), "q4_K", "flux")


@layout("T5 as llama.cpp's GGUF", family="flux.1")
def flux_t5_gguf(folder: Path) -> Files:
    metadata = {"general.architecture": "t5encoder"}
    big = hollow.gguf(folder / "t5-v1_1-xxl-encoder-Q5_K.gguf", quantized(r.t5_of_llama_cpp(), "q5_K"), metadata)
    return flux_dev_parts(folder) | {"text_encoders": [text_files(folder, "clip_l")[0], big]}


@layout("flux1-dev in scaled f8: *.scale_weight", family="flux.1")
def flux_fp8_scaled(folder: Path) -> Files:
    tensors = companions(f8(r.flux()), lambda x, _: {f"{x}.scale_weight": ("F32", (1,))})
    own = hollow.safetensors(folder / "flux1-dev_fp8_scaled.safetensors", tensors | {"scaled_fp8": ("F8_E4M3", (0,))})
    return flux_texts(folder) | {"diffusion_model": own}


@layout("flux1-dev in f8 with a scale a row (fp8r)", family="flux.1")
def flux_fp8_rows(folder: Path) -> Files:
    tensors = companions(f8(r.flux()), lambda x, shape: {f"{x}.weight_scale": ("F32", (shape[0],))})
    return flux_texts(folder) | {"diffusion_model": hollow.safetensors(folder / "flux.safetensors", tensors)}


@layout("flux1-dev-bnb-nf4-v2: nf4 in the blocks, plain scales", family="flux.1")
def flux_bnb_nf4(folder: Path) -> Files:
    shapes = r.under(UNET, r.flux())
    return flux_texts(folder) | {"diffusion_model": with_bitsandbytes_4(folder / "flux.safetensors", shapes, "nf4", False)}


@layout("T5 as int8 of bitsandbytes", family="flux.1")
def flux_t5_bnb_int8(folder: Path) -> Files:
    tensors = typed(r.t5())
    for name, (_, shape) in list(tensors.items()):
        if ".block." in name and len(shape) == 2 and "relative" not in name:
            x = name.removesuffix(".weight")
            tensors |= {name: ("I8", shape), f"{x}.SCB": ("F32", (shape[0],)), f"{x}.weight_format": ("U8", ())}
    t5 = hollow.safetensors(folder / "t5_int8.safetensors", tensors)
    return flux_dev_parts(folder) | {"text_encoders": [text_files(folder, "clip_l")[0], t5]}


@layout("t5xxl_fp8_e4m3fn_scaled, with its tokenizer as a tensor", family="flux.1")
def flux_t5_fp8_scaled(folder: Path) -> Files:
    tensors = companions(typed(r.t5(), "F8_E4M3", "F16"), lambda x, _: {f"{x}.scale_weight": ("F32", ())})
    tensors |= {"scaled_fp8": ("F8_E4M3", (0,)), "spiece_model": ("U8", (791656,))}
    big = hollow.safetensors(folder / "t5xxl_fp8_e4m3fn_scaled.safetensors", tensors)
    return flux_dev_parts(folder) | {"text_encoders": [text_files(folder, "clip_l")[0], big]}


@layout("FLUX.1-dev as diffusers keeps it", family="flux.1")
def flux_diffusers_folder(folder: Path) -> Files:
    stem = "diffusion_pytorch_model"
    sharded(
        folder / "transformer", r.packaged("flux.1"), f"{stem}.safetensors.index.json", stem + "-{:05}-of-{:05}.safetensors", 3
    )
    component(folder / "vae", r.vae_of_diffusers(16, quantized=False), f"{stem}.safetensors", {"scaling_factor": 0.3611})
    component(folder / "text_encoder", r.clip(*r.CLIP_L), "model.safetensors")
    sharded(folder / "text_encoder_2", r.t5(), "model.safetensors.index.json", "model-{:05}-of-{:05}.safetensors", 2)
    parts = {"transformer": "diffusers", "vae": "diffusers", "text_encoder": "transformers", "text_encoder_2": "transformers"}
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}
    return index_of(folder, "FluxPipeline", parts, scheduler)


# To be refused by name --------------------------------------------------------------------------------------------------------


def quantized_blocks(folder: Path, of: Callable[[str, tuple[int, ...]], Mapping]) -> Files:
    """SDXL whose blocks' matrices are replaced by what `of` makes of a name without ".weight" and a shape."""
    shapes: dict[str, Any] = typed(sdxl())
    for name, shape in sdxl().items():
        if name.startswith(UNET) and len(shape) == 2 and "transformer_blocks" in name:
            del shapes[name]
            shapes |= of(name.removesuffix(".weight"), shape)
    return {"model": hollow.safetensors(folder / "model.safetensors", shapes)}


@layout("GPTQ: packed columns, zeros and scales of groups of 128", refusal="GPTQ")
def sdxl_gptq(folder: Path) -> Files:
    def parts(x: str, shape: tuple[int, ...]) -> dict:
        out, into = shape
        groups = max(1, into // 128)
        packed = {f"{x}.qweight": ("I32", (into // 8, out)), f"{x}.qzeros": ("I32", (groups, out // 8))}
        return packed | {f"{x}.scales": ("F16", (groups, out)), f"{x}.g_idx": ("I32", (into,))}

    return quantized_blocks(folder, parts)


@layout("AWQ: packed rows, no order of groups", refusal="AWQ")
def sdxl_awq(folder: Path) -> Files:
    def parts(x: str, shape: tuple[int, ...]) -> dict:
        out, into = shape
        groups = max(1, into // 128)
        packed = {f"{x}.qweight": ("I32", (into, out // 8)), f"{x}.qzeros": ("I32", (groups, out // 8))}
        return packed | {f"{x}.scales": ("F16", (groups, out))}

    return quantized_blocks(folder, parts)


@layout("SVDQuant of Nunchaku: int4 with a low-rank branch", refusal="SVDQuant")
def flux_svdquant(folder: Path) -> Files:
    x = "transformer_blocks.0.attn.to_qkv"
    shapes = {f"{x}.qweight": ("I8", (9216, 1536)), f"{x}.wscales": ("BF16", (48, 9216)), f"{x}.proj_down": ("BF16", (3072, 32))}
    return {"diffusion_model": hollow.safetensors(folder / "svdq.safetensors", shapes), "vae": vae_file(folder)}


@layout("int8 matrices with a scale a row and no marks", refusal="int8 of an unknown format")
def z_image_int8_unmarked(folder: Path) -> Files:
    return z_parts(folder) | {"diffusion_model": hollow.safetensors(folder / "z.safetensors", packed(r.z_image(), int8_rows))}


@layout("SVDQuant as ComfyUI packs it", refusal="svdquant_w4a4")
def z_image_svdquant(folder: Path) -> Files:
    tensors = packed(r.z_image(), int8_rows)
    mark = {"format": "svdquant_w4a4"}
    return z_parts(folder) | {"diffusion_model": written_with(folder, "z.safetensors", tensors, mark, True)}


@layout("playground-v2.5: SDXL's tensors, another noise process", refusal="EDM")
def playground_v25(folder: Path) -> Files:
    return one(folder, sdxl(), more={"edm_mean": ("F32", (1, 4, 1, 1)), "edm_std": ("F32", (1, 4, 1, 1))})


@layout("LCM_Dreamshaper_v7's UNet: takes the guidance as an input", refusal=r"cond_proj")
def lcm_with_guidance_embedding(folder: Path) -> Files:
    unet = r.packaged("sd1") | {"time_embedding.cond_proj.weight": (320, 256)}
    return one(folder, sd1()) | {"diffusion_model": hollow.safetensors(folder / "lcm.safetensors", typed(unet))}


@layout("cosxl", refusal="EDM")
def cosxl(folder: Path) -> Files:
    return one(folder, sdxl(), more={"edm_vpred.sigma_max": ("F32", ()), "edm_vpred.sigma_min": ("F32", ())})


@layout("a 4-channel TAESD beside 16-channel latents", refusal="TAESD.* 4 channels")
def z_image_with_taesd(folder: Path) -> Files:
    small = hollow.safetensors(folder / "taesd_decoder.safetensors", typed(r.taesd_decoder(4)))
    return z_image_comfy_parts(folder) | {"taesd": small}


@layout("a 16-channel TAESD beside 4-channel latents", refusal="TAESD.* 16 channels")
def sd15_with_taef1(folder: Path) -> Files:
    small = hollow.safetensors(folder / "taef1_decoder.safetensors", typed(r.taesd_decoder(16)))
    return one(folder, sd1()) | {"taesd": small}


@layout("what a clone without Git LFS leaves in place of a file", refusal="git lfs pull")
def git_lfs_pointer(folder: Path) -> Files:
    path = folder / "model.safetensors"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4265146304\n")
    return {"model": path}


@layout("a web page saved in place of a file", refusal="web page")
def web_page(folder: Path) -> Files:
    path = folder / "model.safetensors"
    path.write_text("<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n")
    return {"model": path}


def few(names: str, shape: tuple[int, ...] = (64, 64)) -> dict:
    return dict.fromkeys(names.split(), shape)


OTHERS = {  # the first names of denoisers that the package cannot run
    "wan": ("Wan", "head.modulation blocks.0.cross_attn.norm_k.weight patch_embedding.weight text_embedding.0.weight"),
    "hidream": ("HiDream", "double_stream_blocks.0.block.adaLN_modulation.1.weight caption_projection.0.linear.weight"),
    "omnigen2": (
        "OmniGen2",
        "ref_image_patch_embedder.weight time_caption_embed.caption_embedder.0.weight layers.0.norm2.weight",
    ),
    "cogvideox": (
        "CogVideoX",
        "patch_embed.text_proj.weight transformer_blocks.0.norm1.linear.weight transformer_blocks.0.norm2.linear.weight",
    ),
    "cogview4": ("CogView4", "patch_embed.text_proj.weight transformer_blocks.0.norm1.linear.weight"),
    "mochi": ("Mochi", "t5_y_embedder.to_q.weight blocks.0.attn.qkv_x.weight"),
    "aura_flow": ("AuraFlow", "double_layers.0.attn.w1q.weight cond_seq_linear.weight init_x_linear.weight"),
    "ltx": (
        "LTX",
        "patchify_proj.weight adaln_single.emb.timestep_embedder.linear_1.weight transformer_blocks.0.attn1.to_q.weight",
    ),
}
for _name, (_title, _names) in OTHERS.items():

    def _write(folder: Path, names: str = _names) -> Files:
        return one(folder, few(names))

    def _write_prefixed(folder: Path, names: str = _names) -> Files:
        shapes = r.under(UNET, few(names)) | r.under("vae.", r.vae(16, quantized=False))
        return one(folder, shapes | r.under("text_encoders.t5xxl.transformer.", r.t5()))

    LAYOUTS.append(Layout(_name, f"{_title} as a bare transformer", _write, refusal=_title))
    LAYOUTS.append(Layout(f"{_name}_all_in_one", f"{_title} in one file", _write_prefixed, refusal=_title))


@layout("Lumina-Image 2.0: names like Z-Image's, no pad tokens, width 2304", refusal="Lumina")
def lumina2(folder: Path) -> Files:
    shapes = {name: tuple(2304 if side == 3840 else side for side in shape) for name, shape in r.z_image().items()}
    return z_parts(folder) | {
        "diffusion_model": one(folder, {n: s for n, s in shapes.items() if "pad_token" not in n})["model"],
    }


@layout("a LoRA given as a model", refusal="LoRA")
def lora_as_model(folder: Path) -> Files:
    return one(folder, r.lora(), metadata={"ss_network_module": "networks.lora"})


@layout("a LoRA of diffusers or PEFT", refusal="LoRA")
def lora_of_peft(folder: Path) -> Files:
    names = "transformer.transformer_blocks.0.attn.to_q.lora_A.weight transformer.transformer_blocks.0.attn.to_q.lora_B.weight"
    return one(folder, few(names))


@layout("a LoRA given as the diffusion model", refusal="LoRA")
def lora_as_diffusion_model(folder: Path) -> Files:
    return {"diffusion_model": one(folder, r.lora())["model"], "vae": vae_file(folder)}


@layout("control_v11p_sd15_canny.pth given as a model", refusal="ControlNet")
def controlnet_as_model(folder: Path) -> Files:
    return {"model": hollow.torch_zip(folder / "control_v11p_sd15_canny.pth", typed(r.controlnet(), "F32"), wrapped=None)}


@layout("a ControlNet in diffusers' names", refusal="ControlNet")
def controlnet_of_diffusers(folder: Path) -> Files:
    down = {name: shape for name, shape in r.packaged("sd1").items() if "up_blocks" not in name}
    return one(folder, down | r.conv("controlnet_cond_embedding.conv_in", 16, 3))


@layout("ip-adapter_sd15", refusal="IP-Adapter")
def ip_adapter(folder: Path) -> Files:
    return one(
        folder, few("image_proj.proj.weight image_proj.norm.weight ip_adapter.1.to_k_ip.weight ip_adapter.1.to_v_ip.weight")
    )


@layout("t2iadapter_canny_sd15v2", refusal="T2I-Adapter")
def t2i_adapter(folder: Path) -> Files:
    return one(folder, few("conv_in.weight body.0.block1.weight body.0.block2.weight"))


@layout("mm_sd_v15_v2", refusal="motion module")
def motion_module(folder: Path) -> Files:
    return one(folder, few("down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"))


@layout("flux1-redux-dev", refusal="Redux")
def redux(folder: Path) -> Files:
    return one(folder, few("redux_up.weight redux_down.weight"))


@layout("clip_vision_h", refusal="CLIP vision encoder")
def clip_vision(folder: Path) -> Files:
    return one(folder, few("vision_model.embeddings.class_embedding vision_model.encoder.layers.0.mlp.fc1.weight"))


@layout("a textual inversion", refusal="textual inversion")
def textual_inversion(folder: Path) -> Files:
    return one(folder, {"emb_params": (8, 768)}, "F32")


@layout("a textual inversion of SDXL", refusal="textual inversion")
def textual_inversion_sdxl(folder: Path) -> Files:
    return one(folder, {"clip_l": (8, 768), "clip_g": (8, 1280)}, "F32")


@layout("an upscaler: ESRGAN as .pth", refusal="upscaler")
def esrgan(folder: Path) -> Files:
    names = "conv_first.weight body.0.rdb1.conv1.weight body.0.rdb1.conv1.bias conv_up1.weight conv_last.weight"
    return {"model": hollow.torch_zip(folder / "RealESRGAN_x4plus.pth", typed(few(names), "F32"), wrapped="params_ema")}


@layout("an upscaler in its old names", refusal="upscaler")
def esrgan_old(folder: Path) -> Files:
    return one(folder, few("model.0.weight model.1.sub.0.RDB1.conv1.0.weight model.3.weight"))


@layout("a VAE given as a model", refusal=r"VAE.*vae=", late=True)
def vae_as_model(folder: Path) -> Files:
    return {"model": vae_file(folder)}


@layout("a text encoder given as a model", refusal=r"CLIP-L.*text_encoders=", late=True)
def clip_as_model(folder: Path) -> Files:
    return {"model": text_files(folder, "clip_l")[0]}


@layout("t5xxl given as a model", refusal=r"T5.*text_encoders=", late=True)
def t5_as_model(folder: Path) -> Files:
    return {"model": text_files(folder, "t5xxl")[0]}


@layout("a language model's GGUF given as a model", refusal=r"language model.*llm=", late=True)
def llm_gguf_as_model(folder: Path) -> Files:
    metadata = {"general.architecture": "llama"}
    return {"model": hollow.gguf(folder / "Llama-3.1-8B-Q4_K_M.gguf", quantized(r.llama_8b(), "q4_K"), metadata)}


@layout("the first of three shards", refusal=r"one of 3 shards.*index\.json")
def one_shard(folder: Path) -> Files:
    own = dict(list(r.packaged("z-image").items())[:180])
    path = hollow.safetensors(folder / "diffusion_pytorch_model-00001-of-00003.safetensors", typed(own, "BF16"))
    return z_parts(folder) | {"diffusion_model": path}


@layout("sd-v1-5-inpainting: nine input channels", family="sd1")
def sd15_inpainting(folder: Path) -> Files:
    return one(folder, sd1(r.sd1_unet(9)))


@layout("an SDXL inpainting checkpoint", family="sdxl")
def sdxl_inpainting(folder: Path) -> Files:
    return one(folder, sdxl(r.sdxl_unet(9)))


@layout("512-depth-ema: five input channels", family="sd2")
def sd2_depth(folder: Path) -> Files:
    return one(folder, sd2(into=5) | {"depth_model.model.pretrained.model.cls_token": (1, 1, 768)})


@layout("sd21-unclip-h: added conditions of 2048", refusal="2048 added conditions|unCLIP")
def sd21_unclip(folder: Path) -> Files:
    return one(
        folder, sd2(added=2048) | {"embedder.model.visual.class_embedding": (1280,), "noise_augmentor.data_mean": (1, 1024)}
    )


@layout("an SDXL UNet alone as a model", refusal=r"has no text encoder.*text_encoders=", late=True)
def sdxl_unet_alone(folder: Path) -> Files:
    return one(folder, r.packaged("sdxl"))


@layout("a folder without model_index.json, with one file", refusal=r"model_index\.json.*dreamshaper_8\.safetensors")
def folder_of_one_file(folder: Path) -> Files:
    hollow.safetensors(folder / "dreamshaper_8.safetensors", typed(sd1()))
    return {"model": folder}


@layout("flux1-fill-dev: inputs for the mask", refusal="96 input channels")
def flux_fill(folder: Path) -> Files:
    return flux_texts(folder) | {"diffusion_model": one(folder, r.flux() | {"img_in.weight": (3072, 384)}, "BF16")["model"]}


@layout("flux1-canny-dev: inputs for a picture of edges", refusal="32 input channels")
def flux_canny(folder: Path) -> Files:
    return flux_texts(folder) | {"diffusion_model": one(folder, r.flux() | {"img_in.weight": (3072, 128)}, "BF16")["model"]}


@layout("a checkpoint with tensors that nothing uses", family="sd1", unused=2)
def sd15_with_strangers(folder: Path) -> Files:
    return one(folder, sd1(), more={"model.diffusion_model.adapter.weight": ("F16", (8, 8)), "foo.bar": ("F16", (3,))})


def outcome(files: Files) -> str:
    """What the package makes of files: the family and what is missing, or the refusal."""
    import sdcpp_py

    try:
        with sdcpp_py.Pipeline(**files, threads=1) as pipeline:
            missing = [row["name"] for row in pipeline._facts["missing"]]
            try:
                pipeline._require_parts(False)
            except sdcpp_py.errors.SdcppError as error:
                return f"{pipeline.family}, missing {missing}: {error}"
            return pipeline.family
    except sdcpp_py.errors.SdcppError as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    for row in LAYOUTS:
        if not sys.argv[2:] or row.name in sys.argv[2:]:
            place = Path(sys.argv[1]) / row.name
            place.mkdir(parents=True, exist_ok=True)
            print(f"{row.name:40} {outcome(row.write(place))}", flush=True)
