"""`sdcpp version`: versions of the package and of ggml."""

from __future__ import annotations

import argparse

from sdcpp_py._version import __version__, ggml_version


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    commands.add_parser("version", help="print the versions of the package and of ggml").set_defaults(run=run)


def text() -> str:
    """The versions in a line."""
    return f"sdcpp_py {__version__}, ggml {ggml_version}"


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    print(f"sdcpp_py {__version__}, ggml {ggml_version}")
    return 0
