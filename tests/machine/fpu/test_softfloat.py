"""The FPU's integer arithmetic against Berkeley SoftFloat: values and flags, in every mode."""

from __future__ import annotations

import random

import numpy as np
import pytest

from disco_trace.jit import kernel
from disco_trace.machine.fpu import softfloat
from tests.machine.fpu.operands import (
    BITS,
    D,
    L,
    S,
    W,
    corners,
    integers,
    is_nan,
    is_signalling,
    pairs,
    random_float,
)

oracle = pytest.importorskip("tests.machine.fpu.oracle")

PAIRS = 6_000
QUIET = {S: 0x7FBFFFFF, D: 0x7FF7FFFFFFFFFFFF}
FLUSH, ENABLE_UNDERFLOW = 1 << 24, 1 << 8
ADD, SUBTRACT, MULTIPLY, DIVIDE, SQUARE_ROOT, CONVERT, TO_INTEGER, FROM_INTEGER = range(8)


@kernel
def _batch(what, fmt, target, control, a, b, values, flags):
    """Compute for arrays of operands what a number says."""
    for n in range(len(a)):
        if what == ADD:
            values[n], flags[n] = softfloat.add(a[n], b[n], fmt, control)
        elif what == MULTIPLY:
            values[n], flags[n] = softfloat.multiply(a[n], b[n], fmt, control)
        elif what == DIVIDE:
            values[n], flags[n] = softfloat.divide(a[n], b[n], fmt, control)
        elif what == SQUARE_ROOT:
            values[n], flags[n] = softfloat.square_root(a[n], fmt, control)
        elif what == CONVERT:
            values[n], flags[n] = softfloat.convert(a[n], fmt, target, control)
        elif what == TO_INTEGER:
            values[n], flags[n] = softfloat.to_integer(a[n], fmt, target, control)
        else:
            values[n], flags[n] = softfloat.from_integer(np.int64(a[n]), target, control)


@kernel
def _compare(fmt, condition, a, b, truths, flags):
    """Compare arrays of operands."""
    for n in range(len(a)):
        truths[n], flags[n] = softfloat.compare(a[n], b[n], fmt, condition)


def compute(what, fmt, target, control, a, b=None):
    """Return lists of values and flags."""
    left = np.array(a, np.uint64)
    right = left if b is None else np.array(b, np.uint64)
    values, flags = np.zeros(len(left), np.uint64), np.zeros(len(left), np.int64)
    _batch(what, fmt, target, control, left, right, values, flags)
    return [int(v) for v in values], [int(v) for v in flags]


def agree(fmt, found, flags, expected):
    """Assert that results are those of the oracle, NaNs by class."""
    for n, (value, flag, (want, want_flags)) in enumerate(zip(found, flags, expected, strict=True)):
        if fmt in (S, D) and is_nan(fmt, value):
            assert not is_signalling(fmt, value)
            value = oracle.NAN
        assert (hex(value), flag) == (hex(want), want_flags), n


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("fmt", [S, D])
@pytest.mark.parametrize(
    ("what", "name"), [(ADD, "add"), (MULTIPLY, "mul"), (DIVIDE, "div"), (SQUARE_ROOT, "sqrt")]
)
def test_arithmetic(what, name, fmt, mode):
    operands = pairs(random.Random(f"{name}{fmt}{mode}"), fmt, PAIRS)
    a, b = [x for x, _ in operands], [y for _, y in operands]
    found, flags = compute(what, fmt, fmt, mode, a, b)
    if what == SQUARE_ROOT:
        expected = [oracle.arithmetic(name, fmt, mode, x) for x in a]
    else:
        expected = [oracle.arithmetic(name, fmt, mode, x, y) for x, y in operands]
    agree(fmt, found, flags, expected)
    # The operands reach every flag that the operation can raise.
    seen = 0
    for flag in flags:
        seen |= flag
    assert seen == {"add": 21, "mul": 23, "div": 31, "sqrt": 17}[name]


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize(("source", "target"), [(S, D), (D, S)])
def test_conversion_between_floats(source, target, mode):
    rng = random.Random(mode)
    a = corners(source) + [random_float(rng, source) for _ in range(PAIRS)]
    if source == D:
        # Around the limits of S, where a double is tiny, overflows, or lies half between two.
        a += [near << 29 | low for near in (rng.randrange(1 << 31) for _ in range(PAIRS))
              for low in (0, 1 << 28, rng.getrandbits(29))]  # fmt: skip
        a += [(1023 + e) << 52 | rng.choice((0, (1 << 52) - 1, rng.getrandbits(52)))
              for e in range(-152, 130) for _ in range(10)]  # fmt: skip
    found, flags = compute(CONVERT, source, target, mode, a)
    agree(target, found, flags, [oracle.conversion(source, target, mode, x) for x in a])


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("source", [S, D])
@pytest.mark.parametrize("target", [W, L])
def test_conversion_to_integers(source, target, mode):
    rng = random.Random(mode)
    a = corners(source) + [random_float(rng, source) for _ in range(PAIRS)]
    found, flags = compute(TO_INTEGER, source, target, mode, a)
    expected = [oracle.conversion(source, target, mode, x) for x in a]
    assert [*zip(found, flags, strict=True)] == expected


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("source", [W, L])
@pytest.mark.parametrize("target", [S, D])
def test_conversion_from_integers(source, target, mode):
    a = integers(random.Random(mode), source, PAIRS)
    signed = [x - (1 << BITS[source]) * (x >> BITS[source] - 1) for x in a]
    found, flags = compute(
        FROM_INTEGER, source, target, mode, [x & 0xFFFFFFFFFFFFFFFF for x in signed]
    )
    agree(target, found, flags, [oracle.conversion(source, target, mode, x) for x in a])


