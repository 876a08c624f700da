"""LWL, LWR, SWL, SWR at every offset, beside pages that are missing, and across their ends.

They touch one aligned word only, so that the page beside it does not matter; BadVAddr is the
address itself, not the word's. Expected values: MIPS32 Architecture for Programmers, volume II.
"""

from __future__ import annotations

import pytest

from disco_trace.machine import layout
from tests.machine.assemble import assemble
from tests.machine.board import Board

MOD, TLBL, TLBS, ADEL, ADES = 1, 2, 3, 4, 5
BD = 1 << 31
REFILL, GENERAL = 0x80000000, 0x80000180
FRAME = 0x8000  # the good page's
GOOD = 0x00401000  # the odd page of a pair: its neighbours belong to other pairs
REGISTER = 0xA1B2C3D4
MEMORY = bytes(range(0x10, 0x50))
VALID, DIRTY, CACHED = 2, 4, 3 << 3


def loaded(name: str, address: int, memory: dict[int, int], register: int) -> int:
    """Return what the manual's words say, byte by byte (little-endian)."""
    parts = list(register.to_bytes(4, "little"))
    first = address & ~3
    if name == "lwl":  # bytes from the word's start to the address go to the top
        count = (address & 3) + 1
        for n in range(count):
            parts[4 - count + n] = memory[first + n]
    else:  # from the address to the word's end, to the bottom
        for n in range(4 - (address & 3)):
            parts[n] = memory[address + n]
    return int.from_bytes(parts, "little")


def stored(name: str, address: int, register: int) -> dict[int, int]:
    parts = register.to_bytes(4, "little")
    if name == "swl":
        count = (address & 3) + 1
        return {(address & ~3) + n: parts[4 - count + n] for n in range(count)}
    return {address + n: parts[n] for n in range(4 - (address & 3))}


def prepared(neighbour: str) -> Board:
    """Return a board with GOOD mapped and its neighbours in a state."""
    board = Board()
    board.m.ram.view("u1")[FRAME : FRAME + 0x1000] = list(MEMORY) * 64
    flags = {"invalid": CACHED, "clean": CACHED | VALID, "good": CACHED | VALID | DIRTY}
    before = 0x20 << 6 | flags.get(neighbour, CACHED)
    board.tlb(0, GOOD - 0x1000, before, FRAME >> 12 << 6 | flags["good"])
    if neighbour != "unmapped":
        board.tlb(1, GOOD + 0x1000, 0x21 << 6 | flags[neighbour], 0x22 << 6 | flags[neighbour])
    return board


def byte(board: Board, physical: int) -> int:
    return int(board.m.ram.view("u1")[physical])


SLOTS = ["nop\n {}\n nop\n nop", "b x\n {}\n nop\n x: nop", "jal x\n {}\n nop\n x: nop"]
NEAR = [*range(8), *range(0xFF8, 0x1000)]


@pytest.mark.parametrize("form", SLOTS)
@pytest.mark.parametrize("neighbour", ["unmapped", "invalid"])
@pytest.mark.parametrize("name", ["lwl", "lwr"])
def test_loads_beside_a_missing_page(name, neighbour, form):
    board = prepared(neighbour)
    board.program(form.format(f"{name} $t1, 0($t0)"))
    memory = {GOOD + n: MEMORY[n % 64] for n in range(0x1000)}
    for offset in NEAR:
        board.jump(0x80001000)
        board.set(t0=GOOD + offset, t1=REGISTER)
        board.step(2)
        assert board.get("t1") == loaded(name, GOOD + offset, memory, REGISTER)
        assert board.get("cause") & 0x7C == 0


@pytest.mark.parametrize("form", SLOTS)
@pytest.mark.parametrize("neighbour", ["unmapped", "invalid", "clean"])
@pytest.mark.parametrize("name", ["swl", "swr"])
def test_stores_beside_a_missing_page(name, neighbour, form):
    board = prepared(neighbour)
    board.program(form.format(f"{name} $t1, 0($t0)"))
    for offset in NEAR:
        board.m.ram.view("u1")[FRAME : FRAME + 0x1000] = list(MEMORY) * 64
        board.jump(0x80001000)
        board.set(t0=GOOD + offset, t1=REGISTER)
        board.step(2)
        changed = stored(name, GOOD + offset, REGISTER)
        for n in range(0x1000):
            assert byte(board, FRAME + n) == changed.get(GOOD + n, MEMORY[n % 64]), (offset, n)
        for frame in (0x20, 0x21, 0x22):
            assert not board.m.ram[frame << 10 : frame + 1 << 10].any()


@pytest.mark.parametrize("form", SLOTS)
@pytest.mark.parametrize(
    ("name", "neighbour", "code", "vector"),
    [
        ("lwl", "unmapped", TLBL, REFILL), ("lwr", "unmapped", TLBL, REFILL),
        ("swl", "unmapped", TLBS, REFILL), ("swr", "unmapped", TLBS, REFILL),
        ("lwl", "invalid", TLBL, GENERAL), ("lwr", "invalid", TLBL, GENERAL),
        ("swl", "invalid", TLBS, GENERAL), ("swr", "invalid", TLBS, GENERAL),
        ("swl", "clean", MOD, GENERAL), ("swr", "clean", MOD, GENERAL),
    ],
)  # fmt: skip
def test_the_first_word_of_a_missing_page(name, neighbour, code, vector, form):
    """BadVAddr has all bits of the address; neither register nor memory has changed."""
    for offset in range(4):
        board = prepared(neighbour)
        address = GOOD + 0x1000 + offset
        before = board.m.ram.copy()
        board.program(form.format(f"{name} $t1, 0($t0)"))
        before[0x400:0x404] = board.m.ram[0x400:0x404]
        board.set(t0=address, t1=REGISTER)
        assert board.run(100, stop=vector) == layout.EXIT_STOP
        slot = form != SLOTS[0]
        assert board.get("cause") & (BD | 0x7C) == (BD if slot else 0) | code << 2
        assert board.get("epc") == 0x80001000 + (0 if slot else 4)
        assert board.get("badvaddr") == address
        assert board.get("t1") == REGISTER
        assert (board.m.ram == before).all()


