"""Text to picture, as a user meets it: the embedded model as a whole process, and a true-size Stable Diffusion 1.5.

usage: python benchmarks/text_to_image.py [--sd15 FILE] [--rounds N] [--json FILE]
`--sd15` names a checkpoint written by `python benchmarks/random_sd15.py FILE` (random weights, 2.1 GB). Figures are medians;
the networks' own speed is what `cpu.py` measures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "a red circle left of a blue square on a white background"


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def child(command: list[str], folder: str) -> tuple[float, float]:
    """Wall seconds and peak resident MB of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1000


def embedded(rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        generate = [sys.executable, "-m", "sdcpp_py", "generate", PROMPT, "-s", "1"]
        bare = [sys.executable, "-c", "pass"]
        imports = [sys.executable, "-c", "import sdcpp_py"]
        child(generate, folder)
        runs = [(child(generate, folder), child(imports, folder), child(bare, folder)) for _ in range(rounds)]
    return {
        "picture, whole process (s)": statistics.median(run[0][0] for run in runs),
        "picture, peak resident memory (MB)": statistics.median(run[0][1] for run in runs),
        "import sdcpp_py (s)": statistics.median(run[1][0] - run[2][0] for run in runs),
    }


def first_step(path: Path, rounds: int) -> dict[str, float]:
    import sdcpp_py

    opening, encoding = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        pipeline = sdcpp_py.Pipeline(path)
        opening.append(time.perf_counter() - start)
        result = pipeline.generate(PROMPT, width=64, height=64, steps=1, seed=1)
        encoding.append(result.timings["encode"])
        pipeline.close()
    first = [a + b for a, b in zip(opening, encoding)]
    return {"open the files (s)": statistics.median(opening), "open and read both prompts (s)": statistics.median(first)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sd15", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = embedded(options.rounds)
    if options.sd15:
        figures |= first_step(options.sd15, options.rounds)
    print(f"{processor()}, {os.cpu_count()} cores")
    for name, value in figures.items():
        print(f"  {name:44} {value:10.2f}")
    if options.json:
        options.json.write_text(json.dumps({"processor": processor(), "cores": os.cpu_count(), "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
