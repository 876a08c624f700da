"""Where pages lie under the static policies, worked out from the recorded rows alone."""

from __future__ import annotations

import numpy as np
import pytest

from disco_trace.trace.schema import CONTROL, REF_KINDS
from tests.replay.runs import TINY, replayed, rows_of, run_guest, spec_at

CPUS, PAGES = 4, (8 << 20) // 4096
KIND = {kind.name: kind.code for kind in CONTROL}
TOUCHING = len(REF_KINDS[: REF_KINDS.index("cache_op")])
PHASES = {"init": 1, "count": 3, "check": 6}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Capture a guest; return the trace, its references to memory, and its control rows."""
    trace = tmp_path_factory.mktemp("placement") / "t"
    run_guest("radix", spec_at(CPUS, 4, machine__ram_bytes="8MiB"), trace, TINY["radix"])
    refs, _, events = rows_of(trace, 0)
    return trace, refs[(refs["kind"] < TOUCHING) & (refs["guest_page"] < PAGES)], events


def first_touches(refs, events, since=0):
    """Return, by page, (sequence number, CPU) of each first touch from a number on.

    A page whose content died (freed, or cleared by the board) is touched first again.
    """
    died = events[
        (events["kind"] == KIND["page_events"]) & np.isin(events["a0"], [9, 10])
    ]  # free, zero
    touches = {}
    for page in np.unique(refs["guest_page"]):
        mine = refs[(refs["guest_page"] == page) & (refs["seq"] >= since)]
        deaths = died["seq"][(died["a1"] == page) & (died["seq"] >= since)].tolist()
        starts = [since, *deaths]
        found = []
        for start in starts:
            later = mine[mine["seq"] >= start]
            if len(later):
                found.append((int(later["seq"][0]), int(later["cpu"][0])))
        touches[int(page)] = sorted(set(found))
    return touches


def homes_follow(misses, touches, node_of_cpu, since=0):
    """Assert that every miss was served by the node that the last first touch before it chose."""
    checked = 0
    for row in misses.filter(np.asarray(misses["seq"]) >= since).to_pylist():
        before = [cpu for seq, cpu in touches[row["guest_page"]] if seq <= row["seq"]]
        assert row["home"] == node_of_cpu(before[-1]), row
        checked += 1
    return checked


@pytest.mark.parametrize("nodes", [2, 4])
def test_first_touch(recorded, nodes):
    trace, refs, events = recorded
    spec = spec_at(CPUS, nodes, machine__ram_bytes="8MiB", placement__policy="first-touch")
    misses = replayed(trace, spec).tables["misses"]
    touches = first_touches(refs, events)
    assert homes_follow(misses, touches, lambda cpu: cpu * nodes // CPUS) == len(misses) > 1000


@pytest.mark.parametrize("phase", PHASES)
def test_first_touch_dealt_again(recorded, phase):
    """Pages follow whoever uses them first once the phase has opened, on any CPU."""
    trace, refs, events = recorded
    opened = events[
        (events["kind"] == KIND["phases"]) & (events["a0"] == 0) & (events["a1"] == PHASES[phase])
    ]
    since = int(opened["seq"][0])
    sets = {"placement__policy": "first-touch", "machine__ram_bytes": "8MiB"}
    plain = replayed(trace, spec_at(CPUS, 4, **sets))
    again = replayed(trace, spec_at(CPUS, 4, **sets, placement__retouch_phase=PHASES[phase]))
    misses = again.tables["misses"]
    assert homes_follow(misses, first_touches(refs, events, since), lambda cpu: cpu, since) > 100
    # Before, nothing has changed.
    early = np.asarray(misses["seq"]) < since
    same = misses.filter(early).equals(
        plain.tables["misses"].filter(np.asarray(plain.tables["misses"]["seq"]) < since)
    )
    assert same
    placed = again.tables["moves"].num_rows - plain.tables["moves"].num_rows
    assert placed > 0, "pages were placed a second time"


def test_dealing_again_helps_where_one_cpu_cleared_memory(tmp_path):
    """The reason for it: database loads its tables on CPU 0, then all CPUs query them."""
    args = [*TINY["database"], "load=serial"]
    small = {"machine__ram_bytes": "8MiB", "memory__l2__size_bytes": "64KiB"}
    run_guest("database", spec_at(CPUS, 4, **small), tmp_path / "t", args)
    sets = small | {"placement__policy": "first-touch"}
    once = replayed(tmp_path / "t", spec_at(CPUS, 4, **sets), phase="scan")
    again = replayed(
        tmp_path / "t", spec_at(CPUS, 4, **sets, placement__retouch_phase=4), phase="scan"
    )

    def local(run):
        return run.totals["local_misses"] / run.totals["l2_misses"]

    assert local(again) > local(once)


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_guest_and_single_node(recorded, nodes):
    trace, _, _ = recorded
    memory = {"machine__ram_bytes": "8MiB"}
    misses = replayed(trace, spec_at(CPUS, nodes, **memory)).tables["misses"]
    pages, home = (np.asarray(misses[name]) for name in ("guest_page", "home"))
    assert (home == pages // (PAGES // nodes)).all()
    for node in range(nodes):
        sets = memory | {"placement__policy": "single-node", "placement__node": node}
        run = replayed(trace, spec_at(CPUS, nodes, **sets))
        assert (np.asarray(run.tables["misses"]["home"]) == node).all()


def test_round_robin(recorded):
    trace, refs, events = recorded
    spec = spec_at(CPUS, 4, machine__ram_bytes="8MiB", placement__policy="round-robin")
    run = replayed(trace, spec)
    touches = sorted(
        (seq, page) for page, found in first_touches(refs, events).items() for seq, _ in found
    )
    dealt = {(page, seq): index % 4 for index, (seq, page) in enumerate(touches)}
    moves = run.tables["moves"].to_pylist()
    assert len(moves) == len(touches)
    assert {(row["guest_page"], row["seq"]): row["to_node"] for row in moves} == dealt


def test_nodes_without_room_take_the_next(recorded):
    """Each node has a quarter of the frames: first touch spills over, and none is lost."""
    trace, refs, _ = recorded
    sets = {
        "machine__ram_bytes": "8MiB", "placement__policy": "single-node", "placement__node": 1,
        "placement__node_frames": PAGES // 4,
    }  # fmt: skip
    run = replayed(trace, spec_at(CPUS, 4, **sets))
    homes = {}
    for row in run.tables["moves"].to_pylist():
        homes[row["guest_page"]] = row["to_node"]
    used = len(np.unique(refs["guest_page"]))
    assert len(homes) == used
    expected = [1] * min(used, PAGES // 4) + [2] * max(0, used - PAGES // 4)
    assert sorted(homes.values()) == expected[:used]
