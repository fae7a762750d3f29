"""Exceptions that Python itself raises when memory is short, as errors of the package."""

from __future__ import annotations

import contextlib
from types import TracebackType

from sdcpp_py.errors import EngineError, OutOfMemoryError


class memory_errors_told(contextlib.ContextDecorator):
    """Python's own MemoryError within becomes OutOfMemoryError, and a tokenizer's panic an error: around whatever users call."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        """Raise OutOfMemoryError for a MemoryError that is none."""
        if isinstance(value, MemoryError) and not isinstance(value, OutOfMemoryError):
            raise OutOfMemoryError(f"out of memory: {value}" if value.args else "out of memory") from None
        if type(value).__name__ == "PanicException":  # what the tokenizers package raises if Rust fails
            kind_of_ours = OutOfMemoryError if "memory" in str(value) else EngineError
            raise kind_of_ours(f"the tokenizer failed: {value}") from None
