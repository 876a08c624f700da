"""An interrupt at every instruction boundary of a loop in user mode that misses the TLB all along.

Code, data and slots lie in pages that never fit into the two entries left free, so that every round
takes refills for fetches, loads, stores and slots. The interrupt must come exactly once, exactly
where the run without it stands then, or behind the refill handler that it falls into, and nothing
else may change.
"""

from __future__ import annotations

import pytest

from disco_trace.machine import layout
from tests.machine.assemble import assemble
from tests.machine.board import Board

EXL, IE, UM, IM0, IM7, BD = 2, 1, 0x10, 0x100, 0x8000, 1 << 31
PTE_BASE = 0x80800000
CODE, DATA = 0x00400FF0, 0x00800000  # the loop crosses into the odd page of its pair
FLAGS = 0x1E
ROUNDS = 3

LOOP = """
x:  lw    $t0, 0($s0)
    addu  $t1, $t1, $t0
    sw    $t1, 0($s1)
    b     y
    lw    $t2, 4($s2)         # a slot on the next page of code, and a miss in it
    addiu $t9, $t9, 1         # never
y:  addu  $t1, $t1, $t2
    lwr   $t3, 5($s0)
    lwl   $t3, 8($s0)
    xor   $t1, $t1, $t3
    bnel  $zero, $zero, x
    addiu $t9, $t9, 1         # nullified
    jalr  $ra, $s6
    sb    $t1, 8($s3)         # a miss in the slot of a call
    addiu $s4, $s4, -1
    bgtz  $s4, x
    addiu $s0, $s0, 0x2000
end: b    end
    nop
"""
CALLED = "addu $t1, $t1, $s4\n jr $ra\n rotr $t1, $t1, 5"
CALL = 0x00A00200
REFILL = """
    mfc0 $k0, context
    lw   $k1, 0($k0)
    mtc0 $k1, entrylo0
    lw   $k1, 4($k0)
    mtc0 $k1, entrylo1
    addiu $gp, $gp, 1
    tlbwr
    eret
"""
HANDLER = """
    mfc0 $k0, epc
    mfc0 $k1, cause
    addiu $s7, $s7, 1
    move $a0, $k0
    move $a1, $k1
    mtc0 $zero, cause
    mtc0 $a3, compare
    eret
"""
# It leaves the page of what was interrupted unmapped: the refill comes again behind it.
FLUSHING = HANDLER.replace("mtc0 $zero, cause", "mtc0 $zero, cause\n tlbwr\n tlbwr\n tlbwr")


def machine(handler: str = HANDLER, *sets: str) -> Board:
    board = Board("machine.tlb_entries=8", *sets)
    frames = {CODE & ~0x1FFF: 0x10, CALL & ~0x1FFF: 0x14}
    for n in range(8):
        frames[DATA + 0x2000 * n] = 0x20 + 2 * n
    for pair, frame in frames.items():
        at = (PTE_BASE & 0x1FFFFFFF) + (pair >> 13 << 4)
        board.words(at, [frame << 6 | FLAGS, frame + 1 << 6 | FLAGS])
    for n in range(16):
        at = 0x20000 + 0x1000 * n
        board.words(at, [(0x9E3779B9 * (n * 1024 + word + 1)) & 0xFFFFFFFF for word in range(8)])
    board.words(0x10000 + (CODE & 0x1FFF), assemble(LOOP, CODE))
    board.words(0x14000 + (CALL & 0x1FFF), assemble(CALLED, CALL))
    board.words(0, assemble(REFILL))
    board.words(0x180, assemble(handler))
    for entry in range(8):
        board.tlb(entry, 0xC0000000 + 0x2000 * entry, 0, 0)
    board.set(
        s0=DATA, s1=DATA + 0x7000, s2=DATA + 0x8000, s3=DATA + 0xB010, s4=ROUNDS, s6=CALL,
        a3=-1, context=PTE_BASE, wired=6, status=UM | IE | IM0,
    )  # fmt: skip
    board.jump(CODE)
    return board


