"""FPU loads and stores: alignment, translation, what they record, uncached memory, devices."""

from __future__ import annotations

import pytest

from disco_trace.machine import kernel, layout
from disco_trace.machine.fpu.table import COSTS
from disco_trace.memory.system import LOAD, STORE, UNCACHED_LOAD, UNCACHED_STORE, UPGRADE
from tests.machine.board import CODE, Board

CU1, FR = 1 << 29, 1 << 26
MOD, TLBL, TLBS, ADEL, ADES, DBE = 1, 2, 3, 4, 5, 7
A = 0x0123456789ABCDEF
LOW, HIGH = A & 0xFFFFFFFF, A >> 32
DATA = 0x80002000
LOADS = ["lwc1 $f2, 0($s0)", "ldc1 $f2, 0($s0)", "lwxc1 $f2, $s1($s2)", "ldxc1 $f2, $s1($s2)",
         "luxc1 $f2, $s1($s2)"]  # fmt: skip
STORES = ["swc1 $f2, 0($s0)", "sdc1 $f2, 0($s0)", "swxc1 $f2, $s1($s2)", "sdxc1 $f2, $s1($s2)",
          "suxc1 $f2, $s1($s2)"]  # fmt: skip


def bytes_of(text: str) -> int:
    return 4 if text[1] == "w" else 8


def board_for(text: str, address: int, *sets: str, fr: int = FR, cpus: int = 1) -> Board:
    """Return a board before an access; indexed ones find their address in two registers."""
    board = Board(*sets, cpus=cpus)
    board.program(text)
    index = 0x12345678
    board.set(status=CU1 | fr, s0=address, s1=index, s2=address - index)
    board.floats(d2=A)
    return board


@pytest.mark.parametrize("fr", [0, FR])
@pytest.mark.parametrize("base", [0x80000000, 0xA0000000, 0x00400000])
@pytest.mark.parametrize("text", LOADS + STORES)
def test_data(text, base, fr):
    """Through KSEG0, KSEG1 and a mapped page."""
    if "u" in text[1] and not fr:
        return
    board = board_for(text, base + 0x2008, fr=fr)
    board.tlb(0, 0x00402000, 2 << 6 | 0x1E, 3 << 6 | 0x1E)
    board.words(0x2000, [1, 2, 0x33333333, 0x44444444, 5, 6])
    if not fr:
        board.floats(d2=0, w2=LOW, w3=HIGH)
    board.step(1)
    low, high = ("w2", "w3") if not fr else ("w4", "w5")
    found = [board.word(0x2000 + 4 * n) for n in range(6)]
    if text in LOADS:
        assert found == [1, 2, 0x33333333, 0x44444444, 5, 6]
        assert board.float(low) == 0x33333333
        assert board.float(high) == (0x44444444 if bytes_of(text) == 8 else HIGH)
    else:
        assert found == [1, 2, LOW, HIGH if bytes_of(text) == 8 else 0x44444444, 5, 6]
        assert (board.float(low), board.float(high)) == (LOW, HIGH)


@pytest.mark.parametrize("number", [2, 3])
def test_pairs_of_32_bit_registers(number):
    """LDC1 and SDC1 take the pair even by its odd number."""
    board = board_for(f"ldc1 $f{number}, 0($s0)\n sdc1 $f{number}, 8($s0)", DATA, fr=0)
    board.words(DATA, [LOW, HIGH, 0, 0])
    board.floats(d1=0)
    board.step(2)
    assert (board.float("w2"), board.float("w3")) == (LOW, HIGH)
    assert (board.word(DATA + 8), board.word(DATA + 12)) == (LOW, HIGH)


@pytest.mark.parametrize("text", LOADS + STORES)
@pytest.mark.parametrize("offset", range(8))
def test_alignment(text, offset):
    board = board_for(text, DATA + offset)
    board.words(DATA, [LOW, HIGH, 1])
    aligned = "u" in text[1] or offset % bytes_of(text) == 0
    board.run(1, stop=-1 if aligned else 0x80000180)
    if aligned:
        assert board.get("cause") & 0x7C == 0
        if "u" in text[1]:
            assert board.float("d2") == A
            assert (board.word(DATA), board.word(DATA + 4)) == (LOW, HIGH)
        return
    assert board.get("cause") & 0x7C == (ADEL if text in LOADS else ADES) << 2
    assert board.get("badvaddr") == DATA + offset
    assert board.get("epc") == CODE
    assert board.float("d2") == A
    assert (board.word(DATA), board.word(DATA + 4)) == (LOW, HIGH)


