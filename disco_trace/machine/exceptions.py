"""Take exceptions and interrupts, and return from them.

Source: MIPS32 Architecture for Programmers, volume III, chapter 5.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline
from disco_trace.machine.emit import emit, hardware_mode, set_context
from disco_trace.machine.layout import (
    BADVADDR,
    CAUSE,
    CONTEXT,
    EBASE,
    ENTRYHI,
    EPC,
    ERROREPC,
    LOCKED,
    LOCKUP,
    S_CONTEXT,
    S_FRUITLESS,
    S_LAST_RETIRED,
    S_LL,
    S_NPC,
    S_PC,
    S_REFILL,
    S_RETIRED,
    S_SLOT,
    S_WAITING,
    STATUS,
    X_MONITOR,
)
from disco_trace.machine.translate import ADEL, ADES, MOD, TLBS
from disco_trace.memory.events import EXCEPTIONS, RETURNS, TRAPS
from disco_trace.monitor.special import pull
from disco_trace.trace.schema import MONITOR_CAUSES

INT, SYS, BP, RI, CPU_UNUSABLE, OV, TR, FPE = 0, 8, 9, 10, 11, 12, 13, 15
FORWARD, INTERRUPT = (MONITOR_CAUSES.index(name) for name in ("forward", "interrupt"))
EXL, ERL, BEV, CAUSE_IV = 2, 4, 1 << 22, 1 << 23


@inline
def take(mc, m, cpu, code, missed, pc, slot, vaddr, unit, work):
    """Take an exception at `pc` (in a delay slot if `slot`); leave the CPU at its vector.

    `missed`: no TLB entry matched. `unit`: coprocessor of a Coprocessor Unusable exception.
    """
    enter_vector(
        mc, m, np.int64(cpu), np.int64(code), np.int64(missed), np.int64(pc), np.int64(slot),
        np.int64(vaddr), np.int64(unit), np.int64(work),
    )  # fmt: skip


@helper
def enter_vector(mc, m, cpu, code, missed, pc, slot, vaddr, unit, work):
    """Do what `take` says, in one signature."""
    k = mc.cp0[cpu]
    s = mc.s[cpu]
    pull(mc, cpu)
    detail = 0
    if code == SYS:
        detail = mc.gpr[cpu, 2]
    elif code == INT:
        detail = (k[CAUSE] & k[STATUS]) >> 8 & 255
    if mc.p[X_MONITOR] != 0:
        # Hardware enters the monitor, which passes the exception on; the reservation is lost.
        why = INTERRUPT if code == INT else FORWARD
        emit(mc, m, cpu, TRAPS, work, why, pc, vaddr, 0, 0, 0)
        work = 0
        s[S_LL] = 0
    shown = vaddr if code == ADEL or code == ADES or MOD <= code <= TLBS else 0
    emit(mc, m, cpu, EXCEPTIONS, work, code, missed, pc, shown, detail, slot)
    status = k[STATUS]
    cause = k[CAUSE] & ~(0x7C | (3 << 28))
    offset = 0x180
    if status & EXL == 0:
        cause &= ~(1 << 31)
        if slot:
            k[EPC] = (pc - 4) & 0xFFFFFFFF
            cause |= 1 << 31
        else:
            k[EPC] = pc
        if missed:
            offset = 0
            s[S_REFILL] = 1
        else:
            s[S_REFILL] = 0
            if code == INT and cause & CAUSE_IV:
                offset = 0x200
    else:
        # An exception inside a refill handler is the kernel's business, not the refill's.
        s[S_REFILL] = 0
    k[CAUSE] = cause | (code << 2) | (unit << 28)
    k[STATUS] = status | EXL
    if code == ADEL or code == ADES or MOD <= code <= TLBS:
        k[BADVADDR] = vaddr
        if code <= TLBS:
            k[CONTEXT] = (k[CONTEXT] & 0xFF800000) | ((vaddr >> 13) << 4) & 0x7FFFF0
            k[ENTRYHI] = (vaddr & 0xFFFFE000) | (k[ENTRYHI] & 0xFF)
    base = 0xBFC00200 if status & BEV else k[EBASE] & 0xFFFFF000
    vector = base + offset
    s[S_FRUITLESS] = s[S_FRUITLESS] + 1 if s[S_RETIRED] == s[S_LAST_RETIRED] else 0
    s[S_LAST_RETIRED] = s[S_RETIRED]
    if s[S_FRUITLESS] >= LOCKUP:
        s[S_WAITING] = LOCKED
    s[S_PC] = vector
    s[S_NPC] = (vector + 4) & 0xFFFFFFFF
    s[S_SLOT] = 0
    set_context(mc, m, cpu)


@helper
def leave(mc, m, cpu, work):
    """Carry out ERET: back to ErrorEPC or EPC, without a delay slot; the reservation is lost."""
    k = mc.cp0[cpu]
    s = mc.s[cpu]
    if k[STATUS] & ERL:
        target = k[ERROREPC]
        status = k[STATUS] & ~ERL
    else:
        target = k[EPC]
        status = k[STATUS] & ~EXL
    change_status(mc, m, cpu, status, 0, target, work)
    s[S_PC] = target
    s[S_NPC] = (target + 4) & 0xFFFFFFFF
    s[S_SLOT] = 0
    s[S_LL] = 0


@helper
def change_status(mc, m, cpu, status, how, pc, work):
    """Store Status and record the change of mode (a `returns` row, `how` as in RETURN_OPS)."""
    from_mode = mc.s[cpu, S_CONTEXT] & 3
    mc.cp0[cpu, STATUS] = status
    if status & EXL == 0:
        mc.s[cpu, S_REFILL] = 0
    to_mode = hardware_mode(mc, cpu)
    if how == 0 or to_mode != from_mode:
        emit(mc, m, cpu, RETURNS, work, how, pc, to_mode, 0, 0, 0)
        set_context(mc, m, cpu)
        return 1
    return 0
