"""The slow, obvious oracle of `replay.tlbs`: the monitor's TLBs as lists, for 4 KiB pages only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

VALID, DIRTY, GLOBAL = 2, 4, 1


class Pair(NamedTuple):
    """What a TLB holds: a page pair of an address space, and an EntryLo for each half."""

    page: int  # address >> 13
    asid: int
    lo0: int
    lo1: int

    @property
    def shared(self) -> bool:
        return self.lo0 & self.lo1 & GLOBAL != 0

    @property
    def valid(self) -> bool:
        return (self.lo0 | self.lo1) & VALID != 0

    def matches(self, page: int, asid: int) -> bool:
        return self.page == page and (self.shared or self.asid == asid)

    def half(self, address: int) -> int:
        return self.lo1 if address & 4096 else self.lo0

    def allows(self, address: int, store: bool) -> bool:
        lo = self.half(address)
        return lo & VALID != 0 and (lo & DIRTY != 0 or not store)


def cold(number: int) -> Pair:
    return Pair((0x80000000 >> 13) + number, 0, 0, 0)


class Software:
    """A software TLB: sets of four, each with the way that is replaced next."""

    def __init__(self, entries: int) -> None:
        self.ways: list[list[Pair | None]] = [[None] * 4 for _ in range(entries // 4)]
        self.turn = [0] * len(self.ways)

    def set(self, page: int) -> int:
        return (page ^ (page >> 7)) % len(self.ways)

    def find(self, address: int, asid: int, store: bool) -> Pair | None:
        if not self.ways:
            return None
        found = [
            pair for pair in self.ways[self.set(address >> 13)]
            if pair and pair.matches(address >> 13, asid)
        ]  # fmt: skip
        return found[0] if found and found[0].allows(address, store) else None

    def forget(self, page: int, asid: int, every: bool) -> None:
        for ways in self.ways:
            for way, pair in enumerate(ways):
                if pair and pair.page == page and (every or pair.shared or pair.asid == asid):
                    ways[way] = None

    def enter(self, new: Pair) -> Pair | None:
        """Enter a pair; return the one that it displaces."""
        if not self.ways:
            return None
        self.forget(new.page, new.asid, new.shared)
        number = self.set(new.page)
        ways = self.ways[number]
        free = [way for way, pair in enumerate(ways) if pair is None]
        if free:
            ways[free[-1]] = new
            return None
        way = self.turn[number]
        displaced, ways[way] = ways[way], new
        self.turn[number] = (way + 1) % 4
        return displaced

    def holds(self, pair: Pair) -> bool:
        return any(pair in ways for ways in self.ways)

    def clear(self) -> None:
        self.ways = [[None] * 4 for _ in self.ways]


@dataclass
class Slot:
    """A hardware entry and the virtual CPU whose it is; both halves global or neither."""

    owner: int
    page: int
    asid: int
    shared: bool
    lo0: int
    lo1: int


class Monitor:
    """The TLBs of all virtual CPUs, as the capture had them (0) and as they are wanted (1)."""

    def __init__(
        self, cpus: int, vcpus: int, entries: int, software: tuple[int, int], tagged: bool,
        pages: int, seed: int,
    ) -> None:  # fmt: skip
        self.entries, self.tagged, self.pages = entries, tagged, pages
        self.own = [[[cold(n) for n in range(entries)] for _ in range(vcpus)] for _ in range(2)]
        self.software = [[Software(size) for _ in range(vcpus)] for size in software]
        self.hardware: list[list[Slot | None]] = [[None] * entries for _ in range(cpus)]
        self.next = [0] * cpus
        self.running: list[int | None] = [None] * cpus
        self.last: list[int | None] = [None] * vcpus
        self.probed: list[tuple[int, int, int] | None] = [None] * vcpus
        self.wired = [64] * vcpus
        self.random = [v + seed for v in range(vcpus)]

    def run(self, cpu: int, v: int) -> None:
        stale = self.last[v] != cpu
        self.running[cpu], self.last[v] = v, cpu
        if not self.tagged:
            self.hardware[cpu] = [None] * self.entries
        elif stale:
            self.flush(cpu)

    def flush(self, cpu: int) -> None:
        v = self.running[cpu]
        self.hardware[cpu] = [s if s and s.owner != v else None for s in self.hardware[cpu]]

    def drop(self, cpu: int, page: int, asid: int, every: bool) -> None:
        for n, slot in enumerate(self.hardware[cpu]):
            if slot and slot.owner == self.running[cpu] and slot.page == page:
                if every or slot.shared or slot.asid == asid:
                    self.hardware[cpu][n] = None

    def lookup(self, model: int, v: int, page: int, asid: int) -> int | None:
        found = [n for n, pair in enumerate(self.own[model][v]) if pair.matches(page, asid)]
        return min(found, default=None)

    def enter(self, cpu: int, pair: Pair, asid: int, number: int | None) -> None:
        """Put a pair in hardware; `number` is that of the guest's own entry, if it has one."""
        v = self.running[cpu]
        others = [
            n for n, other in enumerate(self.own[1][v]) if other.page == pair.page and n != number
        ]
        shared = pair.lo0 & GLOBAL != 0 and not others
        bits = [lo & 6 if lo >> 6 < self.pages else 0 for lo in (pair.lo0, pair.lo1)]
        new = Slot(v, pair.page, asid, shared, *bits)
        slots = self.hardware[cpu]
        same = [
            n for n, slot in enumerate(slots)
            if slot and slot.owner == v and slot.page == pair.page and (slot.lo0 | slot.lo1) & VALID
            and (slot.asid == asid or slot.shared or shared)
        ]  # fmt: skip
        for n in same[1:]:
            slots[n] = None
        if same:
            slots[same[0]] = new
        else:
            slots[self.next[cpu]] = new
            self.next[cpu] = (self.next[cpu] + 1) % self.entries

    def clear(self, cpu: int, v: int) -> None:
        for software in self.software:
            software[v].clear()
        self.flush(cpu)

    def write_one(self, model: int, cpu: int, v: int, n: int, new: Pair) -> None:
        old = self.own[model][v][n]
        software = self.software[model][v]
        if model == 1 and old.valid:
            others = [o for i, o in enumerate(self.own[1][v]) if o.page == old.page and i != n]
            if others or not software.holds(old):
                self.drop(cpu, old.page, old.asid, old.shared)
        self.own[model][v][n] = new
        software.forget(new.page, new.asid, new.shared)
        if model == 1:
            self.drop(cpu, new.page, new.asid, new.shared)
        unmapped = 0x80000000 <= new.page << 13 < 0xC0000000
        if new.valid and not unmapped and self.lookup(model, v, new.page, new.asid) == n:
            old = software.enter(new)
            if old and model == 1 and self.lookup(model, v, old.page, old.asid) is None:
                self.drop(cpu, old.page, old.asid, old.shared)
            if model == 1:
                self.enter(cpu, new, new.asid, n)

    def write(self, cpu: int, n: int, new: Pair, indexed: bool) -> None:
        v = self.running[cpu]
        if indexed and (not new.valid or self.probed[v] != (n, new.page, new.asid)):
            self.clear(cpu, v)
        if not indexed:
            self.wired[v] = min(self.wired[v], n)
        self.probed[v] = None
        if n < self.entries:
            self.write_one(0, cpu, v, n, new)
        there = self.lookup(1, v, new.page, new.asid) if indexed else None
        n = n if there is None else there
        if n < self.entries:
            self.write_one(1, cpu, v, n, new)

    def probe(self, cpu: int, page: int, asid: int) -> int | None:
        """Carry out TLBP; return what the capture's guest found."""
        v = self.running[cpu]
        found = self.lookup(0, v, page, asid)
        if found is not None:
            self.probed[v] = (found, page, asid)
            return found
        self.probed[v] = None
        for software in self.software:
            software[v].forget(page, asid, False)
        self.drop(cpu, page, asid, False)
        there = self.lookup(1, v, page, asid)
        if there is not None:
            self.own[1][v][there] = cold(0)
        return None

    def read(self, cpu: int) -> None:
        self.clear(cpu, self.running[cpu])

    def access(self, cpu: int, address: int, asid: int, store: bool) -> str:
        """Refer to a page; return `hit`, or what the trap is called."""
        v = self.running[cpu]
        page = address >> 13
        for slot in self.hardware[cpu]:
            if slot and slot.owner == v and slot.page == page:
                if slot.shared or slot.asid == asid:
                    lo = slot.lo1 if address & 4096 else slot.lo0
                    if lo & VALID and (lo & DIRTY or not store):
                        return "hit"
                    break
        if 0x80000000 <= address < 0xC0000000:
            physical = (address & 0x1FFFE000) >> 12
            los = [(number << 6) | 7 for number in (physical, physical + 1)]
            self.direct(cpu, page, asid, los)
            return "kseg0"
        number = self.lookup(1, v, page, asid)
        if number is not None:
            pair = self.own[1][v][number]
            if pair.allows(address, store):
                self.enter(cpu, pair, asid, number)
                return "tlb_fault"
        else:
            kept = self.software[1][v].find(address, asid, store)
            if kept:
                self.enter(cpu, kept, asid, None)
                return "tlb_fault"
        self.refill(cpu, v, address, asid)
        return "forward"

    def direct(self, cpu: int, page: int, asid: int, los: list[int]) -> None:
        v = self.running[cpu]
        bits = [lo & 6 if lo >> 6 < self.pages else 0 for lo in los]
        slots = self.hardware[cpu]
        same = [n for n, s in enumerate(slots) if s and s.owner == v and s.page == page
                and (s.lo0 | s.lo1) & VALID]  # fmt: skip
        for n in same[1:]:
            slots[n] = None
        at = same[0] if same else self.next[cpu]
        if not same:
            self.next[cpu] = (self.next[cpu] + 1) % self.entries
        slots[at] = Slot(v, page, asid, True, *bits)

    def refill(self, cpu: int, v: int, address: int, asid: int) -> None:
        """Refill the wanted guest's TLB at random from what the capture's TLBs know of the page."""
        page = address >> 13
        number = self.lookup(0, v, page, asid)
        known = self.software[0][v].find(address, asid, False)
        if number is not None:
            los = self.own[0][v][number][2:]
        elif known:
            los = known[2:]
        else:
            los = (0, 6) if address & 4096 else (6, 0)
        self.random[v] = (self.random[v] * 1103515245 + 12345) & 0x7FFFFFFF
        wired = min(self.wired[v], self.entries - 1)
        n = wired + (self.random[v] >> 8) % (self.entries - wired)
        both = los[0] & los[1] & 1
        new = Pair(page, asid, *((lo & ~1) | both for lo in los))
        self.write_one(1, cpu, v, n, new)
