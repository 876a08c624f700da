"""Rings of random bytes, half right: the device does what the oracle does, and nothing else."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disco_trace.machine import layout
from tests.machine import naive_disk
from tests.machine.naive_disk import INDIRECT, NEXT, WRITE
from tests.machine.rings import CODE, SCRIPT, Driver
from tests.machine.test_block import content, disk

RAM = 16 << 20
AREA, AREA_BYTES = 0x300000, 0x20000  # where rings, tables, headers and data lie: they may overlap
NOW = ("machine.disk_latency_ns=0", "machine.disk_mbytes_per_s=1000000")


def addresses(rng: random.Random, length: int) -> int:
    """Draw an address, mostly in the area, now and then where nothing is."""
    draw = rng.random()
    if draw < 0.96:
        return AREA + rng.randrange(AREA_BYTES - 4096)
    choices = [RAM - length, RAM - length + 1, RAM, 2**32 - 1, 2**63, 2**64 - 1, 0x1F010000]
    return max(0, rng.choice(choices))


def lengths(rng: random.Random) -> int:
    draw = rng.random()
    if draw < 0.97:
        return rng.choice([0, 1, 15, 16, 17, 32, 512, 512, 1024, 4096, rng.randrange(2000)])
    return rng.choice([RAM, RAM + 1, 2**31, 2**32 - 1])


def descriptor(rng: random.Random, entries: int, forward: int | None) -> bytes:
    """Draw a descriptor; with `forward` its flags keep the order that a driver must keep."""
    length = lengths(rng)
    flags = rng.choice([0, NEXT, NEXT, WRITE, WRITE | NEXT])
    if forward is not None:
        flags = (WRITE if forward else 0) | (NEXT if rng.random() < 0.7 else 0)
    if rng.random() < 0.06:
        flags ^= INDIRECT
        length = rng.choice([16 * rng.randint(1, 8), length])
    following = rng.randrange(entries + (rng.random() < 0.05))
    if rng.random() < 0.02:
        flags, following = rng.getrandbits(16), rng.getrandbits(16)
    return struct.pack("<QIHH", addresses(rng, length), length, flags, following)


def header(rng: random.Random) -> bytes:
    kind = rng.choice([0, 0, 0, 1, 1, 4, 8, 2, rng.getrandbits(32)])
    sector = rng.choice([0, 1, rng.randrange(70), rng.getrandbits(64)])
    return struct.pack("<IIQ", kind, rng.getrandbits(32), sector)


def well_formed(rng: random.Random, driver: Driver, first: int) -> None:
    """Lay out a request that is right but for one thing, perhaps."""
    size = rng.choice([0, 512, 1024, 2048, 100])
    kind = rng.choice([0, 1])
    at = AREA + 0x8000 + 16 * rng.randrange(64)
    driver.write(at, struct.pack("<IIQ", kind, 0, rng.randrange(66)))
    driver.describe(first, at, 16, NEXT, (first + 1) % 8)
    flags = (WRITE if kind == 0 else 0) | NEXT
    driver.describe((first + 1) % 8, AREA + 0x10000 + rng.randrange(0xF000), size, flags,
                    (first + 2) % 8)  # fmt: skip
    driver.describe((first + 2) % 8, AREA + 0xC000 + rng.randrange(64), 1, WRITE)


def check(seed: int) -> str:
    rng = random.Random(seed)
    read_only = rng.random() < 0.2
    driver = disk(*NOW, read_only=read_only)
    indirect = rng.random() < 0.8
    driver.start(features=1 << 28 if indirect else 0)
    driver.write(AREA, rng.randbytes(AREA_BYTES))
    for _ in range(40):
        driver.write(AREA + rng.randrange(0x8000, AREA_BYTES - 64), header(rng))
    desc, avail, used = driver.places(0)
    order = rng.choice([None, 0, 1])
    driver.write(desc, b"".join(descriptor(rng, 8, order and n > 3) for n in range(8)))
    for _ in range(rng.randrange(4)):
        table = AREA + 0x10000 + 16 * rng.randrange(0x800)
        driver.write(table, b"".join(descriptor(rng, 8, n > 3) for n in range(8)))
    heads = [rng.randrange(8 + (rng.random() < 0.03)) for _ in range(8)]
    if rng.random() < 0.6:
        heads[:2] = [0, 3]
        well_formed(rng, driver, 0)
        well_formed(rng, driver, 3)
    ahead = rng.choice([0, 1, 1, 2, 3, 8, 9, rng.getrandbits(16)])
    driver.write(avail, struct.pack("<HH8H", rng.choice([0, 0, 1]), ahead, *heads))
    driver.write(used, bytes(4))

    memory = bytearray(driver.read(0, RAM))
    content_now = bytearray(content().tobytes())
    queue = naive_disk.Queue(desc, avail, used, 8)
    outcome = naive_disk.serve(
        memory, content_now, queue, indirect=indirect, read_only=read_only,
        name=b"disco-trace-disk-0\0\0",
    )  # fmt: skip
    driver.notify()
    assert driver.run() == layout.EXIT_STOP
    for start, end in ((CODE & 0x1FFFFFFF, 0x2000), (SCRIPT & 0x1FFFFFFF, 0x201000)):
        memory[start:end] = driver.read(start, end - start)  # the program that notified
    assert driver.read(0, RAM) == memory
    assert driver.board.m.disk.tobytes() == content_now
    state = driver.board.m.virtio[0]
    assert driver.register(0x70) == (15 | 64 if outcome.broken else 15)
    assert driver.register(0x60) == (outcome.interrupts > 0) | 2 * outcome.broken
    assert state.min() >= -1
    return "broken" if outcome.broken else f"{min(outcome.completed, 2)} done"


def test_as_the_oracle():
    ends: dict[str, int] = {}
    for seed in range(150):
        end = check(seed)
        ends[end] = ends.get(end, 0) + 1
    # Not only nonsense was tried.
    assert ends["broken"] >= 30, ends
    assert ends["1 done"] + ends["2 done"] >= 30, ends


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**63))
def test_many(seed):
    check(seed)
