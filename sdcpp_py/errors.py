"""Every failure is one of these. Each also inherits the builtin of its kind, so `except ValueError` and the like work."""

from __future__ import annotations


class SdcppError(Exception):
    """Base of all errors of this package."""


class InvalidArgumentError(SdcppError, ValueError):
    """An option has a value that cannot be used; the message says which would do."""


class ModelNotFoundError(SdcppError, FileNotFoundError):
    """A file or folder does not exist."""


class BadFileError(SdcppError, ValueError):
    """A file is damaged, truncated or of no known format."""


class UnsupportedModelError(SdcppError, ValueError):
    """The model belongs to a family, or has a shape, that is not supported."""


class MissingPartError(SdcppError, ValueError):
    """A network that is needed (text encoder, UNet, VAE) is not in the files given."""


class OutOfMemoryError(SdcppError, MemoryError):
    """Neither host nor device had the memory that was needed."""


class OverBudgetError(OutOfMemoryError):
    """No plan stays under the memory budget; the message names the stage and what would do."""

    least_bytes: int = 0  #: the smallest budget that would do


class CancelledError(SdcppError):
    """The run was stopped by `cancel()`."""


class NotFiniteError(SdcppError, ArithmeticError):
    """A network gave NaN or infinity."""


class ClosedError(SdcppError, ValueError):
    """The pipeline was used after `close()`."""


class BusyError(SdcppError, RuntimeError):
    """The pipeline was used from within its own step callback, while it is at work."""


class EngineError(SdcppError, RuntimeError):
    """Something went wrong inside the engine that should not have; please report it."""
