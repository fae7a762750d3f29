"""The second pass of hires fix: its size, its steps, and what it begins from.

Sizes and steps are stable-diffusion.cpp's, so that the same options give its picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdcpp_py.errors import InvalidArgumentError

Floats = NDArray[np.float32]
NAMES = ("hires_upscaler", "hires_scale", "hires_width", "hires_height", "hires_steps", "hires_denoising_strength")
DEFAULTS: dict[str, Any] = {"hires_upscaler": "latent", "hires_scale": 2.0, "hires_denoising_strength": 0.7}
_BICUBIC = -0.75  # PyTorch's coefficient; Pillow's is -0.5


@dataclass(frozen=True)
class SecondPass:
    """What the second pass does."""

    width: int
    height: int
    steps: int  #: of its schedule
    strength: float
    upscaler: str

    @property
    def run(self) -> int:
        """How many of the steps are done."""
        return min(int(self.strength * self.steps) + 1, self.steps)


def second_pass(used: Mapping[str, Any], multiple: int) -> SecondPass:
    """The second pass of a call with the options ``used``; sides are rounded up to ``multiple``. Raises InvalidArgumentError."""
    width, height = used.get("hires_width"), used.get("hires_height")
    if width is None and height is None:
        width, height = used["width"] * used["hires_scale"], used["height"] * used["hires_scale"]
    elif width is None:
        width = used["width"] * height / used["height"]
    elif height is None:
        height = used["height"] * width / used["width"]
    assert width is not None and height is not None
    wide, tall = (math.ceil(int(side) / multiple) * multiple for side in (width, height))
    if wide < used["width"] or tall < used["height"]:
        raise InvalidArgumentError(
            f"hires makes pictures larger; {wide} x {tall} is smaller than the first pass's {used['width']} x {used['height']}"
        )
    strength, steps = used["hires_denoising_strength"], used.get("hires_steps") or used["steps"]
    whole = max(1, int(steps / min(max(strength, 1e-3), 0.999))) if used.get("hires_exact_steps") else 0
    if whole:
        return SecondPass(wide, tall, whole, (min(steps, whole) - 0.5) / whole, used["hires_upscaler"])
    whole = max(1, min(10_000, int(steps / strength))) if strength > 0 else steps
    return SecondPass(wide, tall, whole, strength, used["hires_upscaler"])


def enlarged_latent(latent: Floats, height: int, width: int, upscaler: str) -> Floats:
    """A latent [C, h, w] as [C, height, width], as PyTorch interpolates."""
    kind = upscaler.removeprefix("latent").strip("_")
    if kind == "bicubic":
        return _bicubic(_bicubic(latent, height, 1), width, 2)
    if kind.startswith("nearest"):
        half = 0.5 if kind == "nearest_exact" else 0.0
        sides = ((height, latent.shape[1]), (width, latent.shape[2]))
        rows, columns = (((np.arange(new, dtype=np.float32) + half) * np.float32(old / new)).astype(int) for new, old in sides)
        return np.ascontiguousarray(latent[:, rows][:, :, columns])
    # bilinear is the antialiased one, too, if pictures become larger
    how = Image.Resampling.BICUBIC if kind == "bicubic_antialiased" else Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(plane).resize((width, height), how), np.float32) for plane in latent])


def _bicubic(values: Floats, side: int, axis: int) -> Floats:
    """Cubic convolution along an axis (Keys 1981)."""
    old = values.shape[axis]
    place = (np.arange(side) + 0.5) * old / side - 0.5
    first = np.floor(place)
    out = np.zeros([side if number == axis else length for number, length in enumerate(values.shape)])
    for offset in (-1, 0, 1, 2):
        x = np.abs(place - first - offset)
        a = _BICUBIC
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        weight = np.where(x <= 1, near, far)
        index = np.clip(first + offset, 0, old - 1).astype(int)
        shape = [-1 if number == axis else 1 for number in range(values.ndim)]
        out += np.take(values, index, axis) * weight.reshape(shape)
    return out.astype(np.float32)
