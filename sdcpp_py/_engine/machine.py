"""Versions, devices and their speed."""

from __future__ import annotations

from typing import Any

from sdcpp_py._engine.calls import call, call_json, name_bytes, text
from sdcpp_py._engine.loading import ffi, lib


def version() -> str:
    """The engine's version."""
    return text(lib.sdcpp_version())


def ggml_version() -> str:
    """The version of the ggml that the engine runs on."""
    return text(lib.sdcpp_ggml_version())


def physical_cores() -> int:
    """Physical cores that this process may run on, at most as many as its control groups give time for."""
    return int(lib.sdcpp_physical_cores())


def devices() -> dict[str, Any]:
    """Devices and backends of the ggml in use, and what backends said went wrong."""
    return dict(call_json(lib.sdcpp_devices))


def device_speed(device: str, threads: int, blas_library: bytes) -> tuple[float, float]:
    """Measure a device: multiplications and additions a second in large layers, bytes a second to it."""
    flops, link = ffi.new("double*"), ffi.new("double*")
    call(lib.sdcpp_device_speed, name_bytes(device), threads, blas_library, flops, link)
    return float(flops[0]), float(link[0])
