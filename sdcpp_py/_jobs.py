"""The pictures that one call of `Pipeline.generate` makes: each with its prompt, seed, first noise and initial picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdcpp_py import options
from sdcpp_py.errors import InvalidArgumentError, shown

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Job:
    """One picture to be made."""

    text: int  #: the number of its prompt in the call
    seed: int
    noise: Floats | None  #: [C, h, w]
    init_latent: Floats | None  #: [C, h, w]
    mask: Floats | None = None  #: [h, w]
    work: int = 0  #: the number of its initial picture
    references: tuple[Floats, ...] = ()  #: latents of pictures to follow
    extra: Floats | None = None  #: [channels, h, w]: what a checkpoint for inpainting or editing sees


def rising(jobs: Sequence[Job]) -> bool:
    """Whether the seeds are those that the first one alone gives."""
    return all(job.seed == (jobs[0].seed + number) % 2**64 for number, job in enumerate(jobs))


def prompts_of(prompt: Any) -> list[str]:
    """The prompts of a call: one, or several."""
    several = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(several, Sequence) or not several or not all(isinstance(one, str) for one in several):
        raise InvalidArgumentError(f"prompt must be a str, or a list of them, not {shown(prompt)}")
    return list(several)


def seeds_of(seed: Any, count: int) -> list[int]:
    """The seeds of ``count`` pictures: from one number upwards, or a list of as many."""
    if isinstance(seed, Sequence) and not isinstance(seed, (str, bytes)):
        if len(seed) != count:
            raise InvalidArgumentError.of("seed", f"is a list of {len(seed)}; there are {count} pictures")
        return [options.seed_value(one) for one in seed]
    first = options.seed_value(seed)
    return [(first + number) % 2**64 for number in range(count)]


def latents_of(name: str, values: Any, shape: tuple[int, int, int], count: int) -> list[Floats] | list[None]:
    """For each of ``count`` pictures an array of ``shape``, from one for all or [count, *shape]; None gives Nones."""
    if values is None:
        return [None] * count
    array = options.array(name, values)
    if array.shape not in (shape, (count, *shape)) or not np.isfinite(array).all():
        wanted = f"{shape}" if count == 1 else f"{shape} or {(count, *shape)}"
        raise InvalidArgumentError.of(name, f"has shape {array.shape}; finite numbers of shape {wanted} are needed")
    return list(np.broadcast_to(array, (count, *shape)))


def groups(jobs: Sequence[Job], most: int, key: Callable[[Job], Any]) -> Iterator[list[Job]]:
    """The jobs in their order, up to ``most`` at a time if they can be sampled together: if their keys are equal."""
    group: list[Job] = []
    for job in jobs:
        if group and (len(group) == most or key(job) != key(group[0]) or (job.noise is None) != (group[0].noise is None)):
            yield group
            group = []
        group.append(job)
    if group:
        yield group
