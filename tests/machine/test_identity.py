"""What the processor says it is: the registers that an operating system's probes read.

Each line is a fact that a commodity kernel relies on, see docs/machine.md; the fields are those of
MIPS32 Architecture for Programmers, volume III, revision 2.62, chapter 9.
"""

from __future__ import annotations

import pytest

from tests.machine.assemble import assemble
from tests.machine.board import Board


def reading(name: str, *sets: str, **written: int) -> int:
    """Return a CP0 register as MFC0 gives it, after MTC0 of a value if there is one."""
    board = Board(*sets)
    text = f"mtc0 $t0, {name}\n" if name in written else "nop\n"
    board.program(text + f"mfc0 $t1, {name}\n nop")
    board.set(t0=written.get(name, 0))
    board.step(2)
    assert board.get("cause") & 0x7C == 0
    return board.get("t1")


def field(value: int, high: int, low: int) -> int:
    return value >> low & ((1 << (high - low + 1)) - 1)


def test_prid_is_a_24k():
    assert reading("prid") & 0x00FFFF00 == 0x00019300
    assert reading("prid", prid=0xFFFFFFFF) == reading("prid")


def test_config():
    value = reading("config")
    assert field(value, 31, 31) == 1  # Config1 is there
    assert field(value, 15, 15) == 0  # little-endian
    assert field(value, 14, 13) == 0  # MIPS32
    assert field(value, 12, 10) == 1  # release 2
    assert field(value, 9, 7) == 1  # a TLB
    assert field(value, 3, 3) == 0  # the instruction cache is not virtual
    assert field(value, 2, 0) == 3  # KSEG0 is cached
    assert reading("config", config=0xFFFFFFFF) == value | 7
    assert reading("config", config=0) == value & ~7


@pytest.mark.parametrize("entries", [8, 16, 48, 64])
def test_config1_tlb(entries):
    value = reading("config1", f"machine.tlb_entries={entries}")
    assert field(value, 30, 25) == entries - 1
    assert field(value, 31, 31) == 1  # Config2 is there
    # No coprocessor 2, MDMX, performance counters, watch registers, MIPS16, EJTAG.
    assert field(value, 6, 1) == 0


@pytest.mark.parametrize(
    ("size", "ways", "line"),
    [(32, 2, 32), (32, 4, 64), (16, 4, 16), (4, 4, 32), (8, 1, 128), (256, 8, 32)],
)
@pytest.mark.parametrize(
    ("cache", "sets", "lines", "assoc"), [("l1i", 22, 19, 16), ("l1d", 13, 10, 7)]
)
def test_config1_describes_the_first_level(cache, sets, lines, assoc, size, ways, line):
    """The kernel computes size = sets × line × ways from it, and flushes by that."""
    value = reading(
        "config1", f"machine.{cache}.size_bytes={size}KiB", f"machine.{cache}.ways={ways}",
        f"machine.{cache}.line_bytes={line}",
    )  # fmt: skip
    code = field(value, sets + 2, sets)
    per_way = 32 if code == 7 else 64 << code
    assert 2 << field(value, lines + 2, lines) == line
    assert field(value, assoc + 2, assoc) + 1 == ways
    assert per_way * line * ways == size * 1024


def test_config2_and_config3():
    assert reading("config2") == 1 << 31  # Config3 is there; no cache beyond the first to manage
    value = reading("config3")
    assert field(value, 13, 13) == 1  # UserLocal
    # No further Config, no external interrupt controller or vectored interrupts, small pages,
    # threads, DSP, SmartMIPS, trace.
    assert value & ~(1 << 13) == 0


def test_config7_reads_what_was_written():
    assert reading("config7") == 0
    assert reading("config7", config7=0x00010400) == 0x00010400


def test_interrupts_are_compatible():
    value = reading("intctl")
    assert field(value, 31, 29) == 7  # the timer is IP7
    assert field(value, 9, 5) == 0  # no vector spacing
    assert reading("intctl", intctl=0x3E0) == value


