"""`sdcpp upscale`: larger pictures by a network."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from tqdm import tqdm

from sdcpp_py import _images
from sdcpp_py._printable import printable
from sdcpp_py.cli import flags
from sdcpp_py.errors import InvalidArgumentError
from sdcpp_py.options import GENERATE, MODEL
from sdcpp_py.pipeline import Pipeline

_EXAMPLES = """examples:
  sdcpp upscale photo.png --upscale-model RealESRGAN_x4plus.pth
  sdcpp upscale *.jpg --upscale-model x4.safetensors --max-vram 2 -o larger_%d.png
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "upscale",
        help="make pictures larger",
        description="Make pictures larger by a network, such as RealESRGAN_x4plus.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("pictures", metavar="PICTURE", nargs="+")
    parser.add_argument("--upscale-model", required=True, metavar="FILE", help="ESRGAN, Real-ESRGAN or SRVGG")
    parser.add_argument("--upscale-repeats", type=int, default=1, metavar="N", help="enlarge so many times (default: 1)")
    parser.add_argument("-W", "--width", type=int, metavar="PIXELS", help="scale the result to this width")
    parser.add_argument("-H", "--height", type=int, metavar="PIXELS", help="scale the result to this height")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="%%d numbers several (left out: NAME_xN.png beside each picture, N the factor)"
    )
    for title in ("upscaling", "memory", "machine"):
        flags.add_options(parser.add_argument_group(title))
    parser.add_argument("-v", "--verbose", action="store_true", help="show the engine's log")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    level, form = (logging.DEBUG, "%(levelname)s %(message)s") if arguments.verbose else (logging.WARNING, "sdcpp: %(message)s")
    logging.basicConfig(level=level, format=form)
    pictures = [Path(name) for name in arguments.pictures]
    for picture in pictures:
        _images.opened(picture)  # what is no picture is told before anything is computed
    with Pipeline(upscaler=arguments.upscale_model, **flags.values(arguments, MODEL), whole_process=True) as pipeline:
        if pipeline.upscale_factor == 0:
            raise InvalidArgumentError(f"{arguments.upscale_model} is no upscaler")
        paths = _paths(arguments, pictures, pipeline.upscale_factor ** max(1, arguments.upscale_repeats))
        for path in paths:
            _images.check_output(path)
        for picture, path in zip(tqdm(pictures, unit="picture", disable=len(pictures) == 1 or None, leave=False), paths):
            larger = pipeline.upscale(
                picture,
                repeats=arguments.upscale_repeats,
                width=arguments.width,
                height=arguments.height,
                upscale_tile_size=flags.values(arguments, GENERATE)["upscale_tile_size"],
            )
            _images.save(larger, path)
            print(printable(str(path)))
    return 0


def _paths(arguments: argparse.Namespace, pictures: list[Path], factor: int) -> list[Path]:
    if arguments.output is not None:
        return _images.output_paths(arguments.output, len(pictures))
    return [picture.with_name(f"{picture.stem}_x{factor}.png") for picture in pictures]
