"""The command `sdcpp`: a file for each of its commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sdcpp_py.cli import convert, devices, flags, generate, info, plan, version
from sdcpp_py.errors import CancelledError, SdcppError

_EXAMPLES = """examples:
  sdcpp generate "a red circle left of a blue square on a white background" -o picture.png
  sdcpp generate "a lighthouse at dusk" -m model.safetensors -W 512 -H 512 --steps 25 -s 7 -b 4 -o out_%d.png
  sdcpp info model.safetensors
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sdcpp",
        description="Image diffusion models on your own machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (generate, info, plan, convert, devices, version):
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 success, 1 an error with a message, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (CancelledError, KeyboardInterrupt):
        print("sdcpp: stopped", file=sys.stderr)
        return 130
    except SdcppError as error:
        print(f"sdcpp: {error.spelled(flags.spell)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"sdcpp: {error}", file=sys.stderr)
        return 1
