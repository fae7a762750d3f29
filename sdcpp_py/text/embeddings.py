"""Textual inversion: words of a prompt that stand for learned embeddings, from files.

A file's stem is the word, as in A1111's web UI; ``embedding:word``, as ComfyUI writes it, means the same.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdcpp_py import _engine
from sdcpp_py.errors import BadFileError, InvalidArgumentError, ModelNotFoundError, SdcppError, shown
from sdcpp_py.text import _clip_tokenizer

PathLike = str | os.PathLike[str]
_ENDINGS = (".safetensors", ".pt", ".bin", ".pth", ".ckpt", ".gguf")
_MAX_VECTORS = 75  # what one chunk takes
_PREFIX = re.compile(r"\bembedding:\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Word:
    """A learned word."""

    name: str
    path: Path
    vectors: Mapping[str, NDArray[np.float32]]  #: by text encoder, [n, C]
    tokens: tuple[int, ...]  #: the tokens of its name

    @property
    def count(self) -> int:
        """How many positions it takes."""
        return len(next(iter(self.vectors.values())))


@dataclass
class Table:
    """The words of a pipeline: rows behind each encoder's own vocabulary."""

    words: list[Word]
    rows: Mapping[str, NDArray[np.float32]]  #: by text encoder, [rows, C]
    first: Mapping[str, Mapping[str, int]]  #: by text encoder and word, the number of its first row as a token

    def __post_init__(self) -> None:
        """Sort the words by the first of their tokens, the longest first."""
        self._by_first: dict[int, list[Word]] = {}
        for word in sorted(self.words, key=lambda word: -len(word.tokens)):
            self._by_first.setdefault(word.tokens[0], []).append(word)
        names = sorted((re.escape(word.name) for word in self.words), key=len, reverse=True)
        self._prefixed = re.compile(rf"{_PREFIX.pattern}(?={'|'.join(names)})", re.IGNORECASE) if names else None

    def plain(self, text: str) -> str:
        """The text without ComfyUI's prefix before known words."""
        return self._prefixed.sub("", text) if self._prefixed and "mbedding" in text else text

    def at(self, ids: Sequence[int], place: int) -> Word | None:
        """The longest word whose tokens begin there."""
        for word in self._by_first.get(ids[place], ()):
            if tuple(ids[place : place + len(word.tokens)]) == word.tokens:
                return word
        return None

    def used_in(self, text: str) -> list[Word]:
        """The words that a text holds."""
        ids = _clip_tokenizer.encode(self.plain(text))
        found: dict[str, Word] = {}
        place = 0
        while place < len(ids):
            word = self.at(ids, place)
            if word:
                found[word.name] = word
            place += len(word.tokens) if word else 1
        return list(found.values())

    def hashes_text(self, texts: Sequence[str]) -> str:
        """Names and hashes of the words in prompts, as A1111 writes them into pictures; "" without any."""
        words = dict.fromkeys(word.path for text in texts for word in self.used_in(text))
        return ", ".join(f"{path.stem}: {_short_hash(path)}" for path in words)


