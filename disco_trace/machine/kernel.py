"""The execute loop: every CPU in turn, every instruction, in one compiled function.

Two loops, one in the other. The *hot loop* (`hot.run_hot`, expanded here) runs instructions whose
fetch and data hit the page filter and the first level. Anything else leaves it with a reason, is
done once in the *slow part* below it, and the instruction is either started again (now it hits)
or finished there.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import expand, helper, inline, kernel
from disco_trace.machine import cop0
from disco_trace.machine.decode import decode
from disco_trace.machine.devices import IPI_BIT, arrive, device_read, device_write
from disco_trace.machine.emit import (
    close_work,
    emit,
    emit_page,
    emit_ref,
    emit_uncommon,
    set_context,
)
from disco_trace.machine.exceptions import (
    BP,
    CPU_UNUSABLE,
    INT,
    OV,
    RI,
    SYS,
    TR,
    leave,
    take,
)
from disco_trace.machine.fpu.execute import execute
from disco_trace.machine.fpu.memory import float_access
from disco_trace.machine.fpu.table import ANY_ODD, COST, MAJOR
from disco_trace.machine.hot import (
    M32,
    NO_LINE,
    O_BREAK,
    O_CACHE,
    O_COP2,
    O_DI,
    O_EI,
    O_ERET,
    O_LDC2,
    O_LL,
    O_LWC2,
    O_MFC0,
    O_MTC0,
    O_RDHWR,
    O_RDPGPR,
    O_SB,
    O_SC,
    O_SDC2,
    O_SH,
    O_SW,
    O_SWC2,
    O_SWL,
    O_SWR,
    O_SYNCI,
    O_SYSCALL,
    O_TLBP,
    O_TLBR,
    O_TLBWI,
    O_TLBWR,
    O_WAIT,
    O_WRPGPR,
    SIGN,
    U1,
    U2,
    U3,
    U8,
    W_DECODE,
    W_FETCH,
    W_LIMIT,
    W_LOAD,
    W_OVERFLOW,
    W_SC,
    W_SC_FAIL,
    W_SLOW,
    W_STORE,
    W_TRAP,
    U,
    access_size,
    imm16,
    loaded,
    rd_of,
    rs_of,
    rt_of,
    run_hot,
    stored,
)
from disco_trace.machine.isa import IS_FLOAT, PHASE
from disco_trace.machine.layout import (
    CAUSE,
    CONFIG,
    EXIT_CONTEXTS,
    EXIT_DEADLOCK,
    EXIT_FULL,
    EXIT_INSTRUCTIONS,
    EXIT_LOCKUP,
    EXIT_NONE,
    EXIT_SAVE,
    EXIT_STOP,
    FCSR,
    G_CONSOLE,
    G_CONTEXTS,
    G_CPU,
    G_DUE,
    G_EVENTS,
    G_EXIT,
    G_FETCH_DELTA,
    G_FETCH_LINE,
    G_INSTRUCTIONS,
    G_LINE_CLOCK,
    G_LINE_SLOT,
    G_PAGE_ROWS,
    G_REFS,
    G_RESUME,
    G_SAVE,
    G_SINGLE,
    G_STOP_CPU,
    G_TURN,
    HWRENA,
    INDEX,
    LOCKED,
    ROOM,
    S_BASE,
    S_CONTEXT,
    S_DATA,
    S_DEADLINE,
    S_EXTRA,
    S_IPI_AT,
    S_LL,
    S_LLADDR,
    S_NPC,
    S_PC,
    S_PENDING,
    S_RETIRED,
    S_SINCE,
    S_SLICE,
    S_SLOT,
    S_SPECIAL,
    S_VCPU,
    S_WAIT_BASE,
    S_WAITING,
    S_WAKER,
    STATUS,
    STATUS_CU1,
    STATUS_FR,
    TAGHI,
    TAGLO,
    USERLOCAL,
    X_CONTEXTS_FULL,
    X_CPUS,
    X_DIV,
    X_FILTER,
    X_FPU_COSTS,
    X_MAX_INSTRUCTIONS,
    X_MONITOR,
    X_MULT,
    X_RAM,
    X_STOP,
    X_TURN,
)
from disco_trace.machine.marks import phase_mark
from disco_trace.machine.slots import NEVER
from disco_trace.machine.translate import (
    A_FETCH,
    A_LOAD,
    A_STORE,
    ADEL,
    ADES,
    CACHED,
    DBE,
    DEVICE,
    MAPPED,
    MISSED,
    PHYSICAL,
    TRAPPED,
    WRITABLE,
    is_cached,
    translate,
)
from disco_trace.machine.virtio import LINE_BIT, device_turn
from disco_trace.memory.events import (
    BY_DEVICE,
    BY_IPI,
    BY_TIMER,
    WAIT_BEGIN,
    WAIT_END,
    WAITS,
)
from disco_trace.memory.first_level import choose_way, data_set, instruction_set, promote
from disco_trace.memory.layout import (
    P_D_ORDER,
    P_D_SETS,
    P_D_SHIFT,
    P_D_TAGS,
    P_D_WAYS,
    P_GRANULE_SHIFT,
    P_I_ORDER,
    P_I_SETS,
    P_I_SHIFT,
    P_I_TAGS,
    P_I_WAYS,
    P_L1_STRIDE,
)
from disco_trace.memory.system import (
    CACHE_OP,
    FETCH,
    LOAD,
    SC_DONE,
    SC_FAIL,
    STORE,
    UNCACHED_FETCH,
    UNCACHED_LOAD,
    UNCACHED_STORE,
    UPGRADE,
    first_tag,
    full,
    indexed_way,
)
from disco_trace.monitor.devices import guest_device
from disco_trace.monitor.emulate import (
    SENSITIVE,
    guest_tlb_probe,
    guest_tlb_read,
    guest_tlb_write,
    rdhwr_traps,
    trap_privileged,
    trap_rdhwr,
)
from disco_trace.monitor.faults import enter_regime, guest_translate, reach, virtual_mode
from disco_trace.monitor.images import announce_images
from disco_trace.monitor.schedule import (
    any_stuck,
    begin,
    next_deadline,
    slice_over,
    wait,
    wake_cpu,
)
from disco_trace.monitor.special import show_registers

# Operations of CACHE that take a line in; bits of TagLo, as on the 24K.
I_FILL, I_LOCK, D_LOCK = U(0x14), U(0x1C), U(0x1D)
TAG_VALID, TAG_DIRTY = 1 << 7, 1 << 6
# What `next_cpu` answers instead of a CPU; what a step of a device takes from `run`'s budget.
NOBODY, DEVICES = -1, -2
DEVICE_STEP = 100

# KSEG0 and KSEG1 together: where no change of the TLB moves the instructions.
UNMAPPED = U(0x40000000)

# Of FCSR: rounding to nearest, Inexact disabled (both bits and this one clear).
FAST_FCSR = U(0x83)

# A single CPU's turn has nobody to be fair to: longer turns, same result.
LONE_TURN = 1 << 14


@inline
def clear_reservations(mc, m, cpu, physical):
    """A write takes the reservations that other CPUs hold on its granule."""
    shift = m.p[P_GRANULE_SHIFT]
    for other in range(mc.p[X_CPUS]):
        if other != cpu and mc.s[other, S_LL] != 0:
            if mc.s[other, S_LLADDR] >> shift == physical >> shift:
                mc.s[other, S_LL] = 0


@expand
def first_level_access(mc, m, cpu, access, vaddr, physical, pc, work):
    """Make the first level hold a line (dirty, for a store); return 1 if a row was written."""
    p = m.p
    l1 = m.l1
    base = cpu * p[P_L1_STRIDE]
    if access == A_FETCH:
        s = instruction_set(m, vaddr)
        ways, shift = p[P_I_WAYS], p[P_I_SHIFT]
        tags, order = base + p[P_I_TAGS] + s * ways, base + p[P_I_ORDER] + s
    else:
        s = data_set(m, vaddr)
        ways, shift = p[P_D_WAYS], p[P_D_SHIFT]
        tags, order = base + p[P_D_TAGS] + s * ways, base + p[P_D_ORDER] + s
    key = (physical >> shift) + 1
    kind = FETCH if access == A_FETCH else (LOAD if access == A_LOAD else STORE)
    way = -1
    for candidate in range(ways):
        if l1[tags + candidate] >> 1 == key:
            way = candidate
    if way >= 0:
        if access != A_STORE or l1[tags + way] & 1:
            if l1[order] & 15 != way:
                promote(l1, order, way)
            return 0
        kind = UPGRADE
    else:
        way = choose_way(l1, tags, order, ways)
    if access == A_STORE:
        clear_reservations(mc, m, cpu, physical)
    emit_ref(mc, m, cpu, kind, way, vaddr, physical >> 12, pc, work)
    return 1


@inline
def filter_page(mc, cpu, access, vaddr, result):
    """Enter a mapped page in the page filter; a page that was not there is a row of `pages`."""
    page = vaddr >> 12
    at = page & (mc.p[X_FILTER] - 1)
    entry = ((page | (1 << 20)) << 32) | (result & PHYSICAL & ~0xFFF & 0xFFFFFFFF)
    if result & CACHED == 0:
        entry |= 2
    if result & WRITABLE:
        entry |= 1
    if np.int64(mc.filter[cpu, at]) >> 32 != (page | (1 << 20)):
        emit_page(mc, cpu, access, vaddr)
    mc.filter[cpu, at] = U(entry)


@helper
def wake(mc, m, cpu, turn_end):
    """End a CPU's WAIT if an unmasked interrupt is pending before `turn_end`; return 1 if so."""
    if mc.p[X_MONITOR] != 0:
        return wake_cpu(mc, m, cpu, turn_end)
    s = mc.s[cpu]
    k = mc.cp0[cpu]
    if s[S_WAITING] == LOCKED:
        return 0
    cause = 0
    slack = 0
    waker = s[S_WAKER]
    deadline = s[S_DEADLINE]
    own = cop0.turn_clock(mc, m, cpu)
    end = own
    pending = k[CAUSE] & k[STATUS] & 0xFF00
    if pending == 0:
        when = next_wake(mc, cpu)
        if when >= turn_end:
            return 0
        end = max(own, when)
        if k[STATUS] & IPI_BIT and when == ipi_time(mc, cpu):
            cause = BY_IPI
            slack = when - s[S_WAIT_BASE]
            arrive(mc, cpu, end)
        else:
            cause = BY_TIMER
            fire_timer(mc, m, cpu)
    elif pending & IPI_BIT and pending & ~(IPI_BIT | LINE_BIT) == 0 and s[S_WAIT_BASE] <= own:
        # It had come before the WAIT; with other stalls, in a replay, it might not have.
        cause = BY_IPI
    elif pending & LINE_BIT and pending & ~(IPI_BIT | LINE_BIT) == 0:
        cause = BY_DEVICE
        waker = mc.g[G_LINE_SLOT]
        end = max(own, mc.g[G_LINE_CLOCK])
    s[S_WAITING] = 0
    emit(mc, m, cpu, WAITS, 0, WAIT_END, cause, waker, slack, end - own, deadline)
    return 1


