"""How fast devices compute and take uploads: measured once, then read from the cache folder."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from sdcpp_py import _blas, _engine
from sdcpp_py._whole_file import whole_file

_LARGEST = 1 << 20  # bytes
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def cache_folder() -> Path:
    """The folder of the package's measurements: SDCPP_CACHE, else the system's place for caches."""
    if own := os.environ.get("SDCPP_CACHE"):
        return Path(own)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "sdcpp_py"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sdcpp_py"


def device_speed(device: str, threads: int) -> tuple[float, float]:
    """Multiplications and additions a second in large layers, and bytes a second to the device."""
    library, _kind = _blas.choose()
    key = f"{device} {_hardware(device)} threads={threads} blas={bool(library)} {_engine.version()}"
    path = cache_file()
    found = _of(_read(path), key)
    if found is not None:
        return found
    measured = _engine.device_speed(device, threads, os.fsencode(library))
    if path is not None:
        _remember(path, key, measured)
    return measured


def _hardware(device: str) -> str:
    """What the measurement holds for: the card, or the processor, and NVIDIA's driver."""
    known = _engine.devices()["devices"]
    name = device.partition(":")[0].lower()
    if name == "auto":
        found = [one for one in known if not one["is_cpu"]] or known
    else:
        found = [one for one in known if one["name"].lower() == name]
    try:
        driver = _NVIDIA_DRIVER.read_text().partition("\n")[0]
    except OSError:
        driver = ""
    return " ".join([*(one["description"] for one in found), driver]).strip()


def cache_file() -> Path | None:
    """The file of measured speeds; None if the system names no folder for it."""
    try:
        return cache_folder() / "devices.json"
    except RuntimeError:  # Python's word for a user without a home
        return None


def _of(known: dict[str, Any], key: str) -> tuple[float, float] | None:
    """A speed that was measured before; None if there is none, or not in this version's form."""
    try:
        flops, link = (float(value) for value in known[key])
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return (flops, link) if 0 < flops < math.inf and 0 < link < math.inf else None


def _remember(path: Path, key: str, measured: tuple[float, float]) -> None:
    """Add a measurement to those in the file, which other processes may write, too."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as fresh:
            fresh.write_text(json.dumps({**_read(path), key: measured}))
    except OSError:
        pass  # measured again next time


def _read(path: Path | None) -> dict[str, Any]:
    """The file's contents; nothing if it is not there or damaged."""
    try:
        text = path.read_text() if path is not None and path.stat().st_size < _LARGEST else ""
        found = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
