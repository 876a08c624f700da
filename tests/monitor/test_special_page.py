"""The special page: what it shows, what it takes over and when, and what a hostile guest gets."""

from __future__ import annotations

import random

import numpy as np
import pytest

from disco_trace.boot import memory_of
from disco_trace.jit import kernel
from disco_trace.machine import layout
from disco_trace.monitor.layout import (
    AWAY,
    IN_MEMORY,
    PMAP_WORDS,
    R_STATE,
    R_WORDS,
    V_GPR,
    V_S,
    vm_record,
)
from disco_trace.monitor.pages import new_content, show
from disco_trace.monitor.special import SHOWN, SPECIAL
from disco_trace.trace.schema import MONITOR_CAUSES
from tests.machine.assemble import CP0, assemble
from tests.machine.board import CODE, Board
from tests.machine.robust import random_word, scramble
from tests.monitor.guest import Guest
from tests.monitor.test_guests import DISCO, MAPPED, SMALL
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
IE, EXL, SUPERVISOR, USER, TIMER, BEV = 1, 2, 8, 0x10, 0x8000, 1 << 22
PRIVILEGED, TLB_FAULT, DIRECT, COPY_ON_WRITE = (
    MONITOR_CAUSES.index(name) for name in ("privileged", "tlb_fault", "kseg0", "copy_on_write")
)
NUMBER = {8 * number + select: name for name, (number, select) in CP0.items()}


def with_page(*sets: str, place: int = PLACE) -> Guest:
    """Return a virtual machine whose kernel has said where its special page lies; s7 = SPECIAL."""
    guest = Guest(*sets)
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
    causes = [cause for cause in guest.traps() if cause not in (TLB_FAULT, DIRECT)]
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
        causes = go(guest, f"lw $t1, {4 * int(register)}($s7)\n mfc0 $t2, {name}", 2)
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
        causes = go(guest, f"sw $t1, {at}($s7)\n mfc0 $t2, {name}\n lw $t3, {at}($s7)", 3,
                    t1=0xFFFFFFFF)  # fmt: skip
        assert causes == [PRIVILEGED]
        assert guest.get("t2") & mask == mask
        assert guest.get("t3") == guest.get("t2")
    # What acts at once is shown, but not taken.
    for name in ("entryhi", "wired", "compare", "cause", "badvaddr", "config"):
        number, select = CP0[name]
        before = guest.get(name)
        go(guest, f"sw $t1, {4 * (8 * number + select)}($s7)\n mfc0 $t2, {name}", 2, t1=~before)
        assert guest.get("t2") == before == guest.get(name)


def test_an_interrupt_comes_when_a_store_has_enabled_it():
    """Enabled before it comes: no further trap of the guest's is needed."""
    guest = with_page()
    go(guest, "mtc0 $t1, status", 1, t1=TIMER)
    go(guest, "mfc0 $t1, count\n addiu $t1, $t1, 60\n mtc0 $t1, compare", 3)
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
    go(guest, "mtc0 $t1, status\n nop", 2, t1=TIMER | IE)
    go(guest, "mfc0 $t1, count\n addiu $t1, $t1, 30\n mtc0 $t1, compare", 3)
    go(guest, "sw $t1, 384($s7)" + "\n nop" * 200, 150, t1=TIMER)
    assert guest.get("pc") > 0x80002000
    assert guest.get("cause") & TIMER
    assert shown(guest, layout.CAUSE) & TIMER


