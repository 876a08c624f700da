"""Memory of machines: pages followed by hand, and small guests that share their disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from disco_trace import capture as capturing
from disco_trace.boot import build_machine
from disco_trace.config import resolve
from disco_trace.experiments import footprint
from disco_trace.experiments.footprint import PAGE, Case, Footprint, Totals, count_pages
from disco_trace.machine import layout
from disco_trace.monitor.layout import shown_pages
from tests.replay.runs import captured

NOTHING = {"text": 0, "data": 0, "cache": 0}


def event(seq: int, vm: int, page: int, what: str, content: int = 0) -> dict[str, Any]:
    return {"seq": seq, "vm": vm, "page": page, "event": what, "content": content}


def test_pages_followed_by_hand() -> None:
    events = [
        event(1, 0, 3, "map", 7),  # both machines show content 7 in page 3, their text
        event(2, 1, 3, "map", 7),
        event(3, 0, 3, "class", 1),
        event(4, 1, 3, "class", 1),
        event(5, 0, 5, "class", 3),  # a block of the disk, of which one machine gets its own
        event(6, 1, 5, "class", 3),
        event(7, 0, 5, "map", 9),
        event(8, 1, 5, "map", 9),
        event(9, 1, 5, "break"),
        event(10, 0, 6, "class", 2),
        event(20, 0, 6, "free"),
        event(21, 0, 8, "free"),  # given back, and taken and touched again
        event(22, 1, 4, "map", 11),  # text that is there, and that nobody looks at
        event(23, 1, 4, "class", 1),
    ]
    touched = {(0, 3): 30, (1, 3): 31, (1, 5): 9, (0, 6): 19, (0, 8): 40, (0, 1): 2, (0, 2): 2}
    virtual, machine = count_pages(events, touched, {0: 2})
    # Pages 1 and 2 of machine 0 were not announced: its kernel's text, and data.
    assert virtual == {"text": 3, "data": 2, "cache": 2}
    assert machine == {"text": 2, "data": 2, "cache": 2}
    assert count_pages([], {}, {}) == (NOTHING, NOTHING)
    # What is on the swap disk is seen, and in no frame: both machines' text; page 1 comes back.
    paging = [
        event(40, 0, 3, "reclaim", 7),
        event(41, 0, 1, "swap_out"),
        event(42, 0, 8, "swap_out"),
        event(43, 0, 1, "swap_in"),
    ]
    assert count_pages([*events, *paging], touched, {0: 2}) == (
        virtual,
        {"text": 1, "data": 1, "cache": 2},
    )
    # A page of a message: its sender's, which the receiver shows as well.
    message = [event(50, 0, 1, "share", 12), event(51, 1, 5, "map", 12)]
    _, machine = count_pages([*events, *message], touched, {})
    assert sum(machine.values()) == sum(count_pages(events, touched, {})[1].values()) - 1
    # Nobody shows a dropped content any more: its number is another's, which is in memory.
    again = [
        event(50, 0, 3, "free"),
        event(51, 1, 3, "break"),
        event(52, 0, 7, "class", 3),
        event(53, 0, 7, "map", 7),
    ]
    _, machine = count_pages([*events, *paging, *again], touched, {0: 2})
    assert machine == {"text": 2, "data": 1, "cache": 3}


SMALL = ("machine.ram_bytes=16MiB",)


def small(machines: int, *sets: str) -> tuple[Footprint, Case]:
    case = Case(name="case", machines=machines, published=Totals(virtual=1, machine=1))
    experiment = Footprint(
        title="small", source="none", guest="files", machine="flash4",
        args=("rounds=1",), sets=(*SMALL, *sets), cases=(case,),
    )  # fmt: skip
    return experiment, case


def test_machines_share_what_they_read(tmp_path: Path) -> None:
    one, _ = footprint.measure(*small(1), tmp_path)
    two, reused = footprint.measure(*small(2), tmp_path)
    assert not reused
    assert one.virtual == one.machine
    assert two.virtual.cache == 2 * one.virtual.cache > 0
    assert two.virtual.text == 2 * two.machine.text == 2 * one.machine.text
    # Each machine has written a sixth of the disk, the file `scratch`, and no more.
    scratch = 96 * 1024
    assert two.tables["written blocks"] == 2 * one.tables["written blocks"] == 2 * scratch
    assert one.machine.cache < two.machine.cache < one.machine.cache + 2 * scratch
    # Every page there is was given a frame at its first miss, but for blocks that nobody looked at.
    heat = captured(two.trace).tables["heat"].to_pydict()
    framed = set(zip(heat["vm"], heat["guest_page"], strict=True))
    _, machine, _ = footprint.pages_of(two.trace, 2)
    assert 0 < sum(machine.values()) <= len(framed)
    again, reused = footprint.measure(*small(2), tmp_path)
    assert reused
    assert again == two


def test_what_is_followed_is_what_the_monitor_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end every guest page shows what the monitor's pmap says, and nothing else."""
    machines = []

    def build(*args: Any) -> Any:
        machines.append(build_machine(*args))
        return machines[-1]

    monkeypatch.setattr(capturing, "build_machine", build)
    outcome, _ = footprint.measure(*small(2), tmp_path)
    lives = footprint.Lives()
    for each in footprint.page_events(outcome.trace):
        lives.follow(each)
    machine = machines[0]
    contents = int(machine.p[layout.X_CONTENTS])
    pmap = {
        (vm, page): int(name) - contents
        for vm in range(2)
        for page, name in enumerate(shown_pages(machine, vm))
        if name >= contents
    }
    assert lives.shown == pmap
    assert len(set(pmap.values())) < len(pmap)
    assert not lives.away


def test_nothing_is_shared_where_sharing_is_off(tmp_path: Path) -> None:
    two, _ = footprint.measure(*small(2, "vm.share=false"), tmp_path)
    assert two.virtual == two.machine
    assert "memmap" not in two.tables


def test_the_bare_machine_has_no_monitor(tmp_path: Path) -> None:
    bare, _ = footprint.measure(*small(0), tmp_path)
    assert bare.virtual == bare.machine
    assert bare.virtual.monitor == 0
    assert bare.virtual.text > 0
    assert not bare.tables


def test_tables_by_hand() -> None:
    """Bytes of what the layout gives a page and a virtual CPU, for 2 machines of 16 MiB."""
    spec = resolve(machine="flash4", sets=(*SMALL, "monitor.kind=disco", "vm.count=2"))
    tables = footprint.monitor_tables("files", ("rounds=1",), spec)
    pages = 2 * (16 << 20) // 4096
    assert tables["pmap"] == pages * 2 * 8
    assert tables["memmap"] == pages * 3 * 8
    # Four virtual CPUs, 256 sets of four pairs of four words, and what is replaced next.
    assert tables["software TLBs"] == 4 * 256 * 17 * 8
    assert tables["disk index"] * PAGE // 8 >= 616 * 1024


@pytest.mark.parametrize("kind", ["virtual", "machine"])
def test_published_parts_add_up(kind: str) -> None:
    for case in footprint.read_footprint("fig6").cases:
        parts = getattr(case, f"{kind}_parts")
        if parts is not None:
            assert parts.total == pytest.approx(getattr(case.published, kind), abs=0.5)
