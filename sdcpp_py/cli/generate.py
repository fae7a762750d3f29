"""`sdcpp generate`: pictures from a text."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from sdcpp_py import _images, metadata, profile
from sdcpp_py._embedded import SUBJECT
from sdcpp_py._printable import printable
from sdcpp_py._result import Report, Result
from sdcpp_py.cli import flags
from sdcpp_py.cli.sizes import seconds_text, size_text
from sdcpp_py.errors import InvalidArgumentError
from sdcpp_py.options import GENERATE, MODEL
from sdcpp_py.pipeline import Pipeline

_EXAMPLES = """examples:
  sdcpp generate "a red circle left of a blue square on a white background" -o picture.png
  sdcpp generate "a lighthouse at (dusk:1.2)" -n people -m model.safetensors -W 512 -H 512 --sampling-method "DPM++ 2M Karras"
  sdcpp generate "a lighthouse in a storm" -m model.safetensors -i lighthouse.png --strength 0.6 -b 4 -o storm_%d.png
  sdcpp generate "a lighthouse" -m sd_xl_base_1.0.safetensors --max-vram 6 --lora style.safetensors:0.8
"""
_CHECKED = 100  # so many names are all tried; if there are more, only the first and the longest


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "generate",
        help="make pictures from a text",
        description="Make pictures from a text. Options left out take the model's own defaults.\n"
        f"Without a model file, a small model draws {SUBJECT}.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    prompt = parser.add_argument_group("prompt")
    prompt.add_argument(
        "positional", nargs="?", metavar="PROMPT", help="the text to draw, - reads it; (word:1.2) weighs more, [word] less"
    )
    prompt.add_argument("-p", "--prompt", dest="prompt", metavar="TEXT", help="the prompt as an option")
    prompt.add_argument("-n", "--negative-prompt", default="", metavar="TEXT", help="things to avoid")
    headings = ("model", "picture", "sampling", "guidance", "hires", "upscaling", "decoding", "preview", "memory", "machine")
    groups = {title: parser.add_argument_group(title) for title in headings}
    model, picture, preview, machine = (groups[title] for title in ("model", "picture", "preview", "machine"))
    model.add_argument(
        "-m", "--model", metavar="PATH", help="safetensors, GGUF, .ckpt or a diffusers folder (left out: the embedded model)"
    )
    flags.add_parts(model)
    model.add_argument("--lora-model-dir", metavar="FOLDER", help="where <lora:NAME:WEIGHT> in the prompt finds its files")
    model.add_argument(
        "--lora",
        action="append",
        dest="loras",
        metavar="FILE[:WEIGHT]",
        help="a LoRA or one of its kin, with a weight of 1 or another; may be given several times",
    )
    model.add_argument(
        "--embedding",
        action="append",
        dest="embeddings",
        metavar="FILE",
        help="a file of textual inversion; its name without the ending is the word in the prompt; may be given several times",
    )
    model.add_argument("--embd-dir", dest="embedding_dir", metavar="FOLDER", help="a folder of such files")
    for heading in groups.values():
        flags.add_options(heading)
    preview.add_argument(
        "--preview-path", metavar="FILE", help="the file that holds the latest preview (left out: preview.png); implies --preview"
    )
    picture.add_argument(
        "-i",
        "--init-img",
        dest="init_image",
        metavar="FILE",
        help="a picture to begin from; it gives the size if that is left out",
    )
    picture.add_argument(
        "--mask", dest="mask_image", metavar="FILE", help="repaint the white part of this picture, which is as large as -i's"
    )
    picture.add_argument(
        "--from-picture",
        metavar="FILE",
        help="prompts and options of a picture that this or another program made; flags that are given come before them",
    )
    picture.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="png, jpg, webp or bmp, overwritten if it exists; %%d numbers a batch (left out: output.png, or the next free "
        "name, output_1.png …)",
    )
    machine.add_argument("-v", "--verbose", action="store_true", help="show the engine's log")
    machine.add_argument("--no-progress", dest="progress", action="store_false", default=None, help="no progress bar")
    parser.set_defaults(run=run, unknown_words="; put a prompt of several words in quotes")


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    if arguments.from_picture is not None:
        _take_over(arguments)
    if (arguments.prompt is None) == (arguments.positional is None):
        raise InvalidArgumentError('give the prompt once: sdcpp generate "what to show"')
    level, form = (logging.DEBUG, "%(levelname)s %(message)s") if arguments.verbose else (logging.WARNING, "sdcpp: %(message)s")
    logging.basicConfig(level=level, format=form)
    count = GENERATE["batch_count"].check(arguments.batch_count)
    prompt = arguments.positional if arguments.prompt is None else arguments.prompt
    if prompt == "-":
        prompt = sys.stdin.read().strip()
    paths = _paths(arguments.output, count)
    for path in paths if count <= _CHECKED else (paths[0], paths[-1]):
        _images.check_output(path)
    opening = {**flags.parts(arguments), **flags.values(arguments, MODEL)}
    opening |= {name: getattr(arguments, name) for name in ("lora_model_dir", "embeddings", "embedding_dir")}
    making = flags.values(arguments, GENERATE)
    preview_path = arguments.preview_path or ("preview.png" if making["preview"] != "none" else None)
    if preview_path is not None:
        _images.check_output(Path(preview_path))
    shown = sys.stderr.isatty() if arguments.progress is None else arguments.progress
    # The command line has the process to itself, so --max-vram limits all of it on the CPU.
    with contextlib.ExitStack() as stack:
        if shown:
            stack.enter_context(logging_redirect_tqdm())  # log lines come above the bar
        with _saying("opening the model", shown):
            pipeline = stack.enter_context(Pipeline(arguments.model, **opening, rng=making.pop("rng"), whole_process=True))
        result = pipeline.generate(
            prompt,
            negative_prompt=arguments.negative_prompt,
            **making,
            init_image=arguments.init_image,
            mask_image=arguments.mask_image,
            loras=_loras(arguments.loras),
            use_taesd=arguments.taesd is not None,
            preview_callback=None if preview_path is None else lambda step: _images.save(step.preview, preview_path),
            progress=arguments.progress,
        )
        rows = pipeline.take_profile()
    if arguments.output is None:
        paths = _reserved(count)  # other runs may have taken the names meanwhile
    for image, path in zip(result.images, paths):
        _images.save(image, path)
        print(printable(str(path)))
    if arguments.verbose:
        for network, report in result.reports.items():
            print(f"{network}: {_memory_words(report)}", file=sys.stderr)
    if rows:
        print(profile.table(rows), file=sys.stderr)
    print(_told(result), file=sys.stderr)
    return 0


def _take_over(arguments: argparse.Namespace) -> None:
    """The prompts and options of a picture, for flags that are not given."""
    found = metadata.read(arguments.from_picture)
    for name in found.lacking:
        if getattr(arguments, name, None) is None:
            raise InvalidArgumentError.of(
                name, "is needed", before=f"{arguments.from_picture} was made with more than it holds: "
            )
    if found.unused:
        unused = ", ".join(printable(key) for key in found.unused)
        logging.getLogger("sdcpp_py").warning("of %s these have no effect here: %s", arguments.from_picture, unused)
    if arguments.prompt is None and arguments.positional is None:
        arguments.prompt = found.prompt
    arguments.negative_prompt = arguments.negative_prompt or found.negative_prompt
    for name, value in found.options.items():
        option = GENERATE[name]
        if not option.flags:
            continue
        if getattr(arguments, name) == option.keyword_default:
            setattr(arguments, name, value)


def _loras(given: list[str] | None) -> list[tuple[str, float]] | None:
    """Files and weights of the flag --lora. A weight stands behind the last colon, if it is a number."""
    if given is None:
        return None
    found = []
    for text in given:
        path, colon, weight = text.rpartition(":")
        try:
            found.append((path, float(weight)) if colon and path else (text, 1.0))
        except ValueError:
            found.append((text, 1.0))
    return found


@contextlib.contextmanager
def _saying(what: str, shown: bool) -> Iterator[None]:
    """Show on the terminal what is being done, until it is done."""
    if shown:
        print(f"{what} …", end="\r", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print(" " * (len(what) + 2), end="\r", file=sys.stderr, flush=True)


def _paths(pattern: str | None, count: int) -> list[Path]:
    """The pictures' paths; without a pattern, the first names that are free."""
    if pattern is not None:
        return _images.output_paths(pattern, count)
    return next(paths for paths in _default_paths(count) if not any(map(Path.exists, paths)))


