"""The network: ports of one switch, each a virtio-net device (VIRTIO 1.2, 5.1).

A frame is read into the sender's buffer, and after its time on the wire written to each port that
it is for. A port without a buffer for it loses it, as Ethernet does.

The ports of one machine share a switch, or those of all virtual machines a subnet (D97, section
4.5). Of a frame between two of these, whole pages that lie in whole pages of the receiver's buffer
are not moved: both machines are shown the page, read-only. Only what is copied is read from the
sender's memory. From `FORWARD` on a frame takes no time, so no CPU runs and no other device works
until all who get it have it.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline
from disco_trace.machine.actions import ask
from disco_trace.machine.block import transfer_cycles
from disco_trace.machine.layout import X_PAGES, X_SHARING, X_SUBNET
from disco_trace.machine.slots import (
    A_PACKET,
    A_PAGE,
    A_REMAP,
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
    SOURCE_WORDS,
    V_CHAIN,
    V_DUE,
    V_KIND,
    V_LEARNED,
    V_LEFT,
    V_LENGTH,
    V_MAC,
    V_MATCH,
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
    gather,
    give_up,
    hold_page,
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
# By what the ports are known that a frame is for: it goes to all of them, to the one that was made
# with its address, to those that sent from it last.
BY_NOTHING, BY_ADDRESS, BY_SENDING = range(3)


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
    """Read the frame up to the next end of a page or descriptor; it goes on the wire meanwhile.

    Whether whole pages are really read is open until a receiver does not take them as they are.
    """
    v = mc.virtio[slot]
    length = piece(v, V_CHAIN, v[V_LEFT])
    address = place_of(v, V_CHAIN)
    for place in range(length):
        mc.frames[slot, v[V_LENGTH] + place] = load(mc, slot, address + place, 1)
    apart = mc.p[X_SUBNET] != 0 and mc.p[X_SHARING] != 0
    if length == 4096 and apart and v[V_SOURCES] < MOST_SOURCES:
        at = V_SOURCE + SOURCE_WORDS * v[V_SOURCES]
        v[at] = v[V_LENGTH]
        v[at + 1] = address
        v[at + 2] = 1
        v[V_SOURCES] += 1
    else:
        record(mc, slot, READ, address, length, 0)
    v[V_DUE] += transfer_cycles(v, length)
    v[V_CHAIN + C_OFFSET] += length
    v[V_LENGTH] += length
    v[V_LEFT] -= length
    if v[V_LEFT] == 0:
        v[V_LEARNED] = address_at(mc.frames[slot], 6)
        v[V_PEER] = first_slot(mc, slot) + FIRST_PORT
        v[V_MATCH] = match_of(mc, slot)
        v[V_STATE] = FORWARD


@helper
def address_at(frame, at):
    """Return the address at a place of the frame, first byte lowest."""
    value = np.int64(0)
    for place in range(6):
        value |= np.int64(frame[at + place]) << (8 * place)
    return value


@inline
def first_slot(mc, slot):
    """Return the first slot of the sender's network."""
    return 0 if mc.p[X_SUBNET] != 0 else slot - slot % SLOTS


@inline
def end_slot(mc, slot):
    """Return the slot behind the last one of the sender's network."""
    return mc.virtio.shape[0] if mc.p[X_SUBNET] != 0 else slot - slot % SLOTS + SLOTS


@helper
def match_of(mc, slot):
    """Return by what the switch knows the ports that the sender's frame is for.

    It knows each port's own address and the last one that it sent from. Nobody gets what is for
    another's own address by sending from it. A frame for a group or for an unknown address goes to
    all.
    """
    target = address_at(mc.frames[slot], 0)
    match = BY_NOTHING
    if target & GROUP == 0:
        for port in range(first_slot(mc, slot), end_slot(mc, slot)):
            if mc.virtio[port, V_KIND] == NETWORK:
                if mc.virtio[port, V_MAC] == target:
                    match = BY_ADDRESS
                elif mc.virtio[port, V_LEARNED] == target and match == BY_NOTHING:
                    match = BY_SENDING
    return match