def test_one_that_waits_is_shown_and_comes_at_the_next_trap():
    guest = with_page()
    go(guest, "mtc0 $t1, status\n nop", 2, t1=TIMER)
    go(guest, "mfc0 $t1, count\n addiu $t1, $t1, 30\n mtc0 $t1, compare" + "\n nop" * 200, 150)
    causes = go(guest, "sw $t1, 384($s7)\n lw $t2, 416($s7)\n nop\n nop", 4, t1=TIMER | IE)
    assert causes == []
    assert guest.get("t2") & 0xFF00 == TIMER
    assert guest.get("pc") == 0x80002010
    causes = go(guest, "mtc0 $t1, status\n addiu $t3, $zero, 7", 1, t1=TIMER | IE, t3=0)
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
    go(guest, "sw $t1, 384($s7)\n mfc0 $t2, status", 2, t1=USER | TIMER)
    assert guest.get("t2") == TIMER
    assert shown(guest, layout.STATUS) == TIMER
    guest = with_page()
    guest.program("lw $t1, 0($t0)", 0x80002000)
    guest.set(t0=0x5000)
    guest.run(4, stop=0x80000000)
    assert int(guest.m.s[0, layout.S_REFILL]) == 1
    go(guest, "sw $zero, 384($s7)\n mfc0 $t2, status", 2)
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
    """The same address shows each its own registers."""
    guest = Guest(cpus=2)
    text = "sw $t1, 0($t0)\n lw $t0, 128($s7)\n again: beq $zero, $zero, again\n nop"
    guest.program(text, 0x80003000)
    for cpu in (0, 1):
        guest.set(cpu, context=(cpu + 5) << 23, s7=SPECIAL, status=0, t0=OFFER)
        guest.set(cpu, t1=PLACE + 4096 * cpu)
        guest.jump(0x80003000, cpu)
    guest.run(300)
    assert guest.get("t0", 0) == 5 << 23
    assert guest.get("t0", 1) == 6 << 23
    assert guest.word(PLACE + 4096 + 128) == 6 << 23


@pytest.mark.parametrize("place", [0xFFFFFFFF, 0xFFFFF000, 0x01000000, 0x80300000, 0x1F002000])
def test_a_page_that_is_no_memory_is_none(place):
    guest = with_page("vm.count=2", "vm.vcpus=1")
    assert guest.m.s[0, layout.S_SPECIAL] != 0
    go(guest, "lw $t1, 0($s7)", 1)  # hardware holds the page
    before = guest.m.ram.copy()
    go(guest, "sw $t1, 0($t0)\n nop", 2, t0=OFFER, t1=place)
    assert guest.m.s[0, layout.S_SPECIAL] == 0
    guest.words(0x80002000, before[0x2000 >> 2 : (0x2000 >> 2) + 4])
    assert (guest.m.ram == before).all()
    guest.program("lw $t1, 0($s7)", 0x80002000)
    guest.run(4, stop=0x80000000)
    assert guest.get("badvaddr") == SPECIAL


@pytest.mark.parametrize(("mode", "code"), [(USER, 4), (SUPERVISOR, 2)])  # AdEL, TLBL
def test_user_and_supervisor_programs_do_not_reach_it(mode, code):
    guest = with_page()
    guest.tlb(1, 0x00400000, 0x10 << 6 | 0x1F, 0x11 << 6 | 0x1F)
    go(guest, "lw $t1, 128($s7)\n nop", 2)  # hardware holds the page
    guest.program("eret", 0x80002000)
    guest.words(0x80010000, np.array([0x8EEA0080, 0], np.uint32))  # lw $t2, 128($s7)
    guest.m.s[0, layout.S_OPEN] = 1
    guest.set(status=mode | EXL, epc=0x00400000, context=0xFF800000, t2=0)
    guest.run(4, stop=0x80000180 if mode == USER else 0x80000000)
    assert guest.get("cause") >> 2 & 31 == code
    assert guest.get("badvaddr") == SPECIAL + 128
    assert guest.get("t2") == 0


def disturb(seed: int, undisturbed) -> None:
    """Random code beside a machine that works; its special page is filled with garbage."""
    rng = random.Random(seed)
    guest, memory = neighbours()
    m = guest.m
    place = rng.choice((0, 0x10000, PLACE, 0x00FFF000))  # vectors and code among them
    m.p[layout.X_SPECIAL] = 1
    own = [array[1].copy() for array in (m.gpr, m.cp0, m.fpr, m.s, m.tlb)]
    scramble(guest, rng, [random_word(rng) for _ in range(20_000)])
    for array, row in zip((m.gpr, m.cp0, m.fpr, m.s, m.tlb), own, strict=True):
        array[1] = row
    m.s[0, layout.S_SPECIAL], m.s[0, layout.S_OPEN] = 1 + place // 4096, 1
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


