"""How fast devices compute and take uploads: measured once, then read from the cache folder."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from sdcpp_py import _blas, _engine


def cache_folder() -> Path:
    """The folder of the package's measurements: SDCPP_CACHE, else the system's place for caches."""
    if own := os.environ.get("SDCPP_CACHE"):
        return Path(own)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "sdcpp_py"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sdcpp_py"


def device_speed(device: str, threads: int) -> tuple[float, float]:
    """Multiplications and additions a second in large layers, and bytes a second to the device."""
    description = next((one["description"] for one in _engine.devices()["devices"] if one["name"].lower() == device.lower()), "")
    library, _kind = _blas.choose()
    key = f"{device} {description} threads={threads} blas={bool(library)} {_engine.version()}"
    path = cache_folder() / "devices.json"
    known = _read(path)
    try:
        flops, link = known[key]
        return float(flops), float(link)
    except (ValueError, KeyError, TypeError):
        pass  # not measured yet, or not written by this version
    with _blas.loading():
        found = _engine.device_speed(device, threads, os.fsencode(library))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps({**known, key: found}))
        fresh.replace(path)
    except OSError:
        pass  # measured again next time
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
