"""The compiled engine, or an ImportError that says what to do."""

from __future__ import annotations

from sdcpp_py import _gpu_advice

_ABI_VERSION = 6  # SDCPP_ABI_VERSION of the header that these sources were written for

try:
    from sdcpp_py._engine._lib import ffi, lib
except ModuleNotFoundError as error:
    if error.name != "sdcpp_py._engine._lib":
        raise
    raise ImportError("these sources have no compiled engine: run `pip install .`") from error
except ImportError as error:
    raise ImportError(f"{error}\n{_gpu_advice.not_loaded(str(error))}".strip()) from error


def check_abi(found: int) -> None:
    """Raise ImportError if the engine's interface is not the one that these sources use."""
    if found != _ABI_VERSION:
        raise ImportError(
            f"the compiled engine's interface is version {found}, these sources use version {_ABI_VERSION}: "
            "run `pip install .` again, so that both are of one build"
        )


check_abi(lib.sdcpp_abi_version() if hasattr(lib, "sdcpp_abi_version") else 1)

__all__ = ["check_abi", "ffi", "lib"]
