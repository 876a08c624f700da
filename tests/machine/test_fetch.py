"""Fetches through the TLB: page sizes, halves of a pair, and the ends of pages.

Expected values: MIPS32 Architecture for Programmers, volume III, revision 2.62, chapters 4 and 5.
"""

from __future__ import annotations

import pytest

from disco_trace.machine import layout
from tests.machine.assemble import assemble, encode
from tests.machine.board import Board

TLBL = 2
BD = 1 << 31
ASID = 0x33
VALID, DIRTY, CACHED, UNCACHED = 2, 4, 3 << 3, 2 << 3
REFILL, GENERAL = 0x80000000, 0x80000180
BASE = 0x40000000
SIZES = [1 << bits for bits in range(12, 30, 2)]
LARGEST_IN_RAM = 1 << 24
ADD = encode("addiu", t=8, s=8, i=1)  # addiu $t0, $t0, 1
JUMP = encode("jr", s=16)  # jr $s0


def lo(physical: int, flags: int = VALID | DIRTY | CACHED) -> int:
    return physical >> 12 << 6 | flags


def mask_of(size: int) -> int:
    return (2 * size - 1) & ~0x1FFF


def mapped(size: int, even: int, odd: int, status: int = 0) -> Board:
    """Return a board with a pair of pages at BASE."""
    board = Board()
    board.tlb(9, BASE | ASID, even, odd, mask_of(size))
    board.set(entryhi=ASID, status=status)
    return board


def fault(board: Board, vector: int, epc: int, bad: int, slot: bool) -> None:
    """Run to a vector; the fetch of `bad` must have missed or found an invalid page."""
    assert board.run(100, stop=vector) == layout.EXIT_STOP
    assert board.get("cause") & (BD | 0x7C) == (BD if slot else 0) | TLBL << 2
    assert board.get("epc") == epc
    assert board.get("badvaddr") == bad
    assert board.get("context") >> 4 & 0x7FFFF == bad >> 13
    assert board.get("entryhi") == bad & 0xFFFFE000 | ASID


@pytest.mark.parametrize("status", [0, 0x08, 0x10])
@pytest.mark.parametrize("attribute", [CACHED, UNCACHED])
@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("size", SIZES)
def test_code_in_either_half(size, half, attribute, status):
    """It is fetched from the frame of its half; the other half is another page."""
    good, bad = lo(0x0, VALID | attribute), lo(0x0, attribute)
    board = mapped(size, bad if half else good, good if half else bad, status)
    start = BASE + half * size
    board.words(0x40, [ADD, JUMP, ADD])
    other = BASE + (1 - half) * size
    board.set(s0=other + 0x80)
    board.jump(start + 0x40)
    fault(board, GENERAL, other + 0x80, other + 0x80, False)
    assert board.get("t0") == 2


