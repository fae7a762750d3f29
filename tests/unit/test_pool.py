"""Pipelines in processes of their own share out a list: same pictures, in order, none twice and none lost if a worker dies."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdcpp_py
from sdcpp_py import PipelinePool, _engine, metadata
from sdcpp_py._embedded import embedded_model
from sdcpp_py.cli import flags, main
from sdcpp_py.errors import (
    BusyError,
    CancelledError,
    ClosedError,
    FailedPicturesError,
    InvalidArgumentError,
    ModelNotFoundError,
    UnknownKeywordError,
    WorkerDiedError,
)

PROMPTS = [f"a large {colour} circle on a white background" for colour in ("red", "green", "blue", "yellow")]
SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 2}
LONG = 5000  # steps: half a minute and more
SHORT_AND_LONG: list[Any] = [{"prompt": "a star", "steps": 1}, {"prompt": "a star", "steps": LONG}]


@pytest.fixture(scope="module", autouse=True)
def workers_leave_pytest_alone() -> Iterator[None]:
    """A worker reads the main module of its pool's process again, which takes time if that is pytest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["__main__"], "__spec__", None)
        patch.delattr(sys.modules["__main__"], "__file__", raising=False)
        yield


@pytest.fixture(scope="module")
def pool() -> Iterator[PipelinePool]:
    with PipelinePool(devices=["CPU", "CPU"]) as made:
        yield made


def same(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other)) and one.info == other.info


def processes(pool: PipelinePool) -> list[int]:
    return [worker._process.pid for worker in pool._workers if worker._process is not None and worker._process.pid is not None]


