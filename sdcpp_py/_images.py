"""Pictures and what is written with them: generation parameters in A1111's form, atomic saving, numbering."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from sdcpp_py import _engine, options
from sdcpp_py._whole_file import require_writable, whole_file
from sdcpp_py.errors import InvalidArgumentError, ModelNotFoundError

_A1111_ORDER = ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model", "Clip skip")
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP"}


def parameters_text(prompt: str, negative_prompt: str, fields: Mapping[str, Any]) -> str:
    """Prompt, negative prompt and `Key: value` pairs as A1111's web UI writes them into PNG files."""
    lines = [prompt]
    if negative_prompt:
        lines.append(f"Negative prompt: {negative_prompt}")

    def quoted(value: Any) -> str:
        shown = str(value)
        return f'"{shown}"' if re.search(r"[,:\n]", shown) else shown

    lines.append(", ".join(f"{key}: {quoted(value)}" for key, value in fields.items()))
    return "\n".join(lines)


def parameters_of(used: Mapping[str, Any], model: str) -> str:
    """`parameters_text` of a picture made with the options ``used``, prompts among them, by the model called ``model``."""
    fields = options.written(used)
    fields["RNG"] = "GPU" if fields["RNG"] == "cuda" else "CPU"  # A1111's words
    model = os.fsencode(model).decode("utf-8", "replace")  # file names need not be text
    fields |= {"Model": model, "Version": f"sdcpp_py {_engine.version()}"}
    first = [key for key in _A1111_ORDER if key in fields]
    last = ["RNG", "Version"]
    keys = [*first, *(key for key in fields if key not in (*first, *last)), *last]
    return parameters_text(used["prompt"], used["negative_prompt"], {key: fields[key] for key in keys})


def output_paths(pattern: str | os.PathLike[str], count: int) -> list[Path]:
    """Paths of `count` pictures: `%d` (or `%03d`) numbers them from 0; without it, `_1`, `_2` … are put before the ending."""
    name = os.fspath(pattern)
    numbered = re.search(r"%0?\d*d", name)
    if numbered:
        return [Path(name[: numbered.start()] + numbered.group(0) % n + name[numbered.end() :]) for n in range(count)]
    first = Path(name)
    return [first, *(first.with_stem(f"{first.stem}_{n}") for n in range(1, count))]


def check_output(path: Path) -> None:
    """Raise if a picture could not be written to `path`: unknown ending, missing folder, a folder of that name, no permission."""
    if path.suffix.lower() not in _FORMATS:
        raise InvalidArgumentError(f"{path}: pictures are written as {', '.join(_FORMATS)}")
    if not path.parent.is_dir():
        raise ModelNotFoundError(f"the folder {path.parent} does not exist; create it first")
    try:
        require_writable(path)
    except OSError as problem:
        raise InvalidArgumentError(f"{path} cannot be written: {problem.strerror or problem}") from None


def save(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Write `image` to `path` whole or not at all; a PNG carries the text `parameters` from `image.info`."""
    target = Path(path)
    check_output(target)
    extra: dict[str, Any] = {}
    kind = _FORMATS[target.suffix.lower()]
    if kind == "PNG" and "parameters" in image.info:
        text = PngImagePlugin.PngInfo()
        text.add_text("parameters", image.info["parameters"])
        extra["pnginfo"] = text
    with whole_file(target) as temporary:
        image.save(temporary, kind, **extra)
