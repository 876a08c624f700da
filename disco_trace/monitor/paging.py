"""Give pages frames of the pool, and take them: lending, reclaim, the monitor's swap disk.

Each machine has a share of the pool (`vm.pool_bytes`), the same for all. With `vm.lending` a
machine above its share takes frames that nobody uses. When none is left and a machine below its
share wants one, it is reclaimed from the machine that is furthest above its own: first a page that
can be read again from a disk's image, then the oldest other, which goes to the swap disk. A machine
at or above its share, or any without lending, gives up a page of its own instead.

The swap disk stands behind all other pages in `ram`. Whoever moves pages here has the rows of what
moved recorded (`record_moves`).
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper
from disco_trace.machine.actions import ask
from disco_trace.machine.emit import emit
from disco_trace.machine.layout import (
    S_BASE,
    S_CONTEXT,
    X_CONTENTS,
    X_CPUS,
    X_LENDING,
    X_O_PMAP,
    X_PAGES,
    X_POOL,
    X_SWAP,
    X_TLB,
    X_VMS,
)
from disco_trace.machine.slots import A_PAGE
from disco_trace.memory.events import PAGE_EVENT, TRAPS
from disco_trace.memory.pages import PAGE_LEND, PAGE_RECLAIM, PAGE_SWAP_IN, PAGE_SWAP_OUT
from disco_trace.monitor.frames import (
    first_guest_page,
    frames_in_use,
    in_memory,
    occupy,
    resident,
    vacate,
    vm_at,
)
from disco_trace.monitor.hardware import translates
from disco_trace.monitor.images import context_of
from disco_trace.monitor.layout import (
    AWAY,
    NO_FRAME,
    PMAP_NAME,
    PMAP_WORDS,
    R_NEXT,
    R_STATE,
    VM_CLEAN,
    VM_ENDED,
    VM_OTHER,
    VM_USED,
)
from disco_trace.monitor.pages import drop_translations
from disco_trace.trace.schema import MONITOR_CAUSES

SWAP = MONITOR_CAUSES.index("swap")
WRITE_OUT = MONITOR_CAUSES.index("io")
LEND = MONITOR_CAUSES.index("lend")
# What stands where a page is away: whoever reads it by mistake will see that it did.
POISON = 0xDEADF00D
NO_MACHINE = 0xFFFF
# Pages that hardware maps get a second chance, so many at a time.
CHANCES = 16


@helper
def bring_in(mc, page):
    """Have what a guest page shows in memory; what that moves is asked to be recorded."""
    if mc.p[X_POOL] == 0:
        return
    name = mc.mon[mc.p[X_O_PMAP] + page * PMAP_WORDS + PMAP_NAME] + 0
    if in_memory(mc, name):
        return
    away = mc.mon[resident(mc, name) + R_STATE] == AWAY
    first = first_guest_page(mc, name)
    take_frame(mc, first)
    occupy(mc, name)
    if away:
        move(mc, name + mc.p[X_SWAP], name)
        content = max(0, name - mc.p[X_CONTENTS])
        ask(mc.actions, A_PAGE, 0, PAGE_SWAP_IN, first, content, NO_MACHINE)


@helper
def claim(mc, m, cpu, page, zeroed, work):
    """Drop a page that its guest freed, or give one that it wants zeroed a frame; record it.

    Returns the work not yet recorded.
    """
    mc.actions[0, 0] = 0
    if zeroed:
        if mc.mon[resident(mc, page) + R_STATE] == AWAY:
            vacate(mc, page, NO_FRAME)
        bring_in(mc, page)
    else:
        vacate(mc, page, NO_FRAME)
    return record_moves(mc, m, cpu, work)


@helper
def take_frame(mc, page):
    """Find a frame for a guest page's machine: a free one, or one that a page has to leave."""
    vm = page // mc.p[X_PAGES]
    share = mc.p[X_POOL] // mc.p[X_VMS]
    at_share = mc.mon[vm_at(mc, vm) + VM_USED] >= share
    if frames_in_use(mc) < mc.p[X_POOL] and (mc.p[X_LENDING] != 0 or not at_share):
        if at_share:
            ask(mc.actions, A_PAGE, 0, PAGE_LEND, page, 0, NO_MACHINE)
        return
    victim = vm
    most = mc.mon[vm_at(mc, vm) + VM_USED] - share if at_share else np.int64(0)
    for other in range(mc.p[X_VMS]):
        used = mc.mon[vm_at(mc, other) + VM_USED]
        ended = mc.mon[vm_at(mc, other) + VM_ENDED] != 0
        if ended and used > most and mc.p[X_LENDING] != 0:
            # What a machine left that was switched off, others show. It has no share, but is not
            # emptied for others' sake: they would do without what they need themselves.
            victim = other
            most = used
        elif not at_share and used - share > most:
            victim = other
            most = used - share
    evict(mc, victim, vm)


