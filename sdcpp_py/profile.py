"""Where the time of running networks goes: by network, stage and kind of operation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sdcpp_py import _binding
from sdcpp_py._engine import ffi, lib


@dataclass(frozen=True)
class ProfileRow:
    """What operations of one kind took in one stage, all runs together."""

    network: str
    stage: str
    operation: str  #: its kind: one of ggml's (MUL_MAT …) or of the engine's own (linear, attention …)
    runs: int
    seconds: float
    flops: float  #: multiplications and additions; of a Winograd convolution, those of the direct form
    bytes: float  #: of the values read and written


def take(model: Any) -> list[ProfileRow]:
    """The rows that the engine's model has recorded since the last call."""
    out = ffi.new("sdcpp_profile**")
    _binding.call(lib.sdcpp_take_profile, model, out)
    profile = ffi.gc(out[0], lib.sdcpp_profile_free)
    row = ffi.new("sdcpp_profile_row*")
    rows = []
    for index in range(lib.sdcpp_profile_count(profile)):
        _binding.call(lib.sdcpp_profile_get, profile, index, row)
        network, stage, operation = (_binding.text(text) for text in (row.network, row.stage, row.operation))
        rows.append(ProfileRow(network, stage, operation, row.runs, row.seconds, row.flops, row.bytes))
    return rows


def _lines(rows: Iterable[ProfileRow], name: Callable[[ProfileRow], str], whole: float) -> list[str]:
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * 4)
    for row in rows:
        for place, value in enumerate((row.seconds, row.flops, row.bytes, row.runs)):
            sums[name(row)][place] += value
    lines = []
    for key, (seconds, flops, size, runs) in sums.items():
        speed = f"{flops / seconds / 1e9:8.1f} {size / seconds / 1e9:8.1f}" if seconds > 0 else " " * 17
        lines.append(f"  {key:44} {int(runs):6} {seconds:9.3f} {100 * seconds / whole if whole else 0:6.1f}% {speed}")
    return lines


def table(rows: list[ProfileRow]) -> str:
    """The rows as text: for each network its kinds of operation, the longest first, and its stages in their order."""
    text = []
    for network in dict.fromkeys(row.network for row in rows):
        own = [row for row in rows if row.network == network]
        whole = sum(row.seconds for row in own)
        by_time = sorted(own, key=lambda row: -sum(r.seconds for r in own if r.operation == row.operation))
        heads = f"{'runs':>6} {'seconds':>9} {'share':>7} {'GFLOP/s':>8} {'GB/s':>8}"
        text.append(f"{network}: {whole:.3f} s\n  {'operation':44} {heads}")
        text += _lines(by_time, lambda row: row.operation, whole)
        text.append(f"  {'stage':44} {heads}")
        text += _lines(own, lambda row: row.stage, whole)
    return "\n".join(text)
