import time

import pytest

from sdcpp_py.errors import InvalidArgumentError
from sdcpp_py.text import _clip_tokenizer
from sdcpp_py.text.prompt import parse_weights, tokenize


def spans(text):
    return [(span.text, round(span.weight, 4)) for span in parse_weights(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", [("plain", 1.0)]),
        ("a (red) b", [("a ", 1.0), ("red", 1.1), (" b", 1.0)]),
        ("((x))", [("x", 1.21)]),
        ("[x]", [("x", 0.9091)]),
        ("(x:1.5)", [("x", 1.5)]),
        ("(x: -0.5 )", [("x", -0.5)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 1.0), (" c", 0.5)]),
        (r"\(x\)", [("(x)", 1.0)]),
        (r"a\\b", [("a\\b", 1.0)]),
        ("a BREAK b", [("a ", 1.0), (None, -1.0), (" b", 1.0)]),
        ("time 12:30", [("time 12:30", 1.0)]),
        ("BREAKFAST", [("BREAKFAST", 1.0)]),
        ("", [("", 1.0)]),
    ],
)
def test_weights_as_a1111_writes_them(text, expected):
    assert spans(text) == expected


@pytest.mark.parametrize("text", ["(", ")", "(((", "]]", "(a]", "[a)", "(a", "a:1.2)", "(a:", "(:1.2", "([)]"])
def test_broken_brackets_are_text(text):
    whole = "".join(span.text or "" for span in parse_weights(text))
    assert whole.replace("(", "").replace(")", "").replace("[", "").replace("]", "") in text
    if text in ("(", ")", "(((", "]]", "(a", "(a]", "[a)"):
        assert spans(text) == [(text, 1.0)]


def test_long_prompts_go_into_chunks_of_75():
    tokens = tokenize("red " * 80)
    assert tokens.chunks == 2
    assert len(tokens.ids) == 154
    assert tokens.ids[0] == tokens.ids[77] == _clip_tokenizer.BEGIN
    assert tokens.ids[76] == tokens.ids[153] == _clip_tokenizer.END


def test_break_starts_a_chunk_and_chunks_can_be_filled_up():
    assert tokenize("a BREAK b").chunks == 2
    assert tokenize("a", chunks=3).chunks == 3


def test_a_prompt_of_20000_words_is_answered_within_a_second():
    start = time.perf_counter()
    with pytest.raises(InvalidArgumentError, match="100000"):
        tokenize("word " * 20000 + "x")
    with pytest.raises(InvalidArgumentError, match="64 chunks"):
        tokenize("red " * 20000)
    assert time.perf_counter() - start < 5


def test_a_prompt_must_be_text():
    with pytest.raises(InvalidArgumentError, match="str"):
        tokenize(None)  # type: ignore[arg-type]
