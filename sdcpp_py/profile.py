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


_MAX_STAGES = 12  # the table's lines for stages; the others are one line


def _sums(rows: Iterable[ProfileRow], name: Callable[[ProfileRow], str]) -> dict[str, list[float]]:
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * 4)
    for row in rows:
        for place, value in enumerate((row.seconds, row.flops, row.bytes, row.runs)):
            sums[name(row)][place] += value
    return sums


def _line(name: str, values: list[float], whole: float) -> str:
    seconds, flops, size, runs = values
    speed = f"{flops / seconds / 1e9:8.1f} {size / seconds / 1e9:8.1f}" if seconds > 0 else " " * 17
    return f"  {name:44} {int(runs):6} {seconds:9.3f} {100 * seconds / whole if whole else 0:6.1f}% {speed}"


def table(rows: list[ProfileRow]) -> str:
    """The rows as text: all networks, then for each its kinds of operation and its longest stages, the longest first."""
    if not rows:
        return ""
    whole = sum(row.seconds for row in rows)
    heads = f"{'runs':>6} {'seconds':>9} {'share':>7} {'GFLOP/s':>8} {'GB/s':>8}"

    def block(title: str, sums: dict[str, list[float]], most: int) -> list[str]:
        longest = sorted(sums.items(), key=lambda item: -item[1][0])
        shown, others = longest[:most], longest[most:]
        if len(others) == 1:
            shown, others = longest, []
        lines = [f"  {title:44} {heads}", *(_line(name, values, whole) for name, values in shown)]
        if others:
            rest = [sum(values[place] for _, values in others) for place in range(4)]
            lines.append(_line(f"{len(others)} others", rest, whole))
        return lines

    everything = _sums(rows, lambda row: row.network)
    total = [sum(values[place] for values in everything.values()) for place in range(4)]
    text = [f"profile: {whole:.3f} s", *block("network", everything, len(everything)), _line("together", total, whole)]
    for network in everything:
        own = [row for row in rows if row.network == network]
        text.append(f"{network}: {sum(row.seconds for row in own):.3f} s")
        text += block("operation", _sums(own, lambda row: row.operation.lower()), len(own))
        text += block("stage", _sums(own, lambda row: row.stage), _MAX_STAGES)
    return "\n".join(text)
