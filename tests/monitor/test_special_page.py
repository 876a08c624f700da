"""The special page: what it shows, what it takes over and when, and what a hostile guest gets."""

from __future__ import annotations

import random

import numpy as np
import pytest

from disco_trace.config import resolve
from disco_trace.machine import layout
from disco_trace.monitor.layout import V_CPU, V_S, vm_record
from disco_trace.monitor.special import PENDING, SHOWN, SPECIAL
from disco_trace.trace.schema import MONITOR_CAUSES
from tests.machine.assemble import CP0
from tests.machine.board import Board
from tests.machine.robust import random_word, scramble
from tests.monitor.guest import Guest
from tests.monitor.test_guests import DISCO, MAPPED, SMALL, user_stream
from tests.monitor.test_isolation import SECRET, finish, neighbours
from tests.monitor.test_isolation import undisturbed as undisturbed  # a fixture
from tests.replay.runs import (
    TINY,
    assert_same,
    assert_sound,
    captured,
    replayed,
    run_guest,
    spec_at,
    without_results,
)

OFFER = 0xBF002024
PLACE = 0x00300000
IE, EXL, USER, TIMER = 1, 2, 0x10, 0x8000
PRIVILEGED, FORWARD, TLB_FAULT, INTERRUPT = (
    MONITOR_CAUSES.index(name) for name in ("privileged", "forward", "tlb_fault", "interrupt")
)
NUMBER = {8 * number + select: name for name, (number, select) in CP0.items()}


def with_page(*sets: str, place: int = PLACE, cpus: int = 1) -> Guest:
    """Return a virtual machine whose kernel has said where its special pages lie; s7 = SPECIAL."""
    guest = Guest(*sets, cpus=cpus)
    guest.program("sw $t1, 0($t0)\n nop\n nop")
    guest.set(status=0, t0=OFFER, t1=place)
    guest.step(2)
    guest.set(s7=SPECIAL)
    guest.empty()
    return guest


def shown(guest: Guest, register: int, place: int = PLACE) -> int:
    return guest.word(place + 4 * register)


def go(guest: Guest, text: str, steps: int, **registers: int) -> list[int]:
    """Run a program of so many instructions; return the causes of its traps but its own misses."""
    guest.program(text, 0x80002000)
    guest.set(**registers)
    guest.step(steps)
    causes = [cause for cause in guest.traps() if cause not in (TLB_FAULT, 0)]
    guest.empty()
    return causes


@pytest.mark.parametrize("on", [True, False])
def test_it_is_offered_by_a_word_of_the_cpu_block(on):
    guest = Guest(f"monitor.special_page={str(on).lower()}")
    guest.program("lw $t2, 0($t0)\n sw $t1, 0($t0)\n lw $t3, 0($s7)\n nop")
    guest.set(status=0, t0=OFFER, t1=PLACE, s7=SPECIAL, compare=12345)
    guest.step(2)
    assert guest.get("t2") == (SPECIAL if on else 0)
    assert (int(guest.m.s[0, layout.S_SPECIAL]) != 0) == on
    guest.step(1)
    refilled = guest.get("cause") >> 2 & 31 == 2  # TLBL
    assert refilled != on


def test_the_bare_machine_offers_none():
    board = Board()
    board.program("lw $t2, 0($t0)\n sw $t1, 0($t0)\n nop")
    board.set(t0=OFFER, t1=PLACE, t2=1)
    before = board.m.cp0.copy()
    board.step(3)
    assert board.get("t2") == 0
    assert board.m.s[0, layout.S_SPECIAL] == 0
    assert (board.m.cp0 == before).all()


def test_it_shows_what_mfc0_reads():
    guest = with_page()
    values = {
        "entrylo0": 0x1234567, "entrylo1": 0x7654321, "context": 0xAB800000, "epc": 0x80004444,
        "badvaddr": 0x1234, "index": 5, "entryhi": 0x00ABE012, "pagemask": 0x6000, "wired": 3,
        "errorepc": 0x80001110, "compare": 0x7FFF0000,
    }  # fmt: skip
    # The values are put in place behind the monitor's back: a trap brings them to the page.
    guest.m.s[0, layout.S_OPEN] = 1
    go(guest, "nop", 1, **values)
    for register in SHOWN:
        name = NUMBER[int(register)]
        causes = go(guest, f"lw $t1, {4 * int(register)}($s7)\n mfc0 $t2, ${name}", 2)
        assert causes == [PRIVILEGED]
        assert guest.get("t1") == guest.get("t2"), name
        assert guest.get("t1") == values.get(name, guest.get("t1"))


