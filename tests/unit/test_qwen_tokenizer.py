"""Sources of a language model's tokenizer."""

import json
import struct

import pytest

from sdcpp_py import errors
from sdcpp_py.text import _qwen_tokenizer

TEXT = "<|im_start|>user\nA red circle, 一只猫 🐈, it's 3.14<|im_end|>\n"


def text(value):
    return struct.pack("<Q", len(value.encode())) + value.encode()


def strings(values):
    return struct.pack("<IIQ", 9, 8, len(values)) + b"".join(text(value) for value in values)


@pytest.fixture(scope="module")
def state():
    return json.loads(_qwen_tokenizer.shipped().to_str())


def gguf_of(state, pre="qwen2"):
    model = state["model"]
    words = sorted(model["vocab"], key=model["vocab"].get) + [token["content"] for token in state["added_tokens"]]
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    pairs = {
        "general.architecture": struct.pack("<I", 8) + text("qwen3"),
        "qwen3.block_count": struct.pack("<II", 4, 36),
        "tokenizer.ggml.pre": struct.pack("<I", 8) + text(pre),
        "tokenizer.ggml.tokens": strings(words),
        "tokenizer.ggml.token_type": struct.pack("<IIQ", 9, 5, 3) + struct.pack("<iii", 1, 1, 3),
        "tokenizer.ggml.merges": strings(merges),
    }
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(text(key) + value for key, value in pairs.items())


def test_known_ids():
    """Ids of the published vocabulary."""
    ids = _qwen_tokenizer.shipped().encode("<|im_start|>user\nhello world<|im_end|>").ids
    assert ids == [151644, 872, 198, 14990, 1879, 151645]


def test_from_a_ggufs_metadata(tmp_path, state):
    path = tmp_path / "Qwen3-4B.gguf"
    path.write_bytes(gguf_of(state))
    own = _qwen_tokenizer.for_model(path)
    assert own is not _qwen_tokenizer.shipped()
    assert own.encode(TEXT).ids == _qwen_tokenizer.shipped().encode(TEXT).ids


def test_another_kind_of_tokenizer_is_refused(tmp_path, state):
    path = tmp_path / "other.gguf"
    path.write_bytes(gguf_of(state, pre="llama-bpe"))
    with pytest.raises(errors.UnsupportedModelError, match="llama-bpe"):
        _qwen_tokenizer.for_model(path)


@pytest.mark.parametrize("part", [0.001, 0.3, 0.9])
def test_a_truncated_gguf_is_refused(tmp_path, state, part):
    whole = gguf_of(state)
    path = tmp_path / f"cut{part}.gguf"
    path.write_bytes(whole[: max(5, int(len(whole) * part))])
    with pytest.raises(errors.BadFileError):
        _qwen_tokenizer.for_model(path)


def test_from_a_tokenizer_in_the_models_folder(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    _qwen_tokenizer.shipped().save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    (tmp_path / "model.safetensors").write_bytes(b"")
    for place in (tmp_path, tmp_path / "model.safetensors"):
        found = _qwen_tokenizer.for_model(place)
        assert found is not _qwen_tokenizer.shipped() and found.encode(TEXT).ids == _qwen_tokenizer.shipped().encode(TEXT).ids
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "tokenizer.json").write_text("{}")
    with pytest.raises(errors.BadFileError):
        _qwen_tokenizer.for_model(tmp_path / "bad")


def test_the_shipped_one_where_there_is_no_other(tmp_path):
    assert _qwen_tokenizer.for_model(tmp_path) is _qwen_tokenizer.shipped()
    assert _qwen_tokenizer.for_model(None) is _qwen_tokenizer.shipped()
