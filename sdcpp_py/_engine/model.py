"""An open model."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sdcpp_py._engine.calls import Callback, call, call_json, name_bytes
from sdcpp_py._engine.interrupts import StopFlag, Watch, call_interruptible
from sdcpp_py._engine.loading import ffi, lib
from sdcpp_py._engine.options import Options
from sdcpp_py.errors import BusyError, ClosedError, InvalidArgumentError

Floats = NDArray[np.float32]
Stop = Callable[[], None]


class PartFile(NamedTuple):
    """A file, and what it is given as: a component's name, a kind of components, or "" if its tensors say it."""

    path: bytes
    part: str


class Adapter(NamedTuple):
    """A LoRA or one of its kin, see `sdcpp_adapter`."""

    path: bytes
    denoiser_weight: float
    text_weight: float


class Control(NamedTuple):
    """A ControlNet or T2I-Adapter and its hint, see `sdcpp_control`."""

    path: bytes
    hint: Floats  #: [3, height, width] in 0 to 1
    strength: float
    start: float
    end: float
    mode: int
    weights: Sequence[float]
    type: int


class IPAdapter(NamedTuple):
    """An IP-Adapter and its picture, see `sdcpp_ip_adapter`."""

    path: bytes
    picture: Floats  #: [3, side, side] as CLIP takes it
    strength: float
    start: float
    end: float


class Tokens(Protocol):
    """A prompt's tokens for one text encoder."""

    @property
    def ids(self) -> Sequence[int]:
        """[chunks, positions], begin and end marks and padding included."""

    @property
    def weights(self) -> Sequence[float]:
        """One a token."""

    @property
    def chunks(self) -> int:
        """How many chunks the ids are."""

    @property
    def weighted(self) -> bool:
        """Whether any weight is not 1."""

    @property
    def embeddings(self) -> Floats | None:
        """Rows [rows, C] for ids from the vocabulary's size on, float32 and contiguous."""


class Conditioning:
    """A conditioning: a prompt as the diffusion model takes it."""

    def __init__(self, pointer: Any) -> None:
        """Take over the engine's object."""
        self.handle = ffi.gc(pointer, lib.sdcpp_conditioning_free)

    def shapes(self, names: Sequence[str]) -> list[list[int]]:
        """The shapes of those of its arrays that it has."""
        found = []
        shape, dimensions = ffi.new("int64_t[6]"), ffi.new("int32_t*")
        for name in names:
            if lib.sdcpp_conditioning_array(self.handle, name.encode(), shape, dimensions) != ffi.NULL:
                found.append(list(shape[0 : dimensions[0]]))
        return found

    def array(self, name: str) -> Floats:
        """A copy of one of its arrays: "context" are the text encoders' states, float32 [1, tokens, C]."""
        return copied(lib.sdcpp_conditioning_array, self.handle, name.encode())


def copied(function: Any, *arguments: Any) -> Floats:
    """A copy of the floats that ``function`` gives for ``arguments``, a pointer for their shape, and one for its length."""
    shape, dimensions = ffi.new("int64_t[6]"), ffi.new("int32_t*")
    data = function(*arguments, shape, dimensions)
    if data == ffi.NULL:
        raise InvalidArgumentError("there is no such array")
    sides = list(shape[0 : dimensions[0]])
    return np.frombuffer(ffi.buffer(data, 4 * int(np.prod(sides))), np.float32).reshape(sides).copy()


class Share(NamedTuple):
    """A prompt's part in a run, see `sdcpp_prompt_share`."""

    conditionings: Sequence[Conditioning]  #: one for all pictures, or one for each
    negative: bool = False
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    without_picture: bool = False  #: what the extra channels show counts as zeros


def c_files(files: Sequence[PartFile]) -> tuple[Any, int, Any]:
    """An array of `sdcpp_file`, its length, and what must be kept while it is used."""
    kept = [(ffi.new("char[]", file.path), ffi.new("char[]", name_bytes(file.part))) for file in files]
    return ffi.new("sdcpp_file[]", kept), len(files), kept


def c_arrays(arrays: Mapping[str, NDArray[Any]]) -> tuple[Any, Any]:
    """Contiguous arrays of int32 or float32 as `sdcpp_array`, and what must be kept while they are used."""
    names = [ffi.new("char[]", name_bytes(name)) for name in arrays]
    given = ffi.new("sdcpp_array[]", len(arrays))
    for slot, name, array in zip(given, names, arrays.values()):
        if not 1 <= array.ndim <= 6:
            raise InvalidArgumentError("arrays have 1 to 6 dimensions")
        slot.name, slot.data, slot.dimensions = name, ffi.cast("void*", array.ctypes.data), array.ndim
        slot.shape[0 : array.ndim] = list(array.shape)
    return given, (names, arrays)


