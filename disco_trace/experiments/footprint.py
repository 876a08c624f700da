"""Measure the memory that virtual machines think they use, and what they use of the machine's.

From the trace: what guests announced of their pages, what the monitor let several of them show, and
what was referred to, by processors and devices. The monitor's own memory comes from the layout of
its tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from disco_trace.config import Spec, resolve
from disco_trace.experiments.captures import capture_once, read_description
from disco_trace.requests import CaptureRequest, ProgressCallback

EXPERIMENTS: Final = {"fig6": "fig6"}

# What memory is for, and which of the library OS's announcements (`capture/lib/kernel/board.h`)
# belong there. Pages that nobody announced are the kernel's: stacks of boot, arguments.
PARTS: Final = ("text", "data", "cache", "monitor")
_DATA: Final = "data"
_OF_CLASS: Final[Mapping[int, str]] = {1: "text", 2: "data", 3: "cache"}
_KERNEL: Final = 6
PAGE: Final = 4096
SECTOR: Final = 512


class Totals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold published megabytes: what the machines see, and what there is."""

    virtual: float
    machine: float


class Parts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold a bar: bytes, or published megabytes, by what they are for."""

    text: float = 0
    data: float = 0
    cache: float = 0
    monitor: float = 0

    @property
    def total(self) -> float:
        """Return the height of the bar."""
        return self.text + self.data + self.cache + self.monitor


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe one pair of bars: how many virtual machines; none: the bare machine."""

    name: str
    machines: int
    published: Totals
    virtual_parts: Parts | None = None
    machine_parts: Parts | None = None


class Footprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe the experiment: one guest on all CPUs, whose machines share its disk."""

    title: str
    source: str
    guest: str
    machine: str
    cases: tuple[Case, ...]
    args: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """Hold the bytes that a case came to, at the end of its run, and the monitor's by table."""

    case: str
    machines: int
    virtual: Parts
    machine: Parts
    tables: dict[str, int]
    published: Totals
    published_parts: tuple[Parts | None, Parts | None]
    trace: Path


def read_footprint(name: str) -> Footprint:
    """Read the experiment's description. Raises DiscoError (our bug) if it does not fit."""
    return read_description(EXPERIMENTS[name], Footprint)


def measure(
    experiment: Footprint, case: Case, folder: Path, progress: ProgressCallback | None = None
) -> tuple[Outcome, bool]:
    """Capture a case below `folder`, or take what was captured before, and say which.

    Raises DiscoError if the guest fails, or if something else stands in the trace's place.
    """
    monitor = ("monitor.kind=disco", f"vm.count={case.machines}") if case.machines else ()
    spec = resolve(machine=experiment.machine, sets=(*experiment.sets, *monitor))
    trace, reused = capture_once(experiment.guest, experiment.args, spec, folder, progress)
    virtual, machine, written = pages_of(trace, max(1, case.machines))
    tables = {}
    if case.machines:
        tables = monitor_tables(experiment.guest, experiment.args, spec)
        tables["written blocks"] = written
    own = sum(tables.values())
    outcome = Outcome(
        case=case.name,
        machines=case.machines,
        virtual=_parts(virtual, own),
        machine=_parts(machine, own),
        tables=tables,
        published=case.published,
        published_parts=(case.virtual_parts, case.machine_parts),
        trace=trace,
    )
    return outcome, reused


def _parts(pages: Mapping[str, int], monitor: int) -> Parts:
    return Parts(**{part: count * PAGE for part, count in pages.items()}, monitor=monitor)


def monitor_tables(guest: str, args: Sequence[str], spec: Spec) -> dict[str, int]:
    """Return the bytes of each of the monitor's tables, as a capture of the guest lays them out.

    Hardware TLBs stand in the same array, and are no memory.
    """
    from disco_trace.boot import build_machine, disks_of, starts_of
    from disco_trace.machine import layout

    request = CaptureRequest(guest=guest, args=list(args), spec=spec, out=Path("unused"))
    starts = starts_of(request)
    machine = build_machine(request, starts, disks_of(request, starts), 1)
    names = {
        layout.X_O_VCPU: "virtual CPUs",
        layout.X_O_STLB: "software TLBs",
        layout.X_O_VM: "virtual machines",
        layout.X_O_PMAP: "pmap",
        layout.X_O_MEMMAP: "memmap",
        layout.X_O_POOL: "free contents",
        layout.X_O_BLOCKS: "disk index",
        layout.X_O_PRIVATE: "index of written sectors",
        layout.X_O_RESIDENT: "frames",
    }
    begins = [(int(machine.p[at]), name) for at, name in names.items()]
    begins.sort(key=lambda begin: begin[0])  # empty ones stay before what follows them
    ends = [begin for begin, _ in begins[1:]] + [len(machine.mon)]
    width = machine.mon.itemsize
    return {
        name: (end - begin) * width
        for (begin, name), end in zip(begins, ends, strict=True)
        if end > begin
    }


def page_events(trace: Path) -> list[dict[str, Any]]:
    """Return the events in the life of pages, in order."""
    from disco_trace.report.database import connect

    with connect([trace]) as database:
        return database.rows(
            "SELECT r.seq, c.vm, r.guest_page AS page, _enum_page_event(r.event) AS event,"
            " r.content FROM _source_page_events AS r LEFT JOIN _contexts AS c USING (context)"
            " ORDER BY r.seq"
        )


