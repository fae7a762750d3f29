"""`sdcpp generate`: pictures from a text."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from sdcpp_py import _images, metadata, profile, wildcards
from sdcpp_py._embedded import SUBJECT
from sdcpp_py._grid import grid
from sdcpp_py._pool import PipelinePool
from sdcpp_py._printable import printable
from sdcpp_py._result import Report, Result, Step
from sdcpp_py.cli import controls, flags, ip_adapters, outputs, terminal
from sdcpp_py.cli.sizes import seconds_text, size_text
from sdcpp_py.errors import InvalidArgumentError, ModelNotFoundError
from sdcpp_py.options import GENERATE, MODEL, seed_value
from sdcpp_py.pipeline import Pipeline

_EXAMPLES = """examples:
  sdcpp generate "a red circle left of a blue square on a white background" -o picture.png
  sdcpp generate "a lighthouse at (dusk:1.2)" -n people -m model.safetensors -W 512 -H 512 --sampling-method "DPM++ 2M Karras"
  sdcpp generate "a lighthouse in a storm" -m model.safetensors -i lighthouse.png --strength 0.6 -b 4 -o storm_%d.png
  sdcpp generate "a lighthouse" -m sd_xl_base_1.0.safetensors --max-vram 6 --lora style.safetensors:0.8
  sdcpp generate --prompt-file prompts.txt -m model.safetensors --device CUDA0,CUDA1 -o "[n]-[seed].png"
