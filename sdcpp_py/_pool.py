"""`PipelinePool`: several pipelines, each in a process of its own, that share out a list of pictures."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, resource_tracker
from types import TracebackType
from typing import Any

from PIL import Image
from tqdm import tqdm

from sdcpp_py import _engine, _jobs, options
from sdcpp_py._model_parts import PathLike
from sdcpp_py._result import Result
from sdcpp_py._worker import serve
from sdcpp_py.errors import (
    BusyError,
    CancelledError,
    ClosedError,
    FailedPicturesError,
    InvalidArgumentError,
    WorkerDiedError,
    shown,
)

logger = logging.getLogger("sdcpp_py")
_SPAWN = multiprocessing.get_context("spawn")  # a device's driver does not survive a fork
_WATCHED_SECONDS = 0.05
_END_SECONDS = 10.0  # a worker that has not stopped by then is killed
_HERE = ("callback", "preview_callback", "picture_callback", "cancel", "progress")  # keywords that mean this process
Picture = str | Mapping[str, Any]


class PipelinePool:
    """Pipelines in processes of their own, such as one for each GPU, that share out a list of pictures.

    ``devices`` has one name for each worker, as `sdcpp devices` lists them: ["CUDA0", "CUDA1"]. A name may stand there several
    times. ``model`` and all other keywords are those of `Pipeline`, the same for every worker: ``max_vram=6`` is for each of
    them. ``threads`` None shares the physical cores out. A model's file is mapped, so that the system holds it in memory once for
    all workers; what is on a device is there once for each.

    A worker whose process ends, because it was killed or found no memory, is started again, and its picture is made again,
    by another worker if there is one. A picture that has ended ``tries`` workers is given up with WorkerDiedError. A worker that
    has ended ``tries`` times and made nothing in between is left out until the next call.

    Processes are started anew, and not forked: a script that makes a pool needs ``if __name__ == "__main__":`` around it. The
    workers end with `close`, at the end of a ``with`` block, or when the process that made them has ended. Calls from several
    threads wait for each other.

    Raises what `Pipeline` raises, WorkerDiedError if a process ends before its pipeline is open, InvalidArgumentError.
    """

    def __init__(self, model: PathLike | None = None, *, devices: Sequence[str], tries: int = 3, **opening: Any) -> None:
        """Start the processes, and wait until every pipeline is open."""
        if isinstance(devices, str) or not isinstance(devices, Sequence) or not devices:
            raise InvalidArgumentError(f"devices must be a list of names, such as ['CUDA0', 'CUDA1'], not {shown(devices)}")
        if "device" in opening:
            raise InvalidArgumentError.of("device", "is one of devices, a list, for a pool")
        if opening.get("profile"):
            raise InvalidArgumentError.of("profile", "is for a single Pipeline")
        self._tries = options.integer("tries", tries, 1, 100)
        if opening.get("threads") is None:
            opening["threads"] = max(1, _engine.physical_cores() // len(devices))
        self._workers = [_Worker(number, {"model": model, "device": one, **opening}) for number, one in enumerate(devices)]
        self._lock = threading.Lock()  # one call at a time
        self._at_work: int | None = None  # the thread of the call under way
        self._closed = False
        self._process = os.getpid()
        try:
            for worker in self._workers:
                worker.start()
            for worker in self._workers:
                worker.wait_until_open()
        except BaseException:
            self._end()
            raise

    def __repr__(self) -> str:
        """Show the devices."""
        state = ", closed" if self._closed else f" on {', '.join(worker.device for worker in self._workers)}"
        return f"<PipelinePool{state}>"

    def __enter__(self) -> PipelinePool:
        """Return itself; `close` comes at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        """End the workers."""
        self.close()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse copies: two objects would own the same processes."""
        raise TypeError("a PipelinePool cannot be copied or pickled; make another one from the same files")

    def close(self) -> None:
        """End the workers; further use raises ClosedError. Waits for a call of another thread; closing twice is fine.

        On the thread of a call, in its callback or between two results of `as_completed`, it does not wait: the call raises
        CancelledError.
        """
        if self._process != os.getpid():
            return  # the workers belong to the process that this one was forked from
        if self._at_work == threading.get_ident():
            self._end()
            return
        with self._lock:
            self._end()

    def _end(self) -> None:
        self._closed = True
        for worker in self._workers:
            worker.hang_up()  # all of them first: they end side by side
        for worker in self._workers:
            worker.end()

    def map(
        self,
        prompts: str | Sequence[Picture],
        *,
        seed: int | Sequence[int] | None = None,
        batch_count: int = 1,
        picture_callback: Callable[[int, Image.Image], None] | None = None,
        cancel: _engine.Cancel | None = None,
        progress: bool | None = None,
        **generating: Any,
    ) -> list[Result]:
        """Make the pictures, and give a `Result` for each, in the order of the prompts.

        ``prompts`` are texts, or mappings of `Pipeline.generate`'s keywords for one picture: {"prompt": "a star", "seed": 7,
        "steps": 4}. All other keywords are `Pipeline.generate`'s, the same for every picture. ``batch_count`` pictures are made
        of each. Seeds are counted as there: from one number upwards through all pictures, or a list with one for each; a
        mapping's own seed takes its place. A picture is the same, bit for bit, as a `Pipeline` on that device makes it.

        ``picture_callback`` is called on this thread with the number and the picture as soon as each is done; what it raises
        comes out of this call. ``cancel`` is a `threading.Event` or the like: once it is set this call raises CancelledError
        within moments. ``progress`` None shows a bar on a terminal. ``callback`` and ``preview_callback`` cannot be given.

        Pictures that cannot be made do not stop the others. When all are done FailedPicturesError is raised: its ``errors`` are
        those pictures' exceptions by number, its ``results`` the others' results. Raises InvalidArgumentError before anything is
        made, CancelledError, ClosedError, BusyError within its own callback.
        """
        if picture_callback is not None and not callable(picture_callback):
            raise InvalidArgumentError.of("picture_callback", f"must be a function, not {shown(picture_callback)}")
        results: dict[int, Result] = {}
        made = self.as_completed(prompts, seed=seed, batch_count=batch_count, cancel=cancel, progress=progress, **generating)
        try:
            for number, result in made:
                results[number] = result
                if picture_callback is not None:
                    picture_callback(number, result.image)
        except FailedPicturesError as error:
            error.results = dict(sorted(results.items()))
            raise
        return [results[number] for number in sorted(results)]

    def as_completed(
        self,
        prompts: str | Sequence[Picture],
        *,
        seed: int | Sequence[int] | None = None,
        batch_count: int = 1,
        cancel: _engine.Cancel | None = None,
        progress: bool | None = None,
        **generating: Any,
    ) -> Iterator[tuple[int, Result]]:
        """Give the number and the `Result` of each picture as soon as it is done; everything else is as for `map`.

        Leaving the loop early stops the pictures under way. Errors of single pictures come at the end; the FailedPicturesError
        has no ``results``, since they were given before.
        """
        jobs = _jobs_of(prompts, generating, seed, batch_count)
        return self._as_completed(jobs, options.cancel(cancel), options.progress(progress))

    def _as_completed(self, jobs: Sequence[_Job], cancel: _engine.Cancel | None, visible: bool) -> Iterator[tuple[int, Result]]:
        errors: dict[int, Exception] = {}
        with self._alone(cancel), tqdm(total=len(jobs), unit="picture", disable=not visible, leave=False) as bar:
            for job, result in self._share_out(jobs, cancel):
                bar.update()
                if isinstance(result, Exception):
                    errors[job.number] = result
                else:
                    yield job.number, result
        if errors:
            raise FailedPicturesError.of(errors, len(jobs)) from errors[min(errors)]

    @contextlib.contextmanager
    def _alone(self, cancel: _engine.Cancel | None) -> Iterator[None]:
        """Wait for other calls, until ``cancel`` is set. Raises BusyError on a call's own thread, CancelledError, ClosedError."""
        if self._process != os.getpid():
            raise ClosedError("this pool belongs to the process that this one was forked from")
        if self._at_work == threading.get_ident():
            raise BusyError("this pool is at work for a call on this thread; use it afterwards, or another one")
        while not self._lock.acquire(timeout=_WATCHED_SECONDS):
            _raise_if_set(cancel)
        try:
            if self._closed:
                raise ClosedError("this pool is closed; make a new one")
            self._at_work = threading.get_ident()
            yield
        finally:
            self._at_work = None
            self._lock.release()

    def _share_out(self, jobs: Sequence[_Job], cancel: _engine.Cancel | None) -> Iterator[tuple[_Job, Result | Exception]]:
        """Have the workers do the jobs; each comes out once, with its result or its error."""
        waiting = deque(jobs)
        done: list[tuple[_Job, Result | Exception]] = []
        for worker in self._workers:
            worker.deaths = 0
            if not worker.runs:
                worker.start()
        try:
            while True:
                for worker in self._workers:
                    while worker.is_idle and (job := self._next(waiting, worker)) is not None:
                        if (error := worker.give(job)) is not None:
                            done.append((job, error))
                yield from done  # the workers are at work meanwhile
                if self._closed:
                    raise CancelledError("cancelled: the pool was closed")
                if not waiting and not any(worker.job for worker in self._workers):
                    return
                done = []
                for worker in self._ready(cancel):
                    done.extend(self._hear(worker, waiting))
        finally:
            self._stop()

    def _next(self, waiting: deque[_Job], worker: _Worker) -> _Job | None:
        """Take the next job for a worker: one that has not ended it before, unless it has ended all that there are."""
        running = {one.number for one in self._workers if one.runs}
        for job in waiting:
            if worker.number not in job.ended or running <= job.ended:
                waiting.remove(job)
                return job
        return None

    def _ready(self, cancel: _engine.Cancel | None) -> list[_Worker]:
        """Wait for workers that have something to say, or have ended."""
        while True:
            _raise_if_set(cancel)
            lines = {worker.line: worker for worker in self._workers if worker.line is not None}
            found = connection.wait(list(lines), None if cancel is None else _WATCHED_SECONDS)
            if self._closed:  # by a signal handler
                return []
            if found:
                return [worker for line, worker in lines.items() if line in found]

    def _hear(self, worker: _Worker, waiting: deque[_Job]) -> list[tuple[_Job, Result | Exception]]:
        """Take an answer of a worker: jobs that are done with it. A job whose worker has ended goes back to ``waiting``."""
        try:
            answer = worker.hear()
        except WorkerDiedError as error:
            return self._after_death(worker, error, waiting)
        if answer is None or isinstance(answer, logging.LogRecord):
            return []
        if not worker.is_open:  # an exception: the pipeline cannot be opened again
            return self._leave_out(worker, answer, waiting)
        job, worker.job = worker.job, None
        worker.deaths = 0
        return [] if job is None else [(job, answer)]

    def _after_death(
        self, worker: _Worker, error: WorkerDiedError, waiting: deque[_Job]
    ) -> list[tuple[_Job, Result | Exception]]:
        job, worker.job = worker.job, None
        worker.deaths += 1
        given_up: list[tuple[_Job, Result | Exception]] = []
        if job is None:
            logger.warning("%s; no picture was at work", error)
        else:
            job.deaths += 1
            job.ended.add(worker.number)
            if job.deaths < self._tries:
                logger.warning("%s; picture %d is made again", error, job.number)
                waiting.appendleft(job)
            else:
                logger.warning("%s; picture %d is given up", error, job.number)
                given_up = [(job, WorkerDiedError(f"{error}; {job.deaths} workers have ended over this picture"))]
        if worker.deaths >= self._tries:
            return given_up + self._leave_out(worker, error, waiting)
        worker.start()
        return given_up

    def _leave_out(self, worker: _Worker, error: Exception, waiting: deque[_Job]) -> list[tuple[_Job, Result | Exception]]:
        """Go on without a worker; if it was the last one, all jobs fail."""
        worker.end()
        if any(one.runs for one in self._workers):
            logger.warning("the worker for %s is left out: %s", worker.device, error)
            return []
        failed: list[tuple[_Job, Result | Exception]] = [(job, error) for job in waiting]
        waiting.clear()
        return failed

    def _stop(self) -> None:
        """Stop pictures that are under way, after a loop that was left."""
        busy = [worker for worker in self._workers if worker.job is not None]
        try:
            for worker in busy:
                worker.stop()
            end = time.monotonic() + _END_SECONDS
            for worker in busy:
                worker.drain(end)
        except BaseException:
            for worker in busy:
                worker.end()  # what it says next would be taken for the answer to another job
            raise


