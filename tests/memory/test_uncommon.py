"""Hold uncached references, CACHE operations, dead pages and new first touch to the oracle."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.memory import driver
from tests.memory.compare import (
    PAGES,
    columns,
    difference,
    naive_state,
    random_config,
    random_stream,
)
from tests.naive import PAGE_BYTES, Config, Memory

Event = tuple[str, int, str, int, int, int]  # what, cpu, kind, vaddr, page, operation
KINDS = ("uncached_fetch", "uncached_load", "uncached_store")
# Index and hit invalidations of both first levels; the second level's are without effect.
OPERATIONS = (0b00000, 0b00001, 0b10000, 0b10001, 0b10101, 0b00011)
FILL, WRITE_BACK = 0b10100, 0b11001


def random_events(
    rng: random.Random, config: Config, length: int, kinds: str, operations: tuple[int, ...]
) -> list[Event]:
    """Mix cached references with the events named in ``kinds`` (u, c, d, r)."""
    events: list[Event] = []
    for cpu, kind, vaddr, page, _ in random_stream(rng, config, length):
        events.append(("reference", cpu, kind, vaddr, page, 0))
        draw = rng.random()
        if draw < 0.05 and "u" in kinds:
            target = rng.choice([page, PAGES + 3])
            events.append(("uncached", cpu, rng.choice(KINDS), target * PAGE_BYTES, target, 0))
        elif draw < 0.25 and "c" in kinds:
            operation = rng.choice(operations)
            other = rng.randrange(len(config.node_of))
            events.append(("cache_op", other, "cache_op", vaddr, page, operation))
        elif draw < 0.27 and "d" in kinds:
            events.append(("drop", 0, "", 0, rng.randrange(PAGES), 0))
        elif draw < 0.275 and "r" in kinds:
            events.append(("retouch", 0, "", 0, 0, 0))
    return events


def check(
    seed: int,
    length: int,
    kinds: str,
    *,
    moving: bool = False,
    operations: tuple[int, ...] = OPERATIONS,
) -> None:
    """Fail at the first event after which oracle and kernels differ."""
    rng = random.Random(seed)
    config = random_config(rng, moving=moving)
    oracle, kernels = Memory(config), driver.build(config, PAGES)
    way = np.zeros(1, np.int64)
    for number, event in enumerate(random_events(rng, config, length, kinds, operations)):
        what, cpu, kind, vaddr, page, operation = event
        if what == "reference":
            oracle.access(cpu, kind, vaddr, page)
            driver.drive(kernels, *columns([(cpu, kind, vaddr, page, 0)]), way)
        elif what == "drop":
            oracle.drop_page(page)
            driver.drop_page(kernels, page)
        elif what == "retouch":
            oracle.retouch()
            driver.retouch(kernels)
        else:
            if what == "uncached":
                oracle.uncached(cpu, kind, page)
            else:
                oracle.cache_op(cpu, operation, vaddr, page)
            way[0] = operation
            driver.replay(kernels, *columns([(cpu, kind, vaddr, page, 0)]), way)
        if what != "reference" or number % 50 == 0:
            found = difference(driver.state(kernels), naive_state(oracle))
            assert not found, f"seed {seed}, event {number} {event}, {config}: {found}"
    found = difference(driver.state(kernels), naive_state(oracle))
    assert not found, f"seed {seed}, {length} references, {config}: {found}"


FEW = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
SEEDS, LENGTHS = st.integers(0, 2**32 - 1), st.integers(1, 300)


@FEW
@given(SEEDS, LENGTHS, st.booleans())
def test_uncached(seed: int, length: int, moving: bool) -> None:
    check(seed, length, "u", moving=moving)


@FEW
@given(SEEDS, LENGTHS)
def test_cache_operations(seed: int, length: int) -> None:
    check(seed, length, "c")


def test_instruction_fill() -> None:
    for seed in range(10):
        check(seed, 200, "c", operations=(FILL,))


def test_hit_write_back() -> None:
    for seed in range(40):
        check(seed, 300, "c", operations=(WRITE_BACK,))


def test_dead_pages() -> None:
    for seed in range(20):
        check(seed, 200, "d", moving=seed % 2 == 1)


@FEW
@given(SEEDS, LENGTHS, st.booleans())
def test_first_touch_again(seed: int, length: int, moving: bool) -> None:
    check(seed, length, "r", moving=moving)
