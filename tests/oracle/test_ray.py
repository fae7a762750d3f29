"""The example on Ray: one of two workers is killed in the middle; each picture is written once, and is a single pipeline's."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sdcpp_py
from sdcpp_py import metadata

pytest.importorskip("ray")
EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_workers.py"
QUIET = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32, "RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def test_a_killed_workers_picture_is_made_again(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | QUIET
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--kill"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    written = Counter(re.findall(r"^picture (\d) by", done.stdout, re.MULTILINE))
    assert written == dict.fromkeys("012345", 1)
    begun = re.findall(r"pid=(\d+)\)\S* picture (\d) begins", done.stdout)
    assert Counter(number for _, number in begun) == dict.fromkeys("02345", 1) | {"1": 2}
    assert len({process for process, number in begun if number == "1"}) == 2
    assert done.stdout.count("picture 1 is lost") == 1
    with sdcpp_py.Pipeline(device="CPU") as pipeline:
        for number in range(6):
            path = tmp_path / f"ray_{number}.png"
            alone = pipeline.generate(**metadata.read(path).keywords)
            assert alone.seed == 100 + number and np.array_equal(np.asarray(Image.open(path)), np.asarray(alone.image))
    assert len(list(tmp_path.iterdir())) == 6
