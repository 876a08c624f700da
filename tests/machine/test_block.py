"""The block device, by VIRTIO 1.2 sections 2, 4.2 and 5.2."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from disco_trace.machine import layout, slots
from tests.machine.board import Board
from tests.machine.rings import INDIRECT, NEXT, WRITE, Driver

SECTORS = 64
HEADER, STATUS_AT, BUFFER = 0x310000, 0x311000, 0x320000
IN, OUT, FLUSH, GET_ID = 0, 1, 4, 8


def content() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 2**32, SECTORS * 128, np.uint32)


def disk(*sets: str, read_only: bool = False, cpus: int = 1) -> Driver:
    board = Board(*sets, disks=[(content(), read_only)], cpus=cpus)
    driver = Driver(board, 0)
    driver.start()
    return driver


def request(driver: Driver, kind: int, sector: int, data: list[tuple[int, int]], first: int = 0):
    """Offer a request with data buffers (address, length)."""
    driver.write(HEADER, struct.pack("<IIQ", kind, 0, sector))
    driver.write(STATUS_AT, b"\xff")
    flags = 0 if kind == OUT else WRITE
    buffers = [(HEADER, 16, 0), *((a, n, flags) for a, n in data), (STATUS_AT, 1, WRITE)]
    driver.chain(first, buffers)


def complete(driver: Driver) -> tuple[int, int]:
    """Notify, wait, run; return (status byte, bytes written) of the one request."""
    driver.notify()
    driver.wait()
    driver.acknowledge()
    assert driver.run() == layout.EXIT_STOP
    ((_, written),) = driver.returned()
    return driver.read(STATUS_AT, 1)[0], written


def test_registers():
    driver = disk()
    names = {0x00: 0x74726976, 0x04: 2, 0x08: 2, 0x34: 256, 0x44: 1, 0x60: 0, 0x70: 15, 0xFC: 0,
             0x100: SECTORS, 0x104: 0, 0x10C: 254, 0x114: 512}  # fmt: skip
    at = {register: driver.load(register) for register in names}
    assert driver.run() == layout.EXIT_STOP
    assert {register: driver.answer(index) for register, index in at.items()} == names


def test_an_empty_slot_has_device_0():
    driver = Driver(Board(), 3)
    assert driver.register(0x00) == 0x74726976
    assert driver.register(0x08) == 0


def test_read():
    driver = disk()
    request(driver, IN, 5, [(BUFFER, 1024)])
    assert complete(driver) == (0, 1025)
    assert driver.read(BUFFER, 1024) == content().tobytes()[5 * 512 : 7 * 512]


def test_write_goes_to_the_run_not_to_the_given_array():
    data = np.random.default_rng(8).bytes(1536)
    driver = disk()
    driver.write(BUFFER, data)
    request(driver, OUT, 10, [(BUFFER, 1536)])
    assert complete(driver) == (0, 1)
    request(driver, IN, 9, [(BUFFER + 0x4000, 2048)])
    assert complete(driver) == (0, 2049)
    before = content().tobytes()[9 * 512 : 10 * 512]
    assert driver.read(BUFFER + 0x4000, 2048) == before + data


def test_flush_and_identity():
    driver = disk()
    request(driver, FLUSH, 0, [])
    assert complete(driver) == (0, 1)
    request(driver, GET_ID, 0, [(BUFFER, 20)])
    assert complete(driver) == (0, 21)
    assert driver.read(BUFFER, 20) == b"disco-trace-disk-0\0\0"
    request(driver, GET_ID, 0, [(BUFFER + 64, 5), (BUFFER + 96, 4)])
    assert complete(driver) == (0, 10)
    assert driver.read(BUFFER + 64, 6) == b"disco\0"
    assert driver.read(BUFFER + 96, 5) == b"-tra\0"


@pytest.mark.parametrize(
    ("kind", "sector", "length", "status"),
    [
        (IN, SECTORS - 1, 512, 0),
        (IN, SECTORS - 1, 1024, 1),
        (IN, SECTORS, 512, 1),
        (IN, 2**63, 512, 1),
        (IN, 2**64 - 1, 1024, 1),
        (IN, 0, 100, 1),
        (OUT, 1, 513, 1),
        (OUT, SECTORS, 512, 1),
        (11, 0, 512, 2),
        (2**32 - 1, 0, 512, 2),
    ],
)
def test_status(kind, sector, length, status):
    driver = disk()
    driver.write(BUFFER, b"\x55" * 1024)
    request(driver, kind, sector, [(BUFFER, length)])
    assert complete(driver) == (status, 513 if (kind, status) == (IN, 0) else 1)
    if status:
        assert driver.read(BUFFER, 1024) == b"\x55" * 1024
        assert driver.board.m.disk.tobytes() == content().tobytes()


def test_read_only():
    driver = disk(read_only=True)
    assert driver.register(0x10) >> 5 & 1 == 1
    request(driver, OUT, 0, [(BUFFER, 512)])
    assert complete(driver) == (1, 1)
    request(driver, IN, 0, [(BUFFER, 512)])
    assert complete(driver) == (0, 513)
    assert disk().register(0x10) >> 5 & 1 == 0


@pytest.mark.parametrize("seed", range(4))
def test_buffers_cut_anywhere(seed):
    """Framing is the driver's own affair (2.7.4): header, data and status in any pieces."""
    rng = random.Random(seed)
    driver = disk()
    driver.size = 128
    driver.start()
    place = BUFFER
    for kind in (IN, OUT, GET_ID):
        data = rng.randbytes(2048)
        out = struct.pack("<IIQ", kind, rng.getrandbits(32), 6) + (data if kind == OUT else b"")
        into = {IN: 2048, OUT: 0, GET_ID: 30}[kind] + 1
        buffers, spots = [], []
        for total, flags in ((len(out), 0), (into, WRITE)):
            at = 0
            while at < total:
                length = min(total - at, rng.choice([0, 1, 3, 8, 100, 700]))
                place += rng.choice([1, 7, 64])
                if not flags:
                    driver.write(place, out[at : at + length])
                buffers.append((place, length, flags))
                spots += range(place, place + length) if flags else []
                place, at = place + length, at + length
        driver.chain(0, buffers)
        driver.notify()
        driver.wait_used(driver.available[0])
        driver.acknowledge()
        assert driver.run() == layout.EXIT_STOP
        got = b"".join(driver.read(spot, 1) for spot in spots)
        written = {IN: 2049, OUT: 1, GET_ID: 21}[kind]
        assert driver.returned() == [(0, written)]
        assert got[-1] == 0
        if kind == IN:
            assert got[:-1] == content().tobytes()[6 * 512 : 10 * 512]
        elif kind == OUT:
            assert driver.board.m.disk.tobytes()[6 * 512 : 10 * 512] == data
            driver.board.m.disk[:] = content()
        else:
            assert got[:20] == b"disco-trace-disk-0\0\0"


