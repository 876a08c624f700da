"""Lending: machines on fewer frames than they have pages; who borrows, who pays, nobody loses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from disco_trace.boot import build_machine, disks_of, memory_of, starts_of
from disco_trace.errors import DiscoError
from disco_trace.jit import kernel
from disco_trace.machine import layout
from disco_trace.monitor.frames import occupy
from disco_trace.monitor.layout import (
    AWAY,
    CONTENT_WORDS,
    IN_MEMORY,
    NO_FRAME,
    PMAP_WORDS,
    POOL_NEXT,
    R_NEXT,
    R_OWNER,
    R_PREVIOUS,
    R_STATE,
    R_WORDS,
    VM_CLEAN,
    VM_OTHER,
    VM_USED,
    vm_record,
)
from disco_trace.monitor.paging import POISON, evict
from disco_trace.requests import CaptureRequest
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.schema import MONITOR_CAUSES, PAGE_EVENTS
from tests.monitor.test_sharing import control_rows, run_to_the_end
from tests.replay.runs import (
    assert_same,
    assert_sound,
    captured,
    replayed,
    run_guest,
    spec_at,
    without_results,
)

EVENTS = {name: PAGE_EVENTS.index(name) for name in PAGE_EVENTS}
# One machine with a large table, one that sorts a few keys: 2 MiB of 3 for the first.
UNEVEN = ("database:1 rows=16K", "radix:1 keys=4K")
# Both grow, the second when the first has long borrowed.
CROWDED = ("database:1 rows=16K", "radix:1 keys=128K bits=6")
# Both read more of one disk than there is room for.
FILES = ("files:1 rounds=1 os.cache=256", "files:1 rounds=2 os.cache=256")
POOL = {CROWDED: "2560KiB", FILES: "640KiB"}
BASE = {"monitor__kind": "disco", "vm__count": 2, "machine__ram_bytes": "8MiB"}


def spec_of(guests, pool, cpus=2, **sets):
    return spec_at(cpus, cpus, **BASE, vm__guests=guests, vm__pool_bytes=pool, **sets)


def events_of(trace):
    """Return the events of pages: names, and the machine that each is another's loss to."""
    rows = control_rows(trace, "page_events")
    return rows["a0"], rows["a2"]


def test_a_borrower_needs_no_swap_disk(tmp_path):
    outs = {}
    for lending in (True, False):
        out = tmp_path / str(lending)
        result = run_guest("database", spec_of(UNEVEN, "3MiB", vm__lending=lending), out, ())
        assert b"radix: 4096 keys" in result.console
        event, _ = events_of(out)
        outs[lending] = {name: int((event == code).sum()) for name, code in EVENTS.items()}
        assert_sound(out)
    assert outs[True]["swap_out"] == outs[True]["swap_in"] == outs[True]["reclaim"] == 0
    assert outs[True]["lend"] > 50
    assert outs[False]["swap_out"] > 100
    assert outs[False]["swap_in"] > 100
    assert outs[False]["lend"] == 0


def test_a_lender_gets_its_frames_back(tmp_path):
    """The first machine's pages make room for the second's; both verify what they computed."""
    run_guest("database", spec_of(CROWDED, "2560KiB"), tmp_path / "t", ())
    event, other = events_of(tmp_path / "t")
    out = (event == EVENTS["swap_out"]) | (event == EVENTS["reclaim"])
    assert (event == EVENTS["lend"]).sum() > 20
    assert (other[out] == 1).sum() > 20


def test_what_a_disk_has_is_dropped_before_anything_is_written(tmp_path):
    """So it is for another machine's sake; for its own one keeps the clean pages that it uses."""
    run_guest("files", spec_of(FILES, "640KiB"), tmp_path / "t", ())
    event, taker = events_of(tmp_path / "t")
    rows = control_rows(tmp_path / "t", "page_events")
    vms = TraceReader(tmp_path / "t").contexts()["vm"][rows["context"] >> 2]
    dropped = np.flatnonzero((event == EVENTS["reclaim"]) & (taker != vms))
    written = np.flatnonzero((event == EVENTS["swap_out"]) & (taker != vms))
    print(len(dropped), len(written))
    assert len(dropped) > 5
    assert len(written) == 0 or dropped[0] < written[0]


