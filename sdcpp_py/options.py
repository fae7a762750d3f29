"""The engine's options, and checks of values before anything is loaded or computed.

The engine's table is the one place that says what an option is (`engine/src/pipeline/options.cpp`). Checks, defaults, the command
line's flags and what is written into pictures are made from its rows.
"""

from __future__ import annotations

import difflib
import math
import operator
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdcpp_py import _engine
from sdcpp_py.errors import InvalidArgumentError, shown


@dataclass(frozen=True)
class Option:
    """A row of the engine's table."""

    set: str  #: its use: "model", "generate", "plan" or "face"
    name: str  #: Python's keyword
    kind: str  #: "number", "integer", "text", "choice", "switch", "budget", "numbers" or "array"
    least: float | None
    most: float | None
    choices: tuple[str, ...]  #: the values of a "choice"
    default_from: str  #: "engine", "fixed", "model" or "random"
    default: str  #: as text; for "model": the value if the model has none of its own
    group: str  #: a heading of the command line; "": the package's own, no user's
    flags: tuple[str, ...]  #: on the command line
    unit: str  #: the value's name in the command line's help
    written: str  #: the key in a picture's metadata; "": not written
    help: str
    samplers: tuple[str, ...]  #: those that it has an effect with; (): all

    def parse(self, text: str) -> Any:
        """The value that ``text`` gives for a default; None for ""."""
        if not text:
            return None
        if self.kind == "switch":
            return text == "true"
        return int(text) if self.kind == "integer" else float(text) if self.kind == "number" else text

    @property
    def keyword_default(self) -> Any:
        """The default of Python's keyword and of the flag: the fixed value, else None."""
        return self.parse(self.default) if self.default_from == "fixed" else None

    def check(self, value: Any, *, most: int | None = None) -> Any:
        """``value`` as the engine takes it. Raises InvalidArgumentError."""
        if self.kind == "integer":
            assert self.least is not None and self.most is not None
            return integer(self.name, value, int(self.least), int(self.most) if most is None else most)
        if self.kind in ("number", "budget"):
            assert self.least is not None and self.most is not None
            return real(self.name, value, self.least, self.most)
        if self.kind == "choice":
            return choice(self.name, value, self.choices)
        if self.kind == "text":
            return word(self.name, value)
        if self.kind == "switch":
            return switch(self.name, value)
        return numbers(self.name, value) if self.kind == "numbers" else value


def _read(row: Mapping[str, Any]) -> Option:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return Option(**values)


#: Every option of the engine.
TABLE: tuple[Option, ...] = tuple(_read(row) for row in _engine.option_table())


def rows(kind: str) -> dict[str, Option]:
    """The options of a set by name, in the table's order."""
    return {option.name: option for option in TABLE if option.set == kind}


MODEL = rows("model")
GENERATE = {option.name: option for option in TABLE if option.set in ("generate", "face")}
PLAN = rows("plan")

SAMPLERS = GENERATE["sampler"].choices
SCHEDULERS = GENERATE["scheduler"].choices
RNGS = GENERATE["rng"].choices


