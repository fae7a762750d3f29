"""The CPU's own operations and ggml's agree: the same networks, sizes that take every path."""

import contextlib
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import sdcpp_py
from sdcpp_py import _blas, errors


@pytest.fixture(scope="module")
def both():
    with sdcpp_py.Pipeline(threads=2) as fast, sdcpp_py.Pipeline(threads=2, blas=False) as plain:
        yield fast, plain


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 8, 8), (2, 16, 16), (1, 24, 40), (3, 8, 56), (1, 72, 64)])
def test_unet_evaluations_agree(both, batch, height, width):
    rng = np.random.default_rng(height * width)
    x = rng.standard_normal((batch, 4, height, width), np.float32)
    context = rng.standard_normal((batch, 77, 96), np.float32)
    found = [p.evaluate("unet", x=x, timesteps=np.linspace(1, 900, batch), context=context) for p in both]
    # ggml rounds what it multiplies quantized weights with; ours does not
    assert np.abs(found[0] - found[1]).max() < 0.03 * np.abs(found[1]).max()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 24), (40, 33)])
def test_decoded_pictures_agree(both, height, width):
    z = np.random.default_rng(7).standard_normal((1, 4, height, width), np.float32)
    found = [p.evaluate("vae.decoder", x=z) for p in both]
    assert np.abs(found[0] - found[1]).max() < 0.03 * np.abs(found[1]).max()


def test_results_do_not_depend_on_threads_or_on_the_batch(both):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 4, 16, 24), np.float32)
    context = rng.standard_normal((3, 77, 96), np.float32)
    steps = np.array([10.0, 500.0, 900.0])
    together = both[0].evaluate("unet", x=x, timesteps=steps, context=context)
    with sdcpp_py.Pipeline(threads=5) as many:
        assert (many.evaluate("unet", x=x, timesteps=steps, context=context) == together).all()
    alone = both[0].evaluate("unet", x=x[1:2], timesteps=steps[1:2], context=context[1:2])
    assert (alone == together[1:2]).all()


def test_cancelling_comes_within_an_operation():
    with sdcpp_py.Pipeline() as pipeline:
        latent = np.zeros((4, 96, 96), np.float32)

        def stop():
            time.sleep(0.1)
            pipeline.cancel()

        thread = threading.Thread(target=stop)
        thread.start()
        with contextlib.suppress(errors.CancelledError):  # unless it was done before
            pipeline.decode(latent, vae_tiling=False)
        thread.join()
        assert pipeline.decode(latent[:, :8, :8]) is not None  # usable


def test_the_library_is_found_and_can_be_left_out(monkeypatch):
    assert os.path.exists(_blas.choose()[0])
    assert _blas.choose(False) == ("", "")
    monkeypatch.setenv("SDCPP_BLAS", "0")
    assert _blas.choose() == ("", "")
    assert os.path.exists(_blas.choose(True)[0])
    monkeypatch.setenv("SDCPP_BLAS", "openblas")
    assert _blas.choose()[1] == "openblas"
    with pytest.raises(errors.InvalidArgumentError):
        _blas.choose("fast")


def products(kind):
    """A pipeline on these matrix products, if the processor has them."""
    try:
        return sdcpp_py.Pipeline(threads=2, blas=kind)
    except errors.InvalidArgumentError:
        pytest.skip(f"this processor has no {kind}")


@pytest.mark.parametrize("kind", _blas.KINDS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (24, 40), (72, 64)])  # larger than sizes that are left to ggml
def test_all_matrix_products_agree(both, kind, height, width):
    rng = np.random.default_rng(height * width)
    x, context = rng.standard_normal((2, 4, height, width), np.float32), rng.standard_normal((2, 77, 96), np.float32)
    inputs = {"x": x, "timesteps": np.array([100.0, 900.0]), "context": context}
    expected = both[0].evaluate("unet", **inputs)
    with products(kind) as other:
        found = other.evaluate("unet", **inputs)
        picture = other.evaluate("vae.decoder", x=x[:1])
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    decoded = both[0].evaluate("vae.decoder", x=x[:1])
    assert np.abs(picture - decoded).max() < 1e-4 * np.abs(decoded).max()


def test_bf16_is_near_and_the_same_for_any_threads_and_batch(both):
    rng = np.random.default_rng(3)
    x, context = rng.standard_normal((3, 4, 16, 24), np.float32), rng.standard_normal((3, 77, 96), np.float32)
    steps = np.array([10.0, 500.0, 900.0])
    expected = both[0].evaluate("unet", x=x, timesteps=steps, context=context)
    with (
        sdcpp_py.Pipeline(threads=2, matmul_precision="bf16") as near,
        sdcpp_py.Pipeline(threads=5, matmul_precision="bf16") as many,
    ):
        together = near.evaluate("unet", x=x, timesteps=steps, context=context)
        assert (many.evaluate("unet", x=x, timesteps=steps, context=context) == together).all()
        alone = near.evaluate("unet", x=x[1:2], timesteps=steps[1:2], context=context[1:2])
    assert (alone == together[1:2]).all()
    assert np.abs(together - expected).max() < 0.02 * np.abs(expected).max()


def test_an_unknown_precision_is_refused():
    with pytest.raises(errors.InvalidArgumentError, match="matmul_precision"):
        sdcpp_py.Pipeline(matmul_precision="f8")


LOADING = """
import _thread, ctypes, os, sys, sdcpp_py
getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p
counts = []
for kind in (None, "openblas", "openblas"):
    with sdcpp_py.Pipeline(threads=1, blas=kind):
        counts.append(len(os.listdir("/proc/self/task")) - _thread._count())  # not Python's own
print(getenv(b"OPENBLAS_NUM_THREADS"), os.environ.get("OPENBLAS_NUM_THREADS"), counts[0] == counts[1] == counts[2])
"""


@pytest.mark.skipif(not _blas.choose(True)[0], reason="scipy-openblas32 is not installed")
@pytest.mark.parametrize("value", [None, "7"])
def test_threads_of_the_library_are_not_started_and_the_environment_is_as_before(value):
    surroundings = {name: text for name, text in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    surroundings |= {} if value is None else {"OPENBLAS_NUM_THREADS": value}
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, env=surroundings, timeout=120)
    assert done.stdout == f"{None if value is None else value.encode()} {value} True\n", done.stderr