def test_one_register_set():
    for name in ("srsctl", "srsmap"):
        assert reading(name) == 0
        assert reading(name, **{name: 0xFFFFFFFF}) == 0


@pytest.mark.parametrize("name", ["watchlo", "perfctl", "debug", "desave"])
def test_what_is_absent_reads_as_zero(name):
    assert reading(name, **{name: 0xFFFFFFFF}) == 0


def test_no_cache_has_parity():
    """A probe sets the enables of ErrCtl (bits 31 and 23) and looks whether they stay."""
    assert reading("errctl", errctl=0xFFFFFFFF) & 0x80800000 == 0


def test_page_mask_says_which_page_sizes_there_are():
    """Written with ones it keeps all of 4 KB to 256 MB."""
    assert reading("pagemask", pagemask=0xFFFFFFFF) == 0x1FFFE000


def test_status_keeps_what_exists():
    """CU1, CU0, RP, FR, BEV, IM, KSU, ERL, EXL, IE: no reverse endian, soft reset or NMI bits."""
    assert reading("status", status=0xFFFFFFFF) == 0x3C40FF1F


def test_cause_keeps_what_software_may_write():
    """DC, IV and the two software interrupts; WP needs watch registers."""
    assert reading("cause", cause=0xFFFFFFFF) == 0x08800300


def test_entrylo_keeps_36_bits_of_address():
    assert reading("entrylo0", entrylo0=0xFFFFFFFF) == 0x3FFFFFFF
    assert reading("entrylo1", entrylo1=0xFFFFFFFF) == 0x3FFFFFFF


@pytest.mark.parametrize("cpu", [0, 1, 3])
@pytest.mark.parametrize("bev", [0, 1 << 22])
def test_ebase_is_writable_and_tells_the_cpu_number(cpu, bev):
    """Bits 31 and 30 stay 10; the low ten are the CPU's number. It may be written with BEV set."""
    board = Board(cpus=4)
    board.program("mtc0 $t0, ebase\n mfc0 $t1, ebase\n x: b x\n nop")
    for number in range(4):
        board.jump(0x80001000, number)
        board.set(number, t0=0xFFFFFFFF, status=bev)
    board.run(20_000)  # enough for every CPU to have its turn
    assert board.get("t1", cpu) == 0xBFFFF000 | cpu


def test_count_advances_between_two_readings_of_rdhwr():
    board = Board()
    board.program("rdhwr $t0, $2\n rdhwr $t3, $3\n rdhwr $t1, $2\n nop")
    board.step(3)
    assert board.get("t1") - board.get("t0") == 2 // board.get("t3")


def test_timer_flag_comes_with_ip7_and_goes_with_compare():
    board = Board()
    board.program("mtc0 $t0, compare\n nop\n nop\n nop\n mfc0 $t1, cause\n mtc0 $t2, compare\n"
                  "mfc0 $t3, cause\n nop")  # fmt: skip
    board.set(t0=2, t2=1000)
    board.step(7)
    assert board.get("t1") == 1 << 30 | 1 << 15
    assert board.get("t3") == 0


@pytest.mark.parametrize(("offset", "code"), [(0x000, 2), (0x180, 8), (0x200, 0)])
def test_three_vectors_after_ebase(offset, code):
    board = Board()
    board.words(0x5000 + offset, assemble("addiu $t7, $t7, 1"))
    text = {2: "lw $t1, 0($zero)", 8: "syscall", 0: "mtc0 $t0, cause"}[code]
    board.program(f"{text}\n nop\n nop")
    board.set(ebase=0x80005000, t0=0x100, status=0x101, cause=1 << 23)
    if code == 0:
        board.set(t0=0x00800100)
    board.step(2 if code == 0 else 1)
    assert board.get("t7") == 1
    assert board.get("cause") >> 2 & 31 == code