@helper
def evict(mc, vm, taker):
    """Take a page from memory that is charged to a machine: clean ones first, then by age.

    But where a machine makes room for itself, one that is in use stays while another is not: two
    that one loop reads would take turns for ever.
    """
    name = oldest(mc, vm_at(mc, vm) + VM_CLEAN)
    clean = name >= 0
    if not clean or (vm == taker and mapped_by_hardware(mc, name)):
        other = oldest(mc, vm_at(mc, vm) + VM_OTHER)
        if other >= 0 and (not clean or not mapped_by_hardware(mc, other)):
            name = other
            clean = False
    if name < 0:
        return
    cpus = drop_translations(mc, name)
    move(mc, name, name + mc.p[X_SWAP])
    for word in range(name << 10, (name + 1) << 10):
        mc.ram[word] = POISON
        mc.ops[word] = 0
    event = PAGE_RECLAIM if clean else PAGE_SWAP_OUT
    content = max(0, name - mc.p[X_CONTENTS])
    first = first_guest_page(mc, name)
    ask(mc.actions, A_PAGE, 0, event, first, content, cpus << 16 | taker)
    vacate(mc, name, AWAY)


@helper
def oldest(mc, ends):
    """Return the oldest page of a list, or −1; one that hardware maps gets a second chance."""
    mon = mc.mon
    name = mon[ends] - 1
    for _ in range(CHANCES):
        if name >= 0 and mapped_by_hardware(mc, name) and mon[resident(mc, name) + R_NEXT] != 0:
            vacate(mc, name, AWAY)
            occupy(mc, name)
            name = mon[ends] - 1
    return name


@helper
def mapped_by_hardware(mc, name):
    """Tell whether any CPU's hardware TLB translates to a page."""
    for cpu in range(mc.p[X_CPUS]):
        for entry in range(mc.p[X_TLB]):
            if translates(mc.mon, cpu, entry, name):
                return True
    return False


@helper
def move(mc, source, target):
    """Copy a page of `ram` to another place."""
    for word in range(1024):
        mc.ram[(target << 10) + word] = mc.ram[(source << 10) + word]
        mc.ops[(target << 10) + word] = 0


@helper
def record_moves(mc, m, cpu, work):
    """Record what was asked for since `actions` were emptied; return the work not yet recorded."""
    for number in range(1, mc.actions[0, 0] + 1):
        record_page(mc, m, cpu, work, mc.actions[number])
        work = np.int64(0)
    mc.actions[0, 0] = 0
    return work


@helper
def record_page(mc, m, cpu, work, action):
    """Record an event in the life of a page, in a context of its machine, and what it took.

    The action's last word: the other machine, the CPUs that were interrupted (from bit 16 on), the
    other machine's page (from bit 32 on).
    """
    s = mc.s[cpu]
    context = s[S_CONTEXT]
    base = s[S_BASE]
    event = action[2]
    page = action[3]
    vm = page // mc.p[X_PAGES]
    other = action[5] & 0xFFFF
    cpus = action[5] >> 16 & 0xFFFF
    if base != (vm * mc.p[X_PAGES]) << 12:
        s[S_CONTEXT] = context_of(mc, m, vm)
        s[S_BASE] = (vm * mc.p[X_PAGES]) << 12
    emit(mc, m, cpu, PAGE_EVENT, work, event, page, other, 4096, action[4], action[5] >> 32)
    s[S_CONTEXT] = context
    s[S_BASE] = base
    if event == PAGE_SWAP_IN:
        emit(mc, m, cpu, TRAPS, 0, SWAP, 0, 0, 0, 0, 0)
    elif event == PAGE_SWAP_OUT or event == PAGE_RECLAIM:
        cause = WRITE_OUT if event == PAGE_SWAP_OUT else LEND
        emit(mc, m, cpu, TRAPS, 0, cause, 0, 0, 0, cpus << 32, 0)
