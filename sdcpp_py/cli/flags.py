"""Flags made from the table of options, and of the files that make up a model."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from sdcpp_py.options import GENERATE, MODEL, Option

_TYPES: dict[str, Any] = {"integer": int, "number": float}  # a budget may be text, such as "CUDA0=8,4"

#: Flags of the files that make up a model: keyword, flags, help.
_PARTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("diffusion_model", ("--diffusion-model",), "a UNet or transformer alone, in place of the model's or without --model"),
    ("vae", ("--vae",), "a VAE to use in place of the model's"),
    (
        "text_encoders",
        ("--clip_l", "--clip_g", "--text-encoder"),
        "a CLIP text encoder in place of the model's; may be given for each",
    ),
    ("llm", ("--llm",), "the language model that reads the prompt (Z-Image: Qwen3 4B)"),
    ("taesd", ("--taesd",), "decode with this tiny autoencoder"),
)

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


def add_group(parser: argparse.ArgumentParser, group: str) -> argparse._ArgumentGroup:
    """A heading with the flags of the options that the table puts under it."""
    made = parser.add_argument_group(group)
    for option in (*MODEL.values(), *GENERATE.values()):
        if option.group == group and option.flags:
            add_option(made, option)
    return made


def add_parts(parser: Parser) -> None:
    """The flags of the files that make up a model."""
    for name, names, text in _PARTS:
        action = "append" if name == "text_encoders" else "store"
        parser.add_argument(*names, dest=name, action=action, metavar="FILE", help=text)


def parts(arguments: argparse.Namespace) -> dict[str, Any]:
    """The files that make up a model, as `Pipeline` and `convert` take them."""
    return {name: getattr(arguments, name) for name, _, _ in _PARTS}


def values(arguments: argparse.Namespace, table: Mapping[str, Option]) -> dict[str, Any]:
    """The options of ``table`` that have flags, by keyword."""
    return {name: getattr(arguments, name) for name, option in table.items() if option.flags and hasattr(arguments, name)}


def spell(name: str, value: str) -> str:
    """An option as the command line writes it: its long flag."""
    known = {**GENERATE, **MODEL}
    names = known[name].flags if name in known else next((names for part, names, _ in _PARTS if part == name), ())
    flag = next((one for one in names if one.startswith("--")), name)
    if not value:
        return flag
    return f"{flag} {'FILE' if value == '…' else value}"
