"""Read numbers and sizes as people write them: 0x100, 1_000, 256KiB."""

from __future__ import annotations

import re
from typing import Final

_SIZE: Final = re.compile(r"\s*([0-9][0-9_]*|0[xX][0-9a-fA-F_]+)\s*([KMG]?i?B?)\s*")
_UNITS: Final = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
# Longer texts are no numbers of ours, and converting them takes time.
_LONGEST: Final = 40
# Characters of a text in a list: a disk, a machine.
MOST_TEXT: Final = 4096


def parse_number(text: str) -> int | float:
    """Return a decimal, hexadecimal (0x) or fractional number; ValueError for anything else."""
    if len(text) > _LONGEST:
        raise ValueError("too long for a number")
    try:
        return int(text, 0)
    except ValueError:
        # `int(text, 0)` refuses leading zeros, which people do write in decimal.
        return int(text) if re.fullmatch(r"\s*0[0-9]+\s*", text) else float(text)


def parse_size(text: str) -> int:
    """Return a size in bytes: a whole number, with B, KiB, MiB or GiB; ValueError otherwise.

    KB and MB are refused: they mean 1000 or 1024 depending on who reads them.
    """
    match = _SIZE.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or match[2] not in _UNITS:
        raise ValueError("not a size")
    number = match[1]
    return int(number, 0 if number[:2].lower() == "0x" else 10) * _UNITS[match[2]]
