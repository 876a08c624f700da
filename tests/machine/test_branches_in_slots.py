"""Branches in delay slots, which the manual leaves unpredictable (volume I, 4.1.3): what we do.

The two program counters of the pipeline, and no more: a branch sets the one behind the next
instruction. So of a branch in a slot, one instruction at the first target is run as its slot, then
the second target. It links to the instruction behind that slot; a branch-likely that is not taken
nullifies that slot. Offsets count from the first of the two counters, that is from the first
target, not from the slot. An exception there has BD set and EPC four bytes before the instruction.
ERET in a slot: the branch is forgotten.
"""

from __future__ import annotations

import random

import pytest

from disco_trace.machine import layout
from tests.machine.assemble import assemble, encode
from tests.machine.board import Board

CODE, WORDS, PHYSICAL = 0x80001000, 512, 0x1000
START = CODE + 2 * WORDS  # the middle
BD, EXL, IE, CU1 = 1 << 31, 2, 1, 1 << 29
ZERO, MINUS, PLUS = 0, 18, 19  # registers with such a value

# Whether it is taken, by name, with the operands that make it so.
CONDITIONS = [
    ("beq", {"s": ZERO, "t": ZERO}, True), ("bne", {"s": ZERO, "t": ZERO}, False),
    ("beq", {"s": ZERO, "t": PLUS}, False), ("bne", {"s": PLUS, "t": MINUS}, True),
    ("blez", {"s": MINUS}, True), ("blez", {"s": PLUS}, False),
    ("bgtz", {"s": PLUS}, True), ("bgtz", {"s": ZERO}, False),
    ("bltz", {"s": MINUS}, True), ("bltz", {"s": ZERO}, False),
    ("bgez", {"s": ZERO}, True), ("bgez", {"s": MINUS}, False),
    ("bltzal", {"s": MINUS}, True), ("bltzal", {"s": PLUS}, False),
    ("bgezal", {"s": PLUS}, True), ("bgezal", {"s": MINUS}, False),
    ("beql", {"s": ZERO, "t": ZERO}, True), ("beql", {"s": ZERO, "t": PLUS}, False),
    ("bnel", {"s": PLUS, "t": MINUS}, True), ("bnel", {"s": ZERO, "t": ZERO}, False),
    ("blezl", {"s": MINUS}, True), ("blezl", {"s": PLUS}, False),
    ("bgtzl", {"s": PLUS}, True), ("bgtzl", {"s": ZERO}, False),
    ("bltzl", {"s": MINUS}, True), ("bltzl", {"s": ZERO}, False),
    ("bgezl", {"s": ZERO}, True), ("bgezl", {"s": MINUS}, False),
    ("bltzall", {"s": MINUS}, True), ("bltzall", {"s": PLUS}, False),
    ("bgezall", {"s": PLUS}, True), ("bgezall", {"s": MINUS}, False),
    ("bc1f", {}, True), ("bc1t", {}, False), ("bc1fl", {}, True), ("bc1tl", {}, False),
]  # fmt: skip
JUMPS = ("j", "jal", "jr", "jalr")