@pytest.mark.parametrize("text", LOADS + STORES)
@pytest.mark.parametrize(
    ("address", "load", "store", "vector"),
    [
        (0x00900008, TLBL, TLBS, 0),
        (0x00801008, TLBL, TLBS, 0x180),  # invalid
        (0x00800010, None, MOD, 0x180),  # read-only
        (0xBE000000, DBE, DBE, 0x180),
    ],
)
def test_faults(text, address, load, store, vector):
    code = load if text in LOADS else store
    if code is None:
        return
    board = board_for(text, address)
    board.tlb(1, 0x00800000, 8 << 6 | 0x1A, 0x18)
    board.run(10, stop=0x80000000 + vector)
    assert board.get("cause") & 0x7C == code << 2
    assert board.get("epc") == CODE
    if code != DBE:
        assert board.get("badvaddr") == address
        assert board.get("context") == address >> 13 << 4
    assert board.float("d2") == A


@pytest.mark.parametrize("text", LOADS + STORES)
def test_an_access_is_one_reference(text):
    """Eight bytes record what a word does: a row, a page row, one data reference."""
    found = []
    for access in (text, "lw $t0, 0($s0)" if text in LOADS else "sw $t0, 0($s0)"):
        board = board_for(access + "\n" + access, 0x00402008)
        board.tlb(0, 0x00402000, 2 << 6 | 0x1E, 3 << 6 | 0x1E)
        kernel.start(board.m, board.memory)
        board.started = True
        board.empty()
        board.run(2)
        g = board.m.g
        rows = board.m.refs[: g[layout.G_REFS]]
        pages = board.m.pages[: g[layout.G_PAGE_ROWS]]
        assert list(rows["kind"][1:]) == [LOAD if text in LOADS else STORE]
        found.append((rows.tolist(), pages.tolist(), board.m.s[0].tolist()))
        assert board.m.s[0, layout.S_DATA] == 2
        assert len(pages) == 1
    assert found[0] == found[1]


def test_a_store_after_a_load_is_an_upgrade():
    board = board_for("ldc1 $f2, 0($s0)\n sdc1 $f4, 0($s0)\n sdc1 $f4, 8($s0)", DATA)
    kernel.start(board.m, board.memory)
    board.started = True
    board.empty()
    board.run(3)
    rows = board.m.refs[: board.m.g[layout.G_REFS]]
    assert list(rows["kind"][1:]) == [LOAD, UPGRADE]


@pytest.mark.parametrize("text", LOADS + STORES)
def test_uncached_access_is_one_reference(text):
    board = board_for(text, 0xA0002008)
    kernel.start(board.m, board.memory)
    board.started = True
    board.empty()
    board.run(1)
    (row,) = board.m.refs[1 : board.m.g[layout.G_REFS]]
    assert row["kind"] == (UNCACHED_LOAD if text in LOADS else UNCACHED_STORE)
    assert row["vaddr"] == 0xA0002008
    assert board.m.s[0, layout.S_DATA] == 1


def test_devices():
    """Eight bytes are two words to a device, the lower one first."""
    board = board_for("lwc1 $f2, 0x1c($s0)\n ldc1 $f4, 0($s0)\n ldc1 $f6, 0x18($s0)", 0xBF002000)
    board.step(3)
    assert board.float("d2") == HIGH << 32 | 16 << 20  # RAM
    assert board.float("d4") == 1 << 32  # CPU 0, one CPU
    assert board.float("d6") == 16 << 52
    for text, status in (("swc1 $f2, 0($s0)", LOW), ("sdc1 $f2, 0($s0)", LOW)):
        board = board_for(text, 0xBF001000)
        assert board.run(10) == layout.EXIT_POWER
        assert board.m.g[layout.G_STATUS] == status
    board = board_for("sdc1 $f2, 0($s0)", 0xBF000000)
    board.floats(d2=ord("D") << 32 | ord("A"))
    board.m.uart[3] = 128
    board.step(1)
    assert (board.m.uart[8], board.m.uart[9]) == (ord("A"), ord("D"))  # divisor latch
    # Each half does what a word would: raise the own line and clear it again.
    board = board_for("sdc1 $f2, 0($s0)\n nop\n nop", 0xBF002010)
    board.floats(d2=0)
    board.run(3)
    assert board.get("cause") & 1 << 10 == 0
    assert board.m.g[layout.G_INSTRUCTIONS] == 3


