"""`sdcpp convert`: a model as one GGUF file."""

from __future__ import annotations

import argparse

from sdcpp_py._convert import convert
from sdcpp_py._printable import printable
from sdcpp_py.cli import flags
from sdcpp_py.cli.sizes import size_text
from sdcpp_py.options import MODEL

_EXAMPLES = """examples:
  sdcpp convert model.safetensors --type q8_0 -o model.gguf
  sdcpp convert --diffusion-model z_image_turbo_bf16.safetensors --llm qwen_3_4b.safetensors --vae ae.safetensors \\
      --type q4_K -o small.gguf
"""
_OPTIONS = {name: MODEL[name] for name in ("wtype", "tensor_type_rules", "threads")}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "convert",
        help="write a model as one GGUF file, in other types of weights",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags.add_model(parser, "safetensors, GGUF, .ckpt or a diffusers folder")
    given = parser.add_argument_group("parts and types")
    flags.add_parts(given)
    for option in _OPTIONS.values():
        flags.add_option(given, option)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the file to write, .gguf")
    parser.add_argument("--no-progress", dest="progress", action="store_false", default=None, help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    given = {**flags.parts(arguments), **flags.values(arguments, _OPTIONS)}
    path = convert(flags.model(arguments), arguments.output, **given, progress=arguments.progress)
    print(f"{printable(str(path))}  {size_text(path.stat().st_size)}")
    return 0
