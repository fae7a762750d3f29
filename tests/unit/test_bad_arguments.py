"""Arguments of the wrong kind, names that are nearly right, and options that have no effect: each is told."""

import io
import logging

import numpy as np
import pytest
import tiny
from PIL import Image

import sdcpp_py
from sdcpp_py import cli, errors
from sdcpp_py._embedded import embedded_model

SMALL = {"steps": 1, "width": 32, "height": 32, "seed": 1, "progress": False}


@pytest.fixture(scope="module")
def pipeline():
    with sdcpp_py.Pipeline() as opened:
        yield opened


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda pipeline, folder: pipeline.plan(network=3), "clip_l, unet, vae.decoder"),
        (lambda pipeline, folder: pipeline.plans(init_image="a.png"), "True or False"),
        (lambda pipeline, folder: pipeline.evaluate(3), "clip_l, unet, vae.decoder"),
        (lambda pipeline, folder: pipeline.default([]), "no option"),
        (lambda pipeline, folder: pipeline.generate("a", **{**SMALL, "progress": np.zeros(3)}), "progress"),
        (lambda pipeline, folder: pipeline.generate("a", **SMALL, cancel=True), "is_set"),
        (lambda pipeline, folder: sdcpp_py.save(Image.new("RGB", (1, 1)), io.StringIO()), "wb"),
        (lambda pipeline, folder: sdcpp_py.convert(embedded_model(), folder / "a.gguf", cancel=True), "is_set"),
        (lambda pipeline, folder: sdcpp_py.convert(embedded_model(), folder / "a.gguf", progress="no"), "progress"),
        (lambda pipeline, folder: sdcpp_py.Pipeline("owner/model"), "download"),
    ],
)
def test_what_cannot_be_used_is_told(pipeline, tmp_path, call, says):
    with pytest.raises(errors.SdcppError, match=says):
        call(pipeline, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_text_encoder_needs_its_model_and_is_of_the_kind_that_its_flag_names(tmp_path, capsys):
    encoder = tiny.write_family(tmp_path, "flux.1") / "text_encoder_2" / "model.safetensors"
    with pytest.raises(errors.InvalidArgumentError, match="give its model too"):
        sdcpp_py.Pipeline(text_encoders=encoder)
    assert cli.main(["generate", "a", "-m", str(tmp_path), "--clip_l", str(encoder)]) == 1
    assert "given as clip_l, but it holds 't5'" in capsys.readouterr().err


def test_options_without_effect_are_told(pipeline, caplog):
    caplog.set_level(logging.WARNING)
    pipeline.generate("a red circle", **SMALL, sampler="euler", eta=0.5)
    assert "eta has no effect with the sampler euler" in caplog.text
    pipeline.generate("a red circle", **SMALL, vae_tiling=False, vae_tile_size=32)
    assert "without vae_tiling" in caplog.text
    caplog.clear()
    pipeline.generate("a red circle", **SMALL, sampler="ddim", eta=0.5)
    assert not caplog.records


def test_a_weight_past_all_numbers_is_text(pipeline):
    assert pipeline.generate("(a red circle:1" + "0" * 400 + ")", **SMALL).images


def test_a_symbolic_link_stays_and_its_file_is_written(tmp_path):
    (tmp_path / "link.png").symlink_to("real.png")
    sdcpp_py.save(Image.new("RGB", (2, 2)), tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink() and Image.open(tmp_path / "real.png").size == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "a", "red", "circle"], "in quotes"),
        (["--versoin"], "--version"),
        (["plan", "--max-vrm", "1"], "--max-vram"),
        ([], "COMMAND"),
    ],
)
def test_the_command_line_names_what_may_be_meant(arguments, says, capsys):
    with pytest.raises(SystemExit):
        cli.main(arguments)
    assert says in capsys.readouterr().err


def test_a_model_is_given_with_and_without_its_flag(tmp_path, capsys):
    model = str(embedded_model())
    assert cli.main(["convert", model, "-o", str(tmp_path / "a.gguf"), "--no-progress"]) == 0
    assert cli.main(["plan", "-m", model, "--device", "simulated:vram=1"]) == 0
    assert cli.main(["convert", model, "-m", model, "-o", str(tmp_path / "b.gguf")]) == 1
    assert "once" in capsys.readouterr().err
