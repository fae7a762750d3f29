"""One measured run of a network: times, bytes and memory, as a row for a JSON file."""

from __future__ import annotations

import hashlib
import platform
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gpu_models import Job, Models
from numpy.typing import NDArray

import sdcpp_py
from sdcpp_py import errors
from sdcpp_py._version import __version__, ggml_version

GIB = 2**30
_WARM_STEPS = 3  # the first loads; then the backend records its graphs
_SETTLING_STEPS = 13  # under a budget: plans learn from their second and fifth runs, and two new ones may follow
_SLOW_SECONDS = 2.0
_SAMPLE_SECONDS = 0.004

Row = dict[str, Any]


class Card:
    """The driver's facts about the device; nothing if it is no GPU of NVIDIA's, or if pynvml is missing."""

    def __init__(self, device: str) -> None:
        self.name = device.partition(":")[0]
        self._nvml: Any = None
        if self.name.upper().startswith("CUDA"):
            try:
                import pynvml

                pynvml.nvmlInit()
                self._handle = pynvml.nvmlDeviceGetHandleByIndex(int(self.name[4:] or 0))
                self._nvml = pynvml
            except Exception:  # without the driver's numbers the others are still worth having
                self._nvml = None

    def used(self) -> int | None:
        """Bytes of the device's memory that are taken, by whomever."""
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used) if self._nvml else None

    def facts(self) -> Row:
        """The fields of every row."""
        known = {one.name.lower(): one.description for one in sdcpp_py.devices()}
        facts: Row = {"card": known.get(self.name.lower(), self.name), "driver": None}
        if self._nvml:
            facts |= {"card": _text(self._nvml.nvmlDeviceGetName(self._handle))}
            facts |= {"driver": _text(self._nvml.nvmlSystemGetDriverVersion())}
        return facts | {"ggml": ggml_version, "version": __version__}

    def environment(self) -> Row:
        """The machine as it was found."""
        out: Row = {"system": platform.platform(), "python": platform.python_version(), **self.facts()}
        if self._nvml:
            asked = {
                "pcie_generation": lambda n, h: n.nvmlDeviceGetCurrPcieLinkGeneration(h),
                "pcie_width": lambda n, h: n.nvmlDeviceGetCurrPcieLinkWidth(h),
                "sm_mhz": lambda n, h: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM),
                "sm_mhz_at_most": lambda n, h: n.nvmlDeviceGetMaxClockInfo(h, n.NVML_CLOCK_SM),
                "memory_mhz": lambda n, h: n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_MEM),
                "total_bytes": lambda n, h: n.nvmlDeviceGetMemoryInfo(h).total,
            }
            for name, ask in asked.items():
                try:
                    out[name] = ask(self._nvml, self._handle)
                except Exception:  # virtual machines hide some of these
                    out[name] = None
        return out

    @contextmanager
    def watch(self) -> Iterator[dict[str, int | None]]:
        """Poll the memory that is taken; "before" and "peak" are there at the end."""
        seen: dict[str, int | None] = {"before": self.used(), "peak": self.used()}
        if not self._nvml:
            yield seen
            return
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(_SAMPLE_SECONDS):
                seen["peak"] = max(seen["peak"] or 0, self.used() or 0)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            seen["peak"] = max(seen["peak"] or 0, self.used() or 0)
            stop.set()
            thread.join()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@dataclass
