"""Inpainting's pictures: masks made ready, the repainted part filled, the kept pixels put back. White is repainted.

The steps and their order are those of A1111's web UI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from sdcpp_py import _images, options
from sdcpp_py.errors import InvalidArgumentError, shown

Floats = NDArray[np.float32]
Mask = _images.Picture | NDArray[np.bool_]
Box = tuple[int, int, int, int]  # left, top, right, bottom

DEFAULTS: dict[str, Any] = {"mask_blur": 4.0, "mask_fill": "original", "paste_back": True}
_PADDING = 32  # pixels
_FEATHER = 40  # pixels of a picture into which its new surroundings fade
_FILL_BLURS = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1))  # radius, and how often the result is laid over


@dataclass(frozen=True, eq=False)
class Work:
    """One picture to be inpainted."""

    picture: Image.Image  #: the run begins from it; as large as is made
    mask: Floats  #: [height, width] of that, 0 to 1
    kept: Image.Image  #: the source of the pixels that are put back
    paste: Floats  #: [height, width] of that, 0 to 1: how much of the result is seen
    box: Box | None  #: the place of the result in it; None: all of it

    def latent_mask(self, factor: int, soft: bool) -> Floats:
        """[h, w]: a latent pixel is repainted if any of its pixels is; soft: as much as its pixels are."""
        height, width = self.mask.shape
        blocks = self.mask.reshape(height // factor, factor, width // factor, factor)
        shares: Floats = blocks.mean((1, 3)) if soft else np.round(blocks.max((1, 3)))
        return shares

    def shown(self, factor: int) -> tuple[Floats, NDArray[np.bool_]]:
        """What checkpoints for inpainting see: the mask in latent size [1, h, w], and the pixels [height, width] to be hidden."""
        repainted = self.mask >= 0.5
        return repainted[::factor, ::factor].astype(np.float32)[None], repainted

    def pasted(self, result: Image.Image) -> Image.Image:
        """The result with the pixels that were to be kept."""
        if self.box is not None:
            left, top, right, bottom = self.box
            whole = self.kept.copy()
            whole.paste(result.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
            result = whole
        share = self.paste[..., None]
        mixed = np.asarray(result, np.float32) * share + np.asarray(self.kept, np.float32) * (1 - share)
        return Image.fromarray(np.round(mixed).astype(np.uint8))


def mask_of(given: Any) -> Image.Image:
    """A mask in grey: a picture's alpha if that says anything, else its brightness. Raises as `_images.opened` does."""
    if isinstance(given, np.ndarray) and given.ndim == 2 and given.dtype in (np.uint8, np.bool_):
        return Image.fromarray(given.astype(np.uint8) * (255 if given.dtype == np.bool_ else 1))
    picture = _images.unflattened(given)
    if "A" in picture.getbands() and np.asarray(alpha := picture.getchannel("A")).min() < 255:
        return alpha
    return picture.convert("RGB").convert("L")


def sides_of(given: Any) -> tuple[int, int, int, int]:
    """The pixels that a picture is to grow to the left, top, right and bottom. Raises InvalidArgumentError."""
    try:
        several = [int(side) for side in given.split(",")] if isinstance(given, str) else given
        sides = [options.integer("outpaint", side, 0, _images.MAX_SIDE) for side in several]
    except (TypeError, ValueError, InvalidArgumentError):
        sides = []
    if len(sides) != 4 or not any(sides):
        raise InvalidArgumentError.of("outpaint", f"must be four numbers of pixels: left, top, right, bottom, not {shown(given)}")
    left, top, right, bottom = sides
    return left, top, right, bottom


