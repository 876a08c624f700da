"""Every FPU operation, run by a guest program, against SoftFloat: results, causes and flags.

Rounding to nearest runs by the host's arithmetic where it can, the other modes in integers.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from disco_trace.machine import layout
from disco_trace.machine.layout import EXIT_STOP
from tests.machine.assemble import CONDITIONS, assemble
from tests.machine.board import CODE, Board
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

CU1, FR = 1 << 29, 1 << 26
TABLE = 0x80100000
COUNT = 2_000
ROW_WORDS = 10
FORMATS = {"s": S, "d": D, "w": W, "l": L}
# Operands in f2, f4 and f6, the result in f8, which holds a pattern before.
PATTERN = 0x5555555555555555
PROGRAM = """
    li    $t9, 0x55555555
    mtc1  $t9, $f10
    mthc1 $t9, $f10
loop:
    ldc1  $f2, 0($a0)
    ldc1  $f4, 8($a0)
    ldc1  $f6, 16($a0)
    mov.d $f8, $f10
    ctc1  $a3, $31
    OPERATION
    cfc1  $t0, $31
    sdc1  $f8, 24($a0)
    sw    $t0, 32($a0)
    addiu $a1, $a1, -1
    bne   $a1, $zero, loop
    addiu $a0, $a0, 40          # slot
end:
    b     end
    nop
"""


def run(operation: str, control: int, operands: list[tuple[int, int, int]]):
    """Run an operation on every triple of operands; return results and FCSR values."""
    board = Board()
    table = np.zeros((len(operands), ROW_WORDS // 2), np.uint64)
    table[:, :3] = np.array(operands, np.uint64)
    at = (TABLE & 0x1FFFFFFF) >> 2
    board.m.ram[at : at + len(operands) * ROW_WORDS] = table.reshape(-1).view(np.uint32)
    board.program(PROGRAM.replace("OPERATION", operation))
    board.set(status=CU1 | FR, a0=TABLE, a1=len(operands), a3=control)
    end = CODE + 4 * (len(assemble(PROGRAM.replace("OPERATION", operation))) - 2)
    assert board.run(1 << 22, stop=end) == EXIT_STOP
    found = board.m.ram[at : at + len(operands) * ROW_WORDS].view(np.uint64).reshape(-1, 5)
    assert board.m.g[layout.G_INSTRUCTIONS] == 4 + 12 * len(operands)
    return [int(v) for v in found[:, 3]], [int(v) & 0xFFFFFFFF for v in found[:, 4]]


def check(operation, target, control, operands, expected):
    """Run an operation and compare; a result of 32 bits keeps the upper half of the register."""
    values, status = run(operation, control, operands)
    for n, (want, flags) in enumerate(expected):
        value, case = values[n], (operation, [hex(x) for x in operands[n]])
        if BITS[target] == 32:
            assert value >> 32 == PATTERN >> 32, case
            value &= 0xFFFFFFFF
        if want == oracle.NAN:
            assert is_nan(target, value), case
            assert not is_signalling(target, value), case
        else:
            assert hex(value) == hex(want), case
        assert hex(status[n]) == hex(control | flags << 12 | flags << 2), case


def triples(name: str, mode: int, fmt: int) -> list[tuple[int, int, int]]:
    """Return operands: pairs with a third that is often near the others' product."""
    rng = random.Random(f"{name}{mode}{fmt}")
    found = []
    for a, b in pairs(rng, fmt, COUNT):
        c = rng.choice((random_float(rng, fmt), b, rng.choice(corners(fmt))))
        if rng.random() < 0.5:
            product, _ = oracle.arithmetic("mul", fmt, mode, a, b)
            if product != oracle.NAN:
                c = product ^ rng.getrandbits(1) << BITS[fmt] - 1 ^ rng.getrandbits(2)
        found.append((a, b, c))
    return found


def quiet(fmt: int) -> int:
    return 0x7FBFFFFF if fmt == S else 0x7FF7FFFFFFFFFFFF


