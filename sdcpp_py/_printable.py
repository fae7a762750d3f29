"""Texts that come from files, made safe for a terminal."""

from __future__ import annotations


def printable(text: str, *, lines: bool = False) -> str:
    """``text`` with everything that a terminal would act on, or cannot show, written out; ``lines`` keeps ends of lines.

    A file's names may hold commands for terminals, and bytes that are no UTF-8.
    """
    return "".join(
        letter if letter.isprintable() or (lines and letter == "\n") else letter.encode("unicode_escape").decode()
        for letter in text
    )
