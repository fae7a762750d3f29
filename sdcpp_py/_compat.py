"""`StableDiffusion`: the keyword names of the package stable-diffusion-cpp-python over `Pipeline`, so that its users change the
import and go on. Keywords of features that are not here yet are accepted at their neutral value only."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from PIL import Image

from sdcpp_py import options
from sdcpp_py._model_parts import COMPONENTS
from sdcpp_py._result import Step
from sdcpp_py.errors import InvalidArgumentError
from sdcpp_py.pipeline import Pipeline

# Their keyword for each of ours, and the value that stands for "left out".
_OPENING: dict[str, tuple[str, Any]] = {
    "diffusion_model": ("diffusion_model_path", ""),
    "vae": ("vae_path", ""),
    "llm": ("llm_path", ""),
    "taesd": ("taesd_path", ""),
    "wtype": ("wtype", "default"),
    "tensor_type_rules": ("tensor_type_rules", ""),
    "threads": ("n_threads", -1),
    "rng": ("rng_type", None),
    "max_vram": ("max_vram", None),
    "offload_to_cpu": ("offload_params_to_cpu", False),
}
_GENERATING: dict[str, tuple[str, Any]] = {
    "negative_prompt": ("negative_prompt", None),
    "width": ("width", None),
    "height": ("height", None),
    "steps": ("sample_steps", None),
    "cfg_scale": ("cfg_scale", None),
    "sampler": ("sample_method", "default"),
    "scheduler": ("scheduler", "default"),
    "seed": ("seed", None),
    "batch_count": ("batch_count", None),
    "clip_skip": ("clip_skip", -1),
    "eta": ("eta", 0.0),
    "flow_shift": ("flow_shift", math.inf),
    "guidance": ("guidance", 3.5),
    "vae_tiling": ("vae_tiling", False),
    "vae_tile_overlap": ("vae_tile_overlap", None),
}

# Keywords that change nothing here: speed switches that are always on, or matters the engine decides itself.
_IGNORED = {
    *("verbose", "flash_attn", "diffusion_flash_attn", "enable_mmap", "vae_decode_only", "diffusion_conv_direct"),
    *("vae_conv_direct", "lora_model_dir", "embedding_paths", "image_resize_method", "tae_preview_only", "upscale_tile_size"),
    *("skip_layers", "skip_layer_start", "skip_layer_end", "control_strength", "pm_style_strength"),
    *("chroma_use_dit_mask", "chroma_t5_mask_pad", "vae_tile_size", "vae_relative_tile_size", "preview_interval"),
}
_NEUTRAL: tuple[Any, ...] = (
    None,
    "",
    "default",
    "auto",
    "disabled",
    "none",
    False,
    0,
    0.0,
    1,
    1.0,
    -1,
    [],
    (),
    "0x0",
    float("inf"),
)


def _refuse(unsupported: dict[str, Any]) -> None:
    for name, value in unsupported.items():
        if name not in _IGNORED and value not in _NEUTRAL:
            raise InvalidArgumentError(f"{name}={value!r:.60} is not supported in this version; leave it out")


def _ours(table: Mapping[str, tuple[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Their keywords' values under our names; those that say nothing are left out."""
    return {name: given[theirs] for name, (theirs, nothing) in table.items() if nothing is None or given[theirs] != nothing}


class StableDiffusion:
    """A model under the names of stable-diffusion-cpp-python; an empty `model_path` takes the embedded model."""

    def __init__(
        self,
        model_path: str | os.PathLike[str] = "",
        *,
        clip_l_path: str | os.PathLike[str] = "",
        clip_g_path: str | os.PathLike[str] = "",
        diffusion_model_path: str | os.PathLike[str] = "",
        llm_path: str | os.PathLike[str] = "",
        vae_path: str | os.PathLike[str] = "",
        taesd_path: str | os.PathLike[str] = "",
        n_threads: int = -1,
        wtype: str = "default",
        tensor_type_rules: str = "",
        rng_type: str = "cuda",
        offload_params_to_cpu: bool = False,
        max_vram: float | str | None = 0,
        **others: Any,
    ) -> None:
        """Open a model. Raises what `Pipeline` raises."""
        given = _ours(_OPENING, locals())
        encoders = [path for path in (clip_l_path, clip_g_path) if path]
        for flag in (flag for component in COMPONENTS for flag in component.flags):
            if path := others.pop(f"{flag.strip('-')}_path", None):
                encoders.append(path)
        _refuse(others)
        self.pipeline = Pipeline(model_path or None, text_encoders=encoders, **given)
        self._taesd = bool(taesd_path)

    def generate_image(
        self,
        prompt: str,
        *,
        negative_prompt: str = "",
        clip_skip: int = -1,
        init_image: Any = None,
        width: int = 512,
        height: int = 512,
        cfg_scale: float = 7.0,
        guidance: float = 3.5,
        scheduler: str = "default",
        sample_method: str = "default",
        sample_steps: int = 20,
        eta: float = 0.0,
        flow_shift: float = math.inf,
        strength: float = 0.75,
        seed: int = 42,
        batch_count: int = 1,
        vae_tiling: bool = False,
        vae_tile_overlap: float = 0.5,
        progress_callback: Callable[[int, int, float], None] | None = None,
        **others: Any,
    ) -> list[Image.Image]:
        """Make pictures. `progress_callback(step, steps, seconds)` is called after each step."""
        given = _ours(_GENERATING, locals())
        _refuse(others)
        options.real("strength", strength, 0.0, 1.0)
        if init_image is not None:
            given |= {"init_image": init_image, "strength": strength}

        def after(step: Step) -> None:
            if progress_callback is not None:
                progress_callback(step.step, step.steps, step.seconds)

        callback = None if progress_callback is None else after
        return self.pipeline.generate(prompt, **given, use_taesd=self._taesd, callback=callback).images

    def close(self) -> None:
        """Free the model."""
        self.pipeline.close()

    def __enter__(self) -> StableDiffusion:
        """Return itself; the model is freed at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        """Free the model."""
        self.close()

    def __repr__(self) -> str:
        """Show the pipeline underneath."""
        return f"<StableDiffusion over {self.pipeline!r}>"
