"""CLIP's byte-pair tokenizer, built on the package `tokenizers` from the merges shipped in `data/`."""

from __future__ import annotations

import functools
import gzip
from importlib import resources

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from sdcpp_py.text import _room
from sdcpp_py.text._byte_letters import byte_letters

BEGIN = 49406
END = 49407
_MERGES = 48894
_SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@functools.cache
def clip_tokenizer() -> Tokenizer:
    """The tokenizer of CLIP-L and CLIP-G: lower case, 49 408 entries, without special tokens."""
    packed = resources.files("sdcpp_py").joinpath("data/clip_merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[:_MERGES]
    merges = [(first, second) for first, second in (line.split(" ") for line in lines)]
    letters = sorted(byte_letters())  # CLIP's vocabulary has the printable bytes first
    words = letters + [letter + "</w>" for letter in letters] + [a + b for a, b in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    _room.for_words(words)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
            unk_token="<|endoftext|>",
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    return tokenizer


def encode(text: str) -> list[int]:
    """Token ids of `text`, without begin and end marks."""
    return list(clip_tokenizer().encode(text, add_special_tokens=False).ids)
