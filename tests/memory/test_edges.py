"""Try the largest shapes that the configuration allows."""

from __future__ import annotations

import random

import pytest

from tests.memory.compare import Stream, random_stream, run_both
from tests.naive import PAGE_BYTES, Cache, Config

BASE = Config((0,), Cache(2, 2, 64), Cache(2, 2, 32), Cache(4, 2, 128), frames_per_node=8)


@pytest.mark.xfail(strict=True, reason="the order word of 16 ways does not fit an int64")
def test_sixteen_ways() -> None:
    config = Config((0,), BASE.l1i, Cache(2, 16, 32), Cache(4, 16, 128), frames_per_node=8)
    assert not run_both(config, random_stream(random.Random(1), config, 500))


@pytest.mark.parametrize("cpus", [5, 33, 64])
def test_many_cpus(cpus: int) -> None:
    config = Config((0,) * cpus, BASE.l1i, BASE.l1d, BASE.l2, frames_per_node=8)
    assert not run_both(config, random_stream(random.Random(cpus), config, 2000))


@pytest.mark.xfail(strict=True, reason="first-level lines of a granule are counted in a uint8")
def test_more_than_255_parts_of_a_granule() -> None:
    config = Config((0,), BASE.l1i, Cache(65536, 1, 16), BASE.l2, frames_per_node=8)
    stream: Stream = [
        (0, "load", colour * PAGE_BYTES + offset, 0, 1)
        for colour in range(64)
        for offset in range(0, 128, 16)
    ]
    assert not run_both(config, stream)
