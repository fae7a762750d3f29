"""The printable letters that byte-level tokenizers write bytes as (Radford et al. 2019)."""

from __future__ import annotations


def byte_letters() -> list[str]:
    """The letter of each byte: itself if it is printable in Latin 1, else the next one from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
