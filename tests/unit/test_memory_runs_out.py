"""Memory that runs out at some moment: an error, and a pipeline that works after. `faults/allocations.py` tries all moments."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
import allocations

pytestmark = pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="no C compiler")


@pytest.mark.parametrize(("work", "points"), [("open", 8), ("generate", 16), ("plan", 6), ("decode", 6), ("convert", 6)])
def test_an_allocation_that_fails_is_told(tmp_path, work, points):
    shim = allocations.build_shim(tmp_path)
    every = allocations.count(work, tmp_path, shim)
    found = allocations.sweep(work, tmp_path, [round((i + 0.5) * every / points) for i in range(points)], shim)
    assert len(found) == points
    assert all(what in ("told", "fine", "past the end") for _, what in found), found
    assert any(what == "told" for _, what in found)


LITTLE = """
import os, resource, sys, sdcpp_py
sdcpp_py.summarize(sdcpp_py.pipeline.embedded_model())
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]),) * 2)
try:
    with sdcpp_py.Pipeline(threads=2) as pipeline:
        print(len(pipeline.generate("x", width=64, height=64, steps=1).images))
except sdcpp_py.errors.OutOfMemoryError:
    print("told")
"""


@pytest.mark.parametrize("mebibytes", [4, 20, 30, 40, 60, 4000])
def test_too_little_address_space_is_told(mebibytes):
    surroundings = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    arguments = [sys.executable, "-c", LITTLE, str(mebibytes << 20)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=surroundings, timeout=120)
    assert (done.returncode, done.stdout) in ((0, "told\n"), (0, "1\n")), done.stderr
    assert mebibytes < 4000 or done.stdout == "1\n"