@pytest.mark.parametrize("feedback", ["full", "none"])
@pytest.mark.parametrize("guests", [CROWDED, FILES], ids=["crowded", "files"])
@pytest.mark.parametrize("lending", [True, False], ids=["lending", "partitions"])
def test_replays_repeat_it(tmp_path, feedback, guests, lending):
    spec = spec_of(guests, POOL[guests], vm__lending=lending, time__feedback=feedback)
    name = guests[0].split(":")[0]
    run_guest(name, spec, tmp_path / "t", ())
    assert_sound(tmp_path / "t")
    event, _ = events_of(tmp_path / "t")
    assert ((event == EVENTS["swap_out"]) | (event == EVENTS["reclaim"])).sum() > 20
    expected = captured(tmp_path / "t")
    assert_same(replayed(without_results(tmp_path / "t"), spec), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"memory__l2__size_bytes": "64KiB"},
        {"placement__policy": "round-robin"},
        {"costs__prices__swap_us": 70.0, "costs__prices__io_us": 1.0, "costs__prices__lend_us": 3},
    ],
    ids=["l2", "placement", "prices"],
)
def test_replays_equal_a_fresh_capture_there(tmp_path, changes):
    spec = spec_of(FILES, "640KiB", time__feedback="none")
    there = spec_of(FILES, "640KiB", time__feedback="none", **changes)
    run_guest("files", spec, tmp_path / "t", ())
    run_guest("files", there, tmp_path / "u", ())
    assert replayed(tmp_path / "t", there).per_cpu == captured(tmp_path / "u").per_cpu


def test_moves_have_their_prices(tmp_path):
    """Two pages' worth of work counted by hand: waits for the disk, writes, frames taken."""
    prices = {"swap_us": 100.0, "io_us": 2.0, "lend_us": 3.0, "interrupted_cpu_us": 0.5}
    sets = {f"costs__prices__{name}": value for name, value in prices.items()}
    run_guest("files", spec_of(FILES, "640KiB", **sets), tmp_path / "t", ())
    rows = control_rows(tmp_path / "t", "traps")
    event, _ = events_of(tmp_path / "t")
    moves = {"swap": ("swap_in", 30000), "io": ("swap_out", 600), "lend": ("reclaim", 900)}
    accounts = captured(tmp_path / "t").tables["accounts"].to_pydict()
    for cause, (name, price) in moves.items():
        mine = rows[rows["a0"] == MONITOR_CAUSES.index(cause)]
        assert len(mine) == (event == EVENTS[name]).sum()
        expected = len(mine) * price + (mine["a4"] >> np.uint64(32)).sum() * 150
        pairs = zip(accounts["metric"], accounts["value"], strict=True)
        assert sum(v for metric, v in pairs if metric == f"monitor_{cause}_cycles") == expected


@pytest.mark.parametrize("guests", [CROWDED, FILES], ids=["crowded", "files"])
@pytest.mark.parametrize("share", [True, False], ids=["shared", "apart"])
@pytest.mark.parametrize("lending", [True, False], ids=["lending", "partitions"])
def test_memory_ends_as_it_does_with_room_for_all(guests, share, lending):
    """Without feedback pages that come and go take no time: every byte is where it would be."""
    sets = {"time__feedback": "none", "vm__share": share}
    name = guests[0].split(":")[0]
    m, _ = run_to_the_end(spec_of(guests, 0, **sets), name, ())
    roomy = [memory_of(m, vm).view(np.uint32).reshape(-1, 1024) for vm in range(2)]
    m, _ = run_to_the_end(spec_of(guests, POOL[guests], vm__lending=lending, **sets), name, ())
    assert_accounted(m, lending)
    states = m.mon[int(m.p[layout.X_O_RESIDENT]) + 1 :].reshape(-1, R_WORDS)[:, R_STATE]
    for vm in range(2):
        memory = memory_of(m, vm).view(np.uint32).reshape(-1, 1024)
        # What a guest frees while it is away is never brought back.
        own = states[vm * len(memory) : (vm + 1) * len(memory)]
        freed = (own == NO_FRAME) & (memory == POISON).all(axis=1)
        assert freed.sum() < 5
        assert (memory[~freed] == roomy[vm][~freed]).all()


def assert_accounted(m, lending) -> None:
    """Compare the records of pages with each other: states, owners, lists, counts."""
    p = m.p
    names = int(p[layout.X_SWAP])
    base = int(p[layout.X_O_RESIDENT])
    records = m.mon[base + 1 :].reshape(-1, R_WORDS)
    assert len(records) == names
    assert set(np.unique(records[:, R_STATE])) <= {NO_FRAME, IN_MEMORY, AWAY}
    here = records[:, R_STATE] == IN_MEMORY
    assert m.mon[base] == here.sum() <= p[layout.X_POOL]
    share = p[layout.X_POOL] // p[layout.X_VMS]
    for vm in range(int(p[layout.X_VMS])):
        record = vm_record(m, vm)
        listed = []
        for ends in (VM_CLEAN, VM_OTHER):
            at, before = int(record[ends]), 0
            while at:
                assert records[at - 1, R_PREVIOUS] == before
                listed.append(at - 1)
                at, before = int(records[at - 1, R_NEXT]), at
            assert record[ends + 1] == before
        owned = np.flatnonzero(here & (records[:, R_OWNER] == vm))
        assert sorted(listed) == owned.tolist()
        assert record[VM_USED] == len(listed)
        assert lending or len(listed) <= share
    # What is away stands on the swap disk, and its own place says so.
    away = np.flatnonzero(records[:, R_STATE] == AWAY)
    assert (m.ram.reshape(-1, 1024)[away] == 0xDEADF00D).all()
    # A page that shows a content has no frame of its own.
    pmap = m.mon[p[layout.X_O_PMAP] : p[layout.X_O_MEMMAP]].reshape(-1, PMAP_WORDS)[:, 0]
    showing = np.flatnonzero(pmap != np.arange(len(pmap)))
    assert not here[showing].any()


