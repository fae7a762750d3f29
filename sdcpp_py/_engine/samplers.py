"""Noise, schedules and samplers without a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdcpp_py._engine.calls import Callback, call
from sdcpp_py._engine.loading import ffi, lib

Floats = NDArray[np.float32]


def noise(rng: str, seed: int, skip: int, shape: tuple[int, ...]) -> Floats:
    """Standard normal numbers of the generator ``rng``, after ``skip`` earlier draws of the same size."""
    out = np.empty(shape, np.float32)
    if out.size:
        call(lib.sdcpp_noise, rng.encode(), seed, skip, out.size, ffi.from_buffer("float[]", out))
    return out


def sigmas(scheduler: str, steps: int, flow_shift: float) -> Floats:
    """The sigmas of a schedule, [steps + 1] or fewer; ``flow_shift`` 0: for a diffusion."""
    room, count = np.empty(steps + 1, np.float32), ffi.new("size_t*")
    call(lib.sdcpp_sigmas, scheduler.encode(), steps, flow_shift, ffi.from_buffer("float[]", room), room.size, count)
    return room[: count[0]].copy()


def run_sampler(
    sampler: str,
    levels: Floats,
    eta: float,
    flow: bool,
    state: Floats,
    rng: str,
    seed: int,
    denoiser: Callable[[Floats, float], Floats],
) -> None:
    """Run a sampler on ``state``, in place."""

    def one(noisy: Any, sigma: float, out: Any, count: int) -> None:
        given = np.frombuffer(ffi.buffer(noisy, 4 * count), np.float32).reshape(state.shape).copy()
        np.frombuffer(ffi.buffer(out, 4 * count), np.float32).reshape(state.shape)[...] = denoiser(given, sigma)

    hook = Callback(one)
    call(
        lib.sdcpp_run_sampler,
        sampler.encode(),
        ffi.from_buffer("float[]", levels),
        levels.size,
        eta,
        int(flow),
        ffi.from_buffer("float[]", state),
        state.size,
        rng.encode(),
        seed,
        lib.sdcpp_py_denoise,
        hook.handle,
        callback=hook,
    )
