"""A pipeline among threads: callbacks that wait, daemon threads at the interpreter's end, closing and collecting anywhere."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import sdcpp_py
from sdcpp_py import errors
from sdcpp_py import pipeline as pipeline_module

SMALL = {"width": 64, "height": 64, "steps": 2}


def run(code, *arguments):
    """The program's status, its output and what it wrote to stderr. A program that hangs fails the test."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout, done.stderr


WAITS = """
import sys, threading, numpy as np, sdcpp_py
pipeline = sdcpp_py.Pipeline(sys.argv[1])
found = []
uses = {
    "decode": lambda: pipeline.decode(np.zeros((4, 8, 8), np.float32)),
    "generate": lambda: pipeline.generate("x", width=64, height=64, steps=1),
    "plan": pipeline.plan,
    "close": pipeline.close,
}
def use():
    try:
        uses[sys.argv[2]]()
    except sdcpp_py.errors.BusyError as error:
        found.append(str(error))
def callback(step):
    if not found:
        worker = threading.Thread(target=use)
        worker.start()
        worker.join()
def generate():
    print(len(pipeline.generate("x", width=64, height=64, steps=2, callback=callback).images), found)
if sys.argv[3] == "main":
    generate()
else:
    made = threading.Thread(target=generate)
    made.start()
    made.join()
"""


@pytest.mark.parametrize("use", ["decode", "generate", "plan", "close"])
@pytest.mark.parametrize("thread", ["main", "other"])
def test_a_callback_that_waits_for_a_thread_that_waits_for_the_pipeline_ends(folder, use, thread):
    status, out, problems = run(WAITS, folder, use, thread)
    assert status == 0 and not problems, problems
    assert out.startswith("1 [") and "may be waiting for this call" in out


