"""Carry out one FPU instruction exactly, with its flags and exceptions: the slow way."""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline
from disco_trace.machine.exceptions import FPE, RI
from disco_trace.machine.fpu.softfloat import (
    DOWN,
    TO_NEAREST,
    TO_ZERO,
    UP,
    add,
    compare,
    convert,
    default_nan,
    divide,
    from_integer,
    multiply,
    pack,
    square_root,
    to_integer,
    unpack,
)
from disco_trace.machine.fpu.softfloat import QUIET as A_NAN
from disco_trace.machine.fpu.table import (
    ABS,
    ADD,
    CEIL,
    CFC1,
    COMPARE,
    CTC1,
    CVT,
    DIV,
    ELSEWHERE,
    FLOOR,
    KIND,
    MADD,
    MSUB,
    MUL,
    NEG,
    NMADD,
    NMSUB,
    ODD,
    RECIP,
    ROUND,
    RSQRT,
    SOURCE,
    SQRT,
    SUB,
    TARGET,
    TRUNC,
    WIDE,
    D,
    L,
    S,
    W,
)
from disco_trace.machine.layout import FCSR, FIR_VALUE, STATUS_FR

U = np.uint64
LOW32 = U(0xFFFFFFFF)
CAUSES, ENABLES_SHIFT, CAUSES_SHIFT, FLAGS_SHIFT = 0x3F000, 7, 12, 2
# Unimplemented Operation, a cause that cannot be disabled; only CTC1 can set it.
UNIMPLEMENTED = 32
FCSR_WRITABLE = 0xFF83FFFF
CONDITIONS, EXCEPTIONS, ENABLES, CONTROL = 25, 26, 28, 31  # FCCR, FEXR, FENR, FCSR


@inline
def get(f, fr, number, fmt):
    """Return an FPU register's value; with FR = 0 two of 32 words make a 64-bit value."""
    at = number << fr
    value = f[at >> 1]
    if fmt == D or fmt == L:
        return value
    return (value >> U((at & 1) << 5)) & LOW32


@inline
def put(f, fr, number, fmt, value):
    """Set an FPU register; a 32-bit value keeps what lies above it (unpredictable, as QEMU)."""
    at = number << fr
    if fmt == D or fmt == L:
        f[at >> 1] = value
    else:
        shift = U((at & 1) << 5)
        f[at >> 1] = (f[at >> 1] & ~(LOW32 << shift)) | (value << shift)


@helper
def signal(f, flags):
    """Set causes and flags in FCSR; return −1, or FPE if an enabled exception occurred."""
    status = np.int64(f[FCSR]) & ~CAUSES | (flags << CAUSES_SHIFT)
    trapped = flags & (status >> ENABLES_SHIFT)
    if trapped == 0:
        status |= flags << FLAGS_SHIFT
    f[FCSR] = U(status)
    return np.int64(FPE if trapped != 0 else -1)


@helper
def negated(a, fmt):
    """Return a number with its sign inverted; NaNs stay as they are."""
    class_a, _, _, _ = unpack(a, fmt)
    return a if class_a >= A_NAN else a ^ pack(1, 0, 0, fmt)


@helper
def with_sign(a, fmt, kind):
    """Return (bits, flags) of ABS or NEG, which are arithmetic before 2008: NaNs pass through."""
    class_a, _, _, _ = unpack(a, fmt)
    sign = pack(1, 0, 0, fmt)
    if class_a == A_NAN:
        return a, np.int64(0)
    if class_a > A_NAN:
        return default_nan(fmt), np.int64(16)
    return (a & ~sign if kind == ABS else a ^ sign), np.int64(0)


@helper
def read_control(f, number):
    """Return the value of a control register for CFC1; undefined ones are 0."""
    status = np.int64(f[FCSR])
    if number == 0:
        return np.int64(FIR_VALUE)
    if number == CONDITIONS:
        return (status >> 24) & 0xFE | (status >> 23) & 1
    if number == EXCEPTIONS:
        return status & 0x3F07C
    if number == ENABLES:
        return status & 0xF83 | (status >> 22) & 4
    if number == CONTROL:
        return status
    return np.int64(0)


