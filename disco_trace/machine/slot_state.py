"""Check the restored state of the virtio devices: what they are about to do stays in its arrays.

While a device works, its slot holds what was checked when a guest's rings were read (`virtqueue`):
queues, a chain of buffers, a cursor in it. A file could hold anything there, so all of it is
checked again, against what the device's next steps will do with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from disco_trace.machine.block import HEADER, ID_BYTES, T_GET_ID, T_IN, T_OUT
from disco_trace.machine.layout import (
    G_CONTEXTS,
    G_DUE,
    G_LINE_SLOT,
    X_CPUS,
    X_RAM,
    X_SUBNET,
    Machine,
)
from disco_trace.machine.network import BY_SENDING, RECEIVE, TRANSMIT
from disco_trace.machine.slots import (
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
    FINISH,
    FIRST_PORT,
    FORWARD,
    GATHER,
    GATHER_PEER,
    IDLE,
    LEAST_FRAME,
    MOST_FRAME,
    MOST_SOURCES,
    MOVE,
    MOVE_PEER,
    NET_HEADER,
    NETWORK,
    NEVER,
    Q_AVAIL,
    Q_DESC,
    Q_LAST,
    Q_NUM,
    Q_READY,
    Q_USED,
    Q_USED_INDEX,
    QUEUE_SIZE,
    QUEUE_WORDS,
    SECTOR,
    SLOT_WORDS,
    SLOTS,
    SOURCE_WORDS,
    V_CHAIN,
    V_CONTEXT,
    V_CPU,
    V_DISK_AT,
    V_DUE,
    V_ISR,
    V_KIND,
    V_LATENCY,
    V_LEARNED,
    V_LEFT,
    V_LENGTH,
    V_MAC,
    V_MATCH,
    V_MHZ,
    V_OFFERED,
    V_PEER,
    V_PEER_CHAIN,
    V_PERSISTENT,
    V_QUEUES,
    V_RATE,
    V_READ_ONLY,
    V_REMAPPED,
    V_RESULT,
    V_SECTOR,
    V_SECTORS,
    V_SENT,
    V_SOURCE,
    V_SOURCES,
    V_STATE,
    V_TYPE,
    V_WRITTEN,
)
from disco_trace.memory.state import MOST, fail, in_range, must_equal

Row = np.ndarray[Any, Any]

ARRAY = "machine.virtio"
# What a slot is made with, and no driver changes.
FIXED = (
    V_KIND, V_OFFERED, V_SECTORS, V_DISK_AT, V_READ_ONLY, V_MAC, V_LATENCY, V_MHZ, V_RATE,
    V_PERSISTENT,
)  # fmt: skip


def check_slots(mc: Machine, cold: Machine) -> None:
    """Raise `DiscoError` unless every device is in a state that it can be in.

    Slots are counted through all virtual machines.
    """
    for slot in range(len(mc.virtio)):
        row, made = mc.virtio[slot], cold.virtio[slot]
        must_equal(ARRAY, f"device in slot {slot}, word", row[list(FIXED)], made[list(FIXED)])
        if row[V_KIND] == 0:
            must_equal(ARRAY, f"empty slot {slot}, word", row, made)
        else:
            _check_slot(mc, slot, row)
    due = int(mc.virtio[:, V_DUE].min())
    if int(mc.g[G_DUE]) != due:
        fail("machine.g", "time of the next device", due, int(mc.g[G_DUE]))
    in_range("machine.g", "device", mc.g[G_LINE_SLOT : G_LINE_SLOT + 1], SLOTS)


def _word(row: Row, name: str, index: int, limit: int, low: int = 0) -> int:
    """Return a word of a slot; raise `DiscoError` unless it is in its range."""
    in_range(ARRAY, name, row[index : index + 1], limit, low)
    return int(row[index])


def _must(holds: bool, what: str, expected: str, found: object = "another") -> None:
    if not holds:
        fail(ARRAY, what, expected, found)


def _check_slot(mc: Machine, slot: int, row: Row) -> None:
    network = int(row[V_KIND]) == NETWORK
    state = _word(row, "state of a device", V_STATE, MOVE_PEER + 1 if network else FINISH + 1)
    due = int(row[V_DUE])
    _must((due == NEVER) == (state == IDLE), "time of a device", "never for an idle one", due)
    # Only a chain's "no buffer to write" is below 0.
    in_range(ARRAY, "number", np.delete(row, V_DUE), MOST, low=-1)
    if state != IDLE:
        _word(row, "time of a device", V_DUE, MOST)
    _word(row, "CPU of a request", V_CPU, int(mc.p[X_CPUS]))
    _word(row, "context of a driver", V_CONTEXT, 4 * int(mc.g[G_CONTEXTS]))
    _word(row, "interrupt status", V_ISR, 4)
    _word(row, "address of a port", V_LEARNED, 1 << 48)
    _check_sources(mc, row)
    for queue in range(2):
        _check_queue(mc, row, V_QUEUES + queue * QUEUE_WORDS)
    if state >= GATHER:
        queue = TRANSMIT if network else 0
        _check_chain(mc, row, V_CHAIN, slot, queue, state == GATHER)
        if state > GATHER:
            (_check_network if network else _check_block)(mc, slot, row, state)


def _check_sources(mc: Machine, row: Row) -> None:
    """Check where the sender's whole pages lie, which another machine may be shown."""
    count = _word(row, "whole pages of a frame", V_SOURCES, MOST_SOURCES + 1)
    _word(row, "pages that were shown", V_REMAPPED, MOST_SOURCES + 1)
    _must(count == 0 or bool(mc.p[X_SUBNET]), "whole pages of a frame", "none without a subnet")
    sources = row[V_SOURCE : V_SOURCE + SOURCE_WORDS * count].reshape(-1, SOURCE_WORDS)
    in_range(ARRAY, "place of a page in a frame", sources[:, 0], MOST_FRAME - 4095)
    in_range(ARRAY, "page to be shown", sources[:, 1], int(mc.p[X_RAM]) - 4095)
    in_range(ARRAY, "flag of a page to be shown", sources[:, 2], 2)


