"""IEEE 754 arithmetic in integers: every rounding mode, every flag, the NaNs of MIPS before 2008.

An operand is its bits in a uint64 and a format (S or D). A number is taken apart into (class,
sign, exponent, significand): value = significand / 2^63 × 2^exponent, the significand's leading
one in bit 63, so that S and D share all arithmetic. `control` is FCSR: its rounding mode, its
enables and FS count. Flags are in FCSR's order: I 1, U 2, O 4, Z 8, V 16.

Sources: IEEE 754-1985; MIPS32 Architecture for Programmers, volume I, sections 5.5 to 5.7.
Tininess is detected after rounding; a tiny exact result underflows only if that would trap.
A NaN with a set top fraction bit is signalling. What is invalid gives the default quiet NaN.
With FS a denormal result becomes zero of its sign, with Underflow and Inexact.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline
from disco_trace.machine.fpu.table import D, L

U = np.uint64
ZERO, NUMBER, INFINITE, QUIET, SIGNALLING = range(5)
INEXACT, UNDERFLOW, OVERFLOW, BY_ZERO, INVALID = 1, 2, 4, 8, 16
TO_NEAREST, TO_ZERO, UP, DOWN = range(4)
ENABLE_UNDERFLOW, FLUSH = 1 << 8, 1 << 24

TOP = U(1 << 63)
U0, U1, U2, U11, U32, U40, U63 = (U(n) for n in (0, 1, 2, 11, 32, 40, 63))
LOW32 = U(0xFFFFFFFF)
LARGEST_W, LARGEST_L = U(0x7FFFFFFF), U(0x7FFFFFFFFFFFFFFF)


@inline
def fraction_bits(fmt):
    """Return the width of a format's fraction field."""
    return 52 if fmt == D else 23


@inline
def largest_exponent(fmt):
    """Return the exponent field of infinities and NaNs."""
    return 2047 if fmt == D else 255


@inline
def pack(sign, field, fraction, fmt):
    """Put sign, exponent field and fraction together; they may carry into each other."""
    if fmt == D:
        return (U(sign) << U63) + (U(field) << U(52)) + U(fraction)
    return (U(sign) << U(31)) + (U(field) << U(23)) + U(fraction)


@inline
def default_nan(fmt):
    """Return the quiet NaN that an invalid operation gives."""
    return U(0x7FF7FFFFFFFFFFFF) if fmt == D else U(0x7FBFFFFF)


@inline
def infinity(sign, fmt):
    """Return an infinity."""
    return pack(sign, largest_exponent(fmt), 0, fmt)


@helper
def unpack(bits, fmt):
    """Take a value apart: (class, sign, exponent, significand)."""
    width = fraction_bits(fmt)
    fraction = bits & ((U1 << U(width)) - U1)
    field = np.int64(bits >> U(width)) & largest_exponent(fmt)
    sign = np.int64(bits >> (U63 if fmt == D else U(31))) & 1
    up = U(63 - width)
    if field == largest_exponent(fmt):
        if fraction == U0:
            return INFINITE, sign, np.int64(0), U0
        if (fraction >> U(width - 1)) != U0:
            return SIGNALLING, sign, np.int64(0), fraction << up
        return QUIET, sign, np.int64(0), fraction << up
    bias = largest_exponent(fmt) >> 1
    if field != 0:
        return NUMBER, sign, field - bias, TOP | (fraction << up)
    if fraction == U0:
        return ZERO, sign, np.int64(0), U0
    exponent = np.int64(1 - bias)
    significand = fraction << up
    while significand & TOP == U0:
        significand <<= U1
        exponent -= 1
    return NUMBER, sign, exponent, significand


@inline
def shift_right(significand, count):
    """Shift right; what is lost remains as a one in the lowest bit."""
    if count == 0:
        return significand
    if count > 63:
        return U1 if significand != U0 else U0
    lost = significand & ((U1 << U(count)) - U1)
    return (significand >> U(count)) | (U1 if lost != U0 else U0)


@inline
def rounds_up(last, lost, half, sign, mode):
    """Tell whether to add one to a magnitude that ends in bit `last` and loses `lost`."""
    if mode == TO_NEAREST:
        return lost > half or (lost == half and last != U0)
    if mode == UP:
        return lost != U0 and sign == 0
    if mode == DOWN:
        return lost != U0 and sign != 0
    return False