@inline
def ipi_time(mc, cpu):
    """Return when an inter-processor interrupt on its way ends a WAIT, or NEVER.

    Not before the one that was sent last, whose sender's clock a replay takes as the reference.
    """
    s = mc.s[cpu]
    return max(s[S_IPI_AT], s[S_WAIT_BASE])


@inline
def next_wake(mc, cpu):
    """Return when a waiting CPU with no interrupt pending will be woken, or NEVER."""
    s = mc.s[cpu]
    when = s[S_DEADLINE] if mc.cp0[cpu, STATUS] & (1 << 15) else NEVER
    if mc.cp0[cpu, STATUS] & IPI_BIT:
        when = min(when, ipi_time(mc, cpu))
    return when if s[S_WAITING] != LOCKED else NEVER


@inline
def standstill(mc):
    """Say what it means that no CPU can ever run again."""
    if mc.p[X_MONITOR] != 0:
        return EXIT_LOCKUP if any_stuck(mc) else EXIT_DEADLOCK
    for cpu in range(mc.p[X_CPUS]):
        if mc.s[cpu, S_WAITING] == LOCKED:
            return EXIT_LOCKUP
    return EXIT_DEADLOCK


@inline
def fire_timer(mc, m, cpu):
    """Raise the timer interrupt; Count meets Compare again after 2^32 counts."""
    mc.cp0[cpu, CAUSE] |= cop0.TIMER_BITS
    mc.s[cpu, S_DEADLINE] += 1 << 33


