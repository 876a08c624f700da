"""A slow and obvious virtio block device: the oracle for hostile rings.

Written from VIRTIO 1.2 (2.7 and 5.2) alone, over plain bytes; see `Outcome` for what a broken ring
leaves behind.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

NEXT, WRITE, INDIRECT = 1, 2, 4
MOST_CHAIN = 256


class Broken(Exception):
    """The driver broke a rule: the device asks to be reset."""


@dataclass
class Outcome:
    """Say what one notification did; memory and disk were changed in place."""

    broken: bool
    completed: int
    interrupts: int


@dataclass
class Queue:
    """Name a queue: its places and size, and how far the device is."""

    desc: int
    avail: int
    used: int
    size: int
    last: int = 0
    used_index: int = 0


def number(memory: bytearray, at: int, size: int) -> int:
    """Return a little-endian number."""
    return int.from_bytes(memory[at : at + size], "little")


def buffers(memory: bytearray, queue: Queue, head: int, indirect: bool) -> list[tuple[int, int]]:
    """Return the bytes of a chain as (address, flag) pairs; Broken for what is not one."""
    if head >= queue.size:
        raise Broken
    found: list[tuple[int, int]] = []
    table, entries, index, inside, count, limit = queue.desc, queue.size, head, False, 0, queue.size
    seen_writable = False
    while True:
        address, length, flags, following = struct.unpack_from("<QIHH", memory, table + 16 * index)
        if address + length > len(memory):
            raise Broken
        if flags & INDIRECT:
            if not indirect or inside or flags & NEXT or length % 16 or not 0 < length <= 4096:
                raise Broken
            inside, table, entries, index, limit = True, address, length // 16, 0, MOST_CHAIN
            continue
        count += 1
        if count > limit:
            raise Broken
        if flags & WRITE:
            seen_writable = True
        elif seen_writable:
            raise Broken
        found += [(address + i, flags & WRITE) for i in range(length)]
        if not flags & NEXT:
            return found
        if following >= entries:
            raise Broken
        index = following


def serve(memory: bytearray, disk: bytearray, queue: Queue, *, indirect: bool, read_only: bool,
          name: bytes) -> Outcome:  # fmt: skip
    """Do all that one notification makes a device do."""
    done = Outcome(False, 0, 0)
    try:
        while True:
            ahead = (number(memory, queue.avail + 2, 2) - queue.last) & 0xFFFF
            if ahead == 0:
                return done
            if ahead > queue.size:
                raise Broken
            head = number(memory, queue.avail + 4 + 2 * (queue.last % queue.size), 2)
            queue.last = (queue.last + 1) & 0xFFFF
            chain = buffers(memory, queue, head, indirect)
            written = request(memory, disk, chain, read_only, name)
            at = queue.used + 4 + 8 * (queue.used_index % queue.size)
            memory[at : at + 8] = struct.pack("<II", head, written)
            queue.used_index = (queue.used_index + 1) & 0xFFFF
            memory[queue.used + 2 : queue.used + 4] = struct.pack("<H", queue.used_index)
            done.completed += 1
            done.interrupts += not memory[queue.avail] & 1
    except Broken:
        done.broken = True
        return done


def request(memory: bytearray, disk: bytearray, chain: list[tuple[int, int]], read_only: bool,
            name: bytes) -> int:  # fmt: skip
    """Do one request; return how many bytes it wrote."""
    readable = [at for at, flag in chain if not flag]
    writable = [at for at, flag in chain if flag]
    if len(readable) < 16 or not writable:
        raise Broken
    kind, _, sector = struct.unpack("<IIQ", bytes(memory[at] for at in readable[:16]))
    *into, status_at = writable
    data, status, written = readable[16:], 0, 0
    size = len(into) if kind == 0 else len(data)
    beyond = size % 512 or 512 * sector + size > len(disk)
    if (kind in (0, 1) and beyond) or (kind == 1 and read_only):
        status = 1
    elif kind == 0:
        for place, at in enumerate(into):
            memory[at] = disk[512 * sector + place]
        written = size
    elif kind == 1:
        for place, at in enumerate(data):
            disk[512 * sector + place] = memory[at]
    elif kind == 8:
        for at, byte in zip(into, name, strict=False):
            memory[at] = byte
            written += 1
    elif kind != 4:
        status = 2
    memory[status_at] = status
    return written + 1
