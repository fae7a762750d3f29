"""The flags of ControlNets and T2I-Adapters."""

from __future__ import annotations

import argparse
from typing import Any

from sdcpp_py.control import MODES, TYPES, Control
from sdcpp_py.errors import InvalidArgumentError

# Each flag, the field of Control that it gives, its type, its unit and its help.
_FLAGS: tuple[tuple[str, str, Any, str, str], ...] = (
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


def _destination(field: str) -> str:
    return "controls" if field == "path" else f"control_{field}"


def add(parser: argparse._ArgumentGroup) -> None:
    """Add the flags."""
    for flag, field, kind, unit, text in _FLAGS:
        parser.add_argument(flag, dest=_destination(field), action="append", type=kind, metavar=unit, help=text)
    parser.add_argument(
        "--canny", dest="control_canny", action="store_true", help="follow the edges of --control-image's pictures"
    )


def of(arguments: argparse.Namespace) -> list[Control] | None:
    """The controls that the flags give; None without any. A flag's last value counts for the nets that have none of their own."""
    given = {field: getattr(arguments, _destination(field)) or [] for _, field, *_ in _FLAGS}
    flags = {field: flag for flag, field, *_ in _FLAGS}
    paths, most = given["path"], max(map(len, given.values()))
    if not paths and (most or arguments.control_canny):
        lonely = next((flags[field] for field, values in given.items() if values), "--canny")
        raise InvalidArgumentError(f"{lonely} has no effect without --control-net FILE")
    if not paths:
        return None
    if not given["image"]:
        raise InvalidArgumentError("--control-net needs a picture to follow: --control-image FILE")
    if most > len(paths):
        many = next(flags[field] for field, values in given.items() if len(values) == most)
        raise InvalidArgumentError(f"{many} is given {most} times, --control-net {len(paths)} times")
    found = []
    for number in range(len(paths)):
        own = {field: values[min(number, len(values) - 1)] for field, values in given.items() if values}
        found.append(Control(**own, canny=arguments.control_canny))
    return found