def test_threads_that_wait_for_a_quick_callback_get_their_turn(pipeline):
    made, problems = [], []

    def generate(seed):
        try:
            made.append(pipeline.generate("x", **SMALL, seed=seed, callback=lambda step: time.sleep(0.01)))
        except errors.SdcppError as error:
            problems.append(error)

    workers = [threading.Thread(target=generate, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not problems and {result.seed for result in made} == {0, 1, 2, 3}


def test_a_callback_longer_than_the_limit_frees_those_who_wait(pipeline, monkeypatch):
    monkeypatch.setattr(pipeline_module, "_CALLBACK_SECONDS", 0.1)
    inside, raised = threading.Event(), threading.Event()

    def wait():
        inside.wait(120)
        with pytest.raises(errors.BusyError, match="takes long"):
            pipeline.plan()
        raised.set()

    worker = threading.Thread(target=wait)
    worker.start()
    result = pipeline.generate("x", **SMALL, callback=lambda step: (inside.set(), raised.wait(120)))
    worker.join()
    assert raised.is_set() and result.images
    assert pipeline.plan().segments


DAEMON = """
import sys, threading, time, numpy as np, sdcpp_py
from sdcpp_py import sampling
pipeline = sdcpp_py.Pipeline(sys.argv[1], profile=sys.argv[2] == "profile")
begun = threading.Event()
def generate(**options):
    pipeline.generate("x", width=64, height=64, steps=9999, **options)
def denoise(x, sigma):
    begun.set()
    return x / (1 + sigma * sigma)
def forever():
    if sys.argv[2] == "callback":
        generate(callback=lambda step: begun.set())
    elif sys.argv[2] == "sleeping callback":
        generate(callback=lambda step: (begun.set(), time.sleep(0.2)))
    elif sys.argv[2] == "sampler":
        while True:
            sampling.sample(denoise, np.ones(9, np.float32), sampling.sigmas("karras", 9999))
    elif sys.argv[2] == "many short ones":
        while True:
            pipeline.generate("x", width=64, height=64, steps=1)
            begun.set()
    else:
        threading.Timer(0.5, begun.set).start()
        if sys.argv[2] == "large":
            pipeline.generate("x", width=512, height=512, steps=99, progress=False)
        generate()
for _ in range(int(sys.argv[3])):
    threading.Thread(target=forever, daemon=True).start()
begun.wait(120)
print("leaves")
"""


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("work", ["plain", "large", "callback", "sleeping callback", "sampler", "many short ones", "profile"])
def test_daemon_threads_end_quietly_with_the_interpreter(folder, work, threads):
    status, out, problems = run(DAEMON, folder, work, threads)
    assert (status, out, problems) == (0, "leaves\n", "")


def test_a_pipeline_is_usable_in_exit_handlers(folder):
    code = """
import atexit, sys, threading, sdcpp_py
pipeline = sdcpp_py.Pipeline(sys.argv[1])
atexit.register(lambda: (print(len(pipeline.generate("x", width=64, height=64, steps=1).images)), pipeline.close()))
threading.Thread(target=lambda: pipeline.generate("x", width=64, height=64, steps=2), daemon=True).start()
"""
    status, out, problems = run(code, folder)
    assert (status, out, problems) == (0, "1\n", "")


def test_closing_and_collecting_from_any_thread(folder):
    code = """
import gc, sys, threading, weakref, sdcpp_py
small = {"width": 64, "height": 64, "steps": 2}
def close_while_it_runs():
    pipeline = sdcpp_py.Pipeline(sys.argv[1])
    begun = threading.Event()
    made = []
    worker = threading.Thread(target=lambda: made.append(pipeline.generate("x", **small, callback=lambda step: begun.set())))
    worker.start()
    begun.wait()
    closers = [threading.Thread(target=pipeline.close) for _ in range(3)]
    for closer in closers:
        closer.start()
    for one in (worker, *closers):
        one.join()
    assert made[0].images and "closed" in repr(pipeline)
    try:
        pipeline.generate("x")
    except sdcpp_py.errors.ClosedError:
        print("closed")
def collect_elsewhere():
    kept = [sdcpp_py.Pipeline(sys.argv[1])]
    gone = weakref.ref(kept[0])
    kept[0].generate("x", **small)
    worker = threading.Thread(target=lambda: (kept.clear(), gc.collect()))
    worker.start()
    worker.join()
    print(gone() is None)
def drop_while_it_runs():
    begun = threading.Event()
    pipeline = sdcpp_py.Pipeline(sys.argv[1])
    method = pipeline.generate
    worker = threading.Thread(target=lambda: method("x", **small, callback=lambda step: (begun.set(), gc.collect())))
    worker.start()
    del pipeline, method
    begun.wait()
    gc.collect()
    worker.join()
    print("dropped")
close_while_it_runs()
collect_elsewhere()
drop_while_it_runs()
"""
    status, out, problems = run(code, folder)
    assert (status, out.split(), problems) == (0, ["closed", "True", "dropped"], "")


def test_cancel_and_close_race_without_a_crash(folder):
    code = """
import sys, threading, sdcpp_py
for _ in range(20):
    pipeline = sdcpp_py.Pipeline(sys.argv[1])
    workers = [threading.Thread(target=use) for use in (pipeline.cancel, pipeline.close, pipeline.cancel, pipeline.close)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
print("alive")
"""
    status, out, problems = run(code, folder)
    assert (status, out, problems) == (0, "alive\n", "")


def test_the_engine_itself_refuses_calls_of_its_callbacks_thread(pipeline):
    """Beneath `Pipeline`, which refuses them first."""
    model = pipeline._require_open()
    raised = []

    def use(step):
        for call in (model.take_runs, model.begin, lambda: model.plan("unet", {"width": 64, "height": 64})):
            with pytest.raises(errors.BusyError, match="until the callback") as caught:
                call()
            raised.append(caught.value)

    assert pipeline.generate("x", **SMALL, callback=use).images and len(raised) == 6
    assert np.isfinite(pipeline.generate("x", **SMALL).latents[0]).all()
    assert sdcpp_py.devices()
