"""A stage's JSON file, written anew after every row, so that a run that is killed keeps what it has."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any


class Record:
    """Rows by case. What was under way when the process died counts as crashed from then on, and is not tried again."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path = path
        self.content = content

    @classmethod
    def of(cls, folder: Path, stage: str) -> Record:
        """The record as it lies in ``folder``, or an empty one."""
        path = folder / f"{stage}.json"
        empty = {"stage": stage, "complete": False, "rows": [], "cases": {}, "skipped": [], "running": None}
        return cls(path, json.loads(path.read_text()) if path.exists() else empty)

    @property
    def complete(self) -> bool:
        """Whether every case has been run."""
        return bool(self.content["complete"])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All of them, in the order in which they were measured."""
        return list(self.content["rows"])

    def start(self, title: str, environment: dict[str, Any]) -> None:
        """Begin, or go on after a process that died."""
        self.content.pop("left_out", None)
        self.content |= {"title": title, "environment": environment, "skipped": []}
        self.crashed("the process died")

    def crashed(self, why: str) -> None:
        """Give the case that was under way, if any, a row that says so."""
        case = self.content["running"]
        if case is not None:
            self.add(case, [{"error": "crashed", "message": why}], 0.0)

    def has(self, case: str) -> bool:
        """Whether the case has been run."""
        return case in self.content["cases"]

    def begin(self, case: str) -> None:
        """Say what is under way."""
        self.content["running"] = case
        self._write()

    def add(self, case: str, rows: list[dict[str, Any]], seconds: float) -> None:
        """Keep what a case has given."""
        self.content["rows"] += [{"case": case, **row} for row in rows]
        self.content["cases"][case] = seconds
        self.content["running"] = None
        self._write()

    def skip(self, case: str) -> None:
        """Say that there was no time for the case."""
        self.content["skipped"].append(case)

    def leave_out(self, why: str) -> None:
        """Say that the whole stage was left out."""
        self.content["left_out"] = why
        self._write()

    def finish(self) -> bool:
        """Complete, unless cases were left out."""
        self.content["complete"] = not self.content["skipped"]
        self._write()
        return self.complete

    def _write(self) -> None:
        fresh = self.path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(_plain(self.content), indent=1))
        fresh.replace(self.path)


def _plain(value: Any) -> Any:
    """JSON has no infinities."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value