@pytest.mark.parametrize("fmt", [S, D])
@pytest.mark.parametrize("number", range(16))
def test_comparison(fmt, number):
    operands = pairs(random.Random(number), fmt, PAIRS // 4)
    a, b = (np.array(side, np.uint64) for side in zip(*operands, strict=True))
    truths, flags = np.zeros(len(a), np.int64), np.zeros(len(a), np.int64)
    _compare(fmt, number, a, b, truths, flags)
    expected = [oracle.condition(fmt, number, x, y) for x, y in operands]
    assert [*zip(truths.tolist(), flags.tolist(), strict=True)] == expected


QUIET_A, QUIET_B, SIGNALLING = 0x7FF0000000012345, 0xFFF7000000000001, 0x7FF8000000000000
ONE, INFINITY = 0x3FF0000000000000, 0x7FF0000000000000


@pytest.mark.parametrize("what", [ADD, MULTIPLY, DIVIDE])
@pytest.mark.parametrize(
    ("a", "b", "value", "flag"),
    [
        (QUIET_A, ONE, QUIET_A, 0),
        (ONE, QUIET_B, QUIET_B, 0),
        (QUIET_A, QUIET_B, QUIET_A, 0),
        (QUIET_B, QUIET_A, QUIET_B, 0),
        (SIGNALLING, QUIET_A, QUIET[D], 16),
        (QUIET_A, SIGNALLING, QUIET[D], 16),
        (INFINITY, SIGNALLING | 1 << 63, QUIET[D], 16),
    ],
)
def test_nans_of_the_operands(what, a, b, value, flag):
    assert compute(what, D, D, 0, [a], [b]) == ([value], [flag])


@pytest.mark.parametrize(
    ("source", "a", "value", "flag"),
    [
        (S, 0xFF801234, 0xFFF0024680000000, 0),  # the fraction keeps its upper end
        (D, 0xFFF0024680000000, 0xFF801234, 0),
        (D, 0x7FF000001FFFFFFF, QUIET[S], 0),  # nothing of it fits
        (S, 0x7FC00000, QUIET[D], 16),
        (D, 0xFFFFFFFFFFFFFFFF, QUIET[S], 16),
    ],
)
def test_nans_through_conversions(source, a, value, flag):
    assert compute(CONVERT, source, 1 - source, 0, [a]) == ([value], [flag])


SMALLEST = 0x0010000000000000


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize(
    ("a", "b", "value", "flag"),
    [
        # What is exact only underflows if that traps.
        (SMALLEST | 1, 0x8010000000000000, 1, {0: 0, FLUSH: 3, ENABLE_UNDERFLOW: 2}),
        (0x8010000000000001, SMALLEST, 1 << 63 | 1, {0: 0, FLUSH: 3, ENABLE_UNDERFLOW: 2}),
        (1, 0, 1, {0: 0, FLUSH: 3, ENABLE_UNDERFLOW: 2}),
        (SMALLEST, 0, SMALLEST, {0: 0, FLUSH: 0, ENABLE_UNDERFLOW: 0}),
        (SMALLEST - 1, 1, SMALLEST, {0: 0, FLUSH: 0, ENABLE_UNDERFLOW: 0}),  # operands stay
    ],
)
def test_denormal_results(mode, a, b, value, flag):
    for control, expected in flag.items():
        flushed = value & 1 << 63 if expected == 3 else value
        assert compute(ADD, D, D, control | mode, [a], [b]) == ([flushed], [expected])


@pytest.mark.parametrize("fmt", [S, D])
def test_flush_changes_denormal_results_only(fmt):
    """With FS a multiplication gives what it gave, or for a denormal a zero and both flags."""
    operands = pairs(random.Random(5), fmt, PAIRS)
    a, b = zip(*operands, strict=True)
    plain, plain_flags = compute(MULTIPLY, fmt, fmt, 0, a, b)
    found, flags = compute(MULTIPLY, fmt, fmt, FLUSH, a, b)
    sign, smallest = 1 << BITS[fmt] - 1, 1 << (52 if fmt == D else 23)
    denormals = 0
    for value, flag, want, want_flags in zip(found, flags, plain, plain_flags, strict=True):
        if 0 < want & ~sign < smallest:
            denormals += 1
            want, want_flags = want & sign, 3
        assert (value, flag) == (want, want_flags)
    assert denormals > 100
