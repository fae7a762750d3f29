"""Prompts to tokens: weights as A1111 writes them, and chunks of what the text encoder takes at once.

`(word)` weighs 1.1, `[word]` 1/1.1, `(word:1.3)` 1.3; they nest and multiply. A backslash before a bracket makes it text.
`BREAK` starts a new chunk. Brackets that do not match are text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sdcpp_py.errors import InvalidArgumentError
from sdcpp_py.text import _clip_tokenizer

_NETWORK_TAG = re.compile(r"<(?:lora|lyco|hypernet):[^<>]{1,200}>")
MAX_CHARACTERS = 100_000
MAX_CHUNKS = 64
_UP = 1.1
_TOKEN = re.compile(r"\\[()\[\]\\]|\(|\[|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|\)|\]|\bBREAK\b|[^\\()\[\]:B]+|.", re.DOTALL)


@dataclass
class Span:
    """A stretch of text with one weight; `text` None is a BREAK."""

    text: str | None
    weight: float


def parse_weights(prompt: str) -> list[Span]:
    """Split a prompt into spans of equal weight, in order; spans of the same weight are joined."""
    spans: list[Span] = []
    open_round: list[int] = []
    open_square: list[int] = []

    def scale(start: int, factor: float) -> None:
        for span in spans[start:]:
            span.weight *= factor

    for match in _TOKEN.finditer(prompt):
        piece, weight = match.group(0), match.group(1)
        if piece[0] == "\\" and len(piece) == 2:
            spans.append(Span(piece[1], 1.0))
        elif piece == "(":
            open_round.append(len(spans))
            spans.append(Span("(", 1.0))
        elif piece == "[":
            open_square.append(len(spans))
            spans.append(Span("[", 1.0))
        elif (weight is not None or piece == ")") and open_round:
            start = open_round.pop()
            spans[start].text = ""
            scale(start, float(weight) if weight is not None else _UP)
            open_square = [place for place in open_square if place < start]
        elif piece == "]" and open_square:
            start = open_square.pop()
            spans[start].text = ""
            scale(start, 1 / _UP)
            open_round = [place for place in open_round if place < start]
        elif piece == "BREAK":
            spans.append(Span(None, -1.0))
        else:
            spans.append(Span(piece, 1.0))

    joined: list[Span] = []
    for span in spans:
        if span.text == "":
            continue
        if joined and span.text is not None and joined[-1].text is not None and joined[-1].weight == span.weight:
            joined[-1].text += span.text
        else:
            joined.append(span)
    return joined or [Span("", 1.0)]


@dataclass(frozen=True)
class Tokens:
    """`ids` and `weights` of whole chunks, begin and end marks and padding included: each [chunks * positions].

    For a language model there is one chunk of any length, and no weights.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    chunks: int

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
        raise InvalidArgumentError(f"{tag[0]!r:.60} in the prompt: networks such as LoRA are not supported yet; leave it out")


def tokenize(prompt: str, positions: int = 77, chunks: int = 1, padding: int = _clip_tokenizer.END) -> Tokens:
    """Token ids and weights of `prompt` in chunks of `positions`, padded with `padding`, and to at least `chunks` of them.

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
        for token in _clip_tokenizer.encode(span.text):
            if len(part_ids) == room:
                close()
            part_ids.append(token)
            part_weights.append(span.weight)
        if chunk_count > MAX_CHUNKS:
            break
    if part_ids or chunk_count == 0:
        close()
    if chunk_count > MAX_CHUNKS:
        raise InvalidArgumentError(f"the prompt is too long: more than {MAX_CHUNKS} chunks of {room} tokens")
    while chunk_count < chunks:
        close()
    return Tokens(tuple(ids), tuple(weights), chunk_count)