@pytest.mark.parametrize("offset", [0, 4])
def test_code_that_a_double_store_changes(offset):
    board = board_for("x: nop\n b x\n nop", DATA)
    board.program("ldc1 $f2, 0($s0)\n jr $s2\n sdc1 $f2, 0($s1)")
    target = 0x80003000
    board.program("addiu $t0, $t0, 1\n addiu $t0, $t0, 1\n jr $ra\n nop", target)
    board.words(DATA, [0x25080005, 0x25080007])  # addiu $t0, $t0, 5 and 7
    board.set(s1=target, s2=target, t0=0, ra=CODE)
    board.jump(target)
    board.step(4)  # decoded as they are
    assert board.get("t0") == 2
    board.step(5)
    assert board.get("t0") == 2 + 12


@pytest.mark.parametrize("store", ["sdc1 $f2, 0($s0)", "swc1 $f2, 4($s0)"])
@pytest.mark.parametrize("base", [0x80000000, 0xA0000000])
def test_a_store_takes_other_reservations(store, base):
    board = board_for(store, base + 0x2000, cpus=2)
    board.m.s[1, layout.S_LL] = 1
    board.m.s[1, layout.S_LLADDR] = 0x2000
    board.m.s[1, layout.S_WAITING] = 1
    board.run(1)
    assert board.m.s[1, layout.S_LL] == 0


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize(
    ("text", "cost"),
    [
        *((f"{name}.{f} $f8, $f2, $f4", "add") for name in ("add", "sub") for f in "sd"),
        *((f"{name}.{f} $f8, $f2", "add") for name in ("abs", "neg", "cvt.w", "trunc.l", "round.w")
          for f in "sd"),
        ("c.olt.d $f2, $f4", "add"), ("cvt.s.d $f8, $f2", "add"), ("cvt.d.l $f8, $f2", "add"),
        ("mul.s $f8, $f2, $f4", "mul"), ("mul.d $f8, $f2, $f4", "mul"),
        *((f"{name}.{f} $f8, $f2, $f4, $f6", "madd") for name in ("madd", "nmsub") for f in "sd"),
        ("div.s $f8, $f2, $f4", "div_single"), ("div.d $f8, $f2, $f4", "div_double"),
        ("recip.s $f8, $f4", "div_single"), ("recip.d $f8, $f4", "div_double"),
        ("sqrt.s $f8, $f2", "sqrt_single"), ("sqrt.d $f8, $f2", "sqrt_double"),
        ("rsqrt.s $f8, $f4", "rsqrt_single"), ("rsqrt.d $f8, $f4", "rsqrt_double"),
        ("mov.d $f8, $f2", None), ("movt.s $f8, $f2", None), ("mtc1 $t0, $f2", None),
        ("ldc1 $f2, 0($s0)", None), ("cfc1 $t0, $31", None), ("bc1t far\n far: nop", None),
    ],
)  # fmt: skip
def test_cycles(text, cost, mode):
    """The same in the hot loop (rounding to nearest) and outside it."""
    sets = [f"machine.fpu_{name}_cycles={10 + n}" for n, name in enumerate(COSTS)]
    board = board_for("mtc0 $zero, count\n" + text + "\n" + text.replace("far", "far2")
                      + "\n mfc0 $t0, count", DATA, *sets)  # fmt: skip
    board.floats(d2=0x3FF5555555555555, d4=0x4000000000000000, d6=0, fcsr=mode)
    count = 4 + 2 * ("far" in text)
    board.step(count)
    cycles = 10 + COSTS.index(cost) if cost else 1 + ("far" in text)
    assert board.get("t0") == (2 * cycles + 1) // 2
