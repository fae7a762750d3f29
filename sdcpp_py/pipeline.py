"""`Pipeline`: text to pictures."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from sdcpp_py import _binding, images, options, planner, prompt, speeds
from sdcpp_py import blas as blas_library
from sdcpp_py import profile as profiles
from sdcpp_py import text_encoders as encoders
from sdcpp_py._engine import ffi, lib
from sdcpp_py.errors import BusyError, CancelledError, ClosedError, InvalidArgumentError, MissingPartError
from sdcpp_py.model_parts import ModelParts, PathLike
from sdcpp_py.profile import ProfileRow

logger = logging.getLogger("sdcpp_py")
_CACHED_PROMPTS = 16
_FALLBACKS: dict[str, Any] = {
    "width": 512,
    "height": 512,
    "steps": 20,
    "cfg_scale": 7.0,
    "sampler": "euler_a",
    "scheduler": "discrete",
    "clip_skip": 1,
}


@dataclass(frozen=True)
class Step:
    """What a callback is told after each step."""

    step: int  #: from 1
    steps: int
    seconds: float  #: since sampling of this picture began
    image_index: int  #: which picture of the batch, from 0
    latent: NDArray[np.float32]  #: the present estimate of the clean latent, [C, H/8, W/8]; a copy


@dataclass(frozen=True)
class Report:
    """How a network ran in one `Pipeline.generate`."""

    plan: planner.Plan
    runs: int  #: steps, for the UNet
    uploaded_bytes: int  #: in all
    first_runs: int  #: of a plan: those load what is resident; 0 where an earlier generation did
    loaded_bytes: int  #: of the uploads, in first runs
    seconds: float
    first_seconds: float  #: of first runs
    compute_seconds: float
    first_compute_seconds: float  #: of first runs, which touch their memory for the first time
    stall_seconds: float  #: waiting for uploads
    upload_seconds: float  #: the link at work
    replanned: bool  #: after the second run had shown other speeds than expected

    @property
    def uploaded_bytes_per_step(self) -> float:
        """Of the runs that are not first; 0 where there is no other."""
        return (self.uploaded_bytes - self.loaded_bytes) / self._later_runs if self._later_runs else 0.0

    @property
    def step_seconds(self) -> float:
        """The mean of the runs that are not first, or of all where there is no other."""
        return (self.seconds - self.first_seconds) / self._later_runs if self._later_runs else self.seconds

    @property
    def compute_seconds_per_step(self) -> float:
        """The mean of the runs that are not first, or of all where there is no other."""
        rest = self.compute_seconds - self.first_compute_seconds
        return rest / self._later_runs if self._later_runs else self.compute_seconds

    @property
    def _later_runs(self) -> int:
        return self.runs - self.first_runs


@dataclass
class Result:
    """What `Pipeline.generate` returns."""

    images: list[Image.Image]
    seed: int  #: of the first picture; the n-th has seed + n
    latents: list[NDArray[np.float32]] = field(repr=False)  #: float32 [C, H/8, W/8], one a picture
    timings: dict[str, float]  #: seconds: "encode", "sample", "decode", "total"
    memory: dict[str, int]  #: bytes at most: "workspace", "weights", "slots", "carries", "peak" (of all these), "mapped" (files)
    reports: dict[str, Report] = field(repr=False)  #: by network: its plan, and what running it took
    parameters: dict[str, Any]  #: every option as it was used


def embedded_model() -> Path:
    """The path of the small model that comes with the package."""
    return Path(str(resources.files("sdcpp_py").joinpath("data/shapes.gguf")))


def _decode_params(tiling: bool | None, tile_size: int | None, overlap: float | None, taesd: bool) -> Any:
    params = ffi.new("sdcpp_decode_params*")
    lib.sdcpp_decode_params_default(params)
    if tiling is not None:
        params.tiling = int(bool(tiling))
    if tile_size is not None:
        params.tile = options.integer("vae_tile_size", tile_size, 8, 2048)
    if overlap is not None:
        params.overlap = options.real("vae_tile_overlap", overlap, 0.0, 0.5)
    params.taesd = int(bool(taesd))
    return params


class Pipeline:
    """A model, ready to make pictures.

    ``model`` is a checkpoint (safetensors, GGUF, .ckpt/.pt), an index of shards, a diffusers folder, or None for the small model
    that comes with the package. ``diffusion_model``, ``vae``, ``text_encoders``, ``llm`` and ``taesd`` name files whose tensors
    take the place of the model's; a model may also be given by them alone, as Z-Image is: ``diffusion_model`` with ``llm``, its
    language model, and ``vae``.
    ``wtype`` converts linear layers' weights on load ("f32", "f16", "q8_0", "q4_K" …; None: as in the file); first and last
    layers become nothing coarser than q8_0. ``tensor_type_rules`` "pattern=type,…" does so for tensors whose canonical names
    (`sdcpp info --tensors` shows them) a regular expression is found in, such as "^vae=f32,attn=q8_0". ``threads`` None
    uses the physical cores. ``rng`` "cuda" or "cpu" draws PyTorch's noise of that device. ``device`` is "auto" or a name that
    ``sdcpp devices`` lists; "simulated:vram=6,link=12" is the CPU as a card of 6 GiB behind 12 GB/s.

    ``max_vram`` is all that the networks may hold on the device together, in GiB: below 0, what is free less that much; 0, no
    limit; None, a limit only where not everything fits. Layers that do not fit are streamed. ``stream_layers=False`` keeps
    nothing resident between uploads, ``offload_to_cpu=False`` nothing off the device. ``plan_policy`` and ``gpu_layers`` (most
    resident layers) are for comparing plans; see `planner.plan`. ``whole_process=True`` makes ``max_vram`` on the CPU the limit
    of the process, interpreter included, as it is on the command line. ``link_speed`` tells the device's FLOP/s and the bytes
    per second to it, which are measured once otherwise. ``blas=False`` makes the CPU compute with ggml's kernels alone, as the
    environment variable SDCPP_BLAS=0 does; "avx2", "avx512" or "openblas" names its matrix products, for comparing.
    ``matmul_precision="bf16"`` lets it multiply large matrices in bf16, about twice as fast on processors that compute with it
    (AVX512-BF16), with results that differ by some hundredths. ``profile=True`` times every operation for `take_profile`,
    which costs a little.

    Calls from several threads on one object wait for each other; separate objects run side by side.

    Raises errors of :mod:`sdcpp_py.errors`: ModelNotFoundError, BadFileError, UnsupportedModelError, InvalidArgumentError.
    """

    def __init__(
        self,
        model: PathLike | None = None,
        *,
        diffusion_model: PathLike | None = None,
        vae: PathLike | None = None,
        text_encoders: PathLike | Sequence[PathLike] | None = None,
        llm: PathLike | None = None,
        taesd: PathLike | None = None,
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
    ) -> None:
        """Open the files and check them; weights are read at first use."""
        self._model: Any = None
        self._lock = threading.RLock()  # one run at a time
        self._in_callback: int | None = None  # the thread that calls back
        self._handle = threading.Lock()  # the model is not freed while it is told to stop
        self._cancelled = threading.Event()
        self._prompts: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self.rng = options.choice("rng", rng, options.RNGS)
        budget = options.max_vram(max_vram, device)
        self._budgeted = budget != 0 and budget == budget
        count = 0 if threads is None else options.integer("threads", threads, 1, 512)
        base = embedded_model() if model is None and diffusion_model is None else model
        self._parts = ModelParts(base, diffusion_model, vae, text_encoders, llm, taesd)
        self.model_path = self._parts.path
        files, file_count, kept = self._parts.c_files()
        rules = ffi.new("char[]", b"" if tensor_type_rules is None else options.word("rules", tensor_type_rules).encode())
        wanted = ffi.new("char[]", b"" if wtype is None else options.word("wtype", wtype).encode())
        name = ffi.new("char[]", options.word("device", device).encode())
        params = ffi.new("sdcpp_model_params*")
        lib.sdcpp_model_params_default(params)
        params.files, params.file_count = files, file_count
        params.tensor_type_rules = rules
        params.wtype, params.device, params.threads = wanted, name, count
        policy = ffi.new("char[]", options.choice("plan_policy", plan_policy, planner.POLICIES[:4]).encode())
        params.max_vram, params.plan_policy = budget, policy
        params.stream_layers, params.offload_to_cpu = options.switch(stream_layers), options.switch(offload_to_cpu)
        params.gpu_layers = -1 if gpu_layers is None else options.integer("gpu_layers", gpu_layers, -1, 10**6)
        if link_speed is not None:
            params.flops_per_s, params.link_bytes_per_s = link_speed
        elif self._budgeted and not device.lower().startswith("simulated"):
            params.flops_per_s, params.link_bytes_per_s = speeds.device_speed(device, count)
        library, kind = blas_library.choose(blas)
        library_text, kind_text = ffi.new("char[]", os.fsencode(library)), ffi.new("char[]", kind.encode())
        params.blas, params.products = library_text, kind_text
        params.bf16 = options.choice("matmul_precision", matmul_precision, ("f32", "bf16")) == "bf16"
        params.profile, params.whole_process = bool(profile), bool(whole_process)
        out = ffi.new("sdcpp_model**")
        with blas_library.loading():
            _binding.call(lib.sdcpp_model_open, params, out)
        del kept
        self._model = ffi.gc(out[0], lib.sdcpp_model_close)
        self._info = ffi.new("sdcpp_model_info*")
        _binding.call(lib.sdcpp_model_get_info, self._model, self._info)
        self.device = _binding.text(self._info.device)
        #: The model's family: "sd1", "sd2", "sdxl", "sdxl-refiner" or "z-image".
        self.family = _binding.text(self._info.family)
        self._encoders = encoders.of_model(self._model)
        found = (lib.sdcpp_model_network(self._model, number) for number in range(16))
        #: The names of the model's networks, in the order in which they run.
        self.networks = [_binding.text(name) for name in found if name]

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

    def close(self) -> None:
        """Free the model; further use raises ClosedError. Waits for a run under way; closing twice is fine."""
        with self._alone():
            self._prompts.clear()
            with self._handle:
                if self._model is not None:
                    ffi.release(self._model)
                    self._model = None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for other calls. Raises BusyError within a step callback, where waiting would never end."""
        if self._in_callback == threading.get_ident():
            raise BusyError(
                "this pipeline is at work until its step callback returns: keep step.latent and use it after generate(), "
                "or use another Pipeline; cancel() works here"
            )
        with self._lock:
            yield

    def cancel(self) -> None:
        """Stop the run under way, from any thread: its `generate` raises CancelledError within moments."""
        self._cancelled.set()
        with self._handle:
            if self._model is not None:
                lib.sdcpp_cancel(self._model)

    @property
    def size_multiple(self) -> int:
        """Width and height must be whole multiples of this many pixels."""
        return int(self._info.size_multiple)

    def default(self, name: str) -> Any:
        """The value that `generate` uses for the option `name` where it is None: the model's own, else a general one."""
        if name not in _FALLBACKS:
            raise InvalidArgumentError(f"no option {name!r} has a default of the model's own")
        self._require_open()
        own = _binding.text(lib.sdcpp_model_default(self._model, name.encode()))
        fallback = _FALLBACKS[name]
        return type(fallback)(own) if own else fallback

    def generate(
        self,
        prompt: str,
        *,
        negative_prompt: str = "",
        width: int | None = None,
        height: int | None = None,
        steps: int | None = None,
        cfg_scale: float | None = None,
        sampler: str | None = None,
        scheduler: str | None = None,
        seed: int | None = None,
        batch_count: int = 1,
        clip_skip: int | None = None,
        eta: float | None = None,
        flow_shift: float | None = None,
        noise: NDArray[np.float32] | None = None,
        vae_tiling: bool | None = None,
        vae_tile_size: int | None = None,
        vae_tile_overlap: float | None = None,
        use_taesd: bool = False,
        callback: Callable[[Step], None] | None = None,
        progress: bool | None = None,
    ) -> Result:
        """Make `batch_count` pictures of `prompt`.

        Width and height are in pixels. None takes the model's own default; a seed of None or below 0 is drawn at random and
        reported. ``noise`` is the first noise, float32 [C, H/8, W/8] of unit variance, instead of the seed's. ``eta`` is the
        share of renewed noise of stochastic samplers. ``flow_shift`` moves a flow model's steps towards noise where it is above
        1 (None: as the model was trained). ``vae_tiling`` None decodes large pictures in tiles of
        ``vae_tile_size`` latent sides that overlap by the share ``vae_tile_overlap``. ``use_taesd`` decodes with the tiny
        autoencoder. ``callback`` is called after each step with a `Step`, on a thread of its own; what it raises comes out of
        this call. Within it only `cancel` may be called on this pipeline; other methods raise BusyError.
        ``progress`` None shows a bar on a terminal.

        Raises InvalidArgumentError before anything is computed, CancelledError, MissingPartError, OutOfMemoryError,
        NotFiniteError, ClosedError.
        """
        with self._alone():
            self._require_open()
            self._cancelled.clear()
            self._require_parts(use_taesd)
            used: dict[str, Any] = {
                "width": options.side("width", self._or_default("width", width), self.size_multiple),
                "height": options.side("height", self._or_default("height", height), self.size_multiple),
                "steps": options.integer("steps", self._or_default("steps", steps), 1, options.MAX_STEPS),
                "cfg_scale": options.real("cfg_scale", self._or_default("cfg_scale", cfg_scale), 0.0, 1000.0),
                "sampler": options.choice("sampler", self._or_default("sampler", sampler), options.SAMPLERS),
                "scheduler": options.choice("scheduler", self._or_default("scheduler", scheduler), options.SCHEDULERS),
                "clip_skip": options.integer("clip_skip", self._or_default("clip_skip", clip_skip), 1, self._text_layers),
                "batch_count": options.integer("batch_count", batch_count, 1, options.MAX_BATCH),
                "seed": options.seed_value(seed),
                "eta": -1.0 if eta is None else options.real("eta", eta, 0.0, 1.0),
                "flow_shift": 0.0 if flow_shift is None else options.flow_shift(flow_shift),
                "prompt": prompt,
                "negative_prompt": negative_prompt,
            }
            decode = _decode_params(vae_tiling, vae_tile_size, vae_tile_overlap, use_taesd)
            shape = self._latent_shape(used["height"], used["width"])
            if noise is not None:
                noise = np.ascontiguousarray(noise, np.float32)
                if noise.shape != shape or not np.isfinite(noise).all():
                    raise InvalidArgumentError(f"noise has shape {noise.shape}; finite numbers of shape {shape} are needed")
            _binding.call(lib.sdcpp_begin, self._model)
            conds = self._conditionings(prompt, negative_prompt, used["cfg_scale"] != 1.0, used["clip_skip"])
            return self._run(used, conds, noise, decode, shape, callback, progress)

    def _require_open(self) -> None:
        if self._model is None:
            raise ClosedError("this pipeline is closed; make a new one")

    def _or_default(self, name: str, value: Any) -> Any:
        return self.default(name) if value is None else value

    def _latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        factor = int(self._info.latent_factor)
        return int(self._info.latent_channels), height // factor, width // factor

    def _require_parts(self, use_taesd: bool) -> None:
        title = _binding.text(lib.sdcpp_model_family_title(self._model))
        lacking = _binding.text(self._info.lacking)
        option = "llm" if lacking == "llm" else "text_encoders"
        needed = {
            f"text encoder {lacking}, which {title} needs (give it with {option}=…)": not lacking,
            "diffusion model such as a UNet (give a model that holds one)": self._info.denoiser[0] != b"\0",
            "TAESD decoder (give one with taesd=…)": self._info.has_taesd_decoder or not use_taesd,
            "VAE decoder (give one with vae=…)": self._info.has_vae_decoder or use_taesd,
        }
        for part, present in needed.items():
            if not present:
                raise MissingPartError(f"{self.model_path.name} has no {part}")

    def _conditionings(self, wanted: str, unwanted: str, guided: bool, clip_skip: int) -> tuple[Any, Any, float]:
        """Handles of what both prompts say (the second NULL without guidance), and the seconds it took."""
        start = time.perf_counter()
        texts = [wanted, unwanted] if guided else [wanted]
        tokens = encoders.tokenize(self._encoders, texts, self.family, self._parts.tokenizer_path)
        handles = [self._conditioning(tokens[0], clip_skip)]
        if guided:
            handles.append(self._conditioning(tokens[1], clip_skip, nothing=not unwanted))
        return handles[0], handles[1] if guided else ffi.NULL, time.perf_counter() - start

    @property
    def _text_layers(self) -> int:
        return min((encoder.layers for encoder in self._encoders), default=1)

    def _conditioning(self, tokens: tuple[prompt.Tokens, ...], clip_skip: int, nothing: bool = False) -> Any:
        key = (tokens, clip_skip, nothing)
        if key in self._prompts:
            self._prompts.move_to_end(key)
            return self._prompts[key]
        out = ffi.new("sdcpp_conditioning**")
        given, kept = ffi.new("sdcpp_tokens[]", len(tokens)), []
        for slot, one in zip(given, tokens):
            kept.append(ffi.new("int32_t[]", one.ids))
            slot.ids, slot.count, slot.chunks = kept[-1], len(one.ids), one.chunks
            if one.weighted:
                kept.append(ffi.new("float[]", one.weights))
                slot.weights = kept[-1]
        _binding.call_interruptible(
            self.cancel, lib.sdcpp_encode_prompt, self._model, given, len(tokens), clip_skip, nothing, out
        )
        self._prompts[key] = ffi.gc(out[0], lib.sdcpp_conditioning_free)
        if len(self._prompts) > _CACHED_PROMPTS:
            self._prompts.popitem(last=False)
        return self._prompts[key]

    def _run(
        self,
        used: dict[str, Any],
        conds: tuple[Any, Any, float],
        noise: NDArray[np.float32] | None,
        decode: Any,
        shape: tuple[int, int, int],
        callback: Callable[[Step], None] | None,
        progress: bool | None,
    ) -> Result:
        timings = {"encode": conds[2], "sample": 0.0, "decode": 0.0}
        latents: list[NDArray[np.float32]] = []
        pictures: list[Image.Image] = []
        shown = sys.stderr.isatty() if progress is None else progress
        with tqdm(total=used["steps"] * used["batch_count"], unit="step", disable=not shown, leave=False) as bar:
            together = self._together(used["width"], used["height"], used["batch_count"], used["cfg_scale"] != 1.0)
            for first in range(0, used["batch_count"], together):
                if self._cancelled.is_set():
                    raise CancelledError("cancelled")
                start = time.perf_counter()
                count = min(together, used["batch_count"] - first)
                latents.extend(self._sample(used, conds, noise, shape, first, count, callback, bar))
                timings["sample"] += time.perf_counter() - start
                if together == 1:
                    pictures.append(self._timed_decode(latents[-1], decode, used, first, timings))
            for index in range(len(pictures), len(latents)):
                pictures.append(self._timed_decode(latents[index], decode, used, index, timings))
        memory = ffi.new("sdcpp_memory*")
        _binding.call(lib.sdcpp_take_memory, self._model, memory)
        timings["total"] = sum(timings.values())
        counted = {
            name: int(getattr(memory, f"{field}_bytes"))
            for name, field in zip(
                ("workspace", "weights", "slots", "carries", "peak", "mapped"),
                ("workspace", "weight", "slot", "carry", "peak", "mapped"),
            )
        }
        return Result(pictures, used["seed"], latents, timings, counted, self._reports(), used)

    def _reports(self) -> dict[str, Report]:
        out: dict[str, Report] = {}
        run, handle = ffi.new("sdcpp_run*"), ffi.new("sdcpp_plan**")
        for network in self.networks:
            _binding.call(lib.sdcpp_take_report, self._model, network.encode(), handle, run)
            if handle[0]:
                found = planner.from_handle(ffi.gc(handle[0], lib.sdcpp_plan_free))
                out[network] = Report(
                    plan=found,
                    runs=run.runs,
                    uploaded_bytes=run.uploaded_bytes,
                    loaded_bytes=run.loaded_bytes,
                    seconds=run.seconds,
                    first_runs=run.first_runs,
                    first_seconds=run.first_seconds,
                    first_compute_seconds=run.first_compute_seconds,
                    compute_seconds=run.compute_seconds,
                    stall_seconds=run.stall_seconds,
                    upload_seconds=run.upload_seconds,
                    replanned=bool(run.replanned),
                )
        return out

    def take_profile(self) -> list[ProfileRow]:
        """Where the time went since the last call; empty without ``profile=True``. `profile.table` makes text of it."""
        with self._alone():
            self._require_open()
            return profiles.take(self._model)

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

        ``network`` is one of `networks`; None: the diffusion model. Raises OverBudgetError where nothing fits,
        InvalidArgumentError, MissingPartError.
        """
        with self._alone():
            self._require_open()
            across = options.side("width", self._or_default("width", width), self.size_multiple)
            down = options.side("height", self._or_default("height", height), self.size_multiple)
            guided = options.real("cfg_scale", self._or_default("cfg_scale", cfg_scale), 0.0, 1000.0) != 1.0
            count = options.integer("batch_count", batch_count, 1, options.MAX_BATCH)
            together = self._together(across, down, count, guided)
            out = ffi.new("sdcpp_plan**")
            name = (network or _binding.text(self._info.denoiser) or "unet").encode()
            _binding.call(lib.sdcpp_model_plan, self._model, name, across, down, together, guided, 1, out)
            return planner.from_handle(ffi.gc(out[0], lib.sdcpp_plan_free))

    def _together(self, width: int, height: int, count: int, guided: bool) -> int:
        """How many pictures are sampled together: several if layers are streamed, so that they are uploaded once for all."""
        out = ffi.new("int32_t*")
        _binding.call(lib.sdcpp_pictures_together, self._model, width, height, count, guided, out)
        return int(out[0])

    def _sample(
        self,
        used: dict[str, Any],
        conds: tuple[Any, Any, float],
        noise: NDArray[np.float32] | None,
        shape: tuple[int, int, int],
        first: int,
        count: int,
        callback: Callable[[Step], None] | None,
        bar: Any,
    ) -> NDArray[np.float32]:
        size = count * int(np.prod(shape))

        def after_step(step: int, steps: int, seconds: float, latent: Any) -> None:
            bar.update(count)
            if self._cancelled.is_set():
                raise CancelledError("cancelled")
            if callback is not None:
                estimates = np.frombuffer(ffi.buffer(latent, 4 * size), np.float32).reshape(count, *shape)
                self._in_callback = threading.get_ident()
                try:
                    for number, estimate in enumerate(estimates):
                        callback(Step(step, steps, seconds, first + number, estimate.copy()))
                finally:
                    self._in_callback = None

        hook = _binding.Callback(after_step)
        names = [ffi.new("char[]", used[key].encode()) for key in ("sampler", "scheduler")] + [
            ffi.new("char[]", self.rng.encode())
        ]
        params = ffi.new("sdcpp_sample_params*")
        params.cond, params.uncond = conds[0], conds[1]
        for key in ("width", "height", "steps", "cfg_scale", "eta", "flow_shift"):
            setattr(params, key, used[key])
        params.sampler, params.scheduler, params.rng = names
        params.seed = (used["seed"] + first) % 2**64
        params.batch = count
        params.noise = ffi.NULL if noise is None else ffi.from_buffer("float[]", noise)
        params.callback, params.user_data = lib.sdcpp_py_step, hook.handle
        latents = np.empty((count, *shape), np.float32)
        target = ffi.from_buffer("float[]", latents)
        _binding.call_interruptible(self.cancel, lib.sdcpp_sample, self._model, params, target, callback=hook)
        return latents

    def _pixels(self, latent: NDArray[np.float32], params: Any) -> NDArray[np.uint8]:
        factor = int(self._info.latent_factor)
        pixels = np.empty((latent.shape[1] * factor, latent.shape[2] * factor, 3), np.uint8)
        source, target = ffi.from_buffer("float[]", latent), ffi.from_buffer("uint8_t[]", pixels)
        _binding.call_interruptible(
            self.cancel, lib.sdcpp_decode, self._model, params, source, latent.shape[1], latent.shape[2], target
        )
        return pixels

    def _timed_decode(
        self, latent: NDArray[np.float32], decode: Any, used: dict[str, Any], index: int, timings: dict[str, float]
    ) -> Image.Image:
        if self._cancelled.is_set():
            raise CancelledError("cancelled")
        start = time.perf_counter()
        image = self._decode(latent, decode, used, index)
        timings["decode"] += time.perf_counter() - start
        return image

    def _decode(self, latent: NDArray[np.float32], decode: Any, used: dict[str, Any], index: int) -> Image.Image:
        image = Image.fromarray(self._pixels(latent, decode))
        fields = {
            "Steps": used["steps"],
            "Sampler": used["sampler"],
            "Schedule type": used["scheduler"],
            "CFG scale": f"{used['cfg_scale']:g}",
            "Seed": (used["seed"] + index) % 2**64,
            "Size": f"{used['width']}x{used['height']}",
            "Model": self.model_path.stem,
            "Clip skip": used["clip_skip"],
            "RNG": "GPU" if self.rng == "cuda" else "CPU",
            "Version": "sdcpp_py " + _binding.text(lib.sdcpp_version()),
        }
        image.info["parameters"] = images.parameters_text(used["prompt"], used["negative_prompt"], fields)
        return image

    def decode(
        self,
        latent: NDArray[np.float32],
        *,
        vae_tiling: bool | None = None,
        vae_tile_size: int | None = None,
        vae_tile_overlap: float | None = None,
        use_taesd: bool = False,
    ) -> Image.Image:
        """A latent, float32 [C, h, w], to a picture; options as for `generate`. Raises BusyError within a step callback."""
        with self._alone():
            self._require_open()
            array = np.ascontiguousarray(latent, np.float32)
            if array.ndim != 3 or array.shape[0] != self._info.latent_channels or 0 in array.shape:
                raise InvalidArgumentError(f"a latent must be [{self._info.latent_channels}, h, w], not {array.shape}")
            return Image.fromarray(self._pixels(array, _decode_params(vae_tiling, vae_tile_size, vae_tile_overlap, use_taesd)))

    def encode(self, image: Image.Image | NDArray[np.uint8]) -> NDArray[np.float32]:
        """A picture (PIL, or uint8 [H, W, 3]) to the mean of its latent, float32 [C, H/8, W/8], scaled as the UNet takes it."""
        with self._alone():
            self._require_open()
            rgb = image.convert("RGB") if isinstance(image, Image.Image) else image
            pixels = np.ascontiguousarray(rgb, np.uint8)
            factor = int(self._info.latent_factor)
            if (
                pixels.ndim != 3
                or pixels.shape[2] != 3
                or pixels.shape[0] % factor
                or pixels.shape[1] % factor
                or 0 in pixels.shape
            ):
                raise InvalidArgumentError(f"a picture must be [H, W, 3] with sides in multiples of {factor}")
            latent = np.empty(self._latent_shape(pixels.shape[0], pixels.shape[1]), np.float32)
            source, target = ffi.from_buffer("uint8_t[]", pixels), ffi.from_buffer("float[]", latent)
            _binding.call_interruptible(
                self.cancel, lib.sdcpp_encode, self._model, source, pixels.shape[0], pixels.shape[1], target
            )
            return latent

    def prompt_states(self, text: str, *, clip_skip: int | None = None) -> NDArray[np.float32]:
        """The text encoders' states of `text` as the diffusion model takes them, float32 [1, tokens, C]."""
        with self._alone():
            self._require_open()
            skip = options.integer("clip_skip", self._or_default("clip_skip", clip_skip), 1, self._text_layers)
            tokens = encoders.tokenize(self._encoders, [text], self.family, self._parts.tokenizer_path)
            handle = self._conditioning(tokens[0], skip)
            shape = ffi.new("int64_t[3]")
            states = lib.sdcpp_conditioning_data(handle, shape)
            sides = list(shape)
            return np.frombuffer(ffi.buffer(states, 4 * int(np.prod(sides))), np.float32).reshape(sides).copy()

    def evaluate(self, network: str, **inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Run one network once, for tests and benchmarks: the inputs and names that sdcpp.h gives for sdcpp_evaluate."""
        with self._alone():
            self._require_open()
            arrays = {
                name: np.ascontiguousarray(value, np.int32 if name == "tokens" else np.float32) for name, value in inputs.items()
            }
            kept = [ffi.new("char[]", name.encode()) for name in arrays]
            given = ffi.new("sdcpp_array[]", len(arrays))
            for slot, name, array in zip(given, kept, arrays.values()):
                if not 1 <= array.ndim <= 4:
                    raise InvalidArgumentError("inputs have 1 to 4 dimensions")
                slot.name, slot.data, slot.dimensions = name, ffi.cast("void*", array.ctypes.data), array.ndim
                slot.shape[0 : array.ndim] = list(array.shape)
            largest = max((array.size for array in arrays.values()), default=1)
            room = np.empty(largest * 256 + (1 << 20), np.float32)
            shape = ffi.new("int64_t[4]")
            target = ffi.from_buffer("float[]", room)
            _binding.call_interruptible(
                self.cancel, lib.sdcpp_evaluate, self._model, network.encode(), given, len(arrays), target, room.size, shape
            )
            sides = list(shape)
            return room[: int(np.prod(sides))].reshape(sides).copy()
