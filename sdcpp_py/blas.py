"""The BLAS library that the CPU device computes with: OpenBLAS, from the package scipy-openblas32."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path


def library(wanted: bool | None = None) -> str:
    """The library's file; "" where it is not wanted or the package is absent. None: unless the variable SDCPP_BLAS is 0."""
    if wanted is None:
        wanted = os.environ.get("SDCPP_BLAS", "1") != "0"
    return _installed() if wanted else ""


@functools.cache
def _installed() -> str:
    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is None or spec.origin is None:
        return ""
    files = sorted((Path(spec.origin).parent / "lib").glob("libscipy_openblas*"))
    return str(files[0]) if files else ""


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Keep the library from starting threads of its own while the engine loads it."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = before
