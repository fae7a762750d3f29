"""A model file that shrinks, changes, goes or cannot be read while it is in use: an error, and never the end of the process."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import sdcpp_py
from sdcpp_py import convert
from sdcpp_py.errors import BadFileError
from sdcpp_py.pipeline import embedded_model

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
import allocations

SMALL = {"width": 64, "height": 64, "steps": 2, "seed": 1}
USES = {"in place": {}, "streamed": {"max_vram": 0.01, "link_speed": (1e10, 1e9)}, "converted": {"wtype": "q8_0"}}


@pytest.fixture
def model(tmp_path):
    return Path(shutil.copy(embedded_model(), tmp_path / "m.gguf"))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("ran", [False, True])
def test_a_file_that_was_cut_before_a_run_or_between_runs_is_told(model, use, ran):
    with sdcpp_py.Pipeline(model, **USES[use]) as pipeline:
        if ran:
            pipeline.generate("x", **SMALL)
        os.truncate(model, 100_000)
        with pytest.raises(BadFileError, match="was changed while it was in use"):
            pipeline.generate("x", **SMALL)


def test_a_file_that_is_cut_while_it_is_streamed_is_told(model):
    with sdcpp_py.Pipeline(model, **USES["streamed"]) as pipeline:
        with pytest.raises(BadFileError, match="was changed"):
            pipeline.generate("x", **{**SMALL, "steps": 50}, callback=lambda step: os.truncate(model, 200_000))
        with pytest.raises(BadFileError, match="was changed"):
            pipeline.generate("x", **SMALL)


def test_a_file_that_is_cut_at_any_moment_of_a_streamed_run_is_told(model):
    with sdcpp_py.Pipeline(model, **USES["streamed"]) as pipeline:
        cutter = threading.Timer(0.3, os.truncate, (model, 200_000))
        cutter.start()
        with pytest.raises(BadFileError, match="was changed"):
            for _ in range(1000):
                pipeline.generate("x", **SMALL)
        cutter.join()


IN_PLACE = """
import os, sys, threading, time, sdcpp_py
with sdcpp_py.Pipeline(sys.argv[1], threads=1) as pipeline:
    pipeline.generate("x", width=64, height=64, steps=1)
    threading.Timer(float(sys.argv[2]), os.truncate, (sys.argv[1], 200_000)).start()
    try:
        pipeline.generate("x", width=128, height=128, steps=1000)
    except sdcpp_py.errors.BadFileError:
        print("told")
"""


def can_be_held(path):
    """Whether the system lets this process hold a file that others want to write: see MappedFile::Hold."""
    fcntl = pytest.importorskip("fcntl")
    with path.open("rb") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except (AttributeError, OSError):
            return False
        return fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_RDLCK


@pytest.mark.parametrize("after", [0.1, 0.23, 0.4])
def test_a_file_that_is_cut_while_a_network_computes_in_it_is_told(model, after):
    if not can_be_held(model):
        pytest.skip("files cannot be held here: see docs/reliability.md")
    arguments = [sys.executable, "-c", IN_PLACE, str(model), str(after)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "told\n"), done.stderr
    assert model.stat().st_size == 200_000


def test_a_file_that_is_written_over_is_told(model):
    with sdcpp_py.Pipeline(model) as pipeline:
        pipeline.generate("x", **SMALL)
        time.sleep(0.02)  # the clock of files is coarse
        with model.open("r+b") as file:
            file.seek(5_000_000)
            file.write(b"\0" * 1000)
        with pytest.raises(BadFileError, match="was changed"):
            pipeline.generate("x", **SMALL)


@pytest.mark.parametrize("use", USES)
def test_a_file_that_is_replaced_or_removed_does_no_harm(model, use):
    with sdcpp_py.Pipeline(model, **USES[use]) as pipeline:
        first = pipeline.generate("x", **SMALL).images[0]
        model.with_name("new").write_bytes(b"something else")
        model.with_name("new").replace(model)
        assert pipeline.generate("x", **SMALL).images[0].tobytes() == first.tobytes()
        model.unlink()
        assert pipeline.generate("x", **SMALL).images[0].tobytes() == first.tobytes()


def test_a_file_that_is_cut_while_it_is_converted_is_told(model, tmp_path):
    def cut(stop):
        time.sleep(0.01)
        os.truncate(model, 300_000)

    cutter = threading.Thread(target=cut, args=(None,))
    cutter.start()
    with pytest.raises(BadFileError):
        for _ in range(1000):
            convert(model, tmp_path / "out.gguf", wtype="q4_0")
    cutter.join()
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


BREAKS = """
import ctypes, sys, sdcpp_py
breaks = ctypes.CDLL(None).faults_break_reads
pipeline = sdcpp_py.Pipeline(max_vram=0.01, link_speed=(1e10, 1e9))
for after in (0, 1, 30):
    breaks(after)
    try:
        pipeline.generate("x", width=64, height=64, steps=2, seed=1)
        print("ran")
    except sdcpp_py.errors.BadFileError as error:
        print("told" if "Input/output error" in str(error) else error)
    breaks(-1)
    assert pipeline.generate("x", width=64, height=64, steps=1).images
"""


def test_a_disk_that_cannot_be_read_is_told_and_the_pipeline_works_after(tmp_path):
    if shutil.which(os.environ.get("CC", "cc")) is None:
        pytest.skip("no C compiler")
    surroundings = {**os.environ, "LD_PRELOAD": str(allocations.build_shim(tmp_path))}
    done = subprocess.run([sys.executable, "-c", BREAKS], capture_output=True, text=True, env=surroundings, timeout=300)
    assert (done.returncode, done.stdout.split()) == (0, ["told"] * 3), done.stderr
