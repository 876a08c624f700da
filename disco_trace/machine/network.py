"""The network: ports of one switch, each a virtio-net device (VIRTIO 1.2, 5.1).

A frame is read into the sender's buffer, and after its time on the wire written to each port that
it is for. A port without a buffer for it loses it, as Ethernet does.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline
from disco_trace.machine.block import transfer_cycles
from disco_trace.machine.layout import X_PAGES, X_SHARING
from disco_trace.machine.slots import (
    A_PACKET,
    A_PAGE,
    C_OFFSET,
    C_QUEUE,
    C_READ,
    C_WRITE,
    FINISH,
    FIRST_PORT,
    FORWARD,
    GATHER,
    GATHER_PEER,
    LEAST_FRAME,
    MOST_FRAME,
    MOST_SOURCES,
    MOVE,
    MOVE_PEER,
    NET_HEADER,
    NETWORK,
    POLL,
    Q_LAST,
    QUEUE_WORDS,
    SLOTS,
    V_CHAIN,
    V_DUE,
    V_KIND,
    V_LEARNED,
    V_LEFT,
    V_LENGTH,
    V_MAC,
    V_PAGES,
    V_PEER,
    V_PEER_CHAIN,
    V_QUEUES,
    V_REMAPPED,
    V_SENT,
    V_SOURCE,
    V_SOURCES,
    V_STATE,
    V_STATUS,
)
from disco_trace.machine.virtqueue import (
    DRIVER_OK,
    FAILED,
    FEATURES_OK,
    NEEDS_RESET,
    READ,
    WRITE,
    ask,
    gather,
    give_up,
    load,
    piece,
    place_of,
    pop,
    push,
    put,
    record,
    take_chain,
    to_writable,
)
from disco_trace.memory.pages import PAGE_MAP, PAGE_SHARE
from disco_trace.monitor.pages import real, share_page, show, shown_content

RECEIVE, TRANSMIT = 0, 1
GROUP = 1  # bit of an address's first byte: several receivers
BUFFERS_AT = 10  # num_buffers in the header, always 1


@inline
def is_live(status):
    """Tell whether a driver runs the device (2.1)."""
    wanted = DRIVER_OK | FEATURES_OK
    return status & (wanted | NEEDS_RESET | FAILED) == wanted


@helper
def network_step(mc, slot):
    """Do what comes next on a port."""
    v = mc.virtio[slot]
    state = v[V_STATE]
    if state <= GATHER:
        if take_chain(mc, slot, TRANSMIT):
            begin_frame(mc, slot)
    elif state == MOVE:
        read_frame(mc, slot)
    elif state == FORWARD:
        forward(mc, slot)
    elif state == GATHER_PEER:
        gather_peer(mc, slot)
    elif state == MOVE_PEER:
        write_frame(mc, slot)
    elif push(mc, slot, V_CHAIN, 0) < 0:
        give_up(mc, slot)
    else:
        v[V_STATE] = POLL


@helper
def begin_frame(mc, slot):
    """Pass over the header, which without offloads says nothing; refuse impossible lengths."""
    v = mc.virtio[slot]
    size = v[V_CHAIN + C_READ] - NET_HEADER
    if size < 0:
        give_up(mc, slot)
        return
    done = 0
    while done < NET_HEADER:
        length = piece(v, V_CHAIN, NET_HEADER - done)
        record(mc, slot, READ, place_of(v, V_CHAIN), length, 0)
        v[V_CHAIN + C_OFFSET] += length
        done += length
    v[V_LENGTH] = 0
    v[V_SOURCES] = 0
    v[V_LEFT] = size
    v[V_STATE] = MOVE if LEAST_FRAME <= size <= MOST_FRAME else FINISH


@helper
def read_frame(mc, slot):
    """Read the frame up to the next end of a page or descriptor; it goes on the wire meanwhile."""
    v = mc.virtio[slot]
    length = piece(v, V_CHAIN, v[V_LEFT])
    address = place_of(v, V_CHAIN)
    for place in range(length):
        mc.frames[slot, v[V_LENGTH] + place] = load(mc, slot, address + place, 1)
    if length == 4096 and mc.p[X_SHARING] != 0 and v[V_SOURCES] < MOST_SOURCES:
        # A whole page, which a receiver elsewhere may be shown; whether a device reads it is open.
        at = V_SOURCE + 2 * v[V_SOURCES]
        v[at] = v[V_LENGTH]
        v[at + 1] = slot // SLOTS * mc.p[X_PAGES] + (address >> 12)
        v[V_SOURCES] += 1
    record(mc, slot, READ, address, length, 0)
    v[V_DUE] += transfer_cycles(v, length)
    v[V_CHAIN + C_OFFSET] += length
    v[V_LENGTH] += length
    v[V_LEFT] -= length
    if v[V_LEFT] == 0:
        v[V_LEARNED] = address_at(mc.frames[slot], 6)
        v[V_PEER] = FIRST_PORT  # the first machine's
        v[V_STATE] = FORWARD


@helper
def address_at(frame, at):
    """Return the address at a place of the frame, first byte lowest."""
    value = np.int64(0)
    for place in range(6):
        value |= np.int64(frame[at + place]) << (8 * place)
    return value


@helper
def is_for(mc, slot, port):
    """Tell whether the switch passes the sender's frame to a port.

    The switch knows each port's own address and the last one that it sent from; a frame for a
    group or for an unknown address goes to all.
    """
    target = address_at(mc.frames[slot], 0)
    if target & GROUP or port == slot:
        return port != slot
    known = False
    for other in range(FIRST_PORT, mc.virtio.shape[0]):
        if mc.virtio[other, V_KIND] == NETWORK:
            if mc.virtio[other, V_MAC] == target or mc.virtio[other, V_LEARNED] == target:
                if other == port:
                    return True
                known = True
    return not known


@helper
def forward(mc, slot):
    """Look for the next port that the frame is for, and take a buffer there."""
    v = mc.virtio[slot]
    port = v[V_PEER]
    while port < mc.virtio.shape[0] and mc.virtio[port, V_KIND] != NETWORK:
        port += 1
    v[V_PEER] = port
    if port >= mc.virtio.shape[0]:
        v[V_STATE] = FINISH
        return
    v[V_PAGES] = 0
    v[V_REMAPPED] = 0
    if not is_for(mc, slot, port):
        v[V_PEER] += 1
    elif not is_live(mc.virtio[port, V_STATUS]):
        next_port(mc, slot)
    else:
        got = pop(mc, slot, V_PEER_CHAIN, port, RECEIVE)
        if got > 0:
            v[V_STATE] = GATHER_PEER
        else:
            if got < 0:
                give_up(mc, port)
            next_port(mc, slot)


@helper
def next_port(mc, slot):
    """Record what became of the frame at this port (no pages: lost), and go on to the next."""
    v = mc.virtio[slot]
    ask(mc.actions, A_PACKET, v[V_PEER], v[V_PAGES], v[V_LENGTH], v[V_REMAPPED], 0)
    v[V_PEER] += 1
    v[V_STATE] = FORWARD


@helper
def gather_peer(mc, slot):
    """Fetch the receiver's descriptors; write the header if the frame fits."""
    v = mc.virtio[slot]
    port = v[V_PEER]
    more = gather(mc, slot, V_PEER_CHAIN)
    if more > 0:
        return
    room = v[V_PEER_CHAIN + C_WRITE]
    if more < 0 or room == 0:
        give_up(mc, port)
        next_port(mc, slot)
        return
    if room < NET_HEADER + v[V_LENGTH]:
        # Lost; the buffer stays for a frame that fits.
        at = V_QUEUES + v[V_PEER_CHAIN + C_QUEUE] * QUEUE_WORDS + Q_LAST
        mc.virtio[port, at] = (mc.virtio[port, at] - 1) & 0xFFFF
        next_port(mc, slot)
        return
    to_writable(v, V_PEER_CHAIN)
    done = 0
    while done < NET_HEADER:
        length = piece(v, V_PEER_CHAIN, NET_HEADER - done)
        address = place_of(v, V_PEER_CHAIN)
        for place in range(length):
            put(mc, port, address + place, 1, 1 if done + place == BUFFERS_AT else 0)
        record(mc, port, WRITE, address, length, 0)
        v[V_PEER_CHAIN + C_OFFSET] += length
        done += length
    v[V_SENT] = 0
    v[V_STATE] = MOVE_PEER


