"""Signal handlers and ``is_set`` of a cancel that use the pipeline on the thread of its run; forks during one."""

import subprocess
import sys

import pytest

BEGIN = """
import os, signal, sys, threading, time
import numpy as np, sdcpp_py
from sdcpp_py.errors import BusyError, CancelledError, ClosedError
LONG = dict(width=256, height=256, steps=400, progress=False)
SMALL = dict(width=64, height=64, steps=1, progress=False)
def outcome(run):
    try:
        run()
        return "nothing"
    except BaseException as error:
        return type(error).__name__
def soon(run):
    "What `run` raises if SIGINT comes during it."
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        return outcome(run)
    finally:
        timer.join()
def on_thread(run):
    worker = threading.Thread(target=run)
    worker.start()
    worker.join()
"""


def run(code, *arguments, timeout=60):
    """Standard output of a program, which must end by itself without a word of complaint."""
    arguments = [sys.executable, "-X", "faulthandler", "-c", BEGIN + code, *map(str, arguments)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\n")[:-1]


CLOSES = """
for use in ("generate", "decode", "raise", "callback"):
    p = sdcpp_py.Pipeline(threads=1)
    latent = np.zeros((p._facts["latent_channels"], 128, 128), np.float32)
    def stop(*arguments):
        p.close()
        if use == "raise":
            sys.exit(1)
    signal.signal(signal.SIGINT, stop)
    runs = {"decode": lambda: [p.decode(latent) for _ in range(99)]}
    runs["callback"] = lambda: p.generate("x", **LONG, callback=lambda step: time.sleep(0.2))
    start = time.monotonic()
    told = soon(runs.get(use, lambda: p.generate("x", **LONG)))
    print(use, told, p._model, time.monotonic() - start < 10, outcome(p.plan))
    p.close()
"""


def test_a_handler_that_closes_the_pipeline_stops_its_run():
    assert run(CLOSES) == [
        "generate CancelledError None True ClosedError",
        "decode CancelledError None True ClosedError",
        "raise SystemExit None True ClosedError",
        "callback CancelledError None True ClosedError",
    ]


USES = """
p = sdcpp_py.Pipeline(threads=1)
latent = np.zeros((p._facts["latent_channels"], 8, 8), np.float32)
uses = {
    "generate": lambda: p.generate("x", **SMALL),
    "plan": p.plan,
    "decode": lambda: p.decode(latent),
    "take_memory": p.take_memory,
    "prompt_states": lambda: p.prompt_states("x"),
}
first = p.generate("x", **SMALL, seed=1).images[0].tobytes()
told = []
def use_all(*arguments):
    for name, use in uses.items():
        try:
            use()
        except BusyError as error:
            told.append("cancel() and close()" in str(error))
    p.cancel()
signal.signal(signal.SIGINT, use_all)
print(soon(lambda: p.generate("x", **LONG)), told)
signal.signal(signal.SIGINT, lambda *a: p.plan())
print(soon(lambda: p.generate("x", **LONG)), first == p.generate("x", **SMALL, seed=1).images[0].tobytes())
"""


def test_a_handler_that_uses_the_pipeline_is_told_that_it_is_busy():
    assert run(USES) == ["CancelledError [True, True, True, True, True]", "BusyError True"]


ASKS = """
class Asked:
    def __init__(self, use):
        self.use, self.count = use, 0
    def is_set(self):
        self.count += 1
        if self.count == 4:
            self.use()
        return False
def tell(use):
    try:
        p.generate("x", **LONG, cancel=Asked(use))
    except Exception as error:
        print(type(error).__name__, p._model is None)
for way in (lambda run: run(), on_thread):
    for use in (lambda: p.close(), lambda: p.plan(), lambda: p.generate("x", **SMALL), lambda: {}["x"]):
        p = sdcpp_py.Pipeline(threads=1)
        way(lambda: tell(use))
        p.close()
"""


def test_is_set_may_use_the_pipeline():
    assert run(ASKS) == ["CancelledError True", "BusyError False", "BusyError False", "KeyError False"] * 2


LOGS = """
import logging
p = sdcpp_py.Pipeline(threads=1, max_vram=1)
told = []
class Uses(logging.Handler):
    def emit(self, record):
        told.append(outcome(p.plan))
        p.close()
logging.getLogger("sdcpp_py").addHandler(Uses())
logging.getLogger("sdcpp_py").setLevel(logging.DEBUG)
for way in (lambda run: run(), on_thread):
    told.clear()
    way(lambda: print(outcome(lambda: p.generate("a star", **LONG)), set(told), p._model))
    p = sdcpp_py.Pipeline(threads=1, max_vram=1)
logging.getLogger("sdcpp_py").handlers.clear()
"""


def test_a_log_handler_on_the_engines_thread_may_use_the_pipeline():
    assert run(LOGS) == ["CancelledError {'BusyError'} None"] * 2


FORKS = """
p = sdcpp_py.Pipeline(threads=int(sys.argv[3]))
parent, children = os.getpid(), []
def fork():
    sys.stdout.flush()
    child = os.fork()
    if child:
        children.append(child)
class Asked:
    asked = 0
    def is_set(self):
        self.asked += 1
        if self.asked == 4:
            fork()
        return False
def callback(step):
    if step.step == 2:
        fork()
ways = {"callback": {"callback": callback}, "is_set": {"cancel": Asked()}, "handler": {}}
signal.signal(signal.SIGINT, lambda *a: fork())
def work():
    global told
    if sys.argv[1] == "handler":
        threading.Timer(0.3, lambda: os.kill(parent, signal.SIGINT)).start()
    try:
        told = f"{len(p.generate('x', **{**LONG, 'steps': 10}, **ways[sys.argv[1]]).images)} picture"
    except BaseException as error:
        told = f"{type(error).__name__}: {error}"
    if os.getpid() != parent:
        print(told, end="") if "forked from" not in told else None
        sys.stdout.flush()
        os._exit(7)
on_thread(work) if sys.argv[2] == "thread" else work()
for child in children:
    print(told, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), p.generate("x", **SMALL).images != [])
"""


@pytest.mark.parametrize(
    ("way", "thread", "threads"),
    [
        ("callback", "main", 1),
        ("callback", "thread", 1),
        ("callback", "thread", 2),
        ("is_set", "thread", 1),
        ("handler", "main", 1),
    ],
)
def test_a_fork_during_a_run_ends_it_in_the_child_alone(way, thread, threads):
    assert run(FORKS, way, thread, threads) == ["1 picture 7 True"]


def test_a_fork_during_the_writing_of_a_file_leaves_it_to_the_parent(tmp_path):
    code = """
from pathlib import Path
from sdcpp_py._whole_file import whole_file
with whole_file(Path(sys.argv[1])) as temporary:
    temporary.write_text("whole")
    child = os.fork()
    if child == 0:
        raise SystemExit(3)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(status, Path(sys.argv[1]).read_text())
"""
    assert run(code, tmp_path / "x") == ["3 whole"]
