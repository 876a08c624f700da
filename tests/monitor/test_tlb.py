"""The three TLBs of a virtual CPU: the guest's own, the software TLB and the hardware's."""

from __future__ import annotations

import pytest

from disco_trace.trace.schema import MONITOR_CAUSES
from tests.machine.board import Board
from tests.machine.test_tlb import CACHED, DIRTY, GLOBAL, VALID, lo
from tests.monitor.guest import Guest

TLB_FAULT, FORWARD, TLB_WRITE = (
    MONITOR_CAUSES.index(name) for name in ("tlb_fault", "forward", "tlb_write")
)
PAGE = 0x00400000
OK = 0
TLBL, TLBS, MOD = 2, 3, 1
REFILL, GENERAL = 0x80000000, 0x80000180


def guest(**sets: str) -> Guest:
    return Guest("machine.tlb_entries=8", *(f"{k.replace('__', '.')}={v}" for k, v in sets.items()))


def write(board: Board, hi: int, lo0: int, lo1: int, how: str = "tlbwr", index: int = 0) -> None:
    """Let the guest's kernel write an entry of its TLB."""
    board.program(how)
    board.set(entryhi=hi, entrylo0=lo0, entrylo1=lo1, index=index, pagemask=0, status=0)
    board.step(1)


def load(board: Board, address: int, text: str = "lw $t1, 0($t0)") -> tuple[int, int]:
    """Run one access of the guest's kernel; return (exception code, vector), 0 for none."""
    board.empty()
    board.program(text + "\n nop")
    board.set(status=0, cause=0, t0=address)
    board.run(1)
    pc = board.get("pc")
    return (0, 0) if pc >= 0x80001000 else (board.get("cause") >> 2 & 31, pc - 4)


def displace(board: Board) -> None:
    """Fill the guest's TLB with other pages, one random entry after the other."""
    for n in range(16):
        write(board, 0x10000000 + (n << 13), lo(0x8000), lo(0x9000), "tlbwr")


def test_a_displaced_entry_costs_no_refill():
    board = guest()
    write(board, PAGE, lo(0x4000), lo(0x5000))
    displace(board)
    assert load(board, PAGE) == (OK, 0)
    assert TLB_FAULT in board.traps()
    assert FORWARD not in board.traps()
    # The guest's own TLB knows nothing of it.
    board.program("tlbp")
    board.set(entryhi=PAGE, status=0)
    board.step(1)
    assert board.get("index") >> 31 == 1


def test_without_a_software_tlb_it_does():
    board = guest(monitor__stlb_entries="0")
    write(board, PAGE, lo(0x4000), lo(0x5000))
    displace(board)
    assert load(board, PAGE) == (TLBL, REFILL)
    assert FORWARD in board.traps()


def test_a_probe_that_misses_drops_the_page():
    board = guest()
    write(board, PAGE, lo(0x4000), lo(0x5000))
    other = PAGE + 0x2000
    write(board, other, lo(0x6000), lo(0x7000))
    displace(board)
    board.program("tlbp")
    board.set(entryhi=PAGE, status=0)
    board.step(1)
    assert load(board, PAGE) == (TLBL, REFILL)
    assert load(board, other) == (OK, 0)


def test_a_write_that_follows_no_probe_empties_it():
    """A loop over all entries tells the guest that nothing is left, so nothing may be."""
    board = guest()
    write(board, PAGE, lo(0x4000), lo(0x5000))
    displace(board)
    write(board, 0x80000000, 0, 0, "tlbwi", 3)
    assert board.software() == []
    assert load(board, PAGE) == (TLBL, REFILL)


@pytest.mark.parametrize("valid", [True, False])
def test_rewriting_the_probed_entry(valid):
    """An update in place keeps the other pages; an invalid pair drops them too."""
    board = guest()
    other = PAGE + 0x2000
    write(board, other, lo(0x6000), lo(0x7000))
    displace(board)
    write(board, PAGE, lo(0x4000), lo(0x5000), "tlbwr")
    board.program("tlbp\n tlbwi")
    flags = VALID | DIRTY | CACHED if valid else 0
    board.set(entryhi=PAGE, status=0, entrylo0=lo(0xA000, flags),
                      entrylo1=lo(0xB000, flags))  # fmt: skip
    board.step(2)
    board.m.ram[0xA000 >> 2] = 77
    if valid:
        assert load(board, PAGE) == (OK, 0)
        assert board.get("t1") == 77
        assert load(board, other) == (OK, 0)
    else:
        assert load(board, PAGE) == (TLBL, GENERAL)
        assert load(board, other) == (TLBL, REFILL)