def both(fmt, first, second):
    """Return the result of a second operation on that of a first, and the flags of both."""
    value, flags = first
    result, more = second(quiet(fmt) if value == oracle.NAN else value)
    return result, flags | more


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("letter", ["s", "d"])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "sqrt"])
def test_arithmetic(name, letter, mode):
    fmt = FORMATS[letter]
    operands = triples(name, mode, fmt)
    last = "" if name == "sqrt" else ", $f4"
    count = 1 if name == "sqrt" else 2
    expected = [oracle.arithmetic(name, fmt, mode, *x[:count]) for x in operands]
    check(f"{name}.{letter} $f8, $f2{last}", fmt, mode, operands, expected)


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("letter", ["s", "d"])
@pytest.mark.parametrize("name", ["madd", "msub", "nmadd", "nmsub"])
def test_multiply_add_rounds_twice(name, letter, mode):
    fmt = FORMATS[letter]
    operands = triples(name, mode, fmt)
    second = "sub" if "sub" in name else "add"
    sign = 1 << BITS[fmt] - 1 if name[0] == "n" else 0
    expected = []
    for a, b, c in operands:
        value, flags = both(
            fmt,
            oracle.arithmetic("mul", fmt, mode, a, b),
            lambda product, c=c: oracle.arithmetic(second, fmt, mode, product, c),
        )
        expected.append((value if value == oracle.NAN else value ^ sign, flags))
    check(f"{name}.{letter} $f8, $f6, $f2, $f4", fmt, mode, operands, expected)


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("letter", ["s", "d"])
@pytest.mark.parametrize("name", ["recip", "rsqrt"])
def test_reciprocals(name, letter, mode):
    fmt = FORMATS[letter]
    operands = triples(name, mode, fmt)
    one = 127 << 23 if fmt == S else 1023 << 52

    def reciprocal(x):
        return oracle.arithmetic("div", fmt, mode, one, x)

    expected = [
        reciprocal(a)
        if name == "recip"
        else both(fmt, oracle.arithmetic("sqrt", fmt, mode, a), reciprocal)
        for a, _, _ in operands
    ]
    check(f"{name}.{letter} $f8, $f2", fmt, mode, operands, expected)


FLOAT_TO_FLOAT = ["cvt.s.d", "cvt.d.s"]
FROM_INTEGER = ["cvt.s.w", "cvt.s.l", "cvt.d.w", "cvt.d.l"]
TO_INTEGER = {"round": 0, "trunc": 1, "ceil": 2, "floor": 3, "cvt": None}


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("name", FLOAT_TO_FLOAT + FROM_INTEGER)
def test_conversions_to_floats(name, mode):
    target, source = (FORMATS[letter] for letter in name[-3::2])
    rng = random.Random(f"{name}{mode}")
    if source in (S, D):
        bits = corners(source) + [random_float(rng, source) for _ in range(COUNT)]
        bits += [x << 29 | rng.choice((0, 1 << 28, rng.getrandbits(29)))
                 for x in (rng.getrandbits(31) for _ in range(COUNT)) if source == D]  # fmt: skip
    else:
        bits = integers(rng, source, COUNT)
    operands = [(x, 0, 0) for x in bits]
    expected = [oracle.conversion(source, target, mode, x) for x in bits]
    check(f"{name} $f8, $f2", target, mode, operands, expected)


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("letters", ["w.s", "w.d", "l.s", "l.d"])
@pytest.mark.parametrize("name", list(TO_INTEGER))
def test_conversions_to_integers(name, letters, mode):
    target, source = FORMATS[letters[0]], FORMATS[letters[2]]
    rng = random.Random(f"{name}{letters}{mode}")
    bits = corners(source) + [random_float(rng, source) for _ in range(COUNT)]
    way = mode if TO_INTEGER[name] is None else TO_INTEGER[name]
    expected = [oracle.conversion(source, target, way, x) for x in bits]
    check(f"{name}.{letters} $f8, $f2", target, mode, [(x, 0, 0) for x in bits], expected)


@pytest.mark.parametrize("mode", [0, 3])
@pytest.mark.parametrize("letter", ["s", "d"])
@pytest.mark.parametrize("name", ["abs", "neg", "mov"])
def test_signs(name, letter, mode):
    """ABS and NEG pass quiet NaNs and signal others; MOV copies and leaves FCSR alone."""
    fmt = FORMATS[letter]
    operands = triples(name, mode, fmt)
    sign = 1 << BITS[fmt] - 1
    control = mode | 0x3F000 if name == "mov" else mode
    if name == "mov":
        control &= ~0x20000  # Unimplemented Operation always traps
    values, status = run(f"{name}.{letter} $f8, $f2", control, operands)
    for (a, _, _), value, found in zip(operands, values, status, strict=True):
        if BITS[fmt] == 32:
            value &= 0xFFFFFFFF
        flags = 0
        want = {"abs": a & ~sign, "neg": a ^ sign, "mov": a}[name]
        if name != "mov" and is_nan(fmt, a):
            flags = 16 if is_signalling(fmt, a) else 0
            want = quiet(fmt) if flags else a
        assert (hex(value), hex(found)) == (hex(want), hex(control | flags << 12 | flags << 2))


@pytest.mark.parametrize("letter", ["s", "d"])
@pytest.mark.parametrize("name", CONDITIONS)
def test_comparisons(name, letter):
    fmt, number = FORMATS[letter], CONDITIONS.index(name)
    operands = triples(name, 0, fmt)
    for code in (0, 1 + number % 7):
        bit = 1 << (24 + code if code else 23)
        # All other condition codes and an old cause are there before.
        control = (0xFE800000 | 0x1F000) & ~bit if number % 2 else bit | 0x1000
        _, status = run(f"c.{name}.{letter} {code}, $f2, $f4", control, operands)
        for (a, b, _), found in zip(operands, status, strict=True):
            truth, flags = oracle.condition(fmt, number, a, b)
            want = control & ~(bit | 0x3F000) | truth * bit | flags << 12 | flags << 2
            assert hex(found) == hex(want), (hex(a), hex(b))
