"""`sdcpp generate`: pictures from a text."""

from __future__ import annotations

import argparse
import logging
import sys

from sdcpp_py import _images, profile
from sdcpp_py._result import Result
from sdcpp_py.cli import flags
from sdcpp_py.errors import InvalidArgumentError
from sdcpp_py.options import GENERATE, MODEL
from sdcpp_py.pipeline import Pipeline


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "generate",
        help="make pictures from a text",
        description="Make pictures from a text. Options left out take the model's own defaults.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    prompt = parser.add_argument_group("prompt")
    prompt.add_argument("positional", nargs="?", metavar="PROMPT", help="the text to draw; (word:1.2) weighs more, [word] less")
    prompt.add_argument("-p", "--prompt", dest="prompt", metavar="TEXT", help="the prompt as an option")
    prompt.add_argument("-n", "--negative-prompt", default="", metavar="TEXT", help="things to avoid")
    headings = ("model", "picture", "sampling", "decoding", "memory", "machine")
    model, picture, sampling, decoding, memory, machine = (parser.add_argument_group(title) for title in headings)
    model.add_argument(
        "-m", "--model", metavar="PATH", help="safetensors, GGUF, .ckpt or a diffusers folder (left out: the embedded model)"
    )
    flags.add_parts(model)
    for heading in (model, picture, sampling, decoding, memory, machine):
        flags.add_options(heading)
    picture.add_argument(
        "-i",
        "--init-img",
        dest="init_image",
        metavar="FILE",
        help="a picture to begin from; it gives the size if that is left out",
    )
    picture.add_argument(
        "-o",
        "--output",
        default="output.png",
        metavar="FILE",
        help="png, jpg, webp or bmp; %%d numbers a batch (default: %(default)s)",
    )
    machine.add_argument("-v", "--verbose", action="store_true", help="show the engine's log")
    machine.add_argument("--no-progress", dest="progress", action="store_false", default=None, help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    if (arguments.prompt is None) == (arguments.positional is None):
        raise InvalidArgumentError('give the prompt once: sdcpp generate "what to show"')
    level, form = (logging.DEBUG, "%(levelname)s %(message)s") if arguments.verbose else (logging.WARNING, "sdcpp: %(message)s")
    logging.basicConfig(level=level, format=form)
    paths = _images.output_paths(arguments.output, max(1, arguments.batch_count))
    for path in paths:
        _images.check_output(path)
    opening = {**flags.parts(arguments), **flags.values(arguments, MODEL)}
    making = flags.values(arguments, GENERATE)
    # The command line has the process to itself, so --max-vram limits all of it on the CPU.
    with Pipeline(arguments.model, **opening, rng=making.pop("rng"), whole_process=True) as pipeline:
        result = pipeline.generate(
            arguments.positional if arguments.prompt is None else arguments.prompt,
            negative_prompt=arguments.negative_prompt,
            **making,
            init_image=arguments.init_image,
            use_taesd=arguments.taesd is not None,
            progress=arguments.progress,
        )
        rows = pipeline.take_profile()
    for image, path in zip(result.images, paths):
        _images.save(image, path)
        print(path)
    _report(result, verbose=arguments.verbose)
    if rows:
        print(profile.table(rows), file=sys.stderr)
    times = result.timings
    print(
        f"seed {result.seed}, {times['total']:.2f} s (text {times['encode']:.2f}, "
        f"sampling {times['sample']:.2f}, decoding {times['decode']:.2f})",
        file=sys.stderr,
    )
    return 0


def _report(result: Result, *, verbose: bool) -> None:
    if not verbose:
        return
    for network, report in result.reports.items():
        streamed = f"{report.uploaded_bytes_per_step / 2**20:.1f} MiB uploaded a step, {report.stall_seconds:.2f} s waited"
        print(f"{network}: {report.plan.summary()}", file=sys.stderr)
        print(f"measured {report.step_seconds:.4g} s a step, {streamed}", file=sys.stderr)
