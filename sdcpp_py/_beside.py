"""Networks beside a model that take a picture: what the keywords of ControlNets and IP-Adapters have in common."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from PIL import Image

from sdcpp_py import _images, options
from sdcpp_py.errors import InvalidArgumentError, ModelNotFoundError, shown

_MAX = 16  # at a time

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Entry:
    """A file, its picture, how much it counts, and in which share of the steps."""

    path: PathLike
    image: _images.Picture
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0


def again(entry: Entry) -> dict[str, Any]:
    """What was given, as `Pipeline.generate` takes it, without what was left out."""
    values = {one.name: getattr(entry, one.name) for one in fields(entry)}
    return {name: value for name, value in values.items() if name in ("path", "image") or value != getattr(type(entry), name)}


E = TypeVar("E", bound=Entry)


@dataclass(frozen=True)
class Keyword(Generic[E]):
    """A keyword of `Pipeline.generate` that takes a list of such networks. Its methods raise InvalidArgumentError about it."""

    name: str
    kind: type[E]
    title: str  #: the kind, with its article, for errors
    example: str  #: a list, for errors

    def entries(self, given: Any) -> list[E]:
        """The list: entries, (path, image), (path, image, strength) or mappings; None is none."""
        if given is None:
            return []
        if isinstance(given, (str, os.PathLike, Entry, Mapping)) or not isinstance(given, Sequence):
            raise self.error(f"must be a list, such as {self.example}")
        if len(given) > _MAX:
            raise self.error(f"has {len(given)} entries; {_MAX} are possible at a time")
        return [self._entry(one) for one in given]

    def _entry(self, given: Any) -> E:
        if isinstance(given, self.kind):
            return given
        if isinstance(given, Mapping):
            names = [one.name for one in fields(self.kind)]
            if any(key not in names for key in given) or "path" not in given or "image" not in given:
                there = shown(sorted(map(str, given)))
                raise self.error(f"has an entry with {there}; there are {', '.join(names)}")
            return self.kind(**given)
        if isinstance(given, (tuple, list)) and len(given) in (2, 3):
            return self.kind(*given)
        raise self.error(f"has {shown(given)}; an entry is {self.title} or (path, image, strength)")

    def place(self, entry: E) -> tuple[Path, float, float]:
        """The file, and the share of the steps from start to end. Raises ModelNotFoundError."""
        try:
            path = Path(os.fsdecode(entry.path))
        except (TypeError, ValueError):
            raise self.error(f"has {shown(entry.path)} instead of a path") from None
        if not path.exists():
            raise ModelNotFoundError(f"no such file: {path}")
        start, end = self.number("start", entry.start, 0.0, 1.0), self.number("end", entry.end, 0.0, 1.0)
        if start > end:
            raise self.error(f"has start={start:g} after end={end:g}")
        return path, start, end

    def sight(self, entry: E) -> tuple[float, Image.Image]:
        """The strength, and the picture in RGB. Raises ModelNotFoundError, BadFileError."""
        return self.number("strength", entry.strength, -1e3, 1e3), self.picture(entry.image)

    def picture(self, image: _images.Picture) -> Image.Image:
        """A picture in RGB with pixels. Raises ModelNotFoundError, BadFileError."""
        picture = _images.opened(image)
        if 0 in picture.size:
            raise self.error(f"has a picture of {picture.width}x{picture.height} pixels")
        return picture

    def number(self, name: str, value: Any, least: float, most: float) -> float:
        """A number of an entry."""
        try:
            return options.real(name, value, least, most)
        except InvalidArgumentError:
            raise self.error(f"has {name}={shown(value)}; it must be a number from {least:g} to {most:g}") from None

    def error(self, words: str) -> InvalidArgumentError:
        """An error about the keyword."""
        return InvalidArgumentError.of(self.name, words)
