"""Write rows of the trace, and let each act on the memory system as it will in a replay."""

from __future__ import annotations

import numpy as np

from disco_trace.jit import expand, helper, inline
from disco_trace.machine.layout import (
    ASIDS,
    CONTEXT_WORDS,
    ENTRYHI,
    G_CONTEXTS,
    G_EVENTS,
    G_PAGE_ROWS,
    G_REFS,
    G_SEQ,
    PHASE_DEPTH,
    S_BASE,
    S_CONTEXT,
    S_DATA,
    S_EXTRA,
    S_PENDING,
    S_PHASE_DEPTH,
    S_PHASES,
    S_REFILL,
    S_RETIRED,
    S_SINCE,
    S_VCPU,
    S_VM,
    STATUS,
    X_CONTENTS,
    X_EVENTS,
    X_MONITOR,
    X_O_MEMMAP,
    X_O_PMAP,
    X_PAGES,
)
from disco_trace.memory.events import CONTEXTS, DMA, PAGE_EVENT, TICKS, control
from disco_trace.memory.layout import C_CLOCK, CPU_WORDS
from disco_trace.memory.system import cached, enter, uncommon
from disco_trace.monitor.layout import (
    C_FIRST,
    CONTENT_WORDS,
    PMAP_NEXT,
    PMAP_WORDS,
)

KERNEL, SUPERVISOR, USER, REFILL = range(4)


@helper
def shower(mc, cpu, page):
    """Return the page of the machine here that shows a content: its number in the machine."""
    base = mc.s[cpu, S_BASE] >> 12
    first = mc.p[X_O_MEMMAP] + (page - mc.p[X_CONTENTS]) * CONTENT_WORDS + C_FIRST
    number = mc.mon[first] - 1
    while number >= 0:
        if base <= number < base + mc.p[X_PAGES]:
            return number - base
        number = mc.mon[mc.p[X_O_PMAP] + number * PMAP_WORDS + PMAP_NEXT] - 1
    return mc.p[X_PAGES]


@helper
def guest_address(mc, cpu, address):
    """Return what the machine here calls an address in `ram`."""
    if address >> 12 < mc.p[X_CONTENTS]:
        return address - mc.s[cpu, S_BASE]
    return shower(mc, cpu, address >> 12) << 12 | (address & 4095)


@inline
def write_ref(mc, m, cpu, kind, way, vaddr, page, pc, work):
    """Write a row of `refs` and close the work before it; return its sequence number."""
    g = mc.g
    context = mc.s[cpu, S_CONTEXT]
    seq = g[G_SEQ]
    g[G_SEQ] = seq + 1
    if mc.p[X_EVENTS] != 0:
        row = mc.refs[g[G_REFS]]
        g[G_REFS] += 1
        row["seq"] = seq
        row["cycle"] = m.cpu[cpu * CPU_WORDS + C_CLOCK] + work
        row["vaddr"] = vaddr
        # In the trace pages have the machine's own numbers, `page` counts all machines' densely.
        number = page - (mc.s[cpu, S_BASE] >> 12)
        row["guest_page"] = number if page < mc.p[X_CONTENTS] else shower(mc, cpu, page)
        row["pc"] = pc
        row["work"] = work
        row["context"] = context
        row["cpu"] = cpu
        row["kind"] = kind
        row["way"] = way
    mc.s[cpu, S_SINCE] += work
    enter(m, cpu, context, work)
    return seq


@expand
def emit_ref(mc, m, cpu, kind, way, vaddr, page, pc, work):
    """Record a first-level miss or first write made after `work` base cycles; carry it out."""
    seq = write_ref(mc, m, cpu, kind, way, vaddr, page, pc, work)
    cached(m, cpu, kind, way, vaddr, page, seq, pc)


@inline
def emit_uncommon(mc, m, cpu, kind, way, vaddr, page, pc, work):
    """Record any other kind of reference and carry it out."""
    write_uncommon(
        mc, m, np.int64(cpu), np.int64(kind), np.int64(way), np.int64(vaddr), np.int64(page),
        np.int64(pc), np.int64(work),
    )  # fmt: skip


@helper
def write_uncommon(mc, m, cpu, kind, way, vaddr, page, pc, work):
    """Write the row of an uncommon reference and carry it out."""
    seq = write_ref(mc, m, cpu, kind, way, vaddr, page, pc, work)
    uncommon(m, cpu, kind, way, vaddr, page, seq)


@inline
def emit_page(mc, cpu, kind, vaddr):
    """Record a page reference that missed the page filter."""
    g = mc.g
    if mc.p[X_EVENTS] != 0:
        row = mc.pages[g[G_PAGE_ROWS]]
        g[G_PAGE_ROWS] += 1
        row["seq"] = g[G_SEQ]
        row["vaddr"] = vaddr
        row["context"] = mc.s[cpu, S_CONTEXT]
        row["cpu"] = cpu
        row["kind"] = kind


