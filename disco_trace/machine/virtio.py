"""The registers of the virtio-mmio slots, and the devices' turns (VIRTIO 1.2, 4.2 and 2.1).

A device that is notified starts after its latency; what it does then it does in steps, each as
long as a few rows of the trace, at times of its own (`V_DUE`) on the turn clock. `G_DUE` is the
earliest. No CPU runs past it before the device has had its turn: see `kernel.next_cpu`.
"""

from __future__ import annotations

from disco_trace.jit import helper, inline
from disco_trace.machine.block import block_step
from disco_trace.machine.cop0 import turn_clock
from disco_trace.machine.emit import close_work, emit
from disco_trace.machine.layout import (
    CAUSE,
    G_DUE,
    G_LINE_CLOCK,
    G_LINE_CPU,
    G_LINE_SLOT,
    G_TURN,
    IP_VIRTIO,
    S_BASE,
    S_CONTEXT,
    S_LL,
    S_LLADDR,
    S_PENDING,
    X_CPUS,
    X_MONITOR,
    X_O_VM,
    X_PAGES,
)
from disco_trace.machine.network import TRANSMIT, is_live, network_step
from disco_trace.machine.slots import (
    A_DMA,
    A_PACKET,
    A_PAGE,
    A_REMAP,
    BLOCK,
    CHAIN,
    F_VERSION_1,
    FETCH,
    IDLE,
    NETWORK,
    NEVER,
    Q_AVAIL,
    Q_AVAIL_HIGH,
    Q_AVAIL_LOW,
    Q_DESC,
    Q_DESC_HIGH,
    Q_DESC_LOW,
    Q_LAST,
    Q_NUM,
    Q_READY,
    Q_USED,
    Q_USED_HIGH,
    Q_USED_INDEX,
    Q_USED_LOW,
    QUEUE_SIZE,
    QUEUE_WORDS,
    SECTOR,
    SLOTS,
    V_CONTEXT,
    V_CPU,
    V_DEVICE_SEL,
    V_DRIVER_HIGH,
    V_DRIVER_LOW,
    V_DRIVER_SEL,
    V_DUE,
    V_ISR,
    V_KIND,
    V_LATENCY,
    V_LEARNED,
    V_MAC,
    V_OFFERED,
    V_QUEUE_SEL,
    V_QUEUES,
    V_REQUEST,
    V_SECTORS,
    V_STARTED,
    V_STATE,
    V_STATUS,
)
from disco_trace.machine.virtqueue import (
    ACKNOWLEDGE,
    DRIVER,
    DRIVER_OK,
    FAILED,
    FEATURES_OK,
    NEEDS_RESET,
    give_up,
    in_ram,
    line_is_high,
    rest,
)
from disco_trace.memory.events import (
    CLEARED,
    DEVICE_STARTED,
    DMA,
    INTERRUPTS,
    LINE_SHIFT,
    PACKETS,
    RAISED,
    TRAPS,
)
from disco_trace.memory.layout import P_GRANULE_SHIFT
from disco_trace.monitor.layout import (
    NOBODY,
    V_CP0,
    V_READY,
    VM_FIRST,
    VM_LINE,
    VM_LINE_CLOCK,
    VM_LINE_SLOT,
    VM_WORDS,
)
from disco_trace.monitor.layout import V_CPU as VCPU_ON
from disco_trace.monitor.pages import real
from disco_trace.monitor.paging import record_page
from disco_trace.monitor.vcpu import record
from disco_trace.trace.schema import MONITOR_CAUSES

NETWORK_WORK = MONITOR_CAUSES.index("network")
REMAP = MONITOR_CAUSES.index("remap")

LINE_BIT = 1 << (8 + IP_VIRTIO)