"""


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
    add_arguments(parser)
    parser.set_defaults(run=run, unknown_words="; put a prompt of several words in quotes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a picture is made with."""
    prompt = parser.add_argument_group("prompt")
    prompt.add_argument(
        "positional", nargs="?", metavar="PROMPT", help="the text to draw, - reads it; (word:1.2) weighs more, [word] less"
    )
    prompt.add_argument("-p", "--prompt", dest="prompt", metavar="TEXT", help="the prompt as an option")
    prompt.add_argument(
        "--prompt-file", metavar="FILE", help="prompts, one a line; - reads them; lines that begin with # are left out"
    )
    prompt.add_argument(
        "--dynamic", action="store_true", help="prompts are templates: {a|b}, {2$$a|b|c}, __name__; each picture gets its own"
    )
    prompt.add_argument("--wildcards-dir", metavar="FOLDER", help="where __name__ finds name.txt; implies --dynamic")
    prompt.add_argument("-n", "--negative-prompt", default="", metavar="TEXT", help="things to avoid")
    headings = (
        "model",
        "picture",
        "control",
        "ip-adapter",
        "sampling",
        "guidance",
        "step cache",
        "hires",
        "upscaling",
        "decoding",
        "preview",
        "memory",
        "machine",
    )
    groups = {title: parser.add_argument_group(title) for title in headings}
    model, picture, preview, machine = (groups[title] for title in ("model", "picture", "preview", "machine"))
    controls.add(groups["control"])
    ip_adapters.add(groups["ip-adapter"])
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
    preview.add_argument(
        "--preview-inline",
        action="store_true",
        help="show previews in the terminal, if it shows pictures (kitty, Konsole, WezTerm, iTerm2 …); implies --preview",
    )
    picture.add_argument(
        "-i",
        "--init-img",
        dest="init_image",
        metavar="FILE",
        help="a picture to begin from; it gives the size if that is left out",
    )
    picture.add_argument(
        "-r",
        "--ref-image",
        dest="ref_images",
        metavar="FILE",
        action="append",
        help="a picture that the model follows, if it takes such ones; may be given several times",
    )
    picture.add_argument(
        "--mask", dest="mask_image", metavar="FILE", help="repaint the white part of this picture, which is as large as -i's"
    )
    picture.add_argument(
        "--depth-image", metavar="FILE", help="a picture of depths, near is bright, for a model that follows one"
    )
    picture.add_argument(
        "--outpaint", metavar="L,T,R,B", help="let -i's picture grow by so many pixels to the left, top, right and bottom"
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
        "name, output_1.png …); [n], [seed] and [prompt] stand for each picture's",
    )
    picture.add_argument("--grid", metavar="FILE", help="and one picture of all of them")
    picture.add_argument("--resume", action="store_true", help="leave out pictures whose files are there already")
    machine.add_argument("-v", "--verbose", action="store_true", help="show the engine's log")
    machine.add_argument("--no-progress", dest="progress", action="store_false", default=None, help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    prompts = prompts_of(arguments)
    begin_log(arguments)
    count = GENERATE["batch_count"].check(arguments.batch_count) * len(prompts)
    wanted, paths = _jobs(arguments, prompts, count)
    if arguments.grid is not None:
        _images.check_output(Path(arguments.grid))
    if not wanted:
        print("every picture is there already", file=sys.stderr)
        return 0
    opening, making = opening_of(arguments), making_of(arguments)
    many = (
        len(prompts) > 1
        or arguments.dynamic
        or arguments.wildcards_dir is not None
        or len(wanted) < count
        or outputs.has_places(arguments.output)
    )
    devices = flags.device_names(arguments.device)
    if many := many or len(devices) > 1:
        making |= {"seed": [one.seed for one in wanted], "batch_count": 1}
    shown = sys.stderr.isatty() if arguments.progress is None else arguments.progress

    def keep(number: int, image: Image.Image) -> None:
        _images.save(image, paths[number])
        tqdm.write(printable(str(paths[number])), file=sys.stdout)

    # The command line has the process to itself, so --max-vram limits all of it on the CPU.
    with contextlib.ExitStack() as stack:
        if shown:
            stack.enter_context(logging_redirect_tqdm())  # log lines come above the bar
        with _saying("opening the model", shown):
            opening |= {"rng": making.pop("rng"), "whole_process": True}
            maker = _opened(arguments.model, devices, opening)
            stack.enter_context(maker)
        prompt = [one.prompt for one in wanted] if many else wanted[0].prompt
        if arguments.output is None:
            paths = outputs.reserved(len(wanted))  # other runs may have taken the names meanwhile
        making |= {"picture_callback": keep, "progress": arguments.progress}
        start = time.perf_counter()
        try:
            results = maker.map(prompt, **making) if isinstance(maker, PipelinePool) else [maker.generate(prompt, **making)]
        finally:
            if arguments.output is None:
                _give_back(paths)
        seconds = time.perf_counter() - start
        rows = maker.take_profile() if isinstance(maker, Pipeline) else []
    if arguments.grid is not None:
        _images.save(grid([image for result in results for image in result.images]), arguments.grid)
        print(printable(arguments.grid))
    if arguments.verbose:
        for network, report in results[0].reports.items():
            print(f"{network}: {_memory_words(report)}", file=sys.stderr)
    if rows:
        print(profile.table(rows), file=sys.stderr)
    if len(devices) > 1:
        print(f"{len(results)} pictures on {', '.join(devices)}: {seconds:.2f} s. The first one:", file=sys.stderr)
    print(_told(results[0]), file=sys.stderr)
    return 0


def _opened(model: str | None, devices: Sequence[str], opening: Mapping[str, Any]) -> Pipeline | PipelinePool:
    """A pipeline, or several that share the pictures out if there are several devices."""
    if len(devices) == 1:
        return Pipeline(model, **opening)
    return PipelinePool(model, devices=devices, **{name: value for name, value in opening.items() if name != "device"})


def _give_back(paths: Sequence[Path]) -> None:
    """Remove the empty files that were to keep names free."""
    for path in paths:
        if path.exists() and path.stat().st_size == 0:
            path.unlink()


def prompts_of(arguments: argparse.Namespace) -> list[str]:
    """The prompts: from the command line, a file or the standard input. Options of a picture are taken over."""
    if arguments.from_picture is not None:
        _take_over(arguments)
    given = [one for one in (arguments.prompt, arguments.positional, arguments.prompt_file) if one is not None]
    if len(given) != 1:
        raise InvalidArgumentError('give the prompt once: sdcpp generate "what to show"')
    if arguments.prompt_file is None:
        return [sys.stdin.read().strip() if given[0] == "-" else given[0]]
    if arguments.prompt_file == "-":
        text = sys.stdin.read()
    else:
        try:
            text = Path(arguments.prompt_file).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ModelNotFoundError(f"no such file: {arguments.prompt_file}") from None
        except UnicodeDecodeError:
            raise InvalidArgumentError(f"{arguments.prompt_file} is no text in UTF-8") from None
    prompts = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not prompts:
        raise InvalidArgumentError(f"{arguments.prompt_file} has no prompts; each line is one")
    return prompts


def begin_log(arguments: argparse.Namespace) -> None:
    """Let the log go to the terminal."""
    level, form = (logging.DEBUG, "%(levelname)s %(message)s") if arguments.verbose else (logging.WARNING, "sdcpp: %(message)s")
    logging.basicConfig(level=level, format=form)


def _jobs(arguments: argparse.Namespace, prompts: Sequence[str], count: int) -> tuple[list[outputs.Wanted], list[Path]]:
    """The pictures to be made, and their files; those that are there already are left out if the user wants that."""
    drawn = arguments.seed is None or arguments.seed < 0
    first = seed_value(arguments.seed)
    each = count // len(prompts)
    if arguments.dynamic or arguments.wildcards_dir is not None:
        folder = arguments.wildcards_dir
        prompts = [
            one
            for number, text in enumerate(prompts)
            for one in wildcards.expanded(text, each, seed=first % 2**63 + number, folder=folder)
        ]
        each = 1
    wanted = [outputs.Wanted(prompts[n // each], (first + n) % 2**64, n) for n in range(count)]
    if arguments.output is None:
        if arguments.resume:
            raise InvalidArgumentError("--resume needs -o, the names by which pictures are found again")
        return wanted, outputs.free_names(count)
    paths = outputs.named(arguments.output, wanted)
    outputs.check(paths)
    if arguments.resume:
        if "[seed]" in arguments.output and drawn:
            raise InvalidArgumentError("--resume needs -s if the names have [seed], which is drawn at random otherwise")
        left = [number for number, path in enumerate(paths) if not path.exists()]
        return [wanted[number] for number in left], [paths[number] for number in left]
    return wanted, paths


def opening_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `Pipeline` is opened with."""
    opening = {**flags.parts(arguments), **flags.values(arguments, MODEL)}
    return opening | {name: getattr(arguments, name) for name in ("lora_model_dir", "embeddings", "embedding_dir")}


def making_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What pictures are made with."""
    making = flags.values(arguments, GENERATE)
    inline = terminal.protocol(os.environ, sys.stderr.isatty()) if arguments.preview_inline else None
    preview_path = arguments.preview_path
    if preview_path is None and inline is None and making["preview"] != "none":
        preview_path = "preview.png"
    if preview_path is not None:
        _images.check_output(Path(preview_path))

    def keep(step: Step) -> None:
        if preview_path is not None:
            _images.save(step.preview, preview_path)
        if inline is not None:
            tqdm.write(terminal.shown(step.preview, inline), file=sys.stderr)

    return {
        "negative_prompt": arguments.negative_prompt,
        **making,
        **{"init_image": arguments.init_image, "mask_image": arguments.mask_image, "outpaint": arguments.outpaint},
        **{"depth_image": arguments.depth_image, "ref_images": arguments.ref_images},
        **{"loras": _loras(arguments.loras), "controls": controls.of(arguments), "ip_adapters": ip_adapters.of(arguments)},
        **{"use_taesd": arguments.taesd is not None, "preview_callback": keep if preview_path or inline else None},
    }


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