@helper
def write_control(f, number, value):
    """Set a control register for CTC1; return FPE if a cause and its enable are now both set."""
    status = np.int64(f[FCSR])
    if number == CONDITIONS:
        status = status & ~0xFE800000 | (value & 0xFE) << 24 | (value & 1) << 23
    elif number == EXCEPTIONS:
        status = status & ~0x3F07C | value & 0x3F07C
    elif number == ENABLES:
        status = status & ~0x1000F83 | value & 0xF83 | (value & 4) << 22
    elif number == CONTROL:
        status = status & ~FCSR_WRITABLE | value & FCSR_WRITABLE
    else:
        return np.int64(-1)
    f[FCSR] = U(status)
    enabled = (status >> ENABLES_SHIFT) & 31 | UNIMPLEMENTED
    return np.int64(FPE if (status >> CAUSES_SHIFT) & enabled != 0 else -1)


@helper
def execute(f, r, status, op, word):
    """Carry out an instruction of coprocessor 1 that the hot loop left; return −1 or a code.

    f, r: the CPU's FPU and general registers; status: Status, with the FPU enabled; op: opcode id;
    word: the instruction, int64. The code is that of a reserved instruction or a floating-point
    exception, which writes neither a result nor flags.
    """
    kind = KIND[op]
    fr = np.int64(1 if status & STATUS_FR else 0)
    if kind == ELSEWHERE or (fr == 0 and (WIDE[op] or word & ODD[op] != 0)):
        return np.int64(RI)
    ft, fs, fd = (word >> 16) & 31, (word >> 11) & 31, (word >> 6) & 31
    if kind == CFC1:
        r[ft] = read_control(f, fs)
        r[0] = 0
        return np.int64(-1)
    if kind == CTC1:
        return write_control(f, fs, np.int64(r[ft]))
    fmt, target = SOURCE[op], TARGET[op]
    control = np.int64(f[FCSR])
    a = get(f, fr, fs, fmt)
    b = U(0)
    if kind == COMPARE:
        truth, flags = compare(a, get(f, fr, ft, fmt), fmt, word & 15)
        code = signal(f, flags)
        if code < 0:
            number = (word >> 8) & 7
            bit = U(1) << U(number + (24 if number != 0 else 23))
            f[FCSR] = f[FCSR] | bit if truth != 0 else f[FCSR] & ~bit
        return code
    one = pack(0, 1023 if fmt == D else 127, 0, fmt)
    value, flags = a, np.int64(0)
    if kind == ADD or kind == SUB:
        b = get(f, fr, ft, fmt)
        value, flags = add(a, b if kind == ADD else negated(b, fmt), fmt, control)
    elif kind == MUL:
        value, flags = multiply(a, get(f, fr, ft, fmt), fmt, control)
    elif kind == DIV:
        value, flags = divide(a, get(f, fr, ft, fmt), fmt, control)
    elif kind == SQRT:
        value, flags = square_root(a, fmt, control)
    elif kind == ABS or kind == NEG:
        value, flags = with_sign(a, fmt, kind)
    elif kind == RECIP:
        value, flags = divide(one, a, fmt, control)
    elif kind == RSQRT:
        value, flags = square_root(a, fmt, control)
        value, more = divide(one, value, fmt, control)
        flags |= more
    elif kind == MADD or kind == MSUB or kind == NMADD or kind == NMSUB:
        # Release 2 rounds the product before it adds.
        value, flags = multiply(a, get(f, fr, ft, fmt), fmt, control)
        b = get(f, fr, (word >> 21) & 31, fmt)
        b = b if kind == MADD or kind == NMADD else negated(b, fmt)
        value, more = add(value, b, fmt, control)
        flags |= more
        if kind == NMADD or kind == NMSUB:
            value ^= pack(1, 0, 0, fmt)
    elif target == W or target == L:
        mode = control & 3
        if kind == ROUND:
            mode = np.int64(TO_NEAREST)
        elif kind == TRUNC:
            mode = np.int64(TO_ZERO)
        elif kind == CEIL:
            mode = np.int64(UP)
        elif kind == FLOOR:
            mode = np.int64(DOWN)
        value, flags = to_integer(a, fmt, target, mode)
    elif kind == CVT and (fmt == W or fmt == L):
        integer = np.int64(a) if fmt == L else np.int64(np.int32(a))
        value, flags = from_integer(integer, target, control)
    else:
        value, flags = convert(a, fmt, target, control)
    code = signal(f, flags)
    if code < 0:
        put(f, fr, fd, target, value)
    return code


assert S == 0
