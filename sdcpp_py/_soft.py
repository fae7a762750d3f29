"""Soft inpainting's last step, as A1111's web UI has it: pixels are kept where the latent has hardly changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdcpp_py import _inpaint

Floats = NDArray[np.float32]

_SMOOTH = 1.0  # latent pixels, of distances
_EDGE = 4.0  # pixels, of the paste mask
_LEAST = 0.5 / 255  # a smaller share of a result cannot be seen


def by_change(work: _inpaint.Work, before: Floats, after: Floats, factor: int, used: Mapping[str, Any]) -> _inpaint.Work:
    """The work, with as much of the result to be seen as the latent [C, h, w] has changed."""
    share = seen_share(before, after, work.latent_mask(factor, True), used)
    height, width = work.mask.shape
    pixels = np.asarray(Image.fromarray(share).resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)
    paste = _inpaint.blurred(pixels, _EDGE)
    if work.box is not None:
        left, top, right, bottom = work.box
        part = np.asarray(Image.fromarray(paste).resize((right - left, bottom - top), Image.Resampling.BILINEAR))
        paste = np.zeros((work.kept.height, work.kept.width), np.float32)
        paste[top:bottom, left:right] = part
    return replace(work, paste=np.where(paste < _LEAST, 0, paste.clip(0, 1)).astype(np.float32))


def seen_share(before: Floats, after: Floats, mask: Floats, used: Mapping[str, Any]) -> Floats:
    """[h, w], 0 to 1: half at a distance of ``soft_difference_threshold``, steeper with ``soft_difference_contrast``.

    ``soft_mask_influence`` lets ``mask`` move the threshold: where it repaints, less of a change is enough.
    """
    distance = _inpaint.blurred(np.linalg.norm(after - before, axis=0).astype(np.float32), _SMOOTH)
    influence = used.get("soft_mask_influence", 0.0)
    kept = 1 - mask ** (used.get("soft_preservation", 0.5) / 2)
    level = 0.5 * (1 - influence) + kept * influence
    half = used.get("soft_difference_threshold", 0.5) * level / (1.00001 - level)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(half > 0, distance / half, np.where(distance > 0, np.inf, 0))
        away = 1 / (1 + ratio ** used.get("soft_difference_contrast", 2.0))
    return np.asarray(1 - away**3 * (away * (6 * away - 15) + 10), np.float32)
