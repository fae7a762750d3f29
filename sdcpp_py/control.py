"""ControlNets and T2I-Adapters of a call: a file, and the picture that makes the result follow it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdcpp_py import _canny, _engine, _images, options
from sdcpp_py.errors import InvalidArgumentError, ModelNotFoundError, shown

MODES = ("balanced", "prompt", "control")
#: Types of hints of a ControlNet union, and their numbers.
TYPES = {
    **{"openpose": 0, "depth": 1, "softedge": 2, "hed": 2, "pidi": 2, "scribble": 2, "canny": 3, "lineart": 3, "mlsd": 3},
    **{"normal": 4, "segment": 5, "tile": 6, "repaint": 7},
}
_MAX = 16  # at a time
_MODE_TITLES = {"balanced": "Balanced", "prompt": "My prompt is more important", "control": "ControlNet is more important"}

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Control:
    """A ControlNet or T2I-Adapter for `Pipeline.generate`, with the picture that it follows.

    ``path`` is a tensor file or a folder of one, ``image`` the hint (a path, a PIL image, or uint8 [H, W, 3]): lines, depths,
    poses, as the network was trained for. It is cut and scaled to the result's size. ``canny`` takes the image's edges instead.
    ``strength`` 1 is as trained, 0 leaves the network out. It counts in the steps that lie within the shares ``start`` to
    ``end``. ``mode`` "prompt" lets blocks far from the middle count less, "control" likewise and not for the negative prompt.
    ``weights`` are factors for its outputs: the skips in order and the middle of a ControlNet, the levels of a T2I-Adapter.
    ``type`` is a union's type of hint, a name of `TYPES` or a number.
    """

    path: PathLike
    image: _images.Picture
    strength: float = 0.9
    start: float = 0.0
    end: float = 1.0
    mode: str = "balanced"
    weights: Sequence[float] | None = None
    type: str | int | None = None
    canny: bool = False


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

    def again(self) -> dict[str, Any]:
        """What was given, as `Pipeline.generate` takes it, without what was left out."""
        values = {one.name: getattr(self.given, one.name) for one in fields(Control)}
        return {name: value for name, value in values.items() if name in ("path", "image") or value != getattr(Control, name)}


def canny(image: _images.Picture, low: float = 100.0, high: float = 200.0) -> Image.Image:
    """White edges on black, as ``cv2.Canny(image, low, high)`` finds them; thresholds are of 0 to 255 and more.

    Raises InvalidArgumentError, ModelNotFoundError, BadFileError.
    """
    low, high = options.real("low", low, 0.0, 1e6), options.real("high", high, 0.0, 1e6)
    picture = _images.opened(image)
    _require_pixels(picture)
    return Image.fromarray(_canny.edges(np.asarray(picture), low, high)).convert("RGB")


def of_keyword(given: Any) -> list[Ready]:
    """The entries of the keyword ``controls``, checked: `Control`, (path, image), (path, image, strength) or mappings.

    Raises InvalidArgumentError, ModelNotFoundError, BadFileError.
    """
    if given is None:
        return []
    if isinstance(given, (str, os.PathLike, Control, Mapping)) or not isinstance(given, Sequence):
        raise InvalidArgumentError.of("controls", "must be a list, such as [('canny.safetensors', 'edges.png', 0.9)]")
    if len(given) > _MAX:
        raise InvalidArgumentError.of("controls", f"has {len(given)} entries; {_MAX} are possible at a time")
    return [_ready(_of_entry(entry)) for entry in given]


def _of_entry(entry: Any) -> Control:
    if isinstance(entry, Control):
        return entry
    if isinstance(entry, Mapping):
        unknown = [key for key in entry if key not in {one.name for one in fields(Control)}]
        if unknown or "path" not in entry or "image" not in entry:
            names = ", ".join(one.name for one in fields(Control))
            raise InvalidArgumentError.of("controls", f"has an entry with {shown(sorted(map(str, entry)))}; there are {names}")
        return Control(**entry)
    if isinstance(entry, (tuple, list)) and len(entry) in (2, 3):
        return Control(*entry)
    raise InvalidArgumentError.of("controls", f"has {shown(entry)}; an entry is a Control or (path, image, strength)")


def _ready(given: Control) -> Ready:
    try:
        path = Path(os.fsdecode(given.path))
    except (TypeError, ValueError):
        raise InvalidArgumentError.of("controls", f"has {shown(given.path)} instead of a path") from None
    if not path.exists():
        raise ModelNotFoundError(f"no such file: {path}")
    start, end = _number("start", given.start, 0.0, 1.0), _number("end", given.end, 0.0, 1.0)
    if start > end:
        raise InvalidArgumentError.of("controls", f"has start={start:g} after end={end:g}")
    if given.mode not in MODES:
        raise InvalidArgumentError.of("controls", f"has the mode {shown(given.mode)}; modes are {', '.join(MODES)}")
    kind = given.type
    known = kind in TYPES if isinstance(kind, str) else kind is None or (type(kind) is int and 0 <= kind < 1000)
    if not known:
        raise InvalidArgumentError.of("controls", f"has the type {shown(kind)}; types are {', '.join(TYPES)}")
    weights = given.weights
    if weights is not None:
        if isinstance(weights, (str, bytes)) or not isinstance(weights, (Sequence, np.ndarray)):
            raise InvalidArgumentError.of("controls", f"has the weights {shown(weights)}; they must be a list of numbers")
        weights = tuple(_number("weights", weight, -1e3, 1e3) for weight in weights)
    strength = _number("strength", given.strength, -1e3, 1e3)
    picture = _images.opened(given.image)
    _require_pixels(picture)
    return Ready(replace(given, strength=strength, start=start, end=end, weights=weights), path, picture)


def _number(name: str, value: Any, least: float, most: float) -> float:
    try:
        return options.real(name, value, least, most)
    except InvalidArgumentError:
        words = f"has {name}={shown(value)}; it must be a number from {least:g} to {most:g}"
        raise InvalidArgumentError.of("controls", words) from None


def _require_pixels(picture: Image.Image) -> None:
    if 0 in picture.size:
        raise InvalidArgumentError.of("controls", f"has a picture of {picture.width}x{picture.height} pixels")


def soft_canny(
    image: _images.Picture, high: float = 0.08, low: float = 0.08, weak: float = 0.8, strong: float = 1.0, inverse: bool = False
) -> Image.Image:
    """Edges as stable-diffusion-cpp-python's ``preprocess_canny`` is called, see `_compat`."""
    picture = _images.opened(image)
    _require_pixels(picture)
    found: NDArray[np.uint8] = _canny.soft_edges(np.asarray(picture), low, high, weak, strong, inverse)
    return Image.fromarray(found).convert("RGB")
