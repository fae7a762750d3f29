"""The thin layer over the C interface: status to exception, C log to `logging`, nothing else."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from sdcpp_py import errors, gpu_advice

try:
    from sdcpp_py._engine import ffi, lib
except ModuleNotFoundError as error:
    if error.name != "sdcpp_py._engine":
        raise
    raise ImportError("the compiled engine is not beside these sources: run `pip install .`") from error
except ImportError as error:
    raise ImportError(f"{error}\n{gpu_advice.not_loaded(str(error))}".strip()) from error

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
}
PARTS = {  # what a file is given as, under the engine's names
    "any": b"",
    "diffusion": b"diffusion_model",
    "vae": b"vae",
    "text_encoder": b"text_encoder",
    "taesd": b"taesd",
    "clip_l": b"clip_l",
    "clip_g": b"clip_g",
    "llm": b"llm",
}


@ffi.def_extern()  # type: ignore[untyped-decorator]
def sdcpp_py_log(level: int, message: Any, user_data: Any) -> None:
    """Hand the engine's messages to `logging`."""
    logger.log(_LEVELS[level], "%s", text(message))


def _raise_in_caller(kind: type[BaseException], value: BaseException, traceback: Any) -> None:
    """Keep what a user's callback raised, so that `call` can raise it again outside C."""
    if traceback is not None:
        handle = traceback.tb_frame.f_locals.get("user_data")
        if handle is not None:
            ffi.from_handle(handle).raised = value


@ffi.def_extern(error=1, onerror=_raise_in_caller)  # type: ignore[untyped-decorator]
def sdcpp_py_step(step: int, steps: int, seconds: float, latent: Any, user_data: Any) -> int:
    """Call a `Callback` after a sampling step."""
    ffi.from_handle(user_data).function(step, steps, seconds, latent)
    return 0


@ffi.def_extern(error=1, onerror=_raise_in_caller)  # type: ignore[untyped-decorator]
def sdcpp_py_denoise(x: Any, sigma: float, out: Any, count: int, user_data: Any) -> int:
    """Call a `Callback` as the denoiser of a sampler."""
    ffi.from_handle(user_data).function(x, sigma, out, count)
    return 0


@ffi.def_extern(error=1, onerror=_raise_in_caller)  # type: ignore[untyped-decorator]
def sdcpp_py_progress(done: int, whole: int, user_data: Any) -> int:
    """Call a `Callback` as work goes on."""
    ffi.from_handle(user_data).function(done, whole)
    return 0


class Callback:
    """A Python function that C calls; what it raises comes out of `call`."""

    def __init__(self, function: Any) -> None:
        """`function` takes the C function's arguments without `user_data`."""
        self.function = function
        self.raised: BaseException | None = None
        self.handle = ffi.new_handle(self)


def text(pointer: Any) -> str:
    """A C string as str; bytes that are no UTF-8 are shown, not refused."""
    return bytes(ffi.string(pointer)).decode("utf-8", "replace") if pointer else ""


def path_bytes(path: str | os.PathLike[str]) -> bytes:
    """A path as the engine takes it. Raises InvalidArgumentError for what cannot be one."""
    try:
        raw = os.fsencode(path)
    except (TypeError, UnicodeError) as error:
        raise errors.InvalidArgumentError(f"{path!r:.80} is no path: {error}") from None
    if b"\0" in raw:
        raise errors.InvalidArgumentError("a path contains a NUL character")
    return raw


def call(function: Any, *arguments: Any, callback: Callback | None = None) -> None:
    """Call a C function whose last parameter is the error; raise what it reports (the GIL is released meanwhile)."""
    error = ffi.new("sdcpp_error*")
    status = function(*arguments, error)
    if callback is not None and callback.raised is not None:
        raise callback.raised
    if status != lib.SDCPP_OK:
        problem = _EXCEPTIONS.get(status, errors.EngineError)(text(error.message))
        if isinstance(problem, errors.OverBudgetError):
            problem.least_bytes = int(error.least_bytes)
        raise problem


def call_interruptible(stop: Callable[[], None], function: Any, *arguments: Any, callback: Callback | None = None) -> None:
    """`call` for what takes long: on the main thread, Ctrl-C calls `stop`, waits for the function to end and comes out of here.

    Python handles signals on the main thread between its own instructions only, so C code runs on another one meanwhile; a
    callback is called from there.
    """
    if threading.current_thread() is not threading.main_thread():
        call(function, *arguments, callback=callback)
        return
    outcome: list[BaseException] = []
    done = threading.Event()  # Thread.join believes the thread has ended when it is interrupted

    def work() -> None:
        try:
            call(function, *arguments, callback=callback)
        except BaseException as error:
            outcome.append(error)
        finally:
            done.set()

    threading.Thread(target=work, name="sdcpp").start()
    try:
        while not done.wait(0.2):  # a signal that reached another thread is seen at the next turn
            pass
    except BaseException:
        while not done.is_set():
            stop()
            done.wait(0.05)
        raise
    if outcome:
        raise outcome[0]


def names(kind: str) -> list[str]:
    """The engine's names of a kind: "sampler", "scheduler" or "rng"."""
    found: list[str] = []
    while name := lib.sdcpp_name(kind.encode(), len(found)):
        found.append(text(name))
    return found


lib.sdcpp_set_log_callback(lib.sdcpp_py_log, ffi.NULL)
