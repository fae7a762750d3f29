"""IP-Adapters of a call: a file, and the picture whose content goes into the result."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdcpp_py import _engine, _images, options
from sdcpp_py.errors import InvalidArgumentError, ModelNotFoundError, shown

_MAX = 16  # at a time
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # of the pictures that CLIP was trained with
_DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
_LONGEST = 64  # how many times longer than its short side a picture may be before its ends are cut off

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class IPAdapter:
    """An IP-Adapter for `Pipeline.generate`, with the picture that it shows to the model.

    ``path`` is a tensor file or a folder of one, ``image`` the picture (a path, a PIL image, or uint8 [H, W, 3]), whose middle
    square is looked at. ``strength`` is a factor of what attentions find in it: 1 is as the adapter was trained, 0 leaves it out.
    It counts in the steps that lie within the shares ``start`` to ``end``. The pipeline needs a ``clip_vision``.
    """

    path: PathLike
    image: _images.Picture
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0


IPAdapterLike = IPAdapter | tuple[PathLike, _images.Picture] | tuple[PathLike, _images.Picture, float] | Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Ready:
    """An adapter that was checked, with its picture in RGB."""

    given: IPAdapter
    path: Path
    picture: Image.Image

    def for_engine(self, side: int) -> _engine.IPAdapter:
        """As the engine takes it, for a vision encoder that sees squares of ``side`` pixels."""
        given = self.given
        seen = seen_by_clip(self.picture, side)
        return _engine.IPAdapter(_engine.path_bytes(self.path), seen, given.strength, given.start, given.end)

    @property
    def written(self) -> str:
        """Its part of a picture's parameters."""
        given = self.given
        share = f"Guidance Start: {given.start:g}, Guidance End: {given.end:g}"
        return f"Model: {self.path.stem}, Weight: {given.strength:g}, {share}"

    def again(self) -> dict[str, Any]:
        """What was given, as `Pipeline.generate` takes it, without what was left out."""
        values = {one.name: getattr(self.given, one.name) for one in fields(IPAdapter)}
        return {name: value for name, value in values.items() if name in ("path", "image") or value != getattr(IPAdapter, name)}


def seen_by_clip(picture: Image.Image, side: int) -> NDArray[np.float32]:
    """A picture's middle square [3, side, side], as CLIP's vision models take it.

    The short side is scaled to ``side`` and the middle cut out, as transformers' CLIPImageProcessor does.
    """
    short = min(picture.size)
    if max(picture.size) > _LONGEST * short:
        width, height = (min(length, _LONGEST * short) for length in picture.size)
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        picture = picture.crop((left, top, left + width, top + height))
    width, height = (side if length == short else int(side * length / short) for length in picture.size)
    scaled = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    pixels = np.asarray(scaled.crop((left, top, left + side, top + side)), np.float32) / np.float32(255)
    return np.ascontiguousarray(((pixels - _MEAN) / _DEVIATION).transpose(2, 0, 1))


def of_keyword(given: Any) -> list[Ready]:
    """The entries of the keyword ``ip_adapters``, checked: `IPAdapter`, (path, image), (path, image, strength) or mappings.

    Raises InvalidArgumentError, ModelNotFoundError, BadFileError.
    """
    if given is None:
        return []
    if isinstance(given, (str, os.PathLike, IPAdapter, Mapping)) or not isinstance(given, Sequence):
        raise InvalidArgumentError.of("ip_adapters", "must be a list, such as [('ip-adapter.safetensors', 'cat.png', 0.6)]")
    if len(given) > _MAX:
        raise InvalidArgumentError.of("ip_adapters", f"has {len(given)} entries; {_MAX} are possible at a time")
    return [_ready(_of_entry(entry)) for entry in given]


def _of_entry(entry: Any) -> IPAdapter:
    if isinstance(entry, IPAdapter):
        return entry
    names = [one.name for one in fields(IPAdapter)]
    if isinstance(entry, Mapping):
        if any(key not in names for key in entry) or "path" not in entry or "image" not in entry:
            there = shown(sorted(map(str, entry)))
            raise InvalidArgumentError.of("ip_adapters", f"has an entry with {there}; there are {', '.join(names)}")
        return IPAdapter(**entry)
    if isinstance(entry, (tuple, list)) and len(entry) in (2, 3):
        return IPAdapter(*entry)
    raise InvalidArgumentError.of("ip_adapters", f"has {shown(entry)}; an entry is an IPAdapter or (path, image, strength)")


def _ready(given: IPAdapter) -> Ready:
    try:
        path = Path(os.fsdecode(given.path))
    except (TypeError, ValueError):
        raise InvalidArgumentError.of("ip_adapters", f"has {shown(given.path)} instead of a path") from None
    if not path.exists():
        raise ModelNotFoundError(f"no such file: {path}")
    start, end = _number("start", given.start, 0.0, 1.0), _number("end", given.end, 0.0, 1.0)
    if start > end:
        raise InvalidArgumentError.of("ip_adapters", f"has start={start:g} after end={end:g}")
    strength = _number("strength", given.strength, -1e3, 1e3)
    picture = _images.opened(given.image)
    if 0 in picture.size:
        raise InvalidArgumentError.of("ip_adapters", f"has a picture of {picture.width}x{picture.height} pixels")
    return Ready(replace(given, strength=strength, start=start, end=end), path, picture)


def _number(name: str, value: Any, least: float, most: float) -> float:
    try:
        return options.real(name, value, least, most)
    except InvalidArgumentError:
        words = f"has {name}={shown(value)}; it must be a number from {least:g} to {most:g}"
        raise InvalidArgumentError.of("ip_adapters", words) from None