class Model:
    """An open model. Calls from several threads wait for each other. ``stop`` is what Ctrl-C calls while a function runs."""

    def __init__(self, files: Sequence[PartFile], options: Mapping[str, Any]) -> None:
        """Open the files; ``options`` are of the set "model"."""
        given, count, kept = c_files(files)
        out = ffi.new("sdcpp_model**")
        chosen, flag = Options("model", options), StopFlag()
        arguments = (given, count, chosen.handle, flag.pointer, out)
        call_interruptible(flag.set, lib.sdcpp_model_open, *arguments, flag=flag.pointer)
        del kept
        self._handle: Any = ffi.gc(out[0], lib.sdcpp_model_close)
        # Keeps the model from being freed during a call of cancel; a signal handler may call one within the other
        self._guard = threading.RLock()
        self._process = os.getpid()
        self._calling_back: int | None = None  # the thread on which a callback of a run is
        _models.add(self)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._handle is None

    def close(self) -> None:
        """Free the model. No other call may be under way."""
        if self.forked:
            return  # nothing here runs that could be ended
        with self._guard:
            handle, self._handle = self._handle, None
            if handle is not None:
                ffi.release(handle)

    def cancel(self) -> None:
        """Stop the call under way, from any thread."""
        if self.forked:
            return
        with self._guard:
            if self._handle is not None:
                lib.sdcpp_cancel(self._handle)

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that opened the model, whose threads are not here."""
        return self._process != os.getpid()

    def require_process(self) -> None:
        """Raise ClosedError if it was."""
        if self.forked:
            raise ClosedError("this pipeline belongs to the process that this one was forked from; make a new one here")

    @property
    def _opened(self) -> Any:
        self.require_process()
        if self._handle is None:
            raise ClosedError("this model is closed")
        return self._handle

    @property
    def _open(self) -> Any:
        """For calls that wait until no other is under way."""
        if self._calling_back == threading.get_ident():
            raise BusyError("the model is at work until the callback that made this call returns")
        return self._opened

    def _run(self, stop: Stop, watch: Watch | None, function: Any, *arguments: Any, callback: Callback | None = None) -> None:
        model = self._open
        call_interruptible(stop, function, model, *arguments, model=model, callback=callback, watch=watch)

    def report(self) -> dict[str, Any]:
        """The model's networks and inputs, and its defaults of options."""
        return dict(call_json(lib.sdcpp_model_report, self._open))

    def begin(self) -> None:
        """Say that a generation begins: a budget that follows free memory is read again."""
        call(lib.sdcpp_begin, self._open)

    def set_adapters(self, adapters: Sequence[Adapter]) -> list[dict[str, Any]]:
        """These adapters, and no others, are in use from now on; for each, what `sdcpp_set_adapters` says of it."""
        kept = [ffi.new("char[]", adapter.path) for adapter in adapters]
        given = ffi.new("sdcpp_adapter[]", [(path, *adapter[1:]) for path, adapter in zip(kept, adapters)])
        return list(call_json(lib.sdcpp_set_adapters, self._open, given, len(adapters)))

    def set_controls(self, controls: Sequence[Control]) -> list[dict[str, Any]]:
        """These controls, and no others, are in use from now on; for each, what `sdcpp_set_controls` says of it."""
        given, kept = ffi.new("sdcpp_control[]", len(controls)), []
        for slot, one in zip(given, controls):
            path, weights = ffi.new("char[]", one.path), ffi.new("double[]", list(one.weights))
            kept += [path, weights]
            slot.path, slot.hint = path, ffi.cast("const float*", one.hint.ctypes.data)
            slot.height, slot.width = one.hint.shape[1:]
            slot.strength, slot.start, slot.end, slot.mode, slot.type = one.strength, one.start, one.end, one.mode, one.type
            slot.weights, slot.weight_count = weights if one.weights else ffi.NULL, len(one.weights)
        return list(call_json(lib.sdcpp_set_controls, self._open, given, len(controls)))

    def set_ip_adapters(self, adapters: Sequence[IPAdapter]) -> list[dict[str, Any]]:
        """These adapters, and no others, are in use from now on; for each, what `sdcpp_set_ip_adapters` says of it."""
        given, kept = ffi.new("sdcpp_ip_adapter[]", len(adapters)), []
        for slot, one in zip(given, adapters):
            path = ffi.new("char[]", one.path)
            kept.append(path)
            slot.path, slot.picture = path, ffi.cast("const float*", one.picture.ctypes.data)
            slot.side = one.picture.shape[1]
            slot.strength, slot.start, slot.end = one.strength, one.start, one.end
        return list(call_json(lib.sdcpp_set_ip_adapters, self._open, given, len(adapters)))

    def encode_prompt(
        self, tokens: Sequence[Tokens], clip_skip: int, nothing: bool, *, stop: Stop, watch: Watch | None = None
    ) -> Conditioning:
        """``tokens`` for each text encoder; ``nothing``: the prompt is an empty negative one."""
        out = ffi.new("sdcpp_conditioning**")
        given, kept = ffi.new("sdcpp_tokens[]", len(tokens)), []
        for slot, one in zip(given, tokens):
            try:
                kept.append(ffi.new("int32_t[]", one.ids))
            except OverflowError:
                raise InvalidArgumentError("a token's number is out of range; the tokenizer is not this model's") from None
            slot.ids, slot.count, slot.chunks = kept[-1], len(one.ids), one.chunks
            if one.weighted:
                kept.append(ffi.new("float[]", one.weights))
                slot.weights = kept[-1]
            if one.embeddings is not None:
                kept.append(ffi.from_buffer("float[]", one.embeddings))
                slot.embeddings, (slot.embedding_count, slot.embedding_width) = kept[-1], one.embeddings.shape
        options = Options("generate", {"clip_skip": clip_skip})
        self._run(stop, watch, lib.sdcpp_encode_prompt, given, len(tokens), options.handle, nothing, out)
        return Conditioning(out[0])

    def conditioning(self, arrays: Mapping[str, Floats]) -> Conditioning:
        """A conditioning from its arrays by name, see `sdcpp_conditioning_new`."""
        given, kept = c_arrays({name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()})
        out = ffi.new("sdcpp_conditioning**")
        call(lib.sdcpp_conditioning_new, self._open, given, len(arrays), out)
        del kept
        return Conditioning(out[0])

    def sample(
        self,
        shares: Sequence[Share],
        options: Mapping[str, Any],
        shape: tuple[int, ...],
        on_step: Callable[[int, int, float, Floats, NDArray[np.uint8] | None], None],
        *,
        stop: Stop,
        watch: Watch | None = None,
    ) -> Floats:
        """Latents of ``shape``, [batch, C, H/f, W/f].

        ``on_step`` gets the step, the number of steps, seconds, the clean estimate (a view), and previews if there are any.
        """
        latents = np.empty(shape, np.float32)

        def after_step(step: Any) -> None:
            view = np.frombuffer(ffi.buffer(step.latents, latents.nbytes), np.float32).reshape(shape)
            previews: NDArray[np.uint8] | None = None
            if step.previews != ffi.NULL:
                sides = (step.batch, step.preview_height, step.preview_width, 3)
                previews = np.frombuffer(ffi.buffer(step.previews, math.prod(sides)), np.uint8).reshape(sides).copy()
            self._calling_back = threading.get_ident()
            try:
                on_step(step.step, step.steps, step.seconds, view, previews)
            finally:
                self._calling_back = None

        hook, chosen = Callback(after_step), Options("generate", options)
        lists = [ffi.new("sdcpp_conditioning*[]", [one.handle for one in share.conditionings]) for share in shares]
        given = ffi.new("sdcpp_prompt_share[]", [(rows, len(rows), *share[1:]) for rows, share in zip(lists, shares)])
        target = ffi.from_buffer("float[]", latents)
        arguments = (given, len(shares), chosen.handle, lib.sdcpp_py_step, hook.handle, target)
        self._run(stop, watch, lib.sdcpp_sample, *arguments, callback=hook)
        return latents

    def decode(
        self, latent: Floats, factor: int, options: Mapping[str, Any], *, stop: Stop, watch: Watch | None = None
    ) -> NDArray[np.uint8]:
        """A latent [C, h, w] to a picture [h * factor, w * factor, 3]; ``options`` are of the set "generate"."""
        channels, height, width = latent.shape
        pixels = np.empty((height * factor, width * factor, 3), np.uint8)
        shape = ffi.new("sdcpp_latent_shape*", (channels, 1, height, width))
        source, target = ffi.from_buffer("float[]", latent), ffi.from_buffer("uint8_t[]", pixels)
        chosen = Options("generate", options)
        self._run(stop, watch, lib.sdcpp_decode, chosen.handle, source, shape, target)
        return pixels

    def preview(self, latent: Floats) -> NDArray[np.uint8]:
        """A rough picture [h, w, 3] of a latent [C, h, w], a pixel for each value, without a network; also during a run."""
        channels, height, width = latent.shape
        pixels = np.empty((height, width, 3), np.uint8)
        shape = ffi.new("sdcpp_latent_shape*", (channels, 1, height, width))
        call(lib.sdcpp_preview, self._opened, ffi.from_buffer("float[]", latent), shape, ffi.from_buffer("uint8_t[]", pixels))
        return pixels

    def upscale(
        self, pixels: NDArray[np.uint8], factor: int, options: Mapping[str, Any], *, stop: Stop, watch: Watch | None = None
    ) -> NDArray[np.uint8]:
        """A picture [height, width, 3] to one [height * factor, width * factor, 3]; ``options`` are of the set "generate"."""
        height, width, _ = pixels.shape
        out = np.empty((height * factor, width * factor, 3), np.uint8)
        source, target = ffi.from_buffer("uint8_t[]", pixels), ffi.from_buffer("uint8_t[]", out)
        chosen = Options("generate", options)
        self._run(stop, watch, lib.sdcpp_upscale, chosen.handle, source, height, width, target)
        return out

    def encode(self, planes: Floats, shape: tuple[int, int, int], *, stop: Stop, watch: Watch | None = None) -> Floats:
        """A picture [3, height, width] in -1 to 1 to the mean of its latent, of ``shape``."""
        latent = np.empty(shape, np.float32)
        source, target = ffi.from_buffer("float[]", planes), ffi.from_buffer("float[]", latent)
        self._run(stop, watch, lib.sdcpp_encode, source, planes.shape[1], planes.shape[2], target)
        return latent

    def plan(self, network: str, options: Mapping[str, Any], chunks: int = 1) -> dict[str, Any]:
        """The plan of a network for pictures as ``options`` of the set "generate" say; nothing is loaded."""
        chosen = Options("generate", options)
        return dict(call_json(lib.sdcpp_model_plan, self._open, name_bytes(network), chosen.handle, chunks))

    def pictures_together(self, options: Mapping[str, Any]) -> int:
        """How many of the "batch_count" pictures that ``options`` say are best sampled together."""
        chosen, out = Options("generate", options), ffi.new("int32_t*")
        call(lib.sdcpp_pictures_together, self._open, chosen.handle, out)
        return int(out[0])

    def take_runs(self) -> list[dict[str, Any]]:
        """The runs of each network since the last call, for those that ran."""
        return list(call_json(lib.sdcpp_take_runs, self._open))

    def take_memory(self) -> dict[str, int]:
        """Bytes held since the last call, at most: "workspace", "weights", "slots", "carries", "peak", "mapped"."""
        return dict(call_json(lib.sdcpp_take_memory, self._open))

    def take_profile(self) -> list[dict[str, Any]]:
        """Times by network, stage and operation since the last call."""
        return list(call_json(lib.sdcpp_take_profile, self._open))

    def evaluate(self, network: str, inputs: Mapping[str, NDArray[Any]], *, stop: Stop, watch: Watch | None = None) -> Floats:
        """Run one network once; int32 for "tokens", else float32, as sdcpp.h says for sdcpp_evaluate."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, value in inputs.items():
            try:
                arrays[name] = np.ascontiguousarray(value, np.int32 if name == "tokens" else np.float32)
            except (TypeError, ValueError, OverflowError) as problem:
                raise InvalidArgumentError(f"the input {name} is no array of numbers: {problem!s:.200}") from None
        given, kept = c_arrays(arrays)
        out = ffi.new("sdcpp_result**")
        self._run(stop, watch, lib.sdcpp_evaluate, name_bytes(network), given, len(arrays), out)
        del kept
        return copied(lib.sdcpp_result_data, ffi.gc(out[0], lib.sdcpp_result_free))


_models: weakref.WeakSet[Model] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """After a fork: models belong to the parent. Closing one here would wait for threads that are not here."""
    for model in list(_models):
        if model._handle is not None:
            ffi.gc(model._handle, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
