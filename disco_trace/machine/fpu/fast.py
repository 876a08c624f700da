"""Floating point by the host's own arithmetic, for the hot loop: rounding to nearest only.

All values are doubles; `single` rounds a result again, to the precision of a single. That equals
rounding once for sums, products, quotients and roots of singles, since 53 ≥ 2 × 24 + 2 (Figueroa,
"When is double rounding innocuous?").

Each function returns (value, how): EXACT and ROUNDED say that the value is what MIPS gives, without
or with Inexact; HARD says that the slow way must decide (a NaN, an infinity, a denormal or its
neighbourhood). The host's result is IEEE 754's, so only exactness has to be found out: for a sum,
taking either operand away must leave the other (Knuth's TwoSum); a product, quotient or root is
multiplied out again by a fused multiply-add, whose result is zero only if nothing was rounded.
"""

from __future__ import annotations

import math

import numpy as np

from disco_trace.jit import fused, inline
from disco_trace.machine.layout import FCSR

EXACT, ROUNDED, HARD = range(3)
U = np.uint64
# FCSR: all but the causes; the cause and the flag of Inexact.
NO_CAUSE, INEXACT = U(0xFFFC0FFF), U(0x1004)

# Smaller results may be tiny before rounding; of doubles, what a product, quotient or root is off
# by has up to 105 bits more below the leading one and must be a number too.
LOW_SINGLE, HIGH_SINGLE = 2.0**-125, 3.4028234663852886e38
LOW_DOUBLE, HIGH_DOUBLE = 2.0**-900, 1.7976931348623157e308
BELOW_WORD, ABOVE_WORD = -2147483649.0, 2147483648.0


@inline
def rounded(value, single):
    """Round a double to the precision of a single, if it is one."""
    return np.float64(np.float32(value)) if single else value


@inline
def ordinary(value, single):
    """Tell whether a result is neither NaN nor infinite nor near the denormal numbers."""
    if single:
        return LOW_SINGLE <= abs(value) <= HIGH_SINGLE
    return LOW_DOUBLE <= abs(value) <= HIGH_DOUBLE


@inline
def float_add(a, b, single):
    """Add two numbers."""
    value = rounded(a + b, single)
    if not (ordinary(value, single) or value == 0):
        return value, HARD
    if value - a == b and value - b == a:
        return value, EXACT
    return value, ROUNDED


@inline
def float_multiply(a, b, single):
    """Multiply two numbers."""
    value = rounded(a * b, single)
    if not (ordinary(value, single) or (value == 0 and (a == 0 or b == 0))):
        return value, HARD
    return value, EXACT if fused(a, b, -value) == 0 else ROUNDED


@inline
def float_divide(a, b, single):
    """Divide two numbers."""
    value = rounded(a / b, single)
    if not ((ordinary(value, single) and abs(a) >= LOW_DOUBLE) or (value == 0 and a == 0)):
        return value, HARD
    return value, EXACT if value == 0 or fused(-value, b, a) == 0 else ROUNDED


@inline
def float_root(a, single):
    """Take the square root of a number."""
    value = rounded(math.sqrt(a), single)
    if not (LOW_DOUBLE <= a <= HIGH_DOUBLE or a == 0):
        return value, HARD
    return value, EXACT if fused(-value, value, a) == 0 else ROUNDED


@inline
def float_convert(a, single):
    """Convert a number to a single or a double."""
    value = rounded(a, single)
    if not (ordinary(value, True) or a == 0 if single else a == a):
        return value, HARD
    return value, EXACT if value == a else ROUNDED


@inline
def float_truncate(a):
    """Round a number to a whole one that fits a word, towards zero."""
    if not BELOW_WORD < a < ABOVE_WORD:
        return a, HARD
    value = np.float64(np.int64(a))
    return value, EXACT if value == a else ROUNDED


@inline
def float_sign(a, positive):
    """Invert the sign, or make the number positive."""
    return (abs(a) if positive else -a), (EXACT if a == a else HARD)


@inline
def float_compare(a, b, condition):
    """Return 1.0 if one of the conditions of C.cond holds, 0.0 if not."""
    less = (condition & U(4)) != U(0) and a < b
    equal = (condition & U(2)) != U(0) and a == b
    return np.float64(less or equal), (EXACT if a == a and b == b else HARD)


@inline
def settle(wide, how):
    """Write cause and flag of an operation that was EXACT or ROUNDED to FCSR."""
    wide[FCSR] = (wide[FCSR] & NO_CAUSE) | (U(how) * INEXACT)


@inline
def condition_bit(wide, w):
    """Return the condition code (bits 20:18 of an instruction) that a branch or move names."""
    number = (w >> U(18)) & U(7)
    return (wide[FCSR] >> (number + U(23) + U(number != U(0)))) & U(1)


@inline
def set_condition(wide, w, truth):
    """Write the condition code (bits 10:8) of a comparison without causes to FCSR."""
    number = (w >> U(8)) & U(7)
    at = number + U(23) + U(number != U(0))
    wide[FCSR] = (wide[FCSR] & NO_CAUSE & ~(U(1) << at)) | (U(truth) << at)


@inline
def double_at(number, fr):
    """Return where among 64-bit values a register stands; fr: Status.FR."""
    return (number << fr) >> U(1)