# Registers, by their offset in a slot (4.2.2).
(
    MAGIC, VERSION, DEVICE_ID, VENDOR_ID, DEVICE_FEATURES, DEVICE_FEATURES_SEL, DRIVER_FEATURES,
    DRIVER_FEATURES_SEL, QUEUE_SELECT, QUEUE_NUM_MAX, QUEUE_NUM, QUEUE_READY, QUEUE_NOTIFY,
    INTERRUPT_STATUS, INTERRUPT_ACK, STATUS, QUEUE_DESC, QUEUE_AVAIL, QUEUE_USED, SHM_LENGTH,
    SHM_BASE, GENERATION, CONFIG,
) = (
    0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x38, 0x44, 0x50, 0x60, 0x64, 0x70,
    0x80, 0x90, 0xA0, 0xB0, 0xB8, 0xFC, 0x100,
)  # fmt: skip
MAGIC_VALUE = 0x74726976  # "virt"
VENDOR = 0x4F435344  # "DSCO"
M32 = 0xFFFFFFFF

# What a store to a register leads to.
NOTHING, START, LOWER, RAISE = range(4)


@inline
def queues_of(v):
    """Return how many queues a device has."""
    return 2 if v[V_KIND] == NETWORK else 1


@helper
def virtio_read(v, offset):
    """Return a register of a slot, or a word of its configuration."""
    if offset == MAGIC:
        return MAGIC_VALUE
    if offset == VERSION:
        return 2
    if offset == DEVICE_ID:
        return v[V_KIND]
    if offset == VENDOR_ID:
        return VENDOR
    if v[V_KIND] == 0:
        return 0
    if offset >= CONFIG:
        return config_word(v, (offset - CONFIG) >> 2)
    if offset == DEVICE_FEATURES:
        if v[V_DEVICE_SEL] == 0:
            return v[V_OFFERED]
        return F_VERSION_1 if v[V_DEVICE_SEL] == 1 else 0
    if offset == QUEUE_NUM_MAX:
        return QUEUE_SIZE if v[V_QUEUE_SEL] < queues_of(v) else 0
    if offset == QUEUE_READY:
        if v[V_QUEUE_SEL] < queues_of(v):
            return v[V_QUEUES + v[V_QUEUE_SEL] * QUEUE_WORDS + Q_READY]
        return 0
    if offset == INTERRUPT_STATUS:
        return v[V_ISR]
    if offset == STATUS:
        return v[V_STATUS]
    if offset >= SHM_LENGTH and offset < SHM_BASE + 8:
        return M32  # no shared memory
    return 0


@helper
def config_word(v, word):
    """Return a word of the device's configuration (5.1.4, 5.2.4); it never changes."""
    if v[V_KIND] == BLOCK:
        if word == 0:
            return v[V_SECTORS] & M32
        if word == 1:
            return v[V_SECTORS] >> 32
        if word == 3:
            return CHAIN - 2  # seg_max: a chain without header and status
        if word == 5:
            return SECTOR  # blk_size
        return 0
    if word == 0:
        return v[V_MAC] & M32
    if word == 1:
        return v[V_MAC] >> 32 | 1 << 16  # the link is up
    return 0


@helper
def virtio_write(mc, slot, offset, value):
    """Store a register of a device; return what is to be recorded: one of the below."""
    v = mc.virtio[slot]
    if offset == STATUS:
        return write_status(mc, slot, value)
    if offset == INTERRUPT_ACK:
        return lower(mc, slot, ~value)
    if offset == QUEUE_NOTIFY:
        return notify(v, value)
    if offset == DEVICE_FEATURES_SEL:
        v[V_DEVICE_SEL] = value
    elif offset == DRIVER_FEATURES_SEL:
        v[V_DRIVER_SEL] = value
    elif offset == DRIVER_FEATURES:
        if v[V_STATUS] & FEATURES_OK == 0:
            if v[V_DRIVER_SEL] == 0:
                v[V_DRIVER_LOW] = value
            elif v[V_DRIVER_SEL] == 1:
                v[V_DRIVER_HIGH] = value
    elif offset == QUEUE_SELECT:
        v[V_QUEUE_SEL] = value
    elif v[V_QUEUE_SEL] < queues_of(v):
        at = V_QUEUES + v[V_QUEUE_SEL] * QUEUE_WORDS
        if offset == QUEUE_READY:
            return make_ready(mc, slot, at, value & 1)
        if v[at + Q_READY] == 0:
            if offset == QUEUE_NUM:
                v[at + Q_NUM] = value
            elif offset == QUEUE_DESC:
                v[at + Q_DESC_LOW] = value
            elif offset == QUEUE_DESC + 4:
                v[at + Q_DESC_HIGH] = value
            elif offset == QUEUE_AVAIL:
                v[at + Q_AVAIL_LOW] = value
            elif offset == QUEUE_AVAIL + 4:
                v[at + Q_AVAIL_HIGH] = value
            elif offset == QUEUE_USED:
                v[at + Q_USED_LOW] = value
            elif offset == QUEUE_USED + 4:
                v[at + Q_USED_HIGH] = value
    return NOTHING