def _short_hash(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(2**20):
                digest.update(part)
    except OSError as problem:
        raise BadFileError(f"{path} cannot be read: {problem.strerror or problem}") from None
    return digest.hexdigest()[:12]


def files_of(given: Sequence[PathLike] | Mapping[str, PathLike] | None, folder: PathLike | None) -> list[tuple[str, Path, bool]]:
    """Words, their files, and whether each was named by itself. Raises InvalidArgumentError, ModelNotFoundError."""
    named: list[tuple[str, Path]] = []
    if isinstance(given, Mapping):
        named = [(str(name), _path(path)) for name, path in given.items()]
    elif isinstance(given, (str, os.PathLike)) or (given is not None and not isinstance(given, Sequence)):
        raise InvalidArgumentError.of("embeddings", f"must be a list of files, or files by their words, not {shown(given)}")
    elif given is not None:
        paths = [_path(path) for path in given]
        named = [(path.stem, path) for path in paths]
    for _, path in named:
        if not path.is_file():
            raise ModelNotFoundError(f"no such file: {path}")
    out = [(name, path, True) for name, path in named]
    if folder is not None:
        root = _path(folder)
        if not root.is_dir():
            raise ModelNotFoundError(f"the folder of embeddings {root} does not exist")
        below = sorted(path for path in root.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())
        known = {name.lower() for name, _, _ in out}
        out += [(path.stem, path, False) for path in below if path.stem.lower() not in known]
    return out


def _path(path: PathLike) -> Path:
    try:
        return Path(os.fsdecode(path))
    except (TypeError, ValueError):
        raise InvalidArgumentError.of("embeddings", f"has {shown(path)} instead of a path") from None


def loaded(name: str, path: Path, widths: Mapping[str, int]) -> Word:
    """The word of a file for text encoders of these widths. Raises InvalidArgumentError if it is for another model."""
    if not name.strip():
        raise InvalidArgumentError.of("embeddings", f"has an empty word for {path.name}")
    file = _engine.PartFile(_engine.path_bytes(path), "")
    listed = _engine.listing(file)["tensors"]
    shapes = {row["name"]: row["shape"] for row in listed}
    usable = {key: shape for key, shape in shapes.items() if len(shape) in (1, 2) and 0 not in shape}
    if not usable or len(shapes) > 8:
        raise BadFileError(f"{path.name} is no embedding (textual inversion): it holds {len(shapes)} tensors")
    vectors: dict[str, NDArray[np.float32]] = {}
    for encoder, width in widths.items():
        fitting = [key for key, shape in usable.items() if shape[-1] == width]
        own = [key for key in fitting if key == encoder] or fitting
        if own:
            vectors[encoder] = np.ascontiguousarray(_engine.tensor(file, own[0]).reshape(-1, width))
    if set(vectors) != set(widths):
        held = " and ".join(sorted({str(shape[-1]) for shape in usable.values()}))
        wanted = " and ".join(str(width) for width in widths.values())
        raise InvalidArgumentError(
            f"{path.name} is an embedding for another model: its vectors have {held} values, this model's {wanted}"
        )
    counts = {len(rows) for rows in vectors.values()}
    if len(counts) > 1:
        raise BadFileError(f"{path.name} has different numbers of vectors for the text encoders")
    if max(counts) > _MAX_VECTORS:
        raise InvalidArgumentError(f"{path.name} has {max(counts)} vectors; up to {_MAX_VECTORS} fit into a prompt's chunk")
    if not all(np.isfinite(rows).all() for rows in vectors.values()):
        raise BadFileError(f"{path.name} has vectors that are not finite numbers")
    tokens = tuple(_clip_tokenizer.encode(name))
    if not tokens:
        raise InvalidArgumentError.of("embeddings", f"has the word {shown(name)}, which has no letters; give it another name")
    return Word(name, path, vectors, tokens)


def table_of(
    files: Sequence[tuple[str, Path, bool]], encoders: Mapping[str, tuple[int, int]], title: str
) -> tuple[Table, list[str]]:
    """The words of ``files``, and why files of a folder were left out.

    ``encoders`` have a vocabulary and a width each. Raises the errors of `loaded` for files that were named by themselves.
    """
    if files and not encoders:
        raise InvalidArgumentError.of("embeddings", f"are for models whose prompts go through CLIP; {title} has none")
    words, left_out = [], []
    for name, path, alone in files:
        try:
            words.append(loaded(name, path, {encoder: width for encoder, (_, width) in encoders.items()}))
        except SdcppError as problem:
            if alone:
                raise
            left_out.append(str(problem))
    rows = {}
    first: dict[str, dict[str, int]] = {}
    for encoder, (vocabulary, width) in encoders.items():
        parts = [word.vectors[encoder] for word in words]
        rows[encoder] = np.concatenate(parts) if parts else np.zeros((0, width), np.float32)
        first[encoder] = {}
        number = vocabulary
        for word in words:
            first[encoder][word.name] = number
            number += word.count
    return Table(words, rows, first), left_out