def pages_of(trace: Path, machines: int) -> tuple[dict[str, int], dict[str, int], int]:
    """Return, at the end of a trace, pages by part that its machines see, and that there are.

    Third, the bytes of the disks' sectors that machines have written.
    """
    from disco_trace.report.database import connect

    events = page_events(trace)
    with connect([trace]) as database:
        touched = database.rows(
            "SELECT vm, guest_page AS page, max(seq) AS seq FROM refs"
            " WHERE kind NOT LIKE 'uncached%' GROUP BY ALL"
            " UNION ALL SELECT vm, guest_page AS page, max(seq) AS seq FROM dma GROUP BY ALL"
        )
        written = database.rows(
            "SELECT count(*) AS sectors FROM (SELECT DISTINCT vm, device, block + step AS sector"
            " FROM (SELECT vm, device, block, unnest(range(bytes::BIGINT // 512)) AS step FROM dma"
            " WHERE op = 'read' AND device < 4))"
        )[0]["sectors"]
        starts = database.rows(
            "SELECT vm, min(address) AS address FROM _source_symbols"
            " WHERE name = 'kernel_data_start' GROUP BY vm"
        )
    last: dict[tuple[int, int], int] = {}
    for row in touched:
        at = int(row["vm"]), int(row["page"])
        last[at] = max(last.get(at, 0), int(row["seq"]))
    # The kernel's image is announced as one; its data begins at a symbol.
    text = {int(row["vm"]): (int(row["address"]) & 0x1FFFFFFF) // PAGE for row in starts}
    virtual, machine = count_pages(events, last, text)
    return virtual, machine, int(written) * SECTOR if machines else 0


@dataclass
class Lives:
    """Hold what became of pages: by machine and guest page, or (-1, number) for a content.

    `shown`: the content of a page that has none of its own; `freed`: when it was last given back;
    `away`: what is on the monitor's swap disk; `showing`: how many pages show each content.
    """

    shown: dict[tuple[int, int], int] = field(default_factory=dict)
    classes: dict[tuple[int, int], int] = field(default_factory=dict)
    freed: dict[tuple[int, int], int] = field(default_factory=dict)
    away: set[tuple[int, int]] = field(default_factory=set)
    showing: Counter[int] = field(default_factory=Counter)

    def name_of(self, at: tuple[int, int]) -> tuple[int, int]:
        """Return the name of a page: its own, or that of the content that it shows."""
        return (-1, self.shown[at]) if at in self.shown else at

    def _withdraw(self, at: tuple[int, int]) -> None:
        """Take a page from its content; the number of one that nobody shows is used again."""
        content = self.shown.pop(at, None)
        if content is not None:
            self.showing[content] -= 1
            if not self.showing[content]:
                self.away.discard((-1, content))

    def follow(self, event: Mapping[str, Any]) -> None:
        """Take the next event in the life of a page."""
        at = int(event["vm"]), int(event["page"])
        match event["event"]:
            case "swap_out" | "reclaim":
                self.away.add(self.name_of(at))
            case "swap_in":
                self.away.discard(self.name_of(at))
            case "map" | "share":
                if self.shown.get(at) != int(event["content"]):
                    self._withdraw(at)
                    self.shown[at] = int(event["content"])
                    self.showing[self.shown[at]] += 1
            case "break" | "free" | "zero" as what:
                self._withdraw(at)
                self.away.discard(at)
                if what == "free":
                    self.freed[at] = int(event["seq"])
            case "class":
                self.classes[at] = int(event["content"])


def count_pages(
    events: Iterable[Mapping[str, Any]],
    touched: Mapping[tuple[int, int], int],
    kernel_text: Mapping[int, int],
) -> tuple[dict[str, int], dict[str, int]]:
    """Return pages by part that machines see, and that there are, behind the last of the events.

    events: those in the life of pages, in order. touched: when a machine's page was last referred
    to. kernel_text: of each machine, the page where the text of its kernel ends. A page counts that
    shows something, or was touched since it was last given back.
    """
    lives = Lives()
    for event in events:
        lives.follow(event)
    live = {at for at, seq in touched.items() if seq > lives.freed.get(at, -1)}

    def part(at: tuple[int, int]) -> str:
        found = lives.classes.get(at, _KERNEL)
        if found == _KERNEL and at[1] < kernel_text.get(at[0], 0):
            return "text"
        return _OF_CLASS.get(found, _DATA)

    # Blocks of a disk are read into memory, whether or not anybody looks at them afterwards; of an
    # image only what is used counts, with one machine as with several.
    live |= {at for at in lives.shown if part(at) == "cache"}
    virtual, machine = (dict.fromkeys(PARTS[:-1], 0) for _ in range(2))
    for at in live:
        virtual[part(at)] += 1
    # Pages of one content are of one kind, wherever they are shown.
    names = {lives.name_of(at): part(at) for at in sorted(live)}
    for name, kind in names.items():
        machine[kind] += name not in lives.away
    return virtual, machine
