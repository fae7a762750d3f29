import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import tiny

import sdcpp_py


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The tiny model as a diffusers folder."""
    return tiny.write_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def pipeline(folder):
    with sdcpp_py.Pipeline(folder, taesd=folder / "taesd.safetensors") as made:
        yield made


@pytest.fixture(scope="session")
def goldens():
    with np.load(tiny.GOLDENS / "goldens.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="session")
def embedded():
    with sdcpp_py.Pipeline() as made:
        yield made
