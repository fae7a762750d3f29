"""IP-Adapters of a call: a file, and the picture whose content goes into the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdcpp_py import _beside, _engine, _images

_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)  # CLIP was trained with pictures of this mean
_DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
_LONGEST = 64  # how many times longer than its short side a picture may be before its ends are cut off

PathLike = _beside.PathLike


@dataclass(frozen=True, eq=False)
class IPAdapter(_beside.Entry):
    """An IP-Adapter for `Pipeline.generate`, with the picture that it shows to the model.

    ``path`` is a tensor file or a folder of one, ``image`` the picture (a path, a PIL image, or uint8 [H, W, 3]), whose middle
    square is looked at. ``strength`` is a factor of what attentions find in it: 1 is as the adapter was trained, 0 leaves it out.
    It counts in the steps that lie within the shares ``start`` to ``end``. The pipeline needs a ``clip_vision``.
    """


_KEYWORD = _beside.Keyword("ip_adapters", IPAdapter, "an IPAdapter", "[('ip-adapter.safetensors', 'cat.png', 0.6)]")
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
    return [_ready(entry) for entry in _KEYWORD.entries(given)]


def _ready(given: IPAdapter) -> Ready:
    path, start, end = _KEYWORD.place(given)
    strength, picture = _KEYWORD.sight(given)
    return Ready(replace(given, strength=strength, start=start, end=end), path, picture)
