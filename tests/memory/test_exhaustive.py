"""Check coherence in every reachable state of tiny machines, oracle and kernels alike.

The walk checks on the oracle, which carries data: one writer, no stale reader, directory and
owners equal to the actual holders over both levels. Each transition is then run through the
kernels, whose whole state must equal the oracle's; so the same holds for them.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.memory import driver
from tests.memory.compare import columns, difference, naive_state
from tests.memory.exhaustive import Reference, Violation, walk
from tests.naive import DMA, PAGE_BYTES, Cache, Config, Memory, tiny

Addresses = list[tuple[int, int]]  # vaddr, guest page


def alphabet(cpus: int, kinds: str, addresses: Addresses) -> list[Reference]:
    """Return every reference that the CPUs can make to the addresses."""
    names = {"f": "fetch", "l": "load", "s": "store"}
    return [(c, names[k], v, p) for c, k, (v, p) in product(range(cpus), kinds, addresses)]


def transfers(*ranges: tuple[int, int, int]) -> list[Reference]:
    """Return a device's read and write of each (offset, length, guest page)."""
    return [(0, kind, size * PAGE_BYTES + at, page) for kind in DMA for at, size, page in ranges]


class Kernels:
    """Rerun a path of references from the cold state, and compare with the oracle's end."""

    RESULTS = ("misses", "moves", "intervals")

    def __init__(self, config: Config) -> None:
        self.memory = driver.build(config, config.pages)
        self.cold = {
            name: getattr(self.memory, name).copy()
            for name in self.memory._fields
            if name not in self.RESULTS
        }

    def __call__(self, oracle: Memory, path: tuple[Reference, ...]) -> None:
        for name, array in self.cold.items():
            getattr(self.memory, name)[...] = array
        ways = np.zeros(len(path), np.int64)
        assert driver.drive(self.memory, *columns([(*r, 0) for r in path]), ways) == -1, path
        expected, ours = naive_state(oracle), driver.state(self.memory)
        for name in ("misses", "moves"):  # The walk forgets them at each step.
            expected.pop(name)
            ours.pop(name)
        found = difference(ours, expected)
        if found:
            raise Violation(f"kernels and oracle differ: {found}")


ONE_SET = [(0, 0), (32, 0), (128, 0)]
CASES = {
    "two lines, mesi": (tiny(pages=1), alphabet(2, "ls", ONE_SET)),
    "two lines, msi": (tiny(pages=1, protocol="msi"), alphabet(2, "ls", ONE_SET)),
    "instructions": (tiny(pages=1), alphabet(2, "fls", [(0, 0), (128, 0)])),
    "three CPUs": (tiny(pages=1, node_of=(0, 0, 0)), alphabet(3, "ls", [(0, 0), (128, 0)])),
    "first level outlives second": (
        tiny(pages=1, l1d=Cache(4, 1, 32)),
        alphabet(2, "ls", [(0, 0), (32, 0), (192, 0)]),
    ),
    "synonyms": (
        tiny(pages=2, l1d=Cache(256, 1, 32)),
        alphabet(2, "ls", [(0, 0), (4096, 0), (128, 0)]),
    ),
    "devices": (
        tiny(pages=1),
        alphabet(2, "ls", [(0, 0), (128, 0)]) + transfers((0, 128, 0), (64, 128, 0)),
    ),
    "devices and instructions": (
        tiny(pages=1, protocol="msi"),
        alphabet(2, "fs", [(0, 0)]) + transfers((0, 256, 0), (20, 8, 0)),
    ),
    "devices and a first level that outlives the second": (
        tiny(pages=1, l1d=Cache(4, 1, 32)),
        alphabet(2, "ls", [(0, 0), (192, 0)]) + transfers((0, 32, 0), (32, 128, 0)),
    ),
    "devices and short second-level lines": (
        tiny(pages=1, node_of=(0,), l1d=Cache(4, 1, 32), l2=Cache(2, 1, 64)),
        alphabet(1, "fls", [(0, 0), (64, 0)]) + transfers((0, 64, 0), (64, 32, 0)),
    ),
    "devices and long second-level lines": (
        tiny(pages=1, node_of=(0,), l1d=Cache(8, 1, 32), l2=Cache(1, 1, 256)),
        alphabet(1, "ls", [(0, 0), (128, 0), (256, 0)]) + transfers((0, 128, 0), (128, 16, 0)),
    ),
    "two nodes": (
        tiny(node_of=(0, 1), nodes=2, frames_per_node=1, pages=2),
        alphabet(2, "ls", [(0, 0), (4096, 1)]),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_state(case: str) -> None:
    config, references = CASES[case]
    assert walk(config, references).closed


@pytest.mark.parametrize("case", ["three CPUs", "two nodes", "devices"])
def test_every_transition_of_the_kernels(case: str) -> None:
    config, references = CASES[case]
    assert walk(config, references, each=Kernels(config)).closed


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_transition_of_the_kernels_slow(case: str) -> None:
    config, references = CASES[case]
    assert walk(config, references, each=Kernels(config)).closed


@pytest.mark.slow
def test_two_way_caches_deep() -> None:
    config = tiny(pages=1, l1d=Cache(1, 2, 32), l2=Cache(1, 2, 128))
    references = alphabet(2, "ls", [(0, 0), (32, 0), (128, 0), (256, 0)])
    assert walk(config, references, max_states=150_000).states == 150_000


def test_walk_finds_a_broken_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that do not clean the writer's first level must be caught."""
    original = Memory.l1_coherence

    def broken(self: Memory, cpu: int, page: int, granule: int, write: bool) -> None:
        if write:
            original(self, cpu, page, granule, write)

    monkeypatch.setattr(Memory, "l1_coherence", broken)
    with pytest.raises(Violation):
        walk(*CASES["two lines, mesi"])


def test_walk_finds_a_device_that_leaves_lines_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "dma_granule", lambda *_: None)
    with pytest.raises(Violation):
        walk(*CASES["devices"])
