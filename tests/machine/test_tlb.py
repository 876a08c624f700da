"""The TLB: page sizes, global, ASID, wired and random, probe, read, dirty and valid bits.

Expected values: MIPS32 Architecture for Programmers, volume III, revision 2.62, chapters 4 and 9.
"""

from __future__ import annotations

import pytest

from disco_trace.machine import layout
from disco_trace.trace.schema import METRICS, N_METRICS
from tests.machine.assemble import assemble
from tests.machine.board import Board

TLBL, TLBS, MOD = 2, 3, 1
VALID, DIRTY, GLOBAL, CACHED, UNCACHED = 2, 4, 1, 3 << 3, 2 << 3
REFILL, GENERAL = 0x80000000, 0x80000180


def lo(physical: int, flags: int = VALID | DIRTY | CACHED) -> int:
    return physical >> 12 << 6 | flags


def outcome(board: Board, text: str, **registers: int) -> tuple[int, int]:
    """Run one instruction and a nop in KSEG0; return (exception code or 0, vector or 0)."""
    board.program(text + "\n nop")
    board.set(status=0, cause=0, **registers)
    board.run(1)
    pc = board.get("pc")
    if pc >= 0x80001000:
        return 0, 0
    # The first instruction of the vector has retired instead.
    return board.get("cause") >> 2 & 31, pc - 4


def load(board: Board, address: int) -> tuple[int, int]:
    return outcome(board, "lw $t1, 0($t0)", t0=address)


def store(board: Board, address: int) -> tuple[int, int]:
    return outcome(board, "sw $t1, 0($t0)", t0=address)


