"""Schedule virtual CPUs over CPUs: time slices, affinity, idle CPUs that take work from others.

Every virtual CPU has a home, the CPU it runs on; a CPU's virtual CPUs take turns of a time slice.
WAIT gives the CPU up. A CPU that has nothing to run takes a virtual CPU that is ready elsewhere and
has waited for a slice: until then it stays near its caches.
"""

from __future__ import annotations

from disco_trace.jit import helper, inline
from disco_trace.machine.cop0 import turn_clock
from disco_trace.machine.emit import emit, set_context
from disco_trace.machine.layout import (
    CAUSE,
    EXIT_POWER,
    G_EXIT,
    G_STATUS,
    IP_IPI,
    IP_VIRTIO,
    LOCKED,
    S_DEADLINE,
    S_IPI_AT,
    S_SLICE,
    S_VM,
    S_WAIT_BASE,
    S_WAITING,
    S_WAKER,
    S_WHICH,
    STATUS,
    X_CPUS,
    X_O_VM,
    X_SLICE,
    X_VCPUS,
    X_VMS,
)
from disco_trace.machine.slots import NEVER
from disco_trace.machine.virtqueue import switch_off
from disco_trace.memory.events import (
    BY_DEVICE,
    BY_IPI,
    BY_TIMER,
    RAN,
    SCHEDULES,
    STOPPED,
    SWITCH_IDLE,
    SWITCH_MIGRATE,
    SWITCH_PREEMPT,
    TRAPS,
    WAIT_BEGIN,
    WAIT_END,
    WAITS,
)
from disco_trace.monitor.frames import leave
from disco_trace.monitor.layout import (
    ENDED,
    NOBODY,
    READY,
    RUNNING,
    STUCK,
    V_CP0,
    V_CPU,
    V_HOME,
    V_NUMBER,
    V_READY,
    V_S,
    V_STATE,
    V_VM,
    VM_ENDED,
    VM_FIRST,
    VM_LINE_CLOCK,
    VM_LINE_SLOT,
    VM_STATUS,
    VM_VCPUS,
    VM_WORDS,
    WAITING,
)
from disco_trace.monitor.vcpu import bring_in, put_away, record
from disco_trace.trace.schema import MONITOR_CAUSES

SCHEDULE = MONITOR_CAUSES.index("schedule")
IP_MASK = 0xFF00
IPI_BIT = 1 << (8 + IP_IPI)
LINE_BIT = 1 << (8 + IP_VIRTIO)
TIMER_ENABLED = 1 << 15


@helper
def name_of(mc, which):
    """Return how a virtual CPU is named in the trace: machine × 2^16 + number."""
    if which < 0:
        return 0xFFFFFFFF
    at = record(mc, which)
    return (mc.mon[at + V_VM] << 16) | mc.mon[at + V_NUMBER]


@helper
def ready_since(mc, which, now):
    """Return since when a virtual CPU that is off its CPU could run, or NEVER."""
    at = record(mc, which)
    state = mc.mon[at + V_STATE]
    if state == READY:
        return mc.mon[at + V_READY]
    if state != WAITING:
        return NEVER
    mask = mc.mon[at + V_CP0 + STATUS] & IP_MASK
    if mc.mon[at + V_CP0 + CAUSE] & mask:
        return mc.mon[at + V_READY]
    since = NEVER
    if mask & TIMER_ENABLED:
        since = mc.mon[at + V_S + S_DEADLINE]
    if mask & IPI_BIT:
        since = min(since, mc.mon[at + V_S + S_IPI_AT])
    return since if since <= now else NEVER


@helper
def choose(mc, cpu, now):
    """Return the virtual CPU of this CPU whose turn is next after the present one, or −1."""
    vcpus = mc.p[X_VCPUS]
    present = mc.s[cpu, S_WHICH]
    for step in range(1, vcpus + 1):
        which = (present + step) % vcpus
        at = record(mc, which)
        if which != present and mc.mon[at + V_HOME] == cpu and mc.mon[at + V_CPU] == NOBODY:
            if ready_since(mc, which, now) <= now:
                return which
    return NOBODY


