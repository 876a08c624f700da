"""Split virtqueues: take a chain of descriptors, move its bytes, give it back.

Source: VIRTIO 1.2, section 2.7. Everything here comes from a guest: each index, address and length
is checked where it is read, and a chain is copied into the slot as it is fetched, so that what
was checked is what is used.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline
from disco_trace.machine.actions import ask
from disco_trace.machine.layout import G_DUE, X_PAGES, X_POOL, X_RAM, X_SHARING
from disco_trace.machine.slots import (
    A_DMA,
    A_PAGE,
    A_RAISE,
    C_AT,
    C_COUNT,
    C_ENTRIES,
    C_HEAD,
    C_INDIRECT,
    C_LIST,
    C_NEXT,
    C_OFFSET,
    C_OWNER,
    C_QUEUE,
    C_READ,
    C_TABLE,
    C_WRITABLE,
    C_WRITE,
    CHAIN,
    F_INDIRECT,
    FETCH,
    GATHER,
    IDLE,
    NEVER,
    POLL,
    Q_AVAIL,
    Q_DESC,
    Q_LAST,
    Q_NUM,
    Q_READY,
    Q_USED,
    Q_USED_INDEX,
    QUEUE_WORDS,
    SLOTS,
    V_CHAIN,
    V_DRIVER_LOW,
    V_DUE,
    V_ISR,
    V_LATENCY,
    V_LEARNED,
    V_QUEUES,
    V_REQUEST,
    V_STATE,
    V_STATUS,
)
from disco_trace.memory.pages import PAGE_BREAK
from disco_trace.monitor.pages import break_share, real, shows_content
from disco_trace.monitor.paging import bring_in
from disco_trace.trace.schema import DMA_OPS

READ, WRITE, RING_READ, RING_WRITE = (
    DMA_OPS.index(name) for name in ("read", "write", "ring_read", "ring_write")
)
D_NEXT, D_WRITE, D_INDIRECT = 1, 2, 4  # flags of a descriptor
NO_INTERRUPT = 1  # flag of the available ring
USED_BUFFER, CONFIGURATION = 1, 2  # bits of InterruptStatus
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 64, 128
TABLE_BYTES = 16 * CHAIN


@inline
def in_ram(mc, address, length):
    """Tell whether a stretch lies in a machine's memory; neither number need be sensible."""
    size = mc.p[X_RAM]
    return 0 <= length <= size and 0 <= address <= size - length


