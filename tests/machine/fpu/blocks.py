"""Random blocks of floating point among integer instructions, for two simulators to agree on.

Left out, because QEMU (and so Unicorn) departs from the manual: ABS and NEG, which it does not
treat as arithmetic; FS, with which it signals nothing for a flushed result; Underflow enabled,
which it does not signal for exact results; undefined control registers, and reserved bits in
CTC1. Of odd registers for doubles with FR = 0 only arithmetic is here, where QEMU says reserved.

One more register is reserved than in integer blocks: s6 holds what CTC1 may write.
"""

from __future__ import annotations

import random

import numpy as np

from tests.machine.assemble import CONDITIONS, encode
from tests.machine.blocks import (
    FREE,
    GP,
    READ,
    S6,
    SCRATCH,
    STATE_WORDS,
    Integers,
    integer_word,
)
from tests.machine.fpu.operands import D, S, corners, random_float

FLOATS, FCSR = STATE_WORDS, STATE_WORDS + 64
CU1, FR = 1 << 29, 1 << 26
LOADS, STORES = {"lwc1": 4, "ldc1": 8}, {"swc1": 4, "sdc1": 8}
ARITHMETIC = [f"{name}.{f}" for name in ("add", "sub", "mul", "div") for f in "sd"]
FUSED = [f"{name}.{f}" for name in ("madd", "msub", "nmadd", "nmsub") for f in "sd"]
UNARY = [f"{name}.{f}" for name in ("sqrt", "recip", "rsqrt", "mov") for f in "sd"]
TO_INTEGER = ("round", "trunc", "ceil", "floor", "cvt")
CONVERT = ["cvt.s.d", "cvt.d.s", "cvt.s.w", "cvt.d.w"]
CONVERT += [f"{name}.w.{f}" for name in TO_INTEGER for f in "sd"]
LONG = ["cvt.s.l", "cvt.d.l"] + [f"{name}.l.{f}" for name in TO_INTEGER for f in "sd"]
# Of FCSR, FEXR and FENR: modes and flags; with exceptions also enables, but that of Underflow.
QUIET, LOUD = 0x7B, 0xEFB
# Encodings that are reserved with the FPU enabled, too.
RESERVED = (0x46C00000, 0x46800000, 0x46000020, 0x45800000, 0x4C00003E, 0x46A00024)
FIRST_PAGE = 0x4C000000  # an integer block's certain fault, which here would be a TLB refill


