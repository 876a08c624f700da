"""The host's arithmetic as the hot loop uses it: what it calls exact or rounded, SoftFloat does."""

from __future__ import annotations

import random

import numpy as np
import pytest

from disco_trace.jit import kernel
from disco_trace.machine.fpu import fast
from tests.machine.fpu.operands import D, S, W, integers, pairs

oracle = pytest.importorskip("tests.machine.fpu.oracle")

NAMES = ("add", "mul", "div", "sqrt", "narrow", "truncate")
ADD, MUL, DIV, SQRT, NARROW, TRUNCATE = range(6)
PAIRS = 20_000


@kernel
def _batch(what, single, a, b, values, how):
    """Compute for arrays of doubles what a number says."""
    for n in range(len(a)):
        if what == ADD:
            values[n], how[n] = fast.float_add(a[n], b[n], single)
        elif what == MUL:
            values[n], how[n] = fast.float_multiply(a[n], b[n], single)
        elif what == DIV:
            values[n], how[n] = fast.float_divide(a[n], b[n], single)
        elif what == SQRT:
            values[n], how[n] = fast.float_root(a[n], single)
        elif what == NARROW:
            values[n], how[n] = fast.float_convert(a[n], True)
        else:
            values[n], how[n] = fast.float_truncate(a[n])


def doubles(fmt: int, bits: list[int]) -> np.ndarray:
    """Return numbers of a format as doubles."""
    if fmt == D:
        return np.array(bits, np.uint64).view(np.float64)
    with np.errstate(invalid="ignore"):
        return np.array(bits, np.uint32).view(np.float32).astype(np.float64)


def bits_of(fmt: int, value: np.float64) -> int:
    """Return the bits of a double in a format that holds it exactly."""
    return int(value.view(np.uint64) if fmt == D else np.float32(value).view(np.uint32))


def compute(what, single, a, b):
    values, how = np.zeros(len(a)), np.zeros(len(a), np.int64)
    _batch(what, single, a, b, values, how)
    return values, how


@pytest.mark.parametrize("fmt", [S, D])
@pytest.mark.parametrize(("what", "most"), [(ADD, 0.4), (MUL, 0.4), (DIV, 0.4), (SQRT, 0.7)])
def test_arithmetic(what, most, fmt):
    operands = pairs(random.Random(f"{what}{fmt}"), fmt, PAIRS)
    a, b = (doubles(fmt, list(side)) for side in zip(*operands, strict=True))
    values, how = compute(what, fmt == S, a, b)
    # Corners are hard, half of the square roots are of negative numbers; others are not.
    assert (how == fast.HARD).mean() < most
    assert (how == fast.EXACT).mean() > 0.02
    assert (how == fast.ROUNDED).mean() > 0.05
    for n, pair in enumerate(operands):
        if how[n] != fast.HARD:
            used = pair[:1] if what == SQRT else pair
            expected = oracle.arithmetic(NAMES[what], fmt, 0, *used)
            assert (bits_of(fmt, values[n]), how[n]) == expected, [hex(x) for x in pair]


def test_doubles_become_singles():
    bits = [a for a, _ in pairs(random.Random(1), D, PAIRS)]
    values, how = compute(NARROW, True, doubles(D, bits), doubles(D, bits))
    assert (how == fast.ROUNDED).mean() > 0.2
    assert (how == fast.EXACT).mean() > 0.1
    for n, a in enumerate(bits):
        if how[n] != fast.HARD:
            assert (bits_of(S, values[n]), how[n]) == oracle.conversion(D, S, 0, a), hex(a)


@pytest.mark.parametrize("source", [S, D])
def test_floats_become_words(source):
    bits = [a for a, _ in pairs(random.Random(2), source, PAIRS)]
    values, how = compute(TRUNCATE, False, doubles(source, bits), doubles(source, bits))
    hard = 0
    for n, a in enumerate(bits):
        value, flags = oracle.conversion(source, W, 1, a)
        if how[n] == fast.HARD:
            assert flags & oracle.INVALID  # nothing else is left to the slow way
            hard += 1
        else:
            assert (int(values[n]) & 0xFFFFFFFF, how[n]) == (value, flags), hex(a)
    assert hard > 1000


def test_words_become_singles():
    words = integers(random.Random(3), W, 2000)
    signed = np.array(words, np.uint32).view(np.int32).astype(np.float64)
    values, how = compute(NARROW, True, signed, signed)
    for n, word in enumerate(words):
        assert (bits_of(S, values[n]), how[n]) == oracle.conversion(W, S, 0, word)