def test_indirect():
    driver = disk()
    table = 0x318008  # tables need no alignment beyond their own
    driver.write(HEADER, struct.pack("<IIQ", IN, 0, 3))
    driver.describe(0, HEADER, 16, NEXT, 2, table=table)
    driver.describe(2, BUFFER, 512, NEXT | WRITE, 1, table=table)
    driver.describe(1, STATUS_AT, 1, WRITE, table=table)
    driver.describe(5, table, 48, INDIRECT)
    driver.offer(5)
    assert complete(driver) == (0, 513)
    assert driver.read(BUFFER, 512) == content().tobytes()[3 * 512 : 4 * 512]


def test_several_requests_at_once_come_back_in_order():
    driver = disk()
    for number in range(2):
        driver.write(HEADER + 32 * number, struct.pack("<IIQ", IN, 0, number))
        driver.chain(
            4 * number,
            [
                (HEADER + 32 * number, 16, 0),
                (BUFFER + 512 * number, 512, WRITE),
                (STATUS_AT + number, 1, WRITE),
            ],
        )
    driver.notify()
    driver.wait_used(2)
    assert driver.run() == layout.EXIT_STOP
    assert driver.returned() == [(0, 513), (4, 513)]
    assert driver.read(BUFFER, 1024) == content().tobytes()[:1024]


