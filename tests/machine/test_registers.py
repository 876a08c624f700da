"""Rules of the coprocessor 0 registers that tests of the TLB, time and identity leave over."""

from __future__ import annotations

import pytest

from disco_trace.machine import layout
from tests.machine.assemble import CP0, assemble, encode
from tests.machine.board import Board

EXL, IE, UM = 2, 1, 0x10
CODE = 0x80001000
# Registers that are there; all other numbers and selects read as zero.
PRESENT = {n for name, n in CP0.items() if name not in ("watchlo", "debug", "perfctl", "desave")}
PRESENT |= {(29, 2)}  # DTagHi


@pytest.mark.parametrize("number", range(32))
@pytest.mark.parametrize("select", range(8))
def test_absent_registers_read_as_zero_and_ignore_writes(number, select):
    if (number, select) in PRESENT:
        return
    board = Board()
    field = number << 11 | select
    board.words(0x1000, [0x40880000 | field, 0x40090000 | field])  # mtc0 $t0; mfc0 $t1
    board.jump(CODE)
    board.set(t0=-1, t1=5)
    before = board.m.cp0.copy()
    board.step(2)
    assert board.get("t1") == 0
    assert (board.m.cp0 == before).all()
    assert board.get("cause") & 0x7C == 0


@pytest.mark.parametrize(
    "name", ["random", "badvaddr", "prid", "config1", "config2", "config3", "lladdr", "srsctl"]
)
def test_read_only_registers(name):
    board = Board()
    board.program(f"mfc0 $t1, {name}\n mtc0 $t0, {name}\n mfc0 $t2, {name}")
    board.set(t0=-1, badvaddr=0x1234)
    board.step(3)
    difference = 2 if name == "random" else 0  # it counts instructions down
    assert board.get("t1") - board.get("t2") == difference


def test_index_keeps_the_probe_bit_until_a_probe():
    """Bit 31 is the hardware's: a write leaves it, TLBP sets or clears all of the register."""
    board = Board()
    board.tlb(7, 0x00800000, 0, 0)
    board.program("tlbp\n mfc0 $t0, index\n mtc0 $t9, index\n mfc0 $t1, index\n"
                  "mtc0 $t8, entryhi\n tlbp\n mfc0 $t2, index\n mtc0 $t7, index\n"
                  "mfc0 $t3, index")  # fmt: skip
    board.set(entryhi=0x00C00000, t9=5, t8=0x00800000, t7=-1, index=9)
    board.step(9)
    assert board.get("t0") >> 31 == 1
    assert board.get("t1") == 0x80000005
    assert board.get("t2") == 7
    assert board.get("t3") == 63


def test_a_failed_probe_and_the_index_behind_it():
    """TLBWI after MTC0 Index writes that entry, whatever the probe bit says."""
    board = Board()
    board.program("tlbp\n mtc0 $t9, index\n tlbwi")
    board.set(entryhi=0x00C00000 | 3, t9=11, entrylo0=0x1E)
    board.step(3)
    assert int(board.m.tlb[0, 11 * layout.TLB_WORDS + layout.T_HI]) == 0x00C00003


@pytest.mark.parametrize("wired", [0, 5, 63])
def test_random_in_slots_and_between(wired):
    """Each instruction counts; below Wired never, back to the top behind it."""
    board = Board()
    board.program("mtc0 $t9, wired\n x: mfc0 $t0, random\n b y\n mfc0 $t1, random\n nop\n"
                  "y: mfc0 $t2, random")  # fmt: skip
    board.set(t9=wired)
    board.step(5)
    span = 64 - wired
    seen = [board.get(f"t{n}") for n in range(3)]
    # It stands at the top behind the write of Wired, and counts instructions.
    top = seen[0]
    assert top in (63, 62 if span > 1 else 63)
    assert [(top - value) % span for value in seen] == [0, 2 % span, 3 % span]
    assert all(wired <= value <= 63 for value in seen)


@pytest.mark.parametrize("slot", [False, True])
@pytest.mark.parametrize("name", ["rdpgpr", "wrpgpr"])
def test_moves_between_register_sets(name, slot):
    """One set: SRSCtl says so, and both are moves within it, from rt to rd."""
    board = Board()
    board.words(0x1000, [encode("beq", i=3) if slot else 0, encode(name, d=9, t=8)])
    board.jump(CODE)
    board.set(t0=0x1234, t1=0x5678)
    board.step(2)
    assert board.get("t1") == 0x1234
    assert board.get("t0") == 0x1234


@pytest.mark.parametrize("value", [0, -1, 0x2000000F, 0x5555AAAA])
def test_hwrena_keeps_the_registers_that_are_there(value):
    board = Board()
    board.program("mtc0 $t0, hwrena\n mfc0 $t1, hwrena")
    board.set(t0=value)
    board.step(2)
    assert board.get("t1") == value & 0x2000000F


