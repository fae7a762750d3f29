"""kill -9 at random moments of `sdcpp generate`, `sdcpp convert` and a save: the old file whole, or the new one whole.

usage: python tests/faults/kills.py [--times N] [--signal KILL]

Each process writes over a file that is there. After it has gone the file must be one or the other, and what a killed process left
must go with the next run.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from PIL import Image

WORKS = ("generate", "convert", "save")
SAVE = """
import sys
import numpy as np
from PIL import Image
import sdcpp_py
image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), np.uint8))
print("begun", flush=True)
for _ in range(1000):
    sdcpp_py.save(image, sys.argv[1])
"""


def command(work: str, target: Path) -> list[str]:
    if work == "save":
        return [sys.executable, "-c", SAVE, str(target)]
    own = [sys.executable, "-m", "sdcpp_py"]
    if work == "convert":
        from sdcpp_py.pipeline import embedded_model

        return [*own, "convert", "-m", str(embedded_model()), "-o", str(target), "--type", "q8_0"]
    return [
        *own,
        "generate",
        "a red circle",
        "-W",
        "64",
        "-H",
        "64",
        "--steps",
        "2",
        "-s",
        "1",
        "-o",
        str(target),
        "--no-progress",
    ]


def whole(work: str, target: Path) -> bool:
    """Whether the file can be read to its end."""
    try:
        if work == "convert":
            import sdcpp_py

            return bool(sdcpp_py.summarize(target).tensors)
        with Image.open(target) as image:
            image.load()
    except Exception:
        return False
    return True


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.endswith(".part")]


def attempt(work: str, folder: Path, after: float, number: int) -> tuple[str, bool]:
    """What became of the file, and whether the process left a temporary one."""
    target = folder / ("x.gguf" if work == "convert" else "x.png")
    before = target.read_bytes()
    process = subprocess.Popen(command(work, target), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if work == "save" and process.stdout is not None:
        process.stdout.readline()
    time.sleep(after)
    process.send_signal(number)
    process.communicate()
    if target.read_bytes() == before:
        return "old", bool(leftovers(folder))
    return ("new" if whole(work, target) else "damaged"), bool(leftovers(folder))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=200, help="in all")
    parser.add_argument("--signal", default="KILL")
    parser.add_argument("--works", nargs="*", default=WORKS)
    given = parser.parse_args()
    number = signal.Signals[f"SIG{given.signal}"]
    random.seed(1)
    counts: Counter[str] = Counter()
    left = 0
    stayed: list[str] = []
    for work in given.works:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            target = folder / ("x.gguf" if work == "convert" else "x.png")
            if work == "save":
                Image.new("RGB", (8, 8)).save(target)
                seconds = 1.0
            else:
                start = time.monotonic()
                subprocess.run(command(work, target), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                seconds = time.monotonic() - start
            for _ in range(given.times // len(given.works)):
                if work != "save":  # another old file, so that it is told from the new one
                    with target.open("r+b") as file:
                        file.seek(0, os.SEEK_END)
                        file.write(b"\0")
                what, has_left = attempt(work, folder, random.random() * seconds, number)
                counts[f"{work}: {what}"] += 1
                left += has_left
            subprocess.run(command(work, target), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) if (
                work != "save"
            ) else subprocess.run(
                [sys.executable, "-c", SAVE.replace("1000", "1"), str(target)], check=True, stdout=subprocess.DEVNULL
            )
            stayed += map(str, leftovers(folder))
    print(f"{sum(counts.values())} times SIG{given.signal}: {dict(counts)}; {left} left a temporary file, {len(stayed)} stayed")
    return 1 if stayed or any(what.endswith("damaged") for what in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
