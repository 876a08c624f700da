"""CACHE and SYNCI: what each operation leaves in the first level, and which exceptions it takes.

Source: MIPS32 Architecture for Programmers, volume II, revision 2.62, CACHE; the form of TagLo is
left to the implementation and is the 24K's here.
"""

from __future__ import annotations

import pytest

from disco_trace.machine import layout
from disco_trace.trace.schema import METRICS, N_METRICS
from tests.machine.assemble import assemble
from tests.machine.board import CODE, Board

ICACHE, DCACHE = 0, 1
INDEX_INVALIDATE, LOAD_TAG, STORE_TAG, OTHER, HIT_INVALIDATE, FIVE, HIT_WRITEBACK, LOCK = range(8)
HIT_WRITEBACK_INVALIDATE = FILL = FIVE
DATA, TEXT = 0x80002000, 0x80003000  # both in way 0 by their address bits
WAY = 16 * 1024
VALID, DIRTY = 0x80, 0x40


def counted(board: Board, metric: str) -> int:
    return int(board.memory.accounts.reshape(-1, N_METRICS)[:, METRICS.index(metric)].sum())


def present(board: Board, which: int, address: int) -> str:
    """Return what Index Load Tag finds in both ways about a line: absent, clean or dirty."""
    register = "dtaglo" if which == DCACHE else "taglo"
    for way in (0, 1):
        text = f"cache {LOAD_TAG << 2 | which:#x}, 0($t0)\n mfc0 $t1, {register}\n nop"
        board.program(text, 0xA0001800)
        board.set(t0=address + way * WAY)
        board.step(2)
        tag = board.get("t1")
        if tag & VALID and tag & 0xFFFFF000 == address & 0x1FFFF000:
            assert tag & 0xFFF & ~(VALID | DIRTY) == 0
            return "dirty" if tag & DIRTY else "clean"
        assert tag & (VALID | DIRTY) != DIRTY
    return "absent"


def touched(which: int, dirty: bool) -> Board:
    """Return a board whose first level holds DATA (or TEXT, as code)."""
    board = Board()
    if which == DCACHE:
        board.program("lw $t1, 0($t0)\n sw $t1, 4($t0)" if dirty else "lw $t1, 0($t0)\n nop")
        board.set(t0=DATA)
        board.step(2)
    else:
        board.words(TEXT, assemble("jr $ra\n nop"))
        board.program("jalr $ra, $t0\n nop\n nop")
        board.set(t0=TEXT)
        board.step(4)
    return board


CLEANED = "clean"
CASES = [
    # operation, cache, what an address in the line, one in the other way and one elsewhere leave
    (INDEX_INVALIDATE, ICACHE, "absent", "clean"),
    (INDEX_INVALIDATE, DCACHE, "absent", "dirty"),
    (LOAD_TAG, ICACHE, "clean", "clean"),
    (LOAD_TAG, DCACHE, "dirty", "dirty"),
    (STORE_TAG, ICACHE, "absent", "clean"),
    (STORE_TAG, DCACHE, "absent", "dirty"),
    (OTHER, ICACHE, "clean", "clean"),
    (OTHER, DCACHE, "dirty", "dirty"),
    (HIT_INVALIDATE, ICACHE, "absent", "clean"),
    (HIT_INVALIDATE, DCACHE, "absent", "dirty"),
    (FILL, ICACHE, "clean", "clean"),
    (HIT_WRITEBACK_INVALIDATE, DCACHE, "absent", "dirty"),
    (HIT_WRITEBACK, ICACHE, "clean", "clean"),
    (HIT_WRITEBACK, DCACHE, "clean", "dirty"),
    (LOCK, ICACHE, "clean", "clean"),
    (LOCK, DCACHE, "dirty", "dirty"),
]


@pytest.mark.parametrize(("operation", "which", "same", "other"), CASES)
def test_what_an_operation_leaves(operation, which, same, other):
    """The line itself by any byte of it; a line of the other way, or of another page, stays."""
    line = DATA if which == DCACHE else TEXT
    word = operation << 2 | which
    for address, expected in (
        (line, same), (line + 3, same), (line + 31, same), (line + WAY, other),
        (line + 0x100, other),
    ):  # fmt: skip
        board = touched(which, dirty=True)
        assert present(board, which, line) == ("dirty" if which == DCACHE else "clean")
        board.set(taglo=0, dtaglo=0)
        board.program(f"cache {word:#x}, 0($t0)\n nop", 0xA0001400)
        board.set(t0=address)
        board.step(1)
        assert board.get("pc") == 0xA0001404
        assert present(board, which, line) == expected, hex(address)


@pytest.mark.parametrize("which", [ICACHE, DCACHE])
def test_a_stored_tag_that_is_valid_keeps_the_line(which):
    board = touched(which, dirty=False)
    board.program(f"cache {STORE_TAG << 2 | which:#x}, 0($t0)\n nop", 0xA0001400)
    line = DATA if which == DCACHE else TEXT
    board.set(t0=line, taglo=VALID, dtaglo=VALID)
    board.step(1)
    assert present(board, which, line) == "clean"


