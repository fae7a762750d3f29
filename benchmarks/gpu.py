"""Streaming, planner and memory budget on a GPU: stages M0 to M12, each into a JSON file of its own.

usage: python benchmarks/gpu.py --device CUDA0 --out FOLDER [--stages m0,m4] [--scale tiny|true] [--budget-seconds 420]

Random weights of true size, 57 GB for all stages, are written into --models when a stage needs them. Rows are kept as soon as
they are measured. A complete stage is skipped on the next start; another goes on. Each stage is a process of its own, so
that a crash costs one row. The JSON names what --budget-seconds left no time for. `--scale tiny` tries everything in a minute,
also on `--device simulated` and `--device CPU`. A row's seconds are the median of its steps.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gpu_models import SCALES, Job, Models
from gpu_record import Record
from gpu_stages import STAGES, Stage
from gpu_summary import summarize, table

_MAX_STARTS = 4  # a stage's, after crashes
_GRACE_SECONDS = 20.0  # beyond a stage's time, for the case under way
_LEAST_SECONDS = 3.0  # a stage with less is not begun


def write_weights(models: Models, jobs: tuple[Job, ...], out: Path) -> None:
    """The files that the jobs need, with the time that each took."""
    record = Record.of(out, "weights")
    record.start("random weights", {})
    for job in jobs:
        case = f"{job.model} {job.network} {job.dtype}"
        start = time.perf_counter()
        size = sum(path.stat().st_size for path in models.files(job))
        if not record.has(case):
            record.add(case, [{"bytes": size, "seconds_to_write": time.perf_counter() - start}], time.perf_counter() - start)
    record.finish()


def run_stage(name: str, stage: Stage, options: argparse.Namespace, ends: float) -> int:
    """Start the stage's process, again after a crash; its last exit status."""
    command = [sys.executable, str(Path(__file__).with_name("gpu_stages.py")), name]
    command += ["--device", options.device, "--out", str(options.out), "--models", str(options.models)]
    command += ["--scale", options.scale, "--ends", str(ends)]
    environment = {"SDCPP_CACHE": str(options.out / "cache"), **os.environ, **stage.environment}
    late = min(ends, time.time() + stage.limit_seconds) + _GRACE_SECONDS
    status = 0
    for _ in range(_MAX_STARTS):
        with (options.out / f"{name}.log").open("a") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                status = process.wait(max(1.0, late - time.time()))
                why = f"the process ended with status {status}"
            except subprocess.TimeoutExpired:
                process.kill()
                status, why = process.wait(), "stopped: it took too long"
        if status == 0 or not (options.out / f"{name}.json").exists():
            break
        Record.of(options.out, name).crashed(why)
        if time.time() >= min(ends, late - _GRACE_SECONDS):
            break
    return status


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stages", default=",".join(STAGES), help=f"{', '.join(STAGES)}; the summary, m10, is always made")
    parser.add_argument("--scale", choices=SCALES, default="true")
    parser.add_argument("--budget-seconds", type=float, default=420)
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "sdcpp-random-weights")
    options = parser.parse_args()
    wanted = [name for name in options.stages.split(",") if name and name != "m10"]
    if unknown := [name for name in wanted if name not in STAGES]:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)} and m10")
    options.out, options.models = options.out.resolve(), options.models.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    ends = time.time() + options.budget_seconds
    models = Models(options.models, options.scale)
    for name in wanted:
        stage, start = STAGES[name], time.perf_counter()
        if Record.of(options.out, name).complete:
            print(f"{name}: complete already", flush=True)
            continue
        if time.time() + _LEAST_SECONDS > ends:
            print(f"{name}: no time left", flush=True)
            Record.of(options.out, name).leave_out("no time left")
            continue
        write_weights(models, stage.needs, options.out)
        written = time.perf_counter() - start
        status = run_stage(name, stage, options, ends)
        record = Record.of(options.out, name)
        state = "complete" if record.complete else f"not complete, status {status}, {len(record.content['skipped'])} left out"
        spent = time.perf_counter() - start
        print(f"{name}: {stage.title}: {len(record.rows)} rows, {spent:.1f} s ({written:.1f} s for weights), {state}", flush=True)
    print(table(summarize(options.out, [name for name in STAGES if (options.out / f"{name}.json").exists()])))


if __name__ == "__main__":
    main()
