"""ControlNets and T2I-Adapters of a call: a file, and the picture that makes the result follow it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdcpp_py import _beside, _canny, _engine, _images, options
from sdcpp_py.errors import shown

MODES = ("balanced", "prompt", "control")
#: Types of hints of a ControlNet union, and their numbers.
TYPES = {
    **{"openpose": 0, "depth": 1, "softedge": 2, "hed": 2, "pidi": 2, "scribble": 2, "canny": 3, "lineart": 3, "mlsd": 3},
    **{"normal": 4, "segment": 5, "tile": 6, "repaint": 7},
}
_MODE_TITLES = {"balanced": "Balanced", "prompt": "My prompt is more important", "control": "ControlNet is more important"}

PathLike = _beside.PathLike


@dataclass(frozen=True, eq=False)
class Control(_beside.Entry):
    """A ControlNet or T2I-Adapter for `Pipeline.generate`, with the picture that it follows.

    ``path`` is a tensor file or a folder of one, ``image`` the hint (a path, a PIL image, or uint8 [H, W, 3]): lines, depths,
    poses, as the network was trained for. It is cut and scaled to the result's size. ``canny`` takes the image's edges instead.
    ``strength`` 1 is as trained, 0 leaves the network out. It counts in the steps that lie within the shares ``start`` to
    ``end``. ``mode`` "prompt" lets blocks far from the middle count less, "control" likewise and not for the negative prompt.
    ``weights`` are factors for its outputs: the skips in order and the middle of a ControlNet, the levels of a T2I-Adapter.
    ``type`` is a union's type of hint, a name of `TYPES` or a number.
    """

    strength: float = 0.9
    mode: str = "balanced"
    weights: Sequence[float] | None = None
    type: str | int | None = None
    canny: bool = False


_KEYWORD = _beside.Keyword("controls", Control, "a Control", "[('canny.safetensors', 'edges.png', 0.9)]")
ControlLike = Control | tuple[PathLike, _images.Picture] | tuple[PathLike, _images.Picture, float] | Mapping[str, Any]


class Part(NamedTuple):
    """A part of a picture: the whole's width and height, and left, top, right, bottom."""

    whole: tuple[int, int]
    box: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Ready:
    """A control that was checked, with its picture in RGB."""

    given: Control
    path: Path
    picture: Image.Image

    def for_engine(self, width: int, height: int, part: Part | None = None) -> _engine.Control:
        """As the engine takes it for pictures of this size, which may be a part of a whole."""
        picture = self.picture if part is None else _images.fitted(self.picture, *part.whole).crop(part.box)
        fitted = _images.fitted(picture, width, height)
        if self.given.canny:
            fitted = canny(fitted)
        hint = np.ascontiguousarray(np.asarray(fitted, np.float32).transpose(2, 0, 1) / np.float32(255))
        given = self.given
        kind = -1 if given.type is None else TYPES.get(given.type, -1) if isinstance(given.type, str) else given.type
        weights = () if given.weights is None else tuple(given.weights)
        path, mode = _engine.path_bytes(self.path), MODES.index(given.mode)
        return _engine.Control(path, hint, given.strength, given.start, given.end, mode, weights, kind)

    @property
    def written(self) -> str:
        """Its part of a picture's parameters, as A1111's extension writes it."""
        given = self.given
        module = "canny" if given.canny else "none"
        return (
            f"Module: {module}, Model: {self.path.stem}, Weight: {given.strength:g}, Resize Mode: Crop and Resize, "
            f"Guidance Start: {given.start:g}, Guidance End: {given.end:g}, Control Mode: {_MODE_TITLES[given.mode]}"
        )


def canny(image: _images.Picture, low: float = 100.0, high: float = 200.0) -> Image.Image:
    """White edges on black, as ``cv2.Canny(image, low, high)`` finds them; thresholds are of 0 to 255 and more.

    Raises InvalidArgumentError, ModelNotFoundError, BadFileError.
    """
    low, high = options.real("low", low, 0.0, 1e6), options.real("high", high, 0.0, 1e6)
    return Image.fromarray(_canny.edges(np.asarray(_KEYWORD.picture(image)), low, high)).convert("RGB")


def of_keyword(given: Any) -> list[Ready]:
    """The entries of the keyword ``controls``, checked: `Control`, (path, image), (path, image, strength) or mappings.

    Raises InvalidArgumentError, ModelNotFoundError, BadFileError.
    """
    return [_ready(entry) for entry in _KEYWORD.entries(given)]


def _ready(given: Control) -> Ready:
    path, start, end = _KEYWORD.place(given)
    if given.mode not in MODES:
        raise _KEYWORD.error(f"has the mode {shown(given.mode)}; modes are {', '.join(MODES)}")
    kind = given.type
    known = kind in TYPES if isinstance(kind, str) else kind is None or (type(kind) is int and 0 <= kind < 1000)
    if not known:
        raise _KEYWORD.error(f"has the type {shown(kind)}; types are {', '.join(TYPES)}")
    weights = given.weights
    if weights is not None:
        if isinstance(weights, (str, bytes)) or not isinstance(weights, (Sequence, np.ndarray)):
            raise _KEYWORD.error(f"has the weights {shown(weights)}; they must be a list of numbers")
        weights = tuple(_KEYWORD.number("weights", weight, -1e3, 1e3) for weight in weights)
    strength, picture = _KEYWORD.sight(given)
    return Ready(replace(given, strength=strength, start=start, end=end, weights=weights), path, picture)


def soft_canny(
    image: _images.Picture, high: float = 0.08, low: float = 0.08, weak: float = 0.8, strong: float = 1.0, inverse: bool = False
) -> Image.Image:
    """Edges as stable-diffusion-cpp-python's ``preprocess_canny`` is called, see `_compat`."""
    found: NDArray[np.uint8] = _canny.soft_edges(np.asarray(_KEYWORD.picture(image)), low, high, weak, strong, inverse)
    return Image.fromarray(found).convert("RGB")
