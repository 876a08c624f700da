"""Where each exception goes and what it leaves: all of BEV, EXL, ERL, IV and EBase, every position.

Expected values: MIPS32 Architecture for Programmers, volume III, revision 2.62, tables 5-2 to 5-4
and figure 5-1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest

from disco_trace.machine import layout
from tests.machine.assemble import assemble
from tests.machine.board import Board

EXL, ERL, BEV, IE, IM0, IV, BD = 2, 4, 1 << 22, 1, 1 << 8, 1 << 23, 1 << 31
CODE = 0x80001000
OLD_EPC, OLD_BAD, PTE_BASE, ASID = 0x12345678, 0xDEADBEEC, 0xAB800000, 0x5A
MISSING, INVALID, CLEAN = 0xC0400008, 0xC0801004, 0xC0800010


@dataclass(frozen=True)
class Kind:
    """A way to fault: t0 holds `address`; for a fetch, ra does and the fault is behind a jump."""

    name: str
    code: int
    text: str = "nop"
    address: int = 0
    refill: bool = False


KINDS = [
    Kind("load refill", 2, "lw $t1, 0($t0)", MISSING, True),
    Kind("store refill", 3, "sw $t1, 0($t0)", MISSING, True),
    Kind("load invalid", 2, "lw $t1, 0($t0)", INVALID),
    Kind("store invalid", 3, "sw $t1, 0($t0)", INVALID),
    Kind("modified", 1, "sw $t1, 0($t0)", CLEAN),
    Kind("load address", 4, "lw $t1, 0($t0)", 0x80000002),
    Kind("store address", 5, "sw $t1, 0($t0)", 0x80000001),
    Kind("data bus", 7, "lw $t1, 0($t0)", 0x9E000000),
    Kind("syscall", 8, "syscall"),
    Kind("break", 9, "break"),
    Kind("reserved", 10, ".word 0x7800003f"),
    Kind("coprocessor", 11, "ldc2"),
    Kind("overflow", 12, "addi $t1, $s0, 1"),
    Kind("trap", 13, "teq $zero, $zero"),
    Kind("fetch refill", 2, address=MISSING, refill=True),
    Kind("fetch invalid", 2, address=INVALID),
    Kind("fetch address", 4, address=0x80000002),
    Kind("fetch bus", 6, address=0x9E000000),
    Kind("interrupt", 0),
]
EBASES = [0x80000000, 0x80040000, 0x803FF000]


def expected_vector(kind: Kind, status: int, cause: int, ebase: int) -> int:
    base = 0xBFC00200 if status & BEV else ebase
    if status & EXL:
        return base + 0x180
    if kind.refill:
        return base
    return base + (0x200 if kind.code == 0 and cause & IV else 0x180)


@pytest.mark.parametrize("slot", [False, True])
@pytest.mark.parametrize("bev", [0, BEV])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_vector(kind, bev, slot):
    fetched = kind.text == "nop" and kind.code != 0
    for exl, erl, iv, ebase, old_bd in product((0, EXL), (0, ERL), (0, IV), EBASES, (0, BD)):
        if fetched and slot:
            continue  # test_fetch.py has slots on other pages
        if kind.code == 0 and (exl or erl):
            continue  # held back, below
        status = bev | exl | erl
        board = Board()
        text = kind.text if kind.text != "ldc2" else ".word 0xd8000000"
        before = "jr $ra" if fetched else "beq $zero, $zero, far" if slot else "nop"
        board.program(f"nop\n {before}\n {text}\n nop\n far: nop")
        board.tlb(1, 0xC0800000 | ASID, 8 << 6 | 0x1A, 0x18)
        board.set(
            status=status, cause=iv | old_bd, ebase=ebase, t0=kind.address, ra=kind.address,
            t1=0x1111, s0=0x7FFFFFFF, epc=OLD_EPC, badvaddr=OLD_BAD, context=PTE_BASE,
            entryhi=ASID,
        )  # fmt: skip
        if kind.code == 0:
            board.step(2)
            status |= IE | IM0
            board.set(status=status, cause=board.get("cause") | 0x100)
        vector = expected_vector(kind, status, iv, ebase)
        assert board.run(100, stop=vector) == layout.EXIT_STOP, (hex(status), hex(ebase))
        cause = board.get("cause")
        assert cause >> 2 & 31 == kind.code
        assert cause & IV == iv
        assert board.get("status") == status | EXL
        assert board.get("errorepc") == 0
        at = kind.address if fetched else CODE + 8
        if exl:
            assert board.get("epc") == OLD_EPC
            assert cause & BD == old_bd
        else:
            assert board.get("epc") == (at - 4 if slot else at)
            assert cause & BD == (BD if slot else 0)
        tlb = 1 <= kind.code <= 3
        assert board.get("badvaddr") == (kind.address if 1 <= kind.code <= 5 else OLD_BAD)
        shown = PTE_BASE | (kind.address >> 13 << 4) & 0x7FFFF0
        assert board.get("context") == (shown if tlb else PTE_BASE)
        assert board.get("entryhi") == (kind.address & 0xFFFFE000 if tlb else 0) | ASID
        assert board.get("t1") == 0x1111
        # What is shown of Cause.CE and the interrupt's own lines.
        assert cause >> 28 & 3 == (2 if kind.code == 11 else 0)


@pytest.mark.parametrize("iv", [0, IV])
@pytest.mark.parametrize("hold", [EXL, ERL, EXL | ERL])
def test_interrupts_wait_for_both_levels(hold, iv):
    """Taken behind the ERET that clears the last of the two, before its target runs."""
    board = Board()
    board.program("nop\n nop\n eret")
    board.set(status=hold | IE | IM0, cause=iv | 0x100, epc=CODE + 0x40, errorepc=CODE + 0x80)
    board.step(3)
    if hold == EXL | ERL:
        assert board.get("status") & (EXL | ERL) == EXL
        assert board.get("pc") == CODE + 0x80
        board.words(0x1080, assemble("eret"))
        board.step(1)
    assert board.run(100, stop=0x80000200 if iv else 0x80000180) == layout.EXIT_STOP
    assert board.get("epc") == CODE + (0x80 if hold == ERL else 0x40)
    assert board.get("cause") & (BD | 0x7C) == 0


@pytest.mark.parametrize("status", [ERL, ERL | 0x10, ERL | 0x08])
def test_error_level_leaves_useg_unmapped(status):
    """With ERL, useg is physical memory, uncached, in kernel mode whatever KSU says."""
    board = Board()
    board.program("lw $t1, 0x3000($zero)\n sw $t2, 0x3004($zero)\n mfc0 $t3, prid\n jr $t0\n nop")
    board.words(0x3000, [0x600D])
    board.words(0x2000, assemble("addiu $t4, $zero, 7"))
    board.set(status=status, t2=0x77, t0=0x2000)
    board.step(6)
    assert board.get("t1") == 0x600D
    assert board.word(0x3004) == 0x77
    assert board.get("t3") == board.get("prid")
    assert board.get("t4") == 7
    # The same address is mapped again as soon as ERL goes.
    board.program("mtc0 $zero, status\n lw $t1, 0x3000($zero)")
    board.set(status=ERL)
    assert board.run(100, stop=0x80000000) == layout.EXIT_STOP
    assert board.get("badvaddr") == 0x3000


@pytest.mark.parametrize("value", range(0x20))
def test_modes_of_every_status(value):
    """KSU, ERL, EXL decide; 3 in KSU, which is reserved, is user mode here."""
    board = Board()
    board.tlb(0, 0x00400000, 0x1E, 1 << 6 | 0x1E)
    board.words(0x1000, assemble("mfc0 $t0, prid\n nop"))
    kernel_mode = bool(value & 6) or not value & 0x18
    board.jump(0x00401000 if not kernel_mode else CODE)
    board.set(status=value)
    board.run(1)
    assert (board.get("t0") != 0) == kernel_mode
    if not kernel_mode:
        assert board.get("cause") >> 2 & 31 == 11