def test_a_machine_that_ends_leaves_its_frames(tmp_path):
    """What a machine held when it was switched off is there for those that go on."""
    guests = ("radix:1 keys=2K", "database:1 rows=16K")
    run_guest("database", spec_of(guests, "3MiB", cpus=1), tmp_path / "t", ())
    event, _ = events_of(tmp_path / "t")
    assert (event == EVENTS["lend"]).sum() > 20
    assert (event == EVENTS["swap_out"]).sum() == 0


def test_who_outlives_its_twin_keeps_what_both_show(tmp_path):
    """The twin's image is charged to whoever was first: switched off, it is not emptied.

    Two pages of it that one instruction needs would take turns for ever.
    """
    small = "database:1 rows=1K rounds=1 products=200 customers=200"
    spec = spec_of((small, UNEVEN[0]), "1536KiB")
    run_guest("database", spec, tmp_path / "t", (), max_instructions=60_000_000)
    assert TraceReader(tmp_path / "t").manifest.exit_reason == "power-off"
    event, _ = events_of(tmp_path / "t")
    assert (event == EVENTS["swap_out"]).sum() > 20
    assert (event == EVENTS["swap_in"]).sum() < 5000
    assert_sound(tmp_path / "t")


@kernel
def enter(mc, page):
    """Give a page a frame, as when it is first referred to."""
    occupy(mc, page)


@kernel
def leaves(mc, vm, taker):
    """Return the page of memory that a machine gives up, with a kind of event × 2^32."""
    mc.actions[0, 0] = 0
    evict(mc, vm, taker)
    page = mc.actions[1, 3]
    name = mc.mon[mc.p[layout.X_O_PMAP] + page * PMAP_WORDS] + 0
    return mc.actions[1, 2] << 32 | name


def test_pages_in_use_stay_while_others_are_not():
    """Two blocks that one loop reads: a page that nothing maps goes first, though it is written."""
    spec = spec_of(FILES, "640KiB")
    request = CaptureRequest(guest="files", args=[], spec=spec, out=Path("none"))
    starts = starts_of(request)
    mc = build_machine(request, starts, disks_of(request, starts), 4096)
    contents, at = int(mc.p[layout.X_CONTENTS]), int(mc.p[layout.X_O_PMAP])
    free = int(mc.mon[mc.p[layout.X_O_POOL] + POOL_NEXT])
    blocks, plain = [contents + free, contents + free + 1], 900
    for number, name in enumerate(blocks):
        record = int(mc.p[layout.X_O_MEMMAP]) + (name - contents) * CONTENT_WORDS
        mc.mon[record : record + CONTENT_WORDS] = 801 + number, 1, 1 + number
        mc.mon[at + (800 + number) * PMAP_WORDS] = name
    for name in (*blocks, plain):
        enter(mc, name)
    for entry, name in enumerate(blocks):
        mc.mon[4 * entry : 4 * entry + 4] = entry << 13, 0, name << 6 | 3, 1
    left = [leaves(mc, 0, taker) for taker in (1, 0, 0)]
    # For another machine what can be read again goes before anything is written, used or not.
    assert left[0] >> 32 == left[2] >> 32 == EVENTS["reclaim"]
    assert {left[0] & 0xFFFFFFFF, left[2] & 0xFFFFFFFF} == set(blocks)
    assert left[1] == EVENTS["swap_out"] << 32 | plain
    assert (mc.ram[plain << 10 : (plain + 1) << 10] == POISON).all()


@pytest.mark.parametrize(
    ("sets", "word"),
    [
        ({"vm__pool_bytes": "4MiB"}, "needs a monitor"),
        ({"monitor__kind": "disco", "vm__pool_bytes": "64KiB"}, "too little"),
        ({"monitor__kind": "disco", "vm__lending": False}, "there is none"),
    ],
)
def test_pools_that_cannot_be(sets, word):
    with pytest.raises(DiscoError, match=word):
        spec_at(1, 1, **sets)
