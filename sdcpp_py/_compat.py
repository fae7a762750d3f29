"""`StableDiffusion`: the names of the package stable-diffusion-cpp-python 0.4.7 over `Pipeline`, so that its users can stay.

Users change the import and go on. A keyword of a feature that is not here is accepted at that package's default; another value
raises.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, TypeVar

from PIL import Image

from sdcpp_py import _images, _inpaint, _names, control, options
from sdcpp_py._convert import convert
from sdcpp_py._model_parts import ENCODERS_BY_FLAG
from sdcpp_py._result import Step
from sdcpp_py._spelling import spelled_by
from sdcpp_py.errors import InvalidArgumentError, ModelNotFoundError, shown
from sdcpp_py.pipeline import Pipeline

PathLike = str | os.PathLike[str]

#: Names that the keywords of `StableDiffusion` take, as that package lists them.
SAMPLE_METHOD_MAP = {name: name for name in options.SAMPLERS}
SCHEDULER_MAP = {name: name for name in options.SCHEDULERS}
RNG_TYPE_MAP = {name: name for name in options.RNGS}
PREVIEW_MAP = {name: name for name in options.GENERATE["preview"].choices}
SD_HIRES_UPSCALER_MAP = {name: name for name in options.GENERATE["hires_upscaler"].choices}
SD_CACHE_MODE_MAP = {name: name for name in ("disabled", *options.GENERATE["cache_mode"].choices[1:])}
PREDICTION_MAP = {"default": "default"}
LORA_APPLY_MODE_MAP = {name: name for name in ("auto", "immediately", "at_runtime")}  # all of which merge
#: Names for ``wtype`` and ``output_type``.
GGML_TYPE_MAP = {
    name: name
    for name in (
        *("default", "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"),
        *("iq2_s", "iq3_xxs", "iq3_s", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0", "mxfp4", "NVFP4"),
    )
}

# Keywords that do not change a picture here: placement and speed, which the engine decides itself, and settings of models and
# features whose own keyword is checked.
_NO_EFFECT = {
    *("verbose", "flash_attn", "diffusion_flash_attn", "enable_mmap", "vae_decode_only", "diffusion_conv_direct"),
    *("vae_conv_direct", "keep_clip_on_cpu", "keep_control_net_on_cpu", "keep_vae_on_cpu", "force_sdxl_vae_conv_scale"),
    *("lora_apply_mode", "qwen_image_zero_cond_t", "pm_style_strength"),
    *("cache_error_decay_rate",),
    *("cache_use_relative_threshold", "cache_reset_error_on_compute", "cache_Fn_compute_blocks", "cache_Bn_compute_blocks"),
    *("cache_residual_diff_threshold", "cache_max_warmup_steps", "cache_max_continuous_cached_steps"),
    *("cache_spectrum_w", "cache_spectrum_m"),
    *("cache_spectrum_lam", "cache_spectrum_window_size", "cache_spectrum_flex_window", "cache_spectrum_warmup_steps"),
    *("cache_spectrum_stop_percent", "scm_mask", "scm_policy"),
}
# Our keyword for each of theirs, and the value that stands for "left out".
_OPENING: dict[str, tuple[str, Any]] = {
    "diffusion_model_path": ("diffusion_model", ""),
    "vae_path": ("vae", ""),
    "llm_path": ("llm", ""),
    "lora_model_dir": ("lora_model_dir", ""),
    "taesd_path": ("taesd", ""),
    "clip_vision_path": ("clip_vision", ""),
    "upscaler_path": ("upscaler", ""),
    "wtype": ("wtype", "default"),
    "tensor_type_rules": ("tensor_type_rules", ""),
    "n_threads": ("threads", -1),
    "rng_type": ("rng", None),
    "max_vram": ("max_vram", 0),  # their word for no budget of one's own
    "offload_params_to_cpu": ("offload_to_cpu", False),
}
_GENERATING: dict[str, tuple[str, Any]] = {
    "negative_prompt": ("negative_prompt", None),
    "clip_skip": ("clip_skip", -1),
    "width": ("width", None),
    "height": ("height", None),
    "cfg_scale": ("cfg_scale", None),
    "image_cfg_scale": ("image_cfg_scale", None),
    "guidance": ("guidance", 3.5),
    "scheduler": ("scheduler", "default"),
    "sample_method": ("sampler", "default"),
    "sample_steps": ("steps", None),
    "eta": ("eta", 0.0),
    "sigmas": ("sigmas", None),
    "flow_shift": ("flow_shift", math.inf),
    "seed": ("seed", None),
    "batch_count": ("batch_count", None),
    "preview_method": ("preview", "none"),
    "preview_interval": ("preview_interval", 1),
    "preview_noisy": ("preview_noisy", False),
    "cache_mode": ("cache_mode", "disabled"),
    "cache_reuse_threshold": ("cache_threshold", 1.0),
    "cache_start_percent": ("cache_start", 0.15),
    "cache_end_percent": ("cache_end", 0.95),
    "cache_taylorseer_n_derivatives": ("cache_order", 1),
    "cache_taylorseer_skip_interval": ("cache_interval", 1),
    "vae_tiling": ("vae_tiling", False),
    "vae_tile_overlap": ("vae_tile_overlap", None),
}
# Keywords that the methods below deal with in their own lines.
_OWN = {
    *("self", "prompt", "model_path", "clip_l_path", "clip_g_path", "t5xxl_path", "tae_preview_only", "image_resize_method"),
    *("sampler_rng_type", "init_image", "ref_images", "mask_image", "strength", "vae_tile_size", "progress_callback"),
    *("control_net_path", "control_image", "control_strength", "canny"),
    *("upscale_tile_size", "embedding_paths", "hires", "hires_path", "hires_upscaler", "hires_scale", "hires_width"),
    *("hires_height", "hires_steps", "hires_denoising_strength", "hires_upscale_tile_size", "upscale_factor"),
    *("preview_callback", "slg_scale", "skip_layers", "skip_layer_start", "skip_layer_end"),
}
_USUAL_TILE = 128  # their default for upscalers, which is ours where memory allows no larger one


_THEIRS = {ours: theirs for theirs, (ours, _) in (_OPENING | _GENERATING).items()} | {
    "model": "model_path",
    "text_encoders": "clip_l_path, clip_g_path or t5xxl_path",
    "embeddings": "embedding_paths",
    "callback": "progress_callback",
    "loras": "lora_model_dir and <lora:NAME:WEIGHT> in the prompt",
}

Given = ParamSpec("Given")
Returned = TypeVar("Returned")


def _spelled(name: str, value: str) -> str:
    """An option as that package writes it."""
    theirs = _THEIRS.get(name, name)
    return f"{theirs}={value}" if value and " " not in theirs else theirs


def _theirs(function: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """Let a method's errors and warnings name options by that package's keywords."""
    inner = _names.helpful(function, _THEIRS)

    @functools.wraps(function)
    def spelled(*arguments: Given.args, **keywords: Given.kwargs) -> Returned:
        with spelled_by(_spelled):
            return inner(*arguments, **keywords)

    return spelled


def _equal(value: Any, other: Any) -> bool:
    """Whether two values are the same, whatever ``value`` is: an array is no number."""
    try:
        return bool(value == other)
    except Exception:
        return False


def _same(value: Any, default: Any) -> bool:
    """Whether they are equal and of one kind: True is not 1. Empty lists are nothing."""
    if isinstance(value, (list, tuple)) and not value:
        return not default
    return isinstance(value, bool) == isinstance(default, bool) and _equal(value, default)


def _ours(function: Callable[..., Any], table: Mapping[str, tuple[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values under our names; those that say nothing are left out. Raises for what is not supported."""
    for name, one in inspect.signature(function).parameters.items():
        if name in table or name in _OWN or name in _NO_EFFECT:
            continue
        if not _same(given[name], one.default):
            raise InvalidArgumentError(f"{name}={shown(given[name])} is not supported in this version; leave it out")
    return {
        ours: given[theirs]
        for theirs, (ours, nothing) in table.items()
        if given[theirs] is not None and not _equal(given[theirs], nothing)
    }


