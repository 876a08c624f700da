"""The special page: registers without side effects that guest and monitor share in memory.

A page of the guest's own memory for each virtual CPU, which the monitor maps at SPECIAL for the
guest's kernel. Word i shows CP0 register i (number × 8 + select). The guest loads from it in place
of MFC0 and stores to it in place of MTC0, without a trap; so it enables and disables interrupts.

Only an entry of the monitor looks at the page. `pull` takes over what the guest has stored, and
`mc.cp0` is the truth until `push`, before the guest goes on, writes what has become of it. Whatever
the guest puts there is masked as by MTC0; where the page lies is checked when it is given.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper
from disco_trace.machine.emit import mode_of
from disco_trace.machine.layout import (
    BADVADDR,
    CAUSE,
    COMPARE,
    CONFIG,
    CONFIG1,
    CONTEXT,
    CP0_WORDS,
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
    S_VM,
    STATUS,
    WIRED,
    X_FPU,
    X_O_VCPU,
    X_O_VM,
    X_SPECIAL,
    X_VCPU_STRIDE,
)
from disco_trace.machine.registers import FPU_STATUS, WRITABLE
from disco_trace.monitor.hardware import drop
from disco_trace.monitor.layout import (
    NOBODY,
    V_CPU,
    V_S,
    VM_FIRST,
    VM_PAGES,
    VM_VCPUS,
    VM_WORDS,
)

# Where the guest's kernel finds the page of the virtual CPU that it runs on: the last page of the
# supervisor segment, which two instructions reach without a register of their own.
SPECIAL = 0xDFFFF000
# Word behind the registers: interrupts that wait and that Status.IM lets through.
PENDING = CP0_WORDS
PAGE_WORDS = 1024

# What the page shows, and what of it a store changes beside Status. Writes of the others (time,
# interrupts, address space, Wired, cacheability) act at once and still trap.
SHOWN = np.array(
    [
        INDEX, ENTRYLO0, ENTRYLO1, CONTEXT, PAGEMASK, WIRED, BADVADDR, ENTRYHI, COMPARE, STATUS,
        CAUSE, EPC, EBASE, CONFIG, CONFIG1, ERROREPC,
    ]
)  # fmt: skip
TAKEN = np.array([INDEX, ENTRYLO0, ENTRYLO1, CONTEXT, PAGEMASK, EPC, ERROREPC])
EXL_AND_KSU, ERL = 0x1A, 4


@helper
def pull(mc, cpu):
    """Take over what the guest has stored in its special page: the monitor is entered.

    Of Status everything that MTC0 writes but ERL. A change of mode is left to ERET and MTC0, which
    hardware sees: EXL and KSU count where the guest stays in the mode that it is in.
    """
    s = mc.s[cpu]
    if s[S_SPECIAL] == 0 or s[S_OPEN] != 0:
        return
    s[S_OPEN] = 1
    at = s[S_SPECIAL] - 1
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
def push(mc, cpu):
    """Show the guest its registers: the monitor is left."""
    s = mc.s[cpu]
    k = mc.cp0[cpu]
    at = s[S_SPECIAL] - 1
    s[S_OPEN] = 0
    s[S_SEEN] = k[CAUSE] & 0xFF00
    for index in range(SHOWN.shape[0]):
        register = SHOWN[index]
        mc.ram[at + register] = k[register]
        mc.ops[at + register] = 0
    mc.ram[at + PENDING] = k[CAUSE] & k[STATUS] & 0xFF00
    mc.ops[at + PENDING] = 0


@helper
def offered(mc):
    """Return where the guest would find its special page, or 0 if there is none for it."""
    return SPECIAL if mc.p[X_SPECIAL] != 0 else 0


@helper
def give_pages(mc, cpu, physical):
    """Let the guest say where its special pages lie: one for each virtual CPU, from here up.

    Where it has no memory for all of them, no virtual CPU of the machine has one any more.
    """
    if mc.p[X_SPECIAL] == 0:
        return
    vm = mc.p[X_O_VM] + mc.s[cpu, S_VM] * VM_WORDS
    page = (physical & 0xFFFFFFFF) >> 12
    vcpus = mc.mon[vm + VM_VCPUS]
    fits = page + vcpus <= mc.mon[vm + VM_PAGES]
    first = mc.s[cpu, S_BASE] >> 2
    for number in range(vcpus):
        at = mc.p[X_O_VCPU] + (mc.mon[vm + VM_FIRST] + number) * mc.p[X_VCPU_STRIDE]
        place = first + (page + number) * PAGE_WORDS + 1 if fits else 0
        holder = mc.mon[at + V_CPU]
        if holder == NOBODY:
            mc.mon[at + V_S + S_SPECIAL] = place
            mc.mon[at + V_S + S_OPEN] = 1
        else:
            pull(mc, holder)
            mc.s[holder, S_SPECIAL] = place
            mc.s[holder, S_OPEN] = 1
            drop(mc, holder, SPECIAL, 0, 0x2000, 1)


@helper
def special_pair(mc, cpu):
    """Return the pair of EntryLo around SPECIAL: of the guest's page, and of nothing below it."""
    page = (mc.s[cpu, S_SPECIAL] - 1 - (mc.s[cpu, S_BASE] >> 2)) // PAGE_WORDS
    return 1, (page << 6) | (3 << 3) | 7
