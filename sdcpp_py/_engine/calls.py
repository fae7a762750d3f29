"""Calling C: status to exception, C's log to `logging`, callbacks, and the end of the interpreter."""

from __future__ import annotations

import atexit
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from sdcpp_py import errors
from sdcpp_py._engine.loading import ffi, lib
from sdcpp_py._printable import printable

logger = logging.getLogger("sdcpp_py")
logger.addHandler(logging.NullHandler())

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_EXCEPTIONS: dict[int, type[errors.SdcppError]] = {
    lib.SDCPP_INVALID_ARGUMENT: errors.InvalidArgumentError,
    lib.SDCPP_FILE_NOT_FOUND: errors.ModelNotFoundError,
    lib.SDCPP_BAD_FILE: errors.BadFileError,
    lib.SDCPP_UNSUPPORTED_MODEL: errors.UnsupportedModelError,
    lib.SDCPP_MISSING_PART: errors.MissingPartError,
    lib.SDCPP_OUT_OF_MEMORY: errors.OutOfMemoryError,
    lib.SDCPP_CANCELLED: errors.CancelledError,
    lib.SDCPP_NOT_FINITE: errors.NotFiniteError,
    lib.SDCPP_INTERNAL: errors.EngineError,
    lib.SDCPP_OVER_BUDGET: errors.OverBudgetError,
    lib.SDCPP_BUSY: errors.BusyError,
}
_END_SECONDS = 10.0  # the interpreter's end waits so long for threads to leave the engine

_ending = threading.Event()
_under_way: dict[object, Callable[[], None] | None] = {}  # calls for other threads than the main one, and what stops each


@ffi.def_extern()  # type: ignore[untyped-decorator]
def sdcpp_py_log(level: int, message: Any, user_data: Any) -> None:
    """Hand the engine's messages to `logging`."""
    logger.log(_LEVELS[level], "%s", text(message))


class Callback:
    """A Python function that C calls; what it raises comes out of `call`."""

    def __init__(self, function: Callable[..., None]) -> None:
        """`function` takes the C function's arguments without `user_data`."""
        self.function = function
        self.run_by: Callable[[Callable[..., None], tuple[Any, ...]], None] | None = None  #: runs it on another thread
        self.raised: BaseException | None = None
        self.handle = ffi.new_handle(self)

    def run(self, *arguments: Any) -> int:
        """0, or 1 if the function raised."""
        try:
            if self.run_by is not None:
                self.run_by(self.function, arguments)
            else:
                leave_if_ending(_is_main())
                self.function(*arguments)
        except BaseException as error:
            self.raised = error
            return 1
        return 0


@ffi.def_extern(error=1)  # type: ignore[untyped-decorator]
def sdcpp_py_step(step: Any, user_data: Any) -> int:
    """Call a `Callback` after a sampling step."""
    return int(ffi.from_handle(user_data).run(step))


@ffi.def_extern(error=1)  # type: ignore[untyped-decorator]
def sdcpp_py_denoise(x: Any, sigma: float, out: Any, count: int, user_data: Any) -> int:
    """Call a `Callback` as the denoiser of a sampler."""
    return int(ffi.from_handle(user_data).run(x, sigma, out, count))


@ffi.def_extern(error=1)  # type: ignore[untyped-decorator]
def sdcpp_py_progress(done: int, whole: int, user_data: Any) -> int:
    """Call a `Callback` as work goes on."""
    return int(ffi.from_handle(user_data).run(done, whole))


def name_bytes(name: str) -> bytes:
    """A name as the engine takes it; one that is no text or holds a NUL names nothing there."""
    return name.encode("utf-8", "surrogatepass").replace(b"\0", b"?")


def text(pointer: Any) -> str:
    """A C string for people, as str: what is no UTF-8 and what would command a terminal is shown, not refused."""
    return printable(bytes(ffi.string(pointer)).decode("utf-8", "backslashreplace"), lines=True) if pointer else ""


def error_of(status: int, message: str, option: str) -> errors.SdcppError:
    """The exception that an error of the engine becomes."""
    problem = _EXCEPTIONS.get(status, errors.EngineError)(printable(message, lines=True))
    problem.option = option
    return problem


def call(
    function: Any,
    *arguments: Any,
    callback: Callback | None = None,
    stop: Callable[[], None] | None = None,
    for_main: bool | None = None,
) -> None:
    """Call a C function whose last parameter is the error; raise what it reports (the GIL is released meanwhile).

    ``stop`` ends what the function does. It is called if the interpreter ends while another thread than the main one is in here,
    which then ends quietly. ``for_main`` says whether this is called for the main thread; None: if this is that thread.
    """
    error = ffi.new("sdcpp_error*")
    for_main, key = _is_main() if for_main is None else for_main, object()
    if not for_main:
        _under_way[key] = stop
    try:
        leave_if_ending(for_main)
        status = function(*arguments, error)
    finally:
        _under_way.pop(key, None)
    leave_if_ending(for_main)
    if callback is not None and callback.raised is not None:
        raise callback.raised
    if status != lib.SDCPP_OK:
        problem = error_of(status, text(error.message), text(error.option))
        if isinstance(problem, errors.OverBudgetError):
            problem.least_bytes = int(error.least_bytes)
        raise problem


def call_json(function: Any, *arguments: Any, by: Callable[..., None] | None = None) -> Any:
    """`call` a C function whose last parameters are a JSON text to write and the error; the text's value.

    ``by`` calls it in place of `call`.
    """
    out = ffi.new("char**")
    (by or call)(function, *arguments, out)
    try:
        return json.loads(bytes(ffi.string(out[0])).decode("utf-8", "surrogateescape"))  # names may be no UTF-8
    finally:
        lib.sdcpp_text_free(out[0])


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def leave_if_ending(for_main: bool) -> None:
    """End a thread once the interpreter ends: `threading` lets SystemExit pass without a word."""
    if _ending.is_set() and not for_main:
        raise SystemExit


def _end() -> None:
    """Stop what threads compute before the interpreter goes: C cannot call back into one that is gone.

    They are daemon threads, or others that Ctrl-C kept Python from waiting for.
    """
    _ending.set()
    last = time.monotonic() + _END_SECONDS
    while _under_way and time.monotonic() < last:
        for stop in list(_under_way.values()):
            if stop is not None:
                stop()
        time.sleep(0.01)
    lib.sdcpp_set_log_callback(ffi.NULL, ffi.NULL)


lib.sdcpp_set_log_callback(lib.sdcpp_py_log, ffi.NULL)
atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_under_way.clear)
