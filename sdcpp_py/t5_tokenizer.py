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

from sdcpp_py import gguf_header
from sdcpp_py.errors import BadFileError

END, PADDING = 1, 0


def _shipped_text() -> str:
    return lzma.decompress(resources.files("sdcpp_py").joinpath("data/t5_tokenizer.json.xz").read_bytes()).decode()


@functools.cache
def shipped() -> Tokenizer:
    """The vocabulary in `data/` (see training/take_t5_tokenizer.py)."""
    return Tokenizer.from_str(_shipped_text())


@functools.lru_cache(maxsize=2)
def from_gguf(path: Path) -> Tokenizer | None:
    """The tokenizer that a GGUF file holds, None if it holds none. Raises BadFileError."""
    found = gguf_header.read(path)
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
    return Tokenizer.from_str(json.dumps(description))


@functools.lru_cache(maxsize=2)
def _from_json(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as problem:
        raise BadFileError(f"{path} is no tokenizer: {problem}") from problem


def for_model(path: Path | None) -> Tokenizer:
    """The tokenizer of the text encoder in the file or folder `path`; None: the shipped one."""
    if path is not None and path.is_file():
        if path.suffix == ".gguf" and (own := from_gguf(path)) is not None:
            return own
        path = path.parent
    if path is not None:
        for place in (path / "tokenizer_2" / "tokenizer.json", path / "tokenizer_3" / "tokenizer.json"):
            if place.is_file():
                return _from_json(place)
    return shipped()