def test_stores_are_what_mtc0_would_have_written():
    guest = with_page()
    for name, mask in (
        ("entrylo0", 0x3FFFFFFF), ("entrylo1", 0x3FFFFFFF), ("index", 0x3F), ("epc", 0xFFFFFFFF),
        ("pagemask", 0x1FFFE000), ("context", 0xFF800000), ("errorepc", 0xFFFFFFFF),
    ):  # fmt: skip
        number, select = CP0[name]
        at = 4 * (8 * number + select)
        causes = go(guest, f"sw $t1, {at}($s7)\n mfc0 $t2, ${name}\n lw $t3, {at}($s7)", 3,
                    t1=0xFFFFFFFF)  # fmt: skip
        assert causes == [PRIVILEGED]
        assert guest.get("t2") & mask == mask
        assert guest.get("t3") == guest.get("t2")
    # What acts at once is shown, but not taken.
    for name in ("entryhi", "wired", "compare", "cause", "badvaddr", "config"):
        number, select = CP0[name]
        before = guest.get(name)
        go(guest, f"sw $t1, {4 * (8 * number + select)}($s7)\n mfc0 $t2, ${name}", 2, t1=~before)
        assert guest.get("t2") == before == guest.get(name)


def test_an_interrupt_comes_when_a_store_has_enabled_it():
    """Enabled before it comes: no further trap of the guest's is needed."""
    guest = with_page()
    go(guest, "nop", 1, status=TIMER)
    go(guest, "mfc0 $t1, $count\n addiu $t1, $t1, 60\n mtc0 $t1, $compare", 3)
    causes = go(guest, "lw $t1, 384($s7)\n ori $t1, $t1, 1\n sw $t1, 384($s7)" + "\n nop" * 300, 3)
    assert causes == []
    assert guest.get("status") & IE == 0  # the monitor has not been told
    guest.m.p[layout.X_MAX_INSTRUCTIONS] = guest.m.g[layout.G_INSTRUCTIONS] + 200
    guest.run(200, stop=0x80000180)
    assert guest.get("pc") == 0x80000180
    assert guest.get("cause") & 0x807C == TIMER  # an interrupt, of the timer
    assert guest.get("status") & (IE | EXL) == IE | EXL


def test_an_interrupt_does_not_come_when_a_store_has_disabled_it():
    guest = with_page()
    go(guest, "mtc0 $t1, $status\n nop", 2, t1=TIMER | IE)
    go(guest, "mfc0 $t1, $count\n addiu $t1, $t1, 30\n mtc0 $t1, $compare", 3)
    go(guest, "sw $t1, 384($s7)" + "\n nop" * 200, 150, t1=TIMER)
    assert guest.get("pc") > 0x80002000
    assert guest.get("cause") & TIMER
    assert shown(guest, layout.CAUSE) & TIMER
    assert shown(guest, PENDING) == TIMER


def test_one_that_waits_is_shown_and_comes_at_the_next_trap():
    guest = with_page()
    go(guest, "mtc0 $t1, $status\n nop", 2, t1=TIMER)
    go(guest, "mfc0 $t1, $count\n addiu $t1, $t1, 30\n mtc0 $t1, $compare" + "\n nop" * 200, 150)
    assert shown(guest, PENDING) == TIMER
    causes = go(guest, "sw $t1, 384($s7)\n lw $t2, 1024($s7)\n nop\n nop", 4, t1=TIMER | IE)
    assert causes == []
    assert guest.get("t2") == TIMER
    assert guest.get("pc") == 0x80002010
    guest.run(4, stop=0x80000180) if False else None
    causes = go(guest, "mtc0 $t1, $status\n addiu $t3, $zero, 7", 1, t1=TIMER | IE, t3=0)
    guest.run(2, stop=0x80000180)
    assert guest.get("pc") == 0x80000180
    assert guest.get("epc") == 0x80002004
    assert guest.get("t3") == 0


def test_eret_goes_where_the_page_says():
    """EPC and Status as stored: to user mode, interrupts on."""
    guest = with_page()
    guest.tlb(1, 0x00400000, 0x10 << 6 | 0x1F, 0x11 << 6 | 0x1F)
    causes = go(
        guest, "sw $t1, 384($s7)\n sw $t2, 448($s7)\n eret", 3,
        t1=TIMER | USER | EXL | IE, t2=0x00400010,
    )  # fmt: skip
    assert causes == [PRIVILEGED]
    assert guest.get("pc") == 0x00400010
    assert guest.get("status") == TIMER | USER | IE
    assert int(guest.m.s[0, layout.S_CONTEXT]) & 3 == 2


