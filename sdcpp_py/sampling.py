"""The engine's noise, schedules and samplers by themselves, for use with any denoiser."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sdcpp_py import _binding, options
from sdcpp_py._engine import ffi, lib
from sdcpp_py.errors import InvalidArgumentError


def noise(shape: tuple[int, ...], seed: int, *, rng: str = "cuda", skip: int = 0) -> NDArray[np.float32]:
    """Standard normal numbers, equal to ``torch.randn(shape)`` on a CUDA device ("cuda") or the CPU ("cpu") seeded so.

    ``skip`` leaves out that many earlier draws of the same size.
    """
    out = np.empty(shape, np.float32)
    number = options.integer("seed", seed, 0, 2**64 - 1)
    if out.size:
        target = ffi.from_buffer("float[]", out)
        name = options.choice("rng", rng, options.RNGS).encode()
        _binding.call(lib.sdcpp_noise, name, number, options.integer("skip", skip, 0, 10000), out.size, target)
    return out


def sigmas(scheduler: str, steps: int, *, flow_shift: float | None = None) -> NDArray[np.float32]:
    """The falling sigmas of a schedule for Stable Diffusion 1.x noise, [steps + 1], the last one 0.

    ``flow_shift`` gives those of a flow model: from 1, the more of them near it the larger the shift is above 1.
    """
    options.choice("scheduler", scheduler, options.SCHEDULERS)
    room = np.empty(options.integer("steps", steps, 1, options.MAX_STEPS) + 1, np.float32)
    count = ffi.new("size_t*")
    target = ffi.from_buffer("float[]", room)
    shift = 0.0 if flow_shift is None else options.flow_shift(flow_shift)
    _binding.call(lib.sdcpp_sigmas, scheduler.encode(), steps, shift, target, room.size, count)
    return room[: count[0]].copy()


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

    Returns the last x. Raises InvalidArgumentError where sigmas do not fall, and whatever the denoiser raises.
    """
    state = np.array(x, np.float32, copy=True, order="C")
    levels = np.ascontiguousarray(sigmas, np.float32)
    if state.size == 0 or levels.ndim != 1 or levels.size < 2:
        raise InvalidArgumentError("x must not be empty, and sigmas be a list of two or more")

    def one(noisy: object, sigma: float, out: object, count: int) -> None:
        given = np.frombuffer(ffi.buffer(noisy, 4 * count), np.float32).reshape(state.shape).copy()
        target = np.frombuffer(ffi.buffer(out, 4 * count), np.float32).reshape(state.shape)
        target[...] = denoiser(given, sigma)

    hook = _binding.Callback(one)
    _binding.call(
        lib.sdcpp_run_sampler,
        options.choice("sampler", sampler, options.SAMPLERS).encode(),
        ffi.from_buffer("float[]", levels),
        levels.size,
        -1.0 if eta is None else options.real("eta", eta, 0.0, 1.0),
        int(bool(flow)),
        ffi.from_buffer("float[]", state),
        state.size,
        options.choice("rng", rng, options.RNGS).encode(),
        options.integer("seed", seed, 0, 2**64 - 1),
        lib.sdcpp_py_denoise,
        hook.handle,
        callback=hook,
    )
    return state
