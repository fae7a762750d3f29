"""M10: predicted and measured times, measured times and the bound, and a summary of the other stages' rows."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from gpu_record import Record

Row = dict[str, Any]
_JOB = ("model", "network", "dtype", "width", "height", "batch")


def summarize(folder: Path, stages: list[str]) -> list[Row]:
    """Write m10.json and return its rows: one for each timed row, then one of everything."""
    records = {name: Record.of(folder, name) for name in stages}
    rows = [{"stage": name, **row} for name, record in records.items() for row in record.rows]
    timed = [row for row in rows if row.get("seconds") and "predicted_seconds" in row]
    resident = {_job(row): row["seconds"] for row in timed if row["budget_gib"] is None}
    others = {_job(row): row["seconds"] for row in rows if row.get("beside")}
    compared = [_compared(row, resident.get(_job(row)), others.get(_job(row))) for row in timed]
    everything = _everything(rows, compared) | {"incomplete": [name for name, record in records.items() if not record.complete]}
    out = Record(folder / "m10.json", {"stage": "m10", "rows": [], "cases": {}, "skipped": [], "running": None})
    out.start("predicted, measured, bound", {})
    out.add("compared", compared, 0.0)
    out.add("everything", [everything], 0.0)
    out.finish()
    return [*compared, everything]


def table(rows: list[Row]) -> str:
    """The summary's rows as text."""
    *compared, everything = rows
    heads = f"{'stage':5} {'case':58} {'step':>9} {'predicted':>9} {'/pred.':>7} {'/bound':>7} {'/resident':>9} {'/torch':>7}"
    heads += f" {'streamed':>9}"
    lines = [heads]
    for row in compared:
        numbers = f"{row['seconds']:9.4f} {row['predicted_seconds']:9.4f} {_ratio(row['over_predicted']):>7}"
        numbers += f" {_ratio(row['over_bound']):>7} {_ratio(row['over_resident']):>9}"
        numbers += f" {_ratio(row['over_pytorch']):>7} {row['streamed_bytes'] / 1e9:6.2f} GB"
        lines.append(f"{row['stage']:5} {row['case']:58.58} {numbers}")
    return "\n".join([*lines, *(f"{name}: {value}" for name, value in everything.items())])


def _job(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in _JOB)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def _compared(row: Row, resident: float | None, other: float | None) -> Row:
    settings = ("stage", "case", *_JOB, "budget_gib", "link_gb_per_s")
    kept = (*settings, "seconds", "predicted_seconds", "bound_seconds", "streamed_bytes")
    streamed = row["budget_gib"] is not None  # without a budget nothing is learnt, so nothing is predicted
    out = {name: row[name] for name in kept}
    out["over_predicted"] = row["seconds"] / row["predicted_seconds"] if streamed and row["predicted_seconds"] else None
    out["over_bound"] = row["seconds"] / row["bound_seconds"] if streamed and row["bound_seconds"] else None
    out["over_pytorch"] = row["seconds"] / other if other else None
    return out | {"over_resident": row["seconds"] / resident if resident else None}


def _everything(rows: list[Row], compared: list[Row]) -> Row:
    predicted = [row["over_predicted"] for row in compared if row["over_predicted"]]
    bound = [row["over_bound"] for row in compared if row["over_bound"]]
    identical = [row["identical"] for row in rows if "identical" in row]
    excess = [row["excess_mib"] for row in rows if row.get("excess_mib") is not None]
    prints: dict[tuple[Any, ...], set[str]] = {}
    for row in rows:
        if "fingerprint" in row:
            prints.setdefault(_job(row), set()).add(row["fingerprint"])
    return {
        "rows": len(rows),
        "errors": sum("error" in row for row in rows),
        "over_predicted_median": statistics.median(predicted) if predicted else None,
        "over_predicted_worst": max(predicted, key=lambda ratio: max(ratio, 1 / ratio)) if predicted else None,
        "over_bound_median": statistics.median(bound) if bound else None,
        "over_bound_worst": max(bound) if bound else None,
        "identical": f"{sum(identical)} of {len(identical)}",
        "jobs_with_one_output": f"{sum(len(found) == 1 for found in prints.values())} of {len(prints)}",
        "budgets_kept": f"{sum(value <= 0 for value in excess)} of {len(excess)}",
        "worst_excess_mib": max(excess) if excess else None,
    }
