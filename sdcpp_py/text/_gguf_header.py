"""The metadata of a GGUF file, lists included: vocabularies stand there."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from sdcpp_py.errors import BadFileError

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_PAIRS, _MAX_ITEMS, _MAX_BYTES = 1 << 16, 1 << 22, 1 << 24


def read(path: Path) -> dict[str, Any]:
    """The values by key; empty if the file is no GGUF file of version 2 or 3. Raises BadFileError."""
    found: dict[str, Any] = {}
    with path.open("rb") as file:
        if file.read(4) != b"GGUF" or _take(file, "I") not in (2, 3):
            return found
        _tensors, pairs = _take(file, "Q"), _take(file, "Q")
        for _ in range(min(pairs, _MAX_PAIRS)):
            key = _take_string(file)
            found[key] = _take_value(file, _take(file, "I"))
    return found


def _bytes(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise BadFileError("the GGUF header is truncated")
    return data


def _take(file: BinaryIO, form: str) -> Any:
    return struct.unpack("<" + form, _bytes(file, struct.calcsize("<" + form)))[0]


def _take_string(file: BinaryIO) -> str:
    size = _take(file, "Q")
    if size > _MAX_BYTES:
        raise BadFileError("a string in the GGUF header is too long")
    return _bytes(file, size).decode("utf-8", errors="replace")


def _take_value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _take_string(file)
    if kind in _NUMBERS:
        return _take(file, _NUMBERS[kind])
    if kind != _ARRAY:
        raise BadFileError("the GGUF header has a value of unknown kind")
    item, count = _take(file, "I"), _take(file, "Q")
    if count > _MAX_ITEMS or (item != _STRING and item not in _NUMBERS):
        raise BadFileError("the GGUF header has an array that is too long or of unknown kind")
    if item == _STRING:
        return [_take_string(file) for _ in range(count)]
    form = f"{count}{_NUMBERS[item]}"
    return list(struct.unpack("<" + form, _bytes(file, struct.calcsize("<" + form))))
