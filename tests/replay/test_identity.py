"""A replay with the capture's own parameters gives the capture's own results, to the last unit."""

from __future__ import annotations

import itertools
import json

import pytest

from disco_trace.trace.reader import TraceReader
from disco_trace.trace.writer import TraceWriter
from tests.replay.runs import (
    TINY,
    assert_same,
    assert_sound,
    captured,
    replayed,
    rewrite,
    rows_of,
    run_guest,
    spec_at,
    without_results,
)

GUESTS = sorted(TINY)
MACHINES = [(1, 1), (4, 4), (4, 2), (8, 8)]
# Small enough a second level, and thresholds low enough, for pages to move in small guests.
MOVING = {
    "placement__policy": "migrate-replicate",
    "placement__initial": "first-touch",
    "placement__trigger_misses": 8,
    "placement__sharing_misses": 4,
    "placement__migrate_limit": 4,
    "placement__reset_ms": 1,
    "memory__l2__size_bytes": "64KiB",
}


@pytest.mark.parametrize(("cpus", "nodes"), MACHINES)
@pytest.mark.parametrize("guest", GUESTS)
def test_no_options_repeat_the_capture(tmp_path, guest, cpus, nodes):
    trace, spec = tmp_path / "t", spec_at(cpus, nodes)
    run_guest(guest, spec, trace)
    assert_sound(trace)
    expected = captured(trace)
    assert expected.totals["l2_misses"] > 1000, "too little happened to compare"
    assert_same(replayed(without_results(trace), spec), expected)
    assert_sound(trace)


@pytest.mark.parametrize("feedback", ["full", "none"])
@pytest.mark.parametrize("policy", ["first-touch", "round-robin", "migrate-replicate"])
@pytest.mark.parametrize("guest", GUESTS)
def test_policies_live_in_the_capture(tmp_path, guest, policy, feedback):
    sets = MOVING | {"placement__policy": policy, "time__feedback": feedback}
    trace, spec = tmp_path / "t", spec_at(4, 4, **sets)
    run_guest(guest, spec, trace)
    assert_sound(trace)
    expected = captured(trace)
    if policy == "migrate-replicate":
        moves = expected.totals["migrations"], expected.totals["replications"]
        # The tiny scene of raytrace is read by all and moved by few; services run one by one.
        few = guest in ("raytrace", "services")
        assert sum(moves) > 0 if few else moves[0] > 10 and moves[1] > 0
        assert expected.totals["monitor_cycles"] > 0
    assert_same(replayed(without_results(trace), spec), expected)


@pytest.mark.slow
@pytest.mark.parametrize("feedback", ["full", "none"])
@pytest.mark.parametrize("policy", ["migrate", "replicate"])
@pytest.mark.parametrize(("cpus", "nodes"), [(8, 8), (16, 16), (64, 16)])
@pytest.mark.parametrize("guest", [*GUESTS, "radix-sseg", "engineering-sseg"])
def test_more_machines_repeat_the_capture(tmp_path, guest, cpus, nodes, policy, feedback):
    sets = MOVING | {"placement__policy": policy, "time__feedback": feedback}
    sets["machine__ram_bytes"] = "32MiB"
    trace, spec = tmp_path / "t", spec_at(cpus, nodes, **sets)
    run_guest(guest, spec, trace)
    assert_sound(trace)
    expected = captured(trace)
    assert_same(replayed(without_results(trace), spec), expected)


@pytest.mark.parametrize(
    "sets",
    [
        {"machine__l1i__size_bytes": "1KiB", "machine__l1d__size_bytes": "1KiB"},
        {"machine__l1d__ways": 1, "machine__l1i__ways": 8, "machine__l1d__size_bytes": "64KiB"},
        {"machine__granule_bytes": 64, "memory__protocol": "msi"},
        {"machine__turn_cycles": 7, "machine__page_filter_entries": 1},
        {"memory__l2__size_bytes": "8KiB", "memory__l2__replacement": "random"},
        {"memory__l2__line_bytes": 512, "memory__l2__ways": 4},
        {"memory__remote_ns": 0, "memory__local_ns": 0, "time__interval_us": 1},
        {"machine__clock_mhz": 7, "time__interval_us": 3},
    ],
    ids=lambda sets: "-".join(str(value) for value in sets.values()),
)
def test_other_machines_repeat_the_capture(tmp_path, sets):
    trace, spec = tmp_path / "t", spec_at(4, 2, **sets)
    run_guest("radix", spec, trace, TINY["radix"])
    assert_sound(trace)
    expected = captured(trace)
    assert_same(replayed(without_results(trace), spec), expected)


def test_supervisor_guests_repeat_the_capture(tmp_path):
    trace, spec = tmp_path / "t", spec_at(4, 4)
    run_guest("radix-sseg", spec, trace, TINY["radix"])
    assert_sound(trace)
    expected = captured(trace)
    assert_same(replayed(without_results(trace), spec), expected)


@pytest.mark.parametrize("feedback", ["full", "none"])
def test_the_recorded_clocks_are_no_input(tmp_path, feedback):
    """Take every recorded clock out of the trace: a replay keeps its own."""
    trace, spec = tmp_path / "t", spec_at(4, 4, time__feedback=feedback)
    run_guest("database", spec, trace, TINY["database"])
    expected = captured(trace)

    def forget(refs, pages, events):
        refs["cycle"] = 0
        events["cycle"] = 0

    assert_same(replayed(rewrite(trace, tmp_path / "u", forget), spec), expected)


def test_segments_do_not_show(tmp_path):
    """Cut the same rows into other segments: nothing else may change."""
    trace, spec = tmp_path / "t", spec_at(4, 4, **MOVING)
    run_guest("radix", spec, trace, TINY["radix"])
    expected = captured(trace)

    reader = TraceReader(trace)
    assert len(reader.segments) == 1
    refs, pages, events = rows_of(trace, 0)
    manifest = json.loads((trace / "manifest.json").read_text())
    for name in ("complete", "exit_reason", "segments", "totals", "trace_id", "symbols"):
        del manifest[name]
    last = 1 + max(int(refs["seq"][-1]), int(events["seq"][-1]))
    cuts = [0, 1, 40, 41, last // 3, last // 2, last]
    with TraceWriter(tmp_path / "u", manifest) as writer:
        for low, high in itertools.pairwise(cuts):
            parts = [rows[(rows["seq"] >= low) & (rows["seq"] < high)] for rows in (refs, events)]
            writer.submit(parts[0], pages[:0], parts[1])
        writer.close()
    assert_same(replayed(tmp_path / "u", spec), expected)


def test_misses_only_where_asked_for(tmp_path):
    from disco_trace.replay.engine import replay
    from disco_trace.trace.run import Run

    trace, spec = tmp_path / "t", spec_at(2, 2)
    run_guest("radix", spec, trace, TINY["radix"])
    plain = Run.open(replay(trace, spec).path)
    assert plain.misses().count_rows() == 0
    assert plain.fingerprint == captured(trace).fingerprint
    assert captured(trace).tables["misses"].num_rows == plain.totals["l2_misses"]
