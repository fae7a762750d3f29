"""Every failure is one of these. Each also inherits the builtin of its kind, so `except ValueError` and the like work."""

from __future__ import annotations

import collections.abc
import typing

Spell = collections.abc.Callable[[str, str], str]


def in_python(name: str, value: str) -> str:
    """An option as Python's keyword."""
    if not value:
        return name
    try:
        float(value)
    except ValueError:
        return f"{name}={value}" if value == "…" else f"{name}={value!r}"
    return f"{name}={value}"


def shown(value: object, most: int = 60) -> str:
    """A value as messages show it, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # an object's own repr, or a whole number with more digits than Python writes
        text = f"a {type(value).__name__}"
    return text if len(text) <= most else text[: most - 1] + "…"


class SdcppError(Exception):
    """Base of all errors of this package."""

    #: The option that the message names after the word "option", as "name" or "name=value"; "" if it names none.
    option: str = ""
    #: How `str` writes it; None: as Python's keyword.
    spell: Spell | None = None

    def spelled(self, spell: Spell) -> str:
        """The message with the option as ``spell(name, value)`` writes it."""
        message = str(self.args[0]) if self.args else ""
        if not self.option:
            return message
        name, _, value = self.option.partition("=")
        return message.replace(f"option {self.option}", spell(name, value), 1)

    def __str__(self) -> str:
        """The message, options as the face that it came through writes them."""
        return self.spelled(self.spell or in_python)


class InvalidArgumentError(SdcppError, ValueError):
    """An option has a value that cannot be used; the message says which can."""

    @classmethod
    def of(cls, name: str, rest: str, *, before: str = "") -> InvalidArgumentError:
        """An error about the option ``name``; the message is ``before``, its name and ``rest``."""
        error = cls(f"{before}option {name} {rest}")
        error.option = name
        return error


class UnknownKeywordError(InvalidArgumentError, TypeError):
    """A function has no keyword of this name; the message names the one that may be meant."""


class ModelNotFoundError(SdcppError, FileNotFoundError):
    """A file or folder does not exist."""


class BadFileError(SdcppError, ValueError):
    """A file is damaged, truncated or of no known format."""


class UnsupportedModelError(SdcppError, ValueError):
    """The model belongs to a family, or has a shape, that is not supported."""


class MissingPartError(SdcppError, ValueError):
    """A network that is needed (text encoder, diffusion model, VAE) is not in the files given."""

    @classmethod
    def of(cls, what: str, option: str) -> MissingPartError:
        """An error that says to give what is missing with ``option``."""
        error = cls(f"{what}; give one with option {option}=…")
        error.option = f"{option}=…"
        return error

    @classmethod
    def alone(cls, name: str, title: str, option: str) -> MissingPartError:
        """An error for a file that holds nothing but a part, which is to be given with ``option``."""
        error = cls(f"{name} holds only a {title}, no whole model; give it with option {option}=… beside one")
        error.option = f"{option}=…"
        return error


class OutOfMemoryError(SdcppError, MemoryError):
    """Neither host nor device had the memory that was needed."""


class OverBudgetError(OutOfMemoryError):
    """No plan stays under the memory budget; the message names the stage and the smallest budget."""

    least_bytes: int = 0  #: the smallest budget that is enough

    def with_enough(self, largest: OverBudgetError) -> OverBudgetError:
        """The same error with the budget that another one says is enough."""
        told = OverBudgetError(str(self.args[0]).replace(self.option, largest.option, 1))
        told.option, told.least_bytes = largest.option, largest.least_bytes
        return told


class CancelledError(SdcppError):
    """The run was stopped by `cancel()`."""


class NotFiniteError(SdcppError, ArithmeticError):
    """A network gave NaN or infinity."""


class ClosedError(SdcppError, ValueError):
    """The pipeline was used after `close()`."""


class BusyError(SdcppError, RuntimeError):
    """The pipeline was used from within its own step callback, or by a thread that the callback seems to wait for."""


class WorkerDiedError(SdcppError, RuntimeError):
    """The process of a `PipelinePool`'s worker ended before its work was done: by a signal, or for lack of memory."""


class FailedPicturesError(SdcppError, RuntimeError):
    """Some pictures of a list could not be made."""

    errors: collections.abc.Mapping[int, Exception] = {}  #: the reasons, by the pictures' numbers from 0
    results: collections.abc.Mapping[int, typing.Any] = {}  #: the `Result` of every other picture, by number

    @classmethod
    def of(cls, errors: collections.abc.Mapping[int, Exception], count: int) -> FailedPicturesError:
        """An error about those of ``count`` pictures that failed; the message has the first one's reason."""
        first = min(errors)
        reason = errors[first]
        text = reason.args[0] if isinstance(reason, SdcppError) and reason.args else f"{type(reason).__name__}: {reason}"
        error = cls(f"{len(errors)} of {count} pictures could not be made; picture {first}: {text}")
        error.errors = errors
        error.option = getattr(reason, "option", "")
        return error


class EngineError(SdcppError, RuntimeError):
    """Something went wrong inside the engine that should not have; please report it."""
