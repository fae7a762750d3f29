"""`sdcpp info`: the contents of a model file, or the parameters that a picture was made with."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdcpp_py import metadata
from sdcpp_py._model_info import summarize
from sdcpp_py._printable import printable
from sdcpp_py.cli import flags
from sdcpp_py.cli.sizes import size_text

_EXAMPLES = """examples:
  sdcpp info model.safetensors
  sdcpp info z_image_turbo_Q4_K.gguf --tensors
  sdcpp info picture.png
"""
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's arguments."""
    info = commands.add_parser(
        "info",
        help="list the contents of a model file, or a picture's parameters",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    info.add_argument("model", metavar="FILE", help="a model, or a png, jpg or webp")
    info.add_argument("--tensors", action="store_true", help="list every tensor")
    info.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    if Path(arguments.model).suffix.lower() in _PICTURES:
        return _picture(arguments.model)
    summary = summarize(Path(arguments.model))
    name = printable(summary.path.name or str(summary.path))
    print(f"{name}: {printable(summary.family)}, {summary.format}, {len(summary.tensors)} tensors")
    if summary.adapter:
        print(f"  {printable(summary.adapter)}")
    if summary.refusal:
        print(f"  cannot be used: {printable(summary.refusal.spelled(flags.spell))}")
    for network, count in summary.networks.items():
        print(f"  {network:32} {count / 1e6:10.2f} M parameters")
    for kind, size in sorted(summary.bytes_by_type.items()):
        print(f"  {kind:32} {size_text(size):>12}")
    if summary.option:
        print(f"  to be given with {flags.spell(summary.option, '…')} beside a model")
    if not summary.refusal:
        print("  missing for text to image: " + (", ".join(summary.missing) or "nothing"))
    if summary.unused:
        count = len(summary.unused)
        first = ", ".join(printable(name) for name in summary.unused[:3]) + (" …" if count > 3 else "")
        print(f"  {count} {'tensor has' if count == 1 else 'tensors have'} no use: {first}")
    if arguments.tensors:
        for tensor in summary.tensors:
            print(f"  {printable(tensor.name)}  {tensor.type} {list(tensor.shape)}")
    return 0


def _picture(name: str) -> int:
    """Show a picture's parameters."""
    found = metadata.read(name)
    print(f"{printable(Path(name).name)}: made with {found.tool}")
    print(f"  prompt: {printable(found.prompt, lines=True)}")
    if found.negative_prompt:
        print(f"  negative prompt: {printable(found.negative_prompt, lines=True)}")
    for key, value in found.options.items():
        print(f"  {flags.spell(key, '')} {printable(str(value))}")
    used = {"Version", "Model"} if found.tool == metadata.KEY else set()
    for key, value in found.fields.items():
        if key in found.unused or key in used:
            print(f"  {printable(key)}: {printable(str(value))}")
    if found.lacking:
        print(f"  made from more than that: {', '.join(flags.spell(one, '') for one in found.lacking)}")
    return 0