@helper
def round_pack(sign, exponent, significand, fmt, control):
    """Round a number (leading one in bit 63, sticky bit 0) to a format; return (bits, flags)."""
    width = fraction_bits(fmt)
    drop = U(63 - width)
    half = U1 << (drop - U1)
    mask = (U1 << drop) - U1
    mode = control & 3
    largest = largest_exponent(fmt)
    field = exponent + (largest >> 1)
    tiny = False
    if field <= 0:
        # The last number below the smallest normal may round up to it without being tiny.
        carried = (
            field == 0
            and (significand >> drop) == (U1 << U(width + 1)) - U1
            and rounds_up(U1, significand & mask, half, sign, mode)
        )
        tiny = not carried
        significand = shift_right(significand, 1 - field)
        field = np.int64(1)
    lost = significand & mask
    rounded = significand >> drop
    if rounds_up(rounded & U1, lost, half, sign, mode):
        rounded += U1
    # The leading one adds itself to the field, as does a carry out of the fraction; a denormal
    # has none and ends in field 0.
    bits = pack(0, field - 1, rounded, fmt)
    flags = np.int64(INEXACT if lost != U0 else 0)
    if bits >= infinity(0, fmt):
        bits = infinity(0, fmt)
        if mode == TO_ZERO or mode == (UP if sign != 0 else DOWN):
            bits -= U1
        flags = np.int64(OVERFLOW | INEXACT)
    elif tiny:
        if control & FLUSH != 0 and bits < pack(0, 1, 0, fmt):
            bits = U0
            flags = np.int64(INEXACT)
        if flags != 0 or control & ENABLE_UNDERFLOW != 0:
            flags |= UNDERFLOW
    return bits | pack(sign, 0, 0, fmt), flags


@helper
def choose_nan(a, class_a, b, class_b, fmt):
    """Return (bits, flags) of an operation with a NaN operand: the first quiet one passes on."""
    if class_a == SIGNALLING or class_b == SIGNALLING:
        return default_nan(fmt), np.int64(INVALID)
    return (a if class_a == QUIET else b), np.int64(0)


@helper
def add(a, b, fmt, control):
    """Return (bits, flags) of a + b."""
    class_a, sign_a, exponent_a, x = unpack(a, fmt)
    class_b, sign_b, exponent_b, y = unpack(b, fmt)
    if class_a >= QUIET or class_b >= QUIET:
        return choose_nan(a, class_a, b, class_b, fmt)
    if class_a == INFINITE:
        if class_b == INFINITE and sign_a != sign_b:
            return default_nan(fmt), np.int64(INVALID)
        return a, np.int64(0)
    if class_b == INFINITE:
        return b, np.int64(0)
    if class_a == ZERO and class_b == ZERO:
        if sign_a == sign_b:
            return a, np.int64(0)
        return pack(1 if control & 3 == DOWN else 0, 0, 0, fmt), np.int64(0)
    if class_a == ZERO:
        return round_pack(sign_b, exponent_b, y, fmt, control)
    if class_b == ZERO:
        return round_pack(sign_a, exponent_a, x, fmt, control)
    if exponent_a < exponent_b or (exponent_a == exponent_b and x < y):
        x, y = y, x
        exponent_a, exponent_b = exponent_b, exponent_a
        sign_a, sign_b = sign_b, sign_a
    # A significand leaves eleven low bits free: one makes room for the carry, the rest guard.
    x >>= U1
    y = shift_right(y >> U1, exponent_a - exponent_b)
    if sign_a == sign_b:
        total = x + y
    else:
        total = x - y
        if total == U0:
            return pack(1 if control & 3 == DOWN else 0, 0, 0, fmt), np.int64(0)
    exponent = exponent_a + 1
    while total & TOP == U0:
        total <<= U1
        exponent -= 1
    return round_pack(sign_a, exponent, total, fmt, control)


@helper
def multiply(a, b, fmt, control):
    """Return (bits, flags) of a × b."""
    class_a, sign_a, exponent_a, x = unpack(a, fmt)
    class_b, sign_b, exponent_b, y = unpack(b, fmt)
    if class_a >= QUIET or class_b >= QUIET:
        return choose_nan(a, class_a, b, class_b, fmt)
    sign = sign_a ^ sign_b
    if class_a == INFINITE or class_b == INFINITE:
        if class_a == ZERO or class_b == ZERO:
            return default_nan(fmt), np.int64(INVALID)
        return infinity(sign, fmt), np.int64(0)
    if class_a == ZERO or class_b == ZERO:
        return pack(sign, 0, 0, fmt), np.int64(0)
    # The upper 64 bits of the product, by halves; the lower ones only tell whether it is exact.
    x_high, x_low = x >> U32, x & LOW32
    y_high, y_low = y >> U32, y & LOW32
    middle = x_low * y_high + ((x_low * y_low) >> U32)
    cross = x_high * y_low + (middle & LOW32)
    product = x_high * y_high + (middle >> U32) + (cross >> U32)
    product |= U1 if x * y != U0 else U0
    exponent = exponent_a + exponent_b + 1
    if product & TOP == U0:
        product <<= U1
        exponent -= 1
    return round_pack(sign, exponent, product, fmt, control)


