"""`sdcpp devices`: what networks can run on."""

from __future__ import annotations

import argparse

from sdcpp_py._model_info import devices, why_no_gpu
from sdcpp_py.cli.sizes import size_text


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    commands.add_parser("devices", help="list the devices that networks can run on").set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    for device in devices():
        memory = f"{size_text(device.free_bytes)} free of {size_text(device.total_bytes)}"
        print(f"{device.name:12} {device.description}  ({memory})")
    if advice := why_no_gpu():
        print(advice)
    return 0
