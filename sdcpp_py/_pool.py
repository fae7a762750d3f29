"""`PipelinePool`: several pipelines, each in a process of its own, that share out a list of pictures."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection
from types import TracebackType
from typing import Any

from PIL import Image
from tqdm import tqdm

from sdcpp_py import _engine, _jobs, options
from sdcpp_py._model_parts import PathLike
from sdcpp_py._result import Result
from sdcpp_py._worker import END_SECONDS, Job, Worker
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
_WATCHED_SECONDS = 0.05
_HERE = ("callback", "preview_callback", "picture_callback", "cancel", "progress")  # keywords that mean this process
Picture = str | Mapping[str, Any]


class PipelinePool:
    """Pipelines in processes of their own, such as one for each GPU, that share out a list of pictures.

    ``devices`` has one name for each worker, as `sdcpp devices` lists them: ["CUDA0", "CUDA1"]. A name may stand there several
    times. ``model`` and all other keywords are those of `Pipeline`, the same for every worker: ``max_vram=6`` is for each of
    them. ``threads`` None divides the physical cores. The system holds a model's file in memory once for all workers; what is on
    a device is there once for each.

    A worker whose process ends, because it was killed or found no memory, is started again, and its picture is made again,
    by another worker if there is one. A picture that has ended ``tries`` workers is given up with WorkerDiedError. A worker that
    has ended ``tries`` times in a row, over several pictures or before its pipeline was open, is left out until the next call.

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
            raise InvalidArgumentError.of("device", "is for a single Pipeline; a pool takes devices, a list of names")
        if opening.get("profile"):
            raise InvalidArgumentError.of("profile", "is for a single device")
        self._tries = options.integer("tries", tries, 1, 100)
        if opening.get("threads") is None:
            opening["threads"] = max(1, _engine.physical_cores() // len(devices))
        self._workers = [Worker(number, {"model": model, "device": one, **opening}) for number, one in enumerate(devices)]
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

    def _as_completed(self, jobs: Sequence[Job], cancel: _engine.Cancel | None, visible: bool) -> Iterator[tuple[int, Result]]:
        errors: dict[int, Exception] = {}
        with self._alone(cancel), tqdm(total=len(jobs), unit="picture", disable=not visible, leave=False) as bar:
            for job, result in self._share_out(jobs, cancel):
                bar.update()
                if isinstance(result, Exception):
                    errors[job.number] = result
                else:
                    yield job.number, result
        if errors:
            raise FailedPicturesError.of(dict(sorted(errors.items())), len(jobs)) from errors[min(errors)]

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

    def _share_out(self, jobs: Sequence[Job], cancel: _engine.Cancel | None) -> Iterator[_Done]:
        """Have the workers do the jobs; each comes out once, with its result or its error."""
        waiting = deque(jobs)
        done: list[_Done] = []
        for worker in self._workers:
            worker.ended_over.clear()
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

    def _next(self, waiting: deque[Job], worker: Worker) -> Job | None:
        """Take the next job for a worker: one that has not ended it before, unless it has ended all that there are."""
        running = {one.number for one in self._workers if one.runs}
        for job in waiting:
            if worker.number not in job.ended or running <= set(job.ended):
                waiting.remove(job)
                return job
        return None

    def _ready(self, cancel: _engine.Cancel | None) -> list[Worker]:
        """Wait for workers that have something to say, or have ended."""
        while True:
            _raise_if_set(cancel)
            lines = {worker.line: worker for worker in self._workers if worker.line is not None}
            found = connection.wait(list(lines), None if cancel is None else _WATCHED_SECONDS)
            if self._closed:  # by a signal handler
                return []
            if found:
                return [worker for line, worker in lines.items() if line in found]

    def _hear(self, worker: Worker, waiting: deque[Job]) -> list[_Done]:
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
        worker.ended_over.clear()
        return [] if job is None else [(job, answer)]

    def _after_death(self, worker: Worker, error: WorkerDiedError, waiting: deque[Job]) -> list[_Done]:
        """Put the worker's job back, or give it up after too many deaths, and start the worker again."""
        job, worker.job = worker.job, None
        worker.ended_over.append(job)
        given_up: list[_Done] = []
        if job is None:
            logger.warning("%s", error)
        else:
            job.ended.append(worker.number)
            if len(job.ended) < self._tries:
                logger.warning("%s; picture %d is made again", error, job.number)
                waiting.appendleft(job)
            else:
                logger.warning("%s; picture %d is given up", error, job.number)
                given_up = [(job, WorkerDiedError(f"{error}, at try {len(job.ended)} of {self._tries}"))]
        over = worker.ended_over
        if len(over) >= self._tries and (job is None or len(set(over)) > 1):  # one picture alone may be to blame
            return given_up + self._leave_out(worker, error, waiting)
        worker.start()
        return given_up

    def _leave_out(self, worker: Worker, error: Exception, waiting: deque[Job]) -> list[_Done]:
        """Go on without a worker; if it was the last one, all jobs fail."""
        worker.end()
        if any(one.runs for one in self._workers):
            logger.warning("the worker for %s is left out: %s", worker.device, error)
            return []
        failed: list[_Done] = [(job, error) for job in waiting]
        waiting.clear()
        return failed

    def _stop(self) -> None:
        """Stop pictures that are under way, after a loop that was left."""
        busy = [worker for worker in self._workers if worker.job is not None]
        try:
            for worker in busy:
                worker.stop()
            end = time.monotonic() + END_SECONDS
            for worker in busy:
                worker.drain(end)
        except BaseException:
            for worker in busy:
                worker.end()  # its next answer would be taken for that to another job
            raise


_Done = tuple[Job, Result | Exception]


def _jobs_of(prompts: Any, generating: Mapping[str, Any], seed: Any, batch_count: Any) -> list[Job]:
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
        jobs.append(Job(number, keywords))
    return jobs


def _raise_if_set(cancel: _engine.Cancel | None) -> None:
    if cancel is not None and cancel.is_set():
        raise CancelledError("cancelled")