def outpainted(picture: Image.Image, sides: tuple[int, int, int, int], multiple: int) -> tuple[Image.Image, Image.Image]:
    """The picture on a larger canvas, and the mask of what is new, which fades into the picture.

    The new parts grow until the sides are whole multiples.
    """
    left, top, right, bottom = sides
    wide, tall = (-(-side // multiple) * multiple for side in (picture.width + left + right, picture.height + top + bottom))
    more_x, more_y = wide - picture.width - left - right, tall - picture.height - top - bottom
    left, right = (left, right + more_x) if right or not left else (left + more_x, right)
    top, bottom = (top, bottom + more_y) if bottom or not top else (top + more_y, bottom)
    _images.require_pixels(wide, tall)
    canvas = Image.new("RGB", (wide, tall), (128, 128, 128))
    canvas.paste(picture, (left, top))
    away = np.full((tall, wide), np.inf)  # from the new parts
    for distances, grows in (
        (np.arange(picture.width)[None, :], left),
        (np.arange(picture.width)[::-1][None, :], right),
        (np.arange(picture.height)[:, None], top),
        (np.arange(picture.height)[::-1][:, None], bottom),
    ):
        if grows:
            inner = away[top : top + picture.height, left : left + picture.width]
            np.minimum(inner, distances, out=inner)
    mask = np.where(away < _FEATHER, ((_FEATHER - np.minimum(away, _FEATHER)) / _FEATHER) ** 2, 0)
    new = np.ones_like(mask, bool)
    new[top : top + picture.height, left : left + picture.width] = False
    return canvas, Image.fromarray(np.round(255 * np.where(new, 1, mask)).astype(np.uint8))


def prepared(picture: Image.Image, mask: Image.Image, width: int, height: int, used: Mapping[str, Any]) -> Work:
    """What is sampled for a picture and its mask in pictures of ``width`` x ``height``; ``used``: options by name.

    Raises InvalidArgumentError for a mask of another size, and for one that repaints nothing.
    """
    if mask.size != picture.size:
        sizes = f"{mask.width}x{mask.height}, the picture is {picture.width}x{picture.height}"
        raise InvalidArgumentError.of("mask_image", f"is {sizes}; they must be of one size")
    if used.get("mask_invert"):
        mask = ImageOps.invert(mask)
    if mask.getextrema() == (0, 0):
        raise InvalidArgumentError.of("mask_image", "repaints nothing: white is repainted, and there is none; try mask_invert")
    values = blurred(np.asarray(mask, np.float32) / np.float32(255), used["mask_blur"])
    if used.get("only_masked"):
        padding = used.get("only_masked_padding", _PADDING)
        box = expanded(grown(values, padding), width, height, picture.size)
        size, paste, kept = (width, height), values, picture
        picture = picture.crop(box).resize(size, Image.Resampling.LANCZOS)
        values = _resized(values[box[1] : box[3], box[0] : box[2]], width, height)
    else:
        box = None
        picture = kept = _images.fitted(picture, width, height)
        values = np.asarray(_images.fitted(Image.fromarray(values), width, height)).clip(0, 1)
        paste = (2 * values).clip(0, 1)
    paste = np.where(paste < 0.5 / 255, 0, paste).astype(np.float32)
    if used["mask_fill"] == "fill":
        picture = _filled(picture, values)
    return Work(picture, values.astype(np.float32), kept, paste, box)


def blurred(mask: Floats, sigma: float) -> Floats:
    """A Gaussian blur over int(2.5 sigma + 0.5) pixels to each side; the mask goes on beyond its border as in a mirror."""
    radius = int(2.5 * sigma + 0.5)
    if radius == 0:
        return mask
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (1, 0):
        sides, length = [(radius, radius) if side == axis else (0, 0) for side in (0, 1)], mask.shape[axis]
        wide = np.pad(mask, sides, "reflect") if length > 1 else np.pad(mask, sides, "edge")
        mask = np.float32(0) * mask
        for at, weight in enumerate(weights):
            mask = mask + np.float32(weight) * wide.take(range(at, at + length), axis)
    return mask


def grown(mask: Floats, padding: int) -> Box:
    """The box of what is repainted at all, grown on all sides."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    left, top = max(0, int(columns[0]) - padding), max(0, int(rows[0]) - padding)
    return left, top, min(width, int(columns[-1]) + 1 + padding), min(height, int(rows[-1]) + 1 + padding)


def expanded(box: Box, width: int, height: int, size: tuple[int, int]) -> Box:
    """The box in the shape of width and height as far as a picture of that ``size`` has room."""
    left, top, right, bottom = box
    if (right - left) * height > width * (bottom - top):
        top, bottom = _stretched(top, bottom, int((right - left) * height / width - (bottom - top)), size[1])
    else:
        left, right = _stretched(left, right, int((bottom - top) * width / height - (right - left)), size[0])
    return left, top, right, bottom


def _stretched(first: int, last: int, more: int, most: int) -> tuple[int, int]:
    first, last = first - more // 2, last + more - more // 2
    if last > most:
        first, last = first - (last - most), most
    if first < 0:
        first, last = 0, min(most, last - first)
    return first, last


def _resized(mask: Floats, width: int, height: int) -> Floats:
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BILINEAR)).clip(0, 1)


def _filled(picture: Image.Image, mask: Floats) -> Image.Image:
    """The repainted part in the colours around it: blurs of what is kept, the widest at the bottom."""
    kept = picture.convert("RGBA")
    kept.putalpha(Image.fromarray(np.round(255 * (1 - mask)).astype(np.uint8)))
    whole = Image.new("RGBA", picture.size)
    for radius, times in _FILL_BLURS:
        layer = kept.convert("RGBa").filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            whole.alpha_composite(layer)
    return whole.convert("RGB")
