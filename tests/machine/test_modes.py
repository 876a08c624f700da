"""Which segment each mode reaches, through which path.

Source: MIPS32 Architecture for Programmers, volume III, revision 2.62, table 4-2.
"""

from __future__ import annotations

import pytest

from tests.machine.board import Board

KERNEL, SUPERVISOR, USER = 0, 1 << 3, 2 << 3
EXL, ERL = 2, 4
RUN, MISS, ERROR = "runs", "misses the TLB", "address error"
USEG = (0x00000000, 0x7FFFFFFC)
KSEG0 = (0x80000000, 0x80FFFFFC)
KSEG1 = (0xA0000000, 0xA0FFFFFC)
SSEG = (0xC0000000, 0xDFFFFFFC)
KSEG3 = (0xE0000000, 0xFFFFFFFC)
# Status → what a reference to (useg, KSEG0, KSEG1, supervisor segment, KSEG3) does.
TABLE = {
    KERNEL: (MISS, RUN, RUN, MISS, MISS),
    SUPERVISOR: (MISS, ERROR, ERROR, MISS, ERROR),
    USER: (MISS, ERROR, ERROR, ERROR, ERROR),
    SUPERVISOR | EXL: (MISS, RUN, RUN, MISS, MISS),
    USER | EXL: (MISS, RUN, RUN, MISS, MISS),
    USER | ERL: (RUN, RUN, RUN, MISS, MISS),
    ERL: (RUN, RUN, RUN, MISS, MISS),
}
CODES = {("lw", MISS): 2, ("sw", MISS): 3, ("lw", ERROR): 4, ("sw", ERROR): 5, ("jr", MISS): 2,
         ("jr", ERROR): 4}  # fmt: skip
HOME = 0x00001000


@pytest.mark.parametrize("what", ["lw", "sw", "jr"])
@pytest.mark.parametrize("status", TABLE)
def test_segments(status, what):
    text = {"lw": "lw $t1, 0($t0)", "sw": "sw $t1, 0($t0)", "jr": "jr $t0\n nop"}[what]
    for segment, expected in zip((USEG, KSEG0, KSEG1, SSEG, KSEG3), TABLE[status], strict=True):
        for address in segment:
            if status & ERL and address == USEG[1]:
                continue  # no memory there
            board = Board()
            board.program(text + "\n nop")
            # Code at the same physical page, reached through useg in every mode.
            board.tlb(0, 0x00400000, 0 << 6 | 0x1E, 1 << 6 | 0x1E)
            board.jump(0x80001000 if status & 6 or status == KERNEL else 0x00400000 + HOME)
            board.set(status=status, t0=address)
            board.run(3 if what == "jr" else 1)
            pc = board.get("pc")
            if expected == RUN:
                assert board.get("cause") >> 2 & 31 == 0
                assert pc == (address + 4 if what == "jr" else 0x80001004)
                assert board.get("status") == status
                continue
            nested = bool(status & EXL)
            vector = 0x80000000 if expected == MISS and not nested else 0x80000180
            assert board.get("cause") >> 2 & 31 == CODES[what, expected], hex(address)
            assert board.get("badvaddr") == address
            assert pc == vector + 4, hex(pc)


@pytest.mark.parametrize("status", [SUPERVISOR, USER])
def test_mapped_pages_are_reached_from_their_modes_only(status):
    """A page that the kernel used, and so stands in the page filter, stays closed to others."""
    board = Board()
    board.tlb(0, 0x00400000, 0x1E, 1 << 6 | 0x1E)
    for entry, address in enumerate((0xC0000000, 0xE0000000, 0x00800000)):
        board.tlb(entry + 1, address, 2 << 6 | 0x1E, 2 << 6 | 0x1E)
    board.words(0x2000, [0x600D])
    board.program(
        """
        lw $t0, 0($s0)
        lw $t1, 0($s1)
        lw $t2, 0($s2)
        eret
        lw $t3, 0($s2)
        lw $t4, 0($s0)
        lw $t5, 0($s1)
        """
    )
    board.set(status=status | EXL, s0=0xC0000000, s1=0xE0000000, s2=0x00800000, epc=0x00401010)
    board.run(100, stop=0x80000180)
    assert [board.get(f"t{n}") for n in range(4)] == [0x600D] * 4
    assert board.get("t4") == (0x600D if status == SUPERVISOR else 0)
    assert board.get("t5") == 0
    assert board.get("epc") == (0x00401018 if status == SUPERVISOR else 0x00401014)
    assert board.get("cause") >> 2 & 31 == 4