class Bench:
    """The base of all stages."""

    device: str
    models: Models
    out: Path
    ends: float  #: by time.time()
    card: Card = field(init=False)
    _least: dict[tuple[Job, str], float] = field(default_factory=dict, init=False)
    _whole: dict[Job, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.card = Card(self.device)
        self.facts = self.card.facts()

    @property
    def can_pace(self) -> bool:
        """Whether uploads can be slowed down: the processor has none."""
        return self.device.upper() != "CPU"

    def paced(self, link: float | None) -> str:
        """The device with uploads at ``link`` GB/s; None: as fast as they go."""
        if link is None or not self.can_pace:
            return self.device
        return f"{self.device}{',' if ':' in self.device else ':'}link={link:g}"

    def least(self, job: Job, policy: str = "auto") -> float:
        """The smallest budget that is enough for the job, GiB."""
        if (job, policy) not in self._least:
            with self.open(job, max_vram=1e-5, plan_policy=policy) as pipeline:
                try:
                    pipeline.evaluate(job.network, **self.models.inputs(job))
                    self._least[job, policy] = 1e-5
                except errors.OverBudgetError as problem:
                    self._least[job, policy] = problem.least_bytes / GIB
        return self._least[job, policy]

    def whole(self, job: Job) -> float:
        """The job's memory if everything is resident, GiB."""
        if job not in self._whole:
            with self.open(job, max_vram=0) as pipeline:
                pipeline.evaluate(job.network, **self.models.inputs(job))
                stages, held = pipeline._reports()[job.network].plan.stages, pipeline.take_memory()
                weights = sum(stage.param_bytes for stage in stages)  # the processor has them mapped, and does not count them
                self._whole[job] = (held["peak"] + max(0, weights - held["weights"])) / GIB
        return self._whole[job]

    def spread(self, job: Job, count: int, policy: str = "auto") -> list[float]:
        """Budgets from the least to nearly all, GiB."""
        first = self.least(job, policy) * 1.01
        return [first + (self.whole(job) * 0.98 - first) * number / max(count - 1, 1) for number in range(count)]

    def budget(self, job: Job, gib: float, all_gib: float) -> float:
        """``gib`` as it is. On the tiny scale it is as far between the least and the whole as ``gib`` is in ``all_gib``."""
        if self.models.scale == "true":
            return gib
        least = self.least(job)
        return least * 1.01 + (self.whole(job) - least) * min(1.0, gib / all_gib)

    def open(self, job: Job, *, link: float | None = None, **options: Any) -> sdcpp_py.Pipeline:
        """The job's model on the device."""
        return sdcpp_py.Pipeline(device=self.paced(link), **self.models.options(job), **options)


def fingerprint(output: NDArray[np.float32]) -> str:
    """Equal for the same values bit for bit."""
    return hashlib.sha1(output.tobytes()).hexdigest()[:16]


def job_facts(bench: Bench, job: Job, budget_gib: float | None, link: float | None, policy: str) -> Row:
    """The columns that say what was measured."""
    return {
        **bench.facts,
        "device": bench.device,
        "model": job.model,
        "network": job.network,
        "dtype": job.dtype,
        "width": job.width,
        "height": job.height,
        "batch": job.batch,
        "scale": bench.models.scale,
        "budget_gib": budget_gib,
        "link_gb_per_s": link if bench.can_pace else None,
        "policy": policy,
    }


@dataclass
class _Steps:
    """Reports of single steps."""

    reports: list[Any] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def middle(self, name: str) -> float:
        return statistics.median(getattr(report, name) for report in self.reports)


def measure(
    bench: Bench,
    job: Job,
    *,
    budget_gib: float | None = None,
    link: float | None = None,
    policy: str = "auto",
    steps: int = 5,
) -> Row:
    """Open the job's model, warm up, and run ``steps`` steps; a budget of None keeps everything resident."""
    inputs = bench.models.inputs(job)
    row = job_facts(bench, job, budget_gib, link, policy)
    measured = _Steps()
    with bench.card.watch() as memory:
        start = time.perf_counter()
        with bench.open(job, link=link, max_vram=budget_gib or 0, plan_policy=policy) as pipeline:
            row["open_seconds"] = time.perf_counter() - start

            def step() -> NDArray[np.float32]:
                begin = time.perf_counter()
                output = pipeline.evaluate(job.network, **inputs)
                measured.wall.append(time.perf_counter() - begin)
                return output

            first = step()
            row["first_seconds"] = measured.wall[0]
            while len(measured.wall) < (_WARM_STEPS if budget_gib is None else _SETTLING_STEPS):
                step()
            report = pipeline._reports()[job.network]
            slow = measured.wall[-1] > _SLOW_SECONDS
            measured.wall.clear()
            for _ in range(min(steps, 2) if slow else steps):
                output = step()
                measured.reports.append(pipeline._reports()[job.network])
            held = pipeline.take_memory()
    row |= _row_of(measured, held, memory, bench.card)
    if budget_gib is not None:
        row |= {"engine_share": row["engine_peak_bytes"] / (budget_gib * GIB)}
        if row["driver_peak_bytes"] is not None:
            taken = row["driver_peak_bytes"] - row["driver_before_bytes"]
            excess = (taken - budget_gib * GIB) / 2**20
            row |= {"taken_bytes": taken, "excess_mib": excess, "used_share": taken / (budget_gib * GIB)}
    row |= {"replanned": report.replanned, "finite": bool(np.isfinite(output).all())}
    return row | {"fingerprint": fingerprint(output), "steps_agree": bool(np.array_equal(first, output))}


def _row_of(measured: _Steps, held: dict[str, int], memory: dict[str, int | None], card: Card) -> Row:
    plan = measured.reports[-1].plan
    seconds = [report.seconds for report in measured.reports]
    uploaded, link_time = measured.middle("uploaded_bytes"), measured.middle("upload_seconds")
    return {
        "steps": len(seconds),
        "seconds": statistics.median(seconds),
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "wall_seconds": statistics.median(measured.wall),
        "predicted_seconds": plan.predicted_step_seconds,
        "bound_seconds": plan.limit_step_seconds,
        "compute_seconds": measured.middle("compute_seconds"),
        "stall_seconds": measured.middle("stall_seconds"),
        "upload_seconds": link_time,
        "upload_gb_per_s": uploaded / link_time / 1e9 if link_time > 0 else None,
        "uploaded_bytes": uploaded,
        "streamed_bytes": plan.streamed_bytes_per_step,
        "resident_bytes": plan.resident_bytes,
        "weight_bytes": sum(stage.param_bytes for stage in plan.stages),
        "plan_policy": plan.policy,
        "plan_peak_bytes": plan.peak_bytes,
        "workspace_bytes": plan.workspace_bytes,
        "slot_bytes": sum(plan.slots),
        "segments": len(plan.segments),
        "together": plan.together,
        "passes": plan.passes,
        "engine_peak_bytes": held["peak"],
        "driver_before_bytes": memory["before"],
        "driver_peak_bytes": memory["peak"],
        "driver_after_bytes": card.used(),
    }
