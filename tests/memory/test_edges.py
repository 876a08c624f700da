"""Try the largest shapes that the configuration allows."""

from __future__ import annotations

import random

import pytest

from disco_trace.errors import DiscoError
from tests.memory.compare import random_stream, run_both
from tests.naive import Cache, Config

BASE = Config((0,), Cache(2, 2, 64), Cache(2, 2, 32), Cache(4, 2, 128), frames_per_node=8)


def test_sixteen_ways() -> None:
    config = Config((0,), BASE.l1i, Cache(2, 16, 32), Cache(4, 16, 128), frames_per_node=8)
    assert not run_both(config, random_stream(random.Random(1), config, 500))


@pytest.mark.parametrize("cpus", [5, 33, 64])
def test_many_cpus(cpus: int) -> None:
    config = Config((0,) * cpus, BASE.l1i, BASE.l1d, BASE.l2, frames_per_node=8)
    assert not run_both(config, random_stream(random.Random(cpus), config, 2000))


def test_more_than_255_parts_of_a_granule() -> None:
    config = Config((0,), BASE.l1i, Cache(65536, 1, 16), BASE.l2, frames_per_node=8)
    with pytest.raises(DiscoError, match="too many synonyms"):
        run_both(config, [])
