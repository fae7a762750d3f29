"""Calling C: status to exception, C's log to `logging`, callbacks, Ctrl-C, and the end of the interpreter."""

from __future__ import annotations

import atexit
import json
import logging
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
_END_SECONDS = 10.0  # the interpreter's end waits so long for daemon threads to leave the engine

_ending = threading.Event()
_in_daemons: dict[object, Callable[[], None] | None] = {}  # calls under way in daemon threads, and what stops each


@ffi.def_extern()  # type: ignore[untyped-decorator]
def sdcpp_py_log(level: int, message: Any, user_data: Any) -> None:
    """Hand the engine's messages to `logging`."""
    logger.log(_LEVELS[level], "%s", text(message))


class Callback:
    """A Python function that C calls; what it raises comes out of `call`."""

    def __init__(self, function: Callable[..., None]) -> None:
        """`function` takes the C function's arguments without `user_data`."""
        self.function = function
        self.raised: BaseException | None = None
        self.handle = ffi.new_handle(self)

    def run(self, *arguments: Any) -> int:
        """0, or 1 if the function raised."""
        try:
            _leave_if_ending()
            self.function(*arguments)
        except BaseException as error:
            self.raised = error
            return 1
        return 0


@ffi.def_extern(error=1)  # type: ignore[untyped-decorator]
def sdcpp_py_step(step: int, steps: int, seconds: float, latents: Any, batch: int, shape: Any, user_data: Any) -> int:
    """Call a `Callback` after a sampling step."""
    return int(
        ffi.from_handle(user_data).run(
            step, steps, seconds, latents, (batch, shape.channels, shape.frames, shape.height, shape.width)
        )
    )


@ffi.def_extern(error=1)  # type: ignore[untyped-decorator]
def sdcpp_py_denoise(x: Any, sigma: float, out: Any, count: int, user_data: Any) -> int:
    """Call a `Callback` as the denoiser of a sampler."""
    return int(ffi.from_handle(user_data).run(x, sigma, out, count))


@ffi.def_extern(error=1)  # type: ignore[untyped-decorator]
def sdcpp_py_progress(done: int, whole: int, user_data: Any) -> int:
    """Call a `Callback` as work goes on."""
    return int(ffi.from_handle(user_data).run(done, whole))


def text(pointer: Any) -> str:
    """A C string for people, as str: what is no UTF-8 and what would command a terminal is shown, not refused."""
    return printable(bytes(ffi.string(pointer)).decode("utf-8", "backslashreplace")) if pointer else ""


def error_of(status: int, message: str, option: str) -> errors.SdcppError:
    """The exception that an error of the engine becomes."""
    problem = _EXCEPTIONS.get(status, errors.EngineError)(printable(message))
    problem.option = option
    return problem


def call(function: Any, *arguments: Any, callback: Callback | None = None, stop: Callable[[], None] | None = None) -> None:
    """Call a C function whose last parameter is the error; raise what it reports (the GIL is released meanwhile).

    ``stop`` ends what the function does. It is called if the interpreter ends while a daemon thread is in here, which then ends
    quietly.
    """
    error = ffi.new("sdcpp_error*")
    daemon, key = threading.current_thread().daemon, object()
    if daemon:
        _in_daemons[key] = stop
    try:
        _leave_if_ending()
        status = function(*arguments, error)
    finally:
        _in_daemons.pop(key, None)
    _leave_if_ending()
    if callback is not None and callback.raised is not None:
        raise callback.raised
    if status != lib.SDCPP_OK:
        problem = error_of(status, text(error.message), text(error.option))
        if isinstance(problem, errors.OverBudgetError):
            problem.least_bytes = int(error.least_bytes)
        raise problem


def call_interruptible(stop: Callable[[], None], function: Any, *arguments: Any, callback: Callback | None = None) -> None:
    """`call` for what takes long: on the main thread, Ctrl-C calls `stop`, waits for the function to end and comes out of here.

    Python handles signals on the main thread between its own instructions only, so C code runs on another one meanwhile; a
    callback is called from there.
    """
    if threading.current_thread() is not threading.main_thread():
        call(function, *arguments, callback=callback, stop=stop)
        return
    outcome: list[BaseException] = []
    done = threading.Event()  # Thread.join believes the thread has ended when it is interrupted

    def work() -> None:
        try:
            call(function, *arguments, callback=callback, stop=stop)
        except BaseException as error:
            outcome.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=work, name="sdcpp")
    try:
        thread.start()
        while not done.wait(0.2):  # a signal that reached another thread is seen at the next turn
            pass
    except BaseException:
        while thread.ident is not None and not done.is_set():
            stop()
            done.wait(0.05)
        raise
    if outcome:
        raise outcome[0]


def call_json(function: Any, *arguments: Any) -> Any:
    """`call` a C function whose last parameters are a JSON text to write and the error; the text's value."""
    out = ffi.new("char**")
    call(function, *arguments, out)
    try:
        return json.loads(bytes(ffi.string(out[0])).decode("utf-8", "surrogateescape"))  # names may be no UTF-8
    finally:
        lib.sdcpp_text_free(out[0])


def _leave_if_ending() -> None:
    """End a daemon thread once the interpreter ends: `threading` lets SystemExit pass without a word."""
    if _ending.is_set() and threading.current_thread().daemon:
        raise SystemExit


def _end() -> None:
    """Stop what daemon threads compute before the interpreter goes: C cannot call back into one that is gone."""
    _ending.set()
    last = time.monotonic() + _END_SECONDS
    while _in_daemons and time.monotonic() < last:
        for stop in list(_in_daemons.values()):
            if stop is not None:
                stop()
        time.sleep(0.01)
    lib.sdcpp_set_log_callback(ffi.NULL, ffi.NULL)


lib.sdcpp_set_log_callback(lib.sdcpp_py_log, ffi.NULL)
atexit.register(_end)