def test_reading_the_tlb_empties_it():
    board = guest()
    write(board, PAGE, lo(0x4000), lo(0x5000))
    displace(board)
    board.program("tlbr")
    board.set(status=0, index=0)
    board.step(1)
    assert load(board, PAGE) == (TLBL, REFILL)


def test_a_clean_page_is_no_modified_exception_unless_the_guest_can_find_it():
    """The handler of Modified probes for the entry, so it may only run when that is there."""
    board = guest()
    clean = VALID | CACHED
    write(board, PAGE, lo(0x4000, clean), lo(0x5000, clean))
    assert load(board, PAGE, "sw $t1, 0($t0)") == (MOD, GENERAL)
    displace(board)
    assert load(board, PAGE) == (OK, 0)
    assert load(board, PAGE, "sw $t1, 0($t0)") == (TLBS, REFILL)


def test_an_invalid_half_is_a_refill_unless_the_guest_can_find_it():
    board = guest()
    write(board, PAGE, lo(0x4000), 0)
    assert load(board, PAGE + 4096) == (TLBL, GENERAL)
    displace(board)
    assert load(board, PAGE) == (OK, 0)
    assert load(board, PAGE + 4096) == (TLBL, REFILL)


def test_page_numbers_of_kseg0_never_reach_hardware():
    board = guest()
    write(board, 0x80402000, lo(0x4000), lo(0x5000))
    assert board.software() == []
    assert not any(hi & 0xFFFFE000 == 0x80402000 for hi in board.hardware()[:, 0].tolist())
    board.m.ram[0x402000 >> 2] = 5
    assert load(board, 0x80402000) == (OK, 0)
    assert board.get("t1") == 5


def test_large_pages_are_split():
    board = guest()
    board.program("tlbwi")
    board.set(entryhi=0x40000000, pagemask=0x1FFE000, index=2, status=0,
                      entrylo0=lo(0, VALID | DIRTY | CACHED | GLOBAL),
                      entrylo1=lo(0, VALID | CACHED | GLOBAL))  # fmt: skip
    board.step(1)
    board.m.ram[0x345678 >> 2] = 9
    assert load(board, 0x40345678) == (OK, 0)
    assert board.get("t1") == 9
    split = [row for row in board.hardware().tolist() if row[0] & 0xFFFFE000 == 0x40344000]
    assert [(r[2] >> 6, r[3] >> 6) for r in split] == [(0x344, 0x345)]
    assert load(board, 0x41345678, "sw $t1, 0($t0)") == (MOD, GENERAL)
    # Rewriting the large entry takes every piece along.
    write(board, 0x80000000, 0, 0, "tlbwi", 2)
    assert load(board, 0x40345678) == (TLBL, REFILL)


def test_address_spaces_are_kept_apart():
    board = guest()
    write(board, PAGE | 1, lo(0x4000), lo(0x5000))
    write(board, PAGE | 2, lo(0x6000), lo(0x7000))
    displace(board)
    board.m.ram[0x4000 >> 2], board.m.ram[0x6000 >> 2] = 1, 2
    for asid, value in ((1, 1), (2, 2)):
        board.program("mtc0 $t2, entryhi\n lw $t1, 0($t0)\n nop")
        board.set(status=0, t0=PAGE, t2=asid)
        board.run(2)
        assert board.get("t1") == value
    board.program("mtc0 $t2, entryhi\n lw $t1, 0($t0)\n nop")
    board.set(status=0, t0=PAGE, t2=3)
    board.run(2)
    assert board.get("pc") == REFILL + 4


def test_a_reservation_outlives_an_emulated_instruction():
    """LL, TLBP, SC: a monitor that drops the reservation hangs such a guest for ever."""
    board = guest()
    board.program(
        "ll $t1, 0($t0)\n tlbp\n mfc0 $t3, status\n addiu $t1, $t1, 1\n sc $t1, 0($t0)\n nop"
    )
    board.set(status=0, t0=0x80004000, t1=0)
    board.step(6)
    assert board.get("t1") == 1
    assert board.word(0x80004000) == 1


def test_a_reservation_ends_with_an_exception():
    board = guest()
    board.words(GENERAL, [0x42000018])  # eret
    board.program("ll $t1, 0($t0)\n teq $zero, $zero\n sc $t1, 0($t0)\n nop")
    board.set(status=0, t0=0x80004000)
    board.run(2)
    assert board.m.s[0, 6] == 0
