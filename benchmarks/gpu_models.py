"""The networks that gpu.py measures: their files, and inputs of any size.

Scale "true": released shapes with random weights (random_weights.py). Scale "tiny": the tests' models of the same families, and
pictures with an eighth of the sides, so that everything can be tried in a minute and without a GPU.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import random_weights
from numpy.typing import NDArray

from sdcpp_py import convert

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import tiny

SCALES = ("true", "tiny")
_FILE_TYPES = ("bf16", "f16", "f32")
_TEXT_TOKENS = {"sd15": 77, "sdxl": 77, "z-image": 128, "flux": 512}
_LATENT_CHANNELS = {"sd15": 4, "sdxl": 4, "z-image": 16, "flux": 16}
_TINY_PARTS = {"sd15": "unet", "sdxl": "xl_unet", "z-image": "z_transformer", "flux": "f_transformer"}
_TINY_FAMILIES = {"flux": "flux.1"}
_LLM_TOKENS = 256


@dataclass(frozen=True)
class Job:
    """A network with inputs of one size. Width and height are a picture's; a language model takes no notice of them."""

    model: str  #: "sd15", "sdxl", "z-image" or "flux"
    network: str  #: the model's: "unet", "z_image", "flux", "vae.decoder", "llm"
    width: int = 1024
    height: int = 1024
    batch: int = 1
    dtype: str = "bf16"

    def __str__(self) -> str:
        """The name that rows and cases have it by."""
        size = "" if self.network == "llm" else f" {self.width}x{self.height}"
        return f"{self.model} {self.network} {self.dtype}{size} batch {self.batch}"


class Models:
    """Files in ``folder``, written when they are first asked for."""

    def __init__(self, folder: Path, scale: str) -> None:
        self.folder = folder / scale
        self.scale = scale
        self.folder.mkdir(parents=True, exist_ok=True)

    def options(self, job: Job) -> dict[str, Any]:
        """Keywords for `Pipeline` to open the job's network. Quantized types are converted once, so each opening is quick."""
        if job.dtype not in _FILE_TYPES:
            return {"model": self._quantized(job)}
        if self.scale == "tiny":
            return {"model": self._tiny(job)}
        parts = {"diffusion_model": random_weights.write_part(self.folder, job.model, job.dtype)}
        if job.network == "llm":
            parts["llm"] = random_weights.write_part(self.folder, "qwen3-4b", job.dtype)
        if job.network == "vae.decoder":
            parts["vae"] = random_weights.write_part(self.folder, "vae", job.dtype)
        return parts

    def files(self, job: Job) -> list[Path]:
        """Every file that opening the job reads."""
        out: list[Path] = []
        for path in self.options(job).values():
            folder = path if path.is_dir() else path.parent
            out += [path] if path.suffix == ".gguf" else sorted(folder.rglob("*.safetensors"))
        return out

    def inputs(self, job: Job) -> dict[str, NDArray[Any]]:
        """Random inputs for `Pipeline.evaluate`, always the same ones."""
        rng = np.random.default_rng(1)
        if job.network == "llm":
            return {"tokens": rng.integers(0, 50000, (job.batch, _LLM_TOKENS)).astype(np.int32)}
        height, width = (self._latent_side(side) for side in (job.height, job.width))
        x = rng.standard_normal((job.batch, _LATENT_CHANNELS[job.model], height, width), np.float32)
        if job.network == "vae.decoder":
            return {"x": x}
        context, pooled = self._widths(job.model)
        out = {
            "x": x,
            "timesteps": np.full(job.batch, 500.0, np.float32),
            "context": rng.standard_normal((job.batch, _TEXT_TOKENS[job.model], context), np.float32),
        }
        out |= {"pooled": rng.standard_normal((job.batch, pooled), np.float32)} if pooled else {}
        return out | ({"guidance": np.full(job.batch, 3.5, np.float32)} if job.model == "flux" else {})

    def _latent_side(self, side: int) -> int:
        return side // 8 if self.scale == "true" else max(8, side // 64 // 2 * 2)

    def _widths(self, model: str) -> tuple[int, int]:
        """Widths of the text's states and of the pooled vector."""
        if self.scale == "true":
            return {"sd15": (768, 0), "sdxl": (2048, 1280), "z-image": (2560, 0), "flux": (4096, 768)}[model]
        part = _TINY_PARTS[model]
        shapes, config = tiny.shapes()[part], tiny.configs()[part]
        ends = ("cap_embedder.1.weight", "attn2.to_k.weight", "context_embedder.weight")
        context = next(shape[1] for name, shape in shapes.items() if name.endswith(ends))
        if model == "flux":
            return context, shapes["time_text_embed.text_embedder.linear_1.weight"][1]
        added = shapes.get("add_embedding.linear_1.weight")
        return context, added[1] - 6 * config["addition_time_embed_dim"] if added else 0

    def _tiny(self, job: Job) -> Path:
        folder = self.folder / f"{job.model}-{job.dtype}"
        if (folder / "model_index.json").exists():
            return folder
        kinds = {"bf16": random_weights.as_bf16, "f16": lambda array: array.astype(np.float16), "f32": lambda array: array}
        if job.model == "sd15":
            return tiny.write_folder(folder, convert=kinds[job.dtype])
        return tiny.write_family(folder, _TINY_FAMILIES.get(job.model, job.model), convert=kinds[job.dtype])

    def _quantized(self, job: Job) -> Path:
        path = self.folder / f"{job.model}-{job.network}-{job.dtype}.gguf"
        if not path.exists():
            source = self.options(Job(job.model, job.network, dtype="bf16"))
            convert(source.pop("model", None), path, wtype=job.dtype, progress=False, **source)
        return path


def drop_from_cache(path: Path) -> None:
    """Tell the system to forget a file's pages, which it does with those that are on the disk already and not mapped."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