@inline
def emit(mc, m, cpu, kind, work, a0, a1, a2, a3, a4, a5):
    """Record a control row after `work` base cycles, in the CPU's present context.

    The casts give `write_row` one signature, so that it is compiled once.
    """
    write_row(
        mc, m, np.int64(cpu), np.int64(kind), np.int64(work), np.int64(a0), np.int64(a1),
        np.int64(a2), np.int64(a3), np.int64(a4), np.int64(a5),
    )  # fmt: skip


@helper
def write_row(mc, m, cpu, kind, work, a0, a1, a2, a3, a4, a5):
    """Write a control row and carry it out."""
    g = mc.g
    s = mc.s[cpu]
    context = s[S_CONTEXT]
    instructions = s[S_SINCE] + work - s[S_EXTRA]
    s[S_SINCE] = 0
    s[S_EXTRA] = 0
    s[S_RETIRED] += instructions
    seq = g[G_SEQ]
    g[G_SEQ] = seq + 1
    if mc.p[X_EVENTS] != 0:
        row = mc.events[g[G_EVENTS]]
        g[G_EVENTS] += 1
        row["seq"] = seq
        row["cycle"] = m.cpu[cpu * CPU_WORDS + C_CLOCK] + work
        row["work"] = work
        row["instructions"] = instructions
        row["a0"] = a0
        row["a1"] = a1 - (s[S_BASE] >> 12) if kind == PAGE_EVENT else a1
        row["a2"] = a2
        row["a3"] = a3 - s[S_BASE] if kind == DMA else a3
        row["a4"] = a4
        row["a5"] = a5
        row["context"] = context
        row["kind"] = kind
        row["cpu"] = cpu
    control(m, kind, cpu, context, work, instructions, seq, a0, a1, a2, a3, a4, a5)


@helper
def close_work(mc, m, cpu):
    """Close a CPU's interval of work with a row of `ticks`; not for the CPU whose turn it is."""
    s = mc.s[cpu]
    if s[S_PENDING] != 0 or s[S_SINCE] != 0 or s[S_DATA] != 0:
        work = s[S_PENDING]
        s[S_PENDING] = 0
        emit(mc, m, cpu, TICKS, work, s[S_DATA], 0, 0, 0, 0, 0)
        s[S_DATA] = 0


@inline
def hardware_mode(mc, cpu):
    """Return the mode that the CPU is in: a guest's kernel runs in supervisor mode."""
    mode = mode_of(mc.cp0[cpu, STATUS], mc.s[cpu, S_REFILL])
    return SUPERVISOR if mode == KERNEL and mc.p[X_MONITOR] != 0 else mode


@inline
def mode_of(status, refill):
    """Return the mode that a Status value stands for; REFILL inside a TLB refill handler."""
    if status & 6:
        return REFILL if refill and status & 2 else KERNEL
    ksu = (status >> 3) & 3
    if ksu == 0:
        return KERNEL
    return SUPERVISOR if ksu == 1 else USER


@helper
def set_context(mc, m, cpu):
    """Recompute the CPU's context after a change of mode, address space or phase.

    What is seen for the first time (address space, its process's name, phase) is announced by a
    `contexts` row: an address space that gets another name gets other contexts. When the table is
    full the first context stands for what does not fit.
    """
    s = mc.s[cpu]
    k = mc.cp0[cpu]
    mode = hardware_mode(mc, cpu)
    asid = k[ENTRYHI] & 255
    vm = s[S_VM]
    vcpu = s[S_VCPU]
    depth = s[S_PHASE_DEPTH]
    phase = s[S_PHASES + min(depth, PHASE_DEPTH) - 1] if depth > 0 else 0
    process = mc.processes[vm * ASIDS + asid]
    table = mc.contexts
    current = s[S_CONTEXT] >> 2
    known = mc.g[G_CONTEXTS]
    if (
        current < known
        and table[current, 0] == vm
        and table[current, 1] == vcpu
        and table[current, 2] == asid
        and table[current, 3] == phase
        and table[current, 4] == process
    ):
        s[S_CONTEXT] = current * 4 + mode
        return
    for index in range(known):
        if table[index, 1] == vcpu and table[index, 2] == asid and table[index, 3] == phase:
            if table[index, 4] == process and table[index, 0] == vm:
                s[S_CONTEXT] = index * 4 + mode
                return
    if known >= table.shape[0]:
        s[S_CONTEXT] = mode
        return
    table[known, 0] = vm
    table[known, 1] = vcpu
    table[known, 2] = asid
    table[known, 3] = phase
    table[known, 4] = process
    mc.g[G_CONTEXTS] = known + 1
    emit(mc, m, cpu, CONTEXTS, 0, known, vm, vcpu, asid, phase, 0)
    s[S_CONTEXT] = known * 4 + mode


assert CONTEXT_WORDS >= 5