def _in_ram(mc: Machine, address: int, length: int) -> bool:
    size = int(mc.p[X_RAM])
    return 0 <= length <= size and 0 <= address <= size - length


def _check_queue(mc: Machine, row: Row, at: int) -> None:
    ready = _word(row, "flag of a queue", at + Q_READY, 2)
    for word in (Q_LAST, Q_USED_INDEX):
        _word(row, "index of a queue", at + word, 1 << 16)
    if not ready:
        return
    size = _word(row, "size of a queue", at + Q_NUM, QUEUE_SIZE + 1, low=1)
    _must(size & (size - 1) == 0, "size of a queue", "a power of two", size)
    for word, fixed, each in ((Q_DESC, 0, 16), (Q_AVAIL, 6, 2), (Q_USED, 6, 8)):
        place = int(row[at + word])
        _must(_in_ram(mc, place, fixed + each * size), "place of a queue", "in memory", hex(place))


def _check_chain(mc: Machine, row: Row, base: int, owner: int, queue: int, fetching: bool) -> None:
    """Check a chain: whose it is, its descriptors so far, and where it is fetched from."""
    _must(int(row[base + C_OWNER]) == owner, "owner of a chain", str(owner))
    _must(int(row[base + C_QUEUE]) == queue, "queue of a chain", str(queue))
    _word(row, "head of a chain", base + C_HEAD, QUEUE_SIZE)
    _word(row, "flag of a chain", base + C_INDIRECT, 2)
    count = _word(row, "length of a chain", base + C_COUNT, CHAIN + 1)
    writable = _word(row, "first buffer to write", base + C_WRITABLE, max(count, 1), low=-1)
    lengths = []
    for number in range(count):
        at = base + C_LIST + 2 * number
        place, length = int(row[at]), int(row[at + 1])
        _must(_in_ram(mc, place, length), "buffer of a chain", "in memory", hex(place))
        lengths.append(length)
    split = count if writable < 0 else writable
    for name, word, part in (
        ("read", C_READ, lengths[:split]),
        ("write", C_WRITE, lengths[split:]),
    ):
        found = int(row[base + word])
        _must(found == sum(part), f"bytes to {name}", str(sum(part)), found)
    at = _word(row, "cursor of a chain", base + C_AT, count + 1)
    _word(row, "cursor of a chain", base + C_OFFSET, (lengths[at] if at < count else 0) + 1)
    if fetching:
        entries = _word(row, "table of a chain", base + C_ENTRIES, CHAIN + 1, low=1)
        _word(row, "next of a chain", base + C_NEXT, entries)
        table = int(row[base + C_TABLE])
        _must(_in_ram(mc, table, 16 * entries), "table of a chain", "in memory", hex(table))


