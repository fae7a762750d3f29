"""Token ids equal to transformers' CLIP tokenizer on hard prompts."""

import gzip
import json
import random
from importlib import resources

import pytest
from transformers import CLIPTokenizer

from sdcpp_py import clip_tokenizer

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
    vocabulary = clip_tokenizer.clip_tokenizer().get_vocab(with_added_tokens=False)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def hard_prompts(count=600):
    rng = random.Random(11)
    yield from FRAGMENTS
    for _ in range(count - len(FRAGMENTS)):
        yield rng.choice((" ", ", ", "", "-")).join(rng.choices(FRAGMENTS, k=rng.randint(1, 12)))


def test_ids_equal_transformers_on_600_hard_prompts(reference):
    for text in hard_prompts():
        assert clip_tokenizer.encode(text) == reference(text, add_special_tokens=False)["input_ids"], repr(text)


def test_the_vocabulary_is_clips():
    """Known ids of the published vocabulary, so that a wrong numbering cannot agree with itself."""
    assert clip_tokenizer.encode("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert (clip_tokenizer.BEGIN, clip_tokenizer.END) == (49406, 49407)
