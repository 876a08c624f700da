"""The slow, obvious oracle of a virtual CPU's TLB: the guest's own, and what is kept beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

VALID, DIRTY, GLOBAL = 2, 4, 1
# Exception codes.
MODIFIED, REFILL_LOAD, REFILL_STORE = 1, 2, 3


@dataclass(frozen=True)
class Pair:
    """A TLB entry: two pages next to each other, each of `size` bytes."""

    start: int
    size: int
    asid: int
    lo0: int
    lo1: int

    @property
    def shared(self) -> bool:
        return self.lo0 & self.lo1 & GLOBAL != 0

    def covers(self, address: int, asid: int) -> bool:
        inside = self.start <= address < self.start + 2 * self.size
        return inside and (self.shared or self.asid == asid)

    def half(self, address: int) -> int:
        return self.lo1 if (address - self.start) >= self.size else self.lo0

    def frame(self, address: int) -> int:
        """Return the physical address."""
        number = (self.half(address) >> 6) * 4096
        return number - number % self.size + address % self.size

    @property
    def valid(self) -> bool:
        return (self.lo0 | self.lo1) & VALID != 0


@dataclass
class VirtualTlb:
    """What a guest must see: exactly its own TLB, and instead of some refills what it once wrote.

    kept: pairs of 4 KiB pages that the guest wrote and has not looked for in vain, nor emptied.
    """

    size: int
    entries: dict[int, Pair] = field(default_factory=dict)
    kept: list[Pair] = field(default_factory=list)
    probed: tuple[int, int, int] | None = None

    def write(self, index: int, pair: Pair, *, indexed: bool) -> None:
        """TLBWI or TLBWR of an entry."""
        if indexed and (not pair.valid or self.probed != (index, pair.start, pair.asid)):
            self.kept = []
        self.probed = None
        if index >= self.size:
            return
        self.entries[index] = pair
        if pair.size != 4096:
            self.kept = []
            return
        self.kept = [
            old for old in self.kept
            if old.start != pair.start
            or not (pair.shared or old.shared or old.asid == pair.asid)
        ]  # fmt: skip
        mapped = not 0x80000000 <= pair.start < 0xC0000000
        if pair.valid and mapped and self.own(pair.start, pair.asid) == index:
            self.kept.append(pair)

    def own(self, address: int, asid: int) -> int | None:
        """Return the lowest of the guest's own entries that maps an address."""
        found = [n for n, pair in self.entries.items() if pair.covers(address, asid)]
        return min(found, default=None)

    def probe(self, address: int, asid: int) -> int | None:
        """TLBP: return the entry, if there is one; what was asked for in vain is not kept."""
        start = address & ~0x1FFF
        index = self.own(start, asid)
        self.probed = None if index is None else (index, start, asid)
        if index is None:
            self.kept = [
                old for old in self.kept
                if old.start != start or not (old.shared or old.asid == asid)
            ]  # fmt: skip
        return index

    def read(self) -> None:
        """TLBR: the guest may be looking through all entries."""
        self.kept = []

    def access(self, address: int, asid: int, *, store: bool) -> tuple[str, int]:
        """Return ("memory", physical address), ("refill", code) or ("general", code)."""
        missing = REFILL_STORE if store else REFILL_LOAD
        index = self.own(address, asid)
        if index is not None:
            pair = self.entries[index]
            if not pair.half(address) & VALID:
                return "general", missing
            if store and not pair.half(address) & DIRTY:
                return "general", MODIFIED
            return "memory", pair.frame(address)
        for pair in self.kept:
            if pair.covers(address, asid):
                half = pair.half(address)
                if half & VALID and (half & DIRTY or not store):
                    return "memory", pair.frame(address)
        return "refill", missing