END = CODE + 4 * 17
RESULT = [f"t{n}" for n in range(10)] + [f"s{n}" for n in range(5)] + ["ra", "hi", "lo"]


def result(board: Board) -> list[int]:
    memory = [board.word(at) for at in range(0x20000, 0x30000, 0x1000) for at in (at, at + 4)]
    return [board.get(name) for name in RESULT] + [
        board.word(0x27000), board.word(0x2B018), *memory
    ]  # fmt: skip


def undisturbed() -> tuple[list[tuple[int, bool, bool]], list[int], int]:
    """Return for each boundary: address, in a slot, exception level; the result; refills."""
    board = machine()
    steps = []
    while board.get("pc") != END:
        steps.append((
            board.get("pc"), bool(board.m.s[0, layout.S_SLOT]), bool(board.get("status") & EXL)
        ))  # fmt: skip
        board.step()
        assert len(steps) < 2000
    return steps, result(board), board.get("gp")


STEPS, EXPECTED, REFILLS = undisturbed()


def test_the_loop_is_what_it_should_be():
    """Every instruction of it runs; there are misses of each kind, and in slots."""
    assert REFILLS >= 8 * ROUNDS
    user = {pc for pc, _, level in STEPS if not level}
    never = {CODE + 4 * 5, CODE + 4 * 11}
    assert user >= {CODE + 4 * n for n in range(17)} - never | {CALL, CALL + 4, CALL + 8}
    assert not user & never
    slots = {pc for pc, slot, level in STEPS if slot and not level}
    assert slots == {CODE + 4 * n for n in (4, 13, 16)} | {CALL + 8}
    # Boundaries inside the refill handler: an exception and its first instruction are one step.
    assert {pc for pc, _, level in STEPS if level} == {0x80000000 + 4 * n for n in range(1, 8)}


@pytest.mark.parametrize("handler", [HANDLER, FLUSHING], ids=["plain", "flushing"])
def test_raised_at_every_boundary(handler):
    board = machine(handler)
    for at in range(len(STEPS)):
        board = machine(handler)
        if at:
            board.step(at)
        assert (board.get("pc"), bool(board.m.s[0, layout.S_SLOT])) == STEPS[at][:2]
        board.set(cause=board.get("cause") | 0x100)
        assert board.run(4000, stop=END) == layout.EXIT_STOP
        assert board.get("s7") == 1
        # Inside the handler it waits for the ERET; what missed is then begun again.
        pc, slot, _ = next(step for step in STEPS[at:] if not step[2])
        assert board.get("a0") == (pc - 4 if slot else pc), at
        assert board.get("a1") & (BD | 0x7C) == (BD if slot else 0)
        assert result(board) == EXPECTED, at


@pytest.mark.parametrize("feedback", ["none", "full"])
@pytest.mark.parametrize("shift", [0, 1])
def test_by_the_timer_at_every_cycle(shift, feedback):
    """With stalls as well, where the timer may come due in the middle of a miss."""
    boundaries = {pc - 4 if slot else pc for pc, slot, level in STEPS if not level}
    met = set()
    last = 1200 if feedback == "none" else 3000
    for compare in range(1, last, 1 if feedback == "none" else 2):
        board = machine(HANDLER, f"time.feedback={feedback}")
        start = "nop\n" * shift + "mtc0 $zero, count\n mtc0 $a2, compare\n eret"
        board.program(start)
        board.set(a2=compare, epc=CODE, status=UM | IE | IM7 | EXL)
        assert board.run(4000, stop=END) == layout.EXIT_STOP
        assert result(board) == EXPECTED
        if board.get("s7") == 0:
            break  # it ends before the timer does
        assert board.get("s7") == 1
        assert board.get("a0") in boundaries
        assert board.get("a1") & 0x40008000 == 0x40008000
        met.add(board.get("a0"))
    assert len(met) >= 0.6 * len(boundaries)