@helper
def load(mc, slot, address, size):
    """Return a little-endian number of up to 8 bytes at any address in a device's machine."""
    value = np.int64(0)
    for place in range(size):
        if place == 0 or (address + place) & 4095 == 0:
            hold_page(mc, slot, address + place)
        at = real(mc, slot // SLOTS, address + place)
        byte = (np.int64(mc.ram[at >> 2]) >> (8 * (at & 3))) & 255
        value |= byte << (8 * place)
    return value


@helper
def put(mc, slot, address, size, value):
    """Store a little-endian number at any address in a device's machine."""
    for place in range(size):
        if place == 0 or (address + place) & 4095 == 0:
            own_page(mc, slot, address + place)
        byte_at = real(mc, slot // SLOTS, address + place)
        at = byte_at >> 2
        shift = 8 * (byte_at & 3)
        byte = ((value >> (8 * place)) & 255) << shift
        mc.ram[at] = (np.int64(mc.ram[at]) & ~(255 << shift)) | byte
        mc.ops[at] = 0


@helper
def hold_page(mc, slot, address):
    """Have a page in memory that a device is about to read."""
    if mc.p[X_POOL] != 0:
        bring_in(mc, slot // SLOTS * mc.p[X_PAGES] + (address >> 12))


@helper
def own_page(mc, slot, address):
    """Give a page that a device is about to write to its machine alone, if others show it too."""
    hold_page(mc, slot, address)
    if mc.p[X_SHARING] == 0:
        return
    page = slot // SLOTS * mc.p[X_PAGES] + (address >> 12)
    if shows_content(mc, page):
        break_share(mc, page)
        ask(mc.actions, A_PAGE, slot, PAGE_BREAK, page, 0, 0)
        bring_in(mc, page)


@inline
def record(mc, owner, op, address, length, block):
    """Record a transfer in a queue or buffer of `owner`."""
    ask(mc.actions, A_DMA, owner, op, address, length, block)


@helper
def line_is_high(slots, owner):
    """Tell whether any device of the owner's machine asks for an interrupt."""
    high = np.int64(0)
    first = owner - owner % SLOTS
    for slot in range(first, first + SLOTS):
        high |= slots[slot, V_ISR]
    return high != 0


@helper
def interrupt(mc, owner, bit):
    """Set a bit of a device's InterruptStatus; the line rises if it was low."""
    high = line_is_high(mc.virtio, owner)
    mc.virtio[owner, V_ISR] |= bit
    if not high:
        ask(mc.actions, A_RAISE, owner, 0, 0, 0, 0)


@inline
def rest(mc, slot):
    """Let a device forget what it was doing."""
    mc.virtio[slot, V_STATE] = IDLE
    mc.virtio[slot, V_DUE] = NEVER


@helper
def switch_off(mc, vm):
    """Reset the devices of a machine that was switched off: they reach its memory no more."""
    for slot in range(vm * SLOTS, (vm + 1) * SLOTS):
        rest(mc, slot)
        v = mc.virtio[slot]
        v[V_STATUS] = 0
        v[V_LEARNED] = 0
        for queue in range(2):
            v[V_QUEUES + queue * QUEUE_WORDS + Q_READY] = 0
    due = NEVER
    for slot in range(mc.virtio.shape[0]):
        due = min(due, mc.virtio[slot, V_DUE])
    mc.g[G_DUE] = due


@helper
def give_up(mc, owner):
    """Stop a device whose driver broke the rules, until it is reset (2.1.2, 2.1.1)."""
    status = mc.virtio[owner, V_STATUS]
    mc.virtio[owner, V_STATUS] = status | NEEDS_RESET
    if status & DRIVER_OK:
        interrupt(mc, owner, CONFIGURATION)
    rest(mc, owner)


@helper
def available(mc, owner, queue):
    """Return how many chains wait in a queue, −1 if the ring says more than it can hold."""
    at = V_QUEUES + queue * QUEUE_WORDS
    q = mc.virtio[owner]
    if q[at + Q_READY] == 0:
        return 0
    record(mc, owner, RING_READ, q[at + Q_AVAIL] + 2, 2, 0)
    ahead = (load(mc, owner, q[at + Q_AVAIL] + 2, 2) - q[at + Q_LAST]) & 0xFFFF
    return ahead if ahead <= q[at + Q_NUM] else -1


@helper
def pop(mc, slot, base, owner, queue):
    """Take the next chain of a queue into the slot's words at `base`, its descriptors not yet.

    Returns 1, or 0 if there is none, or −1 if the ring is broken.
    """
    ahead = available(mc, owner, queue)
    if ahead <= 0:
        return ahead
    at = V_QUEUES + queue * QUEUE_WORDS
    q = mc.virtio[owner]
    entry = q[at + Q_AVAIL] + 4 + 2 * (q[at + Q_LAST] & (q[at + Q_NUM] - 1))
    record(mc, owner, RING_READ, entry, 2, 0)
    head = load(mc, owner, entry, 2)
    if head >= q[at + Q_NUM]:
        return -1
    q[at + Q_LAST] = (q[at + Q_LAST] + 1) & 0xFFFF
    v = mc.virtio[slot]
    v[base + C_OWNER] = owner
    v[base + C_QUEUE] = queue
    v[base + C_HEAD] = head
    v[base + C_COUNT] = 0
    v[base + C_TABLE] = q[at + Q_DESC]
    v[base + C_ENTRIES] = q[at + Q_NUM]
    v[base + C_NEXT] = head
    v[base + C_INDIRECT] = 0
    v[base + C_WRITABLE] = -1
    v[base + C_READ] = 0
    v[base + C_WRITE] = 0
    v[base + C_AT] = 0
    v[base + C_OFFSET] = 0
    return 1


@helper
def gather(mc, slot, base):
    """Fetch one more descriptor of a chain; return 1 if others follow, 0 if not, −1 if broken."""
    v = mc.virtio[slot]
    owner = v[base + C_OWNER]
    address = v[base + C_TABLE] + 16 * v[base + C_NEXT]
    record(mc, owner, RING_READ, address, 16, 0)
    place = load(mc, owner, address, 8)
    length = load(mc, owner, address + 8, 4)
    flags = load(mc, owner, address + 12, 2)
    following = load(mc, owner, address + 14, 2)
    if not in_ram(mc, place, length):
        return -1
    if flags & D_INDIRECT:
        # One table, at the end of a chain, if the driver has accepted the feature (2.7.5.3).
        refused = mc.virtio[owner, V_DRIVER_LOW] & F_INDIRECT == 0 or v[base + C_INDIRECT] != 0
        if refused or flags & D_NEXT or length == 0 or length & 15 or length > TABLE_BYTES:
            return -1
        v[base + C_INDIRECT] = 1
        v[base + C_TABLE] = place
        v[base + C_ENTRIES] = length >> 4
        v[base + C_NEXT] = 0
        return 1
    count = v[base + C_COUNT]
    # A chain in the queue's own table that is longer than the table goes in a circle.
    if count >= (CHAIN if v[base + C_INDIRECT] else v[base + C_ENTRIES]):
        return -1
    if flags & D_WRITE:
        if v[base + C_WRITABLE] < 0:
            v[base + C_WRITABLE] = count
        v[base + C_WRITE] += length
    elif v[base + C_WRITABLE] >= 0:
        return -1
    else:
        v[base + C_READ] += length
    v[base + C_LIST + 2 * count] = place
    v[base + C_LIST + 2 * count + 1] = length
    v[base + C_COUNT] = count + 1
    if flags & D_NEXT == 0:
        return 0
    if following >= v[base + C_ENTRIES]:
        return -1
    v[base + C_NEXT] = following
    return 1


@helper
def take_chain(mc, slot, queue):
    """Do the next step towards a whole chain of a device's own queue; return 1 when it is there.

    A request that waits when another is done begins its latency then.
    """
    v = mc.virtio[slot]
    state = v[V_STATE]
    got = np.int64(0)
    if state == POLL:
        got = available(mc, slot, queue)
        if got > 0:
            v[V_STATE] = FETCH
            v[V_DUE] += v[V_LATENCY]
    elif state == FETCH:
        got = pop(mc, slot, V_CHAIN, slot, queue)
        if got > 0:
            v[V_REQUEST] += 1
            v[V_STATE] = GATHER
    else:
        got = gather(mc, slot, V_CHAIN)
        if got == 0:
            return 1
    if got < 0:
        give_up(mc, slot)
    elif got == 0:
        rest(mc, slot)
    return 0


@helper
def piece(v, base, most):
    """Return how many bytes (at most `most`) stand together at the chain's cursor in one page.

    0 at the end of the chain. The cursor then stands where they are, see `place`.
    """
    while v[base + C_AT] < v[base + C_COUNT]:
        at = base + C_LIST + 2 * v[base + C_AT]
        left = v[at + 1] - v[base + C_OFFSET]
        if left > 0:
            return min(most, left, 4096 - ((v[at] + v[base + C_OFFSET]) & 4095))
        v[base + C_AT] += 1
        v[base + C_OFFSET] = 0
    return 0


@inline
def place_of(v, base):
    """Return the address at the chain's cursor, after `piece` found bytes there."""
    return v[base + C_LIST + 2 * v[base + C_AT]] + v[base + C_OFFSET]


@inline
def to_writable(v, base):
    """Set the cursor to the first byte that the device may write; there must be one."""
    v[base + C_AT] = v[base + C_WRITABLE]
    v[base + C_OFFSET] = 0


@helper
def push(mc, slot, base, written):
    """Give a chain back with the number of bytes written; interrupt unless the driver said not to.

    Returns −1 if the queue is no longer there.
    """
    v = mc.virtio[slot]
    owner = v[base + C_OWNER]
    q = mc.virtio[owner]
    at = V_QUEUES + v[base + C_QUEUE] * QUEUE_WORDS
    if q[at + Q_READY] == 0:
        return -1
    used = q[at + Q_USED]
    entry = used + 4 + 8 * (q[at + Q_USED_INDEX] & (q[at + Q_NUM] - 1))
    put(mc, owner, entry, 4, v[base + C_HEAD])
    put(mc, owner, entry + 4, 4, written)
    record(mc, owner, RING_WRITE, entry, 8, 0)
    q[at + Q_USED_INDEX] = (q[at + Q_USED_INDEX] + 1) & 0xFFFF
    put(mc, owner, used + 2, 2, q[at + Q_USED_INDEX])
    record(mc, owner, RING_WRITE, used + 2, 2, 0)
    record(mc, owner, RING_READ, q[at + Q_AVAIL], 2, 0)
    if load(mc, owner, q[at + Q_AVAIL], 2) & NO_INTERRUPT == 0:
        interrupt(mc, owner, USED_BUFFER)
    return 0