@inline
def crowded(mc, m):
    """Tell whether a buffer lacks the room that one trip through the slow part may need."""
    return (
        mc.g[G_REFS] + ROOM > mc.refs.shape[0]
        or mc.g[G_PAGE_ROWS] + ROOM > mc.pages.shape[0]
        or mc.g[G_EVENTS] + ROOM > mc.events.shape[0]
        or mc.g[G_CONSOLE] + ROOM > mc.console.shape[0]
        or full(m)
    )


@helper
def next_cpu(mc, m):
    """Choose the CPU whose turn it is, moving the turn forward when all have had theirs.

    Returns NOBODY if no CPU can ever run again. CPUs are visited in their order, repeatedly, until
    each has reached the end of the turn; one that gave its turn up is visited again after others.
    A turn ends early when a device is due; it acts (DEVICES) when all CPUs have come so far.
    """
    cpus = mc.p[X_CPUS]
    turn = mc.p[X_TURN] if cpus > 1 else LONE_TURN
    while True:
        end = mc.g[G_TURN]
        slowest = NEVER
        for step in range(cpus):
            cpu = (mc.g[G_CPU] + step) % cpus
            if mc.s[cpu, S_WAITING] != 0 and wake(mc, m, cpu, end) == 0:
                if mc.p[X_MONITOR] != 0:
                    slowest = min(slowest, next_deadline(mc, cpu))
                else:
                    slowest = min(slowest, next_wake(mc, cpu))
                continue
            clock = cop0.turn_clock(mc, m, cpu) + mc.s[cpu, S_PENDING]
            if clock < end:
                mc.g[G_CPU] = cpu
                return cpu
            slowest = min(slowest, clock)
        if mc.g[G_DUE] <= end:
            return DEVICES
        slowest = min(slowest, mc.g[G_DUE])
        if slowest == NEVER:
            return NOBODY
        # Turns that nobody would run in are skipped, not counted through.
        mc.g[G_TURN] = min(mc.g[G_DUE], (max(end, slowest) // turn) * turn + turn)


@helper
def tick(mc, m):
    """Close every CPU's interval of work with a row of `ticks`."""
    for cpu in range(mc.p[X_CPUS]):
        close_work(mc, m, cpu)


@kernel
def close_interval(mc, m):
    """Close all intervals of work, before a segment ends or the machine stops."""
    tick(mc, m)


@kernel
def start(mc, m):
    """Announce every CPU's first context."""
    for cpu in range(mc.p[X_CPUS]):
        if mc.p[X_MONITOR] != 0:
            begin(mc, m, cpu)
        else:
            set_context(mc, m, cpu)


@kernel
def announce(mc, m, first):
    """Record shared pages of images, as many as the buffers hold; see `announce_images`."""
    room = mc.events.shape[0] - mc.g[G_EVENTS] - 2 * ROOM
    return announce_images(mc, m, first, min(room, 1 << 12))


@inline
def find(mc, m, cpu, mode, vaddr, access, pc, work):
    """Translate an address of whatever runs here; see `translate` and `guest_translate`."""
    if mc.p[X_MONITOR] == 0:
        return translate(mc.p, mc.cp0[cpu], mc.tlb[cpu], mc.hint[cpu], mode, vaddr, access)
    return guest_translate(mc, m, cpu, mode, vaddr, access, pc, work)


@kernel
def run(mc, m, budget):
    """Run the machine for about `budget` base cycles of all CPUs together; return an EXIT_ code.

    All state is in the arrays on return, so a call continues where the last one ended.
    """
    p = mc.p
    g = mc.g
    ram = mc.ram
    ops = mc.ops
    l1 = m.l1
    fm = U(p[X_FILTER] - 1)
    ishift, isets, iways = U(m.p[P_I_SHIFT]), U(m.p[P_I_SETS] - 1), U(m.p[P_I_WAYS])
    dshift, dsets, dways = U(m.p[P_D_SHIFT]), U(m.p[P_D_SETS] - 1), U(m.p[P_D_WAYS])
    fmask = (~((U1 << ishift) - U1) & M32) | U3 | NO_LINE
    stop = p[X_STOP]
    stop_line = U(stop) & fmask & ~U3 if stop >= 0 else ~U(0)
    costs = (np.int64(max(p[X_MULT] - 1, 0)), np.int64(max(p[X_DIV] - 1, 0)))
    turn = p[X_TURN] if p[X_CPUS] > 1 else LONE_TURN
    monitored = p[X_MONITOR] != 0
    spent = 0

    while True:
        if g[G_EXIT] != 0:
            return g[G_EXIT]
        if g[G_SAVE] != 0:
            return EXIT_SAVE
        if spent >= budget:
            return EXIT_NONE
        if crowded(mc, m):
            return EXIT_FULL
        if g[G_CONTEXTS] + ROOM > mc.contexts.shape[0] and p[X_CONTEXTS_FULL] == 0:
            return EXIT_CONTEXTS
        resumed = g[G_RESUME]
        g[G_RESUME] = 0
        cpu = g[G_CPU] if resumed != 0 else next_cpu(mc, m)
        if cpu == DEVICES:
            device_turn(mc, m)
            spent += DEVICE_STEP
            continue
        if cpu == NOBODY:
            return standstill(mc)
        r = mc.gpr[cpu]
        s = mc.s[cpu]
        k = mc.cp0[cpu]
        f = mc.filter[cpu]
        wide = mc.fpr[cpu]
        words, singles = wide.view(np.uint32), wide.view(np.float32)
        doubles = wide.view(np.float64)
        first = cpu * m.p[P_L1_STRIDE]
        geometry = (
            U(first + m.p[P_I_TAGS]), U(first + m.p[P_I_ORDER]), ishift, isets, iways,
            U(first + m.p[P_D_TAGS]), U(first + m.p[P_D_ORDER]), dshift, dsets, dways,
        )  # fmt: skip
        n = s[S_PENDING]
        fbase = NO_LINE
        fdelta = U(0)
        yielded = False
        single = False
        # An access that has paid for its line completes before anyone can take the line away;
        # otherwise CPUs that fight for a line could start their stores again for ever.
        owed = False
        turn_start = cop0.turn_clock(mc, m, cpu) + n
        if resumed != 0:
            turn_start = resumed - 1
            fbase, fdelta = U(g[G_FETCH_LINE]), U(g[G_FETCH_DELTA])
            single = g[G_SINGLE] != 0
        retired_before = s[S_RETIRED] + s[S_SINCE] + n - s[S_EXTRA]

        while True:
            # Everything that can have changed is looked at again here.
            if not owed:
                if g[G_EXIT] != 0 or yielded or s[S_WAITING] == LOCKED:
                    break
                more = g[G_CONTEXTS] + ROOM > mc.contexts.shape[0] and p[X_CONTEXTS_FULL] == 0
                if more or g[G_SAVE] != 0 or crowded(mc, m):
                    g[G_RESUME] = turn_start + 1
                    g[G_FETCH_LINE] = np.int64(fbase)
                    g[G_FETCH_DELTA] = np.int64(fdelta)
                    g[G_SINGLE] = single
                    break
            now = cop0.turn_clock(mc, m, cpu)
            end = min(g[G_TURN], turn_start + turn)
            if monitored and not owed and now + n >= s[S_SLICE]:
                if slice_over(mc, m, cpu, n):
                    n = np.int64(0)
                    fbase = NO_LINE
                    yielded = True
                    continue
            if now + n >= s[S_DEADLINE]:
                fire_timer(mc, m, cpu)
            if now + n >= s[S_IPI_AT]:
                arrive(mc, cpu, now + n)
            if s[S_SPECIAL] != 0:
                show_registers(mc, cpu)
            pending = k[CAUSE] & k[STATUS] & 0xFF00
            if pending and k[STATUS] & 7 == 1:
                take(mc, m, cpu, INT, 0, s[S_PC], s[S_SLOT], 0, 0, n)
                n = np.int64(0)
                fbase = NO_LINE
                continue
            if now + n >= end and not owed:
                break
            limit = min(end, s[S_DEADLINE], s[S_IPI_AT]) - now
            left = p[X_MAX_INSTRUCTIONS] - g[G_INSTRUCTIONS]
            retired = s[S_RETIRED] + s[S_SINCE] + n - s[S_EXTRA] - retired_before
            if retired >= left:
                g[G_EXIT] = EXIT_INSTRUCTIONS
                break
            limit = min(limit, n + left - retired)
            if monitored:
                limit = min(limit, s[S_SLICE] - now)
            if single:
                limit = min(limit, n + 1)
            paid = owed
            if owed:
                limit = n + 1
                owed = False
            mode = s[S_CONTEXT] & 3
            useg_end = U(0) if k[STATUS] & 4 else SIGN
            high_size = U(0)
            if mode != 2:
                high_size = U(0x20000000) if mode == 1 else U(0x40000000)
            privileged = mode == 0 or mode == 3 or k[STATUS] & (1 << 28) != 0
            kseg0_size = U(0)
            if (mode == 0 or mode == 3) and is_cached(k[CONFIG] & 7):
                kseg0_size = U(p[X_RAM])
            if monitored:
                mode = np.int64(virtual_mode(mc, cpu))
                enter_regime(mc, cpu, mode)
                low_end, above = reach(mc, mode)
                useg_end, high_size, kseg0_size = U(low_end), U(above), U(0)
                privileged = mode == 0 or mode == 3 or k[STATUS] & (1 << 28) != 0

            off = U(0) if k[STATUS] & STATUS_CU1 else U(MAJOR)
            fr, odd = U1, off
            if k[STATUS] & STATUS_FR == 0:
                fr, odd = U(0), off | U(ANY_ODD)
            slow = odd if wide[FCSR] & FAST_FCSR == U(0) else odd | U(MAJOR)
            fpu = (words, singles, doubles, wide, fr, off, odd, slow)

            pc = U(s[S_PC])
            why, n, pc, npc, slot, cur, was_slot, fbase, fdelta, op, w, va, extra, data = run_hot(
                n, limit, pc, U(s[S_NPC]), s[S_SLOT], fbase, fdelta, fmask, stop_line,
                r, s, f, fm, useg_end, kseg0_size, high_size, ram, ops, l1, geometry, costs,
                k, privileged and not monitored, fpu, p,
            )  # fmt: skip
            s[S_EXTRA] += extra
            s[S_DATA] += data
            s[S_PC] = np.int64(pc)
            s[S_NPC] = np.int64(npc)
            s[S_SLOT] = slot
            # What was fetched for one instruction is fetched again for the next, but not for an
            # instruction that is started again.
            alone, held = single, fbase
            single = False
            if alone:
                fbase = NO_LINE
            if why == W_LIMIT:
                continue
            # A trap for the access may have cost the code's translation: still owed behind it.
            owed = paid and monitored and why == W_FETCH

            if why == W_FETCH and np.int64(pc) == stop:
                g[G_EXIT] = EXIT_STOP
                g[G_STOP_CPU] = cpu
                break

            here = np.int64(cur)
            if why == W_DECODE:
                at = ((cur + fdelta) & M32) >> U2
                ops[at] = decode(np.int64(ram[at]))
                n -= 1
                s[S_PC] = here
                s[S_NPC] = np.int64(pc)
                s[S_SLOT] = was_slot
                if alone:
                    single, owed, fbase = True, True, held
                continue

            # CACHE operations that bring a line in: fill, and fetch and lock.
            filling = False
            if why == W_SLOW and op == O_CACHE and privileged:
                which = rt_of(w)
                filling = which == I_FILL or which == I_LOCK or which == D_LOCK

            if why == W_FETCH or why == W_LOAD or why == W_STORE or filling:
                access = np.int64(A_FETCH)
                vaddr = np.int64(pc)
                here = vaddr
                unaligned = vaddr & 3
                if why == W_FETCH:
                    was_slot = s[S_SLOT]
                elif filling:
                    vaddr = np.int64((U(r[rs_of(w)]) + imm16(w)) & M32)
                    here = np.int64(cur)
                    unaligned = np.int64(0)
                    access = np.int64(A_LOAD)
                else:
                    access = np.int64(A_LOAD if why == W_LOAD else A_STORE)
                    vaddr = np.int64(va)
                    here = np.int64(cur)
                    unaligned = vaddr & (access_size(op) - 1)
                if unaligned:
                    result = np.int64(-ADES if why == W_STORE else -ADEL)
                else:
                    done = n - (why != W_FETCH)
                    result = find(mc, m, cpu, mode, vaddr, access, here, done)
                    if result > 0 and result & TRAPPED:
                        n -= done
                        fbase = NO_LINE
                if result < 0:
                    # A cycle without an instruction; a load or store has counted it already. A
                    # vector where no memory is must not stop the clock for good.
                    n += why == W_FETCH
                    s[S_EXTRA] += 1
                    code = -result
                    take(mc, m, cpu, code & 255, (code & MISSED) >> 8, here, was_slot, vaddr, 0, n)
                    n = np.int64(0)
                    fbase = NO_LINE
                    continue
                physical = result & PHYSICAL
                if result & DEVICE and not filling:
                    yielded = guest_device(mc, m, cpu, op, w, va, physical, access, here, n) != 0
                    n = np.int64(0)
                    continue
                if result & MAPPED:
                    filter_page(mc, cpu, access, vaddr, result)
                n -= why != W_FETCH
                if filling:
                    if monitored:
                        trap_privileged(mc, m, cpu, op, here, n)
                        n = np.int64(0)
                    if rt_of(w) != D_LOCK:
                        access = np.int64(A_FETCH)
                    if result & CACHED == 0:
                        n += 1
                        continue
                if result & CACHED:
                    # Now it will hit: start the instruction again.
                    if first_level_access(mc, m, cpu, access, vaddr, physical, here, n):
                        n = np.int64(0)
                    if filling:
                        n += 1
                        fbase = NO_LINE
                        continue
                    if why != W_FETCH:
                        s[S_PC] = here
                        s[S_NPC] = np.int64(pc)
                        s[S_SLOT] = was_slot
                        owed = True
                        if alone:
                            single, fbase = True, held
                        continue
                else:
                    kind = UNCACHED_FETCH
                    if why != W_FETCH:
                        kind = UNCACHED_LOAD if access == A_LOAD else UNCACHED_STORE
                    emit_uncommon(mc, m, cpu, kind, 0, vaddr, physical >> 12, here, n)
                    n = np.int64(0)
                if why == W_FETCH:
                    fbase = pc & fmask
                    fdelta = U(physical - vaddr) & M32
                    # An uncached instruction that has been waited for is carried out, too.
                    owed = owed or result & CACHED == 0
                    single = fbase == stop_line or result & CACHED == 0
                    continue
                n = np.int64(1)
                s[S_DATA] += 1
                in_ram = monitored or physical < p[X_RAM]
                if in_ram and access == A_STORE:
                    clear_reservations(mc, m, cpu, physical)
                if IS_FLOAT[op]:
                    done = float_access(mc, m, cpu, op, w, physical, n)
                    if done & 2:
                        n = np.int64(0)
                    yielded = done & 1 != 0
                elif in_ram:
                    finish_access(mc, cpu, op, w, va, physical)
                elif access == A_LOAD:
                    rt = rt_of(w)
                    word = U(device_read(mc, cpu, physical)) & M32
                    r[rt] = loaded(op, va, word, U(r[rt]))
                    r[0] = 0
                else:
                    value = np.int64(r[rt_of(w)])
                    done = device_write(mc, m, cpu, physical, value, n)
                    if done & 2:
                        n = np.int64(0)
                    yielded = done & 1 != 0
                    if op == O_SC:
                        r[rt_of(w)] = 1
                        r[0] = 0
                        s[S_LL] = 0
                continue

            if why == W_SC_FAIL or why == W_SC:
                kind = SC_DONE
                if why == W_SC_FAIL:
                    # The address is translated even if nothing will be stored.
                    vaddr = np.int64(va)
                    result = find(mc, m, cpu, mode, vaddr, A_STORE, here, n - 1)
                    if result > 0 and result & TRAPPED:
                        n = np.int64(1)
                        fbase = NO_LINE
                    if result < 0:
                        code = -result
                        s[S_EXTRA] += 1
                        missed = (code & MISSED) >> 8
                        take(mc, m, cpu, code & 255, missed, here, was_slot, vaddr, 0, n)
                        n = np.int64(0)
                        fbase = NO_LINE
                        continue
                    kind = SC_FAIL
                    r[rt_of(w)] = 0
                    r[0] = 0
                    s[S_LL] = 0
                    yielded = True
                emit_uncommon(mc, m, cpu, kind, 0, np.int64(va), s[S_LLADDR] >> 12, here, n)
                n = np.int64(0)
                continue

            if why == W_TRAP or why == W_OVERFLOW:
                s[S_EXTRA] += 1
                take(mc, m, cpu, TR if why == W_TRAP else OV, 0, here, was_slot, 0, 0, n)
                n = np.int64(0)
                fbase = NO_LINE
                continue

            # The rare instructions.
            major = w >> U(26)
            code = -1
            unit = 0
            if monitored and privileged and SENSITIVE[op]:
                trap_privileged(mc, m, cpu, op, here, n)
                n = np.int64(0)
            if op == PHASE:
                number = np.int64(np.int16(w & U(0xFFFF)))
                if phase_mark(mc, m, cpu, number, n):
                    n = np.int64(0)
            elif op == O_SYSCALL:
                code = SYS
            elif op == O_BREAK:
                code = BP
            elif op == O_RDHWR:
                if monitored and rdhwr_traps(mc, cpu, np.int64(rd_of(w)), privileged):
                    trap_rdhwr(mc, m, cpu, here, n)
                    n = np.int64(0)
                if rdhwr(mc, m, cpu, w, privileged, n) == 0:
                    code = RI
            elif IS_FLOAT[op]:
                if k[STATUS] & STATUS_CU1 == 0:
                    code = CPU_UNUSABLE
                    unit = 1
                else:
                    code = execute(wide, r, np.int64(k[STATUS]), op, np.int64(w))
                    if code < 0:
                        n += p[X_FPU_COSTS + COST[op]]
                        s[S_EXTRA] += p[X_FPU_COSTS + COST[op]]
            elif op == O_COP2 or op == O_LWC2 or op == O_LDC2 or op == O_SWC2 or op == O_SDC2:
                code = CPU_UNUSABLE
                unit = 2
            elif (major == U(16) or op == O_CACHE) and not privileged:
                code = CPU_UNUSABLE
            elif op == O_MFC0:
                value = cop0.read(mc, m, cpu, np.int64(rd_of(w) * U8 + (w & U(7))), n)
                r[rt_of(w)] = U(value) & M32
                r[0] = 0
            elif op == O_MTC0:
                value = np.int64(r[rt_of(w)])
                if cop0.write(mc, m, cpu, np.int64(rd_of(w) * U8 + (w & U(7))), value, n):
                    n = np.int64(0)
                fbase = NO_LINE
            elif op == O_DI or op == O_EI:
                r[rt_of(w)] = k[STATUS]
                r[0] = 0
                if op == O_DI:
                    k[STATUS] = k[STATUS] & 0xFFFFFFFE
                else:
                    k[STATUS] = k[STATUS] | 1
            elif op == O_TLBWI or op == O_TLBWR:
                if op == O_TLBWI:
                    entry, how = np.int64(k[INDEX] & 63), cop0.WRITE_INDEXED
                else:
                    entry, how = np.int64(cop0.random_entry(mc, m, cpu, n)), cop0.WRITE_RANDOM
                if monitored:
                    guest_tlb_write(mc, m, cpu, entry, how)
                else:
                    cop0.tlb_write(mc, m, cpu, entry, how, n)
                n = np.int64(0)
                if monitored or U(s[S_PC]) - SIGN >= UNMAPPED:
                    fbase = NO_LINE
            elif op == O_TLBP:
                if monitored:
                    guest_tlb_probe(mc, m, cpu)
                else:
                    cop0.tlb_probe(mc, m, cpu, n)
                n = np.int64(0)
            elif op == O_TLBR:
                if monitored:
                    guest_tlb_read(mc, m, cpu)
                else:
                    cop0.tlb_read(mc, m, cpu, n)
                n = np.int64(0)
                fbase = NO_LINE
            elif op == O_ERET:
                leave(mc, m, cpu, n)
                n = np.int64(0)
                fbase = NO_LINE
            elif op == O_WAIT and monitored:
                wait(mc, m, cpu)
                fbase = NO_LINE
                yielded = True
            elif op == O_WAIT:
                emit(mc, m, cpu, WAITS, n, WAIT_BEGIN, 0, 0, 0, 0, s[S_DEADLINE])
                n = np.int64(0)
                s[S_WAITING] = 1
                yielded = True
            elif op == O_CACHE or op == O_SYNCI:
                va = (U(r[rs_of(w)]) + imm16(w)) & M32
                operation = np.int64(rt_of(w)) if op == O_CACHE else 0x10
                vaddr = np.int64(va)
                result = np.int64(s[S_BASE])
                if operation >> 2 >= 4:
                    result = find(mc, m, cpu, mode, vaddr, A_LOAD, here, n - 1)
                    if result > 0 and result & TRAPPED:
                        n = np.int64(1)
                    if result == -DBE or (result > 0 and result & DEVICE):
                        continue  # no cache holds a line of what is not there
                    if result > 0 and result & MAPPED:
                        filter_page(mc, cpu, A_LOAD, vaddr, result)
                elif operation >> 2 == 1:
                    load_tag(mc, m, cpu, operation, vaddr)
                elif operation >> 2 == 2 and k[TAGLO + 2 * (operation & 1)] & TAG_VALID:
                    operation += 4
                if result < 0:
                    code = -result
                    s[S_EXTRA] += 1
                    take(mc, m, cpu, code & 255, (code & MISSED) >> 8, here, was_slot, vaddr, 0, n)
                    n = np.int64(0)
                    fbase = NO_LINE
                    continue
                if monitored and op == O_CACHE:
                    trap_privileged(mc, m, cpu, op, here, n)
                    n = np.int64(0)
                page = (result & PHYSICAL) >> 12
                emit_uncommon(mc, m, cpu, CACHE_OP, operation, vaddr, page, here, n)
                n = np.int64(0)
                fbase = NO_LINE
            elif op == O_RDPGPR or op == O_WRPGPR:
                # One register set only: a copy within it.
                r[rd_of(w)] = r[rt_of(w)]
                r[0] = 0
            else:
                code = RI
                if major == U(16) and not privileged:
                    code = CPU_UNUSABLE
            if code >= 0:
                s[S_EXTRA] += 1
                take(mc, m, cpu, code, 0, here, was_slot, 0, unit, n)
                n = np.int64(0)
                fbase = NO_LINE

        s[S_PENDING] = n
        now = cop0.turn_clock(mc, m, cpu) + n
        spent += now - turn_start
        g[G_INSTRUCTIONS] += s[S_RETIRED] + s[S_SINCE] + n - s[S_EXTRA] - retired_before
        if g[G_RESUME] == 0:
            g[G_CPU] = (cpu + 1) % p[X_CPUS]


@inline
def finish_access(mc, cpu, op, w, va, physical):
    """Move the data of a load or store whose address is translated and in RAM."""
    r = mc.gpr[cpu]
    at = physical >> 2
    rt = rt_of(w)
    if op == O_SC:
        s = mc.s[cpu]
        good = s[S_LL] != 0 and s[S_LLADDR] == physical
        if good:
            mc.ram[at] = r[rt]
            mc.ops[at] = 0
        r[rt] = 1 if good else 0
        s[S_LL] = 0
    elif op == O_SB or op == O_SH or op == O_SW or op == O_SWL or op == O_SWR:
        mc.ram[at] = stored(op, va, U(mc.ram[at]), U(r[rt]))
        mc.ops[at] = 0
    else:
        r[rt] = loaded(op, va, U(mc.ram[at]), U(r[rt]))
        if op == O_LL:
            mc.s[cpu, S_LL] = 1
            mc.s[cpu, S_LLADDR] = physical
    r[0] = 0


@helper
def load_tag(mc, m, cpu, operation, vaddr):
    """Carry out CACHE Index Load Tag: a first-level line's tag, in the 24K's form, into TagLo."""
    if operation & 3 > 1:
        return
    data = operation & 3 == 1
    tag = m.l1[first_tag(m, cpu, data, vaddr) + indexed_way(m, data, vaddr)]
    value = np.int64(0)
    shift = m.p[P_D_SHIFT] if data else m.p[P_I_SHIFT]
    # A machine sees the lines of its own memory only.
    address = (((tag >> 1) - 1) << shift) - mc.s[cpu, S_BASE]
    if tag != 0 and 0 <= address < mc.p[X_RAM]:
        value = (address & 0xFFFFF000) | TAG_VALID | (TAG_DIRTY if tag & 1 else 0)
    mc.cp0[cpu, TAGLO + 2 * (operation & 1)] = value
    mc.cp0[cpu, TAGHI + 2 * (operation & 1)] = 0


@helper
def rdhwr(mc, m, cpu, w, privileged, work):
    """Carry out RDHWR; return 0 if the register may not be read (Reserved Instruction)."""
    k = mc.cp0[cpu]
    number = np.int64(rd_of(w))
    if not privileged and (k[HWRENA] >> number) & 1 == 0:
        return 0
    if number == 0:
        value = mc.s[cpu, S_VCPU]
    elif number == 1:
        value = 1 << min(m.p[P_I_SHIFT], m.p[P_D_SHIFT])
    elif number == 2:
        value = cop0.read(mc, m, cpu, cop0.COUNT, work)
    elif number == 3:
        value = 2
    elif number == 29:
        value = np.int64(k[USERLOCAL])
    else:
        return 0
    mc.gpr[cpu, rt_of(w)] = U(value) & M32
    mc.gpr[cpu, 0] = 0
    return 1


@kernel
def decode_again(mc):
    """Decode anew every word that a saved machine had decoded; what it saved only says which."""
    for at in range(mc.ops.shape[0]):
        if mc.ops[at] != 0:
            mc.ops[at] = decode(np.int64(mc.ram[at]))


@kernel
def count_register(mc, m, cpu):
    """Return the CPU's Count register as a program would read it now."""
    return cop0.read(mc, m, cpu, cop0.COUNT, mc.s[cpu, S_PENDING])


def compile_kernels() -> None:
    """Compile (or load from the cache) everything that a capture runs."""
    from disco_trace.config import Spec
    from disco_trace.machine.layout import build
    from disco_trace.memory.layout import build as build_memory

    spec = Spec()
    mc, m = build(spec, 4 * ROOM), build_memory(spec, contexts=4)
    mc.p[X_MAX_INSTRUCTIONS] = 0
    start(mc, m)
    announce(mc, m, 0)
    run(mc, m, np.int64(1))
    close_interval(mc, m)
    count_register(mc, m, 0)
    decode_again(mc)