def _default_paths(count: int) -> Iterator[list[Path]]:
    for number in itertools.count():
        yield _images.output_paths("output.png" if number == 0 else f"output_{number}.png", count)


def _reserved(count: int) -> list[Path]:
    """The first names that are free, taken by empty files, so that no two runs write the same."""
    for paths in _default_paths(count):
        taken: list[Path] = []
        try:
            for path in paths:
                path.open("x").close()
                taken.append(path)
        except FileExistsError:
            for path in taken:
                path.unlink()
            continue
        return paths
    raise AssertionError("names do not end")


def _told(result: Result) -> str:
    """The settings of a run, and the time that it took."""
    used, times = result.parameters, result.timings
    width, height = used["width"], used["height"]
    schedule = used.get("scheduler", "levels of your own")
    parts = f"text {times['encode']:.2f}, sampling {times['sample']:.2f}, decoding {times['decode']:.2f}"
    return (
        f"seed {result.seed}, {width}x{height}, {used['steps']} steps of {used['sampler']}, {schedule}, "
        f"cfg {used['cfg_scale']:g}: {times['total']:.2f} s ({parts})"
    )


def _memory_words(report: Report) -> str:
    """Whether the memory was enough for a network, and what it cost if not."""
    plan = report.plan
    weights, each = sum(stage.param_bytes for stage in plan.stages), seconds_text(report.step_seconds)
    if plan.streamed_bytes_per_step == 0:
        return f"memory is enough: {size_text(weights)} of weights stayed; {report.runs} runs of {each}"
    waited = seconds_text(report.stall_seconds / max(1, report.runs))
    return (
        f"memory is not enough for all {size_text(weights)} of weights: {size_text(plan.resident_bytes)} stayed, "
        f"{size_text(report.uploaded_bytes_per_step)} were uploaded in each run; {report.runs} runs of {each}, "
        f"{waited} of it waiting for uploads"
    )
