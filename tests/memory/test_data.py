"""Ask of every read under every policy whether it saw the newest data (on the oracle)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.memory.compare import random_config, random_stream
from tests.memory.exhaustive import check_read, check_state
from tests.naive import Memory


@pytest.mark.parametrize(
    "policy",
    ["first-touch", "migrate", "replicate", "migrate-replicate"],
)
def test_reads_see_the_newest_version(policy: str) -> None:
    for seed in range(40):
        rng = random.Random(seed)
        config = replace(random_config(rng, moving=True), policy=policy)
        memory = Memory(config)
        for cpu, kind, vaddr, page, work in random_stream(rng, config, 600):
            seen = memory.access(cpu, kind, vaddr, page, work)
            check_read(memory, (cpu, kind, vaddr, page), seen)
        check_state(memory)
