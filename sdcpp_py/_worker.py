"""A worker of a `PipelinePool`: a process with a pipeline that makes the pictures it is sent."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from sdcpp_py._result import Result
from sdcpp_py.errors import EngineError
from sdcpp_py.pipeline import Pipeline

logger = logging.getLogger("sdcpp_py")


def serve(line: Connection[Any, Any], opening: Mapping[str, Any], log_level: int) -> None:
    """Open a pipeline with the keywords ``opening``, and make pictures until the other end of ``line`` is closed.

    A job is the keywords of `Pipeline.generate` for one picture; anything that comes during it stops it. Answers are None once
    the pipeline is open, a Result for each picture or the exception in its place, and log records at any time.
    """
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