@pytest.mark.parametrize("form", ["nop\n {}", "b x\n {}\n nop\n x: nop"])
@pytest.mark.parametrize("enabled", [0, 1])
def test_userlocal_in_user_mode_in_and_out_of_slots(enabled, form):
    board = Board()
    board.tlb(0, 0x00400000, 0x1E, 1 << 6 | 0x1E)
    board.program(form.format("rdhwr $v1, $29"))
    board.jump(0x00401000)
    board.set(userlocal=0xCAFE, hwrena=enabled << 29, status=UM, v1=1)
    slot = "b x" in form
    if enabled:
        board.step(2)
        assert board.get("v1") == 0xCAFE
        return
    assert board.run(100, stop=0x80000180) == layout.EXIT_STOP
    assert board.get("cause") & 0x8000007C == (1 << 31 if slot else 0) | 10 << 2
    assert board.get("epc") == (0x00401000 if slot else 0x00401004)
    assert board.get("v1") == 1


@pytest.mark.parametrize("form", ["nop\n {}", "b x\n {}\n nop\n x: nop"])
@pytest.mark.parametrize(("name", "after"), [("di", 0), ("ei", IE)])
@pytest.mark.parametrize("before", [0, IE])
def test_di_and_ei_return_what_was(name, before, after, form):
    board = Board()
    board.program(form.format(f"{name} $t0"))
    board.set(status=before | 0xFC00)
    board.step(2)
    assert board.get("t0") == before | 0xFC00
    assert board.get("status") == after | 0xFC00


@pytest.mark.parametrize("slot", [False, True])
def test_ei_takes_a_pending_interrupt_before_the_next_instruction(slot):
    board = Board()
    board.program("b x\n ei $t0\n nop\n x: addiu $t1, $t1, 1" if slot else
                  "nop\n ei $t0\n addiu $t1, $t1, 1")  # fmt: skip
    board.set(status=0x100, cause=0x100)
    assert board.run(100, stop=0x80000180) == layout.EXIT_STOP
    assert board.get("epc") == CODE + (12 if slot else 8)
    assert board.get("cause") >> 31 == 0
    assert board.get("t1") == 0


@pytest.mark.parametrize("status", [IE | 0x100, IE | 0x8000])
def test_wait_ends_before_the_instruction_behind_it(status):
    """EPC is that instruction's address; it has not run."""
    board = Board()
    board.program("mtc0 $t9, compare\n wait\n addiu $t1, $t1, 1")
    board.set(status=0, t9=50)
    board.step(1)
    board.set(status=status, cause=0x100 if status & 0x100 else 0)
    assert board.run(100, stop=0x80000180) == layout.EXIT_STOP
    if status & 0x100:  # pending already: taken before the WAIT
        assert board.get("epc") == CODE + 4
    else:
        assert board.get("epc") == CODE + 8
        assert board.get("count") >= 50
    assert board.get("t1") == 0


@pytest.mark.parametrize("level", [EXL, 4])
def test_wait_goes_on_with_interrupts_that_a_level_holds_back(level):
    """Non-masked interrupts end it even if EXL or ERL keep them from being taken."""
    board = Board()
    board.program("mtc0 $t9, compare\n wait\n addiu $t1, $t1, 1\n nop")
    board.set(status=level | IE | 0x8000, t9=50)
    board.step(3)
    assert board.get("t1") == 1
    assert board.get("count") >= 50
    assert board.get("pc") == CODE + 12


@pytest.mark.parametrize("value", [0x80000000, 0x80040000, 0xFFFFFFFF, 0x00000000, 0x12345678])
def test_ebase_keeps_bits_29_to_12(value):
    board = Board()
    board.program("mtc0 $t0, ebase\n mfc0 $t1, ebase\n syscall")
    board.set(t0=value)
    board.step(2)
    assert board.get("t1") == 0x80000000 | value & 0x3FFFF000
    if board.get("t1") < 0x81000000:
        assert board.run(10, stop=board.get("t1") + 0x180) == layout.EXIT_STOP


def test_context_follows_each_kind_of_tlb_exception_and_no_other():
    board = Board()
    board.words(0, assemble("mfc0 $k0, context\n nop"))
    board.program("lw $t0, 1($zero)")
    board.set(context=0xFF800000)
    assert board.run(100, stop=0x80000180) == layout.EXIT_STOP
    assert board.get("context") == 0xFF800000
    board.program("mtc0 $t9, context\n mfc0 $t1, context")
    board.set(t9=-1, context=0x007FFFF0)
    board.step(2)
    assert board.get("t1") == 0xFFFFFFF0  # BadVPN2 is not software's