@helper
def write_frame(mc, slot):
    """Write the frame up to the next end of a page or descriptor of the receiver."""
    v = mc.virtio[slot]
    port = v[V_PEER]
    length = piece(v, V_PEER_CHAIN, v[V_LENGTH] - v[V_SENT])
    address = place_of(v, V_PEER_CHAIN)
    remapped = length == 4096 and remap(mc, slot, port, address)
    if not remapped:
        for place in range(length):
            put(mc, port, address + place, 1, mc.frames[slot, v[V_SENT] + place])
        record(mc, port, WRITE, address, length, 0)
    v[V_PEER_CHAIN + C_OFFSET] += length
    v[V_SENT] += length
    if remapped:
        v[V_REMAPPED] += 1
    else:
        v[V_PAGES] += 1
    if v[V_SENT] < v[V_LENGTH]:
        return
    if push(mc, slot, V_PEER_CHAIN, NET_HEADER + v[V_LENGTH]) < 0:
        give_up(mc, port)
        v[V_PAGES] = 0
        v[V_REMAPPED] = 0
    next_port(mc, slot)


@helper
def remap(mc, slot, port, address):
    """Show a receiver the sender's page in place of a copy; tell whether that could be done.

    Between two machines of the virtual subnet, for a whole page at whole pages' places of both
    that holds what was sent. It is then read-only to both (D97, section 4.5).
    """
    v = mc.virtio[slot]
    vm = port // SLOTS
    if mc.p[X_SHARING] == 0 or vm == slot // SLOTS or address & 4095 != 0:
        return False
    source = -1
    for number in range(v[V_SOURCES]):
        if v[V_SOURCE + 2 * number] == v[V_SENT]:
            source = v[V_SOURCE + 2 * number + 1]
    if source < 0:
        return False
    base = slot // SLOTS * mc.p[X_PAGES]
    for place in range(4096):
        at = real(mc, slot // SLOTS, ((source - base) << 12) + place)
        byte = (mc.ram[at >> 2] >> (8 * (at & 3))) & 255
        if byte != mc.frames[slot, v[V_SENT] + place]:
            return False
    content = shown_content(mc, source)
    if content < 0:
        content = share_page(mc, source)
        ask(mc.actions, A_PAGE, slot, PAGE_SHARE, source, content, 0)
    page = vm * mc.p[X_PAGES] + (address >> 12)
    if shown_content(mc, page) != content:
        show(mc, page, content)
        ask(mc.actions, A_PAGE, port, PAGE_MAP, page, content, 0)
    return True