@pytest.mark.parametrize("operation", range(8))
@pytest.mark.parametrize("which", [2, 3])
def test_caches_beyond_the_first_level_are_out_of_reach(operation, which):
    board = touched(DCACHE, dirty=True)
    board.program(f"cache {operation << 2 | which:#x}, 0($t0)\n nop", 0xA0001400)
    board.set(t0=DATA)
    board.step(1)
    assert present(board, DCACHE, DATA) == "dirty"
    assert board.get("cause") == 0


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(("word", "which"), [(0x14, ICACHE), (0x1C, ICACHE), (0x1D, DCACHE)])
def test_fill_and_lock_bring_the_line_in(word, which, mapped):
    board = Board()
    board.words(TEXT, assemble("jr $ra\n nop"))
    board.program(f"cache {word:#x}, 5($t0)\n nop", 0xA0001400)
    board.tlb(7, 0x00402000, 0, 3 << 6 | 0x1E)
    board.set(t0=0x00403000 if mapped else TEXT)
    board.step(1)
    if not mapped:
        assert present(board, which, TEXT) == "clean"
    assert counted(board, "cache_ops") == (0 if mapped else 1)  # the tag that `present` read
    before = counted(board, "l1d_misses"), counted(board, "l1i_misses")
    assert before == ((1, 0) if which == DCACHE else (0, 1))
    text = "jalr $ra, $t0\n nop\n nop" if which == ICACHE else "lw $t1, 0($t0)\n nop\n nop"
    board.program(text, 0xA0001400)
    board.set(t0=0x00403000 if mapped else TEXT)
    board.step(3)
    assert (counted(board, "l1d_misses"), counted(board, "l1i_misses")) == before


def test_a_filled_line_may_be_the_one_that_runs():
    """A fill that drops the line of the instruction itself does no harm."""
    board = Board("machine.l1i.ways=1", "machine.l1i.size_bytes=1KiB")
    board.program("addiu $t1, $t1, 1\n cache 0x14, 0($t0)\n addiu $t1, $t1, 1\n addiu $t1, $t1, 1")
    board.set(t0=CODE + 0x400)
    board.step(4)
    assert board.get("t1") == 3
    assert counted(board, "l1i_misses") == 3


@pytest.mark.parametrize("word", [0x14, 0x1C, 0x1D, 0x10, 0x11, 0x15, 0x19])
@pytest.mark.parametrize("slot", [False, True])
@pytest.mark.parametrize(
    ("address", "code", "vector"),
    [(0x00900001, 2, 0), (0x00802003, 2, 0x180), (0xE0000000, 2, 0)],
)
def test_operations_by_address_miss_the_tlb(word, slot, address, code, vector):
    board = Board()
    board.tlb(3, 0x00802000, 0, 0)
    board.program(f"{'b y' if slot else 'nop'}\n cache {word:#x}, 0($t0)\n nop\n y: nop")
    board.set(t0=address)
    board.run(10, stop=0x80000000 + vector)
    assert board.get("pc") == 0x80000000 + vector
    assert board.get("cause") == (1 << 31 if slot else 0) | code << 2
    assert board.get("epc") == CODE + (0 if slot else 4)
    assert board.get("badvaddr") == address


@pytest.mark.parametrize("operation", [INDEX_INVALIDATE, LOAD_TAG, STORE_TAG, OTHER])
@pytest.mark.parametrize("address", [0x00900001, 0x7FFFFFFF, 0xE0000000, 0xBE000000])
def test_operations_by_index_need_no_translation(operation, address):
    board = Board()
    board.program(f"cache {operation << 2:#x}, 0($t0)\n cache {operation << 2 | 1:#x}, 0($t0)")
    board.set(t0=address)
    board.step(2)
    assert board.get("cause") == 0


@pytest.mark.parametrize("word", range(0x10, 0x20))
@pytest.mark.parametrize("address", [0xBE000000, 0x9E000000, 0xBF000000, 0x81000000])
def test_addresses_without_memory(word, address):
    """No cache holds such a line; what would fetch one has a bus error, but not from a device."""
    board = Board()
    board.program(f"cache {word:#x}, 0($t0)\n nop")
    board.set(t0=address)
    board.run(1)
    fetches = word in (0x14, 0x1C, 0x1D) and address != 0xBF000000
    assert board.get("cause") == (7 << 2 if fetches else 0)
    assert board.get("pc") == (0x80000184 if fetches else CODE + 4)
    assert counted(board, "l1d_misses") == 0


def test_synci_drops_the_instruction_line_and_keeps_the_data():
    board = touched(ICACHE, dirty=False)
    board.program("sw $t1, 0($t0)\n synci 9($t0)\n nop", 0xA0001400)
    board.set(t0=TEXT)
    board.step(2)
    assert present(board, ICACHE, TEXT) == "absent"
    assert present(board, DCACHE, TEXT) == "dirty"


@pytest.mark.parametrize("user", [False, True])
def test_synci_and_pref_need_no_privilege(user):
    board = Board()
    board.tlb(0, 0x00400000, 0x1E, 1 << 6 | 0x1E)
    lines = ["synci 0($t0)", *(f"pref {hint}, 1($t1)" for hint in range(32)), "sync", "nop"]
    board.program("\n".join(lines))
    if user:
        board.jump(0x00401000)
    # PREF takes no exception, whatever its address.
    board.set(status=0x10 if user else 0, t0=0x00400000, t1=0xE0000001)
    board.step(len(lines))
    assert board.get("cause") == 0


def test_the_reservation_survives_cache_operations():
    board = Board()
    board.program("ll $t1, 0($t0)\n cache 0x15, 0($t0)\n cache 0x1, 0($t0)\n sc $t2, 0($t0)")
    board.set(t0=DATA, t2=9)
    board.step(4)
    assert board.get("t2") == 1
    assert board.word(DATA) == 9


def test_lladdr_holds_the_address_of_the_last_load_linked():
    board = Board()
    board.program("ll $t1, 0($t0)\n mfc0 $t2, lladdr\n mtc0 $t0, lladdr\n mfc0 $t3, lladdr")
    board.set(t0=DATA + 0x54)
    board.step(4)
    assert board.get("t2") == board.get("t3") == 0x2054 >> 4
    assert board.m.s[0, layout.S_LL] == 1
