"""Token ids equal to transformers' CLIP and Qwen tokenizers, and to tiktoken, on hard prompts."""

import base64
import gzip
import json
import random
import unicodedata
from importlib import resources

import pytest
import tiktoken
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2
from transformers import CLIPTokenizer, Qwen2Tokenizer

from sdcpp_py.text import _clip_tokenizer, _qwen_tokenizer, _t5_tokenizer
from sdcpp_py.text._byte_letters import byte_letters

FRAGMENTS = [
    *("it's", "they're", "I'LL", "can't", "rock'n'roll", "3.14159", "1,000,000", "50%", "C++", "#hashtag", "@user", "e-mail"),
    *(
        "日本語のテキスト",
        "中文字符",
        "한국어",
        "русский текст",
        "ελληνικά",
        "العربية",
        "עברית",
        "हिन्दी",
        "ไทย",
        "naïve café",
        "ÅNGSTRÖM",
    ),
    *(
        "🎉",
        "👩‍👩‍👧‍👦",
        "🇯🇵",
        "☃️",
        "e\u0301",
        "ﬁ",
        "Ⅷ",
        "½",
        "x²",
        "\u200bzero\u200bwidth",
        "tab\there",
        "new\nline",
        "  spaces  ",
    ),
    *(
        "((nested))",
        "[x]",
        "{y}",
        "<tag>",
        "a_b_c",
        "snake_case",
        "CamelCase",
        "UPPER",
        "mIxEd",
        "...",
        "!?",
        "—dash–",
        "“quoted”",
    ),
    *("supercalifragilisticexpialidocious", "antidisestablishmentarianism", "zzzzzzzz", "1girl", "4k", "8K", "f/1.8", "ISO100"),
    *("<|endoftext|>", "\\", "//", "~", "`", "^_^", "$9.99", "&amp;", "ß", "İ", "ſ", "Ω", "ℵ"),
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    packed = resources.files("sdcpp_py").joinpath("data/clip_merges.txt.gz").read_bytes()
    (folder / "merges.txt").write_text("#version: 0.2\n" + gzip.decompress(packed).decode(), encoding="utf-8")
    vocabulary = _clip_tokenizer.clip_tokenizer().get_vocab(with_added_tokens=False)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def hard_prompts(count=600):
    rng = random.Random(11)
    yield from FRAGMENTS
    for _ in range(count - len(FRAGMENTS)):
        yield rng.choice((" ", ", ", "", "-")).join(rng.choices(FRAGMENTS, k=rng.randint(1, 12)))


def test_ids_equal_transformers_on_600_hard_prompts(reference):
    for text in hard_prompts():
        assert _clip_tokenizer.encode(text) == reference(text, add_special_tokens=False)["input_ids"], repr(text)


def test_the_vocabulary_is_clips():
    """Known ids of the published vocabulary, so that a wrong numbering cannot agree with itself."""
    assert _clip_tokenizer.encode("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert (_clip_tokenizer.BEGIN, _clip_tokenizer.END) == (49406, 49407)


@pytest.fixture(scope="module")
def qwen_state():
    return json.loads(_qwen_tokenizer.shipped().to_str())["model"]


def test_qwen_ids_equal_transformers_on_600_hard_prompts(qwen_state):
    reference = Qwen2Tokenizer(vocab=qwen_state["vocab"], merges=[tuple(pair) for pair in qwen_state["merges"]])
    ours = _qwen_tokenizer.shipped()
    for text in hard_prompts():
        if "<|" not in text:
            assert ours.encode(text).ids == reference(text)["input_ids"], repr(text)


def test_qwen_ids_equal_tiktoken_on_600_hard_prompts(qwen_state):
    """tiktoken merges by rank alone, so that it does not depend on the merges we derive."""
    letters = {letter: byte for byte, letter in enumerate(byte_letters())}
    ranks = {bytes(letters[letter] for letter in word): rank for word, rank in qwen_state["vocab"].items()}
    assert len(ranks) == 151643
    special = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<think>": 151667, "</think>": 151668}
    reference = tiktoken.Encoding("qwen", pat_str=_qwen_tokenizer._SPLIT, mergeable_ranks=ranks, special_tokens=special)
    ours = _qwen_tokenizer.shipped()
    for text in [*hard_prompts(), "a very long prompt, " * 300, "<|im_start|>user\nx<|im_end|>\n<think>\n</think>"]:
        composed = unicodedata.normalize("NFC", text)
        assert ours.encode(text).ids == reference.encode(composed, allowed_special="all"), repr(text)


@pytest.fixture(scope="module")
def sentencepieces():
    """Google's implementation with the pieces, scores and normalization table that are shipped."""
    described = json.loads(_t5_tokenizer.shipped().to_str())
    proto = sentencepiece_model_pb2.ModelProto()
    kinds = proto.SentencePiece
    for number, (piece, score) in enumerate(described["model"]["vocab"][:32000]):
        kind = kinds.UNKNOWN if number == 2 else kinds.CONTROL if number < 2 else kinds.NORMAL
        proto.pieces.add(piece=piece, score=score, type=kind)
    proto.trainer_spec.model_type = proto.trainer_spec.UNIGRAM
    proto.trainer_spec.pad_id, proto.trainer_spec.eos_id, proto.trainer_spec.unk_id, proto.trainer_spec.bos_id = 0, 1, 2, -1
    table = described["normalizer"]["normalizers"][0]["precompiled_charsmap"]
    proto.normalizer_spec.precompiled_charsmap = base64.b64decode(table)
    return SentencePieceProcessor(model_proto=proto.SerializeToString())


def test_t5_equals_sentencepiece(sentencepieces):
    for text in hard_prompts():
        assert _t5_tokenizer.shipped().encode(text).ids == [*sentencepieces.encode(text), 1], text
