"""Names of options in errors and warnings, as the face in use (Python, the command line, `StableDiffusion`) writes them."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from sdcpp_py.errors import SdcppError, Spell, in_python

_spell: contextvars.ContextVar[Spell] = contextvars.ContextVar("spell", default=in_python)


@contextlib.contextmanager
def spelled_by(spell: Spell) -> Iterator[None]:
    """Let errors and warnings from within write options as ``spell(name, value)`` does."""
    token = _spell.set(spell)
    try:
        yield
    except SdcppError as error:
        error.spell = spell
        raise
    finally:
        _spell.reset(token)


class OptionName:
    """An option in the arguments of a log message."""

    def __init__(self, name: str) -> None:
        """``name`` is Python's keyword."""
        self.name = name

    def __str__(self) -> str:
        """The name as users of the face know it."""
        return _spell.get()(self.name, "")
