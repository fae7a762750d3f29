"""Prompts to tokens: weights as A1111 writes them, and chunks of what the text encoder takes at once.

`(word)` weighs 1.1, `[word]` 1/1.1, `(word:1.3)` 1.3; they nest and multiply. A backslash before a bracket makes it text.
`BREAK` starts a new chunk. Brackets that do not match are text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from sdcpp_py.errors import InvalidArgumentError
from sdcpp_py.text import _clip_tokenizer, embeddings

_NETWORK_TAG = re.compile(r"<(?:lora|lyco|hypernet):[^<>]{1,200}>")
MAX_CHARACTERS = 100_000
MAX_CHUNKS = 64
_UP = 1.1
_DEEP = 32  # brackets within each other
_TOKEN = re.compile(r"\\[()\[\]\\]|\(|\[|:\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)|\)|\]|\bBREAK\b|[^\\()\[\]:B]+|.", re.DOTALL)


@dataclass
class Span:
    """A stretch of text with one weight; `text` None is a BREAK."""

    text: str | None
    weight: float


def parse_weights(prompt: str) -> list[Span]:
    """Split a prompt into spans of equal weight, in order; spans of the same weight are joined."""
    texts: list[str | None] = []  # None: a BREAK; "": a bracket that has found its other half
    open_round: list[int] = []
    open_square: list[int] = []
    closed: dict[int, tuple[int, float]] = {}  # brackets by their first text: the text behind them, the factor

    def close(start: int, factor: float, others: list[int]) -> None:
        texts[start] = ""
        closed[start] = len(texts), factor
        while others and others[-1] > start:
            others.pop()

    for match in _TOKEN.finditer(prompt):
        piece, weight = match.group(0), match.group(1)
        if piece[0] == "\\" and len(piece) == 2:
            texts.append(piece[1])
        elif piece == "(":
            open_round.append(len(texts))
            texts.append("(")
        elif piece == "[":
            open_square.append(len(texts))
            texts.append("[")
        elif weight is not None and abs(float(weight)) == inf:
            texts.append(piece)
        elif (weight is not None or piece == ")") and open_round:
            close(open_round.pop(), float(weight) if weight is not None else _UP, open_square)
        elif piece == "]" and open_square:
            close(open_square.pop(), 1 / _UP, open_round)
        elif piece == "BREAK":
            texts.append(None)
        else:
            texts.append(piece)

    parts: list[tuple[list[str] | None, float]] = []
    around: list[tuple[int, float, float]] = []  # the brackets around a text: their end, factor, and the weight within them
    for place, text in enumerate(texts):
        while around and around[-1][0] <= place:
            around.pop()
        if place in closed:
            end, factor = closed[place]
            around.append((end, factor, _within(around, factor)))
        if text == "":
            continue
        weight_here = around[-1][2] if around else 1.0
        last = parts[-1] if parts else None
        if text is None:
            parts.append((None, -1.0))
        elif last is not None and last[0] is not None and last[1] == weight_here:
            last[0].append(text)
        else:
            parts.append(([text], weight_here))
    return [Span(None if pieces is None else "".join(pieces), weight) for pieces, weight in parts] or [Span("", 1.0)]


def _within(around: list[tuple[int, float, float]], factor: float) -> float:
    """The weight within a bracket: the factors from the innermost on. Deep nests take time, so there the inner ones come last."""
    if len(around) >= _DEEP:
        return around[-1][2] * factor
    for _, outer, _ in reversed(around):
        factor *= outer
    return factor


@dataclass(frozen=True)
class Tokens:
    """`ids` and `weights` of whole chunks, begin and end marks and padding included: each [chunks * positions].

    For a language model there is one chunk of any length, and no weights.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    chunks: int
    embeddings: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)  #: rows for ids past the vocabulary

    @property
    def weighted(self) -> bool:
        """Whether any token weighs other than 1."""
        return any(weight != 1.0 for weight in self.weights)


def check(prompt: str) -> None:
    """Raise InvalidArgumentError for what is no text, or past 100 000 characters."""
    if not isinstance(prompt, str):
        raise InvalidArgumentError(f"a prompt must be a str, not {type(prompt).__name__}")
    if any("\ud800" <= letter <= "\udfff" for letter in prompt):
        raise InvalidArgumentError("the prompt holds half a surrogate pair, which is no text; decode it properly first")
    if len(prompt) > MAX_CHARACTERS:
        raise InvalidArgumentError(f"the prompt has {len(prompt)} characters; up to {MAX_CHARACTERS} are possible")
    if tag := _NETWORK_TAG.search(prompt):
        raise InvalidArgumentError(f"{tag[0]!r:.60} is a tag for the prompt of a picture, and has no use here; leave it out")


def tokenize(
    prompt: str,
    positions: int = 77,
    chunks: int = 1,
    padding: int = _clip_tokenizer.END,
    words: embeddings.Table | None = None,
    encoder: str = "",
) -> Tokens:
    """Token ids and weights of `prompt` in chunks of `positions`, padded with `padding`, and to at least `chunks` of them.

    ``words`` are learned ones, whose rows for the text encoder ``encoder`` take the place of their tokens; a chunk holds a word
    whole.
    Raises InvalidArgumentError past 100 000 characters or 64 chunks.
    """
    check(prompt)
    room = positions - 2
    ids: list[int] = []
    weights: list[float] = []
    part_ids: list[int] = []
    part_weights: list[float] = []
    chunk_count = 0

    def close() -> None:
        nonlocal chunk_count
        empty = room - len(part_ids)
        ids.extend([_clip_tokenizer.BEGIN, *part_ids, _clip_tokenizer.END, *[padding] * empty])
        weights.extend([1.0, *part_weights, 1.0, *[1.0] * empty])
        part_ids.clear()
        part_weights.clear()
        chunk_count += 1

    for span in parse_weights(prompt):
        if span.text is None:
            close()
            continue
        found = _clip_tokenizer.encode(words.plain(span.text) if words else span.text)
        place = 0
        while place < len(found):
            word = words.at(found, place) if words else None
            own = range(first := words.first[encoder][word.name], first + word.count) if words and word else (found[place],)
            if len(part_ids) + len(own) > room:
                close()
            part_ids.extend(own)
            part_weights.extend([span.weight] * len(own))
            place += len(word.tokens) if word else 1
        if chunk_count > MAX_CHUNKS:
            break
    if part_ids or chunk_count == 0:
        close()
    if chunk_count > MAX_CHUNKS:
        raise InvalidArgumentError(f"the prompt is too long: more than {MAX_CHUNKS} chunks of {room} tokens")
    while chunk_count < chunks:
        close()
    rows = words.rows[encoder] if words and words.words else None
    return Tokens(tuple(ids), tuple(weights), chunk_count, rows)
