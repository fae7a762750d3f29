"""Flags made from the table of options, and of the files that make up a model."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from sdcpp_py._model_parts import COMPONENTS, ENCODERS_BY_FLAG
from sdcpp_py.errors import InvalidArgumentError
from sdcpp_py.options import GENERATE, MODEL, Option

# Flags of keywords that no table holds.
_OWN = {
    "loras": "--lora",
    "controls": "--control-net",
    "ip_adapters": "--ip-adapter",
    "lora_model_dir": "--lora-model-dir",
    "embeddings": "--embedding",
    "embedding_dir": "--embd-dir",
    "preview_callback": "--preview-path",
    "init_image": "--init-img",
    "ref_images": "--ref-image",
    "mask_image": "--mask",
    "depth_image": "--depth-image",
    "network": "--network",
    "prompt": "--prompt",
    "negative_prompt": "--negative-prompt",
}
_TYPES: dict[str, Any] = {"integer": int, "number": float}  # a budget may be text, such as "CUDA0=8,4"

Parser = argparse.ArgumentParser | argparse._ArgumentGroup


def add_option(parser: Parser, option: Option, *more: str) -> None:
    """Add the flags of ``option``, and ``more`` names for it."""
    names, text = (*option.flags, *more), option.help.replace("%", "%%")
    if option.flags[0].startswith("--no-"):
        parser.add_argument(*names, dest=option.name, action="store_false", default=option.keyword_default, help=text)
    elif option.kind == "switch":
        parser.add_argument(*names, dest=option.name, action="store_true", default=option.keyword_default, help=text)
    else:
        if option.choices:
            text += ": " + ", ".join(option.choices)
        if option.keyword_default is not None:
            text += " (default: %(default)s)"
        kind = _TYPES.get(option.kind, str)
        parser.add_argument(*names, dest=option.name, type=kind, metavar=option.unit, default=option.keyword_default, help=text)


def add_options(heading: argparse._ArgumentGroup) -> None:
    """The flags of the options that the table puts under a heading, by its title."""
    for option in (*MODEL.values(), *GENERATE.values()):
        if option.group == heading.title and option.flags:
            add_option(heading, option)


def _part_flags() -> dict[str, tuple[str, str]]:
    """Keyword and help of every flag that names a component's file."""
    return {flag: (component.option, component.help) for component in COMPONENTS for flag in component.flags}


def add_model(parser: Parser, text: str) -> None:
    """The model's file or folder, alone or behind -m."""
    parser.add_argument("positional_model", metavar="MODEL", nargs="?", help=text)
    parser.add_argument("-m", "--model", metavar="PATH", help="the model as an option")


def model(arguments: argparse.Namespace) -> str | None:
    """The model that `add_model` took. Raises InvalidArgumentError."""
    given = [path for path in (arguments.positional_model, arguments.model) if path is not None]
    if len(given) > 1:
        raise InvalidArgumentError("give the model once")
    return given[0] if given else None


def add_parts(parser: Parser) -> None:
    """The flags of the files that make up a model."""
    for flag, (_, text) in _part_flags().items():
        parser.add_argument(flag, dest=flag.strip("-").replace("-", "_"), metavar="FILE", help=text)
    parser.add_argument("--text-encoder", action="append", metavar="FILE", help="a text encoder; its file shows the kind")


def parts(arguments: argparse.Namespace) -> dict[str, Any]:
    """The files that make up a model, as `Pipeline` and `convert` take them."""
    paths = {option: getattr(arguments, flag.strip("-").replace("-", "_")) for flag, (option, _) in _part_flags().items()}
    encoders = {component: getattr(arguments, word) for word, component in ENCODERS_BY_FLAG.items()}
    named = {component: path for component, path in encoders.items() if path is not None}
    return {**paths, "text_encoders": arguments.text_encoder, "parts": named or None}


#: A flag that may be given several times, the field of an entry that it gives, its type, its unit and its help.
Row = tuple[str, str, Any, str, str]


def _destination(field: str, word: str) -> str:
    return f"{word}s" if field == "path" else f"{word}_{field}"


def add_rows(parser: Parser, rows: Sequence[Row], word: str) -> None:
    """Flags that belong together: the paths of entries come first. ``word`` begins the names of their values."""
    for flag, field, kind, unit, text in rows:
        parser.add_argument(flag, dest=_destination(field, word), action="append", type=kind, metavar=unit, help=text)


def of_rows(arguments: argparse.Namespace, rows: Sequence[Row], word: str, lacks_picture: str) -> list[dict[str, Any]]:
    """The entries that the flags give, by field. A flag's last value counts for the entries that have none of their own.

    ``lacks_picture`` says in an error that a path has no picture.
    """
    given = {field: getattr(arguments, _destination(field, word)) or [] for _, field, *_ in rows}
    names = {field: flag for flag, field, *_ in rows}
    paths, most = given["path"], max(map(len, given.values()))
    if not paths and most:
        lonely = next(names[field] for field, values in given.items() if values)
        raise InvalidArgumentError(f"{lonely} has no effect without {names['path']} FILE")
    if paths and not given["image"]:
        raise InvalidArgumentError(f"{names['path']} {lacks_picture}: {names['image']} FILE")
    if most > len(paths):
        many = next(names[field] for field, values in given.items() if len(values) == most)
        raise InvalidArgumentError(f"{many} is given {most} times, {names['path']} {len(paths)} times")
    return [
        {field: values[min(number, len(values) - 1)] for field, values in given.items() if values} for number in range(len(paths))
    ]


def values(arguments: argparse.Namespace, table: Mapping[str, Option]) -> dict[str, Any]:
    """The options of ``table`` that have flags, by keyword."""
    return {name: getattr(arguments, name) for name, option in table.items() if option.flags and hasattr(arguments, name)}


def device_names(text: str) -> list[str]:
    """The devices of --device, with commas between them. A device's settings have commas, too: "CUDA0:link=12,vram=6"."""
    names: list[str] = []
    for piece in text.split(","):
        if names and "=" in piece and ":" not in piece.partition("=")[0]:
            names[-1] += f",{piece}"
        else:
            names.append(piece.strip())
    return names


def spell(name: str, value: str) -> str:
    """An option as the command line writes it: its long flag."""
    known = {**GENERATE, **MODEL}
    if name in known:
        names: Sequence[str] = known[name].flags
    elif name in _OWN:
        names = [_OWN[name]]
    elif name == "text_encoders":
        names = ["--text-encoder"]  # which takes every kind
    else:
        names = [flag for flag, (option, _) in _part_flags().items() if option == name]
    flag = next((one for one in names if one.startswith("--")), name)
    if not value:
        return flag
    return f"{flag} {'FILE' if value == '…' else value}"
