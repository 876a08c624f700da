"""Operands that find errors in floating point: corners, their neighbours, and random ones."""

from __future__ import annotations

import random

S, D, W, L = range(4)
FRACTION = {S: 23, D: 52}
EXPONENT = {S: 8, D: 11}
BITS = {S: 32, D: 64, W: 32, L: 64}


def pack(fmt: int, sign: int, exponent: int, fraction: int) -> int:
    """Return the bits of a float from its three fields."""
    return (sign << EXPONENT[fmt] | exponent) << FRACTION[fmt] | fraction


def is_nan(fmt: int, bits: int) -> bool:
    """Tell whether bits are a NaN."""
    magnitude = bits & (1 << BITS[fmt] - 1) - 1
    return magnitude > pack(fmt, 0, (1 << EXPONENT[fmt]) - 1, 0)


def is_signalling(fmt: int, bits: int) -> bool:
    """Tell whether bits are a signalling NaN: before 2008 its top fraction bit is set."""
    return is_nan(fmt, bits) and bits >> FRACTION[fmt] - 1 & 1 == 1


def corners(fmt: int) -> list[int]:
    """Return zeros, denormals, limits, small integers, infinities and NaNs, of both signs."""
    width, largest = FRACTION[fmt], (1 << EXPONENT[fmt]) - 1
    bias, ones = largest >> 1, (1 << width) - 1
    fields = [(0, 0), (0, 1), (0, 2), (0, ones), (0, ones - 1), (0, 1 << width - 1), (1, 0), (1, 1),
              (1, ones), (2, 0), (largest - 1, 0), (largest - 1, ones), (largest - 1, ones - 1),
              (largest, 0), (largest, ones), (largest, ones >> 1), (largest, 1 << width - 1),
              (largest, 1 << width - 2 | 1)]  # fmt: skip
    for exponent in (-2, -1, 0, 1, 2, width - 1, width, width + 1, 30, 31, 32, 62, 63, 64):
        fields += [(bias + exponent, f) for f in (0, 1, ones, 1 << width - 1, ones - 1)]
    return [pack(fmt, sign, e, f) for e, f in fields for sign in (0, 1)]


def random_float(rng: random.Random, fmt: int) -> int:
    """Return any float; half of them of ordinary size, a quarter with few bits set."""
    kind = rng.random()
    width, largest = FRACTION[fmt], (1 << EXPONENT[fmt]) - 1
    exponent, fraction = rng.randrange(largest + 1), rng.getrandbits(width)
    if kind < 0.5:
        exponent = (largest >> 1) + rng.randrange(-12, 13)
    elif kind < 0.6:
        exponent = rng.choice((0, 0, 1, 2, largest - 1))
    if rng.random() < 0.5:
        keep = rng.randrange(width + 1)
        fraction = fraction >> keep << keep if rng.random() < 0.5 else fraction >> keep
    return pack(fmt, rng.getrandbits(1), exponent, fraction)


def near(rng: random.Random, fmt: int, bits: int) -> int:
    """Return a neighbour of a float, perhaps of the other sign: for cancellation and ties."""
    moved = bits + rng.randrange(-3, 4) & (1 << BITS[fmt]) - 1
    return moved ^ rng.getrandbits(1) << BITS[fmt] - 1


def pairs(rng: random.Random, fmt: int, count: int) -> list[tuple[int, int]]:
    """Return every pair of some corners, then `count` random pairs."""
    special = corners(fmt)
    found = [(a, b) for a in special[:40] for b in special[:40]]
    found += [(rng.choice(special), rng.choice(special)) for _ in range(count // 4)]
    while len(found) < count + 1600:
        a = random_float(rng, fmt) if rng.random() < 0.9 else rng.choice(special)
        kind = rng.random()
        if kind < 0.2:
            b = near(rng, fmt, a)
        elif kind < 0.3:
            b = rng.choice(special)
        else:
            b = random_float(rng, fmt)
        found.append((a, b))
    return found


def integers(rng: random.Random, fmt: int, count: int) -> list[int]:
    """Return corners of the integers of a format, then random ones of every length."""
    bits = BITS[fmt]
    mask = (1 << bits) - 1
    found = [(sign * (1 << n) + d) & mask for n in range(bits) for d in (-1, 0, 1)
             for sign in (1, -1)]  # fmt: skip
    found += [rng.getrandbits(rng.randrange(1, bits + 1)) for _ in range(count)]
    return found + [-value & mask for value in found]