@pytest.mark.parametrize("cu0", [0, 1 << 28])
@pytest.mark.parametrize("mode", [SUPERVISOR, USER])
def test_coprocessor_0_outside_the_kernel(mode, cu0):
    """CU0 opens it; supervisor mode alone does not."""
    board = Board()
    board.tlb(0, 0x00400000, 0x1E, 1 << 6 | 0x1E)
    board.program("mfc0 $t0, prid\n nop")
    board.jump(0x00401000)
    board.set(status=mode | cu0)
    board.run(1)
    if cu0:
        assert board.get("t0") == board.get("prid") != 0
    else:
        assert board.get("cause") & 0x3000007C == 11 << 2
        assert board.get("status") == mode | EXL


@pytest.mark.parametrize("number", range(32))
@pytest.mark.parametrize("mode", [KERNEL, SUPERVISOR, USER, USER | 1 << 28])
def test_rdhwr(number, mode):
    """Registers 0 to 3 and 29, each behind its bit of HWREna outside the kernel."""
    allowed = mode in (KERNEL, USER | 1 << 28)
    for enabled in (0, 1 << number, 0xFFFFFFFF, ~(1 << number)):
        board = Board()
        board.tlb(0, 0x00400000, 0x1E, 1 << 6 | 0x1E)
        board.program(f"mtc0 $t0, hwrena\n mtc0 $t1, status\n rdhwr $t2, ${number}\n nop")
        if mode != KERNEL:
            board.jump(0x00401000)
        board.set(status=0x10000000 | mode, t0=enabled, t1=mode, userlocal=0x1234)
        board.set(t2=0xFFFF)
        board.run(3)
        if number in (0, 1, 2, 3, 29) and (allowed or enabled >> number & 1):
            assert board.get("cause") >> 2 & 31 == 0
            assert board.get("t2") == {0: 0, 1: 32, 2: 1, 3: 2, 29: 0x1234}[number]
        else:
            assert board.get("cause") >> 2 & 31 == 10
            assert board.get("t2") == 0xFFFF


def test_kseg1_and_kseg0_are_the_same_memory():
    board = Board()
    board.program(
        """
        sw $t0, 0($s0)
        lw $t1, 0($s1)
        sw $t2, 4($s1)
        lw $t3, 4($s0)
        sb $t2, 2($s1)
        lw $t4, 0($s0)
        jr $s2
        nop
        """
    )
    board.set(s0=0x80003000, s1=0xA0003000, s2=0xA0001018, t0=0x11223344, t2=0x55667788)
    board.step(10)  # the last two run twice: uncached as well
    assert board.get("t1") == 0x11223344
    assert board.get("t3") == 0x55667788
    assert board.get("t4") == 0x11883344
    assert board.get("pc") == 0xA0001018


def test_stores_change_code():
    """Own stores to code that has run already take effect (behind SYNCI, as the manual asks)."""
    board = Board()
    board.program(
        """
        x: addiu $t0, $t0, 1
        sw $t1, 0($s0)
        synci 0($s0)
        bne $t2, $zero, x
        addiu $t2, $t2, -1
        """
    )
    board.set(t1=0x25080064, s0=0x80001000, t2=2)  # addiu $t0, $t0, 100
    board.step(14)
    assert board.get("t0") == 1 + 100 + 100
