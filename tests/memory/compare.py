"""Compare the oracle with the compiled memory system: random machines, random streams."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np

from tests.memory import driver
from tests.naive import DMA, PAGE_BYTES, Cache, Config, Memory

Stream = list[tuple[int, str, int, int, int]]  # cpu, kind, vaddr, guest page, work cycles
PAGES = 8


def random_config(
    rng: random.Random, *, same_line: bool = True, moving: bool = False, longer: bool = False
) -> Config:
    """Draw a small machine.

    ``same_line`` makes the second level's line the granule; otherwise it is shorter, or with one
    CPU (or ``longer``) any length.
    """
    nodes = rng.choice([2, 4] if moving else [1, 2, 4])
    cpus = rng.choice([c for c in (1, 2, 3, 4) if c >= nodes])
    granule = rng.choice([64, 128, 256])
    node_of = tuple(cpu * nodes // cpus for cpu in range(cpus))

    def level_one(lines: list[int]) -> Cache:
        return Cache(rng.choice([1, 2, 4, 256]), rng.choice([1, 2, 4]), rng.choice(lines))

    l2_lines = [granule] if same_line else [64, 128, 256]
    longer = longer or cpus == 1
    config = Config(
        node_of=node_of,
        nodes=nodes,
        l1i=level_one([32, 64]),
        l1d=level_one([16, 32, 64]),
        l2=Cache(
            rng.choice([1, 2, 8]),
            rng.choice([1, 2, 4]),
            rng.choice([line for line in l2_lines if line <= granule or longer]),
            rng.choice(["lru", "lru", "fifo", "random"]),
        ),
        granule_bytes=granule,
        protocol=rng.choice(["mesi", "msi"]),
        policy=rng.choice(["guest", "first-touch", "round-robin", "single-node"]),
        initial=rng.choice(["guest", "first-touch", "round-robin", "single-node"]),
        node=rng.randrange(nodes),
        frames_per_node=rng.choice([f for f in (4, 8, 12) if f * nodes >= PAGES]),
        pages=PAGES,
        trigger=rng.choice([3, 5, 8]),
        sharing=rng.choice([1, 2]),
        write=rng.choice([1, 4]),
        migrate_limit=rng.choice([1, 2, 9]),
        max_moves=rng.choice([0, 0, 3]),
        reset_cycles=rng.choice([5_000, 20_000, 10_000_000]),
    )
    if moving:
        return replace(config, policy=rng.choice(["migrate", "replicate", "migrate-replicate"]))
    if config.policy == "guest":
        return replace(config, frames_per_node=PAGES // nodes)
    return config


def random_stream(rng: random.Random, config: Config, length: int) -> Stream:
    """Draw references with locality in CPU and page, some through synonyms, some by devices."""
    span = rng.choice([256, 512, PAGE_BYTES])
    pages = rng.choice([1, 4, PAGES])
    alias, writes = rng.choice([0.0, 0.1]), rng.choice([0.02, 0.1, 0.4])
    sticky = rng.choice([0.0, 0.8])
    devices = rng.choice([0.0, 0.0, 0.05, 0.3])
    cpu, page, stream = 0, 0, []
    for _ in range(length):
        if rng.random() >= sticky:
            cpu = rng.randrange(len(config.node_of))
            page = rng.randrange(pages)
        kind = "store" if rng.random() < writes else rng.choice(["fetch", "load", "load"])
        colour = rng.randrange(1, PAGES) if rng.random() < alias else 0
        vaddr = (page + colour) * PAGE_BYTES + rng.randrange(0, span, 4)
        if rng.random() < devices:
            kind = rng.choice(DMA)
            first = rng.choice([0, rng.randrange(span), rng.randrange(span) & -128])
            most = min(PAGE_BYTES - first, rng.choice([span, PAGE_BYTES]))
            size = rng.choice([most, rng.randint(1, most), min(most, 128)])
            vaddr = size * PAGE_BYTES + first
        stream.append((cpu, kind, vaddr, page, rng.randrange(20)))
    return stream


def columns(stream: Stream) -> tuple[np.ndarray, ...]:
    """Return a stream as the arrays that the compiled driver takes."""
    kinds = [driver.KIND[kind] for _, kind, *_ in stream]
    rows = [(c, k, v, p, w) for (c, _, v, p, w), k in zip(stream, kinds, strict=True)]
    table = np.array(rows, np.int64).reshape(-1, 5)
    return tuple(np.ascontiguousarray(table[:, i]) for i in range(5))


def naive_state(memory: Memory) -> dict[str, Any]:
    """Return the oracle's state in the form of `driver.state`."""
    state: dict[str, Any] = {"l1": [], "l2": []}
    directory: dict[tuple[int, int], list[Any]] = {}
    presence: dict[int, list[Any]] = {}
    for cpu in range(memory.cpus):
        for level, array in (
            ("l1", memory.l1[cpu]["i"]),
            ("l1", memory.l1[cpu]["d"]),
            ("l2", memory.l2[cpu]),
        ):
            for ways, order in zip(array.sets, array.order, strict=True):
                last = [line and (line.dirty if level == "l1" else line.state) for line in ways]
                lines = [
                    (*line.tag, what) if line else None
                    for line, what in zip(ways, last, strict=True)
                ]
                state[level].append((lines, [way for way in order if ways[way] is not None]))
            for _, _, line in array.lines():
                if level == "l2":
                    directory.setdefault(line.tag, [0, -1, False])[0] |= 1 << cpu
                    continue
                address = line.tag[0] * PAGE_BYTES + line.tag[1] * array.shape.line_bytes
                granule = address // memory.config.granule_bytes
                entry = presence.setdefault(granule, [0, 0, [0] * memory.cpus])
                entry[0] |= 1 << cpu
                entry[2][cpu] += 1
                if line.dirty:
                    entry[1] = entry[1] // 256 * 256 + 256 + cpu
    for fline, owner in memory.owner.items():
        directory.setdefault(fline, [0, -1, False])[1] = owner
    for fline in memory.dirty:
        directory[fline][2] = True
    state["directory"] = {fline: tuple(entry) for fline, entry in directory.items()}
    state["presence"] = {g: (mask, word, tuple(n)) for g, (mask, word, n) in presence.items()}
    state["frame_at"] = memory.frame_at
    state["clock"] = memory.clock
    state["heat"] = {
        k: (h.local, h.remote, h.writes, h.moves)
        for k, h in memory.heat.items()
        if (h.local, h.remote, h.writes, h.moves) != (0, 0, 0, 0)
    }
    state["counters"] = [{k: v for k, v in row.items() if v} for row in memory.counters]
    state["misses"] = [
        (cpu, kind, vaddr, page, home, source, why, cycles)
        for cpu, kind, vaddr, page, home, source, why, cycles in memory.misses
    ]
    state["moves"] = memory.moves
    return state


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Return what differs, as {what: (kernel, oracle)}; for tables only the differing parts."""
    result: dict[str, Any] = {}
    for name in sorted(set(ours) | set(theirs)):
        a, b = ours.get(name), theirs.get(name)
        if a == b:
            continue
        if isinstance(a, list) and isinstance(b, list):
            pairs = [(i, *p) for i, p in enumerate(zip(a, b, strict=False)) if p[0] != p[1]]
            result[name] = pairs or (len(a), len(b))
        elif isinstance(a, dict) and isinstance(b, dict):
            keys = [k for k in {**a, **b} if a.get(k) != b.get(k)]
            result[name] = {k: (a.get(k), b.get(k)) for k in keys}
        else:
            result[name] = (a, b)
    return result


def run_both(config: Config, stream: Stream) -> dict[str, Any]:
    """Run a stream through oracle, kernels and a replay by kernels; return the differences."""
    oracle = Memory(config)
    ways, events, work = [], [], [0] * oracle.cpus
    for cpu, kind, vaddr, page, cycles in stream:
        before = len(oracle.events)
        work[cpu] += cycles
        oracle.access(cpu, kind, vaddr, page, cycles)
        ways.append(driver.HIT)
        if len(oracle.events) > before:
            _, event, _, _, way = oracle.events[-1]
            ways[-1] = way
            events.append(((cpu, event, vaddr, page, work[cpu]), way))
            work[cpu] = 0
    expected = naive_state(oracle)

    live = driver.build(config, config.pages)
    taken = np.zeros(len(stream), np.int64)
    refused = driver.drive(live, *columns(stream), taken)
    found = difference(driver.state(live), expected)
    if refused >= 0 or list(taken) != ways:
        found["ways"] = (refused, [(i, int(a), b) for i, (a, b) in enumerate(
            zip(taken, ways, strict=True)) if a != b][:5])  # fmt: skip

    # A replay sees the recorded events only; its first-level order is not that of the capture.
    replayed = driver.build(config, config.pages)
    rows = columns([event for event, _ in events])
    refused = driver.replay(replayed, *rows, np.array([way for _, way in events], np.int64))
    driver.add_work(replayed, np.array(work, np.int64))
    state = driver.state(replayed)
    for name in ("l1", "misses"):
        state[name] = [row[0] if name == "l1" else row for row in state[name]]
    again = dict(expected, l1=[row[0] for row in expected["l1"]])
    found.update({f"replay {k}": v for k, v in difference(state, again).items()})
    if refused >= 0:
        found["replay refused"] = refused
    return found


def check(seed: int, length: int, **kwargs: bool) -> None:
    """Fail with seed, machine and differences unless oracle and kernels agree to the unit."""
    rng = random.Random(seed)
    config = random_config(rng, **kwargs)
    found = run_both(config, random_stream(rng, config, length))
    assert not found, f"seed {seed}, {length} references, {config}: {found}"
