"""Lay out the virtio devices: one row of int64 words a slot, and what the slots start with.

Slots 0 to 3 are block devices, slots 4 to 7 the ports of one network switch, or of the subnet of
all virtual machines; a slot without a device answers with device 0, as the VIRTIO specification
asks (version 1.2, 4.2.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

SLOTS = 8
FIRST_PORT = 4
PORTS = SLOTS - FIRST_PORT
QUEUE_SIZE = 256  # QueueNumMax
CHAIN = 256  # descriptors of the longest chain, an indirect table's included
SECTOR = 512
MOST_FRAME = 1 << 16  # bytes of a network frame
LEAST_FRAME = 14  # two addresses and a type
NET_HEADER = 12
NEVER = np.iinfo(np.int64).max

NETWORK, BLOCK = 1, 2  # device ids (VIRTIO 5)

# Feature bits; VERSION_1 is bit 32, bit 0 of the high word.
F_SEG_MAX, F_READ_ONLY, F_BLK_SIZE, F_FLUSH = 1 << 2, 1 << 5, 1 << 6, 1 << 9
F_MAC, F_LINK = 1 << 5, 1 << 16
F_INDIRECT = 1 << 28
F_VERSION_1 = 1

# Words of a slot: the device, its registers, its queues, the request that it works on.
(
    V_KIND, V_OFFERED, V_SECTORS, V_DISK_AT, V_READ_ONLY, V_MAC, V_LATENCY, V_MHZ, V_RATE,
    V_STATUS, V_DEVICE_SEL, V_DRIVER_SEL, V_DRIVER_LOW, V_DRIVER_HIGH, V_QUEUE_SEL, V_ISR,
    V_STATE, V_DUE, V_STARTED, V_CPU, V_REQUEST, V_TYPE, V_SECTOR, V_LEFT, V_RESULT, V_WRITTEN,
    V_LEARNED, V_PEER, V_LENGTH, V_SENT, V_PAGES, V_CONTEXT, V_RESIDENT, V_PERSISTENT, V_MATCH,
    V_REMAPPED, V_SOURCES, V_SOURCE,
) = range(38)  # fmt: skip

# V_CONTEXT: in which context the driver last used the device. V_RESIDENT: the block that is being
# read is in memory. V_PERSISTENT: one machine has the disk, and writes to it. V_MATCH: by what the
# ports are known that a frame goes to (`network`). V_REMAPPED: pages of it that were shown to the
# present receiver. V_SOURCES: whole pages of the sender; from V_SOURCE on, where each lies in the
# frame, its address, and whether it is still to be read.
MOST_SOURCES = MOST_FRAME // 4096
SOURCE_WORDS = 3
V_QUEUES = V_SOURCE + SOURCE_WORDS * MOST_SOURCES

# Words of a queue. The addresses count from when the queue was made ready, checked then; the
# halves are what the registers hold.
(
    Q_NUM, Q_READY, Q_DESC, Q_AVAIL, Q_USED, Q_LAST, Q_USED_INDEX,
    Q_DESC_LOW, Q_DESC_HIGH, Q_AVAIL_LOW, Q_AVAIL_HIGH, Q_USED_LOW, Q_USED_HIGH,
) = range(13)  # fmt: skip
QUEUE_WORDS = 13

# Words of a chain that was taken from a queue: whose it is, how far it was fetched (table, its
# entries, next), totals, the cursor of its bytes, then (address, length) of each descriptor.
(
    C_OWNER, C_QUEUE, C_HEAD, C_COUNT, C_TABLE, C_ENTRIES, C_NEXT, C_INDIRECT, C_WRITABLE,
    C_READ, C_WRITE, C_AT, C_OFFSET, C_LIST,
) = range(14)  # fmt: skip

# A slot has a chain of its own queue, and a port one more of the port that it sends to.
V_CHAIN = V_QUEUES + 2 * QUEUE_WORDS
V_PEER_CHAIN = V_CHAIN + C_LIST + 2 * CHAIN
SLOT_WORDS = V_PEER_CHAIN + C_LIST + 2 * CHAIN

# What a device does next, when its time has come.
(
    IDLE, POLL, FETCH, GATHER, MOVE, FINISH, FORWARD, GATHER_PEER, MOVE_PEER,
) = range(9)  # fmt: skip

# What a step of a device wants recorded, when it is done: rows of `Machine.actions` after the
# first, whose first word counts them. A step asks for fewer than there are: at most 77, where a
# frame header goes to twelve pieces of one byte, each in a page that others show and that is away.
A_DMA, A_RAISE, A_PACKET, A_PAGE, A_REMAP = range(5)
ACTIONS, ACTION_WORDS = 96, 6


Disk = tuple[np.ndarray[Any, Any], bool]  # uint32 words, read only
# Where a disk stands in `Machine.disk`: first word, words, read only.
Place = tuple[int, int, bool]
PAGE_WORDS = 1024


def places_of(disks: Sequence[Disk], unit: int = 1) -> list[Place]:
    """Return where disks stand that lie one behind the other, each from a multiple of `unit` on."""
    places, at = [], 0
    for words, read_only in disks:
        places.append((at, len(words), read_only))
        at += -(-len(words) // unit) * unit
    return places


def build_slots(spec: Any, disks: Sequence[Place], vm: int = 0) -> np.ndarray[Any, Any]:
    """Return the slots of a machine (int64 [SLOTS, SLOT_WORDS]) with its devices, all reset.

    vm: its number among the virtual machines, which share a subnet or have a network each.
    """
    from disco_trace.config import cycles
    from disco_trace.config.machines import joined

    machine = spec.machine
    network = vm if joined(spec) else -1
    slots = np.zeros((SLOTS, SLOT_WORDS), np.int64)
    slots[:, V_DUE] = NEVER
    slots[:, V_MHZ] = machine.clock_mhz
    for row, (at, words, read_only) in zip(slots, disks, strict=False):
        row[V_KIND] = BLOCK
        row[V_OFFERED] = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_INDIRECT
        row[V_OFFERED] |= F_READ_ONLY * read_only
        row[V_SECTORS], row[V_DISK_AT], row[V_READ_ONLY] = 4 * words // SECTOR, at, read_only
        row[V_LATENCY] = cycles(machine.disk_latency_ns, machine.clock_mhz)
        row[V_RATE] = machine.disk_mbytes_per_s * 8
    for port in range(machine.network_ports):
        row = slots[FIRST_PORT + port]
        row[V_KIND] = NETWORK
        row[V_OFFERED] = F_MAC | F_LINK | F_INDIRECT
        row[V_MAC] = port_address(network, port)
        row[V_LATENCY] = cycles(machine.network_latency_ns, machine.clock_mhz)
        row[V_RATE] = machine.network_mbits_per_s
    return slots


def port_address(vm: int, port: int) -> int:
    """Return the address of a port, locally administered, first byte lowest.

    02:00:00:00:00:01 and up; on a subnet of virtual machines 02:00:00:01:00:01 and up, counted
    through the machines, four for each. vm: −1 for a network of one machine.
    """
    number = 1 + port + max(0, vm) * PORTS
    return 0x02 | (vm >= 0) << 24 | (number >> 8) << 32 | (number & 255) << 40


def join_disks(disks: Sequence[Disk]) -> np.ndarray[Any, Any]:
    """Return all disks as one array of uint32 words: a single one as it is, several copied."""
    if len(disks) == 1:
        return disks[0][0]
    room = np.zeros(max(1, sum(len(words) for words, _ in disks)), np.uint32)
    at = 0
    for words, _ in disks:
        room[at : at + len(words)] = words
        at += len(words)
    return room
