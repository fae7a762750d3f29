"""Files that appear when they are complete: leftovers, names, permissions; nothing of the process is touched."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import sdcpp_py
from sdcpp_py import _whole_file, convert, options
from sdcpp_py.cli import main
from sdcpp_py.errors import InvalidArgumentError
from sdcpp_py.pipeline import embedded_model
from sdcpp_py.plan import _speeds

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
import kills

PICTURE = Image.new("RGB", (8, 8))


@pytest.mark.parametrize("work", kills.WORKS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_leaves_the_old_file_or_the_new_one(tmp_path, work, number):
    target = tmp_path / ("x.gguf" if work == "convert" else "x.png")
    subprocess.run(kills.command("generate" if work == "save" else work, target), check=True, capture_output=True)
    for after in (0.3, 0.9):
        what, left = kills.attempt(work, tmp_path, after, number)
        assert what in ("old", "new")
        assert not left or number == signal.SIGKILL or work == "save"
    with _whole_file.whole_file(tmp_path / "other") as path:
        path.write_text("x")
    assert not kills.leftovers(tmp_path)


def test_leftovers_go_and_files_in_use_stay(tmp_path):
    (tmp_path / ".x.png.sdcpp-0123456789ab.part").write_bytes(b"left")
    (tmp_path / ".mine.part").write_bytes(b"somebody else's")
    with _whole_file.whole_file(tmp_path / "a") as first:
        assert not (tmp_path / ".x.png.sdcpp-0123456789ab.part").exists()
        with _whole_file.whole_file(tmp_path / "b") as second:
            second.write_text("b")
        first.write_text("a")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.part", "a", "b"]
    assert (tmp_path / "a").read_text() == "a"


def test_the_umask_says_who_may_read_and_is_left_alone(tmp_path, monkeypatch):
    before = os.umask(0o027)
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was set"))
    try:
        sdcpp_py.save(PICTURE, tmp_path / "x.png")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / "x.png").stat().st_mode & 0o777 == 0o640


def test_the_environment_is_left_alone():
    before = dict(os.environ)
    with sdcpp_py.Pipeline(blas="openblas"):
        assert dict(os.environ) == before


@pytest.mark.parametrize("name", ["folder.png", "folder.png/", "x" * 300 + ".png", "é" * 150 + ".png"])
def test_outputs_that_cannot_be_written_are_told_before_the_work(tmp_path, name, capsys, monkeypatch):
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr(sdcpp_py.Pipeline, "generate", lambda *arguments, **options: pytest.fail("it ran"))
    assert main(["generate", "x", "-o", f"{tmp_path}/{name}"]) == 1
    assert "cannot be written" in capsys.readouterr().err
    with pytest.raises(InvalidArgumentError, match="cannot be written"):
        sdcpp_py.save(PICTURE, f"{tmp_path}/{name}")
    gguf = name.replace(".png", ".gguf")
    (tmp_path / "folder.gguf").mkdir()
    with pytest.raises(InvalidArgumentError, match="cannot be written"):
        convert(embedded_model(), f"{tmp_path}/{gguf}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InvalidArgumentError, match="cannot be written"):
        sdcpp_py.save(PICTURE, tmp_path / "x.png")


def test_a_name_of_245_letters_can_be_written(tmp_path):
    sdcpp_py.save(PICTURE, tmp_path / ("x" * 245 + ".png"))
    assert len(list(tmp_path.iterdir())) == 1


def test_too_many_pictures_are_refused_at_once(capsys):
    start = time.monotonic()
    assert main(["generate", "x", "-b", "999999999"]) == 1
    assert time.monotonic() - start < 2 and "999999999" in capsys.readouterr().err


def test_a_model_whose_name_is_no_text_makes_pictures_that_can_be_saved(tmp_path):
    model = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff.gguf"))
    model.write_bytes(embedded_model().read_bytes())
    with sdcpp_py.Pipeline(model) as pipeline:
        picture = pipeline.generate("x", width=32, height=32, steps=1).images[0]
    sdcpp_py.save(picture, tmp_path / "x.png")
    assert "Model: m\N{REPLACEMENT CHARACTER}" in Image.open(tmp_path / "x.png").text["parameters"]


def test_names_of_tensors_cannot_steer_a_terminal(tmp_path, capsys):
    import numpy as np
    import tiny

    tiny.write_safetensors(tmp_path / "x.safetensors", {"a\x1b[31mb": np.zeros(2, np.float32)})
    assert main(["info", "--tensors", str(tmp_path / "x.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "a\\x1b[31mb" in out


@pytest.mark.parametrize("nonsense", ["", "[" * 100_000, "[1]", '{"CPU": "x"}', "\x00", '{"x": [0, 0]}'])
def test_measured_speeds_are_kept_and_nonsense_is_tolerated(tmp_path, monkeypatch, nonsense):
    monkeypatch.setenv("SDCPP_CACHE", str(tmp_path))
    (tmp_path / "devices.json").write_text(nonsense)
    first = _speeds.device_speed("CPU", 1)
    second = _speeds.device_speed("CPU", 2)
    monkeypatch.setattr(_speeds._engine, "device_speed", lambda *arguments: pytest.fail("it was measured again"))
    assert (_speeds.device_speed("CPU", 1), _speeds.device_speed("CPU", 2)) == (first, second)
    assert len([key for key in json.loads((tmp_path / "devices.json").read_text()) if key.startswith("CPU ")]) == 2


def test_without_a_home_speeds_are_measured(monkeypatch):
    monkeypatch.setattr(_speeds, "cache_folder", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert min(_speeds.device_speed("CPU", 1)) > 0
    assert options.max_vram("1", "CPU") == 1