def test_a_store_alone_changes_no_mode():
    """Neither out of the kernel, nor out of a refill handler."""
    guest = with_page()
    go(guest, "sw $t1, 384($s7)\n mfc0 $t2, $status", 2, t1=USER | TIMER)
    assert guest.get("t2") == TIMER
    assert shown(guest, layout.STATUS) == TIMER
    guest = with_page()
    guest.program("lw $t1, 0($t0)", 0x80002000)
    guest.set(t0=0x5000)
    guest.run(4, stop=0x80000000)
    assert int(guest.m.s[0, layout.S_REFILL]) == 1
    go(guest, "sw $zero, 384($s7)\n mfc0 $t2, $status", 2)
    assert guest.get("t2") & EXL
    assert int(guest.m.s[0, layout.S_REFILL]) == 1


def test_an_exception_finds_exl_as_stored():
    """A kernel that has cleared EXL by a store takes its next miss at the refill vector."""
    guest = with_page()
    guest.program("syscall", 0x80002000)
    guest.run(4, stop=0x80000180)
    assert shown(guest, layout.STATUS) & EXL or int(guest.m.s[0, layout.S_OPEN])
    go(guest, "sw $zero, 384($s7)\n nop", 2)
    guest.program("lw $t1, 0($t0)", 0x80002000)
    guest.set(t0=0x5000)
    guest.run(4, stop=0x80000000)
    assert guest.get("pc") == 0x80000000
    assert guest.get("epc") == 0x80002000
    assert shown(guest, layout.BADVADDR) == 0x5000 or int(guest.m.s[0, layout.S_OPEN])


def test_every_virtual_cpu_has_its_own():
    """One store gives pages to all; the same address shows each its own registers."""
    guest = with_page(cpus=2)
    guest.words(0x80003000, np.array([0x8EE80080, 0, 0x1000FFFF, 0], np.uint32))  # lw $t0, 128($s7)
    for cpu in (0, 1):
        guest.set(cpu, context=(cpu + 5) << 23, s7=SPECIAL, status=0, t0=0)
        guest.m.s[cpu, layout.S_OPEN] = 1
        guest.jump(0x80003000, cpu)
    guest.run(200)
    assert guest.get("t0", 0) == 5 << 23
    assert guest.get("t0", 1) == 6 << 23
    assert guest.word(PLACE + 4096 + 128) == 6 << 23


@pytest.mark.parametrize(
    "place", [0xFFFFFFFF, 0xFFFFF000, 0x01000000, 0x00FFF000, 0x80300000, 0x1F002000]
)
def test_pages_that_are_not_all_memory_are_none(place):
    guest = with_page(cpus=2)
    assert (guest.m.s[:, layout.S_SPECIAL] != 0).all()
    before = guest.m.ram.copy()
    go(guest, "sw $t1, 0($t0)\n nop", 2, t0=OFFER, t1=place)
    assert (guest.m.s[:, layout.S_SPECIAL] == 0).all()
    guest.words(0x80002000, before[0x2000 >> 2 : (0x2000 >> 2) + 4])
    assert (guest.m.ram == before).all()
    guest.program("lw $t1, 0($s7)", 0x80002000)
    guest.run(4, stop=0x80000000)
    assert guest.get("badvaddr") == SPECIAL


def test_a_user_program_does_not_reach_it():
    guest = with_page()
    guest.tlb(1, 0x00400000, 0x10 << 6 | 0x1F, 0x11 << 6 | 0x1F)
    go(guest, "lw $t1, 128($s7)\n nop", 2)  # hardware holds the page
    guest.program("eret", 0x80002000)
    guest.words(0x80010000, np.array([0x8EEA0080, 0], np.uint32))  # lw $t2, 128($s7)
    guest.m.s[0, layout.S_OPEN] = 1
    guest.set(status=USER | EXL, epc=0x00400000, context=0xFF800000, t2=0)
    guest.run(4, stop=0x80000180)
    assert guest.get("cause") >> 2 & 31 == 4  # AdEL
    assert guest.get("badvaddr") == SPECIAL + 128
    assert guest.get("t2") == 0