def _position(row: Row, base: int) -> int:
    """Return how many bytes of a chain lie before its cursor."""
    before = sum(int(row[base + C_LIST + 2 * n + 1]) for n in range(int(row[base + C_AT])))
    return before + int(row[base + C_OFFSET])


def _check_block(mc: Machine, slot: int, row: Row, state: int) -> None:
    """Check a request whose header was read: what is left of it fits chain and disk."""
    readable, writable = int(row[V_CHAIN + C_READ]), int(row[V_CHAIN + C_WRITE])
    _must(readable >= HEADER and writable >= 1, "request of a disk", "a header and a status")
    _word(row, "result of a request", V_RESULT, 3)
    left = _word(row, "rest of a request", V_LEFT, MOST)
    written = _word(row, "rest of a request", V_WRITTEN, writable + 1)
    _must((left == 0) == (state == FINISH), "rest of a request", "none when it is done", left)
    if state == FINISH:
        return
    kind = int(row[V_TYPE])
    if kind == T_GET_ID:
        total, begin = min(writable - 1, ID_BYTES), readable
        _must(written + left == total, "rest of a request", str(total - written), left)
    else:
        _must(kind in (T_IN, T_OUT), "kind of a request", "one that moves bytes", kind)
        total = writable - 1 if kind == T_IN else readable - HEADER
        begin = readable if kind == T_IN else HEADER
        sectors = int(row[V_SECTORS]) - total // SECTOR
        _word(row, "sector of a request", V_SECTOR, sectors + 1)
        _must(total % SECTOR == 0 and left <= total, "rest of a request", f"of {total}", left)
        _must(kind == T_IN or row[V_READ_ONLY] == 0, "write to a disk", "none: it is read-only")
    expected = begin + total - left
    found = _position(row, V_CHAIN)
    _must(found == expected, "cursor of a request", str(expected), found)
    end = 4 * int(row[V_DISK_AT]) + SECTOR * int(row[V_SECTORS])
    _must(end <= mc.disk.nbytes, "end of a disk", f"at most {mc.disk.nbytes}", end)


def _check_network(mc: Machine, slot: int, row: Row, state: int) -> None:
    """Check a frame on its way: what is read of it, where it goes, and that it fits there."""
    length = _word(row, "length of a frame", V_LENGTH, MOST_FRAME + 1)
    if state == MOVE:
        size = int(row[V_CHAIN + C_READ]) - NET_HEADER
        left = _word(row, "rest of a frame", V_LEFT, MOST_FRAME + 1, low=1)
        fits = LEAST_FRAME <= size <= MOST_FRAME and length + left == size
        _must(fits, "rest of a frame", f"of {size}", left)
        expected, found = NET_HEADER + length, _position(row, V_CHAIN)
        _must(found == expected, "cursor of a frame", str(expected), found)
    if state in (FORWARD, GATHER_PEER, MOVE_PEER):
        _must(length >= LEAST_FRAME, "length of a frame", f"at least {LEAST_FRAME}", length)
        # The end of the sender's network: its machine's slots, or on a subnet everyone's.
        begin = 0 if mc.p[X_SUBNET] else slot - slot % SLOTS
        end = len(mc.virtio) if mc.p[X_SUBNET] else begin + SLOTS
        _word(row, "match of a receiver", V_MATCH, BY_SENDING + 1)
        port = _word(row, "receiver of a frame", V_PEER, end + 1, low=begin + FIRST_PORT)
        if state == FORWARD:
            return
        there = port < end and port != slot and int(mc.virtio[port, V_KIND]) == NETWORK
        _must(there, "receiver of a frame", "another port", port)
        _check_chain(mc, row, V_PEER_CHAIN, port, RECEIVE, state == GATHER_PEER)
        if state == MOVE_PEER:
            sent = _word(row, "rest of a frame", V_SENT, length)
            room = int(row[V_PEER_CHAIN + C_WRITE])
            _must(room >= NET_HEADER + length, "room for a frame", str(NET_HEADER + length), room)
            expected = int(row[V_PEER_CHAIN + C_READ]) + NET_HEADER + sent
            found = _position(row, V_PEER_CHAIN)
            _must(found == expected, "cursor of a frame", str(expected), found)


assert SLOT_WORDS == V_PEER_CHAIN + C_LIST + 2 * CHAIN
