"""Tokenizers in a text encoder's folder, as `tokenizer.json`."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from tokenizers import Tokenizer

from sdcpp_py.errors import BadFileError
from sdcpp_py.text import _room


def places(path: Path | None) -> list[Path]:
    """Paths of a tokenizer for the file or folder `path`: in the same folder, or in a folder of a diffusers model."""
    if path is None:
        return []
    folder = path if path.is_dir() else path.parent
    named = folder.name.replace("text_encoder", "tokenizer")  # its own folder's companion
    found = [folder / "tokenizer.json", folder / "tokenizer" / "tokenizer.json"]
    return found + ([folder.parent / named / "tokenizer.json"] if named != folder.name else [])


def pad_token(path: Path) -> str | None:
    """The padding token of the tokenizer that comes with the text encoder ``path`` in a diffusers folder; None if none is named.

    Raises BadFileError.
    """
    named = path.parent.name.replace("text_encoder", "tokenizer")
    if named == path.parent.name:
        return None
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        file = path.parent.parent / named / name
        if not file.is_file():
            continue
        try:
            token = json.loads(file.read_text(encoding="utf-8")).get("pad_token")
            word = token.get("content") if isinstance(token, dict) else token
        except Exception as problem:
            raise BadFileError(f"{file} cannot be read: {problem}") from problem
        if isinstance(word, str):
            return word
    return None


@functools.lru_cache(maxsize=4)
def read(path: Path, kind: str) -> Tokenizer | None:
    """The tokenizer in the file `path`; None if there is none or its model is not of `kind`. Raises BadFileError."""
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        if json.loads(text)["model"].get("type", kind) != kind:
            return None
        return _room.from_text(text)
    except MemoryError:
        raise
    except Exception as problem:
        raise BadFileError(f"{path} is no tokenizer: {problem}") from problem
