"""The special page: privileged registers without side effects, in memory of the guest's own.

Each virtual CPU may have one: a page that its guest gives and that the monitor shows the guest's
kernel, and nobody else, at SPECIAL. Word i is CP0 register i (number × 8 + select). The guest loads
from it in place of MFC0 and stores to it in place of MTC0, without a trap; so it enables and
disables interrupts, too. The rest of the page is the guest's.

Only entries of the monitor look at the page. `pull` takes over what the guest has stored, masked as
by MTC0; then `Machine.cp0` is the truth (S_OPEN), until `show_registers` writes what has become of
it, before the guest goes on. The page is paged out, shared and freed like any other. While it is
not in memory of its own nothing is written to it, and it stays open: the guest's next access is a
fault that brings it back.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline
from disco_trace.machine.emit import mode_of
from disco_trace.machine.layout import (
    BADVADDR,
    CAUSE,
    COMPARE,
    CONFIG,
    CONFIG1,
    CONTEXT,
    EBASE,
    ENTRYHI,
    ENTRYLO0,
    ENTRYLO1,
    EPC,
    ERROREPC,
    INDEX,
    PAGEMASK,
    S_BASE,
    S_OPEN,
    S_REFILL,
    S_SEEN,
    S_SPECIAL,
    STATUS,
    WIRED,
    X_CONTENTS,
    X_FPU,
    X_O_PMAP,
    X_PAGES,
    X_SPECIAL,
)
from disco_trace.machine.registers import FPU_STATUS, WRITABLE
from disco_trace.monitor.frames import in_memory, place_of
from disco_trace.monitor.hardware import drop
from disco_trace.monitor.layout import PMAP_NAME, PMAP_WORDS
from disco_trace.trace.schema import SPECIAL

LINES = 0xFF00

# What the page shows, and what of it a store changes, beside Status. Writes of the others (time,
# interrupts, address space, Wired, cacheability) act at once, and trap.
SHOWN = np.array(
    [
        INDEX, ENTRYLO0, ENTRYLO1, CONTEXT, PAGEMASK, WIRED, BADVADDR, ENTRYHI, COMPARE, STATUS,
        CAUSE, EPC, EBASE, CONFIG, CONFIG1, ERROREPC,
    ]
)  # fmt: skip
TAKEN = np.array([INDEX, ENTRYLO0, ENTRYLO1, CONTEXT, PAGEMASK, EPC, ERROREPC])
EXL_AND_KSU, ERL = 0x1A, 4


@inline
def offered(mc):
    """Return where a guest's kernel finds its special page, or 0 if there is none for it."""
    return SPECIAL if mc.p[X_SPECIAL] != 0 else 0


@helper
def give_page(mc, cpu, address):
    """Take the page of the guest at a physical address for the special page of its virtual CPU.

    Where the machine has no memory the virtual CPU has no special page.
    """
    if mc.p[X_SPECIAL] == 0:
        return
    page = (address & 0xFFFFFFFF) >> 12
    s = mc.s[cpu]
    s[S_SPECIAL] = (s[S_BASE] >> 12) + page + 1 if page < mc.p[X_PAGES] else 0
    s[S_OPEN] = 1
    drop(mc, cpu, SPECIAL, 0, 0x2000, 1)


@inline
def is_special(mc, cpu, vaddr):
    """Tell whether an address of the guest's kernel lies in the special page."""
    return mc.s[cpu, S_SPECIAL] != 0 and vaddr & 0xFFFFF000 == SPECIAL


@inline
def special_pair(mc, cpu):
    """Return the pair of EntryLo around SPECIAL: nothing below it, the guest's page in it."""
    page = mc.s[cpu, S_SPECIAL] - 1 - (mc.s[cpu, S_BASE] >> 12)
    return 1, (page << 6) | 0x1F


@inline
def name_of_page(mc, cpu):
    """Return the page of `ram` that the special page shows."""
    at = mc.p[X_O_PMAP] + (mc.s[cpu, S_SPECIAL] - 1) * PMAP_WORDS
    return mc.mon[at + PMAP_NAME] + 0


@helper
def pull(mc, cpu):
    """Take over what the guest has stored in its special page: the monitor is entered.

    Of Status all that MTC0 writes but ERL. EXL and KSU count only where they leave the mode as it
    is: a change of mode is left to ERET and MTC0, which trap.
    """
    s = mc.s[cpu]
    if s[S_SPECIAL] == 0 or s[S_OPEN] != 0:
        return
    s[S_OPEN] = 1
    at = place_of(mc, name_of_page(mc, cpu)) << 10
    k = mc.cp0[cpu]
    for index in range(TAKEN.shape[0]):
        register = TAKEN[index]
        mask = WRITABLE[register]
        k[register] = (np.int64(k[register]) & ~mask) | (np.int64(mc.ram[at + register]) & mask)
    mask = WRITABLE[STATUS] & ~ERL
    if mc.p[X_FPU] != 0:
        mask |= FPU_STATUS
    old = np.int64(k[STATUS])
    new = (old & ~mask) | (np.int64(mc.ram[at + STATUS]) & mask)
    if mode_of(new, s[S_REFILL]) != mode_of(old, s[S_REFILL]):
        new = (new & ~EXL_AND_KSU) | (old & EXL_AND_KSU)
    k[STATUS] = new


@helper
def show_registers(mc, cpu):
    """Bring the special page up to date, as the guest goes on.

    An interrupt line that has changed enters the monitor: the page says if the guest will have it.
    """
    s = mc.s[cpu]
    k = mc.cp0[cpu]
    if np.int64(k[CAUSE]) & LINES != s[S_SEEN]:
        pull(mc, cpu)
    if s[S_OPEN] == 0:
        return
    name = name_of_page(mc, cpu)
    if name >= mc.p[X_CONTENTS] or not in_memory(mc, name):
        return
    s[S_OPEN] = 0
    s[S_SEEN] = np.int64(k[CAUSE]) & LINES
    at = name << 10
    for index in range(SHOWN.shape[0]):
        register = SHOWN[index]
        mc.ram[at + register] = k[register]
        mc.ops[at + register] = 0
