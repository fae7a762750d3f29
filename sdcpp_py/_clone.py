"""In a clone's folder these sources come before the installed package, which has the compiled engine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def module_folders(own: Sequence[str]) -> list[str]:
    """The folders to import the package's modules from: ``own``, or the installed package's if these lack the engine."""
    if _has_engine(own):
        return list(own)
    for entry in sys.path:
        installed = str(Path(entry or ".").resolve() / "sdcpp_py")
        if installed not in own and _has_engine([installed]):
            return [installed]
    return list(own)


def _has_engine(folders: Sequence[str]) -> bool:
    return any(path.suffix in (".so", ".pyd") for folder in folders for path in Path(folder).glob("_engine/_lib.*"))
