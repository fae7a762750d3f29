"""In the folder of a clone, right after `pip install .`: the sources there must not hide the installed package."""

import subprocess
import sys
from pathlib import Path

from sdcpp_py._clone import module_folders

CLONE = Path(__file__).parents[2]


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=CLONE, capture_output=True, text=True, timeout=120)


def test_the_package_is_usable_from_the_source_folder():
    done = run("-c", "import sdcpp_py; print(sdcpp_py.Pipeline())")
    assert done.returncode == 0, done.stderr
    assert "shapes.gguf" in done.stdout


def test_the_command_runs_as_a_module_from_the_source_folder():
    done = run("-m", "sdcpp_py", "devices")
    assert done.returncode == 0, done.stderr
    assert "CPU" in done.stdout


def test_modules_come_from_the_first_folder_that_has_the_engine(tmp_path, monkeypatch):
    clone, other, installed = (tmp_path / name / "sdcpp_py" for name in ("clone", "other", "site-packages"))
    for folder in (clone, other, installed):
        folder.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(clone.parent), str(other.parent), str(installed.parent)])
    assert module_folders([str(clone)]) == [str(clone)]
    (installed / "_engine").mkdir()
    (installed / "_engine" / "_lib.abi3.so").touch()
    assert module_folders([str(clone)]) == [str(installed)]
    (clone / "_engine").mkdir()
    (clone / "_engine" / "_lib.abi3.so").touch()
    assert module_folders([str(clone)]) == [str(clone)]
