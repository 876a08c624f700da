"""Coprocessor 0: registers with their writable bits, and the TLB instructions.

Source: MIPS32 Architecture for Programmers, volume III, chapters 8 and 9.
"""

from __future__ import annotations

from disco_trace.jit import helper, inline
from disco_trace.machine.emit import emit, guest_address, set_context
from disco_trace.machine.exceptions import change_status
from disco_trace.machine.layout import (
    CAUSE,
    CAUSE_DC,
    COMPARE,
    COUNT,
    EBASE,
    ENTRYHI,
    ENTRYLO0,
    ENTRYLO1,
    INDEX,
    IP_TIMER,
    LLADDR,
    PAGEMASK,
    RANDOM,
    S_COUNT_OFFSET,
    S_DEADLINE,
    S_LLADDR,
    S_RANDOM_ORIGIN,
    STATUS,
    T_HI,
    T_LO0,
    T_LO1,
    T_MASK,
    TLB_WORDS,
    WIRED,
    X_FEEDBACK,
    X_FILTER,
    X_FPU,
    X_MAPPED,
    X_MONITOR,
    X_TLB,
)
from disco_trace.machine.registers import FPU_STATUS, WRITABLE
from disco_trace.machine.slots import NEVER
from disco_trace.machine.translate import find_entry
from disco_trace.memory.events import INTERRUPTS, TIMER_PROGRAMMED, TLB_OPS
from disco_trace.memory.layout import C_BASE, C_CLOCK, CPU_WORDS
from disco_trace.trace.schema import TLB_OPS as OPS

WRITE_INDEXED, WRITE_RANDOM, PROBE, READ, ASID = (
    OPS.index(name) for name in ("write_indexed", "write_random", "probe", "read", "asid")
)

TIMER_BITS = (1 << 30) | (1 << (8 + IP_TIMER))


@inline
def turn_clock(mc, m, cpu):
    """Return the clock that turns, Count and timers run on: with stalls, or without feedback."""
    at = cpu * CPU_WORDS
    return m.cpu[at + C_CLOCK] if mc.p[X_FEEDBACK] != 0 else m.cpu[at + C_BASE]


@helper
def read(mc, m, cpu, register, work):
    """Return a CP0 register's value after `work` base cycles since the last row."""
    k = mc.cp0[cpu]
    if register == COUNT:
        if k[CAUSE] & CAUSE_DC:
            return k[COUNT] + 0
        return ((turn_clock(mc, m, cpu) + work + mc.s[cpu, S_COUNT_OFFSET]) >> 1) & 0xFFFFFFFF
    if register == RANDOM:
        return random_entry(mc, m, cpu, work)
    if register == LLADDR:
        return (guest_address(mc, cpu, mc.s[cpu, S_LLADDR]) >> 4) & 0xFFFFFFFF
    return k[register] + 0


@helper
def random_entry(mc, m, cpu, work):
    """Return Random: it counts down from the last entry to Wired with the CPU's base cycles."""
    entries = mc.p[X_TLB]
    wired = mc.cp0[cpu, WIRED]
    if wired >= entries:
        return entries - 1
    since = m.cpu[cpu * CPU_WORDS + C_BASE] + work - mc.s[cpu, S_RANDOM_ORIGIN]
    return entries - 1 - since % (entries - wired)


@helper
def write(mc, m, cpu, register, value, work):
    """Write a CP0 register; return 1 if a row was emitted, which consumes `work`."""
    k = mc.cp0[cpu]
    s = mc.s[cpu]
    mask = WRITABLE[register]
    if register == COUNT:
        set_count(mc, m, cpu, value, work)
        return program_timer(mc, m, cpu, 1, work)
    if mask == 0:
        return 0
    new = (k[register] & ~mask & 0xFFFFFFFF) | (value & mask)
    if register == EBASE and mc.p[X_MONITOR] != 0 and mc.p[X_MAPPED] == 0:
        # Linked in the supervisor segment, the guest has its vectors there: bits 31, 30 count.
        new = (value & 0xFFFFF000) | (k[EBASE] & 0xFFF)
    if register == STATUS:
        if mc.p[X_FPU] != 0:
            new = (new & ~FPU_STATUS) | (value & FPU_STATUS)
        return change_status(mc, m, cpu, new, 1, s[0], work)
    if register == COMPARE:
        k[COMPARE] = new
        k[CAUSE] &= ~TIMER_BITS & 0xFFFFFFFF
        return program_timer(mc, m, cpu, 0, work)
    if register == CAUSE and (new ^ k[CAUSE]) & CAUSE_DC:
        # Count stops, or goes on from where it stopped.
        count = read(mc, m, cpu, COUNT, work)
        k[CAUSE] = new
        set_count(mc, m, cpu, count, work)
        return program_timer(mc, m, cpu, 1, work)
    if register == ENTRYHI:
        return change_entryhi(mc, m, cpu, new, work)
    k[register] = new
    if register == WIRED:
        # Random starts again at its upper bound.
        s[S_RANDOM_ORIGIN] = m.cpu[cpu * CPU_WORDS + C_BASE] + work
        if new >= mc.p[X_TLB]:
            k[WIRED] = mc.p[X_TLB] - 1
    return 0