def given(table: Mapping[str, Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """The items of ``values`` that are options in ``table``: a function's locals() in its first line are its keywords."""
    return {name: values[name] for name in table if name in values}


def checked(table: Mapping[str, Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """Every value that is not None, checked; a keyword whose default is fixed must not be None."""
    return {
        name: table[name].check(value)
        for name, value in values.items()
        if value is not None or table[name].default_from == "fixed"
    }


def integer(name: str, value: Any, lowest: int, highest: int) -> int:
    """`value` if it is a whole number in range."""
    try:
        number = None if isinstance(value, bool) else int(operator.index(value))
    except Exception:  # whatever an object's own methods raise
        number = None
    if number is None:
        raise InvalidArgumentError.of(name, f"must be a whole number, not {shown(value)}")
    if not lowest <= number <= highest:
        raise InvalidArgumentError.of(name, f"is {shown(number)}; {lowest} to {highest} are possible")
    return number


def real(name: str, value: Any, lowest: float, highest: float) -> float:
    """`value` if it is a finite number in range."""
    if isinstance(value, (bool, np.bool_)):
        raise InvalidArgumentError.of(name, f"must be a number, not {value}")
    try:
        number = float(value)
    except Exception:  # whatever an object's own methods raise, or a whole number too large
        raise InvalidArgumentError.of(name, f"must be a number, not {shown(value)}") from None
    if not math.isfinite(number) or not lowest <= number <= highest:
        raise InvalidArgumentError.of(name, f"is {number}; {lowest:g} to {highest:g} are possible")
    return number


def word(name: str, value: Any) -> str:
    """`value` if it is text."""
    if not isinstance(value, str) or "\0" in value:
        raise InvalidArgumentError.of(name, f"must be a str, not {shown(value)}")
    try:
        value.encode("utf-8", "surrogateescape")  # file names need not be text
    except UnicodeError:
        raise InvalidArgumentError.of(name, f"is no text: {shown(value)}") from None
    return value


def switch(name: str, value: Any) -> bool:
    """`value` as true or false."""
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, np.integer)) and value in (0, 1)):
        return bool(value)
    raise InvalidArgumentError.of(name, f"must be True or False, not {shown(value)}")


def numbers(name: str, value: Any) -> list[float]:
    """`value` if it is a list of finite numbers, or text with commas between them."""
    try:
        found = [float(one) for one in (value.split(",") if isinstance(value, str) else value)]
    except Exception:
        found = []
    if not found or not all(math.isfinite(one) for one in found):
        raise InvalidArgumentError.of(name, f"must be a list of numbers, not {shown(value)}")
    return found


def array(name: str, value: Any, kind: Any = np.float32) -> NDArray[Any]:
    """`value` as a contiguous array of numbers. Raises InvalidArgumentError."""
    try:
        return np.ascontiguousarray(value, kind)
    except MemoryError:
        raise
    except Exception as problem:  # whatever numpy makes of it
        raise InvalidArgumentError(f"{name} is no array of numbers: {problem!s:.200}") from None


def choice(name: str, value: Any, known: Sequence[str]) -> str:
    """`value` if it is one of `known`; else the message names the near ones."""
    if isinstance(value, str) and value in known:
        return value
    near = difflib.get_close_matches(shown(value, 40), known, n=3, cutoff=0.3)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    raise InvalidArgumentError.of(name, f"{shown(value)}{hint} There are: {', '.join(known)}", before="unknown ")


def side(name: str, value: Any, multiple: int) -> int:
    """A width or height in pixels that the network takes."""
    number = int(GENERATE[name].check(value))
    if number % multiple:
        below = max(multiple, number // multiple * multiple)
        raise InvalidArgumentError.of(
            name, f"is {number}; this model takes multiples of {multiple}, such as {below} or {below + multiple}"
        )
    return number


def progress(value: bool | None) -> bool:
    """Whether a bar is shown; None: on a terminal."""
    return sys.stderr.isatty() if value is None else switch("progress", value)


def cancel(value: Any) -> _engine.Cancel | None:
    """A caller's event, if it is one. Raises InvalidArgumentError."""
    if value is not None and not callable(getattr(value, "is_set", None)):
        raise InvalidArgumentError.of("cancel", f"must be a threading.Event, or have a method is_set(), not {shown(value)}")
    return value  # type: ignore[no-any-return]


def seed_value(seed: int | None) -> int:
    """`seed` itself, or a random one if it is None or below 0."""
    number = -1 if seed is None else int(GENERATE["seed"].check(seed, most=2**64 - 1))
    return number if number >= 0 else secrets.randbits(32)


def max_vram(value: float | str | None, device: str) -> float | None:
    """A budget in GiB for ``device``; None: none was given. A string may name devices: "CUDA0=8,Vulkan1=4,2".

    Raises InvalidArgumentError if a string gives ``device`` none: a budget is never dropped in silence.
    """
    budget = MODEL["max_vram"]
    if value is None:
        return None
    if isinstance(value, bool):
        raise InvalidArgumentError.of(budget.name, "must be a number of GiB, not a bool")
    if not isinstance(value, str):
        return float(budget.check(value))
    parts = [piece.strip() for piece in value.split(",") if piece.strip()]
    if not parts:
        return None
    own = device_named(device).lower()
    found: float | None = None
    named = False
    for part in parts:
        name, equals, number = part.rpartition("=")
        try:
            amount = float(budget.check(float(number)))
        except ValueError:
            example = "8, -1 or CUDA0=8,4"
            raise InvalidArgumentError.of(
                budget.name, f"has {part!r:.60}; a number of GiB is expected, for example {example}"
            ) from None
        if equals and name.strip().lower() in (own, device.lower()):
            found, named = amount, True
        elif not named and (not equals or name.strip().lower() in ("all", "default", "*")):
            found = amount
    if found is None:
        raise InvalidArgumentError.of(
            budget.name, f"has {value!r:.60}, which gives nothing to {device_named(device)}, the device in use; name it, or none"
        )
    return found


def device_named(device: str) -> str:
    """The name of the device that ``device`` means: "auto" is the first GPU, else the processor; settings are left out."""
    known = _engine.devices()["devices"]
    if device.lower() == "auto":
        gpus = [one["name"] for one in known if not one["is_cpu"]]
        return str((gpus or [one["name"] for one in known] or ["CPU"])[0])
    base, colon, settings = device.rpartition(":")
    base = base if colon and ("=" in settings or base.lower() == "simulated") else device
    return next((str(one["name"]) for one in known if one["name"].lower() == base.lower()), base)


def written(used: Mapping[str, Any]) -> dict[str, str]:
    """The used options that are written into a picture, by key; values that share a key are joined by "x"."""
    fields: dict[str, str] = {}
    for option in GENERATE.values():
        value = used.get(option.name)
        if option.written and value is not None:
            if option.kind == "numbers":
                value = ",".join(f"{one:.9g}" for one in value)
            text = f"{value:g}" if option.kind == "number" else str(value)
            fields[option.written] = f"{fields[option.written]}x{text}" if option.written in fields else text
    return fields
