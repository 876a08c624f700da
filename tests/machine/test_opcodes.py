"""Every place of the manual's opcode tables: it runs, is reserved, or needs a coprocessor.

A reserved encoding of a coprocessor that is unusable is Coprocessor Unusable first. The manual
leaves that order open.
"""

from __future__ import annotations

import random

import pytest

from disco_trace.machine import kernel, layout
from tests.machine.board import Board
from tests.machine.opcodes import RESERVED, RUNS, Encoding, encodings

capstone = pytest.importorskip("capstone")

RI, CPU = 10, 11
CU0, CU1, FR, EXL, UM = 1 << 28, 1 << 29, 1 << 26, 2, 0x10
NOTHING = 31  # no exception has this code
CODE, MAPPED = 0x80001000, 0x00401000
RDHWR = 0x7C00003B  # register 0
BRANCH = 0x10000003  # beq $0, $0

ENCODINGS = encodings()


@pytest.fixture(scope="module")
def board() -> Board:
    return Board()


def outcome(board: Board, word: int, status: int, slot: bool) -> tuple[int, int, int, int]:
    """Run a word (and a branch before it); return its exception code, CE, BD and EPC."""
    board.words(0x1000, [BRANCH if slot else 0, word, 0])
    board.words(0x180, [0] * 2)
    for register in range(1, 32):
        board.m.gpr[0, register] = 0x80080000
    # WAIT goes on at once: an interrupt is pending that IE holds back.
    board.set(status=status | 0x100, cause=NOTHING << 2 | 0x100, ebase=0x80000000, wired=0, epc=0)
    board.tlb(0, 0x00400000, 1, 1 << 6 | 0x1F)
    board.m.filter[:] = 0
    board.m.hint[:] = 0
    board.jump(MAPPED if status & UM else CODE)
    kernel.start(board.m, board.memory)  # the mode has changed behind the machine's back
    board.empty()
    board.started = True
    board.run(2)
    cause = board.get("cause")
    return cause >> 2 & 31, cause >> 28 & 3, cause >> 31, board.get("epc")


def wanted(entry: Encoding, status: int) -> tuple[int, int] | None:
    """Return the code and CE that the manual asks for, None if it asks for neither of the two."""
    usable = {0: status & CU0 or not status & UM, 1: status & CU1, 2: 0}
    if entry.unit is not None and not usable[entry.unit]:
        return CPU, entry.unit
    return (RI, 0) if entry.state == RESERVED else None


@pytest.mark.parametrize("slot", [False, True])
@pytest.mark.parametrize("status", [0, CU1 | FR, UM, UM | CU1 | FR, UM | CU0])
def test_every_place_of_every_table(board, status, slot):
    at = MAPPED if status & UM else CODE
    words = 0
    for entry in ENCODINGS:
        expected = wanted(entry, status)
        for word in entry.words(1, 8):
            words += 1
            code, unit, bd, epc = outcome(board, word, status, slot)
            if expected is None:
                # Of RDHWR, HWREna reserves the registers outside the kernel.
                hidden = word == RDHWR and status & UM and not status & CU0
                assert (code == RI) if hidden else (code not in (RI, CPU)), (
                    f"{entry.where}: {word:08x}")  # fmt: skip
                continue
            assert (code, unit) == expected, f"{entry.where}: {word:08x}"
            assert (bd, epc) == (slot, at if slot else at + 4), f"{entry.where}: {word:08x}"
    assert words > 4000


def test_no_table_has_a_hole():
    """Any word stands in one place of the tables at least, in two at most by a typing error."""
    rng = random.Random(5)
    for _ in range(20_000):
        word = rng.getrandbits(32)
        places = [e.where for e in ENCODINGS if word & e.mask == e.match]
        if word >> 21 == 0x41600000 >> 21:
            assert places in ([], ["mfmc0"])  # only rd = 12 is defined
        else:
            assert len(places) == 1, (hex(word), places)


# What capstone's 32-bit release 2 reads otherwise than the tables.
MODULES = {  # instructions of modules and later releases that this machine has not
    "opcode 0x1d", "opcode 0x1e", "special 0x05", "special 0x15", "regimm 0x1c", "special3 0x0a",
    "special3 0x0c", "special3 0x10", "special3 0x11", "special3 0x13", "special3 0x18",
    "special3 0x30", "special3 0x31", "special3 0x38", "cop0 0x08", "cop1 0x0b", "cop1 0x0f",
    *(f"cop1 {number:#x}" for number in range(0x18, 0x20)),
}  # fmt: skip
DEBUG_AND_64_BITS = {"special2 0x3f", "co 0x1f", "cop1 0x01", "cop1 0x05"}
# RDHWR of register 0 (of 29 it knows), moves of register sets, formats L of 32-bit processors.
UNKNOWN = {
    "special3 0x3b", "cop0 0x0a", "cop0 0x0e", "cop1x 0x0f", "format 0x15 0x20", "format 0x15 0x21",
    *(f"format {fmt:#x} {f:#04x}" for fmt in (0x10, 0x11) for f in (8, 9, 10, 11, 0x15, 0x16)),
}  # fmt: skip


def test_capstone_knows_the_same_places():
    engine = capstone.Cs(capstone.CS_ARCH_MIPS, capstone.CS_MODE_MIPS32)
    more, less = set(), set()
    for entry in ENCODINGS:
        known = any(engine.disasm(entry.match.to_bytes(4, "little"), 0))
        if known != (entry.state == RUNS):
            (more if known else less).add(entry.where)
    assert more == MODULES | DEBUG_AND_64_BITS
    assert less == UNKNOWN


def test_waiting_is_over(board):
    assert board.m.s[0, layout.S_WAITING] == 0