OK = (0, 0)
SIZES = [1 << bits for bits in range(12, 30, 2)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("odd", [False, True])
def test_page_sizes(size, odd):
    """One page of a pair is valid, the other is not; both end where their size says."""
    board = Board()
    base = 0x40000000
    mask = (2 * size - 1) & ~0x1FFF & 0xFFFFFFFF
    # Bits of the frame number below the page size are no part of the translation.
    frame = lo(0x3000 & (size - 1) & ~0xFFF)
    board.set(entryhi=base | 5, pagemask=mask, index=3, entrylo0=0 if odd else frame,
              entrylo1=frame if odd else 0)  # fmt: skip
    board.program("tlbwi")
    board.step(1)
    start = base + (size if odd else 0)
    end = start + size
    assert load(board, start) == OK
    board.words(0x2000, [0x600D])
    if size > 0x2000:
        assert load(board, start + 0x2000) == OK
        assert board.get("t1") == 0x600D
    good, bad = [start], [start + size] if not odd else [base]
    if size <= 1 << 24:  # as far as there is RAM
        good.append(end - 4)
    bad.append(end if not odd else base + size - 4)
    for address in good:
        assert load(board, address) == OK
        assert store(board, address) == OK
    for address in bad:
        assert load(board, address) == (TLBL, GENERAL)  # the other page of the pair: invalid
        assert store(board, address) == (TLBS, GENERAL)
    for address in (base - 4, base + 2 * size):
        assert load(board, address) == (TLBL, REFILL)


@pytest.mark.parametrize("size", SIZES[:6])
def test_translation_of_each_bit(size):
    board = Board()
    mask = (2 * size - 1) & ~0x1FFF
    board.tlb(7, 0x20000000, lo(0x400000), lo(0x800000), mask)
    for bit in range(2, size.bit_length()):
        offset = (1 << bit) % (2 * size)
        physical = 0x800000 + offset - size if offset >= size else 0x400000 + offset
        board.words(physical, [bit + 100])
        assert load(board, 0x20000000 + offset) == OK
        assert board.get("t1") == bit + 100


@pytest.mark.parametrize(("g0", "g1"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("asid", [0x5A, 0x5B, 0, 0xFF])
def test_asid_and_global(g0, g1, asid):
    """An entry is global if both its G bits are set."""
    board = Board()
    board.program("tlbwi")
    board.set(entryhi=0x00800000 | 0x5A, index=0, entrylo0=lo(0x2000) | g0,
              entrylo1=lo(0x3000) | g1)  # fmt: skip
    board.step(1)
    board.set(entryhi=asid)
    expected = OK if asid == 0x5A or (g0 and g1) else (TLBL, REFILL)
    assert load(board, 0x00800000) == expected
    board.set(entryhi=asid)
    assert load(board, 0x00801000) == expected


@pytest.mark.parametrize("valid", [0, VALID])
@pytest.mark.parametrize("dirty", [0, DIRTY])
@pytest.mark.parametrize("page", [0, 1])
def test_valid_and_dirty(valid, dirty, page):
    board = Board()
    entries = [lo(0x2000, CACHED), lo(0x3000, CACHED)]
    entries[page] |= valid | dirty
    board.tlb(0, 0x00800000, *entries)
    address = 0x00800000 + 0x1000 * page
    assert load(board, address) == (OK if valid else (TLBL, GENERAL))
    assert store(board, address) == (
        (OK if dirty else (MOD, GENERAL)) if valid else (TLBS, GENERAL)
    )
    assert load(board, address ^ 0x1000) == (TLBL, GENERAL)


def test_setting_the_dirty_bit_lets_the_store_through():
    """What a Modified handler does: probe, read, set D, write, and start the store again."""
    board = Board()
    board.words(0x180, _assembled(
        """
        tlbp
        tlbr
        mfc0 $k0, entrylo0
        ori  $k0, $k0, 4
        mtc0 $k0, entrylo0
        tlbwi
        eret
        """
    ))  # fmt: skip
    board.tlb(9, 0x00800000 | 3, lo(0x2000, VALID | CACHED), 0)
    board.program("lw $t2, 0($t0)\n sw $t1, 0($t0)\n sw $t1, 4($t0)\n lw $t3, 4($t0)\n nop")
    board.set(entryhi=3, t0=0x00800000, t1=0x77)
    board.run(11)
    assert board.get("pc") == 0x80001010
    assert [board.word(0x2000), board.word(0x2004), board.get("t3")] == [0x77] * 3


def _assembled(text: str) -> list[int]:
    return assemble(text, 0x80000180)


def test_write_and_read_back_every_entry():
    board = Board()
    board.program("x: tlbwi\n tlbr\n mfc0 $t0, entryhi\n mfc0 $t1, entrylo0\n mfc0 $t2, entrylo1\n"
                  "mfc0 $t3, pagemask\n b x\n nop")  # fmt: skip
    for entry in range(64):
        mask = ((1 << 2 * (entry % 9)) - 1) << 13
        hi = 0xFFFFFFFF - entry * 0x20000
        board.set(index=entry, entryhi=hi & 0xFFFFE0FF, pagemask=mask, entrylo0=0x3FFFFFFE | entry,
                  entrylo1=0x2AAAAAAA | entry >> 1)  # fmt: skip
        board.step(1)
        board.set(entryhi=0, pagemask=0, entrylo0=0, entrylo1=0)
        board.step(7)
        both = entry & (entry >> 1) & 1
        assert board.get("t0") == hi & 0xFFFFE0FF & ~mask
        assert board.get("t1") == 0x3FFFFFFE | both
        assert board.get("t2") == (0x2AAAAAAA | entry >> 1) & ~1 | both
        assert board.get("t3") == mask


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("entryhi", 0xFFFFFFFF, 0xFFFFE0FF),
        ("entrylo0", 0x3FFFFFFF, 0x3FFFFFFF),
        ("pagemask", 0x1FFFE000, 0x1FFFE000),
        ("index", 0x3F, 0x3F),
        ("wired", 63, 63),
        ("context", 0xFFFFFFFF, 0xFF800000),
        ("badvaddr", 0xFFFFFFFF, 0),
        ("random", 5, None),
        ("ebase", 0x00000000, 0x80000000),
        ("ebase", 0xFFFFFFFF, 0xBFFFF000),
        ("compare", 0xFFFFFFFF, 0xFFFFFFFF),
        ("epc", 0xFFFFFFFF, 0xFFFFFFFF),
        ("errorepc", 0x12345679, 0x12345679),
        ("prid", 0, None),
        ("config1", 0, None),
        ("userlocal", 0xA5A5A5A5, 0xA5A5A5A5),
    ],
)
def test_writable_bits(text, value, expected):
    board = Board()
    board.program(f"mfc0 $t2, {text}\n mtc0 $t0, {text}\n mfc0 $t1, {text}")
    board.set(t0=value)
    board.step(3)
    if text == "random":
        assert 0 <= board.get("t1") < 64
    else:
        assert board.get("t1") == (board.get("t2") if expected is None else expected)


@pytest.mark.parametrize("wired", [0, 1, 8, 60, 62, 63])
def test_random_stays_above_wired_and_reaches_every_entry(wired):
    board = Board()
    board.program("li $t0, 1000\n x: mfc0 $t1, random\n sw $t1, 0($t2)\n addiu $t2, $t2, 4\n"
                  "bne $t0, $zero, x\n addiu $t0, $t0, -1")  # fmt: skip
    board.set(wired=wired, t2=0x80100000)
    board.run(5000)
    seen = {board.word(0x100000 + 4 * n) for n in range(999)}
    assert seen == set(range(wired, 64))


@pytest.mark.parametrize("wired", [0, 4, 11, 63])
def test_random_writes_spare_wired_entries(wired):
    board = Board()
    # Seven cycles a turn have no factor in common with the number of entries to choose from.
    board.program("x: mtc0 $t0, entryhi\n tlbwr\n addiu $t0, $t0, 0x2000\n nop\n nop\n b x\n nop")
    for entry in range(64):
        board.tlb(entry, 0xC0000000 + 0x2000 * entry, 0, 0)
    before = board.m.tlb[0].reshape(64, 4).copy()
    board.set(wired=wired, t0=0x00400000)
    board.step(7 * 400)
    after = board.m.tlb[0].reshape(64, 4)
    assert (after[:wired] == before[:wired]).all()
    assert ((after[wired:, layout.T_HI] & 0x80000000) == 0).all()


@pytest.mark.parametrize(
    ("hi", "index"),
    [
        (0x00800000 | 5, 11),
        (0x00801000 | 5, 11),  # the page within the pair does not matter
        (0x00800000 | 6, None),
        (0x00802000 | 5, None),
        (0x10000000 | 1, 22),  # global, with a page mask of 64 KB
        (0x1001E000 | 99, 22),
        (0x10020000 | 1, None),
        (0x30000000 | 5, 63),
    ],
)
def test_probe(hi, index):
    board = Board()
    board.tlb(11, 0x00800000 | 5, 0, 0)
    board.tlb(22, 0x10000000 | 1, GLOBAL, GLOBAL, 0x1E000)
    board.tlb(63, 0x30000000 | 5, 0, 0)
    board.program("tlbp\n mfc0 $t0, index")
    board.set(entryhi=hi & 0xFFFFE0FF, index=44)
    board.step(2)
    assert board.get("t0") >> 31 == (index is None)
    if index is not None:
        assert board.get("t0") == index


def test_rewritten_entries_take_effect_at_once():
    """Neither the page filter nor the hints remember what TLBWI replaced, for data or code."""
    board = Board()
    board.words(0x2000, [0xAAAA])
    board.words(0x3000, [0xBBBB])
    board.program(
        """
        lw $t1, 0($t0)
        mtc0 $t9, entrylo0
        tlbwi
        lw $t2, 0($t0)
        mtc0 $zero, entrylo0
        tlbwi
        lw $t3, 0($t0)
        """
    )
    board.tlb(0, 0x00800000, lo(0x2000), lo(0x2000))
    board.set(entryhi=0x00800000, t0=0x00800000, t9=lo(0x3000))
    board.run(100, stop=GENERAL)
    assert [board.get("t1"), board.get("t2"), board.get("t3")] == [0xAAAA, 0xBBBB, 0]
    assert board.get("cause") >> 2 & 31 == TLBL
    assert board.get("epc") == 0x80001018


def test_change_of_address_space_takes_effect_at_once():
    board = Board()
    board.words(0x2000, [0xAAAA])
    board.words(0x3000, [0xBBBB])
    board.tlb(0, 0x00800000 | 1, lo(0x2000), 0)
    board.tlb(1, 0x00800000 | 2, lo(0x3000), 0)
    board.program(
        "\n".join(f"mtc0 $s{n % 3}, entryhi\n lw $t{n}, 0($a0)" for n in (0, 1, 3, 4, 6)) + "\n"
        "mtc0 $s2, entryhi\n lw $t7, 0($a0)"
    )
    board.set(a0=0x00800000, s0=1, s1=2, s2=3)
    board.run(100, stop=REFILL)
    values = [board.get(f"t{n}") for n in (0, 1, 3, 4, 6, 7)]
    assert values == [0xAAAA, 0xBBBB, 0xAAAA, 0xBBBB, 0xAAAA, 0]
    assert board.get("entryhi") == 0x00800000 | 3


def test_code_runs_from_a_page_that_is_mapped_anew():
    board = Board()
    for physical, value in ((0x2000, 1), (0x3000, 2)):
        board.words(physical, _assembled(f"jr $ra\n ori $v0, $zero, {value}"))
    board.program(
        """
        jalr $ra, $t0
        nop
        move $s0, $v0
        mtc0 $t9, entrylo0
        tlbwi
        jalr $ra, $t0
        nop
        move $s1, $v0
        """
    )
    board.tlb(0, 0x00800000, lo(0x2000), 0)
    board.set(entryhi=0x00800000, t0=0x00800000, t9=lo(0x3000))
    board.step(12)
    assert (board.get("s0"), board.get("s1")) == (1, 2)


@pytest.mark.parametrize("attribute", range(8))
def test_data_is_the_same_through_every_cache_attribute(attribute):
    board = Board()
    board.tlb(0, 0x00800000, 2 << 6 | attribute << 3 | VALID | DIRTY, lo(0x2000))
    board.program("sw $t1, 0($t0)\n lw $t2, 0x1000($t0)\n sw $t3, 0x1000($t0)\n lw $t4, 0($t0)")
    board.set(t0=0x00800000, t1=0x111, t3=0x333)
    board.step(4)
    assert board.get("t2") == 0x111
    assert board.get("t4") == board.word(0x2000) == 0x333


def test_beyond_the_entries_of_a_small_tlb():
    """Index beyond the TLB writes nothing; Wired cannot pass the last entry."""
    board = Board("machine.tlb_entries=16")
    before = board.m.tlb.copy()
    board.program("tlbwi\n tlbr\n mtc0 $t0, wired\n tlbwr\n mfc0 $t1, random")
    board.set(index=40, entryhi=0x00800000, t0=63)
    board.step(3)
    assert (board.m.tlb == before).all()
    board.step(2)
    assert board.get("t1") == 15
    assert (board.m.tlb[0, :60] == before[0, :60]).all()


@pytest.mark.parametrize("order", [(3, 40), (40, 3)])
@pytest.mark.parametrize("mask", [0, 0x6000])
def test_of_several_matching_entries_the_lowest_translates(order, mask):
    """Detection of duplicates is optional (volume III, TLBWI): none here, and one rule instead."""
    board = Board()
    board.words(0x3000, [0x3333])
    board.words(0x40000, [0x4444])
    frames = {3: lo(0x3000) if mask == 0 else lo(0), 40: lo(0x40000)}
    board.program("tlbwi\n lw $t1, 0($t0)\n tlbp\n mfc0 $t2, index")
    for entry in order:
        board.jump(0x80001000)
        board.set(
            index=entry,
            entryhi=0x00800000 | 9,
            entrylo0=frames[entry],
            entrylo1=0,
            pagemask=mask if entry == 3 else 0,
            t0=0x00800000 + (0x3000 if mask else 0),
        )
        board.step(4)
    if mask == 0:
        assert board.get("t1") == 0x3333
        assert board.get("t2") == 3
    else:
        # Entry 40 covers the first 4 KB of what entry 3 covers, entry 3 all of it.
        assert board.get("t1") == 0x3333
        assert board.get("t2") == 3


def test_the_lowest_entry_wins_whatever_was_looked_up_before():
    """A large page that was used at another of its addresses, by the same slot of the hints."""
    board = Board()
    board.words(0x3000, [0x3333])
    board.tlb(3, 0x00800000, lo(0x3000), 0)
    board.tlb(40, 0, lo(0) | GLOBAL, lo(0) | GLOBAL, 0x1FFFE000)
    board.program("lw $t1, 0($s0)\n lw $t2, 0($s1)")
    board.set(s0=0x00000000, s1=0x00800000)
    board.step(2)
    assert board.get("t2") == 0x3333


def test_the_lowest_entry_wins_after_a_change_of_address_space():
    board = Board()
    board.words(0x2000, [0xAAAA])
    board.words(0x3000, [0xBBBB])
    board.tlb(5, 0x00800000 | 1, lo(0x2000), 0)
    board.tlb(9, 0x00800000, lo(0x3000) | GLOBAL, GLOBAL)
    board.program("lw $t1, 0($t0)\n mtc0 $t9, entryhi\n lw $t2, 0($t0)\n tlbp\n mfc0 $t3, index")
    board.set(t0=0x00800000, entryhi=2, t9=0x00800000 | 1)
    board.step(5)
    assert [board.get(f"t{n}") for n in (1, 2, 3)] == [0xBBBB, 0xAAAA, 5]


@pytest.mark.parametrize("attribute", range(8))
def test_cached_attributes_are_the_same_in_pages_and_in_kseg0(attribute):
    """2 is uncached, 7 uncached accelerated; all others are cached (volume III, table 9-2)."""
    counted = []
    for mapped in (False, True):
        board = Board()
        board.program("lw $t1, 0($t0)\n lw $t2, 4($t0)\n nop", 0xA0001000)
        board.tlb(0, 0x00802000, 2 << 6 | attribute << 3 | VALID, 0)
        board.set(t0=0x00802000 if mapped else 0x80002000)
        if not mapped:
            board.set(config=board.get("config") & ~7 | attribute)
        board.step(3)
        accounts = board.memory.accounts.reshape(-1, N_METRICS).sum(axis=0)
        counted.append([int(accounts[METRICS.index(name)]) for name in ("l1d_misses", "uncached")])
    fetches = 3  # the program itself is uncached
    assert counted[0] == counted[1]
    assert counted[0] == ([0, fetches + 2] if attribute in (2, 7) else [1, fetches])