def test_indices_of_the_rings_wrap():
    driver = disk("machine.disk_latency_ns=0")
    driver.available[0] = driver.used[0] = 0
    for number in range(40):  # five times round a ring of 8
        request(driver, IN, number, [(BUFFER, 512)], first=number % 6)
        assert complete(driver) == (0, 513)
        assert driver.read(BUFFER, 512) == content().tobytes()[number * 512 : number * 512 + 512]
    # 16-bit indices wrap as well: put both sides just before the end.
    m = driver.board.m
    at = slots.V_QUEUES
    m.virtio[0, at + slots.Q_LAST] = m.virtio[0, at + slots.Q_USED_INDEX] = 0xFFFF
    driver.available[0] = driver.used[0] = 0xFFFF
    for sector in (1, 2):
        request(driver, IN, sector, [(BUFFER, 512)])
        assert complete(driver) == (0, 513)
        assert driver.read(BUFFER, 512) == content().tobytes()[sector * 512 : sector * 512 + 512]


def test_features_decide():
    driver = disk()
    for low, high, accepted in ((0, 1, True), (1 << 9, 1, True), (1 << 5, 1, False), (0, 0, False),
                                (0, 3, False), (1 << 10, 1, False)):  # fmt: skip
        for value in (0, 1, 3):
            driver.store(0x70, value)
        driver.store(0x24, 0)
        driver.store(0x20, low)
        driver.store(0x24, 1)
        driver.store(0x20, high)
        driver.store(0x70, 11)
        status = driver.register(0x70)
        assert status == (11 if accepted else 3), (low, high)
    # Offered: what the driver above was refused is what the device does not have.
    driver.store(0x14, 1)
    assert driver.register(0x10) == 1
    driver.store(0x14, 2)
    assert driver.register(0x10) == 0


def test_nothing_happens_before_the_driver_is_ready():
    driver = disk()
    driver.store(0x70, 0)
    driver.start()
    driver.script.pop()  # without DRIVER_OK
    request(driver, IN, 0, [(BUFFER, 512)])
    driver.notify()
    assert driver.run() == layout.EXIT_STOP
    assert driver.board.run(100_000) == layout.EXIT_INSTRUCTIONS
    assert driver.returned() == []
    driver.store(0x70, 15)
    assert complete(driver) == (0, 513)


def test_reset_drops_what_was_under_way():
    driver = disk()
    request(driver, IN, 0, [(BUFFER, 512)])
    driver.notify()
    driver.store(0x70, 0)
    assert driver.run() == layout.EXIT_STOP
    assert driver.board.run(1_000_000) == layout.EXIT_INSTRUCTIONS
    assert driver.returned() == []
    assert driver.read(BUFFER, 512) == bytes(512)
    state = driver.board.m.virtio[0]
    assert state[slots.V_DUE] == slots.NEVER
    driver.available, driver.used = [0, 0], [0, 0]
    for place in driver.places(0):
        driver.write(place, bytes(64))
    driver.start()
    request(driver, IN, 1, [(BUFFER, 512)])
    assert complete(driver) == (0, 513)


def test_interrupt_line():
    driver = disk()
    request(driver, FLUSH, 0, [])
    driver.notify()
    driver.wait()
    assert driver.run() == layout.EXIT_STOP
    assert driver.board.get("cause") >> 12 & 1 == 1
    assert driver.register(0x60) == 1
    driver.store(0x64, 2)
    assert driver.register(0x60) == 1
    driver.acknowledge()
    assert driver.register(0x60) == 0
    assert driver.board.get("cause") >> 12 & 1 == 0
    # VIRTQ_AVAIL_F_NO_INTERRUPT
    driver.write(driver.places(0)[1], b"\1")
    request(driver, FLUSH, 0, [])
    driver.notify()
    driver.wait_used(2)
    assert driver.run() == layout.EXIT_STOP
    assert driver.register(0x60) == 0


