"""The contents of a model file, and the machine's devices."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdcpp_py import _engine, _gpu_advice, options
from sdcpp_py._memory_errors import memory_errors_told
from sdcpp_py.errors import SdcppError


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file."""

    name: str
    canonical: str  #: the engine's name for it, "" if no network uses it
    type: str
    shape: tuple[int, ...]  #: outermost first
    bytes: int


@dataclass(frozen=True)
class ModelSummary:
    """The contents of a model file."""

    path: Path
    format: str
    family: str
    tensors: list[TensorEntry] = field(repr=False)
    bytes_by_type: dict[str, int]
    networks: dict[str, int]  #: parameters of each network found
    missing: list[str]  #: networks that text-to-image needs and the file lacks
    refusal: SdcppError | None = None  #: the error that opening the file raises; None if it opens
    unused: tuple[str, ...] = field(
        default=(), repr=False
    )  #: names of tensors that no network uses; those that are known to be left over do not count
    option: str = ""  #: the keyword that takes the file, if it is no more than a part of a model
    adapter: str = ""  #: a LoRA's kinds and ranks, and the models that it is for; "" for other files


@dataclass(frozen=True)
class Device:
    """A device that networks can run on."""

    name: str
    description: str
    is_cpu: bool
    free_bytes: int
    total_bytes: int


def devices() -> list[Device]:
    """The devices of the ggml in use. Raises EngineError if its version is not the one that the engine was built for."""
    return [Device(**device) for device in _engine.devices()["devices"]]


def why_no_gpu() -> str:
    """Why `devices` has no GPU and what to type, in lines; "" if it has one. Raises EngineError, as `devices`."""
    found = _engine.devices()
    counts = {backend["name"]: backend["device_count"] for backend in found["backends"]}
    try:
        libraries = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        libraries = ""
    trouble = found["trouble"].splitlines()
    packaged = not libraries or "/libggml/lib" in libraries
    return _gpu_advice.no_gpu(counts, trouble, vulkan_loaded="libggml-vulkan" in libraries, packaged=packaged)


def _adapter_words(adapter: Mapping[str, Any] | None) -> str:
    if not adapter:
        return ""
    ranks = adapter["ranks"]
    words = ", ".join(adapter["kinds"])
    if ranks:
        words += f" of rank {ranks[0]}" if len(ranks) == 1 else f" of ranks {ranks[0]} to {ranks[-1]}"
    return f"{words} on {adapter['layers']} layers" + (f" of {adapter['title']}" if adapter["title"] else "")


@memory_errors_told()
def summarize(path: str | os.PathLike[str], *, part: str = "any") -> ModelSummary:
    """List a tensor file's or a folder's contents without loading it. Raises ModelNotFoundError, BadFileError.

    ``part`` says what a file of one part is: a component or a kind of components of `sdcpp_py._model_parts.COMPONENTS`; "any"
    lets its names say it.
    """
    kind = options.word("part", part)
    given = _engine.PartFile(_engine.path_bytes(path), {"any": "", "diffusion": "diffusion_model"}.get(kind, kind))
    listing = _engine.listing(given)
    tensors = [TensorEntry(**{**tensor, "shape": tuple(tensor["shape"])}) for tensor in listing["tensors"]]
    by_type: Counter[str] = Counter()
    for tensor in tensors:
        by_type[tensor.type] += tensor.bytes
    networks = {network["title"]: network["parameters"] for network in listing["networks"]}
    family = listing["family"] or ("a part of a model" if networks else "unknown")
    refusal = _engine.error_of(**listing["refusal"]) if listing["refusal"] else None
    told = listing["missing"], refusal, tuple(listing["unused"]), listing["option"], _adapter_words(listing["adapter"])
    return ModelSummary(Path(path), listing["format"], family, tensors, dict(by_type), networks, *told)
