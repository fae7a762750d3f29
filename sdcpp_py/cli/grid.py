"""`sdcpp grid`: pictures that differ in one or two options, side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sdcpp_py import _images, _names
from sdcpp_py._grid import grid
from sdcpp_py._printable import printable
from sdcpp_py.cli import generate
from sdcpp_py.errors import InvalidArgumentError
from sdcpp_py.options import GENERATE, seed_value
from sdcpp_py.pipeline import Pipeline

_MOST = 400  # pictures
_EXAMPLE = """example:
  sdcpp grid "a red circle left of a blue square on a white background" -x steps=2,4,8 -y prompt=red,green,yellow -s 1 -o grid.png
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "grid",
        help="compare pictures that differ in one or two options",
        description="Make one picture of many that differ in one or two options.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    axes = parser.add_argument_group("axes")
    text = "an option and its values, such as steps=4,8,16; prompt=a,b puts b in the place of a in the prompt"
    axes.add_argument("-x", metavar="NAME=VALUE,…", required=True, help=f"across: {text}")
    axes.add_argument("-y", metavar="NAME=VALUE,…", help="down: the same")
    generate.add_arguments(parser)
    parser.set_defaults(run=run, unknown_words="; put a prompt of several words in quotes")


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out."""
    prompts = generate.prompts_of(arguments)
    generate.begin_log(arguments)
    target = Path(arguments.output or "grid.png")
    _images.check_output(target)
    across, down = _axis(arguments.x), _axis(arguments.y) if arguments.y else [("", {})]
    if len(prompts) > 1 or arguments.batch_count != 1 or arguments.grid or arguments.resume or arguments.dynamic:
        raise InvalidArgumentError("a grid has one prompt, and no --batch-count, --dynamic, --grid or --resume")
    if len(across) * len(down) > _MOST:
        raise InvalidArgumentError(f"a grid of {len(across) * len(down)} pictures is too large; {_MOST} are possible")
    opening, making = generate.opening_of(arguments), generate.making_of(arguments)
    making["seed"] = seed_value(making["seed"])
    images = []
    with Pipeline(arguments.model, **opening, rng=making.pop("rng"), whole_process=True) as pipeline:
        places = [(one, other) for _, other in down for _, one in across]
        for one, other in tqdm(places, unit="picture", disable=arguments.progress is False or None, leave=False):
            own = {**making, **one, **other}
            prompt = prompts[0]
            for change in (one, other):
                old, new = change.get("prompt", ("", ""))
                if old and old not in prompt:
                    raise InvalidArgumentError(f"the prompt does not hold {old!r:.60}, which an axis replaces")
                prompt = prompt.replace(old, new) if old else prompt
            own.pop("prompt", None)
            images.append(pipeline.generate(prompt, **own, progress=False).image)
    whole = grid(images, len(across), [label for label, _ in across], [label for label, _ in down if label])
    whole.info["parameters"] = images[0].info["parameters"]
    _images.save(whole, target)
    print(printable(str(target)))
    print(f"{len(images)} pictures, seed {making['seed']}", file=sys.stderr)
    return 0


def _axis(text: str) -> list[tuple[str, dict[str, Any]]]:
    """An axis' labels, and what each changes."""
    name, equals, values = text.partition("=")
    every = [value.strip() for value in values.split(",") if value.strip()]
    if not equals or not every:
        raise InvalidArgumentError(f"{text!r:.60} is no axis; write NAME=VALUE,VALUE…")
    if name == "prompt":
        return [(value, {"prompt": (every[0], value)}) for value in every]
    known = {**{option.name: option for option in GENERATE.values() if option.flags}}
    known |= {flag.lstrip("-"): option for option in known.copy().values() for flag in option.flags}
    option = known.get(name) or known.get(_names.KEYWORDS.get(name, ""))
    if option is None or option.name in ("batch_count", "rng"):
        raise InvalidArgumentError(f"{name!r:.60} is no option of a picture; there are prompt and {', '.join(GENERATE)}")
    return [(f"{option.name} {value}", {option.name: _value(option, value)}) for value in every]


def _value(option: Any, text: str) -> Any:
    if option.kind == "switch":
        if text.lower() not in ("true", "false", "on", "off"):
            raise InvalidArgumentError.of(option.name, f"must be true or false, not {text!r:.40}")
        return text.lower() in ("true", "on")
    if option.kind in ("integer", "number"):
        try:
            return int(text) if option.kind == "integer" else float(text)
        except ValueError:
            raise InvalidArgumentError.of(option.name, f"must be a number, not {text!r:.40}") from None
    return text