@helper
def write_status(mc, slot, value):
    """Reset the device, or take the driver's bits: features only if the device can have them."""
    v = mc.virtio[slot]
    if value == 0:
        rest(mc, slot)
        for word in (V_STATUS, V_DEVICE_SEL, V_DRIVER_SEL, V_DRIVER_LOW, V_DRIVER_HIGH):
            v[word] = 0
        v[V_QUEUE_SEL] = 0
        v[V_LEARNED] = 0
        for word in range(V_QUEUES, V_QUEUES + 2 * QUEUE_WORDS):
            v[word] = 0
        return lower(mc, slot, 0)
    status = value & (ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED)
    unknown = v[V_DRIVER_LOW] & ~v[V_OFFERED]
    if v[V_STATUS] & FEATURES_OK == 0 and (unknown != 0 or v[V_DRIVER_HIGH] != F_VERSION_1):
        status &= ~FEATURES_OK
    v[V_STATUS] = status | (v[V_STATUS] & NEEDS_RESET)
    return NOTHING


@helper
def lower(mc, slot, keep):
    """Clear bits of InterruptStatus; tell whether no device asks for the line any more."""
    high = line_is_high(mc.virtio, slot)
    mc.virtio[slot, V_ISR] &= keep
    return LOWER if high and not line_is_high(mc.virtio, slot) else NOTHING


@helper
def make_ready(mc, slot, at, ready):
    """Put a queue into use if size and places are possible (2.7, 2.7.5), or out of use."""
    v = mc.virtio[slot]
    if ready == 0 or v[at + Q_READY] != 0:
        v[at + Q_READY] = ready
        return NOTHING
    size = v[at + Q_NUM]
    desc = v[at + Q_DESC_LOW] | v[at + Q_DESC_HIGH] << 32
    avail = v[at + Q_AVAIL_LOW] | v[at + Q_AVAIL_HIGH] << 32
    used = v[at + Q_USED_LOW] | v[at + Q_USED_HIGH] << 32
    good = 0 < size <= QUEUE_SIZE and size & (size - 1) == 0
    good = good and desc & 15 == 0 and avail & 1 == 0 and used & 3 == 0
    good = good and in_ram(mc, desc, 16 * size) and in_ram(mc, avail, 6 + 2 * size)
    if good and in_ram(mc, used, 6 + 8 * size):
        v[at + Q_DESC], v[at + Q_AVAIL], v[at + Q_USED] = desc, avail, used
        v[at + Q_LAST] = 0
        v[at + Q_USED_INDEX] = 0
        v[at + Q_READY] = 1
        return NOTHING
    give_up(mc, slot)
    return RAISE if mc.actions[0, 0] else NOTHING


@helper
def notify(v, queue):
    """Tell whether a notice starts the device: it is idle, and takes requests from the queue.

    Buffers for frames that may arrive need no notice.
    """
    if not is_live(v[V_STATUS]) or v[V_STATE] != IDLE:
        return NOTHING
    if queue != (TRANSMIT if v[V_KIND] == NETWORK else 0):
        return NOTHING
    return START if v[V_QUEUES + queue * QUEUE_WORDS + Q_READY] != 0 else NOTHING


