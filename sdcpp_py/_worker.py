"""A worker of a `PipelinePool`: a process with a pipeline, seen from the pool (`Worker`) and from within (`serve`)."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from tqdm import tqdm

from sdcpp_py._result import Result
from sdcpp_py.errors import EngineError, WorkerDiedError
from sdcpp_py.pipeline import Pipeline

logger = logging.getLogger("sdcpp_py")
END_SECONDS = 10.0  #: a worker that has not stopped by then is killed
_SPAWN = multiprocessing.get_context("spawn")  # a device's driver does not survive a fork


@dataclass(eq=False)
class Job:
    """One picture, and the trouble that it has made."""

    number: int
    keywords: dict[str, Any]  #: those of `Pipeline.generate`
    ended: list[int] = field(default_factory=list)  #: the numbers of the workers that have ended over it


class Worker:
    """A worker's process, and the line to it."""

    def __init__(self, number: int, opening: Mapping[str, Any]) -> None:
        """``opening`` are `Pipeline`'s keywords, the device among them."""
        self.number, self.device = number, opening["device"]
        self.is_open = False  # whether its pipeline is
        self.job: Job | None = None
        self.ended_over: list[Job | None] = []  # since it last made a picture
        self.line: Connection[Any, Any] | None = None  # None: it does not run
        self._opening = opening
        self._process: multiprocessing.process.BaseProcess | None = None

    @property
    def runs(self) -> bool:
        """Whether there is a process; it may have ended without having been heard."""
        return self.line is not None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a job, and has nothing to say."""
        return self.line is not None and self.is_open and self.job is None and not self.line.poll()

    def start(self) -> None:
        """Start a process. Its pipeline is open when it has said so."""
        self.end()
        ours, theirs = _SPAWN.Pipe()
        arguments = (theirs, self._opening, logger.getEffectiveLevel())
        process = _SPAWN.Process(target=serve, args=arguments, daemon=True, name=f"sdcpp_py {self.device}")
        with theirs, _without_interrupts():
            process.start()
        self.line, self._process = ours, process

    def wait_until_open(self) -> None:
        """Raise what opening the pipeline raised, or WorkerDiedError."""
        while not self.is_open:
            if isinstance(answer := self.hear(), Exception):
                raise answer

    def give(self, job: Job) -> Exception | None:
        """Send a job; an error if it cannot be sent. The end of the process is heard later."""
        assert self.line is not None
        try:
            self.job = job
            self.line.send(job.keywords)
        except OSError:
            return None
        except Exception as error:  # whatever pickle raises
            self.job = None
            return error
        except BaseException:
            self.end()  # a part of the job may be sent
            raise
        return None

    def hear(self) -> Any:
        """The next answer of the worker, see `_worker.serve`. Raises WorkerDiedError if its process has ended."""
        assert self.line is not None
        try:
            answer = self.line.recv()
        except (EOFError, OSError):
            raise self._death() from None
        except Exception as error:  # a value of a class that this process cannot import
            answer = error
        except BaseException:
            self.end()  # a part of the answer may be lost
            raise
        if answer is None:
            self.is_open = True
        elif isinstance(answer, logging.LogRecord):
            logger.handle(answer)
        return answer

    def stop(self) -> None:
        """Stop the picture under way."""
        if self.line is not None:
            with contextlib.suppress(OSError):
                self.line.send(None)

    def drain(self, end: float) -> None:
        """Take the answer to the picture under way, which nobody wants; the process is killed at the time ``end``."""
        while self.line is not None and self.job is not None:
            try:
                if not self.line.poll(max(0.0, end - time.monotonic())):
                    self.end()
                elif not isinstance(self.hear(), logging.LogRecord):
                    self.job = None
            except (OSError, WorkerDiedError):
                self.end()

    def hang_up(self) -> None:
        """Close the line, after which the process stops its picture and ends."""
        self.is_open, self.job = False, None
        line, self.line = self.line, None
        if line is not None:
            line.close()

    def end(self) -> None:
        """End the process, if there is one."""
        self.hang_up()
        process, self._process = self._process, None
        if process is not None:
            process.join(END_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()

    def _death(self) -> WorkerDiedError:
        assert self._process is not None
        self._process.join(END_SECONDS)
        code = self._process.exitcode
        told = f"the worker for {self.device} {_ending(code)}"
        if not self.is_open:
            told += ", before its pipeline was open"
            if code == 1:  # an exception at the start, which Python has printed
                told += '; a script that makes a pool needs `if __name__ == "__main__":` around it'
        return WorkerDiedError(told)


def _ending(code: int | None) -> str:
    """How a process with this exit code, as multiprocessing counts them, has ended."""
    if code is None or code >= 0:
        return f"ended with status {code}"
    if -code == signal.SIGKILL:
        return "was ended by SIGKILL (which the system sends when memory runs out)"
    known = {one.value: one.name for one in signal.Signals}
    return f"was ended by {known.get(-code, f'signal {-code}')}"


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process that is started within does not see Ctrl-C, which is sent to all processes of a terminal."""
    if sys.platform == "win32":  # it has no signals to block
        yield
        return
    resource_tracker.ensure_running()  # which would allow SIGINT again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(line: Connection[Any, Any], opening: Mapping[str, Any], log_level: int) -> None:
    """Open a pipeline with the keywords ``opening``, and make pictures until the other end of ``line`` is closed.

    A job is the keywords of `Pipeline.generate` for one picture; anything that comes during it stops it. Answers are None once
    the pipeline is open, a Result for each picture or the exception in its place, and log records at any time.
    """
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a process that is killed leaves behind
    answers = _Answers(line)
    logger.setLevel(log_level)
    logger.propagate = False  # the handlers are in the pool's process
    logger.addHandler(_RecordsTo(answers))
    try:
        _serve(line, answers, opening)
    except (EOFError, OSError):
        return  # the pool is closed, or its process has ended