@helper
def steal(mc, cpu, now):
    """Return the virtual CPU of another CPU that has been ready for longest, or −1.

    At least for a time slice, and only from a CPU that runs another.
    """
    best = NOBODY
    oldest = now - mc.p[X_SLICE]
    for which in range(mc.p[X_VCPUS]):
        at = record(mc, which)
        home = mc.mon[at + V_HOME]
        if home != cpu and mc.mon[at + V_CPU] == NOBODY and mc.s[home, S_WAITING] == 0:
            since = ready_since(mc, which, now)
            if since <= oldest:
                oldest = since
                best = which
    return best


@helper
def switch(mc, m, cpu, which, event, work):
    """Run another virtual CPU here; the row says how long it had been ready for in vain."""
    now = turn_clock(mc, m, cpu) + work
    present = mc.s[cpu, S_WHICH]
    at = record(mc, which)
    since = ready_since(mc, which, now)
    stolen = max(0, now - since) if since != NEVER else 0
    emit(mc, m, cpu, TRAPS, work, SCHEDULE, 0, 0, 0, 0, 0)
    if mc.mon[at + V_HOME] != cpu:
        name = name_of(mc, which)
        emit(mc, m, cpu, SCHEDULES, 0, SWITCH_MIGRATE, name, name, 0, 0, 0)
        mc.mon[at + V_HOME] = cpu
    emit(mc, m, cpu, SCHEDULES, 0, event, name_of(mc, present), name_of(mc, which), stolen, 0, 0)
    if present != NOBODY:
        old = record(mc, present)
        put_away(mc, m, cpu)
        if mc.mon[old + V_STATE] == RUNNING:
            mc.mon[old + V_STATE] = READY
            mc.mon[old + V_READY] = turn_clock(mc, m, cpu)
    bring_in(mc, m, cpu, which)
    mc.s[cpu, S_SLICE] = turn_clock(mc, m, cpu) + mc.p[X_SLICE]
    set_context(mc, m, cpu)


@helper
def end_slice(mc, m, cpu, work):
    """Give the CPU to the next virtual CPU that can run; return 1 if there is one."""
    now = turn_clock(mc, m, cpu) + work
    which = choose(mc, cpu, now)
    if which == NOBODY:
        mc.s[cpu, S_SLICE] = now + mc.p[X_SLICE]
        return 0
    switch(mc, m, cpu, which, SWITCH_PREEMPT, work)
    return 1


@helper
def slice_over(mc, m, cpu, work):
    """Do what the end of a time slice asks for; return 1 if another virtual CPU runs, or none.

    A machine that was switched off ends the slices of its virtual CPUs.
    """
    which = mc.s[cpu, S_WHICH]
    if mc.mon[record(mc, which) + V_STATE] != ENDED:
        return end_slice(mc, m, cpu, work)
    emit(mc, m, cpu, SCHEDULES, work, STOPPED, name_of(mc, which), 0xFFFFFFFF, 0, 0, 0)
    mc.s[cpu, S_SLICE] = NEVER
    find_work(mc, m, cpu)
    return 1


@helper
def wait(mc, m, cpu):
    """Carry out WAIT, the idle hint: run another virtual CPU, or let the CPU wait."""
    at = record(mc, mc.s[cpu, S_WHICH])
    mc.mon[at + V_STATE] = WAITING
    mc.mon[at + V_READY] = turn_clock(mc, m, cpu)
    find_work(mc, m, cpu)


@helper
def find_work(mc, m, cpu):
    """Run what can run on a CPU whose virtual CPU waits or has ended; otherwise the CPU waits."""
    now = turn_clock(mc, m, cpu)
    which = choose(mc, cpu, now)
    if which == NOBODY:
        which = steal(mc, cpu, now)
    if which != NOBODY:
        switch(mc, m, cpu, which, SWITCH_IDLE, 0)
        return
    emit(mc, m, cpu, WAITS, 0, WAIT_BEGIN, 0, 0, 0, 0, mc.s[cpu, S_DEADLINE])
    mc.s[cpu, S_WAITING] = 1


