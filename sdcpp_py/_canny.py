"""Edges of pictures (Canny 1986): with OpenCV's numbers, and in the form that stable-diffusion-cpp-python has it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_TANGENT = 13573  # of 22.5 degrees, times 2^15: OpenCV's whole numbers


def edges(picture: NDArray[np.uint8], low: float, high: float) -> NDArray[np.uint8]:
    """White edges on black, [H, W] of bytes, of a picture [H, W] or [H, W, C], as ``cv2.Canny(picture, low, high)``."""
    planes = picture[..., None] if picture.ndim == 2 else picture
    across, down = _gradients(planes.astype(np.int32), "edge")
    strengths = np.abs(across) + np.abs(down)
    strongest = strengths.argmax(-1)[..., None]  # the channel with the clearest edge counts
    across, down, strength = (np.take_along_axis(one, strongest, -1)[..., 0] for one in (across, down, strengths))
    low, high = int(np.floor(min(low, high))), int(np.floor(max(low, high)))
    possible = (strength > low) & _ridges(across, down, strength)
    return np.where(_connected(possible & (strength > high), possible), 255, 0).astype(np.uint8)


def soft_edges(
    picture: NDArray[np.uint8], low: float, high: float, weak: float, strong: float, inverse: bool
) -> NDArray[np.uint8]:
    """Edges [H, W] of a blurred picture [H, W, 3]: thresholds are shares of the largest gradient, and ``low`` one of ``high``."""
    grey = (picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)) / np.float32(255)
    across, down = _gradients(_smoothed(grey)[..., None], "edge")
    across, down = across[..., 0], down[..., 0]
    strength = np.hypot(across, down)
    top = float(strength.max()) * high
    ridge = _ridges((across * 65536).astype(np.int64), (down * 65536).astype(np.int64), strength)
    certain, possible = ridge & (strength >= top) & (strength > 0), ridge & (strength >= top * low) & (strength > 0)
    kept = possible & ~certain & _beside(certain)
    values = np.where(certain, strong, np.where(kept, weak, 0.0))
    values = 1 - values if inverse else values
    return np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)


def _gradients(planes: Array, border: Any) -> tuple[Array, Array]:
    """Sobel's, 3x3, of planes [H, W, C]."""
    p = np.pad(planes, ((1, 1), (1, 1), (0, 0)), border)
    rows = p[:-2] + 2 * p[1:-1] + p[2:]
    columns = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
    return rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]


def _ridges(across: Array, down: Array, strength: Array) -> NDArray[np.bool_]:
    """Where the strength is largest along the gradient's direction, which is one of four."""
    m = np.pad(strength, 1)
    height, width = strength.shape

    def beside(y: int, x: int) -> Array:
        return m[1 + y : 1 + y + height, 1 + x : 1 + x + width]

    wide, tall = np.abs(across).astype(np.int64), np.abs(down).astype(np.int64) << 15
    flat = wide * _TANGENT
    steep = flat + (wide << 16)
    lying = (strength > beside(0, -1)) & (strength >= beside(0, 1))
    standing = (strength > beside(-1, 0)) & (strength >= beside(1, 0))
    falling = (strength > beside(-1, -1)) & (strength > beside(1, 1))
    rising = (strength > beside(-1, 1)) & (strength > beside(1, -1))
    slanted = np.where((across < 0) != (down < 0), rising, falling)
    found: NDArray[np.bool_] = np.where(tall < flat, lying, np.where(tall > steep, standing, slanted))
    return found


def _connected(certain: NDArray[np.bool_], possible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is possible and connected with what is certain, eight neighbours a place."""
    height, width = certain.shape
    found, open_ = np.pad(certain, 1).ravel(), np.pad(possible & ~certain, 1).ravel()
    line = width + 2
    steps = np.array([y * line + x for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)])
    front = np.flatnonzero(found)
    while front.size:
        near = (front[:, None] + steps).ravel()
        near = np.unique(near[open_[near]])
        open_[near] = False
        found[near] = True
        front = near
    return found.reshape(height + 2, line)[1:-1, 1:-1]


def _beside(marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Places with a marked one among their eight neighbours."""
    p = np.pad(marked, 1)
    height, width = marked.shape
    found: NDArray[np.bool_] = np.any([p[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)
    return found


def _smoothed(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """A Gaussian blur of 5x5 with a deviation of 1.4."""
    weights = np.exp(-0.5 * (np.arange(-2, 3) / 1.4) ** 2)
    weights /= weights.sum()
    p = np.pad(grey, 2, "edge")
    height, width = grey.shape
    rows = sum(weight * p[at : at + height] for at, weight in enumerate(weights))
    return np.asarray(sum(weight * rows[:, at : at + width] for at, weight in enumerate(weights)), np.float32)