# Gives pages at random addresses below 32 MiB, and stores random words into them, for ever.
HOSTILE = """
again:
    sll   $t1, $s0, 13
    xor   $s0, $s0, $t1
    srl   $t1, $s0, 17
    xor   $s0, $s0, $t1
    sll   $t1, $s0, 5
    xor   $s0, $s0, $t1
    andi  $t2, $s0, 0xF0
    bne   $t2, $zero, store
    srl   $t3, $s0, 7
    sw    $t3, 0($s1)
store:
    andi  $t4, $t3, 0x3FC
    addu  $t4, $t4, $s7
    and   $t5, $s0, $s3
    sw    $t5, 0($t4)
    beq   $zero, $zero, again
    mfc0  $t5, cause
"""
BACK = "lui $k0, 0x8000\n ori $k0, $k0, 0x1000\n mtc0 $zero, status\n jr $k0\n nop"


@pytest.mark.parametrize("pool", [(), ("vm.pool_bytes=640KiB",)], ids=["roomy", "pool"])
@pytest.mark.parametrize("seed", range(3))
def test_pages_at_random_addresses_reach_nobody_else(seed, pool, undisturbed):
    guest, _ = neighbours(*pool)
    m = guest.m
    words, back = assemble(HOSTILE, CODE), assemble(BACK, 0x80000000)
    given = set()

    def again() -> None:
        """Put it back on its feet: it may have lost its way, its code and its registers."""
        assert not (m.gpr[0] == SECRET).any()
        given.add(int(m.s[0, layout.S_SPECIAL]))
        for at in (0x80000000, 0x80000180):
            guest.words(at, back)
        guest.words(CODE, words)
        guest.set(0, status=0, s0=int(m.gpr[0, 16]) | 1 + seed, s1=OFFER, s3=~BEV, s7=SPECIAL)
        m.s[0, [layout.S_SPECIAL, layout.S_OPEN]] = 0
        m.s[0, [layout.S_WAITING, layout.S_FRUITLESS]] = 0
        guest.jump(CODE, 0)

    again()
    finish(guest, again)
    assert len(given) > 5
    memory = memory_of(m, 1).view(np.uint32)
    assert (memory == undisturbed[0][: len(memory)]).all()
    assert not (memory_of(m, 0).view(np.uint32) == SECRET).any()
    assert (m.gpr[1, :34] == undisturbed[1][:34]).all()
    assert vm_record(m, 1)[4] == 0  # not switched off


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_much_garbage_reaches_nobody_else(seed, undisturbed):
    disturb(seed, undisturbed)


