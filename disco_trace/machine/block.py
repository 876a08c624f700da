"""The block device: what it does with a request, one bounded step at a time (VIRTIO 1.2, 5.2)."""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline
from disco_trace.machine.actions import ask
from disco_trace.machine.layout import X_CONTENTS, X_MONITOR, X_PAGES, X_SHARING
from disco_trace.machine.slots import (
    A_PAGE,
    C_COUNT,
    C_LIST,
    C_OFFSET,
    C_READ,
    C_WRITE,
    FINISH,
    GATHER,
    MOVE,
    POLL,
    SECTOR,
    SLOTS,
    V_CHAIN,
    V_DISK_AT,
    V_DUE,
    V_LEFT,
    V_MHZ,
    V_PERSISTENT,
    V_RATE,
    V_READ_ONLY,
    V_RESIDENT,
    V_RESULT,
    V_SECTOR,
    V_SECTORS,
    V_STATE,
    V_TYPE,
    V_WRITTEN,
)
from disco_trace.machine.virtqueue import (
    READ,
    WRITE,
    give_up,
    hold_page,
    load,
    own_page,
    piece,
    place_of,
    push,
    put,
    record,
    take_chain,
    to_writable,
)
from disco_trace.memory.pages import PAGE_MAP
from disco_trace.monitor.disks import content_of_block, is_private, make_private, own_disk_byte
from disco_trace.monitor.pages import has_spare_content, new_content, real, show, shown_content
from disco_trace.monitor.paging import bring_in

T_IN, T_OUT, T_FLUSH, T_GET_ID = 0, 1, 4, 8
S_OK, S_IOERR, S_UNSUPPORTED = 0, 1, 2
HEADER = 16
ID_BYTES = 20
# The answer to GET_ID: this with the slot's digit, ended by zeros.
ID_TEXT = np.frombuffer(b"disco-trace-disk-0\0\0", np.uint8)
ID_DIGIT = 17


@inline
def transfer_cycles(v, length):
    """Return how long a device's medium takes for that many bytes."""
    return length * 8 * v[V_MHZ] // v[V_RATE]


@helper
def block_step(mc, slot):
    """Do what comes next on a block device."""
    v = mc.virtio[slot]
    state = v[V_STATE]
    if state <= GATHER:
        if take_chain(mc, slot, 0):
            begin(mc, slot)
    elif state == MOVE:
        move(mc, slot)
    else:
        finish(mc, slot)


@helper
def begin(mc, slot):
    """Read the request's header and decide what will be moved."""
    v = mc.virtio[slot]
    readable, writable = v[V_CHAIN + C_READ], v[V_CHAIN + C_WRITE]
    if readable < HEADER or writable < 1:
        give_up(mc, slot)
        return
    kind = 0
    sector = 0
    done = 0
    while done < HEADER:
        length = piece(v, V_CHAIN, HEADER - done)
        address = place_of(v, V_CHAIN)
        for place in range(length):
            byte = load(mc, slot, address + place, 1)
            at = done + place
            if at < 4:
                kind |= byte << (8 * at)
            elif at >= 8:
                sector |= byte << (8 * (at - 8))
        record(mc, slot, READ, address, length, 0)
        v[V_CHAIN + C_OFFSET] += length
        done += length
    v[V_TYPE] = kind
    v[V_SECTOR] = 0
    v[V_LEFT] = 0
    v[V_WRITTEN] = 0
    v[V_RESULT] = S_OK
    v[V_STATE] = MOVE
    if kind == T_IN or kind == T_OUT:
        length = writable - 1 if kind == T_IN else readable - HEADER
        whole = length % SECTOR == 0 and length // SECTOR <= v[V_SECTORS]
        if not whole or not 0 <= sector <= v[V_SECTORS] - length // SECTOR:
            v[V_RESULT] = S_IOERR
        elif kind == T_OUT and v[V_READ_ONLY] != 0:
            v[V_RESULT] = S_IOERR
        else:
            v[V_SECTOR] = sector
            v[V_LEFT] = length
    elif kind == T_GET_ID:
        v[V_LEFT] = min(writable - 1, ID_BYTES)
    elif kind != T_FLUSH:
        v[V_RESULT] = S_UNSUPPORTED
    if v[V_LEFT] == 0:
        v[V_STATE] = FINISH
    elif kind != T_OUT:
        to_writable(v, V_CHAIN)


