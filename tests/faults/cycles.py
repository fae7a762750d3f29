"""Pipelines opened, used and closed again and again, and cancelled from other threads: memory, files and threads stay flat.

usage: python tests/faults/cycles.py [--cycles N] [--seconds N]
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import sdcpp_py
from sdcpp_py.errors import BusyError, CancelledError, ClosedError

SMALL = {"width": 32, "height": 32, "steps": 1, "seed": 1, "progress": False}


def held() -> tuple[float, int, int]:
    """Resident MB, open files and threads of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def cycle() -> None:
    with sdcpp_py.Pipeline(threads=2) as pipeline:
        pipeline.generate("a red circle", **SMALL)


def cycles(count: int) -> list[tuple[float, int, int]]:
    """What is held after a third of them, and at the end."""
    for _ in range(count // 3):
        cycle()
    first = held()
    for _ in range(count - count // 3):
        cycle()
    return [first, held()]


def storm(seconds: float, threads: int = 8) -> Counter[str]:
    """Threads that generate on one pipeline while others cancel it; at the end a thread closes it."""
    said: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with sdcpp_py.Pipeline(threads=2) as pipeline:
        first = pipeline.generate("a red circle", **SMALL).images[0].tobytes()

        def work() -> None:
            while time.monotonic() < end:
                try:
                    made = pipeline.generate("a red circle", **SMALL).images[0].tobytes()
                    said["made" if made == first else "differs"] += 1
                except (CancelledError, BusyError) as error:
                    said[type(error).__name__] += 1
                except BaseException as error:
                    said[f"foreign: {error!r}"] += 1

        def cancel() -> None:
            while time.monotonic() < end:
                pipeline.cancel()
                said["cancels"] += 1
                time.sleep(0.002)

        crowd = [threading.Thread(target=target) for target in (work, cancel) for _ in range(threads)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        said["same after"] += pipeline.generate("a red circle", **SMALL).images[0].tobytes() == first
    try:
        pipeline.generate("x")
    except ClosedError:
        said["closed"] += 1
    return said


def flat(first: tuple[float, int, int], last: tuple[float, int, int]) -> bool:
    return last[0] < first[0] + 16 and last[1] <= first[1] and last[2] <= first[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15)
    given = parser.parse_args()
    first, last = cycles(given.cycles)
    names = ("MB", "files", "threads")
    told = ", ".join(f"{before:.0f} to {after:.0f} {name}" for name, before, after in zip(names, first, last))
    print(f"{given.cycles} cycles: {told}")
    said = storm(given.seconds)
    print(f"storm: {dict(said)}")
    held_all = flat(first, last) and said["same after"] == said["closed"] == 1 and not said["differs"]
    return 0 if held_all and not any(what.startswith("foreign") for what in said) else 1


if __name__ == "__main__":
    sys.exit(main())
