"""The results of `Pipeline.generate`: a `Step` after each step, at the end a `Result` with a `Report` for each network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdcpp_py.plan import planner


@dataclass(frozen=True)
class Step:
    """The argument of a callback after each step."""

    step: int  #: from 1
    steps: int
    seconds: float  #: since sampling of this picture began
    image_index: int  #: which picture of the batch, from 0
    latent: NDArray[np.float32]  #: the present estimate of the clean latent, [C, H/8, W/8]; a copy


@dataclass(frozen=True)
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


@dataclass
class Result:
    """The result of `Pipeline.generate`."""

    images: list[Image.Image]
    seed: int  #: the first picture's; the n-th has seed + n
    latents: list[NDArray[np.float32]] = field(repr=False)  #: float32 [C, H/8, W/8], one a picture
    timings: dict[str, float]  #: seconds: "encode", "sample", "decode", "total"
    memory: dict[str, int]  #: bytes at most: "workspace", "weights", "slots", "carries", "peak" (of all these), "mapped" (files)
    reports: dict[str, Report] = field(repr=False)  #: by network: its plan, and what running it took
    parameters: dict[str, Any]  #: every option as it was used
