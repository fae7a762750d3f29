"""Checkpoints that see a mask or a picture beside the latent, and pictures that grow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from sdcpp_py import Pipeline, _inpaint, metadata
from sdcpp_py.cli import main
from sdcpp_py.errors import InvalidArgumentError, SdcppError, UnsupportedModelError

SETTINGS = {"steps": 2, "seed": 5, "sampler": "euler"}


def picture(width: int = 64, height: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


def half(width: int = 64, height: int = 64) -> Image.Image:
    mask = Image.new("L", (width, height))
    mask.paste(255, (0, 0, width // 2, height))
    return mask


@pytest.fixture(scope="module")
def inpainter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_wide_folder(tmp_path_factory.mktemp("nine"), 9)


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_wide_folder(tmp_path_factory.mktemp("eight"), 8)


def test_inpainting_checkpoints_keep_what_they_shall(inpainter: Path) -> None:
    with Pipeline(inpainter) as pipe:
        made = pipe.generate("x", init_image=picture(), mask_image=half(), strength=1.0, mask_blur=0.0, **SETTINGS)  # type: ignore[arg-type]
        assert np.array_equal(np.asarray(made.image)[:, 40:], np.asarray(picture())[:, 40:])
        other = Image.fromarray(255 - np.asarray(picture()))
        moved = pipe.generate("x", init_image=other, mask_image=half(), strength=1.0, mask_blur=0.0, **SETTINGS)  # type: ignore[arg-type]
        assert not np.array_equal(made.latents[0], moved.latents[0])  # it sees what it keeps
        whole = pipe.generate("x", width=64, height=64, **SETTINGS)  # type: ignore[arg-type]
        larger = pipe.generate("x", width=64, height=64, hires=True, hires_scale=1.5, **SETTINGS)  # type: ignore[arg-type]
        assert larger.image.size == (96, 96)
        assert whole.image.size == (64, 64)
        more = {**SETTINGS, "seed": [5, 5], "mask_blur": 0.0, "strength": 1.0, "batch_count": 2}
        both = pipe.generate("x", init_image=[picture(), other], mask_image=half(), **more)  # type: ignore[arg-type]
        assert np.array_equal(both.latents[0], made.latents[0]) and np.array_equal(both.latents[1], moved.latents[0])


@pytest.mark.parametrize("policy", ["pipelined", "capped"])
def test_streamed_is_the_same(inpainter: Path, editor: Path, policy: str) -> None:
    for folder, more in ((inpainter, {"mask_image": half()}), (editor, {})):
        with Pipeline(folder) as pipe:
            wanted = pipe.generate("x", init_image=picture(), **more, **SETTINGS).latents[0]  # type: ignore[arg-type]
            needed = pipe.plan(width=64, height=64).peak_bytes / 2**30
        with Pipeline(folder, device="simulated:vram=1,link=12", max_vram=0.9 * needed, plan_policy=policy) as pipe:
            found = pipe.generate("x", init_image=picture(), **more, **SETTINGS)  # type: ignore[arg-type]
        assert np.array_equal(found.latents[0], wanted)


def test_editing_checkpoints_need_a_picture_and_nothing_else(editor: Path) -> None:
    with Pipeline(editor) as pipe:
        first, second = (pipe.generate("x", init_image=one, **SETTINGS) for one in (picture(), half().convert("RGB")))  # type: ignore[arg-type]
        assert not np.array_equal(first.latents[0], second.latents[0])
        assert first.parameters["image_cfg_scale"] == 1.5 and "Image CFG scale: 1.5" in first.image.info["parameters"]
        closer = pipe.generate("x", init_image=picture(), image_cfg_scale=3, **SETTINGS)  # type: ignore[arg-type]
        assert not np.array_equal(first.latents[0], closer.latents[0])
        plain = pipe.generate("x", init_image=picture(), image_cfg_scale=1, cfg_scale=1, **SETTINGS)  # type: ignore[arg-type]
        assert plain.reports[pipe.denoiser].runs == 2
        for wrong in ({}, {"init_image": picture(), "mask_image": half()}, {"init_image": picture(), "cfg_scale": 0}):
            with pytest.raises(InvalidArgumentError):
                pipe.generate("x", **wrong, **SETTINGS)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_wide_folder(tmp_path_factory.mktemp("five"), 5)


def depths(width: int = 64, height: int = 64) -> np.ndarray:
    return (np.arange(width)[None, :] + np.arange(height)[:, None]).astype(np.float32)


def test_a_checkpoint_for_depths_follows_them(deep: Path, tmp_path: Path) -> None:
    given = {"width": 64, "height": 64, **SETTINGS}
    with Pipeline(deep) as pipe:
        made = pipe.generate("x", depth_image=depths(), **given)  # type: ignore[arg-type]
        away = pipe.generate("x", depth_image=-depths(), **given)  # type: ignore[arg-type]
        assert not np.array_equal(made.latents[0], away.latents[0])
        same = pipe.generate("x", depth_image=7 + 30 * depths(), **given)  # type: ignore[arg-type]
        np.testing.assert_allclose(same.latents[0], made.latents[0], atol=1e-2)  # their range has no effect
        Image.fromarray((500 * depths()).astype(np.uint16)).save(tmp_path / "depth.png")
        fine = pipe.generate("x", depth_image=tmp_path / "depth.png", **given)  # type: ignore[arg-type]
        np.testing.assert_allclose(fine.latents[0], made.latents[0], atol=1e-2)
        again = pipe.generate(**made.parameters)
        assert np.array_equal(again.latents[0], made.latents[0])
        assert metadata.read(made.image).lacking == ["depth_image"]
        begun = pipe.generate("x", init_image=picture(), depth_image=depths(), **SETTINGS)  # type: ignore[arg-type]
        masked = pipe.generate("x", init_image=picture(), mask_image=half(), depth_image=depths(), mask_blur=0, **SETTINGS)  # type: ignore[arg-type]
        assert not np.array_equal(begun.latents[0], made.latents[0])
        assert np.array_equal(np.asarray(masked.image)[:, 40:], np.asarray(picture())[:, 40:])
        larger = pipe.generate("x", depth_image=depths(), hires=True, hires_scale=1.5, **given)  # type: ignore[arg-type]
        assert larger.image.size == (96, 96)
        needed = pipe.plan(width=64, height=64).peak_bytes / 2**30
        for wrong, says in (
            (None, "is needed"),
            (np.ones((8, 8)), "same everywhere"),
            (np.full((8, 8), np.nan), "finite"),
            ("nowhere.png", "no such file"),
            ("x" * 3, "no such file"),
        ):
            with pytest.raises(SdcppError, match=says):
                pipe.generate("x", depth_image=wrong, **given)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError, match="only_masked"):
            more = {"init_image": picture(), "mask_image": half(), "only_masked": True}
            pipe.generate("x", depth_image=depths(), **more, **SETTINGS)  # type: ignore[arg-type]
    with Pipeline(deep, device="simulated:vram=1,link=12", max_vram=0.9 * needed) as pipe:
        streamed = pipe.generate("x", depth_image=depths(), **given)  # type: ignore[arg-type]
        assert np.array_equal(streamed.latents[0], made.latents[0])
    with Pipeline() as pipe, pytest.raises(InvalidArgumentError, match="depth_image has no use"):
        pipe.generate("x", depth_image=depths(), **SETTINGS)  # type: ignore[arg-type]
    words = ["generate", "x", "-m", str(deep), "--depth-image", str(tmp_path / "depth.png"), "-W", "64", "-H", "64"]
    assert main([*words, "--steps", "2", "-o", str(tmp_path / "b.png")]) == 0


def test_other_widths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="6 input channels"):
        Pipeline(tiny.write_wide_folder(tmp_path, 6))


def test_pictures_grow(tmp_path: Path) -> None:
    with Pipeline() as pipe:
        made = pipe.generate("a large red circle", init_image=picture(128, 64), outpaint=(0, 0, 60, 10), **SETTINGS)  # type: ignore[arg-type]
        assert made.image.size == (192, 96)
        kept = np.asarray(made.image)[: 64 - 40, : 128 - 40]
        assert np.array_equal(kept, np.asarray(picture(128, 64))[: 64 - 40, : 128 - 40])
        again = pipe.generate(**made.parameters)
        assert np.array_equal(again.latents[0], made.latents[0])
        assert metadata.read(made.image).lacking == ["init_image", "outpaint"]
        for wrong in ("1,2,3", (0, 0, 0, 0), (-1, 0, 0, 0), "a,b,c,d", 5, (0, 0, 99999, 0)):
            with pytest.raises(InvalidArgumentError):
                pipe.generate("x", init_image=picture(), outpaint=wrong, **SETTINGS)  # type: ignore[arg-type]
        for more in ({}, {"init_image": picture(), "mask_image": half()}, {"init_image": picture(), "width": 64}):
            with pytest.raises(InvalidArgumentError, match="outpaint"):
                pipe.generate("x", outpaint=(64, 0, 0, 0), **more, **SETTINGS)  # type: ignore[arg-type]
    picture(64, 64).save(tmp_path / "a.png")
    words = ["generate", "a red circle", "-i", str(tmp_path / "a.png"), "--outpaint", "64,0,0,0", "--steps", "2", "-o"]
    assert main([*words, str(tmp_path / "b.png")]) == 0
    assert Image.open(tmp_path / "b.png").size == (128, 64)


def test_new_parts_fade_into_the_picture() -> None:
    canvas, mask = _inpaint.outpainted(picture(100, 60), (20, 0, 0, 4), 64)
    assert canvas.size == mask.size == (128, 64)
    values = np.asarray(mask, float) / 255
    assert (values[:, :28] == 1).all() and (values[60:] == 1).all()  # the left side grew on
    assert values[0, 28] == pytest.approx(1, abs=0.01) and values[0, 28 + 20] == pytest.approx(0.25, abs=0.01)
    assert values[0, 28 + 40] == 0 and values[59, 28 + 60] == pytest.approx(1, abs=0.01)
    assert np.array_equal(np.asarray(canvas)[:60, 28:], np.asarray(picture(100, 60)))
