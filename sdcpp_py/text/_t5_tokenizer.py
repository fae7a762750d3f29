"""T5's tokenizer, on the package `tokenizers`: pieces with scores (Kudo 2018), the likeliest split of a text.

Its vocabulary comes from the text encoder's GGUF file, else from a `tokenizer.json` beside it, else from the one shipped in
`data/`.
"""

from __future__ import annotations

import functools
import json
import lzma
from importlib import resources
from pathlib import Path

from tokenizers import Tokenizer

from sdcpp_py.errors import BadFileError
from sdcpp_py.text import _gguf_header, _room, _tokenizer_json


def _shipped_text() -> str:
    return lzma.decompress(resources.files("sdcpp_py").joinpath("data/t5_tokenizer.json.xz").read_bytes()).decode()


@functools.cache
def shipped() -> Tokenizer:
    """The vocabulary in `data/` (see training/take_t5_tokenizer.py)."""
    return _room.from_text(_shipped_text())


@functools.lru_cache(maxsize=2)
def from_gguf(path: Path) -> Tokenizer | None:
    """The tokenizer that a GGUF file holds, None if it holds none. Raises BadFileError."""
    found = _gguf_header.read(path)
    pieces, scores = found.get("tokenizer.ggml.tokens"), found.get("tokenizer.ggml.scores")
    if not pieces or not scores or found.get("tokenizer.ggml.model") != "t5":
        return None
    if len(pieces) != len(scores):
        raise BadFileError(f"{path.name} holds {len(pieces)} pieces of a tokenizer and {len(scores)} scores")
    description = json.loads(_shipped_text())
    description["model"]["vocab"] = [[piece, score] for piece, score in zip(pieces, scores)]
    numbers = {piece: number for number, piece in enumerate(pieces)}
    description["added_tokens"] = [
        {**token, "id": numbers[token["content"]]} for token in description["added_tokens"] if token["content"] in numbers
    ]
    return _room.from_text(json.dumps(description))


def for_model(path: Path | None) -> Tokenizer:
    """The tokenizer of the text encoder in the file or folder `path`; None: the shipped one."""
    if path is not None and path.suffix == ".gguf" and path.is_file() and (own := from_gguf(path)) is not None:
        return own
    for place in _tokenizer_json.places(path):
        if (found := _tokenizer_json.read(place, "Unigram")) is not None:
            return found
    return shipped()
