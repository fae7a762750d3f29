"""Several pictures as one, with labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from sdcpp_py._images import MAX_SIDE
from sdcpp_py.errors import InvalidArgumentError

_PADDING = 6  # pixels around a label
_LETTERS = 48  # of a label


def grid(
    images: Sequence[Image.Image],
    columns: int | None = None,
    column_labels: Sequence[str] = (),
    row_labels: Sequence[str] = (),
) -> Image.Image:
    """Pictures row by row in ``columns`` (None: as near to a square as they go).

    Raises InvalidArgumentError if it is too large.
    """
    if not images:
        raise InvalidArgumentError("a grid needs a picture")
    across = columns or math.ceil(math.sqrt(len(images)))
    down = math.ceil(len(images) / across)
    width, height = (max(image.size[side] for image in images) for side in (0, 1))
    font = ImageFont.load_default(max(12, min(width, height) // 24))
    left = max((_length(font, label) for label in row_labels), default=0)
    top = max((_tall(font, label) for label in column_labels), default=0)
    if left + across * width > MAX_SIDE or top + down * height > MAX_SIDE:
        raise InvalidArgumentError(
            f"a grid of {across} x {down} pictures of {width} x {height} is too large; take fewer or smaller ones"
        )
    whole = Image.new("RGB", (left + across * width, top + down * height), "white")
    for number, image in enumerate(images):
        x, y = left + number % across * width, top + number // across * height
        whole.paste(image.convert("RGB"), (x + (width - image.width) // 2, y + (height - image.height) // 2))
    draw = ImageDraw.Draw(whole)
    for number, label in enumerate(column_labels):
        draw.text((left + (number + 0.5) * width, top / 2), _within(font, label, width), fill="black", font=font, anchor="mm")
    for number, label in enumerate(row_labels):
        draw.text((left / 2, top + (number + 0.5) * height), _short(label), fill="black", font=font, anchor="mm")
    return whole


def _short(label: str) -> str:
    return label if len(label) <= _LETTERS else f"{label[: _LETTERS - 1]}…"


def _within(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, label: str, width: int) -> str:
    """A label, cut to a width."""
    text = _short(label)
    while len(text) > 1 and font.getlength(text) > width:
        text = f"{text[:-2]}…"
    return text


def _length(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, label: str) -> int:
    return math.ceil(font.getlength(_short(label))) + 2 * _PADDING


def _tall(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, label: str) -> int:
    box = font.getbbox(_short(label) or "x")
    return math.ceil(box[3]) + 2 * _PADDING
