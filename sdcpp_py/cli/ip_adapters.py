"""The flags of IP-Adapters."""

from __future__ import annotations

import argparse

from sdcpp_py.cli import flags
from sdcpp_py.ip_adapter import IPAdapter

_FLAGS: tuple[flags.Row, ...] = (
    (
        "--ip-adapter",
        "path",
        str,
        "FILE",
        "an IP-Adapter, beside a --clip_vision; may be given several times, as may the flags below, in the same order",
    ),
    ("--ip-adapter-image", "image", str, "FILE", "the picture that it shows to the model"),
    ("--ip-adapter-strength", "strength", float, "X", f"1: as it was trained (default: {IPAdapter.strength:g})"),
    ("--ip-adapter-start", "start", float, "SHARE", "from this share of the steps on, 0 to 1"),
    ("--ip-adapter-end", "end", float, "SHARE", "up to this share of the steps, 0 to 1"),
)


def add(parser: argparse._ArgumentGroup) -> None:
    """Add the flags."""
    flags.add_rows(parser, _FLAGS, "ip_adapter")


def of(arguments: argparse.Namespace) -> list[IPAdapter] | None:
    """The adapters that the flags give; None without any."""
    rows = flags.of_rows(arguments, _FLAGS, "ip_adapter", "needs a picture to show to the model")
    return [IPAdapter(**row) for row in rows] or None
