"""The planner, without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sdcpp_py._engine.calls import call_json, name_bytes
from sdcpp_py._engine.loading import ffi, lib
from sdcpp_py._engine.options import Options

_BYTES = ("param_bytes", "compute_bytes", "carry_in_bytes", "carry_out_bytes", "extra_bytes")


def plan(stages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> dict[str, Any]:
    """A plan of ``stages``, dicts with the fields of sdcpp_stage; ``options`` are of the set "plan"."""
    records, kept = ffi.new("sdcpp_stage[]", len(stages)), []
    for record, stage in zip(records, stages):
        name, parts = ffi.new("char[]", name_bytes(stage["name"])), ffi.new("uint64_t[]", list(stage["parts"]))
        kept.append((name, parts))
        record.name = name
        for field in _BYTES:
            setattr(record, field, stage[field])
        record.parts, record.part_count = parts if stage["parts"] else ffi.NULL, len(stage["parts"])
        record.seconds, record.same_block = stage["seconds"], stage["same_block"]
    return dict(call_json(lib.sdcpp_plan, records, len(stages), Options("plan", options).handle))
