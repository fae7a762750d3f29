"""Memory for tokenizers: the package `tokenizers` ends the process if it finds none, so room is asked for before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

# Measured at the shipped tokenizers, at most: CLIP's, Qwen's and T5's took 0.7, 0.7 and 0.6 kB a word, or 30 bytes a letter.
_BYTES_A_WORD = 720
_BYTES_A_LETTER = 32


def for_words(words: Sequence[str]) -> None:
    """Raise MemoryError unless a tokenizer of these words can be built."""
    np.empty(len(words) * _BYTES_A_WORD, np.uint8)


def from_text(text: str) -> Tokenizer:
    """The tokenizer that JSON text describes. Raises MemoryError; what the package raises for text that describes none."""
    np.empty(len(text) * _BYTES_A_LETTER, np.uint8)
    return Tokenizer.from_str(text)
