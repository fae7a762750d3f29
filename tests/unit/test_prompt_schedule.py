"""Prompts that change from step to step, and prompts made of several: texts, and pictures."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sdcpp_py import Conditioning, Pipeline
from sdcpp_py.errors import InvalidArgumentError
from sdcpp_py.text import schedule

CASES = {
    "test": [(10, "test")],
    "a [b:3]": [(3, "a "), (10, "a b")],
    "a [b: 3]": [(3, "a "), (10, "a b")],
    "a [[[b]]:2]": [(2, "a "), (10, "a [[b]]")],
    "[(a:2):3]": [(3, ""), (10, "(a:2)")],
    "a [b : c : 1] d": [(1, "a b  d"), (10, "a  c  d")],
    "a[b:[c:d:2]:1]e": [(1, "abe"), (2, "ace"), (10, "ade")],
    "a [unbalanced": [(10, "a [unbalanced")],
    "a [b:.5] c": [(5, "a  c"), (10, "a b c")],
    "a [{b|d{:.5] c": [(10, "a [{b|d{:.5] c")],
    "((a][:b:c [d:3]": [(3, "((a][:b:c "), (10, "((a][:b:c d")],
    "[a|(b:1.1)]": [(n + 1, ("a", "(b:1.1)")[n % 2]) for n in range(10)],
    "[fe|]male": [(n + 1, ("female", "male")[n % 2]) for n in range(10)],
    "[a::3]b": [(3, "ab"), (10, "b")],
    "[a:b:0]": [(10, "b")],
    "[a:b:1.0]": [(10, "a")],
    "[a:b:99]": [(10, "a")],
    "[a:b:c:4]": [(10, "[a:b:c:4]")],
    "[a|b:3]": [(10, "[a|b:3]")],
    "\\[a:b:3\\]": [(10, "\\[a:b:3\\]")],
    "[x\\:y:z:2]": [(2, "x\\:y"), (10, "z")],
    "[[a|b]:c:2]": [(1, "a"), (2, "b"), (10, "c")],
}


@pytest.mark.parametrize("prompt", CASES)
def test_texts_and_their_steps(prompt: str) -> None:
    assert [(end, text) for text, _, end in schedule.changing(prompt, 10)] == CASES[prompt]


def test_and_separates_prompts_with_weights() -> None:
    assert schedule.several("a cat :1.2 AND a dog AND (a penguin:2) :2.2") == [
        ("a cat", 1.2),
        (" a dog", 1.0),
        (" (a penguin:2)", 2.2),
    ]
    assert schedule.several("SAND AND ANDES:3")[1] == (" ANDES", 3.0)
    assert schedule.texts_of("a AND b", 4, 4, several_prompts=False)[0].text == "a AND b"
    with pytest.raises(InvalidArgumentError, match="weight of 0"):
        schedule.texts_of("a :0 AND b :0", 4, 4)


def test_a_run_that_begins_from_a_picture_counts_from_its_first_step() -> None:
    assert [text[2:] for text in schedule.texts_of("[a:b:5]", 10, 5)] == [(0.0, 1.0)]
    assert [text[2:] for text in schedule.texts_of("[a:b:2]", 10, 5)] == [(0.0, 0.4), (0.4, 1.0)]


def test_any_text_is_taken_and_none_takes_long(seconds: float = 5.0) -> None:
    start = time.monotonic()
    for prompt in ("[" * 50_000 + "]" * 50_000, "[(" * 50_000, "[a:" * 30_000 + "3]" * 30_000, "(" * 99_000 + "]:|["):
        schedule.changing(prompt, 20)
    assert time.monotonic() - start < seconds  # a hang, not a speed
    with pytest.raises(InvalidArgumentError, match="256"):
        schedule.changing("[" + "|".join(map(str, range(300))) + "]", 1000)
    with pytest.raises(InvalidArgumentError, match="too often"):
        schedule.changing("[a|b]" * 9000, 10_000)


SETTINGS = {"width": 64, "height": 64, "steps": 4, "seed": 5, "sampler": "euler"}
CIRCLE, SQUARE = "a large red circle on a white background", "a large blue square on a white background"


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline()


def latent(pipe: Pipeline, prompt: str | None = None, **more: object) -> np.ndarray:
    return pipe.generate(prompt, **{**SETTINGS, **more}).latents[0]  # type: ignore[arg-type]


def test_editing_begins_and_ends_where_it_says(pipe: Pipeline) -> None:
    first, second = latent(pipe, CIRCLE), latent(pipe, SQUARE)
    assert np.array_equal(latent(pipe, f"[{CIRCLE}:{SQUARE}:0]"), second)
    assert np.array_equal(latent(pipe, f"[{CIRCLE}:{SQUARE}:1.0]"), first)
    half = latent(pipe, f"[{CIRCLE}:{SQUARE}:0.5]")
    assert not np.array_equal(half, first) and not np.array_equal(half, second)
    assert np.array_equal(latent(pipe, f"[{CIRCLE}:{SQUARE}:2]"), half)
    turns = latent(pipe, f"[{CIRCLE}|{SQUARE}]")
    assert np.array_equal(latent(pipe, f"[{CIRCLE}:[{SQUARE}:[{CIRCLE}:{SQUARE}:3]:2]:1]"), turns)


def test_the_sampler_sees_each_text_in_its_steps(pipe: Pipeline) -> None:
    seen: list[np.ndarray] = []
    latent(pipe, CIRCLE, callback=lambda step: seen.append(step.latent))
    late: list[np.ndarray] = []
    latent(pipe, f"[{CIRCLE}:{SQUARE}:3]", callback=lambda step: late.append(step.latent))
    assert all(np.array_equal(a, b) for a, b in zip(seen[:3], late[:3]))
    assert not np.array_equal(seen[3], late[3])


def test_several_prompts_guide_by_their_weights(pipe: Pipeline) -> None:
    # one step of Euler to 0 gives the clean estimate itself, which is linear in the predictions
    one = {"steps": 1, "cfg_scale": 3.0}
    away = latent(pipe, "", **{**one, "cfg_scale": 1.0})
    a, b = (latent(pipe, text, **{**one, "cfg_scale": 1.0}) for text in (CIRCLE, SQUARE))
    together = latent(pipe, f"{CIRCLE} :0.5 AND {SQUARE} :-0.25", **one)
    assert np.allclose(together, away + 3 * (0.5 * (a - away) - 0.25 * (b - away)), atol=2e-4)
    plain = latent(pipe, f"{CIRCLE} AND {SQUARE}", **{**one, "cfg_scale": 1.0})
    assert np.allclose(plain, a + b - away, atol=2e-4)


def test_a_conditioning_is_the_prompt(pipe: Pipeline, tmp_path: object) -> None:
    prompt = f"[{CIRCLE}:{SQUARE}:0.5] AND {SQUARE} :0.5"
    wanted = pipe.generate(prompt, negative_prompt="[dark:grey:2]", **SETTINGS)  # type: ignore[arg-type]
    kept = pipe.encode_prompt(prompt, steps=4)
    away = pipe.encode_prompt("[dark:grey:2]", negative=True, steps=4)
    assert len(kept.parts) == 3 and "parts" in repr(kept)
    found = pipe.generate(conditioning=kept, negative_conditioning=away, **SETTINGS)  # type: ignore[arg-type]
    assert np.array_equal(found.latents[0], wanted.latents[0])
    again = pipe.generate(**found.parameters)
    assert np.array_equal(again.latents[0], wanted.latents[0])
    kept.save(f"{tmp_path}/prompt.safetensors")
    loaded = Conditioning.load(f"{tmp_path}/prompt.safetensors")
    assert loaded.prompt == prompt
    found = pipe.generate(conditioning=loaded, negative_conditioning=away, **SETTINGS)  # type: ignore[arg-type]
    assert np.array_equal(found.latents[0], wanted.latents[0])


def test_conditionings_that_cannot_be(pipe: Pipeline, tmp_path: object) -> None:
    kept = pipe.encode_prompt(CIRCLE)
    with pytest.raises(InvalidArgumentError, match="takes the place of a prompt"):
        pipe.generate(CIRCLE, conditioning=kept)
    with pytest.raises(InvalidArgumentError, match="prompt must be a str"):
        pipe.generate()
    with pytest.raises(InvalidArgumentError, match="must be a Conditioning"):
        pipe.generate(conditioning="text")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="steps"):
        pipe.encode_prompt("[a|b]")
    wrong = Conditioning([type(kept.parts[0])({"context": np.zeros((1, 77, 3), np.float32)})])
    with pytest.raises(InvalidArgumentError, match="not for this model"):
        pipe.generate(conditioning=wrong)
    nan = Conditioning([type(kept.parts[0])({"context": np.full_like(kept.parts[0].arrays["context"], np.nan)})])
    with pytest.raises(Exception, match="NaN or infinity"):
        pipe.generate(conditioning=nan, **SETTINGS)  # type: ignore[arg-type]
    assert latent(pipe, CIRCLE).shape[0] == 4  # still usable


def test_latents_in_and_out(pipe: Pipeline) -> None:
    first = pipe.generate(CIRCLE, **SETTINGS)  # type: ignore[arg-type]
    same = pipe.generate(CIRCLE, init_latent=first.latents[0], strength=0.5, steps=4, seed=9, sampler="euler")
    picture = pipe.decode(first.latents[0])
    assert same.image.size == picture.size == (64, 64)
    assert not np.array_equal(same.latents[0], first.latents[0])
    with pytest.raises(InvalidArgumentError, match="init_latent"):
        pipe.generate(CIRCLE, init_latent=first.latents[0], init_image=picture)
    with pytest.raises(InvalidArgumentError, match="init_latent"):
        pipe.generate(CIRCLE, init_latent=np.zeros((4, 4)))
