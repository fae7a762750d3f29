"""The memory planner without a model: numbers in, a plan out; no weights and no device are needed.

Terms: a stage is the smallest piece of a network that runs alone with its own weights. A segment is a series of stages that
run as one graph. Resident weights stay on the device; streamed ones are uploaded each time they are needed, into slots that
they share. The workspace is the memory that computing takes. A carry is a value that lives from one segment to a later one. A
microbatch is one image's cond or uncond half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdcpp_py import _engine, options

POLICIES = options.PLAN["policy"].choices
_MAX_BYTES = 2**48
_MIB = 2**20


@dataclass(frozen=True)
class Stage:
    """A stage's sizes: bytes of one microbatch, as stored on the device."""

    name: str
    param_bytes: int  #: weights
    compute_bytes: int  #: workspace, without weights and carries
    carry_in_bytes: int  #: values from earlier stages
    carry_out_bytes: int  #: values that later stages need
    extra_bytes: int = 0  #: other inputs: inside compute_bytes already; the policies full and capped reserve them once more
    seconds: float = 0.0  #: compute of one microbatch
    parts: tuple[int, ...] = field(default=(), repr=False)  #: bytes that can be streamed alone; (): all or nothing
    same_block: bool = False  #: as the stage before: the policies full and capped do not cut there, gpu_layers counts both as one


@dataclass(frozen=True)
class Segment:
    """Stages first to last, both included, that run as one graph."""

    first: int
    last: int
    param_bytes: int
    compute_bytes: int
    footprint_bytes: int  #: weights, workspace and carries
    streamed_bytes: int  #: its weights that are uploaded for each run
    resident: bool  #: all of its stages are; else see `Plan.resident_stages`
    slot: int | None  #: the streamed weights' slot
    upload_seconds: tuple[float, float]  #: start and end in a steady step; the start may lie before the step's
    compute_span: tuple[float, float]  #: start and end in a steady step, seconds


@dataclass(frozen=True)
class Piece:
    """Weights of one stage that are uploaded as one, in each pass."""

    segment: int
    stage: int
    bytes: int
    offset: int  #: within all slots, which lie one behind the other
    upload_seconds: tuple[float, float]  #: start and end in a steady pass


@dataclass(frozen=True, repr=False)
class Plan:
    """The weights that stay, the weights that are streamed, and the cost; `str()` gives a table."""

    policy: str
    stages: tuple[Stage, ...] = field(repr=False)
    segments: tuple[Segment, ...]
    pieces: tuple[Piece, ...] = field(repr=False)  #: in the order of their uploads
    resident_stages: tuple[int, ...]  #: stages whose weights all stay
    streamed_stage_bytes: tuple[int, ...]  #: each stage's, uploaded for each pass
    resident_bytes: int
    streamed_bytes_per_step: int
    peak_bytes: int  #: weights, slots, workspace and carries at the worst moment
    workspace_bytes: int
    carry_bytes: int
    slots: tuple[int, ...]  #: bytes of each; the only slot of "pipelined" is a ring
    together: int  #: microbatches that go through a stage before the next stage's turn
    group: int  #: microbatches in one graph
    passes: int  #: through all segments in one step
    predicted_step_seconds: float
    limit_step_seconds: float  #: no plan under this budget can be faster

    @property
    def is_ring(self) -> bool:
        """Whether what is streamed goes round one piece of memory, and not through slots in turn."""
        return self.policy == "pipelined" and len(self.slots) == 1

    def __repr__(self) -> str:
        """Tell the plan in a line."""
        sizes = f"{self.resident_bytes / _MIB:.1f} MiB stay, {self.streamed_bytes_per_step / _MIB:.1f} MiB streamed a step"
        return f"<Plan {self.policy}: {len(self.segments)} segments, {sizes}, {self.predicted_step_seconds:.4g} s a step>"

    def __str__(self) -> str:
        """The summary and a table of segments."""
        head = self.summary()
        networks, names = zip(*(stage.name.partition(".")[::2] for stage in self.stages))
        network = f"{networks[0]}." if len(set(networks)) == 1 and not any(name.isdigit() for name in names) else ""
        rows = [f"{'segment':40} {'weights':>12} {'footprint':>12}  where"]
        for s in self.segments:
            first, last = (self.stages[i].name.removeprefix(network) for i in (s.first, s.last))
            name = first + (f" .. {last}" if s.last > s.first else "")
            place = "ring" if self.is_ring else f"slot {s.slot}"
            if s.resident:
                where = "resident"
            elif s.streamed_bytes < s.param_bytes:
                where = f"{place}, {(s.param_bytes - s.streamed_bytes) / _MIB:.1f} MiB of it resident"
            else:
                where = place
            rows.append(f"{name:40.40} {s.param_bytes / _MIB:8.1f} MiB {s.footprint_bytes / _MIB:8.1f} MiB  {where}")
        return head + "\n" + "\n".join(rows)

    def summary(self) -> str:
        """Five lines: policy, memory, streaming, order and times."""
        size = f"{sum(self.slots) / _MIB:.1f} MiB"
        kind = f"a ring of {size}" if self.is_ring else f"{len(self.slots)} slots of together {size}"
        slots = kind if self.slots else "no slots"
        ratio = self.predicted_step_seconds / self.limit_step_seconds if self.limit_step_seconds > 0 else 1.0
        return (
            f"policy {self.policy}: {len(self.segments)} segments of {len(self.stages)} stages, {slots}\n"
            f"resident {self.resident_bytes / _MIB:.1f} MiB in {len(self.resident_stages)} stages, "
            f"streamed {self.streamed_bytes_per_step / _MIB:.1f} MiB a step\n"
            f"peak {self.peak_bytes / _MIB:.1f} MiB: workspace {self.workspace_bytes / _MIB:.1f}, "
            f"carries {self.carry_bytes / _MIB:.1f}, the rest weights\n"
            f"{self.together} microbatches stage by stage, {self.group} in a graph, {self.passes} passes a step\n"
            f"predicted {self.predicted_step_seconds:.4g} s a step, limit {self.limit_step_seconds:.4g} s ({ratio:.2f}x)"
        )