@inline
def gone(state):
    """Tell whether a virtual CPU in a state never runs again."""
    return state == ENDED or state == STUCK


@helper
def own_wake(mc, cpu, which):
    """Return when a virtual CPU of this CPU with no interrupt pending wakes, and if by an IPI."""
    at = record(mc, which)
    if mc.mon[at + V_CPU] == cpu:
        status = mc.cp0[cpu, STATUS] + 0
        deadline, arrival = mc.s[cpu, S_DEADLINE] + 0, mc.s[cpu, S_IPI_AT] + 0
    else:
        status = mc.mon[at + V_CP0 + STATUS] + 0
        deadline, arrival = mc.mon[at + V_S + S_DEADLINE] + 0, mc.mon[at + V_S + S_IPI_AT] + 0
    when = deadline if status & TIMER_ENABLED else NEVER
    if status & IPI_BIT:
        # Not before the one that was sent last: its sender's clock is a replay's reference.
        arrival = max(arrival, mc.s[cpu, S_WAIT_BASE])
        if arrival <= when:
            return arrival, 1
    return when, 0


@helper
def lock_up(mc, m, cpu):
    """Give up a virtual CPU whose exception vector faults for ever; run another here."""
    which = mc.s[cpu, S_WHICH]
    mc.mon[record(mc, which) + V_STATE] = STUCK
    mc.s[cpu, S_WAITING] = 0
    mc.s[cpu, S_SLICE] = NEVER
    emit(mc, m, cpu, SCHEDULES, 0, STOPPED, name_of(mc, which), 0xFFFFFFFF, 0, 0, 0)
    find_work(mc, m, cpu)


@helper
def any_stuck(mc):
    """Tell whether a virtual CPU is locked up."""
    stuck = 0
    for which in range(mc.p[X_VCPUS]):
        if mc.mon[record(mc, which) + V_STATE] == STUCK:
            stuck += 1
    return stuck > 0


@helper
def wake_cpu(mc, m, cpu, turn_end):
    """End a CPU's wait if one of its virtual CPUs can run before `turn_end`; return 1 if so."""
    if mc.s[cpu, S_WAITING] == LOCKED:
        lock_up(mc, m, cpu)
        return 1 if mc.s[cpu, S_WAITING] == 0 else 0
    own = turn_clock(mc, m, cpu)
    first = NOBODY
    cause = 0
    slack = 0
    end = NEVER
    for which in range(mc.p[X_VCPUS]):
        at = record(mc, which)
        if mc.mon[at + V_HOME] != cpu or gone(mc.mon[at + V_STATE]):
            continue
        if mc.mon[at + V_CPU] == cpu:
            pending = mc.cp0[cpu, CAUSE] & mc.cp0[cpu, STATUS] & IP_MASK
        else:
            pending = mc.mon[at + V_CP0 + CAUSE] & mc.mon[at + V_CP0 + STATUS] & IP_MASK
        lag = 0
        why = 0
        when = own
        if mc.mon[at + V_STATE] != READY:
            if pending == 0:
                when, by_ipi = own_wake(mc, cpu, which)
                if when >= turn_end:
                    continue
                why = BY_IPI if by_ipi else BY_TIMER
                lag = when - mc.s[cpu, S_WAIT_BASE] if by_ipi else 0
                when = max(own, when)
            elif pending & ~IPI_BIT == 0 and mc.s[cpu, S_WAIT_BASE] <= own:
                # It had come before the WAIT; with other stalls, in a replay, it might not have.
                why = BY_IPI
            elif pending & LINE_BIT and pending & ~(IPI_BIT | LINE_BIT) == 0:
                why = BY_DEVICE
                vm = mc.p[X_O_VM] + mc.mon[at + V_VM] * VM_WORDS
                when = max(own, mc.mon[vm + VM_LINE_CLOCK])
        if when < end:
            end, first, cause, slack = when, which, why, lag
    if first == NOBODY and mc.p[X_VCPUS] > mc.p[X_CPUS]:
        first = steal(mc, cpu, turn_end - 1)
        if first != NOBODY:
            since = ready_since(mc, first, turn_end - 1)
            end, cause = max(own, since + mc.p[X_SLICE]), BY_TIMER
    if first == NOBODY:
        return 0
    at = record(mc, first)
    loaded = mc.mon[at + V_CPU] == cpu
    mc.s[cpu, S_WAITING] = 0
    # `end` is the deadline of a wait that time ends: the guest's timer, or the monitor's own.
    waker = mc.s[cpu, S_WAKER] + 0
    if cause == BY_DEVICE:
        waker = mc.mon[mc.p[X_O_VM] + mc.mon[at + V_VM] * VM_WORDS + VM_LINE_SLOT]
    emit(mc, m, cpu, WAITS, 0, WAIT_END, cause, waker, slack, end - own, end)
    if not loaded:
        # Timers and interrupts that are due by now are noticed when the virtual CPU runs.
        switch(mc, m, cpu, first, SWITCH_IDLE, 0)
    mc.mon[at + V_STATE] = RUNNING
    return 1


