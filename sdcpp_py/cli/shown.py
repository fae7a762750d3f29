"""Names from files, for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with everything that a terminal would act on, or cannot show, written out."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
