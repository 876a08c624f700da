"""What a guest tells about itself: its pages, its phases, the processes behind address spaces."""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper
from disco_trace.machine.emit import close_work, emit, set_context
from disco_trace.machine.layout import (
    ASIDS,
    ENTRYHI,
    G_NAMES,
    G_PHASE_LOST,
    G_SAVE,
    MAX_NAMES,
    NAME_BYTES,
    PHASE_DEPTH,
    S_BASE,
    S_EXTRA,
    S_LL,
    S_LLADDR,
    S_PHASE_DEPTH,
    S_PHASES,
    S_RETIRED,
    S_SINCE,
    S_VM,
    X_CPUS,
    X_PAGES,
    X_POOL,
    X_RAM,
    X_SAVE,
    X_SAVE_VM,
    X_SHARING,
)
from disco_trace.memory.events import (
    PAGE_EVENT,
    PHASES,
    PROCESSES,
)
from disco_trace.memory.pages import PAGE_ALLOCATE, PAGE_CLASS, PAGE_FREE, PAGE_ZERO
from disco_trace.monitor.pages import drop_translations, real, shows_content, withdraw
from disco_trace.monitor.paging import claim


@helper
def mark(mc, m, cpu, offset, value, work):
    """Take a store to the board's marks; return 1 if a row was written, which consumes `work`."""
    if offset == 0x10:
        return process_mark(mc, m, cpu, value, work)
    if offset == 0x14:
        return phase_mark(mc, m, cpu, np.int64(np.int32(value)), work)
    page = (value >> 12) & 0xFFFFF
    event = -1
    content = 0
    if offset == 0x0:
        event = PAGE_ALLOCATE
    elif offset == 0x4:
        event = PAGE_FREE
    elif offset == 0x8:
        event = PAGE_ZERO
    elif offset == 0xC:
        event = PAGE_CLASS
        page = value >> 4
        content = value & 15
    if event < 0 or page >= mc.p[X_PAGES]:
        return 0
    page += mc.s[cpu, S_BASE] >> 12
    if mc.p[X_SHARING] != 0 and (event == PAGE_FREE or event == PAGE_ZERO):
        if shows_content(mc, page):
            withdraw(mc, page)
    if mc.p[X_POOL] != 0 and (event == PAGE_FREE or event == PAGE_ZERO):
        drop_translations(mc, page)
        work = claim(mc, m, cpu, page, event == PAGE_ZERO, work)
    emit(mc, m, cpu, PAGE_EVENT, work, event, page, 0, 4096, content, 0)
    if event == PAGE_ZERO:
        for other in range(mc.p[X_CPUS]):
            if mc.s[other, S_LLADDR] >> 12 == page:
                mc.s[other, S_LL] = 0
        for index in range(page << 10, (page + 1) << 10):
            mc.ram[index] = 0
            mc.ops[index] = 0
    return 1


@helper
def phase_mark(mc, m, cpu, number, work):
    """Open phase n > 0 on this CPU, or close −n if it is open; return 1 if a row was written."""
    s = mc.s[cpu]
    depth = s[S_PHASE_DEPTH]
    if number > 0:
        if depth >= PHASE_DEPTH:
            mc.g[G_PHASE_LOST] += 1
            return 0
        retired = s[S_RETIRED] + s[S_SINCE] + work - s[S_EXTRA]
        emit(mc, m, cpu, PHASES, work, 0, number, retired, depth + 1, 0, 0)
        s[S_PHASES + depth] = number
        s[S_PHASE_DEPTH] = depth + 1
        if number == mc.p[X_SAVE] and s[S_VM] == mc.p[X_SAVE_VM]:
            mc.g[G_SAVE] = 1
    else:
        found = -1
        for level in range(depth):
            if s[S_PHASES + level] == -number:
                found = level
        if found < 0:
            mc.g[G_PHASE_LOST] += 1
            return 0
        retired = s[S_RETIRED] + s[S_SINCE] + work - s[S_EXTRA]
        emit(mc, m, cpu, PHASES, work, 1, -number, retired, depth - 1, 0, 0)
        for level in range(found, depth - 1):
            s[S_PHASES + level] = s[S_PHASES + level + 1]
        s[S_PHASE_DEPTH] = depth - 1
    set_context(mc, m, cpu)
    return 1


@helper
def process_mark(mc, m, cpu, record, work):
    """Give an address space the name in a record of RAM; return 1 if a row was written.

    The record is the ASID in a word and up to `NAME_BYTES` of text, which a zero byte ends. CPUs
    that run in the address space close their work and change to a context of the new name.
    """
    record &= ~3
    if record + 4 + NAME_BYTES > mc.p[X_RAM]:
        return 0
    vm = mc.s[cpu, S_VM]
    asid = mc.ram[real(mc, vm, record) >> 2] + 0
    if asid >= ASIDS:
        return 0
    name = name_number(mc, vm, record + 4)
    emit(mc, m, cpu, PROCESSES, work, vm, asid, name, 0, 0, 0)
    mc.processes[vm * ASIDS + asid] = 1 + name
    for other in range(mc.p[X_CPUS]):
        if mc.cp0[other, ENTRYHI] & 255 == asid and mc.s[other, S_VM] == vm:
            if other != cpu:
                close_work(mc, m, other)
            set_context(mc, m, other)
    return 1


@helper
def name_number(mc, vm, text):
    """Return the number of the name at a physical address, a new one if it was not seen before.

    When the table is full, all that is new has the number behind it; its last row is scratch.
    """
    known = mc.g[G_NAMES]
    row = mc.names[min(known, MAX_NAMES)]
    ended = False
    for at in range(NAME_BYTES):
        place = real(mc, vm, text + at)
        byte = (mc.ram[place >> 2] >> (8 * (place & 3))) & 255
        ended = ended or byte == 0
        row[at] = 0 if ended else byte
    for number in range(known):
        same = True
        for at in range(NAME_BYTES):
            same = same and mc.names[number, at] == row[at]
        if same:
            return number
    if known < MAX_NAMES:
        mc.g[G_NAMES] = known + 1
    return known