@helper
def next_deadline(mc, cpu):
    """Return when the first timer or interrupt on its way ends a CPU's wait, or NEVER."""
    soonest = NEVER
    for which in range(mc.p[X_VCPUS]):
        at = record(mc, which)
        if mc.mon[at + V_HOME] == cpu and not gone(mc.mon[at + V_STATE]):
            when, _ = own_wake(mc, cpu, which)
            soonest = min(soonest, when)
    return soonest


@helper
def begin(mc, m, cpu):
    """Put a CPU's first virtual CPU on it at the start; a CPU without one waits."""
    for which in range(mc.p[X_VCPUS]):
        if mc.mon[record(mc, which) + V_HOME] == cpu and mc.s[cpu, S_WHICH] == NOBODY:
            bring_in(mc, m, cpu, which)
            set_context(mc, m, cpu)
            emit(mc, m, cpu, SCHEDULES, 0, RAN, 0xFFFFFFFF, name_of(mc, which), 0, 0, 0)
            mc.s[cpu, S_SLICE] = mc.p[X_SLICE]
    if mc.s[cpu, S_WHICH] == NOBODY:
        emit(mc, m, cpu, WAITS, 0, WAIT_BEGIN, 0, 0, 0, 0, NEVER)
        mc.s[cpu, S_WAITING] = 1


@helper
def end_machine(mc, m, cpu, status):
    """Switch a virtual machine off: none of its virtual CPUs runs again; the last ends the run.

    The run's status is that of the first machine that ended with another than 0.
    """
    number = mc.s[cpu, S_VM]
    vm = mc.p[X_O_VM] + number * VM_WORDS
    mc.mon[vm + VM_ENDED] = 1
    mc.mon[vm + VM_STATUS] = status
    if mc.g[G_STATUS] == 0:
        mc.g[G_STATUS] = status
    for which in range(mc.mon[vm + VM_FIRST], mc.mon[vm + VM_FIRST] + mc.mon[vm + VM_VCPUS]):
        mc.mon[record(mc, which) + V_STATE] = ENDED
    switch_off(mc, number)
    leave(mc, number)
    left = 0
    for other in range(mc.p[X_VMS]):
        if mc.mon[mc.p[X_O_VM] + other * VM_WORDS + VM_ENDED] == 0:
            left += 1
    emit(mc, m, cpu, SCHEDULES, 0, STOPPED, name_of(mc, mc.s[cpu, S_WHICH]), 0xFFFFFFFF, 0, 0, 0)
    if left == 0:
        mc.g[G_EXIT] = EXIT_POWER
    else:
        for other in range(mc.p[X_CPUS]):
            which = mc.s[other, S_WHICH]
            if which != NOBODY and mc.mon[record(mc, which) + V_STATE] == ENDED:
                # Whoever runs or waits here looks for other work when its turn comes.
                mc.s[other, S_SLICE] = -1
