"""The command `sdcpp`: a file for each of its commands."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from sdcpp_py import _names
from sdcpp_py._spelling import spelled_by
from sdcpp_py.cli import convert, devices, flags, generate, grid, info, plan, upscale, version
from sdcpp_py.errors import CancelledError, SdcppError

_EXAMPLES = """examples:
  sdcpp generate "a red circle left of a blue square on a white background" -o picture.png
  sdcpp generate "a lighthouse at dusk" -m model.safetensors -W 512 -H 512 --steps 25 -s 7 -b 4 -o out_%d.png
  sdcpp info model.safetensors
"""


def _near(word: str, parser: argparse.ArgumentParser) -> str:
    known = [name for action in parser._actions for name in action.option_strings]
    flag = word.partition("=")[0]
    near = difflib.get_close_matches(flag, known, n=2) if word.startswith("-") else []
    name = flag.lstrip("-").replace("-", "_")
    if word.startswith("--") and (own := flags.spell(_names.KEYWORDS.get(name, name), "")) in known:
        near = [own]
    return f"; did you mean {' or '.join(near)}?" if near else ""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors name what may be meant."""

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '([^']*)'(.*)", message)
        if wrong:
            near = difflib.get_close_matches(wrong[1], re.findall(r"\w+", wrong[2]), n=1)
            message += f"; did you mean {near[0]}?" if near else ""
        super().error(message)


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    arguments, unknown = parser.parse_known_args(argv)
    if not hasattr(arguments, "run"):
        parser.error(f"unknown: {' '.join(unknown)}{_near(unknown[0], parser)}" if unknown else "give a COMMAND")
    if unknown:
        quoted = "" if unknown[0].startswith("-") else arguments.parser.get_default("unknown_words")
        arguments.parser.error(f"unknown: {' '.join(unknown)}{_near(unknown[0], arguments.parser)}{quoted or ''}")
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="sdcpp",
        description="Image diffusion models on your own machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version.text(), help="print the versions and leave")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in (generate, grid, upscale, info, plan, convert, devices, version):
        command.add_parser(commands)
    for own in commands.choices.values():
        own.set_defaults(parser=own)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 success, 1 an error with a message, 130 interrupted."""
    arguments = _parsed(argv)
    try:
        with _terminated_in_order(), spelled_by(flags.spell):
            return int(arguments.run(arguments))
    except (CancelledError, KeyboardInterrupt):
        print("sdcpp: stopped", file=sys.stderr)
        return 130
    except SdcppError as error:
        print(f"sdcpp: {error.spelled(flags.spell)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"sdcpp: {error}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def _terminated_in_order() -> Iterator[None]:
    """Leave by way of an exception when the process is told to end, so that temporary files go."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
