"""What control rows do to the memory system's clocks and counters, the same in both drivers."""

from __future__ import annotations

from disco_trace.jit import inline
from disco_trace.memory.dma import dma
from disco_trace.memory.layout import (
    C_BASE,
    C_CLOCK,
    C_RAISE,
    CPU_WORDS,
    F_DEVICE,
    F_LINE,
    F_RETOUCHED,
    M_DATA_REFERENCES,
    M_EXCEPTIONS,
    M_INSTRUCTIONS,
    M_INTERRUPTS,
    M_MONITOR,
    M_TLB_MISSES,
    M_TRAPS,
    P_COPY_COST,
    P_CPU_COST,
    P_CPUS,
    P_DEVICES,
    P_ENTRY_COST,
    P_FEEDBACK,
    P_PAGES,
    P_PRICES,
    P_RETOUCH,
    P_ZERO_COST,
    SLOTS_OF_A_MACHINE,
)
from disco_trace.memory.pages import name_of, page_event
from disco_trace.memory.placement import charge
from disco_trace.memory.system import count, enter, idle, retouch
from disco_trace.trace.schema import (
    CONTROL,
    INTERRUPT_EVENTS,
    MONITOR_CAUSES,
    PHASE_EVENTS,
    SCHEDULE_EVENTS,
    WAIT_CAUSES,
    WAIT_EVENTS,
)

_CODES = {kind.name: kind.code for kind in CONTROL}
TICKS = _CODES["ticks"]
CONTEXTS = _CODES["contexts"]
TLB_OPS = _CODES["tlb_ops"]
EXCEPTIONS = _CODES["exceptions"]
RETURNS = _CODES["returns"]
TRAPS = _CODES["traps"]
INTERRUPTS = _CODES["interrupts"]
PAGE_EVENT = _CODES["page_events"]
SCHEDULES = _CODES["schedule"]
WAITS = _CODES["waits"]
PHASES = _CODES["phases"]
DMA = _CODES["dma"]
PACKETS = _CODES["packets"]
PROCESSES = _CODES["processes"]

RAISED = INTERRUPT_EVENTS.index("raised")
CLEARED = INTERRUPT_EVENTS.index("cleared")
TAKEN = INTERRUPT_EVENTS.index("taken")
TIMER_PROGRAMMED = INTERRUPT_EVENTS.index("timer_programmed")
DEVICE_STARTED = INTERRUPT_EVENTS.index("device_started")
# Of an interrupt of a device: whose line rises, above the time since the device was started.
LINE_SHIFT = 48
DEVICE_LINE = 4  # Cause.IP bit of the devices: `target` is a slot, not a CPU
RAN, SWITCH_PREEMPT, SWITCH_IDLE, SWITCH_MIGRATE, STOPPED = (
    SCHEDULE_EVENTS.index(name) for name in ("run", "preempt", "idle", "migrate", "stop")
)
WAIT_BEGIN = WAIT_EVENTS.index("begin")
WAIT_END = WAIT_EVENTS.index("end")
BY_TIMER = WAIT_CAUSES.index("timer")
BY_IPI = WAIT_CAUSES.index("ipi")
BY_DEVICE = WAIT_CAUSES.index("device")
PHASE_OPEN = PHASE_EVENTS.index("open")


N_CAUSES = len(MONITOR_CAUSES)
assert M_MONITOR > M_TRAPS


@inline
def trap(m, cpu, cause, entries, pages_and_cpus, copied):
    """Charge an entry to the monitor: the price of its cause and of the work that it did."""
    if 0 <= cause < N_CAUSES:
        p = m.p
        pages = pages_and_cpus & 0xFFFFFFFF
        others = pages_and_cpus >> 32
        cycles = p[P_PRICES + cause] + entries * p[P_ENTRY_COST] + pages * p[P_ZERO_COST]
        cycles += (copied * p[P_COPY_COST] >> 12) + others * p[P_CPU_COST]
        count(m, cpu, M_TRAPS, 1)
        charge(m, cpu, cause, cycles)


@inline
def device(m, slot):
    """Return the number of a device among all machines' slots; 0 for one that is not there."""
    return slot if 0 <= slot < m.p[P_DEVICES] else 0


@inline
def line_of(m, slot):
    """Return where it stands when the interrupt line of a device's machine rose last."""
    machine = device(m, slot) // SLOTS_OF_A_MACHINE
    return F_LINE if machine == 0 else F_DEVICE + m.p[P_DEVICES] + machine - 1


@inline
def control(m, kind, cpu, context, work, instructions, seq, a0, a1, a2, a3, a4, a5):
    """Account for a control row, then do what it says to clocks and pages.

    A wait under full feedback ends at the later of the CPU's own clock and what woke it: a timer's
    absolute deadline, the waker's clock plus slack, or a device's interrupt, which comes a fixed
    time after the device was started. Without feedback it takes its base duration.
    """
    enter(m, cpu, context, work)
    count(m, cpu, M_INSTRUCTIONS, instructions)
    if kind == TICKS:
        count(m, cpu, M_DATA_REFERENCES, a0)
    elif kind == EXCEPTIONS:
        count(m, cpu, M_EXCEPTIONS, 1)
        if a0 == 0:
            count(m, cpu, M_INTERRUPTS, 1)
        elif a1 != 0:
            count(m, cpu, M_TLB_MISSES, 1)
    elif kind == TRAPS:
        trap(m, cpu, a0, a3, a4, a5)
    elif kind == INTERRUPTS:
        if a0 == DEVICE_STARTED:
            m.fill[F_DEVICE + device(m, a2)] = m.cpu[cpu * CPU_WORDS + C_CLOCK]
        elif a0 == RAISED and a1 == DEVICE_LINE:
            since = a3 & ((1 << LINE_SHIFT) - 1)
            line = line_of(m, (a3 >> LINE_SHIFT) * SLOTS_OF_A_MACHINE)
            m.fill[line] = m.fill[F_DEVICE + device(m, a2)] + since
        elif a0 == RAISED and 0 <= a2 < m.p[P_CPUS]:
            m.cpu[a2 * CPU_WORDS + C_RAISE] = m.cpu[cpu * CPU_WORDS + C_CLOCK]
    elif kind == WAITS:
        if a0 == WAIT_END:
            m.cpu[cpu * CPU_WORDS + C_BASE] += a4
            length = a4
            if m.p[P_FEEDBACK] != 0:
                length = 0
                if a1 == BY_TIMER:
                    length = max(0, a5 - m.cpu[cpu * CPU_WORDS + C_CLOCK])
                elif a1 == BY_IPI:
                    until = m.cpu[cpu * CPU_WORDS + C_RAISE] + a3
                    length = max(0, until - m.cpu[cpu * CPU_WORDS + C_CLOCK])
                elif a1 == BY_DEVICE:
                    until = m.fill[line_of(m, a2)] + a3
                    length = max(0, until - m.cpu[cpu * CPU_WORDS + C_CLOCK])
            idle(m, cpu, length)
    elif kind == PAGE_EVENT:
        page_event(m, cpu, seq, a0, a1, a4)
    elif kind == DMA:
        if 0 <= a3 >> 12 < m.p[P_PAGES]:
            dma(m, cpu, seq, a2 & 1, name_of(m, a3 >> 12) << 12 | (a3 & 4095), a5)
    elif kind == PHASES:
        if a0 == PHASE_OPEN and a1 == m.p[P_RETOUCH] and a1 > 0 and m.fill[F_RETOUCHED] == 0:
            m.fill[F_RETOUCHED] = 1
            retouch(m)
