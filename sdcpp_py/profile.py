"""The time of running networks, by network, stage and kind of operation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class ProfileRow:
    """The time of operations of one kind in one stage, all runs together."""

    network: str
    stage: str
    operation: str  #: its kind: one of ggml's (MUL_MAT …) or of the engine's own (linear, attention …)
    runs: int
    seconds: float
    flops: float  #: multiplications and additions; for a Winograd convolution, the direct form's
    bytes: float  #: the size of the values read and written


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
