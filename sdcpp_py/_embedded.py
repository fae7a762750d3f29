"""The small model that comes with the package: its file, and what it can draw."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

# The words of its training (`training/pictures.py`).
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "cyan", "black", "white")
SUBJECT = (
    f"one or two coloured shapes ({', '.join(SHAPES)}) on a coloured background, "
    "such as 'a red circle left of a blue square on a white background'"
)


def embedded_model() -> Path:
    """The path of the small model that comes with the package."""
    return Path(str(resources.files("sdcpp_py").joinpath("data/shapes.gguf")))


def can_draw(prompt: str) -> bool:
    """Whether ``prompt`` names a shape of the embedded model."""
    words = re.findall(r"[a-z]+", prompt.lower())
    return any({word, word.removesuffix("s"), word.removesuffix("es")} & set(SHAPES) for word in words)
