"""Virtual CPUs: their records, and putting one on a CPU or taking it off.

The running virtual CPU's registers stand in the CPU's own rows of `Machine`; all others' in their
records. What counts work and time (`S_PENDING`, `S_SINCE`, `S_RETIRED` ...) belongs to the CPU.
"""

from __future__ import annotations

from disco_trace.jit import helper, inline
from disco_trace.machine.cop0 import clear_hints
from disco_trace.machine.layout import (
    CP0_WORDS,
    GPR_WORDS,
    MAX_TLB,
    PHASE_DEPTH,
    S_BASE,
    S_CONTEXT,
    S_COUNT_OFFSET,
    S_DEADLINE,
    S_FRUITLESS,
    S_IPI_AT,
    S_IPI_LAST,
    S_LL,
    S_LLADDR,
    S_NPC,
    S_OPEN,
    S_PC,
    S_PHASE_DEPTH,
    S_PHASES,
    S_RANDOM_ORIGIN,
    S_REFILL,
    S_REGIME,
    S_SEEN,
    S_SLOT,
    S_SPECIAL,
    S_VCPU,
    S_VM,
    S_WHICH,
    TLB_WORDS,
    X_O_VCPU,
    X_VCPU_STRIDE,
)
from disco_trace.memory.layout import C_BASE, CPU_WORDS
from disco_trace.monitor.hardware import change_owner
from disco_trace.monitor.layout import (
    NOBODY,
    RUNNING,
    V_BASE_CLOCK,
    V_CP0,
    V_CPU,
    V_FPR,
    V_GPR,
    V_LAST,
    V_S,
    V_STATE,
    V_TLB,
)
from disco_trace.monitor.special import pull

# Words of a CPU's state that go with the virtual CPU.
OWN = (
    S_PC, S_NPC, S_SLOT, S_DEADLINE, S_COUNT_OFFSET, S_REFILL, S_CONTEXT, S_RANDOM_ORIGIN, S_VM,
    S_VCPU, S_WHICH, S_BASE, S_REGIME, S_IPI_AT, S_IPI_LAST, S_PHASE_DEPTH,
    S_SPECIAL, S_OPEN, S_SEEN,
    *range(S_PHASES, S_PHASES + PHASE_DEPTH),
)  # fmt: skip


@inline
def record(mc, which):
    """Return where a virtual CPU's record begins."""
    return mc.p[X_O_VCPU] + which * mc.p[X_VCPU_STRIDE]


@helper
def put_away(mc, m, cpu):
    """Take the virtual CPU off a CPU: its registers go to its record, its reservation is lost."""
    mon = mc.mon
    which = mc.s[cpu, S_WHICH]
    at = record(mc, which)
    pull(mc, cpu)
    for word in OWN:
        mon[at + V_S + word] = mc.s[cpu, word]
    for word in range(GPR_WORDS):
        mon[at + V_GPR + word] = mc.gpr[cpu, word]
    for word in range(CP0_WORDS):
        mon[at + V_CP0 + word] = mc.cp0[cpu, word]
    for word in range(MAX_TLB * TLB_WORDS):
        mon[at + V_TLB + word] = mc.tlb[cpu, word]
    for word in range(mc.fpr.shape[1]):
        mon[at + V_FPR + word] = mc.fpr[cpu, word]
    mon[at + V_CPU] = NOBODY
    mon[at + V_BASE_CLOCK] = m.cpu[cpu * CPU_WORDS + C_BASE]
    mc.s[cpu, S_LL] = 0
    mc.s[cpu, S_WHICH] = NOBODY
    mc.s[cpu, S_VM] = NOBODY


@helper
def bring_in(mc, m, cpu, which):
    """Put a virtual CPU on a CPU that has none; the hardware TLB is flushed, or its tag changed.

    Entries with its tag are as it left them if it ran here last: nobody else changes its TLBs. If
    it ran elsewhere it may have changed them there, and they are dropped.

    Count is the machine's time and goes on while a virtual CPU does not run; Random, which counts
    the CPU's own cycles, stands still.
    """
    mon = mc.mon
    at = record(mc, which)
    for word in OWN:
        mc.s[cpu, word] = mon[at + V_S + word]
    for word in range(GPR_WORDS):
        mc.gpr[cpu, word] = mon[at + V_GPR + word]
    for word in range(CP0_WORDS):
        mc.cp0[cpu, word] = mon[at + V_CP0 + word]
    for word in range(MAX_TLB * TLB_WORDS):
        mc.tlb[cpu, word] = mon[at + V_TLB + word]
    for word in range(mc.fpr.shape[1]):
        mc.fpr[cpu, word] = mon[at + V_FPR + word]
    mc.s[cpu, S_RANDOM_ORIGIN] += m.cpu[cpu * CPU_WORDS + C_BASE] - mon[at + V_BASE_CLOCK]
    mc.s[cpu, S_LL] = 0
    mc.s[cpu, S_LLADDR] = mc.s[cpu, S_BASE]
    mc.s[cpu, S_FRUITLESS] = 0
    clear_hints(mc, cpu)
    mon[at + V_STATE] = RUNNING
    mon[at + V_CPU] = cpu
    stale = mon[at + V_LAST] != cpu
    mon[at + V_LAST] = cpu
    change_owner(mc, cpu, which, stale)