@pytest.mark.parametrize("size", SIZES)
def test_each_half_has_its_own_frame(size):
    """The same offset in both halves runs different code, to and fro."""
    span = min(size, LARGEST_IN_RAM // 2)
    board = mapped(size, lo(0), lo(span if size <= span else 0))
    odd = size if size <= span else None
    offset = 0x40
    board.words(offset, assemble("addiu $t0, $t0, 1\n jr $s1\n addiu $t1, $t1, 1", BASE))
    if odd is not None:
        board.words(span + offset, assemble("addiu $t2, $t2, 1\n jr $s0\n addiu $t3, $t3, 1"))
    board.set(s0=BASE + offset, s1=BASE + size + offset)
    board.jump(BASE + offset)
    board.step(12)
    expected = [2, 2, 2, 2] if odd is not None else [4, 4, 0, 0]
    assert [board.get(f"t{n}") for n in range(4)] == expected


@pytest.mark.parametrize("slot", [False, True])
@pytest.mark.parametrize("matching", [False, True])
@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("size", [s for s in SIZES if s <= LARGEST_IN_RAM])
def test_running_over_the_end_of_a_page(size, half, matching, slot):
    """Into the other half (invalid), or past the pair: to an invalid entry, or to none.

    If the last word of the page is a branch, the fault is its slot's: BD, and EPC = the branch.
    """
    if half == 0 and not matching:
        return  # behind the even page is always the odd one
    good = lo(0, VALID | CACHED)
    board = mapped(size, lo(0, CACHED) if half else good, good if half else lo(0, CACHED))
    end = BASE + (half + 1) * size
    last = encode("beq", s=0, t=0, i=-8) if slot else ADD
    board.words(size - 8, [ADD, last])
    if half and matching:
        board.tlb(3, end | ASID, lo(0, CACHED), lo(0, VALID | CACHED))
    board.jump(end - 8)
    fault(board, GENERAL if matching else REFILL, end - 4 if slot else end, end, slot)
    assert board.get("t0") == (1 if slot else 2)
    # The handler fills in what is missing and returns: the branch is run again, with its slot.
    board.words(0, [ADD, ADD])
    other = lo(0, VALID | CACHED)
    board.tlb(3, end | ASID, other, other) if half else board.tlb(
        9, BASE | ASID, good, other, mask_of(size)
    )
    board.m.filter[:] = 0
    board.words(0x80, assemble("eret"))
    board.jump(0x80000080)
    board.step(3)
    if slot:  # eret, the branch, its slot on the other page
        assert board.get("pc") == (end - 32) & 0xFFFFFFFF
        assert board.get("t0") == 2
    else:
        assert board.get("pc") == end + 8
        assert board.get("t0") == 4


@pytest.mark.parametrize("size", [s for s in SIZES if s <= 1 << 22])
def test_running_from_half_to_half_to_the_next_pair(size):
    """Straight on through frames that do not follow each other."""
    board = Board()
    frames = [2 * size, 0, size] if size > 0x4000 else [0x8000, 0x10000, 0xC000]
    board.tlb(5, BASE | ASID, lo(frames[0]), lo(frames[1]), mask_of(size))
    board.tlb(2, BASE + 2 * size | ASID, lo(frames[2]), 0, mask_of(size))
    board.set(entryhi=ASID)
    for frame in frames[:2]:
        board.words(frame + size - 4, [ADD])
    for frame in frames[1:]:
        board.words(frame, [ADD])
    # Words between are nops; only the ends are run.
    board.jump(BASE + size - 4)
    board.step(2)
    assert board.get("t0") == 2
    assert board.get("pc") == BASE + size + 4
    board.jump(BASE + 2 * size - 4)
    board.step(2)
    assert board.get("t0") == 4
    assert board.get("pc") == BASE + 2 * size + 4


@pytest.mark.parametrize("slot", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_jump_beyond_either_end_of_the_pair(size, slot):
    """Just outside there is no match: refill. The jump and its slot are done already."""
    for target in (BASE - 4, BASE + 2 * size):
        board = mapped(size, lo(0), lo(0))
        board.words(0x40, [JUMP, encode("lw", t=9, s=17) if slot else ADD])
        board.set(s0=target, s1=0x80000040)
        board.jump(BASE + 0x40)
        fault(board, REFILL, target, target, False)
        assert (board.get("t1") == JUMP) == slot


@pytest.mark.parametrize("asid", [ASID, ASID + 1])
@pytest.mark.parametrize(("g0", "g1"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_code_of_another_address_space(asid, g0, g1):
    board = mapped(0x1000, lo(0) | g0, lo(0x1000) | g1)
    board.words(0x40, [ADD])
    board.set(entryhi=asid)
    board.jump(BASE + 0x40)
    if asid == ASID or (g0 and g1):
        board.step(1)
        assert board.get("t0") == 1
    else:
        assert board.run(100, stop=REFILL) == layout.EXIT_STOP
        assert board.get("epc") == board.get("badvaddr") == BASE + 0x40


def test_code_that_maps_itself_away():
    """TLBWI over the page that runs: the next instruction's fetch already misses."""
    board = mapped(0x1000, lo(0), lo(0x1000))
    board.words(0x40, assemble("tlbwi\n addiu $t0, $t0, 1"))
    board.set(index=9, entrylo0=0, entrylo1=0, pagemask=0)
    board.jump(BASE + 0x40)
    board.set(entryhi=0x00800000 | ASID)
    assert board.run(100, stop=REFILL) == layout.EXIT_STOP
    assert board.get("epc") == BASE + 0x44
    assert board.get("t0") == 0


def test_code_that_changes_its_address_space():
    board = mapped(0x1000, lo(0), lo(0x1000))
    board.words(0x40, assemble("mtc0 $t1, entryhi\n addiu $t0, $t0, 1"))
    board.set(t1=ASID + 1)
    board.jump(BASE + 0x40)
    assert board.run(100, stop=REFILL) == layout.EXIT_STOP
    assert board.get("epc") == BASE + 0x44
    assert board.get("t0") == 0


def test_a_slot_in_another_page_sees_its_own_frame():
    """Branch at the end of one page, slot at the start of the next, target in the first."""
    board = mapped(0x1000, lo(0x8000), lo(0x3000))
    board.words(0x8000 + 0xFF8, [ADD, encode("bne", s=8, t=17, i=-2)])
    board.words(0x3000, [encode("addiu", t=9, s=9, i=1)])
    board.words(0x9000, [encode("addiu", t=10, s=10, i=1)])  # behind the first in RAM
    board.set(s1=5)
    board.jump(BASE + 0xFF8)
    board.step(15)
    assert [board.get(f"t{n}") for n in range(3)] == [5, 5, 0]
    assert board.get("pc") == BASE + 0x1004
