"""Without feedback, a replay equals a fresh capture at any point that it may change: to the unit.

The replay has one trace, captured once; the fresh capture runs the guest again on the changed
machine. No guest of these asks for its node, so the number of nodes may change, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.replay.runs import (
    TINY,
    assert_same,
    captured,
    replayed,
    rows_of,
    run_guest,
    spec_at,
)

CPUS = 4
NO_FEEDBACK = {"time__feedback": "none", "machine__ram_bytes": "8MiB"}
LATENCIES = (
    "l2_hit_ns", "local_ns", "remote_ns", "dirty_ns", "upgrade_local_ns", "upgrade_remote_ns",
    "uncached_local_ns", "uncached_remote_ns", "device_ns",
)  # fmt: skip


@pytest.fixture(scope="module", params=sorted(TINY))
def base(request, tmp_path_factory):
    """Capture a guest once, at the machine's own parameters."""
    path = tmp_path_factory.mktemp("base") / "t"
    run_guest(request.param, spec_at(CPUS, 4, **NO_FEEDBACK), path, TINY[request.param])
    return request.param, path


@st.composite
def second_levels(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a second level of 64 KiB to 2 MiB; any number of ways."""
    ways = draw(st.integers(1, 8))
    line = 128
    least, most = (64 << 10) // (ways * line), (2 << 20) // (ways * line)
    powers = [1 << n for n in range(20) if least <= 1 << n <= most]
    return {
        "memory__l2__ways": ways,
        "memory__l2__size_bytes": ways * line * draw(st.sampled_from(powers)),
        "memory__l2__replacement": draw(st.sampled_from(["lru", "fifo", "random"])),
        "memory__protocol": draw(st.sampled_from(["mesi", "msi"])),
    }


@st.composite
def placements(draw: st.DrawFn) -> dict[str, Any]:
    """Draw nodes, and a placement that does not move pages."""
    nodes = draw(st.sampled_from([1, 2, 4]))
    policy = draw(st.sampled_from(["guest", "first-touch", "round-robin", "single-node"]))
    sets = {"machine__nodes": nodes, "placement__policy": policy}
    if policy == "single-node":
        sets["placement__node"] = draw(st.integers(0, nodes - 1))
    if policy == "first-touch":
        sets["placement__retouch_phase"] = draw(st.integers(0, 5))
    if policy != "guest" and draw(st.booleans()):
        pages = (8 << 20) // 4096
        sets["placement__node_frames"] = draw(st.integers(-(-pages // nodes), pages))
    return sets


@st.composite
def points(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a point: second level, placement, latencies, prices."""
    names = draw(st.sets(st.sampled_from(LATENCIES)))
    sets = {f"memory__{name}": draw(st.integers(0, 3000)) for name in sorted(names)}
    sets["time__interval_us"] = draw(st.sampled_from([1, 200, 1000]))
    return sets | draw(second_levels()) | draw(placements())


def assert_exact(base: tuple[str, Any], sets: dict[str, Any], folder: Any) -> None:
    """Compare a replay of the base with a fresh capture at a point; the recorded rows, too."""
    guest, trace = base
    nodes = sets.pop("machine__nodes", 4)
    spec = spec_at(CPUS, nodes, **(NO_FEEDBACK | sets))
    fresh = folder / "fresh"
    run_guest(guest, spec, fresh, TINY[guest])
    assert_same(replayed(trace, spec, out=folder / "run"), captured(fresh))
    assert_same_rows(trace, fresh)


def assert_same_rows(one: Any, other: Any) -> None:
    """Compare what two captures recorded: everything but clocks is placement-neutral."""
    for left, right in zip(rows_of(one, 0), rows_of(other, 0), strict=True):
        assert len(left) == len(right)
        for name in left.dtype.names:
            if name != "cycle":
                assert np.array_equal(left[name], right[name]), name


@given(sets=points())
@settings(max_examples=10, deadline=None, derandomize=True, database=None)
def test_replay_equals_a_fresh_capture(base, tmp_path_factory, sets):
    assert_exact(base, sets, tmp_path_factory.mktemp("point"))


@pytest.mark.slow
@given(sets=points())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_many_points(base, tmp_path_factory, sets):
    assert_exact(base, sets, tmp_path_factory.mktemp("point"))


@pytest.mark.parametrize(
    "sets",
    [
        {"memory__l2__size_bytes": "64KiB", "memory__l2__ways": 1},
        {"memory__remote_ns": 5000, "memory__dirty_ns": 1},
        {"machine__nodes": 1},
        {"placement__policy": "round-robin"},
        {"memory__l2__line_bytes": 64},
        {"memory__l2__line_bytes": 1024, "memory__l2__size_bytes": "256KiB"},
    ],
    ids=lambda sets: "-".join(str(value) for value in sets.values()),
)
def test_single_changes(base, tmp_path, sets):
    assert_exact(base, dict(sets), tmp_path)


@pytest.mark.parametrize("policy", ["migrate", "replicate", "migrate-replicate"])
def test_policies_that_move_pages(base, tmp_path, policy):
    """Without a monitor nothing of a move is visible to the guest: exact here, too."""
    sets = {
        "placement__policy": policy,
        "placement__initial": "round-robin",
        "placement__trigger_misses": 8,
        "placement__sharing_misses": 4,
        "placement__migrate_limit": 100,
        "placement__reset_ms": 1,
        "memory__l2__size_bytes": "64KiB",
    }
    assert_exact(base, sets, tmp_path)
    totals = captured(tmp_path / "fresh").totals
    assert totals["migrations"] + totals["replications"] > 5


def test_with_feedback_the_fresh_capture_differs(tmp_path):
    """The other way round: what `no feedback` warns of is real, and not small in a tiny guest."""
    slow = {"memory__remote_ns": 9000, "memory__dirty_ns": 9000}
    args = TINY["database"]
    run_guest("database", spec_at(CPUS, 4), tmp_path / "t", args)
    run_guest("database", spec_at(CPUS, 4, **slow), tmp_path / "fresh", args)
    run = replayed(tmp_path / "t", spec_at(CPUS, 4, **slow))
    assert run.totals["cycles"] != captured(tmp_path / "fresh").totals["cycles"]
