"""Copy on write: what machines share, what the first store to it does, and that nobody sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from disco_trace.boot import build_machine, disks_of, memory_of, starts_of
from disco_trace.machine import kernel, layout
from disco_trace.memory import layout as memory_layout
from disco_trace.memory.layout import P_NAMES, P_NODES, P_PAGES
from disco_trace.monitor.layout import (
    C_COUNT,
    C_FIRST,
    CONTENT_WORDS,
    PMAP_NAME,
    PMAP_NEXT,
    PMAP_WORDS,
    POOL_NEXT,
)
from disco_trace.replay.kernel import DAMAGED, DONE, REPLAY_DTYPES, replay_segment
from disco_trace.requests import CaptureRequest
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.schema import CONTROL, EVENT, MONITOR_CAUSES, PAGE_EVENTS
from tests.replay.runs import (
    TINY,
    assert_same,
    assert_sound,
    captured,
    replayed,
    run_guest,
    spec_at,
    without_results,
)

CODES = {kind.name: kind.code for kind in CONTROL}
MAP, BREAK = PAGE_EVENTS.index("map"), PAGE_EVENTS.index("break")
TWO = {"monitor__kind": "disco", "vm__count": 2, "machine__ram_bytes": "8MiB"}
# The machines write different things to their copies of one disk, and read them back.
FILES = ("files:1 rounds=1 os.cache=64", "files:2 rounds=2 os.cache=64")


def control_rows(trace: Path, kind: str) -> np.ndarray:
    segments = TraceReader(trace).iter_segments()
    rows = np.concatenate([segment.events for segment in segments])
    return rows[rows["kind"] == CODES[kind]]


@pytest.mark.parametrize("feedback", ["full", "none"])
def test_a_shared_disk_is_repeated_by_replays(tmp_path, feedback):
    spec = spec_at(4, 4, time__feedback=feedback, **TWO, vm__guests=FILES)
    result = run_guest("files", spec, tmp_path / "t", ())
    assert result.console.count(b"words checked") == 2
    assert_sound(tmp_path / "t")
    expected = captured(tmp_path / "t")
    events = control_rows(tmp_path / "t", "page_events")
    assert (events["a0"] == MAP).sum() > 100
    assert (events["a0"] == BREAK).sum() > 10
    assert_same(replayed(without_results(tmp_path / "t"), spec), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"memory__l2__size_bytes": "64KiB"},
        {"memory__remote_ns": 1500, "memory__local_ns": 100},
        {"placement__policy": "round-robin"},
        {"placement__policy": "guest"},
        {"costs__prices__copy_on_write_us": 7.0, "costs__prices__copy_page_us": 1.0},
    ],
    ids=lambda changes: next(iter(changes.values())),
)
def test_replays_equal_a_fresh_capture_there(tmp_path, changes):
    sets = {"time__feedback": "none", "vm__guests": FILES} | TWO
    spec, there = spec_at(4, 4, **sets), spec_at(4, 4, **sets | changes)
    run_guest("files", spec, tmp_path / "t", ())
    run_guest("files", there, tmp_path / "u", ())
    assert replayed(tmp_path / "t", there).per_cpu == captured(tmp_path / "u").per_cpu


def test_a_block_is_read_from_the_disk_once(tmp_path):
    moved = {}
    for share in (True, False):
        out = tmp_path / str(share)
        run_guest("files", spec_at(2, 2, **TWO, vm__share=share), out, ("rounds=1",))
        rows = control_rows(out, "dma")
        data = rows[(rows["a2"] == 1) & (rows["a5"] == 4096)]
        moved[share] = len(data)
        events = control_rows(out, "page_events")
        assert ((events["a0"] == MAP) | (events["a0"] == BREAK)).any() == share
    # The second machine finds nearly all of what the first has read.
    assert moved[True] < 0.6 * moved[False]


def test_copies_and_packets_have_their_prices(tmp_path):
    """Two machines, the one that copies and the one that gets what it copied counted by hand."""
    prices = {"copy_on_write_us": 1.0, "network_us": 2.0, "copy_page_us": 4.0,
              "interrupted_cpu_us": 0.5, "tlb_entry_us": 0.0, "zero_page_us": 0.0}  # fmt: skip
    sets = {f"costs__prices__{name}": value for name, value in prices.items()}
    guests = (*FILES, "ping:1 rounds=2 bytes=8K")
    spec = spec_at(4, 4, **TWO | {"vm__count": 3}, vm__guests=guests, **sets)
    run_guest("files", spec, tmp_path / "t", ())
    rows = control_rows(tmp_path / "t", "traps")
    for cause, price in (("copy_on_write", 300), ("network", 600)):
        mine = rows[rows["a0"] == MONITOR_CAUSES.index(cause)]
        copied = (mine["a5"].astype(np.int64) * 1200 >> 12).sum()
        assert copied > 0
        expected = len(mine) * price + copied + (mine["a4"] >> np.uint64(32)).sum() * 150
        accounts = captured(tmp_path / "t").tables["accounts"].to_pydict()
        found = sum(
            value
            for metric, value in zip(accounts["metric"], accounts["value"], strict=True)
            if metric == f"monitor_{cause}_cycles"
        )
        assert found == expected


def run_to_the_end(spec, guest: str, args: tuple[str, ...]):
    request = CaptureRequest(guest=guest, args=list(args), spec=spec, out=Path("unused"))
    starts = starts_of(request)
    m = build_machine(request, starts, disks_of(request, starts), 1 << 16)
    memory = memory_layout.build(spec, contexts=4 * len(m.contexts))
    finish(m, memory)
    return m, memory


def finish(m, memory):
    """Run a machine until it is switched off; the guest must be content."""
    m.p[layout.X_EVENTS] = 0
    kernel.start(m, memory)
    while (page := kernel.announce(m, memory, 0)) >= 0:
        raise AssertionError(page)
    while m.g[layout.G_EXIT] == 0:
        kernel.run(m, memory, 1 << 22)
        m.g[layout.G_CONSOLE] = 0
        memory.fill[:3] = 0
    assert m.g[layout.G_STATUS] == 0


@pytest.mark.parametrize("guest", ["radix-sseg", "database-sseg"])
def test_memory_ends_as_it_does_without_sharing(guest):
    """Without feedback sharing costs no time, so the machines do the same to the last byte."""
    ends = []
    for share in (True, False):
        spec = spec_at(4, 4, time__feedback="none", vm__share=share, **TWO)
        m, memory = run_to_the_end(spec, guest, TINY[guest.removesuffix("-sseg")])
        ends.append([memory_of(m, vm).tobytes() for vm in range(2)])
        if share:
            assert_linked(m)
            assert_named(m, memory)
    assert ends[0] == ends[1]


def assert_linked(m) -> None:
    """Compare pmap and memmap: each content's list holds just those who show it."""
    p = m.p
    pmap = m.mon[p[layout.X_O_PMAP] : p[layout.X_O_MEMMAP]].reshape(-1, PMAP_WORDS)
    memmap = m.mon[p[layout.X_O_MEMMAP] : p[layout.X_O_POOL]].reshape(-1, CONTENT_WORDS)
    showing = np.flatnonzero(pmap[:, PMAP_NAME] >= p[layout.X_CONTENTS])
    assert len(showing) > 10
    own = np.setdiff1d(np.arange(len(pmap)), showing)
    assert (pmap[own, PMAP_NAME] == own).all()
    for content in np.unique(pmap[showing, PMAP_NAME]) - p[layout.X_CONTENTS]:
        listed, at = [], int(memmap[content, C_FIRST])
        while at:
            listed.append(at - 1)
            at = int(pmap[at - 1, PMAP_NEXT])
        expected = showing[pmap[showing, PMAP_NAME] == p[layout.X_CONTENTS] + content]
        assert sorted(listed) == expected.tolist()
        assert memmap[content, C_COUNT] == len(listed)


