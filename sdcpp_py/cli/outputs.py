"""The files of `sdcpp generate`: their names, and which of them are there already."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdcpp_py import _images
from sdcpp_py.errors import InvalidArgumentError

_CHECKED = 100  # so many names are all tried; if there are more, only the first and the longest
_PLACE = re.compile(r"\[(seed|prompt|n)\]")
_LONGEST = 60  # letters of a prompt in a name


@dataclass(frozen=True)
class Wanted:
    """A picture to be made."""

    prompt: str
    seed: int
    number: int  #: from 0


def has_places(pattern: str | None) -> bool:
    """Whether a pattern has [seed], [prompt] or [n]."""
    return pattern is not None and _PLACE.search(pattern) is not None


def slug(prompt: str) -> str:
    """A prompt as a part of a file's name."""
    return re.sub(r"[^\w\-]+", "_", prompt).strip("_")[:_LONGEST].strip("_") or "picture"


def named(pattern: str, wanted: Sequence[Wanted]) -> list[Path]:
    """The pictures' paths. Raises InvalidArgumentError if two would have the same."""
    if not has_places(pattern):
        return _images.output_paths(pattern, len(wanted))
    out = []
    for one in wanted:
        values = {"seed": str(one.seed), "prompt": slug(one.prompt), "n": str(one.number)}
        parts = _PLACE.split(pattern)  # texts and the names of places by turns
        out.append(Path("".join(values[part] if number % 2 else part for number, part in enumerate(parts))))
    twice = next((path for path in out if out.count(path) > 1), None) if len(out) <= _CHECKED else None
    if twice is not None or len(set(out)) < len(out):
        raise InvalidArgumentError(f"several pictures would be written to {twice or pattern}; add [n] or [seed] to the name")
    return out


def check(paths: Sequence[Path]) -> None:
    """Raise if the pictures could not be written."""
    for path in paths if len(paths) <= _CHECKED else (paths[0], paths[-1]):
        _images.check_output(path)


def free_names(count: int) -> list[Path]:
    """The first usual names that are free."""
    return next(paths for paths in _usual_names(count) if not any(map(Path.exists, paths)))


def _usual_names(count: int) -> Iterator[list[Path]]:
    for number in itertools.count():
        yield _images.output_paths("output.png" if number == 0 else f"output_{number}.png", count)


def reserved(count: int) -> list[Path]:
    """The first usual names that are free, taken by empty files, so that no two runs write the same."""
    for paths in _usual_names(count):
        taken: list[Path] = []
        try:
            for path in paths:
                path.open("x").close()
                taken.append(path)
        except FileExistsError:
            for path in taken:
                path.unlink()
            continue
        return paths
    raise AssertionError("names do not end")
