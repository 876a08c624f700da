"""Compare hit and miss counts of one CPU with pycachesim, which shares no code with us."""

from __future__ import annotations

import random

import numpy as np
import pytest

from disco_trace.memory import layout
from tests.memory import driver
from tests.memory.compare import Stream, columns
from tests.naive import PAGE_BYTES, Cache, Config

cachesim = pytest.importorskip("cachesim")

SHAPES = [
    (Cache(256, 2, 64), Cache(512, 2, 32), Cache(4096, 2, 128)),  # flash8
    (Cache(16, 1, 64), Cache(16, 4, 32), Cache(64, 4, 128)),
    (Cache(4, 2, 32), Cache(2, 4, 16), Cache(8, 8, 64)),
]


def outside(cache: Cache):  # type: ignore[no-untyped-def]
    """Return pycachesim's simulator of one write-back, write-allocate LRU cache."""
    memory = cachesim.MainMemory()
    level = cachesim.Cache("L", cache.sets, cache.ways, cache.line_bytes, "LRU")
    memory.load_to(level)
    memory.store_from(level)
    return cachesim.CacheSimulator(level, memory), level


def program(rng: random.Random, pages: int, length: int) -> Stream:
    """Return loops over arrays with random accesses between: loads, stores and fetches."""
    stream: Stream = []
    code = 0
    while len(stream) < length:
        start, stride = rng.randrange(pages * PAGE_BYTES), rng.choice([4, 16, 32, 128, 4096])
        if rng.random() < 0.2:
            code = rng.randrange(pages * PAGE_BYTES) & ~3
        for step in range(rng.randrange(4, 200)):
            code = (code + 4) % (pages * PAGE_BYTES)
            stream.append((0, "fetch", code, code // PAGE_BYTES, 1))
            address = (start + step * stride) % (pages * PAGE_BYTES) & ~3
            kind = "store" if rng.random() < 0.3 else "load"
            stream.append((0, kind, address, address // PAGE_BYTES, 1))
    return stream[:length]


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_hits_and_misses(shape: int) -> None:
    l1i, l1d, l2 = SHAPES[shape]
    pages = 64
    config = Config((0,), l1i, l1d, l2, pages=pages, frames_per_node=pages)
    rng = random.Random(shape)
    stream = program(rng, pages, 30_000)
    ours = driver.build(config, pages, record_misses=False)
    ways = np.zeros(len(stream), np.int64)
    assert driver.drive(ours, *columns(stream), ways) == -1

    (sim_i, cache_i), (sim_d, cache_d) = outside(l1i), outside(l1d)
    second, cache_2 = outside(l2)
    l2_misses = 0
    for (_, kind, address, _, _), way in zip(stream, ways, strict=True):
        sim, cache = (sim_i, cache_i) if kind == "fetch" else (sim_d, cache_d)
        before = cache.MISS_count
        # Stores go in as loads: pycachesim 0.3.1 does not refresh a line's age on a store hit
        # (load 0, load 1, store 0, load 2, load 0 misses in a two-way set).
        sim.load(address)
        missed = cache.MISS_count > before
        if missed:
            assert way != driver.HIT
            before = cache_2.MISS_count
            second.load(address)
            l2_misses += cache_2.MISS_count - before
        elif way != driver.HIT:
            # An upgrade: it refreshes the second level's copy, but never allocates one.
            assert kind == "store"
            if cache_2.contains(address):
                second.load(address)
    counted = driver.counters(ours)[0]
    assert counted["l1i_misses"] == cache_i.MISS_count
    assert counted["l1d_misses"] == cache_d.MISS_count
    assert counted["local_misses"] == l2_misses
    assert counted["l2_hits"] == cache_i.MISS_count + cache_d.MISS_count - l2_misses
    assert int(ours.fill[layout.F_MISSES]) == 0
