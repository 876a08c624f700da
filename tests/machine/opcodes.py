"""The opcode tables of the manual, typed from it and not from the machine's own table.

Source: MIPS32 Architecture for Programmers, volume II, revision 2.62, appendix A, tables A-2 to
A-20. Each function lists what a table defines for release 2 with a 64-bit FPU and no module
(MIPS16, DSP, MT, MDMX, paired singles, debug hardware); all else in it is reserved: its `*`, `β`
(64-bit), `ε` (modules), `θ` (partners; those of coprocessor 2 apart), `σ` (debug).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

RUNS, RESERVED = "runs", "reserved"


def _numbers(text: str) -> set[int]:
    """Return the hexadecimal numbers and ranges of a text."""
    found: set[int] = set()
    for part in text.split():
        first, _, last = part.partition("-")
        found |= set(range(int(first, 16), int(last or first, 16) + 1))
    return found


# Table A-2, of what is no table of its own (00 01 10 11 12 13 1c 1f).
OPCODES = _numbers("02-0f 14-17 20-26 28-2b 2e-33 35-36 38-3a 3d-3e")
TABLES = _numbers("00 01 10 11 12 13 1c 1f")
SPECIAL = _numbers("00-04 06-0d 0f 10-13 18-1b 20-27 2a-2b 30-34 36")
REGIMM = _numbers("00-03 08-0c 0e 10-13 1f")
SPECIAL2 = _numbers("00-02 04-05 20-21")  # A-5; SDBBP needs debug hardware
SPECIAL3 = _numbers("00 04 3b")
BSHFL = _numbers("02 10 18")
COP0 = _numbers("00 04 0a 0e")  # A-11; 0b is MFMC0, from 10 CO
CO = _numbers("01 02 06 08 18 20")  # A-12; DERET needs debug hardware
COP1 = _numbers("00 02 03 04 06 07 08")  # A-13; 10 11 14 15 are formats
SINGLE = _numbers("00-0f 11-13 15-16 21 24-25 30-3f")
DOUBLE = _numbers("00-0f 11-13 15-16 20 24-25 30-3f")
INTEGER = _numbers("20-21")  # A-16, for W and L
COP1X = _numbers("00-01 05 08-09 0d 0f 20-21 28-29 30-31 38-39")


@dataclass(frozen=True)
class Encoding:
    """A place in a table: the bits that say which, all bits that the table looks at, its state.

    unit: the coprocessor that must be usable, or None.
    """

    where: str
    match: int
    mask: int
    state: str
    unit: int | None = None

    def words(self, seed: int, count: int) -> Iterator[int]:
        """Yield words of this place; only a reserved one may have anything in other fields."""
        yield self.match
        if self.state == RESERVED:
            rng = random.Random(f"{self.where} {seed}")
            for _ in range(count):
                yield self.match | rng.getrandbits(32) & ~self.mask


def _table(
    where: str, base: int, mask: int, at: int, bits: int, good: set[int], unit: int | None = None,
    leave: set[int] = frozenset(),
) -> Iterator[Encoding]:  # fmt: skip
    field = ((1 << bits) - 1) << at
    for number in range(1 << bits):
        if number not in leave:
            state = RUNS if number in good else RESERVED
            yield Encoding(f"{where} {number:#04x}", base | number << at, mask | field, state, unit)


def encodings() -> list[Encoding]:
    """Return every place of every table once."""
    major = 63 << 26
    found: list[Encoding] = []
    for number in range(64):
        if number not in TABLES:
            unit = 1 if number in _numbers("31 35 39 3d") else None
            unit = 2 if number in _numbers("32 36 3a 3e") else unit
            unit = 0 if number == 0x2F else unit
            state = RUNS if number in OPCODES else RESERVED
            found.append(Encoding(f"opcode {number:#04x}", number << 26, major, state, unit))
    found.append(Encoding("opcode 0x12", 0x12 << 26, major, RUNS, 2))
    for entry in _table("special", 0, major, 0, 6, SPECIAL):
        found.append(entry if entry.match != 1 else
                     Encoding("special 0x01", 1, major | 63, RUNS, 1))  # fmt: skip
    found += _table("regimm", 1 << 26, major, 16, 5, REGIMM)
    found += _table("special2", 0x1C << 26, major, 0, 6, SPECIAL2)
    found += _table("special3", 0x1F << 26, major, 0, 6, SPECIAL3, leave={0x20})
    found += _table("bshfl", 0x7C000020, major | 63, 6, 5, BSHFL)
    found += _table("cop0", 0x10 << 26, major, 21, 5, COP0, 0, leave={0x0B, *range(16, 32)})
    found.append(Encoding("mfmc0", 0x41606000, major | 31 << 21 | 31 << 11, RUNS, 0))
    found += _table("co", 0x42000000, major | 1 << 25, 0, 6, CO, 0)
    formats = {0x10: SINGLE, 0x11: DOUBLE, 0x14: INTEGER, 0x15: INTEGER}
    found += _table("cop1", 0x11 << 26, major, 21, 5, COP1, 1, leave=set(formats))
    for number, functions in formats.items():
        base = 0x11 << 26 | number << 21
        found += _table(f"format {number:#x}", base, major | 31 << 21, 0, 6, functions, 1)
    found += _table("cop1x", 0x13 << 26, major, 0, 6, COP1X, 1)
    return found
