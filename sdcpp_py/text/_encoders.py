"""The inputs of a model's text encoders: a prompt as tokens for each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from sdcpp_py.errors import BadFileError, InvalidArgumentError
from sdcpp_py.text import _qwen_tokenizer, _t5_tokenizer, _tokenizer_json, embeddings, prompt
from sdcpp_py.text._clip_tokenizer import clip_tokenizer

MAX_TOKENS = 4096  # a prompt's, for an encoder that takes any number


@dataclass(frozen=True)
class TextEncoder:
    """A text encoder as the model's report describes it."""

    name: str
    tokenizer: str  #: a name in TOKENIZERS, or "clip"
    vocabulary: int  #: rows of its table of embeddings
    width: int  #: their length
    positions: int  #: tokens in a chunk; 0: any number
    length: int  #: tokens that a prompt is padded to; 0: none; -1: one token of padding follows
    layers: int
    padding: int  #: the padding token
    template: str  #: "{}" stands for the prompt
    for_empty: str  #: the text in place of an empty prompt
    file: Path  #: with its weights


def of_report(rows: Sequence[Mapping[str, Any]]) -> list[TextEncoder]:
    """The text encoders of an open model, in the order in which its family takes them."""
    encoders = [TextEncoder(**{**row, "file": Path(row["file"])}) for row in rows]
    return [_as_its_folder_pads(encoder) if encoder.tokenizer == "clip" else encoder for encoder in encoders]


def _as_its_folder_pads(encoder: TextEncoder) -> TextEncoder:
    """With the padding token that the tokenizer's folder of a diffusers model names, if there is one."""
    word = _tokenizer_json.pad_token(encoder.file)
    if word is None:
        return encoder
    number = clip_tokenizer().token_to_id(word)
    if number is None:  # CLIP's vocabulary has single letters and those that end a word
        number = clip_tokenizer().token_to_id(f"{word}</w>")
    if number is None:
        raise BadFileError(f"the tokenizer of {encoder.file.parent} pads with {word!r:.40}, which CLIP's vocabulary lacks")
    return replace(encoder, padding=number)


#: Tokenizers of encoders that take one chunk of any length, by name: from the encoder's file.
TOKENIZERS: dict[str, Callable[[Path | None], Tokenizer]] = {
    "qwen2": _qwen_tokenizer.for_model,
    "t5": _t5_tokenizer.for_model,
}


def _one_chunk(encoder: TextEncoder, text: str) -> prompt.Tokens:
    prompt.check(text)
    tokenizer = TOKENIZERS[encoder.tokenizer](encoder.file)
    ids = tokenizer.encode(encoder.template.replace("{}", text or encoder.for_empty), add_special_tokens=bool(encoder.length)).ids
    most = encoder.length if encoder.length > 0 else MAX_TOKENS
    if len(ids) > most:
        raise InvalidArgumentError(f"the prompt has {len(ids)} tokens for {encoder.name}; up to {most} are possible")
    padding = 1 if encoder.length < 0 else encoder.length - len(ids)
    return prompt.Tokens((*ids, *[encoder.padding] * padding), (), 1)


def tokenize(
    encoders: Sequence[TextEncoder], texts: Sequence[str], words: embeddings.Table | None = None
) -> list[tuple[prompt.Tokens, ...]]:
    """For each text its tokens for each encoder; all texts get as many chunks as the longest.

    For encoders of chunks, texts are prompts with weights, and with learned ``words``. For others they are plain text, put into
    the model's template, and padded to a length if the model wants one. Raises InvalidArgumentError.
    """
    columns = []
    for encoder in encoders:
        if encoder.positions:
            own = (encoder.positions, 1, encoder.padding, words, encoder.name)
            chunks = max(prompt.tokenize(text, *own).chunks for text in texts)
            own = (encoder.positions, chunks, encoder.padding, words, encoder.name)
            columns.append([prompt.tokenize(text, *own) for text in texts])
        else:
            columns.append([_one_chunk(encoder, text) for text in texts])
    return [tuple(column[number] for column in columns) for number in range(len(texts))]
