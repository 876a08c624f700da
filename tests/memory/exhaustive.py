"""Walk every state that a tiny memory system can reach, and check coherence in each.

Breadth first over the oracle's states; a state is what decides the future (lines, their order,
owners, which copies are fresh), so version numbers and counters are left out of its key.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.naive import DMA, Config, Memory

Reference = tuple[int, str, int, int]  # cpu, kind, vaddr, guest page


class Violation(AssertionError):
    """Report a broken invariant together with the references that led to it."""


@dataclass
class Walk:
    """Report how much of the state space was seen; ``closed`` if all of it was."""

    states: int
    transitions: int
    depth: int
    closed: bool


def fresh(memory: Memory, page: int, data: dict[int, int]) -> tuple[bool, ...]:
    """Tell for each unit of a line whether it holds the newest version."""
    return tuple(memory.newest.get((page, u), (0, 0))[0] == v for u, v in sorted(data.items()))


def key(memory: Memory) -> object:
    """Return what decides the future of the memory system, hashable."""
    caches = []
    for cpu in range(memory.cpus):
        for array in (memory.l1[cpu]["i"], memory.l1[cpu]["d"], memory.l2[cpu]):
            for index, ways in enumerate(array.sets):
                row: list[object] = []
                for line in ways:
                    if line is None:
                        row.append(None)
                        continue
                    page = memory.page_of[line.tag[0]] if array is memory.l2[cpu] else line.tag[0]
                    state = (line.tag, line.dirty, line.state, fresh(memory, page, line.data))
                    row.append(state)
                caches.append((tuple(row), tuple(array.order[index])))
    stale = {
        (frame, unit)
        for (frame, unit), version in memory.memory.items()
        if memory.newest.get((memory.page_of[frame], unit), (0, 0))[0] != version
    }
    # A unit that memory never received is stale once it was written.
    for (page, unit), (version, _) in memory.newest.items():
        for frame in set(memory.frame_at.get(page, ())):
            if version and (frame, unit) not in memory.memory:
                stale.add((frame, unit))
        # A page that only a device wrote has its data somewhere, but no frame yet.
        if page not in memory.frame_at and memory.saved.get((page, unit), 0) != version:
            stale.add((-1 - page, unit))
    return (
        tuple(caches),
        tuple(sorted(memory.owner.items())),
        tuple(sorted(memory.dirty)),
        tuple(sorted(stale)),
        tuple(sorted((k, v[1]) for k, v in memory.newest.items())),
        tuple(sorted((p, tuple(f)) for p, f in memory.frame_at.items())),
    )


def check_state(memory: Memory) -> None:
    """Raise Violation unless directory, owners and data of a state agree."""
    flines = {line.tag for cpu in range(memory.cpus) for _, _, line in memory.l2[cpu].lines()}
    flines |= set(memory.owner)
    for fline in flines:
        owner = memory.owner.get(fline)
        states = {
            cpu: line.state
            for cpu in range(memory.cpus)
            if (line := memory.l2_line(cpu, fline)) is not None
        }
        for cpu, state in states.items():
            if state in "EM" and owner != cpu:
                raise Violation(f"cpu {cpu} holds {fline} as {state}; the owner is {owner}")
            if state == "S" and owner == cpu:
                raise Violation(f"owner {owner} of {fline} holds it shared")
            if state == "M" and fline not in memory.dirty:
                raise Violation(f"cpu {cpu} holds {fline} modified; the directory says clean")
            if state == "E" and fline in memory.dirty:
                raise Violation(f"cpu {cpu} holds {fline} exclusive; the directory says dirty")
        if owner is None:
            if fline in memory.dirty:
                raise Violation(f"{fline} is dirty without an owner")
            continue
        if memory.holders(fline) != {owner}:
            raise Violation(f"{fline}: owner {owner}, holders {sorted(memory.holders(fline))}")
        if fline in memory.dirty and owner not in states and not memory.l1_dirty(owner, fline):
            raise Violation(f"{fline} is dirty at {owner}, which holds nothing dirty")
    check_first_level(memory)
    check_data(memory)


def check_first_level(memory: Memory) -> None:
    """Raise Violation unless dirty granules have one holder, which owns the line."""
    step = memory.config.granule_bytes
    for cpu in range(memory.cpus):
        for _, _, line in memory.l1[cpu]["d"].lines():
            if not line.dirty:
                continue
            page, start = line.tag[0], line.tag[1] * memory.config.l1d.line_bytes
            granule = start // step
            fline = memory.fline(cpu, page, start)
            if memory.owner.get(fline) != cpu or fline not in memory.dirty:
                raise Violation(f"cpu {cpu} has a dirty part of {fline} that it does not own")
            for other in range(memory.cpus):
                if other != cpu and memory.parts(other, page, range(granule, granule + 1)):
                    raise Violation(f"cpus {cpu} (dirty) and {other} hold granule {granule}")


def check_data(memory: Memory) -> None:
    """Raise Violation if the newest version of a unit is nowhere."""
    for (page, unit), (version, _) in memory.newest.items():
        if page not in memory.frame_at and memory.saved.get((page, unit), 0) == version:
            continue
        for frame in set(memory.frame_at.get(page, ())):
            if memory.memory.get((frame, unit), 0) == version:
                break
        else:
            copies = [
                line.data.get(unit)
                for cpu in range(memory.cpus)
                for line in (
                    [x for _, _, x in memory.l1[cpu]["d"].lines() if x.tag[0] == page and x.dirty]
                    + [x for _, _, x in memory.l2[cpu].lines() if memory.page_of[x.tag[0]] == page]
                )
            ]
            if version not in copies:
                raise Violation(f"the newest version of page {page} unit {unit} is lost")


def check_read(memory: Memory, reference: Reference, seen: int) -> None:
    """Raise Violation if a read saw an old version.

    A fetch may miss the CPU's own stores: MIPS keeps I and D of one CPU apart. A device's transfer
    answers with the number of stale units.
    """
    cpu, kind, vaddr, page = reference
    if kind in DMA:
        if seen:
            raise Violation(f"a device met {seen} stale units")
        return
    unit = vaddr % 4096 // memory.unit_bytes
    version, writer = memory.newest.get((page, unit), (0, 0))
    if kind == "store" or seen == version or (kind == "fetch" and writer == cpu):
        return
    raise Violation(f"saw version {seen} of {version}")


def walk(
    config: Config,
    alphabet: Iterable[Reference],
    *,
    depth: int = 100,
    max_states: int = 1_000_000,
    each: Callable[[Memory, tuple[Reference, ...]], None] | None = None,
) -> Walk:
    """Check every state within ``depth`` references.

    ``each(after, references)`` is called for every transition, with the shortest way to it.

    Raises:
        Violation: with the shortest sequence of references that breaks an invariant.
    """
    start = Memory(config)
    seen = {key(start)}
    frontier: list[tuple[bytes, tuple[Reference, ...]]] = [(pickle.dumps(start), ())]
    references = list(alphabet)
    transitions = 0
    for level in range(depth):
        following = []
        for packed, path in frontier:
            for reference in references:
                memory = pickle.loads(packed)
                memory.events.clear()
                memory.misses.clear()
                transitions += 1
                try:
                    check_read(memory, reference, memory.access(*reference))
                    if each is not None:
                        each(memory, (*path, reference))
                    state = key(memory)
                    if state in seen:
                        continue
                    check_state(memory)
                except Violation as error:
                    raise Violation(f"{error}, after {[*path, reference]}") from None
                seen.add(state)
                following.append((pickle.dumps(memory), (*path, reference)))
                if len(seen) >= max_states:
                    return Walk(len(seen), transitions, level + 1, closed=False)
        if not following:
            return Walk(len(seen), transitions, level, closed=True)
        frontier = following
    return Walk(len(seen), transitions, depth, closed=False)
