"""Calls of C that Ctrl-C, and other signals whose handlers raise, can end.

Python handles signals on the main thread between its own instructions only. So C runs on a worker thread meanwhile, and the main
thread waits and runs callbacks. If something is raised there, C is stopped, and nothing comes out of here before C has ended: the
memory that it works on is freed then. That last wait is one call of C, which no second signal can leave.

Callbacks, signal handlers and a caller's ``is_set`` may fork. In the child there is no worker, so the call ends at once there and
touches nothing. For that, C runs on a worker for other threads as well if Python may be called on theirs.
"""

from __future__ import annotations

import _thread
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from sdcpp_py._engine.calls import Callback, call, leave_if_ending
from sdcpp_py._engine.loading import ffi, lib
from sdcpp_py.errors import CancelledError, ClosedError, OutOfMemoryError

Watch = Callable[[], bool]
_WATCHED_SECONDS = 0.05
_START_SECONDS = 5.0
_SIGNALS_SECONDS = 0.2  # a signal that reached another thread is seen at the next turn


def call_interruptible(
    stop: Callable[[], None],
    function: Any,
    *arguments: Any,
    model: Any = ffi.NULL,
    flag: Any = ffi.NULL,
    callback: Callback | None = None,
    watch: Watch | None = None,
) -> None:
    """`call` for what takes long. On the main thread Ctrl-C stops it; ``watch`` giving true calls ``stop``, on any thread.

    ``model`` is what ``function`` runs, for C to stop; ``flag`` is what it looks at. ``callback`` is called on this thread.
    """
    if watch is None and callback is None and threading.current_thread() is not threading.main_thread():
        call(function, *arguments, callback=callback, stop=stop)
        return
    turn = _Turn(lambda for_main: call(function, *arguments, callback=callback, stop=stop, for_main=for_main))
    if callback is not None:
        callback.run_by = turn.ask
    try:
        turn.take(model, flag, stop, watch)
    finally:
        if callback is not None:
            callback.run_by = None
        turn.work = _nothing


def caller() -> int:
    """The thread that calls, or whose call it is if this is the worker that C runs on, as a log handler finds it."""
    here = threading.get_ident()
    return _callers.get(here, here)


class StopFlag:
    """What a function of C looks at while it reads files, and how to set it."""

    def __init__(self) -> None:
        """Make one that is not set."""
        self.pointer = ffi.new("int32_t*", 0)

    def set(self) -> None:
        """Stop the function."""
        self.pointer[0] = 1


class Cancel(Protocol):
    """A stop for a call: a `threading.Event`, or anything with its method."""

    def is_set(self) -> bool:
        """Whether the call shall stop. It is asked some twenty times a second, on the thread of the call."""


class _Asked:
    """A callback that the thread of the call is to run."""

    __slots__ = ("answered", "arguments", "error", "function")

    def __init__(self, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.function, self.arguments = function, arguments
        self.error: BaseException | None = None
        self.answered = threading.Lock()
        self.answered.acquire()

    def answer(self) -> None:
        try:
            self.function(*self.arguments)
        except BaseException as error:
            self.error = error
        finally:
            self.answered.release()


class _Turn:
    """One call of C on a worker."""

    def __init__(self, work: Callable[[bool], None]) -> None:
        self.work = work
        self.for_main = threading.current_thread() is threading.main_thread()
        self.thread = caller()
        self.process = os.getpid()
        self.state = ffi.new("sdcpp_py_turn*", (1, 0))
        self.asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self.error: BaseException | None = None

    def take(self, model: Any, flag: Any, stop: Callable[[], None], watch: Watch | None) -> None:
        """Have it run and wait; callbacks run here."""
        state, asked, outlast = self.state, self.asked, lib.sdcpp_py_outlast
        seconds = _SIGNALS_SECONDS if watch is None else _WATCHED_SECONDS
        worker = _worker()
        start = worker.gate.release
        try:
            worker.turn = self
            state.ended = 0
            start()  # no signal is handled between this and the line before
            while not state.ended:
                try:
                    callback = asked.get(timeout=seconds)
                except queue.Empty:
                    callback = None
                if callback is not None:
                    callback.answer()
                self.require_process(callback)
                if watch is not None and not state.ended and watch():
                    stop()
                    self.require_process()
        except BaseException:
            if self.process == os.getpid():
                outlast(state, model, flag)
            raise
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None

    def require_process(self, callback: _Asked | None = None) -> None:
        """Leave the call in a process that was forked during it: nothing here works on it."""
        if self.process == os.getpid():
            return
        if callback is not None and callback.error is not None:
            raise callback.error
        raise ClosedError("this call belongs to the process that this one was forked from")

    def run(self) -> None:
        """On the worker."""
        here = threading.get_ident()
        try:
            _callers[here] = self.thread
            self.work(self.for_main)
        except BaseException as error:
            self.error = error
        finally:
            _callers.pop(here, None)
            self.state.ended = 1
            self.asked.put(None)

    def ask(self, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """On the worker: have the call's thread run a callback. Raises what it raises."""
        one = _Asked(function, arguments)
        self.asked.put(one)
        while not one.answered.acquire(timeout=0.05):
            if self.state.stopped:
                raise CancelledError("cancelled")
            leave_if_ending(self.for_main)
        if one.error is not None:
            raise one.error


class _Worker:
    """A thread that runs turns, one after the other."""

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.turn: _Turn | None = None
        self.ready = threading.Lock()
        self.ready.acquire()
        # Thread.start() would wait for ever for one that found no memory to begin with
        _thread.start_new_thread(self.run, ())
        if not self.ready.acquire(timeout=_START_SECONDS):
            raise OutOfMemoryError("a thread did not start: memory is short")

    def run(self) -> None:
        self.ready.release()
        while True:
            self.gate.acquire()
            turn, self.turn = self.turn, None
            if turn is None:
                continue
            try:
                turn.run()
            except BaseException as error:  # memory, before the call had begun
                turn.error = error
            turn.state.ended = 1
            del turn
            _idle.append(self)


_idle: list[_Worker] = []
_callers: dict[int, int] = {}  # by worker: the thread whose call it runs


def _worker() -> _Worker:
    try:
        return _idle.pop()
    except IndexError:
        pass
    try:
        return _Worker()
    except RuntimeError as error:  # Python's word for no more threads
        raise OutOfMemoryError(f"no thread can be started: {error}") from None


def _nothing(for_main: bool) -> None:
    pass


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)
    os.register_at_fork(after_in_child=_callers.clear)
