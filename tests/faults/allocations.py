"""Memory that runs out at each of thousands of moments: only OutOfMemoryError or success, and the pipeline works after.

usage: python tests/faults/allocations.py [--points N] [--seconds N] [--jobs N] [OPERATION …]

A preloaded library (`shim.c`, compiled here) lets one allocation of 1 kB or more fail, or a call of mmap: of C, C++ and Python
alike. The moments are spread evenly over each operation, and tried in random order until the time is over. A process that ends
is counted, and the next one goes on behind it.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
SMALL = {"width": 64, "height": 64, "steps": 1, "seed": 1, "progress": False}
WORKS = ("open", "generate", "streamed", "plan", "decode", "convert", "summarize")
HELD = ("fine", "told")
TOGETHER = 40  # points in a process
NEVER = 1e12


def build_shim(folder: Path) -> Path:
    target = folder / "shim.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(target), str(HERE / "shim.c"), "-ldl"], check=True)
    return target


# What follows runs in a process with the library preloaded.


class Shim:
    def __init__(self) -> None:
        lib = ctypes.CDLL(None)
        self.arm, self.disarm, self.failed = lib.faults_arm, lib.faults_disarm, lib.faults_failed
        self.arm.argtypes = (ctypes.c_long, ctypes.c_long)
        self.disarm.restype = self.failed.restype = ctypes.c_long


def prepared(work: str, folder: Path) -> tuple[Callable[[], object], Callable[[], None]]:
    """What is to be tried, and a check that all is well after it."""
    import sdcpp_py
    from sdcpp_py import convert

    opening = {"threads": 2, "blas": None}
    if work in ("streamed", "plan"):
        opening |= {"max_vram": 0.008, "link_speed": (1e10, 1e9)}
    if work in ("open", "convert", "summarize"):
        target = folder / f"{os.getpid()}.gguf"
        works: dict[str, Callable[[], object]] = {
            "open": lambda: sdcpp_py.Pipeline(**opening).close(),
            "convert": lambda: convert(sdcpp_py.pipeline.embedded_model(), target, wtype="q8_0", threads=2, progress=False),
            "summarize": lambda: sdcpp_py.summarize(sdcpp_py.pipeline.embedded_model()),
        }

        def again() -> None:
            works[work]()
            left = [path for path in folder.iterdir() if path.name.endswith(".part")]
            assert not left, left

        return works[work], again
    pipeline = sdcpp_py.Pipeline(**opening)
    first = sdcpp_py.Pipeline(**opening)
    made = first.generate("a red circle", **SMALL)
    latent = made.latents[0]
    first.close()
    tries = {
        "generate": lambda: pipeline.generate("a red circle", **SMALL),
        "streamed": lambda: pipeline.generate("a red circle", **SMALL),
        "plan": lambda: pipeline.plan(),
        "decode": lambda: pipeline.decode(latent),
    }

    def check() -> None:
        with pipeline:
            assert pipeline.generate("a red circle", **SMALL).images[0].tobytes() == made.images[0].tobytes()

    return tries[work], check


def attempt(shim: Shim, work: str, folder: Path, point: int, tell: Callable[[str], None]) -> None:
    from sdcpp_py.errors import OutOfMemoryError

    tried, check = prepared(work, folder)
    said = "fine"
    caught = None
    shim.arm(point, point + 1)
    try:
        tried()
    except BaseException as error:
        caught = error
    shim.disarm()
    if caught is not None:
        said = "told" if isinstance(caught, OutOfMemoryError) else f"foreign: {caught!r:.200}"
    del caught
    if not shim.failed():
        said = "past the end"
    try:
        check()
    except BaseException as error:
        said = f"broken after: {error!r:.200}"
    tell(said)


def warm(work: str, folder: Path) -> None:
    """What is made once in a process."""
    tried, check = prepared(work, folder)
    tried()
    check()


def child(work: str, folder: Path, points: list[int], end: float) -> None:
    faulthandler.enable()
    shim = Shim()
    warm(work, folder)
    if not points:
        tried, check = prepared(work, folder)
        shim.arm(1 << 40, 1 << 40)
        tried()
        print(shim.disarm(), flush=True)
        check()
        return
    for point in points:
        if time.time() > end:
            break
        print(f"{point}:", end=" ", flush=True)
        attempt(shim, work, folder, point, lambda said: print(said, flush=True))


# What follows starts those processes.


def start(work: str, folder: Path, points: list[int], shim: Path, end: float) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, __file__, "--child", work, str(folder), ",".join(map(str, points)), str(end)]
    surroundings = {**os.environ, "LD_PRELOAD": str(shim), "GGML_NO_BACKTRACE": "1"}
    return subprocess.run(arguments, capture_output=True, text=True, env=surroundings, timeout=3600)


def count(work: str, folder: Path, shim: Path) -> int:
    done = start(work, folder, [], shim, NEVER)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return int(done.stdout)


def sweep(work: str, folder: Path, points: list[int], shim: Path, end: float = NEVER) -> list[tuple[int, str]]:
    """What happened at each point, as far as time allowed."""
    out: list[tuple[int, str]] = []
    while points and time.time() < end:
        try:
            done = start(work, folder, points, shim, end)
            said, status, problems = done.stdout, done.returncode, done.stderr
        except subprocess.TimeoutExpired as late:
            said, status, problems = (late.stdout or b"").decode(), "no end", ""
        lines = [line for line in said.splitlines() if line]
        for line in lines:
            point, _, what = line.partition(":")
            out.append((int(point), what.strip() or f"ended the process ({status}): {problems[-1500:]}"))
        if status == 0 and len(lines) < len(points):
            break  # time is over
        if not lines:
            out.append((points[0], f"ended the process ({status}): {problems[-1500:]}"))
        points = points[len(lines) or 1 :]
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="*", default=WORKS, metavar="OPERATION")
    parser.add_argument("--points", type=int, default=3000, help="in all")
    parser.add_argument("--seconds", type=float, default=1e6, help="at most, about")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    bad: list[str] = []
    counts: Counter[str] = Counter()
    end = time.time() + given.seconds
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shim = build_shim(folder)
        every = {work: count(work, folder, shim) for work in given.works}
        share = given.points / sum(every.values())
        jobs = []
        for work, all_points in every.items():
            wanted = min(all_points, max(1, round(all_points * share)))
            points = sorted({round(i * all_points / wanted) for i in range(wanted)})
            rng.shuffle(points)
            jobs += [(work, points[at : at + TOGETHER]) for at in range(0, len(points), TOGETHER)]
        rng.shuffle(jobs)
        with ThreadPoolExecutor(given.jobs) as pool:
            for (work, _), found in zip(jobs, pool.map(lambda job: sweep(job[0], folder, job[1], shim, end), jobs)):
                for point, what in found:
                    kind = what if what in (*HELD, "past the end") else "not held"
                    counts[kind] += 1
                    if kind == "not held":
                        bad.append(f"{work} at {point} of {every[work]}: {what}")
    print(f"{sum(counts.values())} points of {every}: {dict(counts)}")
    print(*bad, sep="\n")
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), [int(point) for point in sys.argv[4].split(",") if point], float(sys.argv[5]))
        sys.exit(0)
    sys.exit(main())