@helper
def is_for(mc, slot, port):
    """Tell whether the switch passes the sender's frame to a slot: another port that it is for."""
    if mc.virtio[port, V_KIND] != NETWORK or port == slot:
        return False
    match = mc.virtio[slot, V_MATCH]
    if match == BY_NOTHING:
        return True
    known = mc.virtio[port, V_MAC if match == BY_ADDRESS else V_LEARNED]
    return known == address_at(mc.frames[slot], 0)


@helper
def forward(mc, slot):
    """Look for the next port that the frame is for, and take a buffer there."""
    v = mc.virtio[slot]
    port = v[V_PEER]
    end = end_slot(mc, slot)
    while port < end and not is_for(mc, slot, port):
        port += 1
    v[V_PEER] = port
    if port >= end:
        v[V_STATE] = FINISH
        return
    v[V_PAGES] = 0
    v[V_REMAPPED] = 0
    if not is_live(mc.virtio[port, V_STATUS]):
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
    if length == 4096 and remap(mc, slot, port, address):
        v[V_REMAPPED] += 1
    else:
        read_late(mc, slot, length)
        for place in range(length):
            put(mc, port, address + place, 1, mc.frames[slot, v[V_SENT] + place])
        record(mc, port, WRITE, address, length, 0)
        v[V_PAGES] += 1
    v[V_PEER_CHAIN + C_OFFSET] += length
    v[V_SENT] += length
    if v[V_SENT] < v[V_LENGTH]:
        return
    if push(mc, slot, V_PEER_CHAIN, NET_HEADER + v[V_LENGTH]) < 0:
        give_up(mc, port)
        v[V_PAGES] = 0
        v[V_REMAPPED] = 0
    next_port(mc, slot)


@helper
def read_late(mc, slot, length):
    """Read those of the sender's whole pages that the next bytes come from, unless it was done."""
    v = mc.virtio[slot]
    for number in range(v[V_SOURCES]):
        at = V_SOURCE + SOURCE_WORDS * number
        if v[at + 2] != 0 and v[at] < v[V_SENT] + length and v[V_SENT] < v[at] + 4096:
            hold_page(mc, slot, v[at + 1])
            record(mc, slot, READ, v[at + 1], 4096, 0)
            v[at + 2] = 0


@helper
def remap(mc, slot, port, address):
    """Show a receiver the sender's page in place of a copy; tell whether that could be done.

    Between two machines of the subnet, for a whole page at whole pages' places of both that still
    holds what was sent. It is read-only to both from then on (D97, section 4.5).
    """
    v = mc.virtio[slot]
    machine = slot // SLOTS
    peer = port // SLOTS
    if mc.p[X_SHARING] == 0 or peer == machine or address & 4095 != 0:
        return False
    place = np.int64(-1)
    for number in range(v[V_SOURCES]):
        at = V_SOURCE + SOURCE_WORDS * number
        if v[at] == v[V_SENT]:
            place = v[at + 1] + 0
    if place < 0:
        return False
    hold_page(mc, slot, place)
    byte_at = real(mc, machine, place)
    for byte in range(4096):
        word = np.int64(mc.ram[(byte_at + byte) >> 2])
        if (word >> (8 * (byte & 3))) & 255 != mc.frames[slot, v[V_SENT] + byte]:
            return False
    source = machine * mc.p[X_PAGES] + (place >> 12)
    target = peer * mc.p[X_PAGES] + (address >> 12)
    content = shown_content(mc, source)
    cpus = np.int64(0)
    if content < 0:
        cpus += max(0, share_page(mc, source) - 1)  # the sender's own is not interrupted
        content = shown_content(mc, source)
        ask(mc.actions, A_PAGE, slot, PAGE_SHARE, source, content, (address >> 12) << 32 | peer)
    if shown_content(mc, target) != content:
        cpus += show(mc, target, content)
        ask(mc.actions, A_PAGE, port, PAGE_MAP, target, content, (place >> 12) << 32 | machine)
    ask(mc.actions, A_REMAP, port, cpus, 0, 0, 0)
    return True