FORMS = {
    "one CPU": ("services-sseg", 1, {}),
    "four CPUs": ("database-sseg", 4, {"vm__count": 2}),
    "crowded": ("radix-sseg", 2, {"vm__count": 2, "vm__vcpus": 3, "monitor__slice_us": 200}),
    "mapped KSEG0": ("engineering", 2, MAPPED),
    "few frames": ("database-sseg", 2, {"vm__count": 2, "vm__pool_bytes": 4 << 20}),
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
    counted = captured(tmp_path / "t")
    assert_same(replayed(without_results(tmp_path / "t"), spec), counted)


def test_the_page_follows_its_virtual_cpu():
    """Of three that take turns on a CPU each reads the Context that it wrote."""
    guest = Guest("vm.vcpus=3", "monitor.slice_us=10", cpus=1)
    guest.program("""
        rdhwr $t2, $0
        sll   $t3, $t2, 12
        addu  $t1, $t1, $t3
        sw    $t1, 0($t0)
        addiu $t2, $t2, 5
        sll   $t2, $t2, 23
        sw    $t2, 128($s7)
    again:
        lw    $t4, 128($s7)
        beq   $t4, $t2, again
        nop
    stay:
        beq   $zero, $zero, stay
        addiu $v0, $zero, 1
    """)
    m = guest.m
    first, stride = int(m.p[layout.X_O_VCPU]), int(m.p[layout.X_VCPU_STRIDE])
    for which in range(3):
        at = first + which * stride
        m.mon[at + V_S + layout.S_PC : at + V_S + layout.S_NPC + 1] = CODE, CODE + 4
        for register, value in ((8, OFFER), (9, PLACE), (23, SPECIAL)):
            m.mon[at + V_GPR + register] = value
    guest.set(status=0, t0=OFFER, t1=PLACE, s7=SPECIAL)
    guest.run(60_000)
    assert [shown(guest, layout.CONTEXT, PLACE + 4096 * n) >> 23 for n in range(3)] == [5, 6, 7]
    assert [int(m.mon[first + n * stride + V_GPR + 2]) for n in range(3)] == [0, 0, 0]


def state_of(m, page: int) -> int:
    """Return where a guest page's own memory is, with a pool."""
    return int(m.mon[int(m.p[layout.X_O_RESIDENT]) + 1 + page * R_WORDS + R_STATE])


@kernel
def share(mc, one, other):
    """Let two guest pages show a new content; return its number."""
    content = new_content(mc, 0)
    show(mc, one, content)
    show(mc, other, content)
    return content


def test_a_page_on_the_swap_disk_comes_back_with_the_registers():
    """What the guest stored before it left counts; what is its own in the page stays."""
    guest = with_page("vm.pool_bytes=320KiB")
    m = guest.m
    page = PLACE >> 12
    go(guest, "sw $t1, 384($s7)\n sw $t2, 0x800($s7)", 2, t1=TIMER, t2=0x1234)
    assert state_of(m, page) == IN_MEMORY
    go(guest, "again: sw $zero, 0($t0)\n addiu $t0, $t0, 4096\n addiu $t1, $t1, -1\n"
       "bne $t1, $zero, again\n nop", 5 * 200, t0=0x80400000, t1=200)  # fmt: skip
    assert state_of(m, page) == AWAY
    poisoned = m.ram[PLACE >> 2]
    go(guest, "mfc0 $t2, status\n mtc0 $t1, context", 2, t1=7 << 23)
    assert guest.get("t2") == TIMER
    assert state_of(m, page) == AWAY
    assert (m.ram[PLACE >> 2 : (PLACE >> 2) + 1024] == poisoned).all()  # not written to
    go(guest, "lw $t1, 128($s7)\n lw $t2, 0x800($s7)\n lw $t3, 384($s7)", 3)
    assert guest.get("t1") == 7 << 23
    assert guest.get("t2") == 0x1234
    assert guest.get("t3") == TIMER


def test_a_shared_page_is_copied_before_registers_are_shown():
    guest = with_page("vm.count=2", "vm.vcpus=1", "vm.share=true")
    m = guest.m
    page, other = PLACE >> 12, int(m.p[layout.X_PAGES]) + 5
    m.s[0, layout.S_OPEN] = 1  # the monitor is entered, and its page is shared meanwhile
    content = int(share(m, other, page))
    place = (int(m.p[layout.X_CONTENTS]) + content) << 10
    m.ram[place : place + 1024] = SECRET
    go(guest, "mfc0 $t1, status\n mtc0 $t1, context", 2)
    assert (m.ram[place : place + 1024] == SECRET).all()
    name = int(m.p[layout.X_O_PMAP]) + page * PMAP_WORDS
    assert m.mon[name] == m.p[layout.X_CONTENTS] + content
    causes = go(guest, "lw $t1, 128($s7)\n mfc0 $t2, context\n lw $t3, 0x800($s7)", 3)
    assert causes == [COPY_ON_WRITE, PRIVILEGED]
    assert guest.get("t1") == guest.get("t2")
    assert guest.get("t3") == SECRET
    assert (m.ram[place : place + 1024] == SECRET).all()
