"""Tokenizers in a text encoder's folder, as `tokenizer.json`."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from tokenizers import Tokenizer

from sdcpp_py.errors import BadFileError


def places(path: Path | None) -> list[Path]:
    """Paths of a tokenizer for the file or folder `path`: in the same folder, or in a folder of a diffusers model."""
    if path is None:
        return []
    folder = path if path.is_dir() else path.parent
    named = folder.name.replace("text_encoder", "tokenizer")  # its own folder's companion
    found = [folder / "tokenizer.json", folder / "tokenizer" / "tokenizer.json"]
    return found + ([folder.parent / named / "tokenizer.json"] if named != folder.name else [])


@functools.lru_cache(maxsize=4)
def read(path: Path, kind: str) -> Tokenizer | None:
    """The tokenizer in the file `path`; None if there is none or its model is not of `kind`. Raises BadFileError."""
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        if json.loads(text)["model"].get("type", kind) != kind:
            return None
        return Tokenizer.from_str(text)
    except Exception as problem:
        raise BadFileError(f"{path} is no tokenizer: {problem}") from problem
