"""Texts that come from files, made safe for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with escapes for control characters other than the line's end, and for what is no character.

    A file's names may hold commands for terminals, and bytes that are no UTF-8.
    """
    return "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in text)
