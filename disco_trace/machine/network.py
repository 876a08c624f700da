"""The network: ports of one switch, each a virtio-net device (VIRTIO 1.2, 5.1).

A frame is read into the sender's buffer, and after its time on the wire written to each port that
it is for. A port without a buffer for it loses it, as Ethernet does.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline
from disco_trace.machine.actions import ask
from disco_trace.machine.block import transfer_cycles
from disco_trace.machine.slots import (
    A_PACKET,
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
    V_SENT,
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
    record(mc, slot, READ, address, length, 0)
    v[V_DUE] += transfer_cycles(v, length)
    v[V_CHAIN + C_OFFSET] += length
    v[V_LENGTH] += length
    v[V_LEFT] -= length
    if v[V_LEFT] == 0:
        v[V_LEARNED] = address_at(mc.frames[slot], 6)
        v[V_PEER] = slot - slot % SLOTS + FIRST_PORT
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
    first = slot - slot % SLOTS
    for other in range(first + FIRST_PORT, first + SLOTS):
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
    if port >= slot - slot % SLOTS + SLOTS:
        v[V_STATE] = FINISH
        return
    v[V_PAGES] = 0
    if mc.virtio[port, V_KIND] != NETWORK or not is_for(mc, slot, port):
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
    ask(mc.actions, A_PACKET, v[V_PEER], v[V_PAGES], v[V_LENGTH], 0, 0)
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
    for place in range(length):
        put(mc, port, address + place, 1, mc.frames[slot, v[V_SENT] + place])
    record(mc, port, WRITE, address, length, 0)
    v[V_PEER_CHAIN + C_OFFSET] += length
    v[V_SENT] += length
    v[V_PAGES] += 1
    if v[V_SENT] < v[V_LENGTH]:
        return
    if push(mc, slot, V_PEER_CHAIN, NET_HEADER + v[V_LENGTH]) < 0:
        give_up(mc, port)
        v[V_PAGES] = 0
    next_port(mc, slot)
