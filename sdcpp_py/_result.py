"""The results of `Pipeline.generate`: a `Step` after each step, at the end a `Result` with a `Report` for each network."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdcpp_py import _images
from sdcpp_py.plan import planner


@dataclass(frozen=True)
class Step:
    """The argument of a callback after each step."""

    step: int  #: from 1
    steps: int
    seconds: float  #: since sampling of this picture began
    image_index: int  #: which picture of the batch, from 0
    latent: NDArray[np.float32] = field(repr=False)  #: the present estimate of the clean latent, [C, H/8, W/8]; a copy
    _rough: Callable[[NDArray[np.float32]], NDArray[np.uint8]] = field(repr=False)
    _preview: NDArray[np.uint8] | None = field(default=None, repr=False)

    @property
    def has_preview(self) -> bool:
        """Whether the run's option ``preview`` has made a picture after this step."""
        return self._preview is not None

    @property
    def preview(self) -> Image.Image:
        """The picture of the option ``preview``, else a rough one of `latent`, [W/8, H/8] pixels, for which no network runs."""
        return Image.fromarray(self._rough(self.latent) if self._preview is None else self._preview)


@dataclass(frozen=True, repr=False)
class Report:
    """How a network ran in one `Pipeline.generate`."""

    plan: planner.Plan
    runs: int  #: steps, for the diffusion model
    uploaded_bytes: int  #: in all
    first_runs: int  #: first runs of a plan, which load residents; 0 if an earlier generation loaded them
    loaded_bytes: int  #: the part of the uploads in first runs
    seconds: float
    first_seconds: float  #: the first runs' time
    compute_seconds: float
    first_compute_seconds: float  #: the first runs', which touch their memory for the first time
    stall_seconds: float  #: waiting for uploads
    upload_seconds: float  #: the link at work
    replanned: bool  #: after the second run had shown other speeds than expected

    @classmethod
    def of_engine(cls, run: Mapping[str, Any]) -> Report:
        """From what the engine says of a network's runs."""
        return cls(
            **{**{name: value for name, value in run.items() if name != "network"}, "plan": planner.of_engine(run["plan"])}
        )

    def __repr__(self) -> str:
        """Tell what a run took."""
        streamed = f", {self.uploaded_bytes_per_step / 2**20:.1f} MiB uploaded a run" if self.uploaded_bytes else ""
        return f"<Report: {self.runs} runs of {self.step_seconds:.4g} s{streamed}>"

    @property
    def uploaded_bytes_per_step(self) -> float:
        """The mean of the runs that are not first; 0 if there is no other."""
        return (self.uploaded_bytes - self.loaded_bytes) / self._later_runs if self._later_runs else 0.0

    @property
    def step_seconds(self) -> float:
        """The mean of the runs that are not first, or of all if there is no other."""
        return (self.seconds - self.first_seconds) / self._later_runs if self._later_runs else self.seconds

    @property
    def compute_seconds_per_step(self) -> float:
        """The mean of the runs that are not first, or of all if there is no other."""
        rest = self.compute_seconds - self.first_compute_seconds
        return rest / self._later_runs if self._later_runs else self.compute_seconds

    @property
    def _later_runs(self) -> int:
        return self.runs - self.first_runs


@dataclass(frozen=True)
class UsedLora:
    """A LoRA file, and what it changed."""

    path: Path
    denoiser: float  #: weight of its changes in the diffusion model
    text: float  #: and in the text encoders
    kinds: list[str]  #: the changes' kinds: "LoRA", "LoHa", "LoRA (DoRA)" …
    ranks: list[int]  #: the changes' ranks
    layers: int  #: how many it changes
    matched: int  #: its tensors that are used
    unmatched: list[str] = field(repr=False)  #: names of those that are not: no layer of this model has such a name


@dataclass(repr=False)
class Result:
    """The result of `Pipeline.generate`."""

    images: list[Image.Image]
    seeds: list[int]  #: one a picture
    latents: list[NDArray[np.float32]]  #: float32 [C, H/8, W/8], one a picture
    timings: dict[str, float]  #: seconds: "encode", "sample", "decode", "total"
    memory: dict[str, int]  #: bytes at most: "workspace", "weights", "slots", "carries", "peak" (of all these), "mapped" (files)
    reports: dict[str, Report]  #: by network: its plan, and what running it took
    parameters: dict[str, Any]  #: every option as it was used; `Pipeline.generate(**parameters)` makes the pictures again
    loras: list[UsedLora] = field(default_factory=list)  #: the LoRAs that were used, and what they changed

    @property
    def image(self) -> Image.Image:
        """The first picture."""
        return self.images[0]

    @property
    def seed(self) -> int:
        """The first picture's seed."""
        return self.seeds[0]

    def save(self, target: str | os.PathLike[str] | IO[bytes], format: str | None = None) -> None:
        """Write the pictures: to a path, as ``sdcpp generate -o`` numbers them, or the only one to a file object.

        ``format`` is "png", "jpeg", "webp" or "bmp"; None: the path's ending, PNG for a file object. The pictures carry their
        parameters. Raises InvalidArgumentError before anything is written.
        """
        _images.save_all(self.images, target, format)

    def __repr__(self) -> str:
        """Tell the pictures' number and size, the seed and the time."""
        width, height = self.image.size
        count = "1 picture" if len(self.images) == 1 else f"{len(self.images)} pictures"
        return f"<Result: {count}, {width}x{height}, seed {self.seed}, {self.timings['total']:.2f} s>"

    def _repr_png_(self) -> bytes:
        """The first picture, for notebooks."""
        data = io.BytesIO()
        _images.save(self.image, data)
        return data.getvalue()
