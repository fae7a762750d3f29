import os
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import tiny

import sdcpp_py


def pytest_addoption(parser):
    parser.addoption("--shard", metavar="K/N", help="run the share K of N, counted from 0, the same tests each time")


def pytest_collection_modifyitems(config, items):
    if shard := config.getoption("--shard"):
        own, count = map(int, shard.split("/"))
        chosen = {item: zlib.crc32(item.nodeid.encode()) % count == own for item in items}
        config.hook.pytest_deselected(items=[item for item in items if not chosen[item]])
        items[:] = [item for item in items if chosen[item]]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """A process for each core, four at most; one for single tests, and for those of a device, which measure it."""
    alone = any("::" in name or "device" in Path(name).parts for name in config.args)
    return 0 if alone else min(4, os.cpu_count() or 1)


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
