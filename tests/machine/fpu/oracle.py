"""What Berkeley SoftFloat says, in the terms of MIPS before 2008.

SoftFloat's NaNs have the quiet bit the other way round: operands are translated by class, and a
NaN result is only known to be one. Its flags are those of FCSR. Out of range, its conversions to
integers differ from ours in value, not in flags.
"""

from __future__ import annotations

import softfloatpy as sf

from tests.machine.fpu.operands import BITS, FRACTION, D, L, S, W, is_nan, is_signalling

# FCSR.RM: nearest even, to zero, up, down.
MODES = (
    sf.RoundingMode.NEAR_EVEN,
    sf.RoundingMode.MIN_MAG,
    sf.RoundingMode.MAX,
    sf.RoundingMode.MIN,
)
NAN = -1
INEXACT, UNDERFLOW, OVERFLOW, BY_ZERO, INVALID = 1, 2, 4, 8, 16
TYPES = {S: sf.Float32, D: sf.Float64, W: sf.Int32, L: sf.Int64}
_LETTER = {S: "f32", D: "f64", W: "i32", L: "i64"}


def operand(fmt: int, bits: int):
    """Return SoftFloat's object for bits of ours."""
    if fmt in FRACTION and is_nan(fmt, bits):
        quiet = 1 << FRACTION[fmt] - 1
        bits = bits | quiet if not is_signalling(fmt, bits) else bits & ~quiet | 1
    return TYPES[fmt].from_bytes(bits.to_bytes(BITS[fmt] // 8, "big"))


def begin(mode: int) -> None:
    """Set a rounding mode of FCSR, tininess after rounding, and clear the flags."""
    sf.set_rounding_mode(MODES[mode])
    sf.set_tininess_mode(sf.TininessMode.AFTER_ROUNDING)
    sf.set_exception_flags(0)


def result(fmt: int, value) -> int:
    """Return a result's bits, NAN for any NaN."""
    bits = int.from_bytes(value.to_bytes(), "big")
    return NAN if fmt in FRACTION and is_nan(fmt, bits) else bits


def arithmetic(name: str, fmt: int, mode: int, *operands: int) -> tuple[int, int]:
    """Return (bits or NAN, flags) of add, sub, mul, div or sqrt."""
    begin(mode)
    function = getattr(sf, f"{_LETTER[fmt]}_{name}")
    value = function(*(operand(fmt, bits) for bits in operands))
    return result(fmt, value), int(sf.get_exception_flags())


def conversion(source: int, target: int, mode: int, bits: int) -> tuple[int, int]:
    """Return (bits or NAN, flags) of a conversion between two formats."""
    begin(mode)
    function = getattr(sf, f"{_LETTER[source]}_to_{_LETTER[target]}")
    value = function(operand(source, bits))
    flags = int(sf.get_exception_flags())
    if target in (W, L) and flags & INVALID:
        return (1 << 31) - 1 if target == W else (1 << 63) - 1, flags
    return result(target, value), flags


def condition(fmt: int, number: int, a: int, b: int) -> tuple[int, int]:
    """Return (truth, flags) of a condition of C.cond."""
    begin(0)
    x, y = operand(fmt, a), operand(fmt, b)
    letter = _LETTER[fmt]
    loud = number & 8
    equal = getattr(sf, f"{letter}_eq{'_signaling' if loud else ''}")(x, y)
    less = getattr(sf, f"{letter}_lt{'' if loud else '_quiet'}")(x, y)
    unordered = is_nan(fmt, a) or is_nan(fmt, b)
    truth = (number & 1 and unordered) or (number & 2 and equal) or (number & 4 and less)
    return int(bool(truth)), int(sf.get_exception_flags())
