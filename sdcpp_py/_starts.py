"""What a run begins from: initial pictures and latents, masks, and what checkpoints for editing see.

`Space` is what a model says of its latents; its methods prepare a call's pictures for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdcpp_py import _depth, _inpaint, _jobs, options, sampling
from sdcpp_py.errors import InvalidArgumentError

Floats = NDArray[np.float32]
Encode = Callable[[Image.Image, "NDArray[np.bool_] | None"], Floats]  # a picture to its latent, some pixels grey
_PICTURE_GUIDANCE = 1.5  # of models that edit a picture


@dataclass(frozen=True)
class Space:
    """A model's latents, and the pictures that they are of."""

    channels: int
    factor: int  #: pixels per latent side
    multiple: int  #: width and height are whole multiples of this
    scale: float  #: sampled latents are the encoder's by so much
    extra_channels: int  #: what the diffusion model sees beside the latent

    @classmethod
    def of_report(cls, facts: Mapping[str, Any]) -> Space:
        """From what the engine says of an open model."""
        names = {"channels": "latent_channels", "factor": "latent_factor", "multiple": "size_multiple"}
        whole = {ours: int(facts[theirs]) for ours, theirs in names.items()}
        return cls(**whole, scale=float(facts["latent_scale"]), extra_channels=int(facts["extra_channels"]))

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """The shape of the latent of a picture."""
        return self.channels, height // self.factor, width // self.factor

    def given_latents(self, latent: Any, given: dict[str, Any], has_picture: bool) -> Floats | None:
        """A latent to begin from; it gives the sides that are left out."""
        if latent is None:
            return None
        if has_picture:
            raise InvalidArgumentError.of("init_latent", "takes the place of init_image; give one of them")
        array = options.array("init_latent", latent)
        if array.ndim not in (3, 4):
            raise InvalidArgumentError.of("init_latent", f"must be [C, h, w] or [pictures, C, h, w], not {list(array.shape)}")
        factor = self.factor
        for name, side in (("height", array.shape[-2]), ("width", array.shape[-1])):
            given[name] = side * factor if given[name] is None else given[name]
        return array

    def works(self, pictures: Sequence[Image.Image], mask: Image.Image | None, used: dict[str, Any]) -> list[_inpaint.Work]:
        """The pictures to be inpainted; defaults of the mask's options are added to ``used``."""
        if mask is None:
            return []
        if not pictures:
            raise InvalidArgumentError.of("mask_image", "needs init_image, the picture that is repainted in part")
        if self.sees == "mask" and used.get("soft_inpainting"):
            raise InvalidArgumentError.of("soft_inpainting", "has no use: this model sees the mask, and paints the border itself")
        if used.get("soft_mask") and used.get("soft_inpainting"):
            raise InvalidArgumentError.of("soft_mask", "goes without soft_inpainting: they are two ways to repaint softly")
        used.update({name: value for name, value in _inpaint.DEFAULTS.items() if name not in used})
        return [_inpaint.prepared(picture, mask, used["width"], used["height"], used) for picture in pictures]

    def masked(self, job: _jobs.Job, number: int, works: Sequence[_inpaint.Work], used: Mapping[str, Any]) -> _jobs.Job:
        """A picture to be made with its mask, and with what its repainted part begins as."""
        mask = works[number].latent_mask(self.factor, bool(used.get("soft_mask") or used.get("soft_inpainting")))
        latent = job.init_latent
        assert latent is not None
        if used["mask_fill"] in ("noise", "nothing"):
            fresh = sampling.noise(latent.shape, job.seed, rng=used["rng"]) if used["mask_fill"] == "noise" else 0
            latent = (latent * (1 - mask) + fresh * mask).astype(np.float32)
        if self.sees == "mask":  # the checkpoint's own work
            return replace(job, init_latent=latent, work=number)
        return replace(job, init_latent=latent, mask=mask, work=number)

    @property
    def sees(self) -> str:
        """What the diffusion model sees beside the latent.

        "", the "depth", the "picture" that it edits, or the "mask" and what it keeps.
        """
        return {0: "", 1: "depth", self.channels: "picture"}.get(self.extra_channels, "mask")

    def check_depth(self, depth: Image.Image | None, used: Mapping[str, Any], outgrown: bool) -> None:
        """Raise InvalidArgumentError for depths that the model does not take or lacks. ``outgrown``: outpainting."""
        if depth is None and self.sees == "depth":
            raise InvalidArgumentError.of("depth_image", "is needed: this model follows a picture of depths, near is bright")
        if depth is not None and self.sees != "depth":
            raise InvalidArgumentError.of("depth_image", "has no use: this model takes no depths; a ControlNet for them may do")
        if depth is not None and outgrown:
            raise InvalidArgumentError.of("outpaint", "has no use with depth_image, which shows the picture as it was")
        if depth is not None and used.get("only_masked"):
            raise InvalidArgumentError.of("only_masked", "has no use with depth_image, which shows the whole picture")

    def check_editing(self, used: dict[str, Any], pictures: Sequence[Image.Image], mask: Image.Image | None) -> None:
        """For a model that edits a picture; defaults are added to ``used``. Raises InvalidArgumentError."""
        if not pictures:
            raise InvalidArgumentError.of("init_image", "is needed: this model edits a picture, as the prompt says")
        if mask is not None:
            raise InvalidArgumentError.of("mask_image", "has no use: this model edits whole pictures, as the prompt says")
        if used.get("hires"):
            raise InvalidArgumentError.of("hires", "has no use: this model edits pictures")
        if used["cfg_scale"] == 0:
            raise InvalidArgumentError.of("cfg_scale", "must be above 0 for a model that edits pictures")
        used.setdefault("image_cfg_scale", _PICTURE_GUIDANCE)

    def extras(
        self,
        latents: Sequence[Floats],
        works: Sequence[_inpaint.Work],
        used: Mapping[str, Any],
        encode: Encode,
        depth: Image.Image | None,
    ) -> list[Floats]:
        """What the diffusion model sees beside the latent, for each picture in turn."""
        if depth is not None:
            return [_depth.seen(depth, used["width"], used["height"], self.factor)]
        if self.sees == "picture":  # which such models take as the encoder gives it
            return [np.asarray(latent / np.float32(self.scale), np.float32) for latent in latents]
        if self.sees == "mask":
            factor, size = self.factor, (used["width"], used["height"])
            shown = [(work.picture, *work.shown(factor)) for work in works]
            if not shown:  # all is painted
                _, height, width = self.latent_shape(used["height"], used["width"])
                shown = [(Image.new("RGB", size), np.ones((1, height, width), np.float32), np.ones(size[::-1], bool))]
            return [np.concatenate([mask, encode(picture, hidden)]) for picture, mask, hidden in shown]
        return []

    def outpainted(
        self, pictures: Sequence[Image.Image], mask: Image.Image | None, sides: tuple[int, int, int, int], given: dict[str, Any]
    ) -> tuple[list[Image.Image], Image.Image]:
        """Pictures on larger canvases, and the mask of what is new; the options that go with it are added to ``given``."""
        if not pictures:
            raise InvalidArgumentError.of("outpaint", "needs init_image, the picture that grows")
        if mask is not None:
            raise InvalidArgumentError.of("outpaint", "makes a mask of its own; leave mask_image out")
        if len({picture.size for picture in pictures}) > 1:
            raise InvalidArgumentError("outpaint: the pictures must be of one size")
        canvases = [_inpaint.outpainted(picture, sides, self.multiple) for picture in pictures]
        defaults = {"strength": 1.0, "mask_blur": 0.0, "mask_fill": "fill"}
        given |= {name: value for name, value in defaults.items() if given[name] is None}
        for name, side in zip(("width", "height"), canvases[0][0].size):
            if given[name] not in (None, side):
                raise InvalidArgumentError.of("outpaint", f"makes the {name} {side}; leave width and height out")
            given[name] = side
        return [canvas for canvas, _ in canvases], canvases[0][1]

    def size_of_picture(self, given: dict[str, Any], picture: Image.Image, usual: int) -> None:
        """Let the sides that are left out follow those of an initial picture; ``usual``: the model's pixels."""
        multiple = self.multiple

        def whole(side: float) -> int:
            return max(1, round(side / multiple)) * multiple

        width, height = given["width"], given["height"]
        if width is None and height is None:
            pixels = picture.width * picture.height
            scale = (usual / pixels) ** 0.5 if pixels > 2 * usual else 1.0
            given["width"], given["height"] = whole(scale * picture.width), whole(scale * picture.height)
        elif width is None:
            side = options.side("height", height, multiple)
            given["width"] = whole(side * picture.width / picture.height)
        elif height is None:
            side = options.side("width", width, multiple)
            given["height"] = whole(side * picture.height / picture.width)