def _serve(line: Connection[Any, Any], answers: _Answers, opening: Mapping[str, Any]) -> None:
    try:
        pipeline = Pipeline(**opening)
    except Exception as error:
        answers.send(_sendable(error))
        return
    with pipeline:
        answers.send(None)
        while True:
            try:
                job = line.recv()
            except (EOFError, OSError):
                raise
            except Exception as error:  # a value of a class that this process cannot import
                answers.send(_sendable(error))
                continue
            if job is not None:  # None is a stop that came when the picture was done
                answers.send(_made(pipeline, job, _Stop(line)))


def _made(pipeline: Pipeline, job: Mapping[str, Any], stop: _Stop) -> Result | Exception:
    try:
        return pipeline.generate(**job, cancel=stop, progress=False)
    except Exception as error:
        return _sendable(error)


class _Stop:
    """A `cancel` for `Pipeline.generate`: set once the pool has sent something during a picture, or is gone."""

    def __init__(self, line: Connection[Any, Any]) -> None:
        self._line = line

    def is_set(self) -> bool:
        return self._line.poll()


class _Answers:
    """The way to the pool, for several threads: the engine logs from its own."""

    def __init__(self, line: Connection[Any, Any]) -> None:
        self._line, self._lock = line, threading.Lock()

    def send(self, answer: Result | Exception | logging.LogRecord | None) -> None:
        with self._lock:
            self._line.send(answer)


class _RecordsTo(logging.Handler):
    """Sends log records to the pool, whose process hands them to its own handlers."""

    def __init__(self, answers: _Answers) -> None:
        super().__init__()
        self._answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        try:
            pickle.dumps(record)
        except Exception:  # an argument that cannot be sent
            record.msg, record.args = record.getMessage(), None
        try:
            self._answers.send(record)
        except OSError:
            return  # nobody reads it any more


def _sendable(error: Exception) -> Exception:
    """The error, or one that says the same if it cannot be sent to another process."""
    logger.debug("in a worker:", exc_info=error)
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return EngineError(f"{type(error).__name__}: {error}")
    return error