BROKEN = {
    "head beyond the ring": lambda d: d.offer(8),
    "index far ahead": lambda d: d.write(d.places(0)[1] + 2, b"\x09"),
    "next beyond the ring": lambda d: (d.describe(0, HEADER, 16, NEXT, 8), d.offer(0)),
    "circle": lambda d: (d.describe(0, HEADER, 16, NEXT, 0), d.offer(0)),
    "beyond memory": lambda d: (d.describe(0, 16 << 20, 16, 0), d.offer(0)),
    "across the end": lambda d: (d.describe(0, (16 << 20) - 8, 16, 0), d.offer(0)),
    "top of the address space": lambda d: (d.describe(0, 2**64 - 16, 16, 0), d.offer(0)),
    "devices": lambda d: (d.describe(0, 0x1F001000, 4, WRITE), d.offer(0)),
    "longest": lambda d: (d.describe(0, 0, 2**32 - 1, 0), d.offer(0)),
    "readable behind writable": lambda d: d.chain(0, [(BUFFER, 16, WRITE), (HEADER, 16, 0)]),
    "no header": lambda d: d.chain(0, [(HEADER, 15, 0), (STATUS_AT, 1, WRITE)]),
    "no status": lambda d: d.chain(0, [(HEADER, 16, 0), (STATUS_AT, 0, WRITE)]),
    "indirect and next": lambda d: (d.describe(0, BUFFER, 32, INDIRECT | NEXT, 1), d.offer(0)),
    "indirect without entries": lambda d: (d.describe(0, BUFFER, 0, INDIRECT), d.offer(0)),
    "indirect, odd": lambda d: (d.describe(0, BUFFER, 24, INDIRECT), d.offer(0)),
    "indirect, too long": lambda d: (d.describe(0, BUFFER, 16 * 257, INDIRECT), d.offer(0)),
    "indirect twice": lambda d: (
        d.describe(0, BUFFER, 32, INDIRECT, table=BUFFER),
        d.describe(0, BUFFER, 32, INDIRECT),
        d.offer(0),
    ),
    "indirect circle": lambda d: (
        d.describe(0, HEADER, 16, NEXT, 0, table=BUFFER),
        d.describe(0, BUFFER, 32, INDIRECT),
        d.offer(0),
    ),
    "indirect, next beyond": lambda d: (
        d.describe(0, HEADER, 16, NEXT, 2, table=BUFFER),
        d.describe(0, BUFFER, 32, INDIRECT),
        d.offer(0),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_ring(case):
    """The device asks to be reset, and nothing else has happened."""
    driver = disk("machine.disk_latency_ns=100")
    BROKEN[case](driver)
    rings = driver.read(driver.places(0)[0], 0x8000)
    driver.notify()
    driver.wait()
    assert driver.run() == layout.EXIT_STOP
    assert driver.register(0x70) == 15 | 64
    assert driver.register(0x60) == 2  # the configuration has changed
    assert driver.read(driver.places(0)[0], 0x8000) == rings
    assert driver.board.m.disk.tobytes() == content().tobytes()
    driver.acknowledge()
    request(driver, FLUSH, 0, [])
    driver.notify()
    assert driver.run() == layout.EXIT_STOP
    assert driver.board.run(100_000) == layout.EXIT_INSTRUCTIONS
    assert driver.returned() == []
    driver.store(0x70, 0)
    assert driver.register(0x70) == 0


def test_indirect_that_was_not_accepted():
    driver = disk("machine.disk_latency_ns=0")
    driver.start(features=0)
    driver.describe(0, BUFFER, 32, INDIRECT)
    driver.offer(0)
    driver.notify()
    assert driver.run() == layout.EXIT_STOP
    assert driver.register(0x70) == 15 | 64


@pytest.mark.parametrize(
    ("size", "desc", "avail", "used"),
    [
        (0, 0, 0, 0),
        (3, 0, 0, 0),
        (512, 0, 0, 0),
        (8, 8, 0, 0),
        (8, 0, 1, 0),
        (8, 0, 0, 2),
        (8, 16 << 20, 0, 0),
        (256, (16 << 20) - 4080, 0, 0),
        (8, 0, (16 << 20) - 16, 0),
        (8, 0, 0, (16 << 20) - 64),
        (8, 2**40, 0, 0),
        (8, 0, 2**63, 0),
    ],
)
def test_impossible_queues(size, desc, avail, used):
    driver = disk()
    driver.store(0x44, 0)
    driver.store(0x38, size)
    for register, value in ((0x80, desc), (0x90, avail), (0xA0, used)):
        driver.store(register, value & 0xFFFFFFFF)
        driver.store(register + 4, value >> 32)
    driver.store(0x44, 1)
    assert driver.register(0x44) == 0
    assert driver.register(0x70) == 15 | 64
    assert driver.register(0x60) == 2
    assert driver.board.get("cause") >> 12 & 1 == 1


def test_a_queue_at_the_very_end_of_memory():
    driver = disk()
    end = 16 << 20
    driver.places = lambda queue: (end - 0x200, end - 0x100 - 22, end - 70 & ~3)
    driver.start()
    driver.store(0x44, 0)
    request(driver, IN, 0, [(BUFFER, 512)])
    driver.start()
    assert complete(driver) == (0, 513)
