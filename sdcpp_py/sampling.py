"""The engine's noise, schedules and samplers, for use with any denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sdcpp_py import _engine, options
from sdcpp_py.errors import InvalidArgumentError, shown

_MAX_VALUES = 2**31


def noise(shape: tuple[int, ...], seed: int, *, rng: str = "cuda", skip: int = 0) -> NDArray[np.float32]:
    """Standard normal numbers, equal to ``torch.randn(shape)`` on a CUDA device ("cuda") or the CPU ("cpu") seeded so.

    ``skip`` leaves out that many earlier draws of the same size.
    """
    number = options.integer("seed", seed, 0, 2**64 - 1)
    name = options.choice("rng", rng, options.RNGS)
    try:
        sides = tuple(options.integer("shape", side, 0, _MAX_VALUES) for side in shape)
    except TypeError:
        raise InvalidArgumentError.of("shape", f"must be a tuple of whole numbers, not {shown(shape)}") from None
    if math.prod(sides) > _MAX_VALUES:
        raise InvalidArgumentError.of("shape", f"has more than {_MAX_VALUES} values")
    return _engine.noise(name, number, options.integer("skip", skip, 0, 10000), sides)


def sigmas(scheduler: str, steps: int, *, flow_shift: float | None = None) -> NDArray[np.float32]:
    """The falling sigmas of a schedule for the usual scaled linear noise, [steps + 1], the last one 0.

    ``flow_shift`` gives those of a flow model: from 1, the more of them near it the larger the shift is above 1.
    """
    shift = 0.0 if flow_shift is None else options.GENERATE["flow_shift"].check(flow_shift)
    count = options.GENERATE["steps"].check(steps)
    return _engine.sigmas(options.choice("scheduler", scheduler, options.SCHEDULERS), count, shift)


def sample(
    denoiser: Callable[[NDArray[np.float32], float], NDArray[np.float32]],
    x: NDArray[np.float32],
    sigmas: NDArray[np.float32],
    *,
    sampler: str = "euler",
    eta: float | None = None,
    flow: bool = False,
    rng: str = "cuda",
    seed: int = 0,
) -> NDArray[np.float32]:
    """Run a sampler: ``denoiser(x, sigma)`` returns the clean estimate; ``x`` is noise times the first sigma.

    Latents are clean + sigma * noise, or, with ``flow``, (1 - sigma) * clean + sigma * noise.

    Returns the last x. Raises InvalidArgumentError if sigmas do not fall, and whatever the denoiser raises.
    """
    state = options.array("x", x).copy()
    levels = options.array("sigmas", sigmas)
    if state.size == 0 or levels.ndim != 1 or levels.size < 2:
        raise InvalidArgumentError("x must not be empty, and sigmas be a list of two or more")

    _engine.run_sampler(
        options.choice("sampler", sampler, options.SAMPLERS),
        levels,
        -1.0 if eta is None else options.GENERATE["eta"].check(eta),
        bool(flow),
        state,
        options.choice("rng", rng, options.RNGS),
        options.integer("seed", seed, 0, 2**64 - 1),
        denoiser,
    )
    return state
