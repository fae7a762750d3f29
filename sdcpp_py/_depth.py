"""Pictures of depths, for models that follow them: near is bright."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sdcpp_py import _images
from sdcpp_py.errors import InvalidArgumentError

Floats = NDArray[np.float32]
Depth = _images.Picture | Floats


def depth_of(given: Any) -> Image.Image:
    """Depths as a picture of floats: from numbers [H, W], or a picture of 8 or 16 bits or of floats.

    Raises as `_images.opened` does, and for depths that are the same everywhere.
    """
    if isinstance(given, np.ndarray) and given.ndim == 2 and given.size and given.dtype.kind in "fiu":
        numbers = given.astype(np.float32)
    else:
        numbers = _of_picture(given)
    if not np.isfinite(numbers).all():
        raise InvalidArgumentError.of("depth_image", "has values that are no finite numbers")
    if numbers.min() == numbers.max():
        raise InvalidArgumentError.of("depth_image", "is the same everywhere; depths of a scene are needed")
    return Image.fromarray(numbers)


def _of_picture(given: Any) -> Floats:
    if isinstance(given, (str, os.PathLike)):
        with _images.file_errors(given), Image.open(given) as file:
            return _of_picture(file)
    if isinstance(given, Image.Image) and (given.mode == "F" or given.mode.startswith("I")):
        return np.asarray(ImageOps.exif_transpose(given), np.float32)
    return np.asarray(_images.opened(given).convert("L"), np.float32)


def seen(depth: Image.Image, width: int, height: int, factor: int) -> Floats:
    """What the model sees for pictures of ``width`` x ``height``: [1, h, w] in -1 to 1, the depths' middle in their shape."""
    size = (width // factor, height // factor)
    values = np.asarray(ImageOps.fit(depth, size, Image.Resampling.BICUBIC) if depth.size != size else depth, np.float32)
    least, most = values.min(), values.max()
    return np.asarray(2 * (values - least) / max(most - least, np.finfo(np.float32).tiny) - 1, np.float32)[None]
