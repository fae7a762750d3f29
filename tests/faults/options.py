"""Options of every kind with values of every kind: an answer or an error of the package, and nothing else.

usage: python tests/faults/options.py [--sets N] [--seed N]

`Pipeline`, `generate`, `planner.plan`, arrays, and command lines. Each set runs in a process forked from one with the package
loaded, some hundred sets in each, so that one that ends its process or hangs is seen.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import sdcpp_py
from sdcpp_py import options, sampling
from sdcpp_py.cli import main as command
from sdcpp_py.errors import EngineError, SdcppError
from sdcpp_py.plan import planner

TOGETHER = 100
SMALL = {"width": 32, "height": 32, "steps": 1}


class Odd:
    """An object that is nothing. The class itself can be called, as a callback would be."""

    def __init__(self, *given: Any, **named: Any) -> None:
        pass

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def odd(rng: random.Random) -> Any:
    """A value that an option might be given."""
    return rng.choice(
        [
            *(0, 1, -1, 2, 7, 2**31, 2**63, -(2**63), 2**64, 10**400, 0.0, -0.0, 0.5, 1e-10, 1e308, float("nan"), float("inf")),
            *(
                "",
                "0",
                "x",
                "auto",
                "euler",
                "q8_0",
                "nan",
                "1e400",
                "a\0b",
                "\ud800",
                "é" * 300,
                "(" * 500,
                "=",
                ",",
                "CPU=1",
                "-1",
            ),
            *(b"", b"x", None, True, False, [], {}, (), (1, 2), {"x": 1}, [None], set(), object(), Odd(), Odd),
            *(np.float32(3), np.int64(-3), np.zeros(3), np.zeros((1, 0)), np.array("x"), np.bool_(True), 1j, np.nan),
            Path("/nowhere"),
            Path("/"),
            threading.Event(),
        ]
    )


def _pipeline(rng: random.Random, pipeline: Any) -> None:
    names = [*options.MODEL, "model", "vae", "diffusion_model", "text_encoders", "llm", "taesd", "parts", "rng", "max_vram"]
    given = {name: odd(rng) for name in rng.sample(names, rng.choice((1, 1, 2, 3)))}
    if "threads" in given:  # so many threads as it says would be started
        given["threads"] = rng.choice((-1, 0, 1, 2, 1.5, "2", 10**9, 10**400))
    given.pop("blas_library", None)
    sdcpp_py.Pipeline(**{"threads": 1, **given}).close()


def _generate(rng: random.Random, pipeline: Any) -> None:
    names = [name for name, row in options.GENERATE.items() if row.group] + ["negative_prompt", "callback", "cancel", "prompt"]
    given = {name: odd(rng) for name in rng.sample(names, rng.choice((1, 1, 2, 3)))}
    if "prompt" not in given:
        given["prompt"] = "a"
    for name, most in (("steps", 3), ("width", 128), ("height", 128), ("batch_count", 2)):
        if isinstance(given.get(name), (int, float)) and most < given[name] < 10**6:
            given[name] = most
    pipeline.generate(**{**SMALL, "progress": False, **given})


def _plan(rng: random.Random, pipeline: Any) -> None:
    stages = [
        planner.Stage(f"s{i}", *(rng.choice((0, 1, 10**6, 2**50, -1, 2**63, 1.5)) for _ in range(5)))
        if rng.random() < 0.2
        else planner.Stage(f"s{i}", *(rng.randrange(10**6) for _ in range(5)))
        for i in range(rng.randrange(1, 6))
    ]
    names = list(options.PLAN)
    given = {name: odd(rng) for name in rng.sample(names, min(len(names), rng.choice((0, 1, 2))))}
    planner.plan(stages, **{"budget_bytes": rng.choice((10**5, 10**6, 10**9)), **given})


def _arrays(rng: random.Random, pipeline: Any) -> None:
    shape = rng.choice([(4, 4, 4), (16, 4, 4), (3,), (4, 0, 4), (1, 4, 4, 4), ()])
    array = np.full(shape, rng.choice([0.0, np.nan, np.inf, 1e30]), rng.choice(["f4", "f8", "i4", "c8", "O"]))
    given = array if rng.random() < 0.6 else odd(rng)
    use = rng.choice(["decode", "encode", "evaluate", "noise", "prompt_states", "prompt", "sigmas"])
    if use == "evaluate":
        pipeline.evaluate(rng.choice(["unet", "vae_decoder", "vae", "x"]), **{rng.choice(["x", "context", "tokens"]): given})
    elif use == "noise":
        sampling.noise(rng.choice([(4, 4), (-1,), (), given]), rng.choice([0, 2**62, -1, given]))
    elif use == "prompt":
        pipeline.generate(odd(rng), **SMALL, progress=False)
    elif use == "sigmas":
        sampling.sigmas(odd(rng), rng.choice([3, odd(rng)]))
    else:
        getattr(pipeline, use)(given)


def _command(rng: random.Random, pipeline: Any) -> None:
    flags = [flag for row in options.TABLE for flag in row.flags if flag != "--threads"]
    words = ["", "0", "-1", "x", "1e400", "nan", "é", "\udcff", "CUDA0=8", "a=b", "1" * 300, "q8_0", "euler", "/", "/nowhere"]
    start = rng.choice(
        [["generate", "a", "-o", "/nowhere/x.png"], ["plan"], ["info", "/nowhere"], ["convert", "-o", "/nowhere/x.gguf"]]
    )
    line = [*start]
    for _ in range(rng.choice((1, 2, 3))):
        line += [rng.choice(flags), rng.choice(words)]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            command(line)
        except SystemExit as end:
            if end.code not in (0, 1, 2):
                raise


USES: dict[str, Callable[[random.Random, Any], None]] = {
    "Pipeline": _pipeline,
    "generate": _generate,
    "plan": _plan,
    "arrays": _arrays,
    "command": _command,
}


def attempt(use: str, seed: int, pipeline: Any) -> str:
    """How one set ended: "fine", "told", or what should not be."""
    try:
        USES[use](random.Random(seed), pipeline)
    except EngineError as error:
        return f"internal: {error}"
    except SdcppError as error:
        return "told" if str(error) and len(str(error)) < 5000 else "told without words"
    except BaseException as error:
        return f"foreign: {type(error).__name__}: {error!s:.200}"
    return "fine"


def block(use: str, seeds: list[int]) -> None:
    """In a process of its own: a line for each set."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    sys.unraisablehook = lambda unraisable: None
    pipeline = sdcpp_py.Pipeline(threads=1)
    for seed in seeds:
        signal.alarm(60)
        print(seed, end=" ", flush=True)
        said = attempt(use, seed, pipeline)
        print(said.replace("\n", " ").encode("ascii", "backslashreplace").decode(), flush=True)


