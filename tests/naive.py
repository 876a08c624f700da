"""Model the memory system slowly and obviously: the oracle for the compiled kernels.

Written from docs/architecture.md ("Memory system") alone. Nothing that can be derived is stored:
presence is found by looking into every first-level cache, sharers by looking into every second
level. What the text leaves open is decided in one place and marked ``Reading:``.

Every line carries data: a version number for each unit of ``unit_bytes``. Each store writes a new
version, so a test can ask of every load whether it saw the newest one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

PAGE_BYTES = 4096
SIDE = {"fetch": "i", "load": "d", "store": "d"}
DMA = ("dma_read", "dma_write")
DEVICE = -1  # who wrote what no CPU wrote


@dataclass(frozen=True)
class Cache:
    """Give the shape of one cache: sets x ways lines of ``line_bytes``."""

    sets: int
    ways: int
    line_bytes: int
    replacement: str = "lru"


@dataclass(frozen=True)
class Config:
    """Describe one machine. Latencies are in cycles; ``node_of`` has one entry a CPU."""

    node_of: tuple[int, ...]
    l1i: Cache
    l1d: Cache
    l2: Cache
    nodes: int = 1
    frames_per_node: int = 16
    granule_bytes: int = 128
    protocol: str = "mesi"
    policy: str = "guest"
    l2_hit_cycles: int = 10
    local_cycles: int = 90
    remote_cycles: int = 270
    dirty_cycles: int = 300
    upgrade_local_cycles: int = 90
    upgrade_remote_cycles: int = 270
    uncached_local_cycles: int = 90
    uncached_remote_cycles: int = 270
    device_cycles: int = 100
    # Placement: first placement and node of `single-node`, then the thresholds of V96.
    initial: str = "first-touch"
    node: int = 0
    pages: int = 8
    trigger: int = 8
    sharing: int = 2
    write: int = 1
    migrate_limit: int = 1
    reset_cycles: int = 100_000
    max_moves: int = 0
    migrate_cycles: int = 5000
    replicate_cycles: int = 4000
    collapse_cycles: int = 3000
    refused_cycles: int = 200


@dataclass
class Line:
    """Hold one line of either level. First level: ``tag`` = (guest page, line in page).

    Second level: ``tag`` = (frame, line in frame) and ``state`` one of S, E, M.
    """

    tag: tuple[int, int]
    data: dict[int, int]
    dirty: bool = False
    state: str = "S"


@dataclass
class Array:
    """Hold one cache: for each set the ways, and the ways' order, next victim first."""

    shape: Cache
    sets: list[list[Line | None]] = field(init=False)
    order: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.sets = [[None] * self.shape.ways for _ in range(self.shape.sets)]
        self.order = [list(range(self.shape.ways)) for _ in range(self.shape.sets)]

    def find(self, index: int, tag: tuple[int, int]) -> int | None:
        """Return the way of set ``index`` that holds ``tag``, or None."""
        for way, line in enumerate(self.sets[index]):
            if line is not None and line.tag == tag:
                return way
        return None

    def touch(self, index: int, way: int, *, fill: bool = False) -> None:
        """Make ``way`` the last to be replaced (on a hit, only under LRU)."""
        if fill or self.shape.replacement == "lru":
            self.order[index].remove(way)
            self.order[index].append(way)

    def victim(self, index: int, draw: Callable[[int], int] | None = None) -> int:
        """Return the way to fill: the lowest invalid one, otherwise the next in order."""
        for way, line in enumerate(self.sets[index]):
            if line is None:
                return way
        if self.shape.replacement == "random" and draw is not None:
            return draw(self.shape.ways)
        return self.order[index][0]

    def lines(self) -> list[tuple[int, int, Line]]:
        """Return (set, way, line) of every valid line."""
        return [
            (s, w, line) for s, ways in enumerate(self.sets) for w, line in enumerate(ways) if line
        ]

    def drop(self, line: Line) -> None:
        """Invalidate ``line`` wherever it stands."""
        for ways in self.sets:
            for way, other in enumerate(ways):
                if other is line:
                    ways[way] = None


@dataclass
class Page:
    """Hold what a moving policy knows of one guest page.

    ``hot`` and ``writes`` count within the reset interval ``epoch``; ``master`` is the frame that
    remains when the replicas go, None while there are none.
    """

    hot: Counter[int] = field(default_factory=Counter)
    writes: int = 0
    epoch: int = 0
    migrated: int = 0
    moves: int = 0
    master: int | None = None


@dataclass
class Heat:
    """Count what one node did to one guest page."""

    local: int = 0
    remote: int = 0
    writes: int = 0
    moves: int = 0