class Soup:
    """Branches only, and what the two program counters make of them."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.words: list[int] = []
        self.rows: list[tuple[str, bool, int]] = []  # name, taken, target
        for at in range(WORDS):
            target = at + rng.randrange(-12, 14)
            address = CODE + 4 * target
            if rng.random() < 0.2:
                name, taken = rng.choice(JUMPS), True
                if name in ("j", "jal"):
                    word = encode(name) | address >> 2 & 0x3FFFFFF
                else:
                    address = START  # where s1 points
                    word = encode(name, s=17, d=31) if name == "jalr" else encode(name, s=17)
            else:
                name, fields, taken = rng.choice(CONDITIONS)
                word = encode(name, **fields) | (target - at - 1) & 0xFFFF
            self.words.append(word)
            self.rows.append((name, taken, address))
        self.pc, self.npc, self.slot, self.ra = START, START + 4, 0, 0

    def step(self) -> bool:
        """Run one instruction; False where the words end."""
        at = (self.pc - CODE) >> 2
        if not 0 <= at < WORDS - 2:
            return False
        name, taken, target = self.rows[at]
        if name[0] == "b":
            target = self.npc + (target - self.pc - 4)
        self.pc, self.npc, self.slot = self.npc, self.npc + 4, 1
        if name in ("jal", "jalr") or "al" in name:
            self.ra = self.npc
        if taken:
            self.npc = target
        elif name.endswith("l") and name not in ("jal", "bltzal", "bgezal"):
            self.pc, self.npc, self.slot = self.npc, self.npc + 4, 0
        return True


def machine(words: list[int], start: int = CODE) -> Board:
    board = Board()
    board.words(PHYSICAL, words)
    board.set(s1=START, s2=-1, s3=1, status=CU1)
    board.jump(start)
    return board


@pytest.mark.parametrize("seed", range(24))
def test_branches_one_after_the_other(seed):
    soup = Soup(seed)
    board = machine(soup.words, START)
    steps = 0
    while steps < 300 and soup.step():
        board.step()
        steps += 1
        assert board.get("pc") == soup.pc, steps
        assert int(board.m.s[0, layout.S_NPC]) == soup.npc
        assert int(board.m.s[0, layout.S_SLOT]) == soup.slot
        assert board.get("ra") == soup.ra
    assert steps > 2


def test_the_soups_are_long_enough():
    lengths = []
    for seed in range(24):
        soup, steps = Soup(seed), 0
        while steps < 300 and soup.step():
            steps += 1
        lengths.append(steps)
    assert sum(lengths) > 1500


PAIR = "b first\n {}\n addiu $t0, $t0, 1\n first: {}\n addiu $t2, $t2, 1\n second: nop\n nop"


@pytest.mark.parametrize(
    ("second", "slot_is_run", "at", "ra"),
    [
        ("b second", True, 0x14, 0),
        ("bne $zero, $zero, second", True, 0x10, 0),
        ("bnel $zero, $zero, second", False, 0x10, 0),
        ("beql $zero, $zero, second", True, 0x14, 0),
        ("j second", True, 0x14, 0),
        ("jal second", True, 0x14, 0x10),
        ("jr $s5", True, 0x14, 0),
        ("jalr $ra, $s5", True, 0x14, 0x10),
        ("bgezal $zero, second", True, 0x14, 0x10),
        ("bgezall $s2, second", False, 0x10, 0x10),
    ],
)
def test_one_instruction_at_the_first_target_then_the_second(second, slot_is_run, at, ra):
    board = machine(assemble(PAIR.format(second, "addiu $t1, $t1, 1"), CODE))
    board.set(s5=CODE + 0x14)
    board.step(3 if slot_is_run else 2)
    # The offset of a branch counts from `first`, four bytes behind its slot's place.
    relative = second[0] == "b" and at == 0x14
    assert board.get("pc") == CODE + at + 4 * relative
    assert board.get("t1") == slot_is_run
    assert board.get("ra") == (CODE + ra if ra else 0)
    assert board.get("t0") == 0


FAULTS = [("syscall", 8), ("lw $t1, 1($zero)", 4), ("teq $zero, $zero", 13),
          ("add $t1, $s6, $s6", 12)]  # fmt: skip


@pytest.mark.parametrize(("fault", "code"), FAULTS)
@pytest.mark.parametrize("second", ["j second", "jr $s5", "beq $zero, $zero, second"])
def test_exceptions_behind_two_branches(fault, code, second):
    board = machine(assemble(PAIR.format(second, fault), CODE))
    board.set(s5=CODE + 0x14, s6=0x7FFFFFFF)
    assert board.run(100, stop=0x80000180) == layout.EXIT_STOP
    assert board.get("cause") & (BD | 0x7C) == BD | code << 2
    assert board.get("epc") == CODE + 0xC - 4


@pytest.mark.parametrize("after", range(4))
def test_interrupts_between_two_branches(after):
    """Restarted from EPC, a branch in a slot is no longer in one; nothing else is lost."""
    board = machine(assemble(PAIR.format("j second", "addiu $t1, $t1, 1"), CODE))
    board.step(after)
    board.set(status=CU1 | IE | 0x100, cause=0x100)
    assert board.run(100, stop=0x80000180) == layout.EXIT_STOP
    pcs = [(CODE, 0), (CODE, 1), (CODE + 8, 1), (CODE + 0x14, 0)]
    epc, bd = pcs[after]
    assert (board.get("epc"), board.get("cause") >> 31) == (epc, bd)


@pytest.mark.parametrize("branch", ["b far", "jr $s1", "bgezall $zero, far", "bc1f far"])
def test_eret_in_a_slot_forgets_the_branch(branch):
    board = machine(assemble(f"{branch}\n eret\n nop\n nop\n far: nop", CODE))
    board.set(epc=CODE + 0x40, status=CU1 | EXL)
    board.step(2)
    assert board.get("pc") == CODE + 0x40
    assert board.get("status") & EXL == 0
    board.step(2)
    assert board.get("pc") == CODE + 0x48


def test_wait_in_a_slot_goes_on_at_the_target():
    board = machine(assemble("b far\n wait\n nop\n nop\n far: nop\n nop", CODE))
    board.set(status=IE | 0x100, cause=0)
    board.step(1)
    board.set(status=0x100, cause=0x100)
    board.step(2)
    assert board.get("pc") == CODE + 0x14


def test_slots_full_of_anything_never_stop_the_machine():
    """Branches, traps, returns, TLB and CP0 instructions, in each other's slots."""
    odd = assemble(
        "eret\n syscall\n tlbwr\n tlbp\n tlbr\n mtc0 $t0, entryhi\n di $t1\n ei $t2\n"
        "lw $t3, 1($zero)\n sw $t3, 0($zero)\n teq $zero, $zero\n .word 0x7800003f\n synci 0($s1)"
    )
    taken = 0
    for seed in range(16):
        rng = random.Random(seed)
        words = [rng.choice(odd) if rng.random() < 0.4 else word for word in Soup(seed).words]
        board = machine(words * 8 + assemble(f"j {CODE}\n nop"), START)
        for vector in (0, 0x180):
            board.words(vector, assemble("mtc0 $s1, epc\n addiu $s7, $s7, 1\n eret"))
        board.run(20_000)
        assert board.m.g[layout.G_INSTRUCTIONS] >= 20_000
        taken += board.get("s7")
    assert taken > 10_000