def plan(
    stages: Sequence[Stage],
    *,
    budget_bytes: int,
    policy: str = "auto",
    stream_layers: bool = True,
    offload_to_cpu: bool = True,
    link_bytes_per_s: float = 12e9,
    microbatches: int = 1,
    dispatch_seconds: float = 0.0,
    gpu_layers: int | None = None,
) -> Plan:
    """Plan how ``stages``, run in order, use ``budget_bytes`` of device memory (0: no budget, all is resident).

    ``policy``: "pipelined" streams single stages through a ring without pause; "full" and "capped" follow the published rules of
    stable-diffusion.cpp; "capped+prefetch" uploads one segment ahead, for comparison; "auto" is the fastest of the first
    three. Streaming needs ``stream_layers``, ``offload_to_cpu`` and a budget. ``link_bytes_per_s`` is the speed of uploads,
    ``dispatch_seconds`` the cost of starting a graph, ``gpu_layers`` the most blocks that may be resident.

    The result is the same for the same arguments. Raises OverBudgetError if nothing fits, InvalidArgumentError.
    """
    given = options.given(options.PLAN, locals())
    records = []
    for stage in stages:
        sizes = {
            name: options.integer(f"{stage.name}: {name}", getattr(stage, name), 0, _MAX_BYTES)
            for name in ("param_bytes", "compute_bytes", "carry_in_bytes", "carry_out_bytes", "extra_bytes")
        }
        parts = [options.integer(f"{stage.name}: parts", part, 0, _MAX_BYTES) for part in stage.parts]
        seconds = options.real(f"{stage.name}: seconds", stage.seconds, 0.0, 1e9)
        same = bool(stage.same_block)
        records.append({"name": stage.name, **sizes, "parts": parts, "seconds": seconds, "same_block": same})
    return of_engine(_engine.plan(records, options.checked(options.PLAN, given)))


def of_engine(found: Mapping[str, Any]) -> Plan:
    """A plan as the engine reports it."""

    def with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
        return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}

    lists = {
        "stages": tuple(Stage(**with_tuples(stage)) for stage in found["stages"]),
        "segments": tuple(Segment(**with_tuples(segment)) for segment in found["segments"]),
        "pieces": tuple(Piece(**with_tuples(piece)) for piece in found["pieces"]),
    }
    return Plan(**{**with_tuples(found), **lists})