class Deadly:
    """A value that ends the process which reads it."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


def test_pictures_are_those_of_one_pipeline(pool: PipelinePool, embedded: sdcpp_py.Pipeline) -> None:
    seen: dict[int, Image.Image] = {}
    results = pool.map(PROMPTS, seed=7, **SMALL, picture_callback=lambda number, picture: seen.update({number: picture}))
    alone = embedded.generate(PROMPTS, seed=7, **SMALL)
    assert [result.seed for result in results] == alone.seeds == [7, 8, 9, 10]
    for number, result in enumerate(results):
        assert same(result.image, alone.images[number]) and same(seen[number], result.image)
        assert np.array_equal(result.latents[0], alone.latents[number])
        assert metadata.read(result.image).prompt == PROMPTS[number]
        assert result.parameters["prompt"] == PROMPTS[number] and result.reports[embedded.denoiser].runs > 0


def test_seeds_of_a_batch_are_counted_as_in_one_pipeline(pool: PipelinePool, embedded: sdcpp_py.Pipeline) -> None:
    results = pool.map(PROMPTS[:2], seed=2**64 - 1, batch_count=2, **SMALL)
    alone = embedded.generate(PROMPTS[:2], seed=2**64 - 1, batch_count=2, **SMALL)
    assert [result.seed for result in results] == alone.seeds
    assert all(same(result.image, picture) for result, picture in zip(results, alone.images))
    assert [result.seed for result in pool.map(PROMPTS[:2], seed=[5, 1], **SMALL)] == [5, 1]
    drawn = [result.seed for result in pool.map(PROMPTS[:2], **SMALL)]
    assert drawn[1] == drawn[0] + 1


def test_each_picture_may_have_keywords_of_its_own(pool: PipelinePool, embedded: sdcpp_py.Pipeline) -> None:
    jobs = [{"prompt": PROMPTS[0], "seed": 3, "steps": 1}, PROMPTS[1], {"prompt": PROMPTS[2], "width": 128}]
    found = dict(pool.as_completed(jobs, seed=20, **SMALL))
    assert [found[number].seed for number in range(3)] == [3, 21, 22]
    assert found[2].image.size == (128, 64)
    assert same(found[0].image, embedded.generate(PROMPTS[0], seed=3, **{**SMALL, "steps": 1}).image)


def test_workers_share_the_cores_and_both_of_them_work(pool: PipelinePool) -> None:
    assert [worker._opening["threads"] for worker in pool._workers] == [max(1, _engine.physical_cores() // 2)] * 2
    assert _engine.physical_cores() <= len(os.sched_getaffinity(0))
    with_one = pool.map({"prompt": "a star"}, **SMALL)  # fewer pictures than workers
    assert len(with_one) == 1
    assert repr(pool) == "<PipelinePool on CPU, CPU>"


def test_a_picture_whose_worker_is_killed_is_made_again_once(
    pool: PipelinePool, embedded: sdcpp_py.Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [{"prompt": one, "steps": 20 if number == 1 else 1} for number, one in enumerate(PROMPTS)]
    seen: list[int] = []
    before = processes(pool)

    def kill_the_other(number: int, picture: Image.Image) -> None:
        seen.append(number)
        if len(seen) == 1:
            (busy,) = (worker for worker in pool._workers if worker.job is not None and worker.job.number == 1)
            assert busy._process is not None and busy._process.pid is not None
            os.kill(busy._process.pid, signal.SIGKILL)

    results = pool.map(jobs, seed=7, width=64, height=64, picture_callback=kill_the_other)
    assert sorted(seen) == [0, 1, 2, 3] and len(results) == 4
    assert "was ended by SIGKILL" in caplog.text and "picture 1 is made again" in caplog.text
    for number, result in enumerate(results):
        alone = embedded.generate(PROMPTS[number], seed=7 + number, steps=jobs[number]["steps"], width=64, height=64)
        assert same(result.image, alone.image)
    assert len(pool.map(PROMPTS[:2], seed=1, **SMALL)) == 2
    assert len(set(before) & set(processes(pool))) == 1


def test_an_idle_worker_that_is_killed_is_started_again(pool: PipelinePool) -> None:
    before = processes(pool)
    os.kill(before[0], signal.SIGKILL)
    time.sleep(0.1)
    assert len(pool.map(PROMPTS, seed=1, **SMALL)) == 4
    assert len(set(before) & set(processes(pool))) == 1


def test_a_picture_that_ends_its_workers_is_given_up_and_the_others_are_made() -> None:
    with PipelinePool(devices=["CPU"], threads=1, tries=1) as pool:
        with pytest.raises(FailedPicturesError, match=r"1 of 3 .* picture 1: .*ended with status 3, at try 1 of 1") as failed:
            pool.map([PROMPTS[0], {"prompt": "x", "sampler": Deadly()}, PROMPTS[2]], seed=4, **SMALL)
        assert isinstance(failed.value.errors[1], WorkerDiedError) and sorted(failed.value.results) == [0, 2]


def test_workers_that_cannot_open_their_model_again_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = Path(shutil.copy(embedded_model(), tmp_path / "model.gguf"))
    with PipelinePool(model, devices=["CPU", "CPU"]) as pool:
        model.unlink()
        for process in processes(pool):
            os.kill(process, signal.SIGKILL)
        with pytest.raises(FailedPicturesError, match="4 of 4 pictures") as failed:
            pool.map(PROMPTS, seed=1, **SMALL)
        assert {type(error) for error in failed.value.errors.values()} == {ModelNotFoundError}
    assert caplog.text.count("is left out: no such file") == 1  # the other one goes on until it is heard


def test_errors_of_single_pictures_leave_the_others(pool: PipelinePool) -> None:
    jobs = [PROMPTS[0], {"prompt": PROMPTS[1], "steps": -3}, PROMPTS[2], {"prompt": "x", "stops": 1}, {"prompt": lambda: 0}]
    with pytest.raises(FailedPicturesError, match=r"3 of 5 pictures could not be made; picture 1: .*steps") as failed:
        pool.map(jobs, seed=4, **SMALL)
    error = failed.value
    assert isinstance(error.errors[1], InvalidArgumentError) and isinstance(error.__cause__, InvalidArgumentError)
    assert isinstance(error.errors[3], UnknownKeywordError) and list(error.errors) == sorted(error.errors)
    assert sorted(error.results) == [0, 2] and error.results[2].seed == 6
    assert error.spelled(flags.spell).count("--steps") == 1
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    found = []
    with pytest.raises(FailedPicturesError):
        for number, _ in pool.as_completed(jobs, seed=4, **SMALL):
            found.append(number)
    assert sorted(found) == [0, 2]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"prompts": []}, "prompts must be"),
        ({"prompts": 3}, "prompts must be"),
        ({"prompts": [3]}, "prompts must be"),
        ({"prompts": "x", "seed": [1, 2]}, "seed"),
        ({"prompts": "x", "callback": print}, "callback"),
        ({"prompts": [{"prompt": "x", "cancel": threading.Event()}]}, "cancel"),
        ({"prompts": [{"prompt": "x", "batch_count": 2}]}, "batch_count"),
        ({"prompts": [{"prompt": "x", "seed": "y"}]}, "seed"),
        ({"prompts": "x", "picture_callback": 3}, "picture_callback"),
        ({"prompts": "x", "cancel": 3}, "cancel"),
        ({"prompts": "x", "batch_count": 0}, "batch_count"),
    ],
)
def test_lists_that_cannot_be(pool: PipelinePool, given: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        pool.map(**given)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"devices": "CPU"}, InvalidArgumentError, "devices must be a list"),
        ({"devices": []}, InvalidArgumentError, "devices must be a list"),
        ({"devices": ["CPU"], "device": "CPU"}, InvalidArgumentError, "devices"),
        ({"devices": ["CPU"], "tries": 0}, InvalidArgumentError, "tries"),
        ({"devices": ["CPU"], "profile": True}, InvalidArgumentError, "profile"),
        ({"devices": ["CPU"], "model": "none.safetensors"}, ModelNotFoundError, "none.safetensors"),
        ({"devices": ["CPU"], "vae": Deadly()}, WorkerDiedError, "status 3, before its pipeline was open"),
    ],
)
def test_pools_that_cannot_be(given: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        PipelinePool(**given)


def test_cancelling_and_leaving_early_keep_the_workers(pool: PipelinePool) -> None:
    before = processes(pool)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    start = time.monotonic()
    with pytest.raises(CancelledError):
        pool.map(PROMPTS, steps=LONG, width=64, height=64, cancel=stop)
    with pytest.raises(ZeroDivisionError):
        pool.map(SHORT_AND_LONG, width=64, height=64, picture_callback=lambda *_: 1 / 0)
    for _ in pool.as_completed(SHORT_AND_LONG, width=64, height=64):
        break
    assert time.monotonic() - start < 20  # a moment, and not the minute that the steps take
    assert len(pool.map(PROMPTS[:2], seed=1, **SMALL)) == 2 and processes(pool) == before


def test_calls_within_a_call(pool: PipelinePool) -> None:
    with pytest.raises(BusyError):
        pool.map(PROMPTS[:1], **SMALL, picture_callback=lambda *_: pool.map(PROMPTS[:1], **SMALL))
    with pytest.raises(TypeError):
        pickle.dumps(pool)


def test_warnings_come_to_the_pools_process(pool: PipelinePool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sdcpp_py"):
        pool.map("a lighthouse", seed=1, **SMALL)
    assert "nothing else" in caplog.text


def test_closing_ends_the_processes() -> None:
    pool = PipelinePool(devices=["CPU"], threads=1)
    (process,) = processes(pool)
    with pytest.raises(CancelledError):
        pool.map(SHORT_AND_LONG, width=64, height=64, picture_callback=lambda *_: pool.close())
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    pool.close()
    assert repr(pool) == "<PipelinePool, closed>"
    with pytest.raises(ClosedError):
        pool.map(PROMPTS)


SCRIPT = """
import sdcpp_py