def disturb(seed: int, undisturbed) -> None:
    """Random code beside a machine that works; its special page is filled with garbage."""
    rng = random.Random(seed)
    guest, memory = neighbours()
    m = guest.m
    place = rng.choice((0, 0x10000, PLACE, 0x00FFF000))  # vectors and code among them
    own = [array[1].copy() for array in (m.gpr, m.cp0, m.fpr, m.s, m.tlb)]
    scramble(guest, rng, [random_word(rng) for _ in range(20_000)])
    for array, row in zip((m.gpr, m.cp0, m.fpr, m.s, m.tlb), own, strict=True):
        array[1] = row
    m.s[0, layout.S_SPECIAL], m.s[0, layout.S_OPEN] = 1 + place // 4, 1
    m.gpr[0, 8:12] = [SPECIAL, SPECIAL + 4 * layout.STATUS, SPECIAL + 0x800, SPECIAL + 0xFFC]
    guest.forget()

    def garbage() -> None:
        assert not (m.gpr[0] == SECRET).any()
        for register in SHOWN:
            if rng.random() < 0.5:
                m.ram[place // 4 + int(register)] = rng.getrandbits(32)
                m.ops[place // 4 + int(register)] = 0

    finish(guest, garbage)
    assert not (m.ram[: m.p[layout.X_RAM] // 4] == SECRET).any()
    assert (memory == undisturbed[0]).all()
    assert (m.gpr[1, :34] == undisturbed[1][:34]).all()
    assert vm_record(m, 1)[4] == 0  # not switched off


@pytest.mark.parametrize("seed", range(6))
def test_garbage_reaches_nobody_else(seed, undisturbed):
    disturb(seed, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_much_garbage_reaches_nobody_else(seed, undisturbed):
    disturb(seed, undisturbed)


FORMS = {
    "one CPU": ("services-sseg", 1, {}),
    "four CPUs": ("database-sseg", 4, {"vm__count": 2}),
    "crowded": ("radix-sseg", 2, {"vm__count": 2, "vm__vcpus": 3, "monitor__slice_us": 200}),
    "mapped KSEG0": ("engineering", 2, MAPPED),
}


@pytest.mark.parametrize("form", FORMS)
def test_it_spares_traps_and_a_replay_repeats_it(tmp_path, form):
    """Without feedback a replay elsewhere equals a fresh capture there, too."""
    guest, cpus, sets = FORMS[form]
    counted = {}
    for on in (True, False):
        spec = spec_at(cpus, cpus, time__feedback="none", monitor__special_page=on, **DISCO,
                       **SMALL, **sets)  # fmt: skip
        trace = tmp_path / f"t{on}"
        run_guest(guest, spec, trace, TINY[guest.removesuffix("-sseg")])
        assert_sound(trace)
        counted[on] = captured(trace)
        assert_same(replayed(without_results(trace), spec), counted[on])
    assert counted[True].totals["traps"] < 0.7 * counted[False].totals["traps"]
    there = spec_at(cpus, cpus, time__feedback="none", memory__remote_ns=1500, **DISCO, **SMALL,
                    **sets)  # fmt: skip
    run_guest(guest, there, tmp_path / "u", TINY[guest.removesuffix("-sseg")])
    replay = replayed(tmp_path / "tTrue", there)
    assert replay.per_cpu == captured(tmp_path / "u").per_cpu


def test_identity_with_feedback(tmp_path):
    spec = spec_at(2, 2, vm__vcpus=3, monitor__slice_us=200, **DISCO, **SMALL)
    run_guest("database-sseg", spec, tmp_path / "t", TINY["database"])
    assert_same(replayed(without_results(tmp_path / "t"), spec), captured(tmp_path / "t"))


@pytest.mark.slow
def test_user_programs_retire_the_same_instructions_with_and_without():
    streams = set()
    for on in ("true", "false"):
        spec = resolve(machine="uniprocessor", monitor="disco",
                       sets=["machine.ram_bytes=16MiB", f"monitor.special_page={on}"])  # fmt: skip
        streams.add(user_stream(spec, "radix-sseg", TINY["radix"], 5_000_000))
    assert len(streams) == 1


def test_the_page_follows_its_virtual_cpu():
    """What stands in a record and what stands on a CPU name pages of the same machine."""
    guest = Guest("vm.vcpus=3", "monitor.slice_us=10", cpus=1)
    guest.program("sw $t1, 0($t0)\n nop\n again: beq $zero, $zero, again\n nop")
    guest.set(status=0, t0=OFFER, t1=PLACE)
    guest.step(2)
    m = guest.m
    guest.run(20_000)
    first, stride = int(m.p[layout.X_O_VCPU]), int(m.p[layout.X_VCPU_STRIDE])
    for which in range(3):
        at = first + which * stride
        held = m.mon[at + V_S + layout.S_SPECIAL]
        if m.mon[at + V_CPU] == 0:
            held = m.s[0, layout.S_SPECIAL]
        assert held == 1 + (PLACE + which * 4096) // 4