@helper
def change_entryhi(mc, m, cpu, new, work):
    """Write EntryHi; a new ASID is a row, clears the page filter and changes the context."""
    k = mc.cp0[cpu]
    changed = (new ^ k[ENTRYHI]) & 255
    if changed:
        emit(mc, m, cpu, TLB_OPS, work, ASID, 0, new, 0, 0, 0)
        clear_filter(mc, cpu)
        clear_hints(mc, cpu)
    k[ENTRYHI] = new
    if changed:
        set_context(mc, m, cpu)
        return 1
    return 0


@inline
def set_count(mc, m, cpu, value, work):
    """Make Count have a value after `work` base cycles; Cause.DC keeps it there."""
    mc.cp0[cpu, COUNT] = value
    mc.s[cpu, S_COUNT_OFFSET] = (value << 1) - (turn_clock(mc, m, cpu) + work)


@helper
def program_timer(mc, m, cpu, least, work):
    """Compute when Count, at least so many counts from now, equals Compare, and record it.

    They are compared when Count advances and when Compare is written (`least` = 0): that raises the
    interrupt at once if they are equal. A write of Count alone does not, so that a program may
    clear it before it first writes Compare.
    """
    s = mc.s[cpu]
    k = mc.cp0[cpu]
    now = turn_clock(mc, m, cpu) + work
    if k[CAUSE] & CAUSE_DC:
        s[S_DEADLINE] = now if least == 0 and k[COUNT] == k[COMPARE] else NEVER
    else:
        half_cycles = now + s[S_COUNT_OFFSET]
        ahead = (k[COMPARE] - (half_cycles >> 1)) & 0xFFFFFFFF
        if ahead < least:
            ahead = 1 << 32
        s[S_DEADLINE] = now + 2 * ahead - (half_cycles & 1)
    emit(mc, m, cpu, INTERRUPTS, work, TIMER_PROGRAMMED, IP_TIMER, cpu, s[S_DEADLINE], 0, 0)
    return 1


@inline
def clear_filter(mc, cpu):
    """Empty the CPU's page filter."""
    for index in range(mc.p[X_FILTER]):
        mc.filter[cpu, index] = 0


@inline
def clear_hints(mc, cpu):
    """Forget where pages were found in the TLB: an entry of a lower number may match now."""
    for index in range(mc.hint.shape[1]):
        mc.hint[cpu, index] = 0


@helper
def tlb_write(mc, m, cpu, entry, how, work):
    """Write the TLB entry from EntryHi, EntryLo0/1 and PageMask, as a row of `tlb_ops`."""
    k = mc.cp0[cpu]
    emit(mc, m, cpu, TLB_OPS, work, how, entry, k[ENTRYHI], k[ENTRYLO0], k[ENTRYLO1], k[PAGEMASK])
    clear_filter(mc, cpu)
    if entry >= mc.p[X_TLB]:
        return
    at = entry * TLB_WORDS
    mask = k[PAGEMASK] & 0x1FFFE000
    both = k[ENTRYLO0] & k[ENTRYLO1] & 1
    mc.tlb[cpu, at + T_MASK] = mask
    mc.tlb[cpu, at + T_HI] = k[ENTRYHI] & ~mask & 0xFFFFFFFF
    mc.tlb[cpu, at + T_LO0] = (k[ENTRYLO0] & 0x3FFFFFFE) | both
    mc.tlb[cpu, at + T_LO1] = (k[ENTRYLO1] & 0x3FFFFFFE) | both
    if mask != 0:
        clear_hints(mc, cpu)
    else:
        page = (k[ENTRYHI] >> 12) & 254
        mc.hint[cpu, page] = 0
        mc.hint[cpu, page + 1] = 0


@helper
def tlb_read(mc, m, cpu, work):
    """Carry out TLBR; a changed ASID in EntryHi is a row of its own."""
    k = mc.cp0[cpu]
    entry = k[INDEX] & 63
    if entry >= mc.p[X_TLB]:
        emit(mc, m, cpu, TLB_OPS, work, READ, entry, 0, 0, 0, 0)
        return
    at = entry * TLB_WORDS
    row = mc.tlb[cpu]
    emit(
        mc, m, cpu, TLB_OPS, work, READ, entry,
        row[at + T_HI], row[at + T_LO0], row[at + T_LO1], row[at + T_MASK],
    )  # fmt: skip
    k[PAGEMASK] = row[at + T_MASK]
    k[ENTRYLO0] = row[at + T_LO0]
    k[ENTRYLO1] = row[at + T_LO1]
    change_entryhi(mc, m, cpu, row[at + T_HI] + 0, 0)


@helper
def tlb_probe(mc, m, cpu, work):
    """Carry out TLBP: Index becomes the matching entry, or bit 31."""
    k = mc.cp0[cpu]
    hi = k[ENTRYHI] + 0
    entry = find_entry(mc.tlb[cpu], mc.hint[cpu], mc.p[X_TLB], hi & 0xFFFFE000, hi & 255)
    k[INDEX] = entry if entry >= 0 else 0x80000000
    emit(mc, m, cpu, TLB_OPS, work, PROBE, k[INDEX], hi, 0, 0, 0)