def main():
    with sdcpp_py.PipelinePool(devices=["CPU"], threads=1) as pool:
        jobs = [{"prompt": "x", "steps": 1}, "x", "x"]
        pool.map(jobs, steps=5000, width=64, height=64, picture_callback=lambda *_: print("begun", flush=True))

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_process_that_made_them(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as script:
        assert script.stdout is not None and script.stdout.readline() == "begun\n"
        if number == signal.SIGINT:
            os.killpg(script.pid, number)  # as a terminal does
        else:
            script.kill()
        _, problems = script.communicate(timeout=120)  # which waits until the last process that has this pipe has ended
    assert problems.count("Traceback") == problems.count("KeyboardInterrupt") == (1 if number == signal.SIGINT else 0), problems


def test_a_script_without_a_guard_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.replace('if __name__ == "__main__"', "if True"))
    done = subprocess.run([sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and 'a pool needs `if __name__ == "__main__":`' in done.stderr


def test_the_command_shares_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", PROMPTS[0], "-W", "64", "-H", "64", "--steps", "2", "-b", "3", "-s", "7", "-t", "1"]
    assert main([*words, "-o", str(tmp_path / "one_%d.png")]) == 0
    assert main([*words, "-o", str(tmp_path / "two_%d.png"), "--device", "CPU,CPU"]) == 0
    assert "3 pictures on CPU, CPU" in capsys.readouterr().err
    for number in range(3):
        assert (tmp_path / f"one_{number}.png").read_bytes() == (tmp_path / f"two_{number}.png").read_bytes()
    assert main([*words, "-o", str(tmp_path / "x.png"), "--device", "CPU,CPU", "--preview", "proj"]) == 1
    assert "--preview-path cannot be given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("CPU", ["CPU"]),
        ("CUDA0, CUDA1", ["CUDA0", "CUDA1"]),
        ("simulated:vram=1,link=12", ["simulated:vram=1,link=12"]),
        ("CUDA0:link=12,vram=3,CUDA1:link=6,CPU", ["CUDA0:link=12,vram=3", "CUDA1:link=6", "CPU"]),
    ],
)
def test_devices_of_the_command(text: str, names: list[str]) -> None:
    assert flags.device_names(text) == names