class Memory:
    """Run references through both levels, directory and placement; count everything.

    ``counters[cpu]`` is keyed by the names in ``schema.METRICS``; ``events`` is the stream that
    leaves the first level as (cpu, kind, vaddr, guest_page, way); ``misses`` has one
    (cpu, kind, vaddr, guest_page, home, source, class, cycles) for each second-level miss.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.cpus = len(config.node_of)
        self.l1 = [{"i": Array(config.l1i), "d": Array(config.l1d)} for _ in range(self.cpus)]
        self.l2 = [Array(config.l2) for _ in range(self.cpus)]
        self.owner: dict[tuple[int, int], int] = {}
        self.dirty: set[tuple[int, int]] = set()
        self.lost: dict[tuple[int, tuple[int, int]], str] = {}
        self.frame_at: dict[int, list[int]] = {}
        self.page_of: dict[int, int] = {}
        self.policy: dict[int, Page] = {}
        self.used: list[int] = [0] * config.nodes
        self.freed: list[list[int]] = [[] for _ in range(config.nodes)]
        self.round_robin = 0
        self.random = 0
        self.moves: list[tuple[int, int, str, str, int, int]] = []
        self.counters: list[Counter[str]] = [Counter() for _ in range(self.cpus)]
        self.heat: dict[tuple[int, int], Heat] = {}
        self.events: list[tuple[int, str, int, int, int]] = []
        self.misses: list[tuple[int, str, int, int, int, str, str, int]] = []
        # Data: memory by frame, the newest version of a unit, and who wrote it.
        self.unit_bytes = min(config.l1i.line_bytes, config.l1d.line_bytes, config.l2.line_bytes)
        self.memory: dict[tuple[int, int], int] = {}
        self.saved: dict[tuple[int, int], int] = {}  # of pages without a frame
        self.newest: dict[tuple[int, int], tuple[int, int]] = {}
        self.version = 0
        self.clock = [0] * self.cpus

    def charge(self, cpu: int, metric: str, cycles: int) -> None:
        """Spend cycles of a CPU on one metric."""
        self.counters[cpu][metric] += cycles
        self.clock[cpu] += cycles

    # --- names -------------------------------------------------------------------------------

    def units(self, line: int, line_bytes: int) -> range:
        """Return the units of data that a line of its page covers."""
        n = line_bytes // self.unit_bytes
        return range(line * n, (line + 1) * n)

    def frame(self, cpu: int, page: int) -> int:
        """Return the frame that ``cpu`` uses for the guest page."""
        return self.frame_at[page][self.config.node_of[cpu]]

    def fline(self, cpu: int, page: int, offset: int) -> tuple[int, int]:
        """Return the second-level line of a byte of a guest page, as ``cpu`` names it."""
        return self.frame(cpu, page), offset // self.config.l2.line_bytes

    def home(self, frame: int) -> int:
        """Return the node of a frame."""
        return frame // self.config.frames_per_node

    def l2_index(self, fline: tuple[int, int]) -> int:
        """Return the second-level set: physical address bits above the line offset."""
        frame, line = fline
        lines = PAGE_BYTES // self.config.l2.line_bytes
        return (frame * lines + line) % self.config.l2.sets

    # --- the first level, seen by granules ---------------------------------------------------

    def parts(self, cpu: int, page: int, granules: range) -> list[tuple[str, Line]]:
        """Return the first-level lines of ``cpu`` that lie in any of the page's granules."""
        found = []
        for side in ("i", "d"):
            array = self.l1[cpu][side]
            for _, _, line in array.lines():
                granule = line.tag[1] * array.shape.line_bytes // self.config.granule_bytes
                if line.tag[0] == page and granule in granules:
                    found.append((side, line))
        return found

    def granules(self, fline: tuple[int, int]) -> range:
        """Return the granules of the page that a second-level line overlaps."""
        size, first = self.config.l2.line_bytes, fline[1] * self.config.l2.line_bytes
        step = self.config.granule_bytes
        return range(first // step, (first + size - 1) // step + 1)

    def l1_parts(self, cpu: int, fline: tuple[int, int]) -> list[tuple[str, Line]]:
        """Return the first-level lines of ``cpu`` in the granules that overlap a frame line."""
        return self.parts(cpu, self.page_of[fline[0]], self.granules(fline))

    def l1_dirty(self, cpu: int, fline: tuple[int, int]) -> bool:
        """Tell whether ``cpu``'s first level holds a dirty part of the line's granules."""
        return any(line.dirty for _, line in self.l1_parts(cpu, fline))

    def l2_line(self, cpu: int, fline: tuple[int, int]) -> Line | None:
        """Return ``cpu``'s second-level copy of the line, or None."""
        index = self.l2_index(fline)
        way = self.l2[cpu].find(index, fline)
        return None if way is None else self.l2[cpu].sets[index][way]

    def holders(self, fline: tuple[int, int]) -> set[int]:
        """Return the CPUs that hold any part in either level."""
        return {
            cpu
            for cpu in range(self.cpus)
            if self.l2_line(cpu, fline) is not None or self.l1_parts(cpu, fline)
        }

    def losers(self, fline: tuple[int, int], page: int, granule: int) -> set[int]:
        """Return the CPUs with the line in the second level or the granule in the first."""
        return {
            cpu
            for cpu in range(self.cpus)
            if self.l2_line(cpu, fline) is not None
            or self.parts(cpu, page, range(granule, granule + 1))
        }

    def alone(self, cpu: int, fline: tuple[int, int]) -> bool:
        """Tell whether nobody but ``cpu`` holds any part of the line.

        Reading: a replicated page has read-only copies, so nobody is ever alone with it.
        """
        state = self.policy.get(self.page_of[fline[0]])
        replicated = state is not None and state.master is not None
        return not replicated and not self.holders(fline) - {cpu}

    # --- the one entry -----------------------------------------------------------------------

    def access(self, cpu: int, kind: str, vaddr: int, page: int, work: int = 0) -> int:
        """Make one reference above the first level, after ``work`` base cycles.

        Returns the version that a read sees. For a device's transfer (see ``DMA``) ``vaddr`` is
        length x 4096 + offset in the page; the answer is how many stale units it met.
        """
        self.counters[cpu]["work_cycles"] += work
        self.clock[cpu] += work
        if kind in DMA:
            self.events.append((cpu, kind, vaddr, page, 0))
            size, first = divmod(vaddr, PAGE_BYTES)
            return self.dma(cpu, kind == "dma_write", page, first, size)
        side = SIDE[kind]
        array = self.l1[cpu][side]
        size = array.shape.line_bytes
        tag = (page, vaddr % PAGE_BYTES // size)
        index = vaddr // size % array.shape.sets
        unit = vaddr % PAGE_BYTES // self.unit_bytes
        way = array.find(index, tag)
        if way is None:
            way = array.victim(index)
            self.event(cpu, kind, vaddr, page, index, way)
        else:
            line = array.sets[index][way]
            if kind == "store" and line is not None and not line.dirty:
                self.event(cpu, "upgrade", vaddr, page, index, way)
        array.touch(index, way, fill=True)
        line = array.sets[index][way]
        assert line is not None
        if kind == "store":
            self.version += 1
            self.newest[page, unit] = (self.version, cpu)
            line.data[unit] = self.version
        return line.data[unit]

    def event(self, cpu: int, kind: str, vaddr: int, page: int, index: int, way: int) -> None:
        """Handle what leaves the first level: a miss, or a first write to a clean line.

        Reading (order): placement, collapse, first-level victim, first-level fill, second level
        and directory; the policy comes last.
        """
        self.events.append((cpu, kind, vaddr, page, way))
        if page not in self.frame_at:
            self.place(cpu, page)
        side = "i" if kind == "fetch" else "d"
        array = self.l1[cpu][side]
        size = array.shape.line_bytes
        if kind in ("store", "upgrade"):
            self.collapse(cpu, page)
        misses = len(self.misses)
        if kind != "upgrade":
            self.counters[cpu]["l1i_misses" if side == "i" else "l1d_misses"] += 1
            self.l1_evict(cpu, array, index, way)
        write = kind in ("store", "upgrade")
        offset = vaddr % PAGE_BYTES
        fline = self.fline(cpu, page, offset)
        tag = (page, offset // size)
        if kind != "upgrade":
            array.sets[index][way] = Line(tag, {})
        line = array.sets[index][way]
        assert line is not None
        # A load cleans a dirty synonym, so that the next store there is seen again; the data
        # reaches the second level, whose copy is then modified.
        newer: dict[int, int] = {}
        for synonym in self.synonyms(cpu, line) if kind != "fetch" else []:
            newer.update(synonym.data if synonym.dirty else {})
            synonym.dirty = False
        if write:
            line.dirty = True
            self.write(cpu, kind, vaddr, page, fline)
            for synonym in self.synonyms(cpu, line):
                array.drop(synonym)
        else:
            self.read(cpu, kind, vaddr, page, fline)
        copy = self.l2_line(cpu, fline)
        if copy is not None:
            copy.data.update(newer)
        self.l1_coherence(cpu, page, offset // self.config.granule_bytes, write)
        if kind != "upgrade":
            line.data = self.fetch_data(cpu, fline, self.units(tag[1], size))
        if len(self.misses) > misses:
            self.on_miss(cpu, page)

    def fetch_data(self, cpu: int, fline: tuple[int, int], units: range) -> dict[int, int]:
        """Copy data for a first-level fill out of the second level (or memory behind it)."""
        copy = self.l2_line(cpu, fline)
        source = copy.data if copy is not None else {}
        return {u: source.get(u, self.memory.get((fline[0], u), 0)) for u in units}

    # --- first level -------------------------------------------------------------------------

    def l1_evict(self, cpu: int, array: Array, index: int, way: int) -> None:
        """Replace a first-level line: a dirty one goes to its second-level line, or home."""
        line = array.sets[index][way]
        if line is None:
            return
        array.sets[index][way] = None
        page, number = line.tag
        if page not in self.frame_at:  # Taken by a new first touch: it goes home nowhere yet.
            self.counters[cpu]["writebacks"] += line.dirty
            if line.dirty:
                self.saved.update({(page, u): version for u, version in line.data.items()})
            return
        fline = self.fline(cpu, page, number * array.shape.line_bytes)
        if line.dirty:
            self.write_back(cpu, fline, line)
        self.settle(cpu, fline, cleaned=line.dirty)

    def write_back(self, cpu: int, fline: tuple[int, int], line: Line) -> None:
        """Write a dirty first-level line into its second-level copy, else home."""
        copy = self.l2_line(cpu, fline)
        if copy is not None:
            copy.data.update(line.data)
            return
        self.counters[cpu]["writebacks"] += 1
        for unit, version in line.data.items():
            self.memory[fline[0], unit] = version

    def settle(self, cpu: int, fline: tuple[int, int], *, cleaned: bool) -> None:
        """Bring ownership up to date after ``cpu`` lost a part of the line.

        Reading: ownership ends with the last part, even a clean one; dirtiness is looked at only
        when something dirty left (``cleaned``).
        """
        if self.owner.get(fline) != cpu or self.l2_line(cpu, fline) is not None:
            return
        if cleaned and not self.l1_dirty(cpu, fline):
            self.dirty.discard(fline)
        if not self.l1_parts(cpu, fline):
            del self.owner[fline]
            self.dirty.discard(fline)

    def l1_coherence(self, cpu: int, page: int, granule: int, write: bool) -> None:
        """Clean (read) or invalidate (write) the granule's parts in every other CPU."""
        for other in range(self.cpus):
            if other == cpu:
                continue
            for side, line in self.parts(other, page, range(granule, granule + 1)):
                if write:
                    self.l1[other][side].drop(line)
                elif line.dirty:
                    line.dirty = False

    def synonyms(self, cpu: int, line: Line) -> list[Line]:
        """Return the CPU's other copies of a data line, which stand in other sets."""
        lines = [other for _, _, other in self.l1[cpu]["d"].lines()]
        return [other for other in lines if other.tag == line.tag and other is not line]

    # --- second level and directory ----------------------------------------------------------

    def read(self, cpu: int, kind: str, vaddr: int, page: int, fline: tuple[int, int]) -> None:
        """Serve a first-level read miss."""
        if self.l2_line(cpu, fline) is not None:
            self.l2_hit(cpu, fline)
            return
        source = self.source(cpu, fline)
        owner = self.owner.get(fline)
        if owner is not None and owner != cpu:
            if fline in self.dirty:
                source = self.intervene(cpu, owner, fline, write_home=True)
            copy = self.l2_line(owner, fline)
            if copy is not None:
                copy.state = "S"
            del self.owner[fline]
            self.dirty.discard(fline)
        if owner == cpu:
            state = "M" if fline in self.dirty else "E"
        elif owner is None and self.config.protocol == "mesi" and self.alone(cpu, fline):
            state = "E"
            self.owner[fline] = cpu
        else:
            state = "S"
        self.miss(cpu, kind, vaddr, page, fline, source)
        self.l2_fill(cpu, fline, state)

    def write(self, cpu: int, kind: str, vaddr: int, page: int, fline: tuple[int, int]) -> None:
        """Serve a first-level store miss or a first write to a clean line."""
        copy = self.l2_line(cpu, fline)
        source = self.source(cpu, fline)
        if self.owner.get(fline) == cpu:
            self.dirty.add(fline)
            if copy is not None:
                copy.state = "M"
                if kind == "store":
                    self.l2_hit(cpu, fline)
                else:
                    self.l2_touch(cpu, fline)
            elif kind == "store":
                self.count_write(cpu, page)
                self.miss(cpu, kind, vaddr, page, fline, source)
                self.l2_fill(cpu, fline, "M")
            # Reading: a first write by the owner is free and counted nowhere.
            return
        needed = kind == "store" and copy is None
        owner = self.owner.get(fline)
        if owner is not None and fline in self.dirty:
            dirty_source = self.intervene(cpu, owner, fline, write_home=not needed)
            source = dirty_source if needed else source
        # Reading: counted are the CPUs that lose something. Under a line larger than the granule,
        # first-level parts of its other granules stay (the first level knows granules only).
        granule = vaddr % PAGE_BYTES // self.config.granule_bytes
        for other in sorted(self.losers(fline, page, granule) - {cpu}):
            self.counters[cpu]["invalidations"] += 1
            # Reading: "held" means in the second level, so a part alone leaves no memory.
            if (other, fline) in self.lost:
                self.lost[other, fline] = "invalidated"
            theirs = self.l2_line(other, fline)
            if theirs is not None:
                self.l2[other].drop(theirs)
        self.owner[fline] = cpu
        self.dirty.add(fline)
        self.count_write(cpu, page)
        if needed:
            self.miss(cpu, kind, vaddr, page, fline, source)
            self.l2_fill(cpu, fline, "M")
            return
        # Reading: a store miss that finds data but no permission is both a hit and an upgrade.
        self.counters[cpu]["upgrades"] += 1
        self.counters[cpu]["l2_hits"] += kind == "store"
        local = self.home(fline[0]) == self.config.node_of[cpu]
        cost = self.config.upgrade_local_cycles if local else self.config.upgrade_remote_cycles
        self.charge(cpu, "upgrade_stall_cycles", cost)
        if copy is not None:
            copy.state = "M"
            self.l2_touch(cpu, fline)

    def intervene(self, cpu: int, owner: int, fline: tuple[int, int], *, write_home: bool) -> str:
        """Fetch dirty data from its owner; return the source that the requester is charged."""
        # The data always moves to memory here, so that the fill finds it; only a real
        # write-back is counted.
        copy = self.l2_line(owner, fline)
        if copy is not None:
            for unit, version in copy.data.items():
                self.memory[fline[0], unit] = version
        for _, line in self.l1_parts(owner, fline):
            if line.dirty:
                for unit, version in line.data.items():
                    self.memory[fline[0], unit] = version
                    if copy is not None and unit in copy.data:
                        copy.data[unit] = version
        if write_home:
            self.counters[owner]["writebacks"] += 1
        nodes = self.config.node_of
        same = nodes[cpu] == nodes[owner] == self.home(fline[0])
        return "local" if same else "dirty"

    def l2_touch(self, cpu: int, fline: tuple[int, int]) -> None:
        """Make a line that the second level holds the most recent."""
        index = self.l2_index(fline)
        way = self.l2[cpu].find(index, fline)
        assert way is not None
        self.l2[cpu].touch(index, way)

    def l2_hit(self, cpu: int, fline: tuple[int, int]) -> None:
        """Count a second-level hit and make the line the most recent."""
        self.l2_touch(cpu, fline)
        self.counters[cpu]["l2_hits"] += 1
        self.charge(cpu, "l1_stall_cycles", self.config.l2_hit_cycles)

    def source(self, cpu: int, fline: tuple[int, int]) -> str:
        """Return local or remote, by the node of the frame."""
        return "local" if self.home(fline[0]) == self.config.node_of[cpu] else "remote"

    def miss(
        self, cpu: int, kind: str, vaddr: int, page: int, fline: tuple[int, int], source: str
    ) -> None:
        """Count, class and charge one second-level miss."""
        lost = self.lost.get((cpu, fline))
        kind_of = {None: "cold", "invalidated": "coherence", "held": "capacity"}[lost]
        cost = {
            "local": self.config.local_cycles,
            "remote": self.config.remote_cycles,
            "dirty": self.config.dirty_cycles,
        }[source]
        self.counters[cpu][f"{source}_misses"] += 1
        self.counters[cpu][f"{kind_of}_misses"] += 1
        self.charge(cpu, f"{source}_stall_cycles", cost)
        heat = self.heat_of(page, cpu)
        if source == "local":
            heat.local += 1
        else:
            heat.remote += 1
        home = self.home(fline[0])
        self.misses.append((cpu, kind, vaddr, page, home, source, kind_of, cost))

    def l2_fill(self, cpu: int, fline: tuple[int, int], state: str) -> None:
        """Allocate the line in the second level, evicting as needed."""
        array, index = self.l2[cpu], self.l2_index(fline)
        way = array.victim(index, self.draw)
        old = array.sets[index][way]
        if old is not None:
            array.sets[index][way] = None
            if old.state == "M":
                self.counters[cpu]["writebacks"] += 1
                for unit, version in old.data.items():
                    self.memory[old.tag[0], unit] = version
            if self.owner.get(old.tag) == cpu and self.l1_dirty(cpu, old.tag):
                self.dirty.add(old.tag)
            self.settle(cpu, old.tag, cleaned=True)
        units = self.units(fline[1], array.shape.line_bytes)
        data = {u: self.memory.get((fline[0], u), 0) for u in units}
        array.sets[index][way] = Line(fline, data, state=state)
        array.touch(index, way, fill=True)
        self.lost[cpu, fline] = "held"

    def draw(self, ways: int) -> int:
        """Return a way at random: the C standard's example generator, from seed 0."""
        self.random = (self.random * 1103515245 + 12345) % 2**31
        return (self.random >> 12) % ways

    # --- what is no cached reference ---------------------------------------------------------

    def uncached(self, cpu: int, kind: str, page: int) -> None:
        """Make an uncached reference; pages beyond the RAM are device registers."""
        config = self.config
        self.counters[cpu]["uncached"] += 1
        if page >= config.pages:
            self.charge(cpu, "uncached_stall_cycles", config.device_cycles)
            return
        if page not in self.frame_at:
            self.place(cpu, page)
        if kind == "uncached_store":
            self.collapse(cpu, page)
        local = self.home(self.frame(cpu, page)) == config.node_of[cpu]
        cost = config.uncached_local_cycles if local else config.uncached_remote_cycles
        self.charge(cpu, "uncached_stall_cycles", cost)

    def cache_op(self, cpu: int, operation: int, vaddr: int, page: int) -> None:
        """Do a CACHE instruction (MIPS32 volume II): bits 1:0 the cache, bits 4:2 the action.

        Reading: invalidations write dirty data back, as a victim does; tags are never stored or
        loaded, and Fill does nothing.
        """
        self.counters[cpu]["cache_ops"] += 1
        action, cache = divmod(operation, 4)
        if cache > 1:
            return
        array = self.l1[cpu]["d" if cache else "i"]
        size, sets = array.shape.line_bytes, array.shape.sets
        index = vaddr // size % sets
        if action == 0:
            self.l1_evict(cpu, array, index, vaddr // size // sets % array.shape.ways)
            return
        way = array.find(index, (page, vaddr % PAGE_BYTES // size))
        line = None if way is None else array.sets[index][way]
        if way is None or line is None:
            return
        if action == 4 or (action == 5 and cache == 1):
            self.l1_evict(cpu, array, index, way)
        elif action == 6 and cache == 1 and line.dirty:
            fline = self.fline(cpu, page, vaddr % PAGE_BYTES)
            self.write_back(cpu, fline, line)
            line.dirty = False
            self.settle(cpu, fline, cleaned=True)

    def dma(self, cpu: int, write: bool, page: int, first: int, size: int) -> int:
        """Let a device read or write bytes of a page, on behalf of ``cpu``.

        Returns the number of units that were not the newest when the device read them, or wrote
        them in part.
        """
        state = self.policy.get(page)
        if state is not None and state.master is not None:
            if not write:  # Read-only copies: memory is up to date everywhere.
                return 0
            self.collapse(cpu, page)
        end = first + size
        step = self.config.granule_bytes
        touched = range(first // step, (end - 1) // step + 1)
        placed = page in self.frame_at
        step2 = self.config.l2.line_bytes
        lines = range(touched[0] * step // step2, (touched[-1] * step + step - 1) // step2 + 1)
        flines = [(self.frame_at[page][0], line) for line in lines] if placed else []
        # Dirty data goes home, counted unless all of it will be overwritten.
        for fline in flines:
            owner = self.owner.get(fline)
            mine = [g for g in self.granules(fline) if g in touched]
            if owner is not None and fline in self.dirty:
                copy = self.l2_line(owner, fline)
                parts = [p for g in mine for _, p in self.parts(owner, page, range(g, g + 1))]
                start = fline[1] * step2
                whole = write and first <= start and start + step2 <= end
                if not whole and (copy is not None or any(part.dirty for part in parts)):
                    self.counters[owner]["writebacks"] += 1
                if copy is not None:
                    self.memory.update({(fline[0], u): v for u, v in copy.data.items()})
            if write:
                for other in range(self.cpus):
                    theirs = self.l2_line(other, fline)
                    held = any(self.parts(other, page, range(g, g + 1)) for g in mine)
                    if theirs is None and not held:
                        continue
                    self.counters[cpu]["invalidations"] += 1
                    if (other, fline) in self.lost:
                        self.lost[other, fline] = "invalidated"
                    if theirs is not None:
                        self.l2[other].drop(theirs)
        for granule in touched:
            self.dma_granule(write, page, granule, first, end)
        for fline in flines:
            owner = self.owner.get(fline)
            if owner is None:
                continue
            if write:
                self.settle(owner, fline, cleaned=True)
            elif fline in self.dirty and not self.l1_dirty(owner, fline):
                copy = self.l2_line(owner, fline)
                if copy is not None:
                    copy.state = "S"
                del self.owner[fline]
                self.dirty.discard(fline)
        return self.dma_data(write, page, first, end)

    def dma_granule(self, write: bool, page: int, granule: int, first: int, end: int) -> None:
        """Clean a granule in every first level, or take it away; a dirty one's data goes home."""
        start, size = granule * self.config.granule_bytes, self.config.granule_bytes
        whole = write and first <= start and start + size <= end
        for other in range(self.cpus):
            parts = self.parts(other, page, range(granule, granule + 1))
            dirty = [part for _, part in parts if part.dirty]
            for part in dirty:
                part.dirty = False
                if page not in self.frame_at:
                    self.saved.update({(page, u): v for u, v in part.data.items()})
                    continue
                frame = self.frame_at[page][0]
                for unit, version in part.data.items():
                    self.memory[frame, unit] = version
                    copy = self.l2_line(other, (frame, unit * self.unit_bytes
                                                // self.config.l2.line_bytes))  # fmt: skip
                    if copy is not None:
                        copy.data[unit] = version
            if dirty and page not in self.frame_at and not whole:
                self.counters[other]["writebacks"] += 1
            for side, part in parts if write else []:
                self.l1[other][side].drop(part)

    def dma_data(self, write: bool, page: int, first: int, end: int) -> int:
        """Move the data between memory and the device; return the stale units that it met."""
        stale = 0
        for unit in range(first // self.unit_bytes, (end - 1) // self.unit_bytes + 1):
            start = unit * self.unit_bytes
            home = (self.frame_at[page][0] if page in self.frame_at else None, unit)
            where = self.saved if home[0] is None else self.memory
            place = (page, unit) if home[0] is None else home
            partly = first > start or start + self.unit_bytes > end
            if not write or partly:
                stale += where.get(place, 0) != self.newest.get((page, unit), (0, 0))[0]
            if write:
                self.version += 1
                where[place] = self.version  # type: ignore[index]
                self.newest[page, unit] = (self.version, DEVICE)
        return stale

    def drop_page(self, page: int) -> None:
        """Drop a page whose content is dead: its lines unwritten, and its frame."""
        for cpu in range(self.cpus):
            for side in ("i", "d"):
                for _, _, line in self.l1[cpu][side].lines():
                    if line.tag[0] == page:
                        self.l1[cpu][side].drop(line)
        self.unplace(page, keep=False)
        for unit in range(PAGE_BYTES // self.unit_bytes):
            self.newest.pop((page, unit), None)
            self.saved.pop((page, unit), None)

    def retouch(self) -> None:
        """Take every page's frame, so that the next reference is a first touch again."""
        for page in range(self.config.pages):
            self.unplace(page, keep=True)

    def unplace(self, page: int, *, keep: bool) -> None:
        """Take a page's frames; ``keep`` writes modified second-level lines back."""
        if page not in self.frame_at:
            return
        if page in self.policy and self.policy[page].master is not None:
            self.collapse_frames(page)
        frame = self.frame_at[page][0]
        self.drop_frame(frame, keep=keep)
        for unit in range(PAGE_BYTES // self.unit_bytes):
            self.saved[page, unit] = self.memory.get((frame, unit), 0)
        self.release(frame)
        del self.frame_at[page]

    # --- placement ---------------------------------------------------------------------------

    def heat_of(self, page: int, cpu: int) -> Heat:
        """Return the counters of a page for the node of ``cpu``."""
        return self.heat.setdefault((page, self.config.node_of[cpu]), Heat())

    def count_write(self, cpu: int, page: int) -> None:
        """Count a write miss or upgrade, for the heat map and for the policy."""
        self.heat_of(page, cpu).writes += 1
        self.page_state(cpu, page).writes += 1

    def page_state(self, cpu: int, page: int) -> Page:
        """Return the policy's counts of a page, cleared if a new reset interval has begun."""
        state = self.policy.setdefault(page, Page())
        epoch = self.clock[cpu] // self.config.reset_cycles
        if epoch > state.epoch:
            state.epoch, state.writes, state.migrated = epoch, 0, 0
            state.hot.clear()
        return state

    def allocate(self, node: int) -> int | None:
        """Take a frame of a node: the last one freed, else the lowest never used."""
        if self.freed[node]:
            return self.freed[node].pop()
        if self.used[node] == self.config.frames_per_node:
            return None
        self.used[node] += 1
        return node * self.config.frames_per_node + self.used[node] - 1

    def release(self, frame: int) -> None:
        """Give a frame back to its node."""
        self.freed[self.home(frame)].append(frame)
        del self.page_of[frame]

    def place(self, cpu: int, page: int) -> None:
        """Give a page its first frame, on the next node with room if the wanted one is full.

        Under a policy that moves pages, ``guest`` means the node of the guest's address.
        """
        config = self.config
        moves = config.policy in ("migrate", "replicate", "migrate-replicate")
        initial = config.initial if moves else config.policy
        frame: int | None = None
        if initial == "guest" and not moves:
            frame = page
        else:
            if initial == "first-touch":
                first = config.node_of[cpu]
            elif initial == "round-robin":
                first = self.round_robin
                self.round_robin = (first + 1) % config.nodes
            elif initial == "guest":
                first = page * config.nodes // config.pages
            else:
                first = config.node
            for step in range(config.nodes):
                if frame is None:
                    frame = self.allocate((first + step) % config.nodes)
        assert frame is not None, "the machine has a frame for every page"
        self.frame_at[page] = [frame] * config.nodes
        self.page_of[frame] = page
        for unit in range(PAGE_BYTES // self.unit_bytes):
            self.memory[frame, unit] = self.saved.get((page, unit), 0)
        self.rehome(page)

    def flines(self, frame: int) -> list[tuple[int, int]]:
        """Return all second-level lines of a frame."""
        return [(frame, i) for i in range(PAGE_BYTES // self.config.l2.line_bytes)]

    def on_miss(self, cpu: int, page: int) -> None:
        """Count a second-level miss; move the page if it became hot (V96)."""
        config = self.config
        if config.policy not in ("migrate", "replicate", "migrate-replicate"):
            return
        node, home = config.node_of[cpu], self.home(self.frame(cpu, page))
        state = self.page_state(cpu, page)
        state.hot[node] += 1
        if node == home or state.hot[node] < config.trigger:
            return
        state.hot[node] = 0
        shared = any(state.hot[n] >= config.sharing for n in range(config.nodes) if n != node)
        want_replica = config.policy == "replicate" or shared or state.master is not None
        if config.max_moves and state.moves >= config.max_moves:
            self.refuse(cpu, page, "limit", home, node)
        elif want_replica:
            if config.policy == "migrate" or state.writes >= config.write:
                self.refuse(cpu, page, "write_shared", home, node)
            else:
                self.replicate(cpu, page, home, node)
        elif state.migrated >= config.migrate_limit:
            self.refuse(cpu, page, "limit", home, node)
        else:
            self.migrate(cpu, page, home, node)

    def refuse(self, cpu: int, page: int, reason: str, home: int, node: int) -> None:
        """Leave a hot page where it is."""
        self.counters[cpu]["refused_moves"] += 1
        self.charge(cpu, "monitor_refused_cycles", self.config.refused_cycles)
        self.moves.append((cpu, page, "refuse", reason, home, node))

    def migrate(self, cpu: int, page: int, home: int, node: int) -> None:
        """Move the page to the CPU's node."""
        frame = self.allocate(node)
        if frame is None:
            self.refuse(cpu, page, "no_frame", home, node)
            return
        old = self.frame_at[page][0]
        self.drop_frame(old, keep=True)
        for unit in range(PAGE_BYTES // self.unit_bytes):
            self.memory[frame, unit] = self.memory.get((old, unit), 0)
        self.release(old)
        self.frame_at[page] = [frame] * self.config.nodes
        self.page_of[frame] = page
        self.rehome(page)
        state = self.policy[page]
        state.migrated += 1
        state.moves += 1
        self.heat_of(page, cpu).moves += 1
        self.counters[cpu]["migrations"] += 1
        self.charge(cpu, "monitor_migrate_cycles", self.config.migrate_cycles)
        self.moves.append((cpu, page, "migrate", "hot", home, node))

    def replicate(self, cpu: int, page: int, home: int, node: int) -> None:
        """Give the CPU's node a read-only copy of the page.

        Reading: a page keeps a frame for each page of the guest, so replicas may only use what
        lies above that. Not while a first level holds part of the page dirty (its stores there
        are no events); the second level's dirty lines are written back and stay as shared copies.
        """
        config = self.config
        if any(
            line.dirty and line.tag[0] == page
            for caches in self.l1
            for _, _, line in caches["d"].lines()
        ):
            self.refuse(cpu, page, "write_shared", home, node)
            return
        replicas = sum(len(set(frames)) - 1 for frames in self.frame_at.values())
        room = replicas < config.nodes * config.frames_per_node - config.pages
        frame = self.allocate(node) if room else None
        if frame is None:
            self.refuse(cpu, page, "no_frame", home, node)
            return
        state = self.policy[page]
        if state.master is None:
            state.master = self.frame_at[page][0]
            for fline in self.flines(state.master):
                owner = self.owner.pop(fline, None)
                if owner is None:
                    continue
                if fline in self.dirty:
                    self.intervene(cpu, owner, fline, write_home=True)
                    self.dirty.discard(fline)
                copy = self.l2_line(owner, fline)
                if copy is not None:
                    copy.state = "S"
        for unit in range(PAGE_BYTES // self.unit_bytes):
            self.memory[frame, unit] = self.memory.get((state.master, unit), 0)
        self.frame_at[page][node] = frame
        self.page_of[frame] = page
        state.moves += 1
        self.heat_of(page, cpu).moves += 1
        self.counters[cpu]["replications"] += 1
        self.charge(cpu, "monitor_replicate_cycles", config.replicate_cycles)
        self.moves.append((cpu, page, "replicate", "shared", home, node))

    def collapse(self, cpu: int, page: int) -> None:
        """Return a replicated page that is about to be written to its master frame."""
        state = self.policy.get(page)
        if state is None or state.master is None:
            return
        home = self.home(self.frame(cpu, page))
        self.collapse_frames(page)
        self.counters[cpu]["collapses"] += 1
        self.charge(cpu, "monitor_collapse_cycles", self.config.collapse_cycles)
        master = self.home(self.frame(cpu, page))
        self.moves.append((cpu, page, "collapse", "write", home, master))

    def collapse_frames(self, page: int) -> None:
        """Drop the replicas of a page."""
        master = self.policy[page].master
        assert master is not None
        for node, frame in enumerate(self.frame_at[page]):
            if frame != master:
                self.drop_frame(frame, keep=True)
                self.release(frame)
                self.frame_at[page][node] = master
        self.policy[page].master = None

    def drop_frame(self, frame: int, *, keep: bool) -> None:
        """Drop a frame's second-level lines everywhere; ``keep`` writes modified ones back."""
        for fline in self.flines(frame):
            for cpu in range(self.cpus):
                copy = self.l2_line(cpu, fline)
                if copy is None:
                    continue
                self.l2[cpu].drop(copy)
                if copy.state == "M" and keep:
                    self.counters[cpu]["writebacks"] += 1
                    for unit, version in copy.data.items():
                        self.memory[frame, unit] = version
            self.owner.pop(fline, None)
            self.dirty.discard(fline)
            for cpu in range(self.cpus):
                self.lost.pop((cpu, fline), None)

    def rehome(self, page: int) -> None:
        """Make the CPUs with dirty first-level parts owners of the page's new lines."""
        for fline in self.flines(self.frame_at[page][0]):
            for cpu in range(self.cpus):
                if self.l1_dirty(cpu, fline):
                    self.owner[fline] = cpu
                    self.dirty.add(fline)


def tiny(**changes: object) -> Config:
    """Return a two-CPU, one-line-per-cache machine for exhaustive tests, with ``changes``."""
    base = Config(
        node_of=(0, 0),
        l1i=Cache(1, 1, 64),
        l1d=Cache(1, 1, 32),
        l2=Cache(1, 1, 128),
    )
    return replace(base, **changes)  # type: ignore[arg-type]