@helper
def device_store(mc, m, cpu, slot, offset, value, work):
    """Store a register of a slot; return 2 if rows were written, which consumes `work`."""
    v = mc.virtio[slot]
    if v[V_KIND] == 0:
        return 0
    mc.actions[0, 0] = 0
    v[V_CONTEXT] = mc.s[cpu, S_CONTEXT]
    result = virtio_write(mc, slot, offset, value)
    mc.g[G_DUE] = due_of(mc.virtio)
    if result == NOTHING:
        return 0
    if result == LOWER:
        emit(mc, m, cpu, INTERRUPTS, work, CLEARED, IP_VIRTIO, slot, 0, 0, 0)
        set_line(mc, slot, 0)
        return 2
    # A device that the driver breaks by a register starts, and interrupts at once.
    latency = v[V_LATENCY] if result == START else 0
    emit(mc, m, cpu, INTERRUPTS, work, DEVICE_STARTED, IP_VIRTIO, slot, latency, 0, 0)
    v[V_CPU] = cpu
    v[V_STARTED] = turn_clock(mc, m, cpu)
    if result == RAISE:
        machine = slot // SLOTS
        emit(mc, m, cpu, INTERRUPTS, 0, RAISED, IP_VIRTIO, slot, machine << LINE_SHIFT, 0, 0)
        raise_line(mc, slot, slot, v[V_STARTED])
        return 2
    v[V_STATE] = FETCH
    v[V_DUE] = v[V_STARTED] + latency
    mc.g[G_DUE] = min(mc.g[G_DUE], v[V_DUE])
    # Nobody runs past this time any more; who is beyond it already waits.
    mc.g[G_TURN] = min(mc.g[G_TURN], v[V_DUE])
    return 2


@helper
def raise_line(mc, owner, slot, clock):
    """Raise the interrupt line of the owner's machine at a time, for what a slot has done."""
    if mc.p[X_MONITOR] == 0:
        mc.g[G_LINE_CLOCK] = clock
        mc.g[G_LINE_SLOT] = slot
    else:
        vm = mc.p[X_O_VM] + owner // SLOTS * VM_WORDS
        mc.mon[vm + VM_LINE_CLOCK] = clock
        # A wait that it ends goes by this machine's line, whoever the sender was.
        mc.mon[vm + VM_LINE_SLOT] = owner
    set_line(mc, owner, LINE_BIT)


@helper
def set_line(mc, owner, level):
    """Set or clear the interrupt line of the owner's machine at the CPU that it leads to.

    A virtual CPU that waits off its CPU could run from then on.
    """
    cpu = mc.g[G_LINE_CPU]
    if mc.p[X_MONITOR] != 0:
        vm = mc.p[X_O_VM] + owner // SLOTS * VM_WORDS
        at = record(mc, mc.mon[vm + VM_FIRST] + mc.mon[vm + VM_LINE])
        cpu = mc.mon[at + VCPU_ON]
        if cpu == NOBODY:
            mc.mon[at + V_CP0 + CAUSE] = (mc.mon[at + V_CP0 + CAUSE] & ~LINE_BIT) | level
            if level != 0:
                mc.mon[at + V_READY] = max(mc.mon[at + V_READY], mc.mon[vm + VM_LINE_CLOCK])
            return
    mc.cp0[cpu, CAUSE] = (mc.cp0[cpu, CAUSE] & ~LINE_BIT) | level


@helper
def lead_line(mc, cpu):
    """Let the devices' interrupt line lead to another CPU."""
    level = mc.cp0[mc.g[G_LINE_CPU], CAUSE] & LINE_BIT
    set_line(mc, 0, 0)
    mc.g[G_LINE_CPU] = cpu
    set_line(mc, 0, level)


