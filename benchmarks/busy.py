"""The embedded picture on a busy machine: default threads beside one thread, and beside diffusers under the same load.

usage: python benchmarks/busy.py [--rounds N] [--diffusers] [--json FILE] [--only TEXT]

Cases: a quiet machine; one and four busy processes a core; one core alone; twice as many threads as cores; and, if this user may
make a control group, a quota of one processor. Every run is a process of its own; runs with default threads and with one thread
take turns. Figures are medians of the rounds: wall and CPU seconds from the pipeline's opening to the picture, without imports.
`--diffusers` (extra `oracle`) evaluates a UNet of the embedded model's sizes as often. What is asked: under every load, default
threads take at most 1.5 times the CPU time and 1.3 times the wall time of one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from text_to_image import PROMPT, processor

_TIMED = """
import json, resource, sys, time
threads = None if sys.argv[1] == "default" else int(sys.argv[1])
{imports}
def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
wall, used = time.perf_counter(), cpu()
{work}
print(json.dumps([time.perf_counter() - wall, cpu() - used]))
"""
OURS = _TIMED.format(
    imports="import sdcpp_py",
    work=f"sdcpp_py.Pipeline(threads=threads).generate({PROMPT!r}, seed=1, progress=False)",
)
THEIRS = _TIMED.format(
    imports="""
import torch
from diffusers import UNet2DConditionModel
torch.set_grad_enabled(False)
if threads:
    torch.set_num_threads(threads)
unet = UNet2DConditionModel(block_out_channels=(64, 96, 128), layers_per_block=1, cross_attention_dim=96,
    attention_head_dim=(2, 3, 4), norm_num_groups=8,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")).eval()
x, context = torch.randn(2, 4, 16, 16), torch.randn(2, 77, 96)
""",
    work="""
for step in range(20):
    unet(x, 500.0, context)
""",
)
BUSY = "while True: pass"


def timed(code: str, threads: str, enter: str | None, cores: set[int] | None) -> tuple[float, float]:
    """Wall and CPU seconds of a run; ``enter`` is the `cgroup.procs` of a control group to run in, ``cores`` those it may use."""

    def before() -> None:
        if enter:
            Path(enter).write_text(str(os.getpid()))
        if cores:
            os.sched_setaffinity(0, cores)

    out = subprocess.run([sys.executable, "-c", code, threads], preexec_fn=before, check=True, capture_output=True, text=True)
    wall, cpu = json.loads(out.stdout.splitlines()[-1])
    return wall, cpu


@contextlib.contextmanager
def load(processes: int) -> Iterator[None]:
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


@contextlib.contextmanager
def quota() -> Iterator[str | None]:
    """The `cgroup.procs` of a control group that may use one processor; None if this user may not make one."""
    for root, settings in (
        (Path("/sys/fs/cgroup/cpu"), {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "100000"}),
        (Path("/sys/fs/cgroup"), {"cpu.max": "100000 100000"}),
    ):
        group = root / f"sdcpp_busy_{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            try:
                for name, value in settings.items():
                    (group / name).write_text(value)
            except OSError:
                continue
            yield str(group / "cgroup.procs")
            return
        finally:
            group.rmdir()
    yield None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--diffusers", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="cases whose names hold this text")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    print(f"{processor()}, {len(cores)} cores")
    engines = {"ours": OURS} | ({"diffusers": THEIRS} if options.diffusers else {})
    print(f"{'case':28} {'engine':10} {'wall':>8} {'of one':>8} {'ratio':>6} {'CPU':>8} {'of one':>8} {'ratio':>6}")
    rows = []
    with quota() as group:
        cases = [
            ("quiet", 0, "default", None, None),
            ("1 busy process a core", len(cores), "default", None, None),
            ("4 busy processes a core", 4 * len(cores), "default", None, None),
            ("one core", 0, "default", None, {cores[0]}),
            (f"{2 * len(cores)} threads", 0, str(2 * len(cores)), None, None),
        ]
        if group:
            cases.append(("quota of one processor", 0, "default", group, None))
        for name, busy, threads, enter, allowed in cases:
            if options.only not in name:
                continue
            with load(busy):
                for engine, code in engines.items():
                    timed(code, threads, enter, allowed)
                    runs = [
                        (timed(code, threads, enter, allowed), timed(code, "1", enter, allowed)) for _ in range(options.rounds)
                    ]
                    many, one = ([statistics.median(run[i][k] for run in runs) for k in (0, 1)] for i in (0, 1))
                    row = {"case": name, "engine": engine, "wall": many[0], "cpu": many[1], "wall_one": one[0], "cpu_one": one[1]}
                    rows.append(row)
                    walls = f"{many[0]:8.2f} {one[0]:8.2f} {many[0] / one[0]:6.2f}"
                    ratios = f"{walls} {many[1]:8.2f} {one[1]:8.2f} {many[1] / one[1]:6.2f}"
                    print(f"{name:28} {engine:10} {ratios}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