class StableDiffusion:
    """A model under the names of stable-diffusion-cpp-python; an empty ``model_path`` takes the embedded model."""

    @_theirs
    def __init__(
        self,
        model_path: PathLike = "",
        clip_l_path: PathLike = "",
        clip_g_path: PathLike = "",
        clip_vision_path: PathLike = "",
        t5xxl_path: PathLike = "",
        llm_path: PathLike = "",
        llm_vision_path: PathLike = "",
        diffusion_model_path: PathLike = "",
        high_noise_diffusion_model_path: PathLike = "",
        vae_path: PathLike = "",
        taesd_path: PathLike = "",
        control_net_path: PathLike = "",
        upscaler_path: PathLike = "",
        upscale_tile_size: int = 128,
        lora_model_dir: PathLike = "",
        embedding_paths: Sequence[PathLike] = (),
        photo_maker_path: PathLike = "",
        tensor_type_rules: str = "",
        vae_decode_only: bool = False,
        n_threads: int = -1,
        wtype: str = "default",
        rng_type: str = "cuda",
        sampler_rng_type: str = "cuda",
        prediction: str = "default",
        lora_apply_mode: str = "auto",
        offload_params_to_cpu: bool = False,
        enable_mmap: bool = False,
        keep_clip_on_cpu: bool = False,
        keep_control_net_on_cpu: bool = False,
        keep_vae_on_cpu: bool = False,
        flash_attn: bool = False,
        diffusion_flash_attn: bool = False,
        tae_preview_only: bool = False,
        diffusion_conv_direct: bool = False,
        vae_conv_direct: bool = False,
        circular_x: bool = False,
        circular_y: bool = False,
        force_sdxl_vae_conv_scale: bool = False,
        chroma_use_dit_mask: bool = True,
        chroma_use_t5_mask: bool = False,
        chroma_t5_mask_pad: int = 1,
        qwen_image_zero_cond_t: bool = False,
        max_vram: float | str | None = 0,
        image_resize_method: str = "crop",
        verbose: bool = True,
    ) -> None:
        """Open a model. Raises what `Pipeline` raises."""
        given = {name: value for name, value in locals().items() if name != "self"}
        opening = _ours(StableDiffusion.__init__, _OPENING, given)
        options.choice("image_resize_method", image_resize_method, ("crop", "resize"))
        if not (_equal(sampler_rng_type, "cuda") or _equal(sampler_rng_type, rng_type)):
            raise InvalidArgumentError(f"sampler_rng_type={shown(sampler_rng_type)} differs from rng_type; leave it out")
        paths = {component: given[f"{word}_path"] for word, component in ENCODERS_BY_FLAG.items()}
        encoders = {component: path for component, path in paths.items() if not _equal(path, "")}
        self._arguments = given
        self._crops = image_resize_method == "crop"
        self._taesd = not _equal(taesd_path, "") and not options.switch("tae_preview_only", tae_preview_only)
        self._upscaler_tile = None if _equal(upscale_tile_size, _USUAL_TILE) else upscale_tile_size
        if not _same(embedding_paths, ()):
            opening["embeddings"] = embedding_paths
        self._control_net = None if _equal(control_net_path, "") else control_net_path
        if self._control_net is not None and not Path(os.fsdecode(self._control_net)).exists():
            raise ModelNotFoundError(f"no such file: {os.fsdecode(self._control_net)}")
        self.pipeline = Pipeline(None if _equal(model_path, "") else model_path, parts=encoders or None, **opening)

    @_theirs
    def generate_image(
        self,
        prompt: str,
        negative_prompt: str = "",
        clip_skip: int = -1,
        init_image: _images.Picture | None = None,
        ref_images: Sequence[_images.Picture] | None = None,
        auto_resize_ref_image: bool = True,
        increase_ref_index: bool = False,
        mask_image: _images.Picture | None = None,
        width: int | None = None,
        height: int | None = None,
        cfg_scale: float | None = None,
        image_cfg_scale: float | None = None,
        guidance: float = 3.5,
        scheduler: str | None = "default",
        sample_method: str | None = "default",
        sample_steps: int | None = None,
        eta: float = 0.0,
        timestep_shift: int = 0,
        sigmas: str | None = None,
        flow_shift: float = math.inf,
        skip_layers: Sequence[int] = (7, 8, 9),
        skip_layer_start: float = 0.01,
        skip_layer_end: float = 0.2,
        slg_scale: float = 0.0,
        strength: float = 0.75,
        seed: int = 42,
        batch_count: int = 1,
        control_image: _images.Picture | None = None,
        control_strength: float = 0.9,
        pm_id_embed_path: PathLike = "",
        pm_id_images: Sequence[_images.Picture] | None = None,
        pm_style_strength: float = 20.0,
        vae_tiling: bool = False,
        vae_tile_overlap: float = 0.5,
        vae_tile_size: int | str | None = "0x0",
        vae_relative_tile_size: float | str | None = "0x0",
        cache_mode: str | None = "disabled",
        cache_reuse_threshold: float = 1.0,
        cache_start_percent: float = 0.15,
        cache_end_percent: float = 0.95,
        cache_error_decay_rate: float = 1.0,
        cache_use_relative_threshold: bool = True,
        cache_reset_error_on_compute: bool = True,
        cache_Fn_compute_blocks: int = 8,
        cache_Bn_compute_blocks: int = 0,
        cache_residual_diff_threshold: float = 0.08,
        cache_max_warmup_steps: int = 8,
        cache_max_continuous_cached_steps: int = -1,
        cache_taylorseer_n_derivatives: int = 1,
        cache_taylorseer_skip_interval: int = 1,
        cache_spectrum_w: float = 0.4,
        cache_spectrum_m: int = 3,
        cache_spectrum_lam: float = 1.0,
        cache_spectrum_window_size: int = 2,
        cache_spectrum_flex_window: float = 0.5,
        cache_spectrum_warmup_steps: int = 4,
        cache_spectrum_stop_percent: float = 0.9,
        scm_mask: str = "",
        scm_policy: str = "dynamic",
        hires: bool = False,
        hires_path: PathLike = "",
        hires_upscaler: str = "Latent",
        hires_scale: float = 2.0,
        hires_width: int = 0,
        hires_height: int = 0,
        hires_steps: int = 0,
        hires_denoising_strength: float = 0.7,
        hires_upscale_tile_size: int = 128,
        canny: bool = False,
        upscale_factor: int = 1,
        preview_method: str = "none",
        preview_noisy: bool = False,
        preview_interval: int = 1,
        preview_callback: Callable[..., Any] | None = None,
        progress_callback: Callable[[int, int, float], Any] | None = None,
    ) -> list[Image.Image]:
        """Make pictures; size, steps and guidance that are left out are the model's own.

        ``progress_callback(step, steps, seconds)`` is called after each step. Each picture's ``info`` holds the arguments and its
        seed.
        """
        given = {name: value for name, value in locals().items() if name != "self"}
        making = _ours(StableDiffusion.generate_image, _GENERATING, given)
        options.real("strength", strength, 0.0, 1.0)
        for name in ("progress_callback", "preview_callback"):
            if given[name] is not None and not callable(given[name]):
                raise InvalidArgumentError.of(name, f"must be a function, not {shown(given[name])}")
        if not any(_equal(vae_tile_size, nothing) for nothing in (None, "0x0", 0)):
            making["vae_tile_size"] = _tile_side(vae_tile_size)
        if init_image is not None:
            making |= {"init_image": self._fitted(init_image, width, height), "strength": strength}
        if ref_images is not None:
            making["ref_images"] = ref_images
        if mask_image is not None:  # which that package neither blurs nor pastes over
            mask = _inpaint.mask_of(mask_image)
            making |= {"mask_image": self._fitted(mask, width, height), "mask_blur": 0.0, "paste_back": False}
        if not _equal(slg_scale, 0):
            making |= {"slg_scale": slg_scale, "skip_layers": skip_layers}
            making |= {"skip_layer_start": skip_layer_start, "skip_layer_end": skip_layer_end}
        if control_image is not None:
            if self._control_net is None:
                raise InvalidArgumentError("control_image needs a ControlNet: open the model with control_net_path")
            hint = self.preprocess_canny(control_image) if canny else self._fitted(control_image, width, height)
            making["controls"] = [control.Control(self._control_net, hint, control_strength)]

        if options.switch("hires", hires):
            making |= self._second_pass(given)

        def after(step: Step) -> None:
            if progress_callback is not None:
                progress_callback(step.step, step.steps, step.seconds)

        def previewed(step: Step) -> None:
            if preview_callback is not None:
                preview_callback(step.step, [step.preview], preview_noisy)

        if preview_callback is not None:
            making["preview_callback"] = previewed
        callback = None if progress_callback is None else after
        result = self.pipeline.generate(prompt, **making, use_taesd=self._taesd, callback=callback)
        used = {theirs: result.parameters[ours] for theirs, (ours, _) in _GENERATING.items() if ours in result.parameters}
        images = result.images
        if not _equal(upscale_factor, 1):
            images = self.upscale(images, upscale_factor)
        for image, made, own_seed in zip(images, result.images, result.seeds):
            info: dict[Any, Any] = {**made.info, **self._arguments, **given, **used, "seed": own_seed}
            image.info.update(info)
        return images

    def _second_pass(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Keywords of hires fix under our names."""
        upscaler = options.GENERATE["hires_upscaler"].check(str(given["hires_upscaler"]).lower().replace(" ", "_"))
        if not _equal(given["hires_path"], ""):
            raise InvalidArgumentError("hires_path is not supported in this version; give the upscaler to the constructor")
        out = {"hires": True, "hires_upscaler": upscaler, "hires_scale": given["hires_scale"]}
        out |= {name: given[name] for name in ("hires_width", "hires_height", "hires_steps") if not _equal(given[name], 0)}
        tile = given["hires_upscale_tile_size"]
        out["upscale_tile_size"] = self._upscaler_tile if _equal(tile, _USUAL_TILE) else tile
        return {**out, "hires_denoising_strength": given["hires_denoising_strength"]}

    @_theirs
    def upscale(
        self,
        images: _images.Picture | Sequence[_images.Picture],
        upscale_factor: int = 4,
        progress_callback: Callable[[int, int, float], Any] | None = None,
    ) -> list[Image.Image]:
        """Pictures ``upscale_factor`` times larger, by the network of ``upscaler_path``.

        Its own factor counts as often as is needed; the result is scaled to the size. ``progress_callback(number, count,
        seconds)`` is called after each picture.
        """
        several: list[Any] = list(images) if isinstance(images, (list, tuple)) else [images]
        factor = options.integer("upscale_factor", upscale_factor, 1, 64)
        own = max(2, self.pipeline.upscale_factor)
        repeats = max(1, math.ceil(math.log(factor, own) - 1e-9))
        start, out = time.perf_counter(), []
        for number, one in enumerate(several, 1):
            picture = _images.unflattened(one)
            width, height, tile = picture.width * factor, picture.height * factor, self._upscaler_tile
            out.append(self.pipeline.upscale(picture, repeats=repeats, width=width, height=height, upscale_tile_size=tile))
            if progress_callback is not None:
                progress_callback(number, len(several), time.perf_counter() - start)
        return out

    def _fitted(self, picture: _images.Picture, width: int | None, height: int | None) -> _images.Picture:
        """The initial picture, stretched to width and height if the model was opened to do so; else `Pipeline` cuts it."""
        if self._crops or width is None or height is None:
            return picture
        return _images.opened(picture).resize((width, height), Image.Resampling.LANCZOS)

    @_theirs
    def preprocess_canny(
        self,
        image: _images.Picture,
        high_threshold: float = 0.08,
        low_threshold: float = 0.08,
        weak: float = 0.8,
        strong: float = 1.0,
        inverse: bool = False,
    ) -> Image.Image:
        """White edges on black for a ControlNet; thresholds are shares of the strongest gradient, the low one of the high one.

        ``strong`` is the brightness of clear edges, ``weak`` that of faint ones beside them. ``inverse``: black on white.
        """
        numbers = {"high_threshold": high_threshold, "low_threshold": low_threshold, "weak": weak, "strong": strong}
        found = [options.real(name, value, 0.0, 1.0) for name, value in numbers.items()]
        return control.soft_canny(image, found[0], found[1], found[2], found[3], options.switch("inverse", inverse))

    def generate_video(self, *_: Any, **__: Any) -> NoReturn:
        """Raise InvalidArgumentError: no model for video is supported."""
        raise InvalidArgumentError("generate_video is not supported: the models here make pictures")

    @_theirs
    def convert(
        self,
        input_path: PathLike,
        vae_path: PathLike = "",
        output_path: PathLike = "output.gguf",
        output_type: str = "default",
        tensor_type_rules: str = "",
        convert_name: bool = True,
    ) -> Path:
        """Write a model into one GGUF file under the names of original checkpoints, whatever ``convert_name`` is."""
        return convert(
            input_path,
            output_path,
            vae=vae_path or None,
            wtype=None if output_type == "default" else output_type,
            tensor_type_rules=tensor_type_rules or None,
        )

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


def _tile_side(size: Any) -> int:
    """A tile's latent sides, given as one number or as "32x32"."""
    sides = set(str(size).lower().split("x"))
    if len(sides) != 1 or not (side := sides.pop()).isdigit():
        raise InvalidArgumentError(f"vae_tile_size={shown(size)}: tiles here are square, such as 32 or '32x32'")
    return int(side)
