"""Options and their checks: everything is looked at before anything is loaded or computed."""

from __future__ import annotations

import difflib
import math
import secrets
from collections.abc import Sequence
from typing import Any

from sdcpp_py import _binding
from sdcpp_py.errors import InvalidArgumentError

MAX_SIDE = 16384
MAX_STEPS = 10000
MAX_BATCH = 1000

SAMPLERS: tuple[str, ...] = tuple(_binding.names("sampler"))
SCHEDULERS: tuple[str, ...] = tuple(_binding.names("scheduler"))
RNGS: tuple[str, ...] = tuple(_binding.names("rng"))


def integer(name: str, value: Any, lowest: int, highest: int) -> int:
    """`value` if it is a whole number in range."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InvalidArgumentError(f"{name} must be a whole number, not {value!r}")
    number = int(value.__index__())
    if not lowest <= number <= highest:
        raise InvalidArgumentError(f"{name} is {number}; {lowest} to {highest} are possible")
    return number


def real(name: str, value: Any, lowest: float, highest: float) -> float:
    """`value` if it is a finite number in range."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InvalidArgumentError(f"{name} must be a number, not {value!r}") from None
    if not math.isfinite(number) or not lowest <= number <= highest:
        raise InvalidArgumentError(f"{name} is {number}; {lowest:g} to {highest:g} are possible")
    return number


def flow_shift(value: Any) -> float:
    """`value` if it is a shift that a flow can have."""
    return real("flow_shift", value, 0.01, 100.0)


def word(name: str, value: Any) -> str:
    """`value` if it is text."""
    if not isinstance(value, str) or "\0" in value:
        raise InvalidArgumentError(f"{name} must be a str, not {value!r:.60}")
    return value


def choice(name: str, value: Any, known: Sequence[str]) -> str:
    """`value` if it is one of `known`; else the message names the near ones."""
    if isinstance(value, str) and value in known:
        return value
    near = difflib.get_close_matches(str(value)[:40], known, n=3, cutoff=0.3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    raise InvalidArgumentError(f"unknown {name} {value!r:.60}{hint} There are: {', '.join(known)}")


def side(name: str, value: Any, multiple: int) -> int:
    """A width or height in pixels that the network takes."""
    number = integer(name, value, 1, MAX_SIDE)
    if number % multiple:
        below = max(multiple, number // multiple * multiple)
        raise InvalidArgumentError(
            f"{name} is {number}; this model takes multiples of {multiple}, such as {below} or {below + multiple}"
        )
    return number


def seed_value(seed: int | None) -> int:
    """`seed` itself, or a random one where it is None or below 0."""
    if seed is None:
        return secrets.randbits(32)
    number = integer("seed", seed, -(2**63), 2**64 - 1)
    return number if number >= 0 else secrets.randbits(32)


def max_vram(value: float | str | None, device: str) -> float:
    """A budget in GiB for ``device``; NaN: none was given. A string may name devices: "CUDA0=8,Vulkan1=4,2"."""
    if value is None:
        return math.nan
    if isinstance(value, bool):
        raise InvalidArgumentError("max_vram must be a number of GiB, not a bool")
    if not isinstance(value, str):
        return real("max_vram", value, -1e6, 1e6)
    found, named = math.nan, False
    for part in filter(None, (piece.strip() for piece in value.split(","))):
        name, equals, number = part.rpartition("=")
        try:
            amount = real("max_vram", float(number), -1e6, 1e6)
        except ValueError:
            example = "8, -1 or CUDA0=8,4"
            raise InvalidArgumentError(f"max_vram has {part!r}; a number of GiB is expected, for example {example}") from None
        if equals and name.strip().lower() == device.lower():
            found, named = amount, True
        elif not named and (not equals or name.strip().lower() in ("all", "default", "*")):
            found = amount
    return found


def switch(value: bool | None) -> int:
    """A switch as the engine takes it: -1 where nothing was said."""
    return -1 if value is None else int(bool(value))