class Floats(Integers):
    """Blocks of floating point, with 32 registers of 64 bits or of 32 bits."""

    state_words = 2 * STATE_WORDS

    def __init__(self, fr: bool, exceptions: bool) -> None:
        self.fr = fr
        self.status = CU1 | (FR if fr else 0)
        self.control = LOUD if exceptions else QUIET
        step, size = (1, 8) if fr else (2, 4)
        registers = [f"$f{n}, {4 * FLOATS + size * n}($sp)" for n in range(0, 32, step)]
        self.load = "".join(f"ldc1 {text}\n" for text in registers)
        self.load += f"lw $t0, {4 * FCSR}($sp)\n ctc1 $t0, $31\n"
        self.store = "".join(f"\n sdc1 {text}" for text in registers)
        self.store += f"\n cfc1 $t0, $31\n sw $t0, {4 * FCSR}($sp)"

    def prepare(self, rng: random.Random, state: np.ndarray) -> None:
        """Fill registers and most of scratch memory with floats, FCSR with mode and conditions."""
        state[FLOATS : FLOATS + (64 if self.fr else 32)] = _words(rng, 64 if self.fr else 32)
        state[FCSR] = rng.getrandbits(32) & 0xFE800000 | rng.getrandbits(12) & self.control
        state[S6] &= self.control
        state[SCRATCH : SCRATCH + 48] = _words(rng, 48)

    def plain(self, rng: random.Random, exceptions: bool) -> int:
        """Return an instruction that is no branch: two of three are of the FPU."""
        if rng.random() < 0.65:
            return self._float(rng, exceptions)
        while True:
            word = integer_word(rng, exceptions)
            writes_s6 = word & 0xFC00003F == 3 and word >> 11 & 31 == S6  # sra
            if not writes_s6 and word != FIRST_PAGE:
                return word

    def branch(self, rng: random.Random, ahead: int) -> int | None:
        """Return a branch on a condition, half of the time."""
        if rng.random() < 0.5:
            return None
        return encode(rng.choice(["bc1f", "bc1t", "bc1fl", "bc1tl"]), i=ahead) | _code(rng) << 18

    def register(self, rng: random.Random, letter: str) -> int:
        """Return a register for a value of a format: with FR = 0 an even one for 64 bits."""
        return rng.randrange(32) & (~1 if letter in "dl" and not self.fr else ~0)

    def _float(self, rng: random.Random, exceptions: bool) -> int:
        kind = rng.random()
        if exceptions and kind < 0.02:
            return self._fault(rng)
        if kind < 0.35:
            name = rng.choice(ARITHMETIC)
            w, x, y = (self.register(rng, name[-1]) for _ in range(3))
            return encode(name, w=w, x=x, y=y)
        if kind < 0.43:
            name = rng.choice(FUSED)
            v, w, x, y = (self.register(rng, name[-1]) for _ in range(4))
            return encode(name, v=v, w=w, x=x, y=y)
        if kind < 0.51:
            name = rng.choice(UNARY)
            return encode(name, x=self.register(rng, name[-1]), y=self.register(rng, name[-1]))
        if kind < 0.63:
            name = rng.choice(CONVERT + (LONG if self.fr else []))
            return encode(name, x=self.register(rng, name[-1]), y=self.register(rng, name[-3]))
        if kind < 0.72:
            letter = rng.choice("sd")
            w, x = (self.register(rng, letter) for _ in range(2))
            return encode(f"c.{rng.choice(CONDITIONS)}.{letter}", w=w, x=x) | _code(rng) << 8
        if kind < 0.79:
            return self._move(rng)
        if kind < 0.93:
            return self._access(rng)
        if kind < 0.95:
            return encode("andi", t=S6, s=rng.choice(READ), i=self.control)
        numbers = (31, 26, 28) if exceptions else (31, 26, 28, 25)
        if kind < 0.98:
            return encode("ctc1", t=S6, x=rng.choice(numbers))
        return encode("cfc1", t=rng.choice(FREE), x=rng.choice((0, 25, 26, 28, 31)))

    def _move(self, rng: random.Random) -> int:
        kind = rng.randrange(4)
        name = rng.choice(["mfc1", "mtc1", "mfhc1", "mthc1"])
        if kind == 0:
            return encode(name, t=rng.choice(FREE if name[1] == "f" else READ), x=rng.randrange(32))
        if kind == 1:
            return encode(rng.choice(["movf", "movt"]), d=rng.choice(FREE), s=rng.choice(READ)) | (
                _code(rng) << 18
            )
        letter = rng.choice("sd")
        x, y = (self.register(rng, letter) for _ in range(2))
        if kind == 2:
            name = rng.choice(["movf", "movt"])
            return encode(f"{name}.{letter}", x=x, y=y) | _code(rng) << 18
        name = rng.choice(["movz", "movn"])
        return encode(f"{name}.{letter}", x=x, y=y, t=rng.choice(READ))

    def _access(self, rng: random.Random) -> int:
        kind = rng.random()
        if kind < 0.5:
            name = rng.choice(list(LOADS))
            at = rng.randrange(-128, 128) & -LOADS[name]
            return encode(name, t=self.register(rng, "sd"[name[1] == "d"]), s=GP, i=at)
        if kind < 0.85:
            name = rng.choice(list(STORES))
            at = rng.randrange(-128, 120) & -STORES[name]
            return encode(name, t=self.register(rng, "sd"[name[1] == "d"]), s=GP, i=at)
        names = ["lwxc1", "ldxc1", "swxc1", "sdxc1"] + (["luxc1", "suxc1"] if self.fr else [])
        name = rng.choice(names)
        number = self.register(rng, "s" if name[1] == "w" else "d")
        if rng.random() < 0.1:
            return encode("prefx", s=GP)
        return encode(name, s=GP, t=0, **{"y" if name[0] == "l" else "x": number})

    def _fault(self, rng: random.Random) -> int:
        kind = rng.randrange(3)
        if kind == 0:
            return rng.choice(RESERVED)
        if kind == 1:
            name = rng.choice(["lwc1", "ldc1", "swc1", "sdc1"])
            return encode(name, t=self.register(rng, "d"), s=GP, i=rng.randrange(-64, 60) | 1)
        if self.fr:
            return encode("ldxc1", s=GP, t=30, y=rng.randrange(32))  # fp is odd: somewhere, odd
        name = rng.choice([n for n in ARITHMETIC if n[-1] == "d"])
        return encode(name, w=rng.randrange(32), x=rng.randrange(32), y=rng.randrange(32) | 1)


def _code(rng: random.Random) -> int:
    return rng.randrange(8)


def _words(rng: random.Random, count: int) -> list[int]:
    """Return words of doubles and pairs of singles, each float at its natural place."""
    words: list[int] = []
    special = {fmt: corners(fmt) for fmt in (S, D)}
    while len(words) < count:
        fmt = rng.choice((S, D))
        values = [
            rng.choice(special[fmt]) if rng.random() < 0.1 else random_float(rng, fmt)
            for _ in range(2 if fmt == S else 1)
        ]
        words += values if fmt == S else [values[0] & 0xFFFFFFFF, values[0] >> 32]
    return words
