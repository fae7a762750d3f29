"""Many pictures: prompts from files, names, what is there already, true batches, grids."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdcpp_py import Pipeline, metadata, wildcards
from sdcpp_py._grid import grid
from sdcpp_py.cli import main
from sdcpp_py.errors import InvalidArgumentError

PROMPTS = ["a large red circle on a white background", "a small blue square on a white background", "a yellow star"]
SETTINGS = {"width": 64, "height": 64, "steps": 2, "sampler": "euler_a"}
FLAGS = ["-W", "64", "-H", "64", "--steps", "2"]


@pytest.mark.parametrize("device", ["CPU", "simulated:vram=1,link=12"])
def test_prompts_of_one_call_are_the_single_ones(device: str) -> None:
    budget = None if device == "CPU" else 0.006
    with Pipeline(device=device, max_vram=budget) as pipe:
        together = pipe.generate(PROMPTS, seed=[5, 9, 2**64 - 1], batch_count=1, **SETTINGS)  # type: ignore[arg-type]
        for number, (prompt, seed) in enumerate(zip(PROMPTS, [5, 9, 2**64 - 1])):
            alone = pipe.generate(prompt, seed=seed, **SETTINGS)  # type: ignore[arg-type]
            assert np.array_equal(alone.latents[0], together.latents[number])
        if budget:
            assert together.reports[pipe.denoiser].runs == 2  # steps: all pictures and their guidance go through together


def test_pictures_come_as_they_are_done() -> None:
    with Pipeline() as pipe:
        seen: list[tuple[int, tuple[int, int]]] = []
        result = pipe.generate(PROMPTS[:2], picture_callback=lambda n, image: seen.append((n, image.size)), **SETTINGS)  # type: ignore[arg-type]
        assert seen == [(0, (64, 64)), (1, (64, 64))] and len(result.images) == 2
        with pytest.raises(InvalidArgumentError, match="picture_callback"):
            pipe.generate(PROMPTS[0], picture_callback=3, **SETTINGS)  # type: ignore[arg-type]


def test_prompts_from_a_file_under_names_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompts.txt").write_text(f"# shapes\n{PROMPTS[0]}\n\n{PROMPTS[1]}\n")
    words = ["generate", "--prompt-file", str(tmp_path / "prompts.txt"), *FLAGS, "-s", "7", "-b", "2"]
    assert main([*words, "-o", str(tmp_path / "[n]-[prompt]-[seed].png"), "--grid", str(tmp_path / "all.png")]) == 0
    names = sorted(path.name for path in tmp_path.glob("*.png"))
    assert names == [
        *("0-a_large_red_circle_on_a_white_background-7.png", "1-a_large_red_circle_on_a_white_background-8.png"),
        *("2-a_small_blue_square_on_a_white_background-9.png", "3-a_small_blue_square_on_a_white_background-10.png", "all.png"),
    ]
    assert Image.open(tmp_path / "all.png").size == (128, 128)
    assert metadata.read(tmp_path / names[3]).prompt == PROMPTS[1]
    with Pipeline() as pipe:
        alone = pipe.generate(PROMPTS[1], seed=10, **{**SETTINGS, "sampler": None})  # type: ignore[arg-type]
    assert np.array_equal(np.asarray(Image.open(tmp_path / names[3])), np.asarray(alone.image))
    # what is there is left out
    kept = (tmp_path / names[0]).stat().st_mtime_ns
    (tmp_path / names[1]).unlink()
    assert main([*words, "-o", str(tmp_path / "[n]-[prompt]-[seed].png"), "--resume"]) == 0
    assert (tmp_path / names[0]).stat().st_mtime_ns == kept and (tmp_path / names[1]).exists()
    assert main([*words, "-o", str(tmp_path / "[n]-[prompt]-[seed].png"), "--resume"]) == 0
    assert "every picture is there already" in capsys.readouterr().err


def test_names_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", PROMPTS[0], *FLAGS, "-b", "2"]
    assert main([*words, "-o", str(tmp_path / "[prompt].png")]) == 1
    assert "add [n] or [seed]" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 1
    assert main([*words, "--resume", "-o", str(tmp_path / "[seed].png")]) == 1
    assert "--resume needs -s" in capsys.readouterr().err
    assert main(["generate", "--prompt-file", str(tmp_path / "none.txt")]) == 1
    (tmp_path / "empty.txt").write_text("# nothing\n")
    assert main(["generate", "--prompt-file", str(tmp_path / "empty.txt")]) == 1
    assert "has no prompts" in capsys.readouterr().err
    assert main(["generate", "x", "--prompt-file", str(tmp_path / "empty.txt")]) == 1
    assert not list(tmp_path.glob("*.png"))


def test_a_grid_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "grid.png"
    words = ["grid", PROMPTS[0], "-W", "64", "-H", "64", "-s", "3", "-o", str(target)]
    assert main([*words, "-x", "steps=1,2,3", "-y", "prompt=red,blue"]) == 0
    whole = Image.open(target)
    assert whole.width >= 3 * 64 and whole.height >= 2 * 64
    with Pipeline() as pipe:
        last = pipe.generate(PROMPTS[0].replace("red", "blue"), width=64, height=64, steps=3, seed=3).image
    corner = whole.crop((whole.width - 64, whole.height - 64, whole.width, whole.height))
    assert np.array_equal(np.asarray(corner), np.asarray(last))
    for axis, told in (
        ("nonsense=1", "no option"),
        ("steps", "no axis"),
        ("steps=x", "number"),
        ("prompt=green,red", "does not hold"),
    ):
        assert main([*words, "-x", axis]) == 1
        assert told in capsys.readouterr().err
    assert main([*words, "-x", "sampling-method=euler,heun"]) == 0


def test_a_grid_of_pictures() -> None:
    images = [Image.new("RGB", (10, 8), (n, 0, 0)) for n in range(5)]
    whole = grid(images)
    assert whole.size == (30, 16) and whole.getpixel((25, 12)) == (255, 255, 255) and whole.getpixel((15, 12)) == (4, 0, 0)
    with pytest.raises(InvalidArgumentError):
        grid([])
    with pytest.raises(InvalidArgumentError, match="too large"):
        grid([Image.new("1", (9000, 1))] * 2, 2)


def test_templates_need_their_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "dynamicprompts.generators", None)
    with pytest.raises(InvalidArgumentError, match=r"sdcpp_py\[wildcards\]"):
        wildcards.expanded("a {b|c}")
    assert main(["generate", "a {b|c}", "--dynamic"]) == 1
    assert "dynamicprompts" in capsys.readouterr().err
