"""Trap and emulate: what the guest's kernel may not do itself in the hardware's supervisor mode."""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline
from disco_trace.machine import cop0
from disco_trace.machine.emit import emit
from disco_trace.machine.hot import O_TLBWI, O_TLBWR, O_WAIT
from disco_trace.machine.isa import FIRST_ROW, TABLE
from disco_trace.machine.layout import HWRENA
from disco_trace.memory.events import TRAPS
from disco_trace.monitor.software import (
    after_probe,
    after_write,
    before_write,
    drop_everything,
    inserts,
)
from disco_trace.monitor.special import pull
from disco_trace.trace.schema import MONITOR_CAUSES

PRIVILEGED = MONITOR_CAUSES.index("privileged")
TLB_WRITE = MONITOR_CAUSES.index("tlb_write")
SCHEDULE = MONITOR_CAUSES.index("schedule")

# Instructions that trap wherever the guest's kernel runs, and then certainly succeed. CACHE may
# fault first; DERET is a reserved instruction.
SENSITIVE = np.array(
    [False] * FIRST_ROW + ["P" in row.flags and row.name not in ("cache", "deret") for row in TABLE]
)

CPU_NUMBER, CYCLE_COUNTER, LAST, USER_LOCAL = 0, 2, 3, 29


@helper
def trap_privileged(mc, m, cpu, op, pc, work):
    """Record the trap of a privileged instruction that the monitor emulates."""
    pull(mc, cpu)
    cause = PRIVILEGED
    entries = 0
    if op == O_TLBWI or op == O_TLBWR:
        cause = TLB_WRITE
        entries = 1 if inserts(mc, cpu) else 0
    elif op == O_WAIT:
        cause = SCHEDULE
    emit(mc, m, cpu, TRAPS, work, cause, pc, 0, entries, 0, 0)


@inline
def rdhwr_traps(mc, cpu, number, privileged):
    """Tell whether RDHWR enters the monitor.

    Hardware lets through what the guest's HWREna lets through, except the CPU's number and the
    cycle counter, which are virtual. Its supervisor mode has no rights of its own, so what the
    guest's kernel reads without HWREna traps too. A register that nobody may read is an exception.
    """
    if number > LAST and number != USER_LOCAL:
        return False
    enabled = (mc.cp0[cpu, HWRENA] >> number) & 1 != 0
    if number == CPU_NUMBER or number == CYCLE_COUNTER:
        return privileged or enabled
    return privileged and not enabled


@helper
def trap_rdhwr(mc, m, cpu, pc, work):
    """Record the trap of a RDHWR that the monitor answers."""
    emit(mc, m, cpu, TRAPS, work, PRIVILEGED, pc, 0, 0, 0, 0)


@helper
def guest_tlb_write(mc, m, cpu, entry, how):
    """Write the guest's TLB; keep the software and hardware TLBs in step."""
    before_write(mc, cpu, entry, how == cop0.WRITE_INDEXED)
    cop0.tlb_write(mc, m, cpu, entry, how, 0)
    after_write(mc, cpu, entry)


@helper
def guest_tlb_probe(mc, m, cpu):
    """Carry out TLBP on the guest's TLB."""
    cop0.tlb_probe(mc, m, cpu, 0)
    after_probe(mc, cpu)


@helper
def guest_tlb_read(mc, m, cpu):
    """Carry out TLBR on the guest's TLB; whoever reads it may be looking for what to drop."""
    cop0.tlb_read(mc, m, cpu, 0)
    drop_everything(mc, cpu)
