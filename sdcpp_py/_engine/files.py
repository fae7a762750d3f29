"""Files: what they hold, and conversion."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sdcpp_py._engine.calls import Callback, call_json, name_bytes
from sdcpp_py._engine.interrupts import StopFlag, call_interruptible
from sdcpp_py._engine.loading import ffi, lib
from sdcpp_py._engine.model import Floats, PartFile, c_files, copied
from sdcpp_py._engine.options import Options
from sdcpp_py.errors import InvalidArgumentError, shown


def path_bytes(path: str | os.PathLike[str]) -> bytes:
    """A path as the engine takes it. Raises InvalidArgumentError for what cannot be one."""
    try:
        raw = os.fsencode(path)
    except (TypeError, UnicodeError) as error:
        raise InvalidArgumentError(f"{shown(path)} is no path: {error}") from None
    if b"\0" in raw:
        raise InvalidArgumentError("a path contains a NUL character")
    return raw


def components() -> list[dict[str, Any]]:
    """The components that models are made of, and how users give their files."""
    return list(call_json(lib.sdcpp_components))


def listing(file: PartFile) -> dict[str, Any]:
    """The contents of a tensor file or a diffusers folder."""
    files, _, kept = c_files([file])
    flag = StopFlag()
    by = partial(call_interruptible, flag.set, flag=flag.pointer)
    found = call_json(lib.sdcpp_listing, files, flag.pointer, by=by)
    del kept
    return dict(found)


def tensor(file: PartFile, name: str) -> Floats:
    """The values of one tensor of a tensor file, float32."""
    files, _, kept = c_files([file])
    flag, out = StopFlag(), ffi.new("sdcpp_result**")
    call_interruptible(flag.set, lib.sdcpp_tensor, files, name_bytes(name), flag.pointer, out, flag=flag.pointer)
    del kept
    return copied(lib.sdcpp_result_data, ffi.gc(out[0], lib.sdcpp_result_free))


def convert(
    files: Sequence[PartFile],
    target: Path,
    options: Mapping[str, Any],
    on_progress: Callable[[int, int], None],
    stop: Callable[[], None],
) -> None:
    """Write what the networks in ``files`` use into the GGUF file ``target``; ``on_progress`` gets bytes done and all bytes."""
    given, count, kept = c_files(files)
    hook, flag = Callback(on_progress), StopFlag()
    chosen = Options("model", options)

    def end() -> None:
        flag.set()
        stop()

    arguments = (given, count, chosen.handle, os.fsencode(target), flag.pointer, lib.sdcpp_py_progress, hook.handle)
    call_interruptible(end, lib.sdcpp_convert, *arguments, flag=flag.pointer, callback=hook)
    del kept
