"""The flags of ControlNets and T2I-Adapters."""

from __future__ import annotations

import argparse

from sdcpp_py.cli import flags
from sdcpp_py.control import MODES, TYPES, Control
from sdcpp_py.errors import InvalidArgumentError

_FLAGS: tuple[flags.Row, ...] = (
    (
        "--control-net",
        "path",
        str,
        "FILE",
        "a ControlNet or T2I-Adapter; may be given several times, as may the flags below, in the same order",
    ),
    ("--control-image", "image", str, "FILE", "the picture that it follows"),
    ("--control-strength", "strength", float, "X", f"1: as it was trained (default: {Control.strength:g})"),
    ("--control-start", "start", float, "SHARE", "from this share of the steps on, 0 to 1"),
    ("--control-end", "end", float, "SHARE", "up to this share of the steps, 0 to 1"),
    ("--control-mode", "mode", str, "MODE", f"what counts more, the prompt or the control: {', '.join(MODES)}"),
    ("--control-type", "type", str, "TYPE", f"a ControlNet union's type of picture: {', '.join(TYPES)}"),
)


def add(parser: argparse._ArgumentGroup) -> None:
    """Add the flags."""
    flags.add_rows(parser, _FLAGS, "control")
    parser.add_argument(
        "--canny", dest="control_canny", action="store_true", help="follow the edges of --control-image's pictures"
    )


def of(arguments: argparse.Namespace) -> list[Control] | None:
    """The controls that the flags give; None without any."""
    rows = flags.of_rows(arguments, _FLAGS, "control", "needs a picture to follow")
    if not rows and arguments.control_canny:
        raise InvalidArgumentError("--canny has no effect without --control-net FILE")
    return [Control(**row, canny=arguments.control_canny) for row in rows] or None