@helper
def move(mc, slot):
    """Move the bytes up to the next end of a page or descriptor, and take the time for them."""
    v = mc.virtio[slot]
    length = piece(v, V_CHAIN, v[V_LEFT])
    address = place_of(v, V_CHAIN)
    kind = v[V_TYPE]
    if kind == T_GET_ID:
        for place in range(length):
            put(mc, slot, address + place, 1, id_byte(slot % SLOTS, v[V_WRITTEN] + place))
        record(mc, slot, WRITE, address, length, 0)
    else:
        total = v[V_CHAIN + C_WRITE] - 1 if kind == T_IN else v[V_CHAIN + C_READ] - HEADER
        done = total - v[V_LEFT]
        place = 4 * v[V_DISK_AT] + SECTOR * v[V_SECTOR] + done
        block = v[V_SECTOR] + done // SECTOR
        if mc.p[X_MONITOR] == 0 or v[V_PERSISTENT] != 0:
            copy(mc, slot, place, address, length, kind == T_OUT)
        elif kind == T_OUT:
            write_private(mc, slot, place, address, length)
        elif not show_block(mc, slot, place, address, length):
            read_private(mc, slot, place, address, length)
        # Nothing moves for a block that is in memory.
        if v[V_RESIDENT] == 0:
            record(mc, slot, READ if kind == T_OUT else WRITE, address, length, block)
            v[V_DUE] += transfer_cycles(v, length)
        v[V_RESIDENT] = 0
    if kind != T_OUT:
        v[V_WRITTEN] += length
    v[V_CHAIN + C_OFFSET] += length
    v[V_LEFT] -= length
    if v[V_LEFT] == 0:
        v[V_STATE] = FINISH


@helper
def id_byte(slot, at):
    """Return a byte of a disk's identity."""
    return ID_TEXT[at] + (slot if at == ID_DIGIT else 0)


@helper
def copy(mc, slot, disk, address, length, to_disk):
    """Copy bytes of one page between the disks' array (from byte `disk`) and memory."""
    if to_disk:
        hold_page(mc, slot, address)
    else:
        own_page(mc, slot, address)
    if (disk | address | length) & 3 == 0:
        at = disk >> 2
        word = real(mc, slot // SLOTS, address) >> 2
        for _ in range(length >> 2):
            if to_disk:
                mc.disk[at] = mc.ram[word]
            else:
                mc.ram[word] = mc.disk[at]
                mc.ops[word] = 0
            at += 1
            word += 1
        return
    for place in range(length):
        at = (disk + place) >> 2
        shift = 8 * ((disk + place) & 3)
        if to_disk:
            byte = load(mc, slot, address + place, 1) << shift
            mc.disk[at] = (mc.disk[at] & ~(255 << shift)) | byte
        else:
            put(mc, slot, address + place, 1, (mc.disk[at] >> shift) & 255)


@helper
def show_block(mc, slot, disk, address, length):
    """Let a page show a whole block of a shared disk if that is what is read; tell if it does.

    A block that is in memory already is not read again (V_RESIDENT): the page shows it, read-only.
    """
    v = mc.virtio[slot]
    vm = slot // SLOTS
    if mc.p[X_SHARING] == 0 or length != 4096 or (address | disk) & 4095 != 0:
        return False
    for sector in range(disk // SECTOR, disk // SECTOR + 8):
        if is_private(mc, vm, sector):
            return False
    page = vm * mc.p[X_PAGES] + (address >> 12)
    content = content_of_block(mc, disk >> 12)
    if content >= 0:
        v[V_RESIDENT] = 1
        if shown_content(mc, page) == content:
            return True
        show(mc, page, content)
        ask(mc.actions, A_PAGE, slot, PAGE_MAP, page, content, 0)
        bring_in(mc, page)
    elif not has_spare_content(mc):
        return False
    else:
        content = new_content(mc, (disk >> 12) + 1)
        show(mc, page, content)
        ask(mc.actions, A_PAGE, slot, PAGE_MAP, page, content, 0)
        bring_in(mc, page)
        word = (mc.p[X_CONTENTS] + content) << 10
        for place in range(1024):
            mc.ram[word + place] = mc.disk[(disk >> 2) + place]
            mc.ops[word + place] = 0
    return True


@helper
def write_private(mc, slot, disk, address, length):
    """Write to a machine's own copies of a disk's sectors."""
    vm = slot // SLOTS
    done = 0
    while done < length:
        part = min(length - done, SECTOR - (disk + done) % SECTOR)
        make_private(mc, vm, (disk + done) // SECTOR)
        copy(mc, slot, own_disk_byte(mc, vm, disk + done), address + done, part, True)
        done += part


@helper
def read_private(mc, slot, disk, address, length):
    """Read sectors as a machine sees them: its own copies, others from the image."""
    vm = slot // SLOTS
    done = 0
    while done < length:
        part = min(length - done, SECTOR - (disk + done) % SECTOR)
        place = disk + done
        if is_private(mc, vm, place // SECTOR):
            place = own_disk_byte(mc, vm, place)
        copy(mc, slot, place, address + done, part, False)
        done += part


@helper
def finish(mc, slot):
    """Write the status into the chain's last byte, and give it back."""
    v = mc.virtio[slot]
    # The last byte that may be written, wherever the driver cut its buffers.
    last = v[V_CHAIN + C_COUNT] - 1
    while v[V_CHAIN + C_LIST + 2 * last + 1] == 0:
        last -= 1
    at = V_CHAIN + C_LIST + 2 * last
    address = v[at] + v[at + 1] - 1
    put(mc, slot, address, 1, v[V_RESULT])
    record(mc, slot, WRITE, address, 1, 0)
    if push(mc, slot, V_CHAIN, v[V_WRITTEN] + 1) < 0:
        give_up(mc, slot)
    else:
        v[V_STATE] = POLL