def forked(use: str, seeds: list[int]) -> list[tuple[int, str]]:
    with tempfile.TemporaryFile("w+") as out:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            sys.stdout = os.fdopen(1, "w")
            os.chdir(tempfile.gettempdir())
            block(use, seeds)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        lines = out.read().splitlines()
    found = []
    for line in lines:
        seed, _, said = line.partition(" ")
        found.append((int(seed), said or f"ended the process: {status}"))
    if status != 0 and (not found or not found[-1][1].startswith("ended")):
        found.append((seeds[min(len(found), len(seeds) - 1)], f"ended the process: {status}"))
    return found


def sweep(sets: int, seed: int, uses: list[str]) -> tuple[Counter[str], list[str]]:
    counts: Counter[str] = Counter()
    bad = []
    for use in uses:
        left = [seed + i for i in range(sets // len(uses))]
        while left:
            found = forked(use, left[:TOGETHER])
            for number, said in found:
                counts[said if said in ("fine", "told") else "not held"] += 1
                if said not in ("fine", "told"):
                    bad.append(f"{use} {number}: {said}")
            left = left[max(len(found), 1) :]
    return counts, bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--uses", nargs="*", default=list(USES))
    given = parser.parse_args()
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    counts, bad = sweep(given.sets, given.seed, given.uses)
    print(f"{sum(counts.values())} sets of options: {dict(counts)}")
    print(*bad[:50], sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
