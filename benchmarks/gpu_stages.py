"""The stages of gpu.py: what each measures, case by case; and the process that runs one of them.

A case is a name, and a function with its arguments that gives a row or several. The most telling ones come first, because a stage
may be cut short. A new stage is a generator of cases and an entry in `STAGES`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gpu_measure import Bench, Row, fingerprint, job_facts, measure
from gpu_models import SCALES, Job, Models, drop_from_cache
from gpu_record import Record

import sdcpp_py
from sdcpp_py import _blas, _engine, errors

Case = tuple[str, Callable[..., Row | list[Row]], tuple[Any, ...]]

POLICIES = ("pipelined", "capped", "full")
LINKS = (22.0, 12.0, 6.5)  # GB/s: an RTX 3060, a laptop with eight lanes of PCIe 4, OCuLink
WHOLE_GIB = {"z-image": 11.8, "flux": 23.0}  # weights and workspace; the tiny scale's budgets are in proportion to it

DIT = Job("z-image", "z_image", 1024, 1024)
DIT_PAIR = Job("z-image", "z_image", 1024, 688, batch=2)
FLUX = Job("flux", "flux", 1024, 1024)
SDXL = Job("sdxl", "unet", 1024, 1024)
SDXL_GUIDED = Job("sdxl", "unet", 1024, 1024, batch=2)
SD15 = Job("sd15", "unet", 512, 512)
SD15_GUIDED = Job("sd15", "unet", 512, 512, batch=2)
VAE = Job("sdxl", "vae.decoder", 1024, 1024)
LLM = Job("z-image", "llm")
IDENTITY = tuple(
    Job(model, "unet", 256, 256, dtype=dtype)
    for model, dtype in (
        ("sd15", "bf16"),
        ("sd15", "q8_0"),
        ("sdxl", "bf16"),
        ("sd15", "f16"),
        ("sd15", "q4_K"),
        ("sdxl", "q8_0"),
    )
)


def link_and_launch(bench: Bench) -> Iterator[Case]:
    """M0: what link and card do by themselves, and what is taken before there is a model."""
    yield "memory without a model", memory_without_model, (bench,)  # first: it begins without a context
    yield "PyTorch's link and launch", beside, (bench, "link")
    for link in (None, *LINKS) if bench.can_pace else (None,):
        yield f"the engine's own measurement, link {link}", engine_speed, (bench, link)


def beside(bench: Bench, what: str) -> list[Row]:
    """PyTorch in a process of its own, so that neither sees the other's libraries or memory."""
    script = Path(__file__).with_name("gpu_torch.py")
    command = [sys.executable, str(script), what, "--scale", bench.models.scale, "--device", bench.device]
    limit = max(10.0, bench.ends - time.time())
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        text, problem = output.stdout, output.stderr[-400:] if output.returncode else None
    except subprocess.TimeoutExpired as late:
        text, problem = late.stdout or b"", f"stopped after {limit:.0f} s"
        text = text.decode() if isinstance(text, bytes) else text
    rows = [bench.facts | json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [*rows, {"error": problem}] if problem else rows


def engine_speed(bench: Bench, link: float | None) -> Row:
    library, _ = _blas.choose()
    flops, speed = _engine.device_speed(bench.paced(link), 0, library.encode())
    return bench.facts | {"link_gb_per_s": link, "tflops": flops / 1e12, "measured_gb_per_s": speed / 1e9}


def memory_without_model(bench: Bench) -> Row:
    """The driver's count after a first computation: the context, and the embedded model's few MiB."""
    before = bench.card.used()
    with sdcpp_py.Pipeline(device=bench.device, max_vram=0) as pipeline:
        opened = bench.card.used()
        x, context = np.zeros((1, 4, 16, 16), np.float32), np.zeros((1, 77, 96), np.float32)
        pipeline.evaluate("unet", x=x, timesteps=np.full(1, 500.0), context=context)
        computed, held = bench.card.used(), pipeline.take_memory()["peak"]
    row = {"driver_before_bytes": before, "driver_opened_bytes": opened, "driver_computed_bytes": computed}
    return bench.facts | row | {"engine_peak_bytes": held, "driver_after_bytes": bench.card.used()}


def bit_identity(bench: Bench) -> Iterator[Case]:
    """M1: streamed as resident, by every policy, type and budget; differences are data."""
    for job in IDENTITY:
        resident: list[np.ndarray] = []
        for policy in POLICIES:
            for number in range(5):
                yield f"{job}, {policy}, budget {number + 1} of 5", identical, (bench, job, policy, number, resident)


def identical(bench: Bench, job: Job, policy: str, number: int, resident: list[np.ndarray]) -> Row:
    """Three runs under a budget, and one without; `resident` keeps the latter's output."""
    inputs = bench.models.inputs(job)
    if not resident:
        with bench.open(job, max_vram=0) as pipeline:
            resident.append(pipeline.evaluate(job.network, **inputs))
    budget = bench.spread(job, 5, policy)[number]
    with bench.open(job, max_vram=budget, plan_policy=policy) as pipeline:
        outputs = [pipeline.evaluate(job.network, **inputs) for _ in range(3)]
        plan = pipeline._reports()[job.network].plan
        held = pipeline.take_memory()["peak"]
    row = job_facts(bench, job, budget, None, policy)
    row |= {"identical": all(np.array_equal(output, resident[0]) for output in outputs)}
    row |= {"identical_runs": [bool(np.array_equal(output, resident[0])) for output in outputs]}
    row |= {"difference": float(max(np.abs(output - resident[0]).max() for output in outputs))}
    row |= {"largest": float(np.abs(resident[0]).max()), "finite": bool(np.isfinite(resident[0]).all())}
    row |= {"streamed_bytes": plan.streamed_bytes_per_step, "segments": len(plan.segments), "plan_policy": plan.policy}
    return row | {"engine_peak_bytes": held, "fingerprint": fingerprint(outputs[-1])}


def budgets_kept(bench: Bench) -> Iterator[Case]:
    """M2: the driver's count of memory, compared with the budget."""
    order = sorted(range(20), key=lambda number: (number % 4, number))  # all of the range first, then what lies between
    for number in order:
        yield f"{SDXL}, budget {number + 1} of 20", kept, (bench, number)


def kept(bench: Bench, number: int) -> Row:
    return measure(bench, SDXL, budget_gib=bench.spread(SDXL, 20)[number], steps=2)


def budget_of(bench: Bench, job: Job, gib: float | None) -> float | None:
    """A budget of the true scale, on the scale of the run."""
    return None if gib is None else bench.budget(job, gib, WHOLE_GIB.get(job.model, WHOLE_GIB["z-image"]))


def timed(bench: Bench, job: Job, gib: float | None = None, link: float | None = None) -> Row:
    """A row of the stages that measure time; ``gib`` is of the true scale."""
    return measure(bench, job, budget_gib=budget_of(bench, job, gib), link=link)


def timed_cases(bench: Bench, job: Job, wanted: list[tuple[float | None, float | None]]) -> Iterator[Case]:
    """One case for each budget (None: resident) and link (None: as it is)."""
    for gib, link in wanted:
        if link is not None and not bench.can_pace:
            continue
        place = "resident" if gib is None else f"{gib:g} GiB"
        name = f"{job}, {place}" + ("" if link is None else f", {link:g} GB/s")
        yield name, timed, (bench, job, gib, link)


def published_workloads(bench: Bench) -> Iterator[Case]:
    """M3: Z-Image at the sizes that others have published times of, over its resident time."""
    yield from timed_cases(bench, DIT_PAIR, [(None, None), (7, 22), (10.6, 22)])
    yield from timed_cases(bench, DIT, [(None, None), (4, None), (2, None), (8, 22), (4, 22), (8, 12), (8, 6.5)])


def largest_transformer(bench: Bench) -> Iterator[Case]:
    """M4: the largest transformer there is, FLUX.1's, by budget and link."""
    wanted = [(None, None), (8, None), (4, None), (16, None), (2, None), (16, 22), (8, 22), (16, 12), (16, 6.5), (1.5, None)]
    rest = [(gib, link) for link in LINKS for gib in (4, 2, 8) if (gib, link) not in wanted]
    yield from timed_cases(bench, FLUX, [*wanted, *rest])


def text_encoder(bench: Bench) -> Iterator[Case]:
    """M7: a language model of 4 G parameters, one pass over 256 tokens."""
    yield from timed_cases(bench, LLM, [(None, None), (1, None), (4, None), (2, None), (0.6, None)])


def resident_networks(bench: Bench) -> Iterator[Case]:
    """M8: nothing streamed; to be compared with M11."""
    for job in (SDXL_GUIDED, SDXL, VAE, SD15, SD15_GUIDED):
        yield from timed_cases(bench, job, [(None, None)])


def first_steps(bench: Bench) -> Iterator[Case]:
    """M9: from nothing to the end of the first step, the files in memory and not."""
    for job in (SDXL, DIT):
        for gib in (4, None):
            for cold in (False, True):
                name = f"{job}, {'resident' if gib is None else f'{gib} GiB'}, page cache {'cold' if cold else 'warm'}"
                yield name, first_step, (bench, job, gib, cold)


def first_step(bench: Bench, job: Job, gib: float | None, cold: bool) -> Row:
    files = bench.models.files(job)
    for path in files:
        if cold:
            drop_from_cache(path)
        else:
            read_through(path)
    budget = budget_of(bench, job, gib)
    row = job_facts(bench, job, budget, None, "auto") | {"cold": cold, "file_bytes": sum(path.stat().st_size for path in files)}
    inputs, start = bench.models.inputs(job), time.perf_counter()
    with bench.open(job, max_vram=budget or 0) as pipeline:
        row["open_seconds"] = time.perf_counter() - start
        for name in ("first_seconds", "second_seconds", "third_seconds"):
            begin = time.perf_counter()
            pipeline.evaluate(job.network, **inputs)
            row[name] = time.perf_counter() - begin
        plan = pipeline._reports()[job.network].plan
    row |= {"streamed_bytes": plan.streamed_bytes_per_step, "resident_bytes": plan.resident_bytes}
    return row | {"to_first_step_seconds": row["open_seconds"] + row["first_seconds"]}


def read_through(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def beside_pytorch(bench: Bench) -> Iterator[Case]:
    """M11: the same networks in diffusers, in the same hour on the same card."""
    yield "PyTorch's networks", beside, (bench, "networks")


def operations(bench: Bench) -> Iterator[Case]:
    """M12: the time of networks by kind of operation."""
    for job in (FLUX, DIT, SDXL_GUIDED, VAE):
        yield f"{job}, by operation", by_operation, (bench, job)


def by_operation(bench: Bench, job: Job) -> list[Row]:
    """The fourth run; each operation is waited for, which takes some 50 us."""
    sums: dict[str, Row] = {}
    inputs = bench.models.inputs(job)
    with bench.open(job, max_vram=0, profile=True) as pipeline:
        for _ in range(4):
            pipeline.take_profile()
            pipeline.evaluate(job.network, **inputs)
        for row in pipeline.take_profile():
            one = sums.setdefault(
                row.operation, {"operation": row.operation, "runs": 0, "seconds": 0.0, "flops": 0.0, "bytes": 0.0}
            )
            for name in ("runs", "seconds", "flops", "bytes"):
                one[name] += getattr(row, name)
    facts = job_facts(bench, job, None, None, "auto")
    return [facts | row for row in sorted(sums.values(), key=lambda row: -row["seconds"])]


@dataclass(frozen=True)
class Stage:
    """Cases, and what must be there before they are run."""

    title: str
    cases: Callable[[Bench], Iterator[Case]]
    limit_seconds: float  #: stages that do not fit are left out
    needs: tuple[Job, ...] = ()
    wakes: bool = True  #: the device's context is made before the first case, so that no row counts it
    environment: dict[str, str] = field(default_factory=dict)


#: In the order in which they are run if none is named.
STAGES: dict[str, Stage] = {
    "m0": Stage("link, launch, memory without a model", link_and_launch, 45, wakes=False),
    "m1": Stage("streamed as resident, bit for bit", bit_identity, 110, IDENTITY),
    "m2": Stage("budget kept, by the driver's count", budgets_kept, 70, (SDXL,)),
    "m8": Stage("resident networks", resident_networks, 45, (SDXL, VAE, SD15)),
    "m4": Stage("the largest transformer, by budget and link", largest_transformer, 180, (FLUX,)),
    "m3": Stage("published workloads", published_workloads, 90, (DIT,)),
    "m9": Stage("time to the first step", first_steps, 80, (SDXL, DIT)),
    "m7": Stage("text encoder", text_encoder, 45, (LLM,)),
    "m11": Stage("PyTorch beside it", beside_pytorch, 120, wakes=False),
    "m12": Stage("time by operation", operations, 60, (FLUX, DIT, SDXL, VAE)),
    "m1-no-graphs": Stage("m1 without CUDA graphs", bit_identity, 45, IDENTITY, environment={"GGML_CUDA_DISABLE_GRAPHS": "1"}),
}


def run(bench: Bench, name: str) -> bool:
    """All cases that the record lacks; whether all have been run."""
    stage, record = STAGES[name], Record.of(bench.out, name)
    record.start(stage.title, bench.card.environment())
    bench.ends = min(bench.ends, time.time() + stage.limit_seconds)
    if stage.wakes:
        with contextlib.suppress(errors.SdcppError):
            engine_speed(bench, None)
    last = 0.0
    for case, function, arguments in stage.cases(bench):
        if record.has(case):
            continue
        if time.time() + last > bench.ends:
            record.skip(case)
            continue
        record.begin(case)
        start = time.perf_counter()
        try:
            found = function(*arguments)
        except errors.OverBudgetError as problem:
            found = {"error": "over budget", "message": str(problem), "least_bytes": problem.least_bytes}
        except Exception as problem:
            found = {"error": type(problem).__name__, "message": str(problem)[:400]}
        last = time.perf_counter() - start
        record.add(case, found if isinstance(found, list) else [found], last)
    return record.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description="Run one stage; gpu.py starts this.")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--scale", choices=SCALES, required=True)
    parser.add_argument("--ends", type=float, required=True)
    options = parser.parse_args()
    bench = Bench(options.device, Models(options.models, options.scale), options.out, options.ends)
    run(bench, options.stage)


if __name__ == "__main__":
    main()
