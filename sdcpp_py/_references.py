"""Reference pictures, which a model follows beside the prompt, such as one to be changed as the prompt says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from sdcpp_py import _images
from sdcpp_py.errors import InvalidArgumentError


@dataclass(frozen=True)
class References:
    """How a model wants them prepared."""

    pixels: int  #: larger ones are made as large
    sizes: Sequence[tuple[int, int]]  #: unless empty, each gets the width and height that are nearest to its shape
    multiple: int  #: width and height are whole multiples of this

    @classmethod
    def of_report(cls, facts: Mapping[str, Any]) -> References | None:
        """From what the engine says of an open model; None if it takes no reference pictures."""
        how = facts["references"]
        if how is None:
            return None
        return cls(int(how["pixels"]), [(int(w), int(h)) for w, h in how["sizes"]], int(facts["size_multiple"]))

    def fitted(self, picture: Image.Image) -> Image.Image:
        """The picture in a size that the model takes: the nearest of the model's own, else its middle in whole multiples."""
        if self.sizes:
            shape = picture.width / picture.height
            return picture.resize(min(self.sizes, key=lambda size: abs(shape - size[0] / size[1])), Image.Resampling.LANCZOS)
        scale = min(1.0, (self.pixels / (picture.width * picture.height)) ** 0.5)
        width, height = (max(1, int(scale * side) // self.multiple) * self.multiple for side in picture.size)
        return _images.fitted(picture, width, height)


def prepared(how: References | None, given: Any) -> list[Image.Image]:
    """The pictures of the keyword ``ref_images``, as the model takes them."""
    if given is None:
        return []
    if how is None:
        raise InvalidArgumentError.of("ref_images", "have no use: this model takes no reference pictures")
    return [how.fitted(picture) for picture in _images.pictures_of(given)]
