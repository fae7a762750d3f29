"""`Pipeline`: text to pictures."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from sdcpp_py import (
    _beside,
    _depth,
    _engine,
    _hires,
    _images,
    _inpaint,
    _jobs,
    _names,
    _references,
    _soft,
    control,
    ip_adapter,
    metadata,
    options,
)
from sdcpp_py import _blas as blas_library
from sdcpp_py._conditioning import Conditioning
from sdcpp_py._embedded import SUBJECT, can_draw, embedded_model
from sdcpp_py._images import Picture
from sdcpp_py._memory_errors import memory_errors_told
from sdcpp_py._model_parts import FILE_KEYWORDS, ModelParts, PathLike
from sdcpp_py._prompts import Prompts, Text, conditionings_of, together, together_key
from sdcpp_py._result import Report, Result, Step
from sdcpp_py._run_plans import DECODING, SIZE, RunPlans, least_bytes
from sdcpp_py._spelling import OptionName
from sdcpp_py._starts import Space
from sdcpp_py._watchers import Watchers
from sdcpp_py.errors import (
    BusyError,
    CancelledError,
    ClosedError,
    InvalidArgumentError,
    MissingPartError,
    OverBudgetError,
    shown,
)
from sdcpp_py.plan import _speeds, planner
from sdcpp_py.profile import ProfileRow
from sdcpp_py.text import embeddings as embedding_files
from sdcpp_py.text import loras as networks

logger = logging.getLogger("sdcpp_py")
LoraLike = PathLike | tuple[PathLike, float | Mapping[str, float]]
_UPSCALING = {name: option for name, option in options.GENERATE.items() if option.group == "upscaling"}
_SOFT = [name for name in options.GENERATE if name.startswith("soft_") and name not in ("soft_mask", "soft_inpainting")]
_MASKING = [
    *("mask_blur", "mask_invert", "mask_fill", "only_masked", "only_masked_padding", "paste_back", "soft_mask"),
    *("soft_inpainting", *_SOFT),
]
_GUIDANCE = [name for name, option in options.GENERATE.items() if option.group == "guidance"]
_BESIDE_GUIDANCE = ("slg_scale", "skip_layers", "skip_layer_start", "skip_layer_end")  # which have an effect without it
_NEEDED = {
    ("threshold_percentile", "threshold_phi"): "mimic_scale",
    ("zero_init_steps",): "cfg_zero_star",
    _BESIDE_GUIDANCE[1:]: "slg_scale",
}
_OF_CACHE = {
    "cache_threshold": ("easycache", "first_block"),
    "cache_interval": ("taylorseer",),
    "cache_order": ("taylorseer",),
}
_CALLBACK_SECONDS = 5.0  # a step callback that takes longer may be waiting for those who wait for the pipeline


class Pipeline:
    """A model, ready to make pictures.

    ``model`` is a checkpoint (safetensors, GGUF, .ckpt/.pt), an index of shards, a diffusers folder, or None for the small model
    that comes with the package. ``diffusion_model``, ``vae``, ``text_encoders``, ``llm``, ``taesd``, ``clip_vision`` and
    ``upscaler`` name files or folders of one, whose tensors take the place of the model's; a model may also be given by them
    alone. ``parts`` does so for any component by its name in `sdcpp_py._model_parts.COMPONENTS`.
    ``wtype`` converts linear layers' weights on load ("f32", "f16", "q8_0", "q4_K" …; None: as in the file); first and last
    layers become nothing coarser than q8_0. ``tensor_type_rules`` "pattern=type,…" does so for tensors whose canonical names
    (`sdcpp info --tensors` shows them) a regular expression is found in, such as "^vae=f32,attn=q8_0". ``threads`` None
    uses the physical cores. ``rng`` "cuda" or "cpu" draws PyTorch's noise of that device. ``device`` is "auto" or a name that
    ``sdcpp devices`` lists; "simulated:vram=6,link=12" is the CPU as a card of 6 GiB behind 12 GB/s.

    ``max_vram`` is all that the networks may hold on the device together, in GiB: below 0, what is free less that much; 0, no
    limit; None, a limit only if not everything fits. Layers that do not fit are streamed. ``stream_layers=False`` keeps
    nothing resident between uploads, ``offload_to_cpu=False`` nothing off the device. ``plan_policy`` and ``gpu_layers`` (most
    resident layers) are for comparing plans; see `planner.plan`. ``whole_process=True`` makes ``max_vram`` on the CPU the limit
    of the process, interpreter included, as it is on the command line. ``link_speed`` tells the device's FLOP/s and the bytes
    per second to it, which are measured once otherwise. ``blas=False`` makes the CPU compute with ggml's kernels alone, as the
    environment variable SDCPP_BLAS=0 does; "avx2", "avx512" or "openblas" names its matrix products, for comparing.
    ``matmul_precision="bf16"`` lets it multiply large matrices in bf16, about twice as fast on processors that compute with it
    (AVX512-BF16), with results that differ by some hundredths. ``profile=True`` times every operation for `take_profile`,
    which costs a little.

    ``lora_model_dir`` is the folder in which tags in prompts, such as ``<lora:name:0.8>``, find their files. ``embeddings`` are
    files of textual inversion, as a list or by the words that stand for them in prompts (in a list: the files' stems);
    ``embedding_dir`` is a folder of such files, of which those for other models are left out.

    Calls from several threads on one object wait for each other; separate objects run side by side. If a step callback takes
    longer than five seconds, calls that wait raise BusyError, since the callback may be waiting for them. Calls on the thread of
    a run, from its callbacks, from signal handlers or from ``is_set`` of its ``cancel``, raise BusyError at once, except `cancel`
    and `close`.

    Raises errors of :mod:`sdcpp_py.errors`: ModelNotFoundError, BadFileError, UnsupportedModelError, InvalidArgumentError.
    """

    @_names.helpful
    @memory_errors_told()
    def __init__(
        self,
        model: PathLike | None = None,
        *,
        diffusion_model: PathLike | None = None,
        vae: PathLike | None = None,
        text_encoders: PathLike | Sequence[PathLike] | None = None,
        llm: PathLike | None = None,
        taesd: PathLike | None = None,
        clip_vision: PathLike | None = None,
        upscaler: PathLike | None = None,
        parts: Mapping[str, PathLike] | None = None,
        wtype: str | None = None,
        tensor_type_rules: str | None = None,
        threads: int | None = None,
        rng: str = "cuda",
        device: str = "auto",
        max_vram: float | str | None = None,
        stream_layers: bool | None = None,
        offload_to_cpu: bool | None = None,
        plan_policy: str = "auto",
        gpu_layers: int | None = None,
        whole_process: bool = False,
        link_speed: tuple[float, float] | None = None,
        blas: bool | str | None = None,
        matmul_precision: str = "f32",
        profile: bool = False,
        lora_model_dir: PathLike | None = None,
        embeddings: Sequence[PathLike] | Mapping[str, PathLike] | None = None,
        embedding_dir: PathLike | None = None,
    ) -> None:
        """Open the files and check them; weights are read at first use."""
        named = locals()
        given = options.given(options.MODEL, named)
        self._model: _engine.Model | None = None
        self._lock = threading.RLock()  # one run at a time
        self._at_work: int | None = None  # the thread of the call under way
        self._closing = False  # whether the call under way shall close the model at its end
        self._in_callback: float | None = None  # since when a step callback is under way
        self._cancelled = False  # no Event: signal handlers must not wait for its lock
        self._watch: Callable[[], bool] | None = None  # the cancel of the call under way
        self._controls: list[control.Ready] = []  # of the call under way
        self._led_part: control.Part | None = None  # of their pictures
        self._ip_adapters: list[ip_adapter.Ready] = []  # the call under way has these
        self._sees = False  # whether IP-Adapters are in use
        self._following: tuple[Any, ...] = ()  # the controls in use, their pictures' size and part
        #: Where tags in prompts find LoRAs; None: nowhere.
        self.lora_model_dir = None if lora_model_dir is None else os.fsdecode(_engine.path_bytes(lora_model_dir))
        self.rng: str = options.GENERATE["rng"].check(rng)
        device = options.MODEL["device"].check(device)
        budget = options.max_vram(max_vram, device)
        library, kind = blas_library.choose(blas)
        given |= {"max_vram": budget, "blas": kind or None}
        chosen = options.checked(options.MODEL, given)
        if library:
            chosen["blas_library"] = library
        words = embedding_files.files_of(embeddings, embedding_dir)
        files = ModelParts(model, {name: named[name] for name in FILE_KEYWORDS}, otherwise=embedded_model())
        self.model_path = files.path
        self._budgeted = budget is not None and budget != 0
        if link_speed is None and self._budgeted and not device.lower().startswith("simulated"):
            chosen["link_speed"] = _speeds.device_speed(device, chosen.get("threads", 0))
        self._model = _engine.Model(files.files, chosen)
        if files.lacks_model:
            self._model.close()
            raise InvalidArgumentError("a text encoder is given, but no model; give its model too")
        self._facts = self._model.report()
        self._space = Space.of_report(self._facts)
        self._references = _references.References.of_report(self._facts)
        self._prompts = Prompts(self._require_open, self._facts["text_encoders"], self._facts["title"], words, self._ways_out)
        self._plans = RunPlans(self._require_open, self._facts["networks"], self._prompts)
        self.device: str = self._facts["device"]
        #: The model's family, by the engine's name for it.
        self.family: str = self._facts["family"]
        #: The diffusion model's name among `networks`; "" if there is none.
        self.denoiser: str = self._facts["denoiser"]
        #: The names of the model's networks, in the order in which they run.
        self.networks: list[str] = [one["name"] for one in self._facts["networks"]]

    def __repr__(self) -> str:
        """Show the model's file and device."""
        if self._model is None:
            return "<Pipeline, closed>"
        return f"<Pipeline {self.model_path.name} on {self.device}>"

    def __enter__(self) -> Pipeline:
        """Return itself; `close` comes at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        """Close the model."""
        self.close()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse copies: two objects would own one model."""
        raise TypeError("a Pipeline cannot be copied or pickled; make another one from the same files")

    def close(self) -> None:
        """Free the model; further use raises ClosedError. Waits for a run under way; closing twice is fine.

        On the thread of that run (in a signal handler, a callback, or ``is_set`` of its ``cancel``) it cannot wait. It stops the
        run there and returns: the run raises CancelledError within moments, or what the handler raises, and the model is freed as
        it ends.
        """
        if self._model is not None and self._model.forked:
            return  # it belongs to the process that this one was forked from
        if self._at_work == _engine.caller():
            self._closing = True
            self.cancel()
            return
        with self._alone():
            self._free()

    def _free(self) -> None:
        self._closing = False
        self._prompts.clear()
        model, self._model = self._model, None
        if model is not None:
            model.close()

    @contextlib.contextmanager
    def _alone(self, cancel: _engine.Cancel | None = None) -> Iterator[None]:
        """Wait for other calls, until ``cancel`` is set.

        Raises BusyError if waiting would never end: on the thread of a run, or for a step callback that waits; CancelledError.
        """
        if self._model is not None:
            self._model.require_process()  # before a lock that nobody here may give back
        busy = "this pipeline is at work until its step callback returns"
        here = _engine.caller()
        if self._at_work == here and self._in_callback is not None:
            raise BusyError(f"{busy}: keep step.latent and use it after generate(), or use another Pipeline; cancel() works here")
        if self._at_work == here:
            raise BusyError(
                "this pipeline is at work, and a signal handler, a log handler or is_set() of its cancel called it meanwhile: "
                "use it afterwards, or another Pipeline; cancel() and close() work here"
            )
        while not self._lock.acquire(timeout=0.05):
            if cancel is not None and cancel.is_set():
                raise CancelledError("cancelled")
            inside = self._in_callback
            if inside is not None and time.monotonic() - inside > _CALLBACK_SECONDS:
                raise BusyError(f"{busy}, which takes long and may be waiting for this call")
        try:
            self._at_work = here  # a signal handler before this line has the pipeline for itself
            yield
        finally:
            self._at_work = None
            try:
                if self._closing:
                    self._free()
            finally:
                self._lock.release()

    @contextlib.contextmanager
    def _calling_back(self) -> Iterator[None]:
        """Let other calls on this thread know that a callback is under way."""
        self._in_callback = time.monotonic()
        try:
            yield
        finally:
            self._in_callback = None

    @contextlib.contextmanager
    def _watching(self, cancel: _engine.Cancel | None) -> Iterator[None]:
        """Look at a caller's event while calls are under way."""
        self._watch = None if cancel is None else cancel.is_set
        try:
            self._cancelled = False
            self._stop_if_cancelled()
            yield
        finally:
            self._watch = None

    def cancel(self) -> None:
        """Stop the run under way, from any thread: its `generate` raises CancelledError within moments.

        One that comes between two calls does nothing; `generate`'s own ``cancel`` is not lost.
        """
        self._cancelled = True
        if (model := self._model) is not None:
            model.cancel()

    @property
    def size_multiple(self) -> int:
        """Width and height must be whole multiples of this many pixels."""
        return self._space.multiple

    def default(self, name: str) -> Any:
        """The value that `generate` uses for the option `name` if it is None: the model's own, else a general one."""
        option = options.GENERATE.get(name) if isinstance(name, str) else None
        if option is None or option.default_from != "model":
            raise InvalidArgumentError(f"no option {shown(name)} has a default of the model's own")
        self._require_open()
        return option.parse(self._facts["defaults"][name])

    @_names.helpful
    @memory_errors_told()
    def generate(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str | None = "",
        conditioning: Conditioning | Sequence[Conditioning] | None = None,
        negative_conditioning: Conditioning | None = None,
        width: int | None = None,
        height: int | None = None,
        steps: int | None = None,
        cfg_scale: float | None = None,
        image_cfg_scale: float | None = None,
        guidance_start: float | None = None,
        guidance_end: float | None = None,
        guidance_rescale: float | None = None,
        guidance_norm: float | None = None,
        apg_eta: float | None = None,
        apg_momentum: float | None = None,
        apg_norm_threshold: float | None = None,
        cfg_zero_star: bool = False,
        zero_init_steps: int | None = None,
        mimic_scale: float | None = None,
        threshold_percentile: float | None = None,
        threshold_phi: float | None = None,
        slg_scale: float | None = None,
        skip_layers: Sequence[int] | str | None = None,
        skip_layer_start: float | None = None,
        skip_layer_end: float | None = None,
        sampler: str | None = None,
        scheduler: str | None = None,
        seed: int | Sequence[int] | None = None,
        rng: str | None = None,
        batch_count: int = 1,
        clip_skip: int | None = None,
        sigmas: Sequence[float] | str | None = None,
        eta: float | None = None,
        denoising_start: float | None = None,
        denoising_end: float | None = None,
        flow_shift: float | None = None,
        guidance: float | None = None,
        noise: NDArray[np.float32] | None = None,
        init_latent: NDArray[np.float32] | None = None,
        init_image: Picture | Sequence[Picture] | None = None,
        ref_images: Picture | Sequence[Picture] | None = None,
        strength: float | None = None,
        mask_image: _inpaint.Mask | None = None,
        outpaint: Sequence[int] | str | None = None,
        mask_blur: float | None = None,
        mask_invert: bool | None = None,
        mask_fill: str | None = None,
        only_masked: bool | None = None,
        only_masked_padding: int | None = None,
        paste_back: bool | None = None,
        soft_mask: bool | None = None,
        soft_inpainting: bool | None = None,
        soft_schedule_bias: float | None = None,
        soft_preservation: float | None = None,
        soft_contrast_boost: float | None = None,
        soft_mask_influence: float | None = None,
        soft_difference_threshold: float | None = None,
        soft_difference_contrast: float | None = None,
        depth_image: _depth.Depth | None = None,
        loras: Sequence[LoraLike] | None = None,
        controls: Sequence[control.ControlLike] | None = None,
        ip_adapters: Sequence[ip_adapter.IPAdapterLike] | None = None,
        cache_mode: str = "none",
        cache_threshold: float | None = None,
        cache_start: float | None = None,
        cache_end: float | None = None,
        cache_interval: int | None = None,
        cache_order: int | None = None,
        hires: bool | None = None,
        hires_upscaler: str | None = None,
        hires_scale: float | None = None,
        hires_width: int | None = None,
        hires_height: int | None = None,
        hires_steps: int | None = None,
        hires_denoising_strength: float | None = None,
        hires_exact_steps: bool | None = None,
        upscale_tile_size: int | None = None,
        preview: str = "none",
        preview_interval: int = 1,
        preview_noisy: bool = False,
        vae_tiling: bool | None = None,
        vae_tile_size: int | None = None,
        vae_tile_overlap: float | None = None,
        use_taesd: bool = False,
        preview_callback: Callable[[Step], None] | None = None,
        callback: Callable[[Step], None] | None = None,
        picture_callback: Callable[[int, Image.Image], None] | None = None,
        cancel: _engine.Cancel | None = None,
        progress: bool | None = None,
    ) -> Result:
        """Make `batch_count` pictures of `prompt`, or of each prompt in a list.

        In a prompt, ``(word:1.2)`` weighs more, ``[from:to:0.5]`` changes after half of the steps, ``[a|b]`` takes turns, and
        ``AND`` guides by several prompts, see docs/prompts.md. ``conditioning`` and ``negative_conditioning`` take the place of
        the prompts: what `encode_prompt` has made of them, one or a list.

        Width and height are in pixels. None takes the model's own default; a seed of None or below 0 is drawn at random and
        reported, a list has one for each picture. ``noise`` is the first noise, float32 [C, H/8, W/8] of unit variance or one
        more side for the pictures, instead of the seeds'. ``rng`` takes the place of the pipeline's for this call.

        ``sigmas`` are levels of noise in place of ``steps`` and ``scheduler``: falling numbers, in a list or with commas, the
        last one usually 0. ``eta`` is the share of renewed noise of stochastic samplers. ``flow_shift`` moves a flow model's
        steps towards noise if it is above 1 (None: as the model was trained). ``guidance`` is the strength that distilled models
        take as an input.

        ``init_image`` is a picture to begin from (a path, a PIL image, or uint8 [H, W, 3]) or a list with one for each picture
        to be made. It is cut and scaled to width and height, which are its own if they are left out; more than twice the
        model's usual pixels are scaled down to these. ``strength``, 0 to 1, is how far the result may go from it: of N steps,
        min(int(strength * N) + 1, N) are run (None: 0.75).

        ``init_latent``, float32 [C, H/8, W/8] or one more side for the pictures, is a latent to begin from in its place.

        ``hires`` makes the picture at width x height, enlarges it, and works over it once more by
        ``hires_denoising_strength`` (None: 0.7) in ``hires_steps`` (None: as many as before). It is enlarged ``hires_scale``
        times (None: 2), or to ``hires_width`` and ``hires_height``, by ``hires_upscaler``: the latent by interpolation
        ("latent", "latent_bicubic" …), the picture by "lanczos" or "nearest", or by the network of ``upscaler`` ("model").
        Of N steps, min(int(strength * int(N / strength)) + 1, ...) are run; ``hires_exact_steps`` runs N.

        ``cache_mode`` takes predictions of some steps from those before, which is faster and changes the picture a little:
        "easycache" (2507.02860) while they change less than ``cache_threshold`` (None: 0.2), "taylorseer" (2503.06923, of the
        network's result) computes one step in ``cache_interval`` (None: 3) and goes on by a series of ``cache_order`` (None:
        1), "first_block" runs a transformer's first block alone while its work changes less than ``cache_threshold`` (None:
        0.08). ``cache_start`` and ``cache_end`` are the share of the steps in between.

        ``denoising_end`` leaves the rest of the schedule to another pipeline, such as a refiner's, which goes on with
        ``init_latent`` from the same ``denoising_start``; the latent is noisy in between.

        ``ref_images`` are pictures that the model follows, such as one to be changed as the prompt says, for models that take
        them. Each is scaled to a size that the model takes. The first gives the size if that is left out.

        ``mask_image`` (as ``init_image``, or uint8 or bool [H, W]; as large as that) is white where the picture is repainted; an
        alpha channel counts in its place. ``mask_invert`` repaints what is black. The mask is blurred by ``mask_blur`` pixels
        (None: 4). Pixels out of its reach are the picture's own in the result, unless ``paste_back`` is False. ``mask_fill`` says
        what the repainted part begins as: "original", "fill" (the colours around it), "noise" or "nothing"; all but the first
        want a strength near 1. ``only_masked`` works on the mask's surroundings at width x height and puts the result back into
        the picture; ``only_masked_padding`` is how many pixels to each side count (None: 32). ``soft_mask``: grey says how much
        may change. ``soft_inpainting`` mixes the picture and the result at the mask's border, as A1111's web UI does, and keeps
        the pixels of what has hardly changed; ``soft_…`` are its settings.

        ``outpaint`` is how many pixels ``init_image`` grows to the left, top, right and bottom, or text "64,0,64,0". The new
        parts grow on until the sides are multiples that the model takes. Kept pixels are the picture's own but for 40 pixels
        at the seam.

        A checkpoint for inpainting (nine input channels) sees the mask and what it keeps; without a mask it paints all. One
        that edits pictures (eight; InstructPix2Pix) sees ``init_image``, begins from noise, and stays with the picture by
        ``image_cfg_scale`` (None: 1.5). One for depths (five; Stable Diffusion 2 depth) follows ``depth_image``, a picture of
        depths, or [H, W] numbers: near is bright. It goes with ``init_image``, or without one.

        ``loras`` are LoRA files and their kin: [(path, weight)], or (path, {"denoiser": weight, "te": weight}) for the diffusion
        model and the text encoders by themselves; ``<lora:name:weight>`` in the prompt does the same, see ``lora_model_dir``.
        They count for this call alone. `Result.loras` says what they changed.

        ``controls`` are ControlNets and T2I-Adapters with the pictures that they follow: `control.Control` or (path, image,
        strength). They count for this call alone.

        ``ip_adapters`` are IP-Adapters with the pictures that they show to the model, as ``clip_vision`` sees them:
        `ip_adapter.IPAdapter` or (path, image, strength). They count for this call alone.

        ``vae_tiling`` None decodes large pictures in tiles of ``vae_tile_size`` latent sides that overlap by the share
        ``vae_tile_overlap``. ``use_taesd`` decodes with the tiny autoencoder.

        ``guidance_start`` and ``guidance_end`` are the share of the steps with guidance. ``guidance_rescale`` gives the guided
        prediction the range of the prompt's own (2305.08891), ``guidance_norm`` each of its patches their norm (2508.02324).
        ``apg_…`` are those of adaptive projected guidance (2410.02416), ``cfg_zero_star`` and ``zero_init_steps`` those of
        CFG-Zero* (2503.18886), ``mimic_scale`` and ``threshold_…`` those of dynamic thresholding. ``slg_scale`` leads a
        transformer away from what it makes without ``skip_layers`` (None: 7, 8 and 9) in the share of the steps from
        ``skip_layer_start`` (None: 0.01) to ``skip_layer_end`` (None: 0.2).

        ``callback`` is called after each step with a `Step`, on this thread; what it raises comes out of this call.
        ``preview_callback`` likewise, after every ``preview_interval`` steps, and with a picture: ``preview`` says how it is
        made (``proj`` at once, ``tae`` by the tiny autoencoder, ``vae`` by the model's own). ``picture_callback`` is called with
        the number and the picture as soon as each is done. Within them only `cancel` and `close` may be called on this pipeline;
        other methods raise BusyError. ``cancel`` is a `threading.Event` or the like: once its ``is_set()`` is true this call
        raises CancelledError within moments, also if it was set before. ``progress`` None shows a bar on a terminal.

        Raises InvalidArgumentError before anything is computed, CancelledError, MissingPartError, OutOfMemoryError,
        NotFiniteError, ClosedError.
        """
        given = options.given(options.GENERATE, locals())
        with self._alone(options.cancel(cancel)), self._watching(cancel):
            model = self._require_open()
            visible = options.progress(progress)
            watchers = Watchers(callback, preview_callback, picture_callback, given)
            self._require_parts(options.switch("use_taesd", use_taesd))
            unwanted = "" if negative_prompt is None else negative_prompt
            if not isinstance(unwanted, str):
                raise InvalidArgumentError(f"negative_prompt must be a str, not {shown(unwanted)}")
            given_loras = networks.of_keyword(loras)
            texts = self._texts(prompt, conditioning, given_loras)
            away: str | Conditioning = unwanted
            for one in conditionings_of("negative_conditioning", negative_conditioning):
                away = one
            pictures = _images.pictures_of(init_image)
            mask = None if mask_image is None else _inpaint.mask_of(mask_image)
            depth = None if depth_image is None else _depth.depth_of(depth_image)
            if outpaint is not None:
                pictures, mask = self._space.outpainted(pictures, mask, _inpaint.sides_of(outpaint), given)
            followed = _references.prepared(self._references, ref_images)
            if pictures or followed:
                self._space.size_of_picture(given, (pictures or followed)[0], self.default("width") * self.default("height"))
            given_latents = self._space.given_latents(init_latent, given, bool(pictures))
            begins = (bool(pictures) and self._space.sees != "picture") or given_latents is not None
            used = self._checked(given)
            self._controls = control.of_keyword(controls)
            self._ip_adapters = ip_adapter.of_keyword(ip_adapters)
            self._warn(bool(away), given, used, begins, mask is not None)
            if self._space.sees == "picture":
                self._space.check_editing(used, pictures, mask)
            self._space.check_depth(depth, used, outpaint is not None)
            works = self._space.works(pictures, mask, used)
            later = self._second_pass(used, bool(works))
            again = self._again(locals())
            if loras is not None:
                again["loras"] = [(os.fsdecode(lora.path), lora.weight) for lora in given_loras]
            if controls is not None:
                again["controls"] = [_beside.again(one.given) for one in self._controls]
            if ip_adapters is not None:
                again["ip_adapters"] = [_beside.again(one.given) for one in self._ip_adapters]
            if self.model_path == embedded_model() and not all(can_draw(text.plain) for text in texts if text.given is None):
                logger.warning("the embedded model draws %s, and nothing else", SUBJECT)
            count = used["batch_count"] * len(texts)
            seeds = _jobs.seeds_of(seed, count)
            shape = self._space.latent_shape(used["height"], used["width"])
            noises = _jobs.latents_of("noise", used.pop("noise", None), shape, count)
            if len(pictures) not in (0, 1, count):
                raise InvalidArgumentError(f"init_image is a list of {len(pictures)}; there are {count} pictures to be made")
            model.begin()
            passes = used["steps"] + (later.steps if later else 0)
            with tqdm(total=passes * count, unit="step", disable=not visible, leave=False) as bar:
                bar.set_description("reading the prompt")
                try:
                    start = time.perf_counter()
                    if self._budgeted:
                        sees = bool(self._ip_adapters)
                        self._plans.require_later(self._later_options(used, later) if later else used, later, sees)
                    box = works[0].box if works else None  # the same for all: they have one mask
                    self._led_part = None if box is None else control.Part(works[0].kept.size, box)
                    self._follow(used["width"], used["height"])
                    self._look()
                    for text in texts:
                        text.used = self._prompts.adapt(text.loras)
                        text.shares = self._shares(text, away, used, begins)
                        if later:
                            text.later_shares = self._shares(text, away, self._later_options(used, later), True, used["steps"])
                    fitted = [_images.fitted(picture, used["width"], used["height"]) for picture in pictures]
                    latents: list[Any] = [self._encoded(picture) for picture in ([work.picture for work in works] or fitted)]
                    extras = self._space.extras(latents, works, used, self._encoded, depth)
                    if self._space.sees == "picture":
                        latents = []
                    references = tuple(self._encoded(picture) for picture in followed)
                    if given_latents is not None:
                        latents = _jobs.latents_of("init_latent", given_latents, shape, count)
                    timings = {"encode": time.perf_counter() - start, "sample": 0.0, "decode": 0.0}
                    starts = latents * count if len(latents) == 1 else latents or [None] * count
                    numbers = [number for number in range(len(texts)) for _ in range(used["batch_count"])]
                    jobs = [_jobs.Job(*job) for job in zip(numbers, seeds, noises, starts)]
                    if works:
                        jobs = [self._space.masked(job, number % len(works), works, used) for number, job in enumerate(jobs)]
                    if references:
                        jobs = [replace(job, references=references) for job in jobs]
                    if extras:
                        jobs = [replace(job, extra=extras[number % len(extras)]) for number, job in enumerate(jobs)]
                    return self._run(jobs, again, used, texts, timings, watchers, bar, works, later, depth)
                except OverBudgetError as problem:
                    plain = [*(text.plain for text in texts), unwanted]
                    largest = self._later_options(used, later) if later else used
                    raise self._plans.enough_for_all(problem, largest, plain, bool(pictures or followed)) from None

    def _second_pass(self, used: dict[str, Any], has_mask: bool) -> _hires.SecondPass | None:
        """The second pass of hires fix; its defaults are added to ``used``."""
        if not used.get("hires"):
            return None
        if has_mask:
            raise InvalidArgumentError.of("hires", "makes whole pictures larger, and takes no mask")
        used.update({name: value for name, value in _hires.DEFAULTS.items() if name not in used})
        if used["hires_upscaler"] == "model" and self.upscale_factor < 2:
            raise MissingPartError.of("hires_upscaler is model, and there is no upscaler", "upscaler")
        return _hires.second_pass(used, self.size_multiple)

    @staticmethod
    def _later_options(used: Mapping[str, Any], later: _hires.SecondPass) -> dict[str, Any]:
        """The options of the second pass."""
        without = {name: value for name, value in used.items() if name not in ("sigmas", "denoising_start")}
        own = {"width": later.width, "height": later.height, "steps": later.steps, "strength": later.strength}
        return {"scheduler": "discrete", **without, **own}

    def _enlarged(self, latent: NDArray[np.float32], used: Mapping[str, Any], later: _hires.SecondPass) -> NDArray[np.float32]:
        """What the second pass begins from."""
        _, height, width = self._space.latent_shape(later.height, later.width)
        if later.upscaler.startswith("latent"):
            return _hires.enlarged_latent(latent, height, width, later.upscaler)
        picture = Image.fromarray(self._pixels(latent, used))
        if later.upscaler == "model":
            tile = {name: used[name] for name in _UPSCALING if name in used}
            while picture.width < later.width or picture.height < later.height:
                pixels = np.asarray(picture)
                picture = Image.fromarray(self._require_open().upscale(pixels, self.upscale_factor, tile, **self._ways_out()))
        how = Image.Resampling.NEAREST if later.upscaler == "nearest" else Image.Resampling.LANCZOS
        return self._encoded(picture.resize((later.width, later.height), how))

    def _texts(self, prompt: Any, conditioning: Any, loras: Sequence[networks.Lora]) -> list[Text]:
        """The prompts of a call, as texts or as conditionings."""
        given = conditionings_of("conditioning", conditioning)
        if given and prompt is not None:
            raise InvalidArgumentError.of("conditioning", "takes the place of a prompt; give one of them")
        if given:
            return [Text("", networks.checked(list(loras)), one.prompt, one) for one in given]
        if prompt is None:
            raise InvalidArgumentError(
                "prompt must be a str, or a list of them; or give a conditioning that encode_prompt has made"
            )
        every = {text: self._prompts.read(text, loras, self.lora_model_dir) for text in _jobs.prompts_of(prompt)}
        return [every[text] for text in _jobs.prompts_of(prompt)]

    def _shares(
        self, text: Text, away: str | Conditioning, used: Mapping[str, Any], begins: bool, earlier: int = 0
    ) -> list[_engine.Share]:
        """The conditionings of a prompt and of the negative one for a run; ``begins``: from a picture."""
        steps = used["steps"]
        run = min(int(used["strength"] * steps) + 1, steps) if begins else steps
        scale, share = used["cfg_scale"], None
        if self._space.sees == "picture" and (scale, used["image_cfg_scale"]) != (1.0, 1.0):
            share = (used["image_cfg_scale"] - scale) / scale  # of the formula of InstructPix2Pix (Brooks et al. 2023)
        how = {"guided": scale != 1.0, "clip_skip": used["clip_skip"], "earlier": earlier, "picture_share": share}
        return self._prompts.shares(text, away, steps=steps, run=run, **how)

    @staticmethod
    def _again(values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call that `options` do not hold and that are needed to repeat it."""
        names = ("conditioning", "negative_conditioning", "noise", "init_latent", "init_image", "ref_images", "mask_image")
        given = {name: values[name] for name in ("prompt", *names, "outpaint", "depth_image") if values[name] is not None}
        return {**given, "negative_prompt": values["unwanted"]}

    def _follow(self, width: int, height: int) -> None:
        """Let the call's controls, and no others, lead pictures of this size, which may be a part of a whole."""
        part = self._led_part
        wanted = (self._controls, width, height, part) if self._controls else ()
        if wanted != self._following:
            self._following = (None,)  # of no call, should an error come
            self._require_open().set_controls([one.for_engine(width, height, part) for one in self._controls])
            self._following = wanted

    def _look(self) -> None:
        """Let the call's IP-Adapters, and no others, be in use."""
        adapters, before = self._ip_adapters, self._sees
        self._sees = bool(adapters)
        side = max(1, self._facts["vision_side"])  # without a vision encoder the engine says what is lacking
        if adapters or before:
            self._require_open().set_ip_adapters([one.for_engine(side) for one in adapters])

    def _look_at_nothing(self) -> None:
        """Let no controls and no IP-Adapters be in use."""
        self._controls, self._ip_adapters = [], []
        self._follow(0, 0)
        self._look()

    def _encoded(self, picture: Image.Image, repainted: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """The latent of a picture whose sides the autoencoder takes; ``repainted`` pixels [H, W] are grey in it."""
        planes = np.ascontiguousarray(np.asarray(picture, np.float32).transpose(2, 0, 1) / np.float32(127.5) - np.float32(1))
        if repainted is not None:
            planes[:, repainted] = 0
        shape = self._space.latent_shape(picture.height, picture.width)
        return self._require_open().encode(planes, shape, **self._ways_out())

    def _checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values that `generate` uses: those given, else the model's. Options that the engine decides are left out."""
        given = dict(given)
        given["scheduler"] = _names.schedule(given["scheduler"], options.SCHEDULERS)
        given["sampler"], implied = _names.sampler(given["sampler"], options.SAMPLERS, options.SCHEDULERS)
        given["scheduler"] = implied if given["scheduler"] is None else given["scheduler"]
        with_defaults = {
            name: self._or_default(name, value) if options.GENERATE[name].default_from == "model" else value
            for name, value in given.items()
            if name != "seed"  # which may be several
        }
        with_defaults["clip_skip"] = self._checked_clip_skip(given["clip_skip"])
        with_defaults["rng"] = self.rng if given["rng"] is None else given["rng"]
        used = options.checked(options.GENERATE, with_defaults)
        if "sigmas" in used:
            if len(used["sigmas"]) < 2:
                raise InvalidArgumentError.of("sigmas", "needs two numbers or more")
            used["steps"] = len(used["sigmas"]) - 1
            del used["scheduler"]
        if given["guidance"] is None and not self._facts["takes_guidance"]:
            del used["guidance"]
        for side in ("width", "height"):
            used[side] = options.side(side, used[side], self.size_multiple)
        return used

    def _require_network(self, name: object) -> None:
        if not isinstance(name, str) or name not in self.networks:
            raise InvalidArgumentError.of("network", f"must be one of {', '.join(self.networks)}, not {shown(name)}")

    def _require_open(self) -> _engine.Model:
        if self._model is None:
            raise ClosedError("this pipeline is closed; make a new one")
        return self._model

    def _or_default(self, name: str, value: Any) -> Any:
        return self.default(name) if value is None else value

    def _require_parts(self, use_taesd: bool, kind: str = "") -> None:
        """Raise MissingPartError if a picture needs a part that the model lacks; only those of a ``kind``, unless it is ""."""
        rows = self._facts["missing_with_taesd" if use_taesd else "missing"]
        missing = [row for row in rows if not kind or row["kind"] == kind]
        if missing and (alone := self._facts["alone"]):
            raise MissingPartError.alone(self.model_path.name, alone["title"], alone["option"])
        if missing:
            what = f"{self.model_path.name} has no {missing[0]['title']}, which {self._facts['title']} needs"
            raise MissingPartError.of(what, missing[0]["option"])

    def _warn(self, unwanted: bool, given: Mapping[str, Any], used: dict[str, Any], has_picture: bool, has_mask: bool) -> None:
        """Log options that are given and have no effect."""
        if unwanted and used["cfg_scale"] == 1.0:
            logger.warning("the negative prompt has no effect at a %s of 1; take one above 1", OptionName("cfg_scale"))
        if used["cfg_scale"] == 1.0:
            for name in (name for name in _GUIDANCE if name not in _BESIDE_GUIDANCE):
                if given[name] != options.GENERATE[name].keyword_default:
                    logger.warning("%s has no effect at a %s of 1", OptionName(name), OptionName("cfg_scale"))
        for names, needed in _NEEDED.items():
            for name in names:
                if given[name] is not None and not given[needed]:
                    logger.warning("%s has no effect without %s", OptionName(name), OptionName(needed))
        for name in (name for name in options.GENERATE if name.startswith("cache_") and name != "cache_mode"):
            wanted = _OF_CACHE.get(name, (used["cache_mode"],))
            if given[name] is not None and (used["cache_mode"] == "none" or used["cache_mode"] not in wanted):
                logger.warning("%s has no effect with %s %s", OptionName(name), OptionName("cache_mode"), used["cache_mode"])
        if given["guidance"] is not None and not self._facts["takes_guidance"]:
            own, other = OptionName("guidance"), OptionName("cfg_scale")
            logger.warning("%s has no effect: this model was not distilled to take it; %s guides it", own, other)
        if given["flow_shift"] is not None and not self._facts["flow"]:
            logger.warning("%s has no effect: this model is not a flow", OptionName("flow_shift"))
        for name, option in options.GENERATE.items():
            if option.samplers and given.get(name) is not None and used["sampler"] not in option.samplers:
                logger.warning("%s has no effect with the sampler %s", OptionName(name), used["sampler"])
        if "sigmas" in used and (given["scheduler"] is not None or given["steps"] not in (None, used["steps"])):
            logger.warning("%s and %s have no effect with %s", *map(OptionName, ("steps", "scheduler", "sigmas")))
        if given["vae_tiling"] is False and (given["vae_tile_size"], given["vae_tile_overlap"]) != (None, None):
            logger.warning("the size and overlap of tiles have no effect without %s", OptionName("vae_tiling"))
        for name in _SOFT:
            if has_mask and not given["soft_inpainting"] and used.pop(name, None) is not None:
                logger.warning("%s has no effect without %s", OptionName(name), OptionName("soft_inpainting"))
        for name in () if has_mask else _MASKING:
            if used.pop(name, None) is not None:
                logger.warning("%s has no effect without %s", OptionName(name), OptionName("mask_image"))
        for name in (*_hires.NAMES, "hires_exact_steps") if not given["hires"] else ():
            if used.pop(name, None) is not None:
                logger.warning("%s has no effect without %s", OptionName(name), OptionName("hires"))
        if has_mask and given["only_masked_padding"] is not None and not given["only_masked"]:
            logger.warning("%s has no effect without %s", OptionName("only_masked_padding"), OptionName("only_masked"))
        if given["image_cfg_scale"] is not None and self._space.sees != "picture":
            del used["image_cfg_scale"]
            logger.warning("%s has no effect: this model does not edit pictures", OptionName("image_cfg_scale"))
        if not has_picture:
            del used["strength"]
            if given["strength"] is not None:
                logger.warning("%s has no effect without %s", OptionName("strength"), OptionName("init_image"))

    def _checked_clip_skip(self, value: int | None) -> int:
        layers = min((encoder.layers for encoder in self._prompts.encoders), default=1)
        return int(options.GENERATE["clip_skip"].check(self._or_default("clip_skip", value), most=layers))

    def _run(
        self,
        jobs: Sequence[_jobs.Job],
        again: Mapping[str, Any],
        used: dict[str, Any],
        texts: Sequence[Text],
        timings: dict[str, float],
        watchers: Watchers,
        bar: Any,
        works: Sequence[_inpaint.Work],
        later: _hires.SecondPass | None,
        depth: Image.Image | None,
    ) -> Result:
        latents: list[NDArray[np.float32]] = []
        pictures: list[Image.Image] = []
        most = self._together({**used, "batch_count": len(jobs)})
        keys = [together_key(text) for text in texts]

        def decode(number: int) -> None:
            self._stop_if_cancelled()
            bar.set_description("decoding")
            start = time.perf_counter()
            image = Image.fromarray(self._pixels(latents[number], used))
            one = jobs[number]
            if works and used["paste_back"]:
                work = works[one.work]
                if used.get("soft_inpainting"):
                    assert one.init_latent is not None
                    work = _soft.by_change(work, one.init_latent, latents[number], self._space.factor, used)
                image = work.pasted(image)
            text = texts[one.text]
            own = {**used, "prompt": text.written, "negative_prompt": again["negative_prompt"], "seed": one.seed}
            hashes = {"Lora hashes": networks.hashes_text(text.loras)}
            hashes["TI hashes"] = self._prompts.words.hashes_text([text.plain, again["negative_prompt"]])
            hashes |= {f"ControlNet {number}": one.written for number, one in enumerate(self._controls)}
            hashes |= {f"IP-Adapter {number}": one.written for number, one in enumerate(self._ip_adapters)}
            image.info["parameters"] = _images.parameters_of(own, self.model_path.stem, hashes)
            facts = {"model": _images.file_text(self.model_path.name), "version": _engine.version()}
            made_from = [name for name in metadata.NOT_KEPT if name in again]
            image.info[metadata.KEY] = metadata.own_text(own, text.written, again["negative_prompt"], made_from, facts)
            pictures.append(image)
            timings["decode"] += time.perf_counter() - start
            with self._calling_back():
                watchers.show(number, image)

        for group in _jobs.groups(jobs, most, lambda job: keys[job.text]):
            self._stop_if_cancelled()
            bar.set_description("sampling")
            start = time.perf_counter()
            text = texts[group[0].text]
            self._prompts.adapt(text.loras)
            shares = together([texts[job.text].shares for job in group])
            made = list(self._sample(used, shares, group, len(latents), watchers, bar))
            if later:
                made = self._larger(made, group, used, later, texts, len(latents), watchers, bar, depth)
            latents.extend(made)
            timings["sample"] += time.perf_counter() - start
            if most == 1:
                decode(len(pictures))
        for number in range(len(pictures), len(latents)):
            decode(number)
        timings["total"] = sum(timings.values())
        memory = self._require_open().take_memory()
        seeds = [job.seed for job in jobs]
        parameters = {**again, **used, "seed": seeds[0] if _jobs.rising(jobs) else seeds}
        loras = list({id(one): one for text in texts for one in text.used}.values())
        return Result(pictures, seeds, latents, timings, memory, self._reports(), parameters, loras)

    def _larger(
        self,
        latents: Sequence[NDArray[np.float32]],
        group: Sequence[_jobs.Job],
        used: Mapping[str, Any],
        later: _hires.SecondPass,
        texts: Sequence[Text],
        first: int,
        watchers: Watchers,
        bar: Any,
        depth: Image.Image | None,
    ) -> list[NDArray[np.float32]]:
        """The second pass over a group's latents."""
        own = self._later_options(used, later)
        extra = next(
            iter(self._space.extras([], (), own, self._encoded, depth)), None
        )  # a checkpoint for inpainting paints all in both passes
        jobs = []
        for job, latent in zip(group, latents):
            self._stop_if_cancelled()
            jobs.append(replace(job, noise=None, extra=extra, init_latent=self._enlarged(latent, used, later)))
        out: list[NDArray[np.float32]] = []
        for part in _jobs.groups(jobs, self._together({**own, "batch_count": len(jobs)}), lambda job: 0):
            shares = together([texts[job.text].later_shares for job in part])
            out.extend(self._sample(own, shares, part, first + len(out), watchers, bar))
        return out

    def _ways_out(self) -> dict[str, Any]:
        """What ends a call of the engine, as its functions take it."""
        return {"stop": self.cancel, "watch": self._watch}

    def _stop_if_cancelled(self) -> None:
        if self._cancelled or self._closing or (self._watch is not None and self._watch()):
            raise CancelledError("cancelled")

    def _reports(self) -> dict[str, Report]:
        return {run["network"]: Report.of_engine(run) for run in self._require_open().take_runs()}

    @memory_errors_told()
    def take_profile(self) -> list[ProfileRow]:
        """Times by operation since the last call; empty without ``profile=True``. `profile.table` makes text of it."""
        with self._alone():
            return [ProfileRow(**row) for row in self._require_open().take_profile()]

    @memory_errors_told()
    def plan(
        self,
        *,
        width: int | None = None,
        height: int | None = None,
        batch_count: int = 1,
        cfg_scale: float | None = None,
        network: str | None = None,
    ) -> planner.Plan:
        """The plan that `generate` would follow for pictures of this size; nothing is loaded.

        Tokens of ``ref_images`` are not counted here. `generate` counts them, within the same budget.
        ``network`` is one of `networks`; None: the diffusion model. Raises OverBudgetError if nothing fits,
        InvalidArgumentError, MissingPartError.
        """
        with self._alone():
            model = self._require_open()
            if network is not None:
                self._require_network(network)
            self._look_at_nothing()
            used = self._size(width, height, batch_count, cfg_scale)
            return planner.of_engine(model.plan(network or self.denoiser, used))

    @memory_errors_told()
    def plans(
        self,
        prompt: str | Sequence[str] = "",
        *,
        width: int | None = None,
        height: int | None = None,
        batch_count: int = 1,
        cfg_scale: float | None = None,
        init_image: bool = False,
        vae_tiling: bool | None = None,
        vae_tile_size: int | None = None,
        use_taesd: bool = False,
    ) -> dict[str, planner.Plan]:
        """The plans of all networks that `generate` would run, in order; a decoder's may be that of a tile.

        Tokens of ``ref_images`` are not counted, as in `plan`.
        ``init_image`` tells whether the run begins from a picture. Raises OverBudgetError, whose ``least_bytes`` are enough for
        the whole run; InvalidArgumentError; MissingPartError.
        """
        decoding = options.given(DECODING, locals())
        with self._alone():
            self._require_open()
            decoding = options.checked(DECODING, decoding)
            self._require_parts(decoding["use_taesd"])
            self._look_at_nothing()
            used = {**self._size(width, height, batch_count, cfg_scale), **decoding}
            found = self._plans.of_run(used, _jobs.prompts_of(prompt), options.switch("init_image", init_image))
        problems = [one for one in found.values() if isinstance(one, OverBudgetError)]
        if problems:
            raise problems[0].with_enough(max(problems, key=least_bytes))
        return {name: one for name, one in found.items() if isinstance(one, planner.Plan)}

    def _size(self, width: int | None, height: int | None, batch_count: int, cfg_scale: float | None) -> dict[str, Any]:
        """The size of a run, as the engine plans and samples it: with so many pictures as go together."""
        size = options.given(options.GENERATE, {"width": width, "height": height, "cfg_scale": cfg_scale})
        used = options.checked(options.GENERATE, {name: self._or_default(name, value) for name, value in size.items()})
        for side in ("width", "height"):
            used[side] = options.side(side, used[side], self.size_multiple)
        used["batch_count"] = options.GENERATE["batch_count"].check(batch_count)
        used["batch_count"] = self._together(used)
        return used

    def _together(self, used: Mapping[str, Any]) -> int:
        """How many pictures are sampled together: several if layers are streamed, so that they are uploaded once for all."""
        if used.get("cache_mode", "none") != "none":
            return 1  # a picture's own predictions decide which are computed
        return self._require_open().pictures_together({name: used[name] for name in SIZE})

    def _sample(
        self,
        used: Mapping[str, Any],
        shares: Sequence[_engine.Share],
        group: Sequence[_jobs.Job],
        first: int,
        watchers: Watchers,
        bar: Any,
    ) -> NDArray[np.float32]:
        """The latents of a group of pictures, the first of which is number ``first`` of the call."""
        model = self._require_open()

        def after_step(
            step: int, steps: int, seconds: float, estimates: NDArray[np.float32], previews: NDArray[np.uint8] | None
        ) -> None:
            if step == 1 and steps < used["steps"]:
                bar.total -= (used["steps"] - steps) * len(group)
            bar.update(len(group))
            self._stop_if_cancelled()
            with self._calling_back():
                for number, estimate in enumerate(estimates):
                    picture = None if previews is None else previews[number]
                    watchers.tell(Step(step, steps, seconds, first + number, estimate.copy(), model.preview, picture))

        self._follow(used["width"], used["height"])
        own = {name: value for name, value in used.items() if options.GENERATE[name].set == "generate"}
        own |= {"batch_count": len(group), "seeds": ",".join(str(job.seed) for job in group)}
        for name in ("noise", "init_latent", "mask", "extra"):
            arrays = [getattr(job, name) for job in group]
            if arrays[0] is not None:
                own[name] = np.stack(arrays)
        if references := group[0].references:
            own["references"] = np.concatenate([one.ravel() for one in references])
            own["reference_sides"] = [side for one in references for side in one.shape[1:]]
        shape = (len(group), *self._space.latent_shape(used["height"], used["width"]))
        return model.sample(shares, own, shape, after_step, stop=self.cancel, watch=self._watch)

    def _pixels(self, latent: NDArray[np.float32], used: Mapping[str, Any]) -> NDArray[np.uint8]:
        factor = self._space.factor
        return self._require_open().decode(latent, factor, options.given(DECODING, used), stop=self.cancel, watch=self._watch)

    @memory_errors_told()
    def decode(
        self,
        latent: NDArray[np.float32],
        *,
        vae_tiling: bool | None = None,
        vae_tile_size: int | None = None,
        vae_tile_overlap: float | None = None,
        use_taesd: bool = False,
        cancel: _engine.Cancel | None = None,
    ) -> Image.Image:
        """A latent, float32 [C, h, w], to a picture; options as for `generate`. Raises BusyError within a step callback."""
        given = options.given(DECODING, locals())
        with self._alone(options.cancel(cancel)), self._watching(cancel):
            self._require_open()
            array, channels = options.array("the latent", latent), self._facts["latent_channels"]
            if array.ndim != 3 or array.shape[0] != channels or 0 in array.shape:
                raise InvalidArgumentError(f"a latent must be [{channels}, h, w], not {array.shape}")
            return Image.fromarray(self._pixels(array, options.checked(DECODING, given)))

    @memory_errors_told()
    def upscale(
        self,
        image: Picture,
        *,
        repeats: int = 1,
        width: int | None = None,
        height: int | None = None,
        upscale_tile_size: int | None = None,
        cancel: _engine.Cancel | None = None,
    ) -> Image.Image:
        """A larger picture of ``image`` (a path, a PIL image, or uint8 [H, W, 3]) by the network of the keyword ``upscaler``.

        It works ``repeats`` times; `upscale_factor` is how many times larger a side becomes each time. ``width`` and ``height``
        (one gives the other) scale the result to that size. Transparency is enlarged by itself. Large pictures go through in
        tiles of ``upscale_tile_size`` pixels that overlap (None: as memory allows). Raises MissingPartError without an upscaler,
        InvalidArgumentError, BadFileError, CancelledError, OutOfMemoryError.
        """
        given = options.given(_UPSCALING, locals())
        with self._alone(options.cancel(cancel)), self._watching(cancel):
            model = self._require_open()
            factor = self.upscale_factor
            if factor == 0:
                raise MissingPartError.of(f"{self.model_path.name} has no upscaler, which makes pictures larger", "upscaler")
            used = options.checked(_UPSCALING, given)
            picture = _images.unflattened(image)
            target = _images.target_size(picture.size, width, height)
            for _ in range(options.integer("repeats", repeats, 1, 8)):
                _images.require_pixels(picture.width * factor, picture.height * factor, f"{factor} times larger ")
                pixels = np.ascontiguousarray(picture.convert("RGB"), np.uint8)
                larger = Image.fromarray(model.upscale(pixels, factor, used, **self._ways_out()))
                picture = _images.with_alpha_of(larger, picture)
            return picture if target is None else picture.resize(target, Image.Resampling.LANCZOS)

    @property
    def upscale_factor(self) -> int:
        """How many times larger `upscale` makes a side; 0 without an upscaler."""
        return int(self._facts["upscale_factor"])

    @memory_errors_told()
    def encode(self, image: Picture, *, cancel: _engine.Cancel | None = None) -> NDArray[np.float32]:
        """A picture (a path, a PIL image, or uint8 [H, W, 3]) to the mean of its latent, float32 [C, H/8, W/8], as sampled."""
        with self._alone(options.cancel(cancel)), self._watching(cancel):
            self._require_open()
            picture, factor = _images.opened(image), self._space.factor
            if picture.height % factor or picture.width % factor or 0 in picture.size:
                raise InvalidArgumentError(f"a picture must be [H, W, 3] with sides in multiples of {factor}")
            return self._encoded(picture)

    @memory_errors_told()
    def prompt_states(
        self, text: str, *, clip_skip: int | None = None, loras: Sequence[LoraLike] | None = None
    ) -> NDArray[np.float32]:
        """The text encoders' states of `text` as the diffusion model takes them, float32 [1, tokens, C]."""
        with self._alone():
            self._require_open()
            self._require_parts(False, "text_encoder")
            skip = self._checked_clip_skip(clip_skip)
            self._prompts.adapt(networks.of_keyword(loras))
            return self._prompts.states(text, skip)

    @memory_errors_told()
    def encode_prompt(
        self,
        prompt: str,
        *,
        negative: bool = False,
        steps: int | None = None,
        clip_skip: int | None = None,
        loras: Sequence[LoraLike] | None = None,
        cancel: _engine.Cancel | None = None,
    ) -> Conditioning:
        """A prompt as the diffusion model takes it, for `generate`'s ``conditioning``, or its ``negative_conditioning``.

        ``negative`` says which, since some models take zeros for an empty negative prompt. ``steps`` is needed if the prompt
        changes from step to step. `Conditioning.save` keeps it in a file. LoRAs count for the text encoders alone here.
        """
        with self._alone(options.cancel(cancel)), self._watching(cancel):
            self._require_open()
            self._require_parts(False, "text_encoder")
            (text,) = self._texts(prompt, None, networks.of_keyword(loras))
            skip = self._checked_clip_skip(clip_skip)
            count = None if steps is None else options.GENERATE["steps"].check(steps)
            self._prompts.adapt(text.loras)
            return self._prompts.conditioning(text, negative=options.switch("negative", negative), steps=count, clip_skip=skip)

    @memory_errors_told()
    def evaluate(
        self,
        network: str,
        *,
        loras: Sequence[LoraLike] | None = None,
        controls: Sequence[control.ControlLike] | None = None,
        ip_adapters: Sequence[ip_adapter.IPAdapterLike] | None = None,
        **inputs: NDArray[Any],
    ) -> NDArray[np.float32]:
        """Run one network once, for tests and benchmarks: the inputs and names that sdcpp.h gives for sdcpp_evaluate."""
        with self._alone():
            self._require_network(network)
            self._prompts.adapt(networks.of_keyword(loras))
            self._controls, self._led_part = control.of_keyword(controls), None
            self._ip_adapters = ip_adapter.of_keyword(ip_adapters)
            factor, sides = self._space.factor, np.shape(inputs["x"]) if "x" in inputs else ()
            self._follow(*((sides[3] * factor, sides[2] * factor) if len(sides) == 4 else (0, 0)))
            self._look()
            return self._require_open().evaluate(network, inputs, stop=self.cancel, watch=self._watch)

    @memory_errors_told()
    def take_memory(self) -> dict[str, int]:
        """Bytes that the engine held since the last call, at most, by class: see `Result.memory`."""
        with self._alone():
            return self._require_open().take_memory()