@helper
def divide(a, b, fmt, control):
    """Return (bits, flags) of a ÷ b."""
    class_a, sign_a, exponent_a, x = unpack(a, fmt)
    class_b, sign_b, exponent_b, y = unpack(b, fmt)
    if class_a >= QUIET or class_b >= QUIET:
        return choose_nan(a, class_a, b, class_b, fmt)
    sign = sign_a ^ sign_b
    if class_a == class_b and class_a != NUMBER:
        return default_nan(fmt), np.int64(INVALID)
    if class_a == INFINITE or class_b == ZERO:
        return infinity(sign, fmt), np.int64(0 if class_a == INFINITE else BY_ZERO)
    if class_a == ZERO or class_b == INFINITE:
        return pack(sign, 0, 0, fmt), np.int64(0)
    exponent = exponent_a - exponent_b
    x >>= U1
    y >>= U1
    if x < y:
        x <<= U1
        exponent -= 1
    quotient = U0
    for _ in range(64):
        quotient <<= U1
        if x >= y:
            x -= y
            quotient |= U1
        x <<= U1
    return round_pack(sign, exponent, quotient | (U1 if x != U0 else U0), fmt, control)


@helper
def square_root(a, fmt, control):
    """Return (bits, flags) of √a."""
    class_a, sign, exponent, radicand = unpack(a, fmt)
    if class_a >= QUIET:
        return choose_nan(a, class_a, a, class_a, fmt)
    if class_a == ZERO or (class_a == INFINITE and sign == 0):
        return a, np.int64(0)
    if sign != 0:
        return default_nan(fmt), np.int64(INVALID)
    # Two bits of integer part; an even exponent.
    if exponent & 1 == 0:
        radicand >>= U1
    root, rest = U0, U0
    for _ in range(56):
        rest = (rest << U2) | (radicand >> U(62))
        radicand <<= U2
        trial = (root << U2) | U1
        root <<= U1
        if rest >= trial:
            rest -= trial
            root |= U1
    root = (root << U(8)) | (U1 if rest != U0 else U0)
    return round_pack(np.int64(0), exponent >> 1, root, fmt, control)


@helper
def compare(a, b, fmt, condition):
    """Return (truth, flags) of one of the sixteen conditions of C.cond.

    condition: bit 0 true if unordered, 1 if equal, 2 if less; 3 signals any NaN.
    """
    class_a, sign_a, _, _ = unpack(a, fmt)
    class_b, sign_b, _, _ = unpack(b, fmt)
    if class_a >= QUIET or class_b >= QUIET:
        loud = condition & 8 != 0 or class_a == SIGNALLING or class_b == SIGNALLING
        return condition & 1, np.int64(INVALID if loud else 0)
    if a == b or (class_a == ZERO and class_b == ZERO):
        return (condition >> 1) & 1, np.int64(0)
    if sign_a != sign_b:
        less = sign_a != 0
    else:
        less = (a < b) != (sign_a != 0)
    return ((condition >> 2) & 1 if less else np.int64(0)), np.int64(0)


@helper
def to_integer(a, fmt, target, mode):
    """Return (bits, flags) of a float rounded to W or L; the largest integer if that is invalid."""
    class_a, sign, exponent, significand = unpack(a, fmt)
    largest = LARGEST_L if target == L else LARGEST_W
    if class_a == ZERO:
        return U0, np.int64(0)
    if class_a >= INFINITE or exponent > 63:
        return largest, np.int64(INVALID)
    # 64 bits of integer part and, below them, a half and a sticky bit.
    count = 63 - exponent
    if count > 64:
        whole, lost = U0, U1
    elif count == 64:
        whole, lost = U0, U2 | (U1 if significand != TOP else U0)
    elif count == 0:
        whole, lost = significand, U0
    else:
        whole = significand >> U(count)
        lost = shift_right(significand << U(64 - count), 62)
    if rounds_up(whole & U1, lost, U2, sign, mode):
        whole += U1
    if whole > (largest + U1 if sign != 0 else largest):
        return largest, np.int64(INVALID)
    if sign != 0:
        whole = U0 - whole
    if target != L:
        whole &= LOW32
    return whole, np.int64(INEXACT if lost != U0 else 0)


@helper
def from_integer(value, fmt, control):
    """Return (bits, flags) of a signed integer as a float."""
    if value == 0:
        return U0, np.int64(0)
    sign = np.int64(1 if value < 0 else 0)
    significand = U0 - U(value) if value < 0 else U(value)
    exponent = np.int64(63)
    while significand & TOP == U0:
        significand <<= U1
        exponent -= 1
    return round_pack(sign, exponent, significand, fmt, control)


@helper
def convert(a, fmt, target, control):
    """Return (bits, flags) of a float in the other float format."""
    class_a, sign, exponent, significand = unpack(a, fmt)
    if class_a == NUMBER:
        return round_pack(sign, exponent, significand, target, control)
    if class_a == SIGNALLING:
        return default_nan(target), np.int64(INVALID)
    if class_a == INFINITE:
        return infinity(sign, target), np.int64(0)
    if class_a == ZERO:
        return pack(sign, 0, 0, target), np.int64(0)
    fraction = significand >> (U11 if target == D else U40)
    if fraction == U0:
        # Nothing is left of the fraction: that would be an infinity.
        return default_nan(target), np.int64(0)
    return pack(sign, largest_exponent(target), fraction, target), np.int64(0)
