"""The byte-level tokenizer of the Qwen models, built on the package `tokenizers`.

Its vocabulary comes from the language model's GGUF file, else from a `tokenizer.json` beside the model. Otherwise it is the one
shipped in `data/`, which Qwen2, Qwen2.5 and Qwen3 share.
"""

from __future__ import annotations

import functools
import lzma
from importlib import resources
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from sdcpp_py.errors import UnsupportedModelError
from sdcpp_py.text import _gguf_header, _room, _tokenizer_json
from sdcpp_py.text._byte_letters import byte_letters

_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>"),
    *("<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
)


def _built(words: list[str], merges: list[tuple[str, str]], special: list[str]) -> Tokenizer:
    _room.for_words(words)
    tokenizer = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in special])
    return tokenizer


@functools.cache
def shipped() -> Tokenizer:
    """The vocabulary in `data/` (see training/take_qwen_vocabulary.py for how it is packed)."""
    raw = lzma.decompress(resources.files("sdcpp_py").joinpath("data/qwen_vocabulary.xz").read_bytes())
    letters = byte_letters()
    words = [letters[byte] for byte in raw[:256]]
    count = (len(raw) - 256) // 3
    columns = [raw[256 + count * number : 256 + count * (number + 1)] for number in range(3)]
    numbers = [low | middle << 8 | high << 16 for low, middle, high in zip(*columns)]
    merges = []
    for left, right in zip(numbers[: count // 2], numbers[count // 2 :]):
        merges.append((words[left], words[right]))
        words.append(words[left] + words[right])
    return _built(words, merges, list(_SPECIAL))


@functools.lru_cache(maxsize=2)
def from_gguf(path: Path) -> Tokenizer | None:
    """The tokenizer of a GGUF file, None if the file has none. Raises BadFileError, UnsupportedModelError."""
    found = _gguf_header.read(path)
    words, lines = found.get("tokenizer.ggml.tokens"), found.get("tokenizer.ggml.merges")
    if not words or not lines:
        return None
    kind = found.get("tokenizer.ggml.pre", "qwen2")
    if kind != "qwen2":
        raise UnsupportedModelError(f"{path.name} holds a tokenizer of kind {kind!r}; qwen2 is supported")
    merges = [(first, second) for first, _, second in (line.partition(" ") for line in lines)]
    special = [word for word in words if word.startswith("<") and word.endswith(">") and word in _SPECIAL]
    return _built(words, merges, special)


def for_model(path: Path | None) -> Tokenizer:
    """The tokenizer of the language model in the file or folder `path`; None: the shipped one."""
    if path is not None and path.suffix == ".gguf" and path.is_file() and (own := from_gguf(path)) is not None:
        return own
    for place in _tokenizer_json.places(path):
        if (found := _tokenizer_json.read(place, "BPE")) is not None:
            return found
    return shipped()
