"""The matrix products that the CPU device computes with: the engine's own, or OpenBLAS of the package scipy-openblas32."""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path

from sdcpp_py import options
from sdcpp_py.errors import InvalidArgumentError, shown

KINDS = options.MODEL["blas"].choices


def choose(wanted: bool | str | None = None) -> tuple[str, str]:
    """The library's file, "" if it is not wanted or the package is absent; and one of KINDS, "" for the best.

    ``wanted`` None takes the environment variable SDCPP_BLAS: 0 for False, a kind, else True. Raises InvalidArgumentError.
    """
    if wanted is not None and not isinstance(wanted, (bool, str)):
        raise InvalidArgumentError.of("blas", f"must be True, False or one of {', '.join(KINDS)}, not {shown(wanted)}")
    if wanted is None:
        named = os.environ.get("SDCPP_BLAS", "1")
        wanted = named if named in KINDS else named != "0"
    kind = options.choice("blas", wanted, KINDS) if isinstance(wanted, str) else ""
    return _installed() if wanted else "", kind


@functools.cache
def _installed() -> str:
    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is None or spec.origin is None:
        return ""
    files = sorted((Path(spec.origin).parent / "lib").glob("libscipy_openblas*"))
    return str(files[0]) if files else ""
