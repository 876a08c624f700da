"""Floating-point exceptions: what is enabled traps, exactly, in and out of delay slots."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from disco_trace.machine import layout
from tests.machine.assemble import assemble
from tests.machine.board import CODE, Board
from tests.machine.test_exceptions import BRANCH, PLAIN, Case, prepare

CU1, FR, EXL, UM = 1 << 29, 1 << 26, 2, 0x10
FPE = 15
I, U, O, Z, V, E = 1, 2, 4, 8, 16, 32  # noqa: E741 - the manual's letters
PATTERN = 0x1122334455667788
ONE, THREE, ZERO, HUGE = 0x3FF << 52, 0x4008 << 48, 0, 0x7FE << 52
INFINITY, SIGNALLING, QUIET = 0x7FF << 52, 0x7FF8 << 48, 0x7FF0 << 48 | 5
SMALL, SMALLEST_NORMAL, DENORMAL = 0x200 << 52, 1 << 52, 3
S_ONE, S_THREE = 0x3F800000, 0x40400000


@dataclass(frozen=True)
class Raise:
    """An operation of f2 and f4 into f8, and the causes that it has with all or none enabled."""

    text: str
    a: int
    b: int = ONE
    causes: int = 0


RAISES = [
    Raise("div.d $f8, $f2, $f4", ONE, ZERO, Z),
    Raise("div.d $f8, $f2, $f4", ONE, THREE, I),
    Raise("div.d $f8, $f2, $f4", ZERO, ZERO, V),
    Raise("mul.d $f8, $f2, $f4", HUGE, HUGE, O | I),
    Raise("add.d $f8, $f2, $f4", SMALL, ONE, I),
    Raise("mul.d $f8, $f2, $f4", SMALLEST_NORMAL | 1, ONE - (1 << 52) | 1, U | I),
    Raise("sub.d $f8, $f2, $f4", INFINITY, INFINITY, V),
    Raise("sqrt.d $f8, $f2", ONE | 1 << 63, causes=V),
    Raise("recip.d $f8, $f2", ZERO, causes=Z),
    Raise("rsqrt.d $f8, $f2", ZERO | 1 << 63, causes=Z),
    Raise("add.s $f8, $f2, $f4", S_ONE, 1, I),
    Raise("mul.s $f8, $f2, $f4", 0x7F000000, 0x7F000000, O | I),
    Raise("cvt.s.d $f8, $f2", SMALL, causes=U | I),
    Raise("cvt.d.s $f8, $f2", 0x7FC00000, causes=V),
    Raise("cvt.s.l $f8, $f2", (1 << 62) + 1, causes=I),
    Raise("trunc.w.d $f8, $f2", HUGE, causes=V),
    Raise("cvt.w.s $f8, $f2", 0x3F000000, causes=I),
    Raise("floor.l.d $f8, $f2", QUIET, causes=V),
    Raise("abs.d $f8, $f2", SIGNALLING, causes=V),
    Raise("neg.s $f8, $f2", 0x7FC00001, causes=V),
    Raise("madd.d $f8, $f4, $f2, $f4", INFINITY, ZERO, V),
    Raise("nmsub.s $f8, $f2, $f4, $f4", S_ONE, S_THREE, 0),  # −(3 × 3 − 1)
    Raise("msub.s $f8, $f2, $f4, $f4", 1, S_THREE, I),  # a denormal is lost
    Raise("c.eq.d 2, $f2, $f4", SIGNALLING, causes=V),
    Raise("c.lt.s 2, $f2, $f4", 0x7F800005, causes=V),
    Raise("c.olt.d 2, $f2, $f4", QUIET, causes=0),
]
ids = [f"{n}-{case.text.split()[0]}" for n, case in enumerate(RAISES)]


def board_for(case: Raise, position: int, user: bool, fcsr: int) -> tuple[Board, int, int]:
    """Return a board before the operation, the status and the EPC it shall have."""
    board, _, epc = prepare(Case(case.text, FPE), position, user)
    status = CU1 | FR | (UM if user else 0)
    board.set(status=status)
    board.floats(d2=case.a, d4=case.b, d8=PATTERN, fcsr=fcsr)
    return board, status, epc


@pytest.mark.parametrize("case", RAISES, ids=ids)
def test_what_is_enabled_traps(case):
    """Each enable alone, everywhere; neither result nor flags change, causes tell all."""
    for enable in (I, U, O, Z, V):
        if not case.causes & enable:
            continue
        for position in (PLAIN, *BRANCH):
            for user in (False, True):
                fcsr = enable << 7 | 1 << 25 | V << 2 | 0x1F000 & ~(enable << 12)
                board, status, epc = board_for(case, position, user, fcsr)
                board.run(100, stop=0x80000180)
                assert board.get("cause") & 0xB000007C == FPE << 2 | (position != PLAIN) << 31
                assert board.get("epc") == epc
                assert board.get("status") == status | EXL
                assert board.float("d8") == PATTERN
                assert hex(board.float("fcsr")) == hex(fcsr & ~0x3F000 | case.causes << 12)
                assert board.m.g[layout.G_INSTRUCTIONS] == 2


@pytest.mark.parametrize("case", RAISES, ids=ids)
def test_what_is_not_enabled_sets_flags(case):
    """Enabling all other exceptions changes nothing."""
    others = 31 & ~case.causes
    for enables in (0, others):
        fcsr = enables << 7 | V << 2 | 0x1F000 & ~(enables << 12)
        board, _, _ = board_for(case, PLAIN, False, fcsr)
        board.step(3)
        flags = case.causes << 12 | case.causes << 2
        assert board.get("cause") & 0x7C == 0
        assert board.float("fcsr") & ~(1 << 26) == fcsr & ~0x3F000 | flags
        assert board.float("d8") != PATTERN or case.text.startswith("c.")


def test_underflow_without_inexactness_occurs_only_if_enabled():
    """Volume I, underflow: a tiny result is one if it traps, else only if it is inexact, too."""
    case = Raise("sub.d $f8, $f2, $f4", SMALLEST_NORMAL | 1, SMALLEST_NORMAL)
    board, _, _ = board_for(case, PLAIN, False, 0)
    board.step(3)
    assert (board.float("d8"), board.float("fcsr")) == (1, 0)
    board, _, _ = board_for(case, PLAIN, False, U << 7)
    board.run(100, stop=0x80000180)
    assert board.get("cause") & 0x7C == FPE << 2
    assert board.float("fcsr") == U << 7 | U << 12


def test_denormal_numbers_are_computed():
    """Never Unimplemented Operation, neither for operands nor for results."""
    case = Raise("add.d $f8, $f2, $f4", DENORMAL, DENORMAL)
    board, _, _ = board_for(case, PLAIN, False, 0)
    board.step(3)
    assert (board.float("d8"), board.float("fcsr")) == (2 * DENORMAL, 0)


def test_flush_to_zero():
    """FS: a denormal result becomes zero, which underflows and is inexact."""
    fs = 1 << 24
    case = Raise("add.d $f8, $f2, $f4", DENORMAL | 1 << 63, DENORMAL - 1)
    board, _, _ = board_for(case, PLAIN, False, fs)
    board.step(3)
    assert board.float("d8") == 1 << 63
    assert board.float("fcsr") == fs | (U | I) << 12 | (U | I) << 2
    for enable in (U, I):
        board, _, _ = board_for(case, PLAIN, False, fs | enable << 7)
        board.run(100, stop=0x80000180)
        assert board.get("cause") & 0x7C == FPE << 2
        assert board.float("d8") == PATTERN


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("position", [PLAIN, *BRANCH])
@pytest.mark.parametrize(
    ("number", "before", "value", "after"),
    [
        *((31, 0, n << 12 | n << 7, n << 12 | n << 7) for n in (I, U, O, Z, V, 31)),
        (31, 0, E << 12, E << 12),  # cannot be disabled
        (26, Z << 7, Z << 12, Z << 7 | Z << 12),
        (28, O << 12, O << 7, O << 7 | O << 12),
        (25, V << 7 | V << 12, 1, V << 7 | V << 12 | 1 << 23),  # any CTC1 looks at the whole
    ],
)
def test_ctc1_that_makes_a_cause_meet_its_enable(number, before, value, after, position, user):
    """The register is written, then the exception is taken at the CTC1."""
    board, status, epc = board_for(Raise(f"ctc1 $t0, ${number}", 0), position, user, before)
    board.set(t0=value)
    board.run(100, stop=0x80000180)
    assert board.get("cause") & 0xB000007C == FPE << 2 | (position != PLAIN) << 31
    assert board.get("epc") == epc
    assert board.get("status") == status | EXL
    assert hex(board.float("fcsr")) == hex(after)


@pytest.mark.parametrize("value", [I << 12 | (31 & ~I) << 7, 0x1F000, 0xF80, 0x1F07C])
def test_ctc1_without_a_meeting(value):
    board, _, _ = board_for(Raise("ctc1 $t0, $31", 0), PLAIN, False, 0)
    board.set(t0=value)
    board.step(3)
    assert board.get("cause") & 0x7C == 0
    assert board.float("fcsr") == value


@pytest.mark.parametrize("odd", [True, False])
def test_reserved_comes_before_arithmetic(odd):
    """With FR = 0 an odd register is reserved even where the operation would trap."""
    board = Board()
    board.program(f"div.d $f8, $f2, $f{5 if odd else 4}")
    board.set(status=CU1)
    board.floats(fcsr=0xF80)
    board.run(10, stop=0x80000180)
    assert board.get("cause") & 0x7C == (10 if odd else FPE) << 2
    assert board.get("epc") == CODE


def test_a_handler_goes_on_behind_the_operation():
    """The usual handler: clear the causes, step over."""
    handler = """
        cfc1 $k0, $31
        srl  $k1, $k0, 12
        andi $s7, $k1, 31
        ins  $k0, $zero, 12, 6
        ctc1 $k0, $31
        mfc0 $k0, epc
        addiu $k0, $k0, 4
        mtc0 $k0, epc
        eret
    """
    board = Board()
    board.words(0x180, assemble(handler, 0x80000180))
    board.program("div.d $f8, $f2, $f4\n addiu $t0, $t0, 1")
    board.set(status=CU1 | FR)
    board.floats(d2=ONE, d4=ZERO, d8=PATTERN, fcsr=Z << 7)
    board.step(handler.count("\n") - 1 + 1)
    assert board.get("s7") == Z
    assert board.float("d8") == PATTERN
    assert board.get("t0") == 1
    assert board.float("fcsr") == Z << 7
