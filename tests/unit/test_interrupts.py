"""Signals whose handlers raise, once and again; copies and forks of a pipeline; cancelling one call."""

import copy
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tiny

import sdcpp_py
from sdcpp_py import _engine, convert
from sdcpp_py._engine import interrupts
from sdcpp_py.errors import CancelledError, InvalidArgumentError

SMALL = {"width": 64, "height": 64, "steps": 2}


def run(code, *arguments, timeout=120):
    arguments = [sys.executable, "-X", "faulthandler", "-c", code, *map(str, arguments)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout)
    return done.returncode, done.stdout, done.stderr


ALARMS = """
import signal, sys, time, sdcpp_py
class Alarm(Exception):
    pass
def ring(number, frame):
    raise Alarm
signal.signal(signal.SIGALRM, ring)
use = sys.argv[2]
held = 0
for number in range(int(sys.argv[3])):
    with sdcpp_py.Pipeline(sys.argv[1], threads=2) as pipeline:
        callback = (lambda step: time.sleep(0.05)) if use == "callback" else None
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02 + 0.005 * number, 0.0007)
            pipeline.generate("x", width=64, height=64, steps=1000, callback=callback)
        except Alarm:
            held += 1
        while True:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
                break
            except Alarm:
                pass
print("held", held)
"""


@pytest.mark.parametrize("use", ["plain", "callback"])
def test_alarms_that_never_end_do_not_leave_a_call_while_the_engine_runs(folder, use):
    """The block's end frees the model: if C still ran, the process would end."""
    for _ in range(3):  # an alarm within the lines around a call ends the program itself
        status, out, problems = run(ALARMS, folder, use, 12)
        if status == 0 or "Alarm" not in problems:
            break
    assert (status, out) == (0, "held 12\n"), problems


TWICE = """
import os, signal, sys, threading, time, sdcpp_py
def press():
    begun.wait()
    for _ in range(3):
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
begun = threading.Event()
threading.Thread(target=press).start()
def callback(step):
    begun.set()
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        time.sleep(end - time.monotonic()) if sys.argv[3] == "sleeps" else None
start = time.monotonic()
try:
    try:
        with sdcpp_py.Pipeline(sys.argv[1]) as pipeline:
            pipeline.generate("x", width=64, height=64, steps=3, callback=callback)
    except KeyboardInterrupt:
        print("stopped", time.monotonic() - start < 6)
        time.sleep(1)
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("use", [sdcpp_py.Pipeline, sdcpp_py.summarize, lambda path: convert(path, path.with_suffix(".gguf"))])
def test_reading_a_file_stops_when_it_is_told(monkeypatch, tmp_path, use):
    """As Ctrl-C tells it: a header may take seconds."""

    class SetFlag(interrupts.StopFlag):
        def __init__(self):
            super().__init__()
            self.set()

    path = tiny.write_safetensors(tmp_path / "a.safetensors", {"a.weight": np.zeros(4, np.float32)})
    for module in (_engine.model, _engine.files):
        monkeypatch.setattr(module, "StopFlag", SetFlag)
    with pytest.raises(CancelledError):
        use(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("callback", ["sleeps", "computes"])
def test_ctrl_c_again_and_again_ends_a_busy_callback_at_once(folder, callback):
    status, out, problems = run(TWICE, folder, 60, callback)
    assert (status, out) == (0, "stopped True\n"), problems


def test_a_callback_runs_on_the_thread_of_the_call(pipeline):
    seen = []
    pipeline.generate("x", **SMALL, callback=lambda step: seen.append(threading.current_thread()))
    worker = threading.Thread(
        target=lambda: pipeline.generate("x", **SMALL, callback=lambda step: seen.append(threading.current_thread()))
    )
    worker.start()
    worker.join()
    assert seen == [threading.main_thread()] * 2 + [worker] * 2


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_pipeline_is_not_copied(pipeline, copied):
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        copied(pipeline)


FORKS = """
import os, sys, threading, sdcpp_py
small = {"width": 64, "height": 64, "steps": 2, "seed": 1}
pipeline = sdcpp_py.Pipeline(sys.argv[1], threads=2)
first = pipeline.generate("x", **small).images[0].tobytes()
busy = threading.Thread(target=lambda: pipeline.generate("x", width=64, height=64, steps=200))
busy.start()
child = os.fork()
if child == 0:
    told = 0
    for use in (lambda: pipeline.generate("x", **small), pipeline.plan, pipeline.take_memory, lambda: pipeline.decode(None)):
        try:
            use()
        except sdcpp_py.errors.ClosedError as error:
            told += "forked" in str(error)
    pipeline.cancel()
    pipeline.close()
    del pipeline
    with sdcpp_py.Pipeline(sys.argv[1], threads=2) as own:
        same = own.generate("x", **small).images[0].tobytes() == first
    sys.exit(0 if told == 4 and same else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
busy.join()
print(status, pipeline.generate("x", **small).images[0].tobytes() == first)
"""


def test_a_fork_is_told_that_the_pipeline_is_its_parents(folder):
    assert run(FORKS, folder) == (0, "0 True\n", "")


class Flag:
    def __init__(self, after):
        self.after, self.asked = after, 0

    def is_set(self):
        self.asked += 1
        return self.asked > self.after


@pytest.mark.parametrize("thread", [False, True])
def test_cancel_of_one_call(pipeline, thread):
    raised = []

    def use():
        for flag in (Flag(0), Flag(3)):
            start = time.monotonic()
            try:
                pipeline.generate("x", width=64, height=64, steps=5000, cancel=flag)
            except CancelledError:
                raised.append(time.monotonic() - start)

    if thread:
        worker = threading.Thread(target=use)
        worker.start()
        worker.join()
    else:
        use()
    assert len(raised) == 2 and max(raised) < 20
    assert pipeline.generate("x", **SMALL, cancel=threading.Event()).images


def test_a_cancel_between_two_jobs_is_not_lost(pipeline, tmp_path):
    stop = threading.Event()
    pipeline.generate("x", **SMALL, cancel=stop)
    stop.set()
    latent, picture = np.zeros((4, 8, 8), np.float32), np.zeros((64, 64, 3), np.uint8)
    uses = (
        lambda: pipeline.generate("x", **SMALL, cancel=stop),
        lambda: pipeline.decode(latent, cancel=stop),
        lambda: pipeline.encode(picture, cancel=stop),
        lambda: convert(sdcpp_py.pipeline.embedded_model(), tmp_path / "x.gguf", cancel=stop),
    )
    for use in uses:
        with pytest.raises(CancelledError):
            use()
    assert not list(tmp_path.iterdir())
    with pytest.raises(InvalidArgumentError, match="is_set"):
        pipeline.generate("x", **SMALL, cancel=True)


def test_what_cancel_raises_comes_out(pipeline):
    class Bad:
        def is_set(self):
            raise KeyError("bad")

    with pytest.raises(KeyError):
        pipeline.generate("x", **SMALL, cancel=Bad())
    assert pipeline.generate("x", **SMALL).images


@pytest.mark.parametrize("callback", ["None", "lambda step: None"])
def test_ctrl_c_while_python_waits_for_a_thread_at_its_end_ends_quietly(callback):
    code = f"""
import os, signal, threading, time, sdcpp_py
pipeline = sdcpp_py.Pipeline(threads=1)
begun = threading.Event()
def work():
    begun.set()
    pipeline.generate("a red circle", width=256, height=256, steps=60, callback={callback})
threading.Thread(target=work).start()
begun.wait()
threading.Thread(target=lambda: (time.sleep(0.5), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode >= 0 and "FATAL" not in done.stderr, done.stderr
