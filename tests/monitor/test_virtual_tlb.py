"""Any sequence of TLB instructions and accesses: against the oracle, and against the bare machine.

The first is exact: a few pages, so that the software TLB never has to drop one for want of room.
The second is what the rules are for: operating systems that keep page tables and take mappings
back in the ways they do must never see what they took back.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from disco_trace.machine import layout
from tests.machine.assemble import assemble
from tests.machine.board import Board
from tests.monitor.guest import Guest
from tests.naive_tlb import Pair, VirtualTlb

ENTRIES = 8
PAGES = [0x00400000, 0x00402000, 0x00404000, 0x00406000, 0x7FFFE000, 0xC0400000]
UNMAPPED = [0x80400000, 0xA0402000]  # an entry for one of these matches nothing that is reached
ASIDS = [1, 2, 3]
FRAMES = list(range(0x100, 0x108))  # page numbers of memory
CACHED = 3 << 3
FLAGS = [0, 2, 2 | 4, 2 | 4, 2 | 4 | 1, 2 | 1]
REFILL, GENERAL = 0x80000000, 0x80000180

lo = st.builds(lambda frame, flags: frame << 6 | CACHED | flags, st.sampled_from(FRAMES),
               st.sampled_from(FLAGS))  # fmt: skip
halves = st.tuples(lo, lo)
pages = st.sampled_from(PAGES)
asids = st.sampled_from(ASIDS)


class ThreeTlbs(RuleBasedStateMachine):
    """A guest's kernel that does anything with its TLB, with the oracle beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.guest = Guest(f"machine.tlb_entries={ENTRIES}", rows=4000)
        self.oracle = VirtualTlb(ENTRIES)
        words = 1024
        for frame in FRAMES:
            self.guest.m.ram[frame * words : (frame + 1) * words] = frame
        # Nothing matches at first: entries whose page numbers are in no mapped segment.
        for entry in range(ENTRIES):
            self.guest.tlb(entry, 0x80000000 + (entry << 13), 0, 0)
            self.oracle.entries[entry] = Pair(0x80000000 + (entry << 13), 4096, 0, 0, 0)

    def teardown(self) -> None:
        """Let the guest's memory go now: the collector is slow to find machines in a cycle."""
        del self.guest

    def do(self, text: str, instructions: int, **registers: int) -> None:
        """Run some instructions of the guest's kernel."""
        self.guest.empty()
        self.guest.program(text + "\n nop")
        self.guest.set(status=0, cause=0, **registers)
        self.guest.run(instructions)

    def write(self, how: str, hi: int, halves: tuple[int, int], mask: int, index: int = 0) -> None:
        self.do(
            "mtc0 $t2, entryhi\n mtc0 $t3, entrylo0\n mtc0 $t4, entrylo1\n mtc0 $t5, pagemask\n"
            f"mtc0 $t6, index\n {how}",
            6, t2=hi, t3=halves[0], t4=halves[1], t5=mask, t6=index,
        )  # fmt: skip

    def pair(self, hi: int, halves: tuple[int, int], mask: int = 0) -> Pair:
        start = hi & 0xFFFFE000 & ~mask
        # One global bit for both: the architecture's rule for an entry.
        lo0, lo1 = halves
        if not lo0 & lo1 & 1:
            lo0, lo1 = lo0 & ~1, lo1 & ~1
        return Pair(start, (mask + 0x2000) // 2, hi & 255, lo0, lo1)

    @rule(page=pages, asid=asids, halves=halves)
    def write_random(self, page: int, asid: int, halves: tuple[int, int]) -> None:
        before = self.guest.m.tlb[0].copy()
        self.write("tlbwr", page | asid, halves, 0)
        changed = {
            int(at) // layout.TLB_WORDS for at in (before != self.guest.m.tlb[0]).nonzero()[0]
        }
        assert len(changed) <= 1
        pair = self.pair(page | asid, halves)
        if changed:
            self.oracle.write(changed.pop(), pair, indexed=False)
        else:
            # It took the place of an equal one, whichever that was.
            equal = [n for n, old in self.oracle.entries.items() if old == pair]
            assert equal
            self.oracle.write(equal[0], pair, indexed=False)

    @rule(page=pages | st.sampled_from(UNMAPPED), asid=asids, halves=halves,
          index=st.integers(0, ENTRIES - 1))  # fmt: skip
    def write_indexed(self, page: int, asid: int, halves: tuple[int, int], index: int) -> None:
        self.write("tlbwi", page | asid, halves, 0, index)
        self.oracle.write(index, self.pair(page | asid, halves), indexed=True)

    @rule(asid=asids, halves=halves, index=st.integers(0, ENTRIES - 1))
    def write_large(self, asid: int, halves: tuple[int, int], index: int) -> None:
        """A pair of 16 KiB pages over all of the small ones at 4 MiB."""
        self.write("tlbwi", 0x00400000 | asid, halves, 0x6000, index)
        pair = self.pair(0x00400000 | asid, halves, 0x6000)
        self.oracle.write(index, pair, indexed=True)

    @rule(page=pages, asid=asids)
    def invalidate_as_kernels_do(self, page: int, asid: int) -> None:
        """Probe; where it hits, write an entry that matches nothing in its place."""
        index = self.probe(page, asid)
        if index is not None:
            self.write("tlbwi", 0x80000000 + (index << 13), (0, 0), 0, index)
            pair = self.pair(0x80000000 + (index << 13), (0, 0))
            self.oracle.write(index, pair, indexed=True)

    @rule(page=pages, asid=asids, halves=halves)
    def update_in_place(self, page: int, asid: int, halves: tuple[int, int]) -> None:
        """Probe and rewrite the same entry, as the handlers for invalid and clean pages do."""
        index = self.probe(page, asid)
        if index is not None and self.oracle.entries[index].size == 4096:
            self.write("tlbwi", page | asid, halves, 0, index)
            self.oracle.write(index, self.pair(page | asid, halves), indexed=True)

    @rule(page=pages, asid=asids)
    def probe_only(self, page: int, asid: int) -> None:
        self.probe(page, asid)

    def probe(self, page: int, asid: int) -> int | None:
        """Run TLBP; return the entry."""
        self.do("mtc0 $t2, entryhi\n tlbp", 2, t2=page | asid)
        expected = self.oracle.probe(page, asid)
        index = self.guest.get("index")
        assert (None if index >> 31 else index & 63) == expected
        return expected

    @rule(index=st.integers(0, ENTRIES - 1))
    def read(self, index: int) -> None:
        self.do("mtc0 $t6, index\n tlbr", 2, t6=index)
        self.oracle.read()
        pair = self.oracle.entries[index]
        assert self.guest.get("entryhi") == pair.start | pair.asid
        assert (self.guest.get("entrylo0"), self.guest.get("entrylo1")) == (pair.lo0, pair.lo1)

    @rule(page=pages, asid=asids, odd=st.booleans(), store=st.booleans())
    def access(self, page: int, asid: int, odd: bool, store: bool) -> None:
        address = page + 4096 * odd
        self.do(
            f"mtc0 $t2, entryhi\n {'sw $zero, 8($t0)' if store else 'lw $t1, 0($t0)'}",
            2, t2=asid, t0=address, t1=0,
        )  # fmt: skip
        kind, value = self.oracle.access(address, asid, store=store)
        pc = self.guest.get("pc")
        if kind == "memory":
            assert pc >= 0x80001000
            if not store:
                assert self.guest.get("t1") == value >> 12
        else:
            # The first instruction of the vector has retired in place of the access.
            assert pc - 4 == (REFILL if kind == "refill" else GENERAL)
            assert self.guest.get("cause") >> 2 & 31 == value

    @invariant()
    def hardware_holds_only_what_the_others_do(self) -> None:
        for hi, _, lo0, lo1 in self.guest.hardware().tolist():
            if 0x80000000 <= hi < 0xC0000000:
                continue  # a segment that is not mapped for the guest
            for half, address in ((lo0, hi & 0xFFFFE000), (lo1, (hi & 0xFFFFE000) + 4096)):
                for store in (False, True):
                    if half & 2 and (half & 4 or not store):
                        expected = ("memory", half >> 6 << 12)
                        assert self.oracle.access(address, hi & 255, store=store) == expected


def test_the_three_tlbs_are_the_oracles() -> None:
    quiet = settings(
        max_examples=40, stateful_step_count=40, deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    run_state_machine_as_test(ThreeTlbs, settings=quiet)


def test_a_global_pair_that_is_forgotten_leaves_every_address_space() -> None:
    """One beside which another entry stands enters hardware for one address space alone.

    It is displaced from the guest's own TLB, then forgotten for another address space's sake.
    """
    for last in ("write", "probe"):
        state = ThreeTlbs()
        invalid = (16408, 16408)
        steps = [(4194304, 1, invalid)] * 10 + [(4202496, 1, invalid), (4202496, 2, (16415, 16415))]
        for page, asid, halves in [*steps, *[(4194304, 1, invalid)] * 3]:
            state.write_random(asid=asid, halves=halves, page=page)
            state.hardware_holds_only_what_the_others_do()
        if last == "write":
            state.write_random(asid=1, halves=invalid, page=4202496)
        else:
            state.probe(4202496, 1)
        state.hardware_holds_only_what_the_others_do()


@pytest.mark.slow
def test_the_three_tlbs_are_the_oracles_for_long() -> None:
    run_state_machine_as_test(
        ThreeTlbs, settings=settings(max_examples=300, stateful_step_count=60, deadline=None)
    )


# A kernel with a page table of pairs at TABLE, indexed by address; s0 counts faults that it saw.
TABLE = 0x80300000
REFILL_CODE = """
    mfc0  $k0, badvaddr
    srl   $k0, $k0, 13
    andi  $k0, $k0, 15
    sll   $k0, $k0, 3
    lui   $k1, 0x8030
    addu  $k1, $k1, $k0
    lw    $k0, 0($k1)
    mtc0  $k0, entrylo0
    lw    $k0, 4($k1)
    mtc0  $k0, entrylo1
    tlbwr
    eret
"""
# Invalid or read-only: note it and go on behind the access.
GENERAL_CODE = """
    addiu $s0, $s0, 1
    mfc0  $k0, epc
    addiu $k0, $k0, 4
    mtc0  $k0, epc
    eret
"""
# How kernels take a page back, once its table entry is changed.
FLUSH_PAGE = """
    mtc0  $t2, entryhi
    tlbp
    mfc0  $t3, index
    bltz  $t3, gone
    lui   $t4, 0x8000
    sll   $t5, $t3, 13
    addu  $t4, $t4, $t5
    mtc0  $t4, entryhi
    mtc0  $zero, entrylo0
    mtc0  $zero, entrylo1
    tlbwi
gone:
    mtc0  $s7, entryhi
"""
UPDATE_PAGE = """
    mtc0  $t2, entryhi
    tlbp
    mfc0  $t3, index
    bltz  $t3, gone
    nop
    mtc0  $t6, entrylo0
    mtc0  $t7, entrylo1
    tlbwi
gone:
    mtc0  $s7, entryhi
"""
FLUSH_ALL = """
    addiu $t3, $zero, 7
    mtc0  $zero, entrylo0
    mtc0  $zero, entrylo1
next:
    lui   $t4, 0x8000
    sll   $t5, $t3, 13
    addu  $t4, $t4, $t5
    mtc0  $t4, entryhi
    mtc0  $t3, index
    tlbwi
    addiu $t3, $t3, -1
    bgez  $t3, next
    nop
    mtc0  $s7, entryhi
"""
ASID = 5


def kernel_of(board: Board) -> Board:
    """Give a machine the handlers, and memory whose pages hold their numbers."""
    board.words(REFILL, assemble(REFILL_CODE, REFILL))
    board.words(GENERAL, assemble(GENERAL_CODE, GENERAL))
    for entry in range(ENTRIES):
        board.tlb(entry, 0x80000000 + (entry << 13), 0, 0)
    for frame in FRAMES:
        board.words(frame << 12, [frame] * 1024)
    board.words(TABLE, [0] * 32)
    board.set(s0=0)
    return board


def run(board: Board, text: str, **registers: int) -> None:
    """Run a piece of the kernel to its end, with whatever handlers come in between."""
    board.empty()
    board.program(text + "\nend: beq $zero, $zero, end\n nop")
    end = 0x80001000 + 4 * (len(assemble(text + "\n nop", 0x80001000)) - 1)
    board.set(status=0, cause=0, s7=ASID, **registers)
    assert board.run(2000, stop=end) == layout.EXIT_STOP


@pytest.mark.parametrize("seed", range(12))
def test_what_a_kernel_took_back_is_gone(seed: int) -> None:
    """Random changes of a page table, each followed by one of the idioms; accesses in between."""
    rng = random.Random(seed)
    sets = f"machine.tlb_entries={ENTRIES}"
    boards = [kernel_of(Board(sets)), kernel_of(Guest(sets))]
    table = [[0, 0] for _ in range(16)]
    pages = [0x00400000 + (n << 13) for n in range(16)]
    for step in range(300):
        n = rng.randrange(16)
        if rng.random() < 0.1:
            flags = rng.choice((0, 2, 6, 6))
            table[n] = [rng.choice(FRAMES) << 6 | CACHED | flags for _ in range(2)]
            idiom = rng.choice((FLUSH_PAGE, FLUSH_PAGE, UPDATE_PAGE, FLUSH_ALL))
            for board in boards:
                board.words(TABLE + 8 * n, table[n])
                run(board, idiom, t2=pages[n] | ASID, t6=table[n][0], t7=table[n][1])
            continue
        odd, store = rng.randrange(2), rng.random() < 0.4
        for board in boards:
            text = "sw $t1, 8($t0)" if store else "lw $t1, 0($t0)"
            run(board, f"mtc0 $s7, entryhi\n {text}", t0=pages[n] + 4096 * odd, t1=step)
        bare, guest = boards
        for name in ("t1", "s0"):
            assert bare.get(name) == guest.get(name), f"seed {seed} step {step}: {name}"
        for frame in FRAMES:
            assert bare.word((frame << 12) + 8) == guest.word((frame << 12) + 8)
    # The software TLB did spare the guest refills, of a dozen instructions each.
    spared = int(boards[0].m.g[layout.G_INSTRUCTIONS] - boards[1].m.g[layout.G_INSTRUCTIONS])
    assert spared > 12 * 3
