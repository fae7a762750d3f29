"""Released models' files, as hollow ones: each opens as its family with nothing missing, or is refused with what it is."""

import json
import logging
import re
import struct
import sys

import numpy as np
import pytest
from layouts import LAYOUTS

import sdcpp_py
from sdcpp_py import cli, errors

TOLD = (errors.UnsupportedModelError, errors.BadFileError, errors.ModelNotFoundError, errors.MissingPartError)


@pytest.mark.parametrize("row", LAYOUTS, ids=[row.name for row in LAYOUTS])
def test_a_released_layout_opens_or_is_refused_by_name(row, tmp_path, caplog):
    files = row.write(tmp_path)
    caplog.set_level(logging.WARNING)
    if row.refusal:
        with pytest.raises(TOLD) as raised, sdcpp_py.Pipeline(**files, threads=1) as pipeline:
            assert row.late  # it opens for its networks to be run alone
            pipeline.generate("x", steps=1)
        assert re.search(row.refusal, str(raised.value))
        assert "known are" not in str(raised.value) or row.name == "sd21_unclip"
    else:
        with sdcpp_py.Pipeline(**files, threads=1) as pipeline:
            assert pipeline.family == row.family
            missing = {part["name"] for part in pipeline._facts["missing"]}
        assert missing == set(row.missing)
        told = [record.message for record in caplog.records if "no use" in record.message]
        assert [int(text.split()[0]) for text in told] == [row.unused] * bool(row.unused)


@pytest.mark.parametrize("row", LAYOUTS, ids=[row.name for row in LAYOUTS])
def test_info_says_what_opening_says(row, tmp_path):
    """For layouts of one file or folder, and for a transformer that comes with others."""
    files = row.write(tmp_path)
    name = next(iter(files)) if len(files) == 1 else "diffusion_model"
    if name not in files:
        return
    part = "any" if name == "model" else "diffusion"
    try:
        with sdcpp_py.Pipeline(**{name: files[name]}, threads=1) as pipeline:
            title = pipeline._facts["title"] if pipeline._facts["denoiser"] else "a part of a model"
            missing = [part["title"] for part in pipeline._facts["missing"]]
    except (errors.BadFileError, errors.ModelNotFoundError) as error:
        with pytest.raises(type(error), match=re.escape(str(error))):
            sdcpp_py.summarize(files[name], part=part)
    except errors.SdcppError as error:
        summary = sdcpp_py.summarize(files[name], part=part)
        assert str(summary.refusal) == str(error) and type(summary.refusal) is type(error)
        assert row.refusal
    else:
        summary = sdcpp_py.summarize(files[name], part=part)
        assert (summary.family, summary.missing, summary.refusal) == (title, missing, None)
        assert len(summary.unused) == row.unused


def written(name, tmp_path):
    return next(row for row in LAYOUTS if row.name == name).write(tmp_path)


def info(capsys, path, *more):
    assert cli.main(["info", str(path), *more]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "clip_skip"),
    [("sd21_768", 2), ("waifu_diffusion_15", 1), ("sd_turbo", 2), ("sd21_gguf_sdcpp", 2), ("sd21_diffusers_folder", 1)],
)
def test_stable_diffusion_2_leaves_out_the_24th_layer_if_it_is_there(tmp_path, name, clip_skip):
    with sdcpp_py.Pipeline(**written(name, tmp_path), threads=1) as pipeline:
        assert pipeline.default("clip_skip") == clip_skip


@pytest.mark.parametrize(("spread", "predicts_v"), [(0.07, False), (0.2, True)])
def test_stable_diffusion_2_predicts_v_if_a_bias_spreads_wide(tmp_path, spread, predicts_v):
    path = written("sd21_768", tmp_path)["model"]
    with path.open("r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        tensors = json.loads(file.read(length))
        bias = tensors["model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"]
        assert (bias["dtype"], bias["shape"]) == ("F32", [320])
        file.seek(8 + length + bias["data_offsets"][0])
        file.write((0.5 + spread * np.resize([-1, 1], 320)).astype("<f4").tobytes())
    with sdcpp_py.Pipeline(path, threads=1) as pipeline:
        assert pipeline._facts["v_prediction"] is predicts_v


def test_info_shows_refusals_and_unused_tensors(tmp_path, capsys):
    out = info(capsys, written("lora_as_model", tmp_path)["model"])
    assert "model.safetensors: a LoRA, safetensors, 480 tensors" in out
    assert "cannot be used: model.safetensors is a LoRA" in out
    out = info(capsys, written("vae_as_model", tmp_path / "one")["model"])
    assert "a part of a model" in out and "to be given with --vae FILE" in out
    out = info(capsys, written("sd15_with_strangers", tmp_path / "two")["model"])
    assert "2 tensors have no use: " in out and "foo.bar" in out


def test_the_newest_variant_of_a_folders_weights_is_taken(tmp_path):
    """safetensors before .bin, the plain file before variants, shards after a whole file."""
    from hollow import safetensors, torch_zip

    names = [
        "diffusion_pytorch_model.fp16.bin",
        "diffusion_pytorch_model.bin",
        "diffusion_pytorch_model.non_ema.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.safetensors",
    ]
    for number, name in enumerate(names):
        write = torch_zip if name.endswith(".bin") else safetensors
        write(tmp_path / name, {f"decoder.conv_in.{number}": ("F32", (4, 4))})
        listed = sdcpp_py.summarize(tmp_path, part="vae").tensors
        assert [tensor.name.rpartition(".")[2] for tensor in listed] == [str(number)]


def test_a_folder_without_weights_is_told(tmp_path):
    (tmp_path / "vae").mkdir()
    with pytest.raises(errors.ModelNotFoundError, match=r"no weights \(\*\.safetensors, \*\.bin\) in .*vae"):
        sdcpp_py.Pipeline(vae=tmp_path / "vae")
    with pytest.raises(errors.ModelNotFoundError, match=r"no model_index\.json.*give the model's file"):
        sdcpp_py.Pipeline(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="terminals")
def test_names_in_files_are_shown_and_not_obeyed(tmp_path, capsys, caplog):
    from hollow import gguf, safetensors

    path = safetensors(tmp_path / "x.safetensors", {"\x1b[2Jvae.\r\u202egone.weight": ("F32", (2, 2)), "é.weight": ("F32", (1,))})
    out = info(capsys, path, "--tensors")
    assert r"\x1b[2Jvae.\r\u202egone.weight" in out and "é.weight" in out
    assert not set(out) & set("\x1b\r\u202e")
    path = gguf(tmp_path / "x.gguf", {"abcd": ("F32", (2,)), "abce": ("F32", (3,))})
    path.write_bytes(path.read_bytes().replace(b"abcd", b"\xff\xfe.w").replace(b"abce", b"\xff\xfd.w"))
    assert len({tensor.name for tensor in sdcpp_py.summarize(path).tensors}) == 2
    assert r"\udcff\udcfe.w" in info(capsys, path, "--tensors")
    with pytest.raises(errors.UnsupportedModelError):
        sdcpp_py.Pipeline(path)