def assert_named(m, memory) -> None:
    """The memory system's names are those of the monitor."""
    p = m.p
    pmap = m.mon[p[layout.X_O_PMAP] : p[layout.X_O_MEMMAP]].reshape(-1, PMAP_WORDS)
    assert (memory.alias[: len(pmap)] == pmap[:, PMAP_NAME]).all()


@pytest.mark.parametrize("seed", range(8))
def test_no_trace_leads_out_of_the_arrays(seed):
    """Rows of any content: names stay consistent, and as many have frames as there are pages."""
    random = np.random.default_rng(seed)
    spec = spec_at(2, 2, monitor__kind="disco", machine__ram_bytes="1MiB", vm__count=1)
    m = memory_layout.build(spec, contexts=4)
    pages = int(m.p[P_PAGES])
    assert m.p[P_NAMES] == 2 * pages
    n = 4000
    events = np.zeros(n, EVENT)
    events["seq"] = np.arange(1, 2 * n, 2)
    kinds = [CODES["page_events"], CODES["dma"]]
    events["kind"] = random.choice(kinds, n, p=[0.7, 0.3])
    events["cpu"] = random.integers(0, 2, n)
    wild = random.random(n) < 0.05
    is_page = events["kind"] == kinds[0]
    events["a0"] = random.integers(0, len(PAGE_EVENTS) + 2, n)
    page = random.integers(0, 12, n, dtype=np.uint64)
    events["a1"] = np.where(wild, random.integers(0, 2**63, n, dtype=np.uint64), page)
    events["a2"] = random.integers(0, 4, n)
    events["a3"] = np.where(wild, events["a1"], (page << np.uint64(12)) + np.uint64(64))
    events["a4"] = np.where(wild, events["a1"], random.integers(0, 6, n, dtype=np.uint64))
    events["a5"] = random.integers(0, 5000, n)
    assert is_page.any()
    refs = {name: np.zeros(n, dtype) for name, dtype in REPLAY_DTYPES.items()}
    refs["cpu"][:] = random.integers(0, 2, n)
    refs["kind"][:] = random.integers(1, 10, n)
    refs["kind"][refs["kind"] == 3] = 7  # an upgrade needs a line that is there
    refs["guest_page"][:] = random.integers(0, 12, n)
    refs["guest_page"][random.random(n) < 0.02] = 5 * pages
    refs["vaddr"][:] = random.integers(0, 64, n) * 64
    refs["way"][:] = 0
    place = np.zeros(3, np.int64)
    done, damaged = 0, 0
    while done != DONE:
        done = replay_segment(m, place, 0, *refs.values(), np.zeros(0, np.uint64), events)
        m.fill[:3] = 0
        if done == DAMAGED:  # the line is there already, or a page is none: go on behind the row
            damaged += 1
            refs["kind"][place[0]] = 8
    assert damaged < n
    alias, counts = m.alias[:pages], m.alias[pages:]
    own = alias == np.arange(pages)
    assert (alias[~own] >= pages).all()
    assert (np.bincount(alias[~own] - pages, minlength=pages) == counts).all()
    placed = m.frame_at.reshape(-1, int(m.p[P_NODES]))[:, 0] >= 0
    assert placed.sum() <= pages
    assert not placed[pages:][counts == 0].any()
    assert not placed[:pages][~own].any()


def test_blocks_are_copied_where_every_page_shows_another():
    """No content is spare then: a driver can read blocks into all pages, its rings among them."""
    spec = spec_at(1, 1, **TWO | {"vm__count": 1})
    args = ["rounds=1", "os.cache=64"]
    request = CaptureRequest(guest="files", args=args, spec=spec, out=Path("unused"))
    starts = starts_of(request)
    m = build_machine(request, starts, disks_of(request, starts), 1 << 16)
    memory = memory_layout.build(spec, contexts=4 * len(m.contexts))
    pool, end = int(m.p[layout.X_O_POOL]), int(m.p[layout.X_O_BLOCKS])
    m.mon[pool + POOL_NEXT] = m.p[layout.X_CONTENTS]
    before = m.mon[int(m.p[layout.X_O_MEMMAP]) : end].copy()
    finish(m, memory)
    assert (m.mon[int(m.p[layout.X_O_MEMMAP]) : end] == before).all()