@helper
def lead_virtual_line(mc, vm, number):
    """Let the interrupt line of a virtual machine's devices lead to another of its virtual CPUs."""
    owner = vm * SLOTS
    level = LINE_BIT if line_is_high(mc.virtio, owner) else 0
    set_line(mc, owner, 0)
    mc.mon[mc.p[X_O_VM] + vm * VM_WORDS + VM_LINE] = number
    set_line(mc, owner, level)


@helper
def due_of(slots):
    """Return the next time at which a device wants a turn."""
    due = NEVER
    for slot in range(slots.shape[0]):
        due = min(due, slots[slot, V_DUE])
    return due


@helper
def device_turn(mc, m):
    """Let the device whose time has come do one step; the lowest slot of those at one time.

    What it does is recorded as the doing of the CPU whose request it is; a virtual machine's in the
    context in which it last used the device, as another may run there by now.
    """
    slot = 0
    while mc.virtio[slot, V_DUE] != mc.g[G_DUE] and slot < mc.virtio.shape[0] - 1:
        slot += 1
    v = mc.virtio[slot]
    cpu = v[V_CPU]
    due = v[V_DUE]
    request = v[V_REQUEST]
    actions = mc.actions
    actions[0, 0] = 0
    if v[V_KIND] == BLOCK:
        block_step(mc, slot)
    else:
        network_step(mc, slot)
    mc.g[G_DUE] = due_of(mc.virtio)
    request = max(request, v[V_REQUEST])
    s = mc.s[cpu]
    monitored = mc.p[X_MONITOR] != 0
    if monitored and actions[0, 0] > 0:
        close_work(mc, m, cpu)
    context = s[S_CONTEXT]
    base = s[S_BASE]
    for number in range(1, actions[0, 0] + 1):
        action = actions[number]
        what, owner = action[0], action[1]
        work = s[S_PENDING]
        s[S_PENDING] = 0
        if monitored:
            of = slot if what == A_PACKET or what == A_REMAP else owner
            s[S_CONTEXT] = mc.virtio[of, V_CONTEXT]
            s[S_BASE] = (of // SLOTS * mc.p[X_PAGES]) << 12
        if what == A_DMA:
            op, address, length = action[2], action[3], action[4]
            while length > 0:
                part = min(length, 4096 - (address & 4095))
                local = owner % SLOTS
                place = s[S_BASE] + address
                emit(mc, m, cpu, DMA, work, local, request, op, place, action[5], part)
                work = 0
                if op & 1:
                    first = real(mc, owner // SLOTS, address)
                    take_reservations(mc, m, first, first + part - 1)
                address += part
                length -= part
        elif what == A_PAGE:
            record_page(mc, m, cpu, work, action)
        elif what == A_REMAP:
            emit(mc, m, cpu, TRAPS, work, REMAP, 0, 0, 0, action[2] << 32, 0)
        elif what == A_PACKET:
            peer = owner // SLOTS if monitored else owner
            emit(mc, m, cpu, PACKETS, work, peer, action[4], action[2], action[3], 0, 0)
            if monitored:
                arrived = action[2] + action[4] > 0
                copied = action[3] - 4096 * action[4] if arrived else 0
                emit(mc, m, cpu, TRAPS, 0, NETWORK_WORK, 0, 0, 0, 0, copied)
        else:
            since = due - v[V_STARTED] + (owner // SLOTS << LINE_SHIFT)
            emit(mc, m, cpu, INTERRUPTS, work, RAISED, IP_VIRTIO, slot, since, 0, 0)
            raise_line(mc, owner, slot, due)
        s[S_CONTEXT] = context
        s[S_BASE] = base


@inline
def take_reservations(mc, m, first, last):
    """Take the LL reservations of granules that a device writes."""
    shift = m.p[P_GRANULE_SHIFT]
    for cpu in range(mc.p[X_CPUS]):
        if first >> shift <= mc.s[cpu, S_LLADDR] >> shift <= last >> shift:
            mc.s[cpu, S_LL] = 0