HANDLER = """
    addiu $s7, $s7, 1
    mtc0 $s6, entrylo0
    mtc0 $s6, entrylo1
    mtc0 $s5, index
    tlbwi
    eret
"""


@pytest.mark.parametrize("offset", [1, 2, 3])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("neighbour", ["unmapped", "invalid"])
def test_a_word_across_the_end_of_a_page(neighbour, order, offset):
    """LWR and LWL (or the stores) of one word: one faults, is mended, and all is exact."""
    address = GOOD + 0x1000 - offset
    pair = ["lwr $t1, 0($t0)", "lwl $t1, 3($t0)"]
    stores = ["swr $t2, 0($t0)", "swl $t2, 3($t0)"]
    for lines in (pair, stores):
        board = prepared(neighbour)
        board.m.ram.view("u1")[0x21000:0x21040] = list(range(0x90, 0xD0))
        for vector in (0, 0x180):
            board.words(vector, assemble(HANDLER))
        board.program("\n".join(lines[::-1] if order else lines) + "\n nop")
        # The entry that holds the good page's neighbour, for both its pages.
        board.set(t0=address, t1=REGISTER, t2=REGISTER, s6=0x21 << 6 | 0x1E, s5=1)
        board.run(2 + 6)  # two of the program, six of the handler
        assert board.get("s7") == 1
        assert board.get("pc") == 0x80001008
        memory = [*range(0x50 - offset, 0x50), *range(0x90, 0x90 + 4 - offset)]
        if lines is pair:
            assert board.get("t1") == int.from_bytes(bytes(memory), "little")
        else:
            found = [byte(board, FRAME + 0x1000 - offset + n) for n in range(offset)]
            found += [byte(board, 0x21000 + n) for n in range(4 - offset)]
            assert found == list(REGISTER.to_bytes(4, "little"))
            assert byte(board, FRAME + 0x1000 - offset - 1) == 0x4F - offset
            assert byte(board, 0x21000 + 4 - offset) == 0x94 - offset


@pytest.mark.parametrize("base", [GOOD + 0x1000, 0x80003000, 0xA0003000, 0x81000000])
@pytest.mark.parametrize("text", ["lw", "lh", "lhu", "ll", "sw", "sh", "sc"])
def test_aligned_instructions_never_cross(text, base):
    """An address error comes before any look at a page, whatever is on either side."""
    size = 2 if "h" in text else 4
    for offset in range(-4, 4):
        if offset % size == 0:
            continue
        board = prepared("unmapped")
        board.program(f"{text} $t1, 0($t0)\n nop")
        board.set(t0=base + offset, t1=REGISTER)
        assert board.run(100, stop=GENERAL) == layout.EXIT_STOP
        assert board.get("cause") >> 2 & 31 == (ADES if text[0] == "s" else ADEL)
        assert board.get("badvaddr") == base + offset
        assert board.get("t1") == REGISTER


@pytest.mark.parametrize("base", [0x80FFFFFC, 0xA0FFFFFC])
@pytest.mark.parametrize("name", ["lwl", "lwr", "swl", "swr", "lb", "lbu", "sb"])
def test_the_last_word_of_memory(name, base):
    board = Board()
    board.m.ram[-1] = 0x44332211
    board.program(f"{name} $t1, 0($t0)\n nop")
    for offset in range(4):
        board.jump(0x80001000)
        board.set(t0=base + offset, t1=REGISTER)
        board.step(1)
        assert board.get("cause") & 0x7C == 0
    board.jump(0x80001000)
    board.set(t0=base + 4, t1=REGISTER)
    board.run(1)
    assert board.get("cause") >> 2 & 31 == 7  # bus error: there is no memory


@pytest.mark.parametrize("base", [0x80003000, 0xA0003000, GOOD])
def test_unaligned_words_everywhere_in_a_line(base):
    """Both pairs at every address of two lines, cached, uncached and mapped."""
    board = prepared("good")
    physical = FRAME if base == GOOD else 0x3000
    board.m.ram.view("u1")[physical : physical + 128] = list(MEMORY) * 2
    board.program(
        "lwr $t1, 0($t0)\n lwl $t1, 3($t0)\n swl $t2, 67($t0)\n swr $t2, 64($t0)\n"
        "lwl $t3, 67($t0)\n lwr $t3, 64($t0)"
    )
    for offset in range(60):
        board.m.ram.view("u1")[physical : physical + 128] = list(MEMORY) * 2
        board.jump(0x80001000)
        board.set(t0=base + offset, t1=0, t2=REGISTER, t3=0)
        board.step(6)
        assert board.get("t1") == int.from_bytes(MEMORY[offset : offset + 4], "little")
        assert board.get("t3") == REGISTER
        around = bytes(board.m.ram.view("u1")[physical + 64 : physical + 128])
        expected = MEMORY[:offset] + REGISTER.to_bytes(4, "little") + MEMORY[offset + 4 :]
        assert around == expected