@dataclass(eq=False)
class _Job:
    """One picture, and the trouble that it has made."""

    number: int
    keywords: dict[str, Any]  #: of `Pipeline.generate`
    deaths: int = 0  #: how often a worker has ended over it
    ended: set[int] = field(default_factory=set)  #: the numbers of these workers


def _jobs_of(prompts: Any, generating: Mapping[str, Any], seed: Any, batch_count: Any) -> list[_Job]:
    """The pictures of a call, with their seeds. Raises InvalidArgumentError."""
    several = [prompts] if isinstance(prompts, (str, Mapping)) else prompts
    if not isinstance(several, Sequence) or not several or not all(isinstance(one, (str, Mapping)) for one in several):
        raise InvalidArgumentError(f"prompts must be a list of texts, or of mappings with keywords, not {shown(prompts)}")
    each = int(options.GENERATE["batch_count"].check(batch_count))
    seeds = _jobs.seeds_of(seed, each * len(several))
    jobs = []
    for number, counted in enumerate(seeds):
        one = several[number // each]
        keywords = {**generating, **({"prompt": one} if isinstance(one, str) else one)}
        for name in _HERE:
            if keywords.pop(name, None) is not None:
                raise InvalidArgumentError.of(name, "cannot be given for pictures that other processes make")
        if "batch_count" in keywords:
            raise InvalidArgumentError.of("batch_count", "is for all pictures of the call")
        own = keywords.get("seed")
        keywords["seed"] = counted if own is None else (options.seed_value(own) + number % each) % 2**64
        jobs.append(_Job(number, keywords))
    return jobs


class _Worker:
    """A worker's process, and the line to it."""

    def __init__(self, number: int, opening: Mapping[str, Any]) -> None:
        self.number, self.device = number, opening["device"]
        self.is_open = False  # whether its pipeline is
        self.job: _Job | None = None
        self.deaths = 0  # since it last made a picture
        self.line: connection.Connection[Any, Any] | None = None  # None: it does not run
        self._opening = opening
        self._process: multiprocessing.process.BaseProcess | None = None

    @property
    def runs(self) -> bool:
        return self.line is not None

    @property
    def is_idle(self) -> bool:
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

    def give(self, job: _Job) -> Exception | None:
        """Send a job; an error if it cannot be sent. The end of the process is heard later."""
        assert self.line is not None
        try:
            self.line.send(job.keywords)
        except OSError:
            pass
        except Exception as error:  # whatever pickle raises
            return error
        except BaseException:
            self.end()  # a part of the job may be sent
            raise
        self.job = job
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
            process.join(_END_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()

    def _death(self) -> WorkerDiedError:
        assert self._process is not None
        self._process.join(_END_SECONDS)
        code = self._process.exitcode
        how = f"ended with status {code}"
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
            how = f"was ended by {name}" + (", which the system sends when memory runs out" if name == "SIGKILL" else "")
        hint = "" if self.is_open else '; a script that makes a pool needs `if __name__ == "__main__":` around it'
        when = "" if self.is_open else " before its pipeline was open"
        return WorkerDiedError(f"the worker for {self.device} {how}{when}{hint}")


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process that is started within does not see Ctrl-C, which is sent to all processes of a terminal."""
    resource_tracker.ensure_running()  # which would allow SIGINT again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _raise_if_set(cancel: _engine.Cancel | None) -> None:
    if cancel is not None and cancel.is_set():
        raise CancelledError("cancelled")
