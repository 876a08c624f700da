"""Guests that use disk and network: they check themselves; identity and exactness hold with DMA."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from disco_trace.trace.schema import CONTROL, DMA_OPS, INTERRUPT_EVENTS, WAIT_CAUSES
from tests.replay.runs import (
    assert_same,
    assert_sound,
    captured,
    replayed,
    rows_of,
    run_guest,
    spec_at,
    without_results,
)
from tests.replay.test_exactness import assert_same_rows, points
from tests.replay.test_identity import MOVING

GUESTS = {
    "files": ("rounds=1", "os.cache=48"),
    "ping": ("rounds=2", "bytes=9000"),
}
CODE = {kind.name: kind.code for kind in CONTROL}
# A disk that is fast enough for its interrupts to meet what the CPUs do.
FAST = {"machine__disk_latency_ns": 20_000, "machine__disk_mbytes_per_s": 400}


def spec(cpus, nodes, **sets):
    return spec_at(cpus, nodes, **(FAST | {"machine__ram_bytes": "16MiB"} | sets))


@pytest.mark.parametrize(("cpus", "nodes"), [(1, 1), (3, 3), (8, 8)])
@pytest.mark.parametrize("guest", sorted(GUESTS))
def test_no_options_repeat_the_capture(tmp_path, guest, cpus, nodes):
    trace = tmp_path / "t"
    run_guest(guest, spec(cpus, nodes), trace, GUESTS[guest])
    assert_sound(trace)
    expected = captured(trace)
    assert_same(replayed(without_results(trace), spec(cpus, nodes)), expected)
    _, _, events = rows_of(trace, 0)
    moved = events[events["kind"] == CODE["dma"]]
    assert set(moved["a2"]) == set(range(len(DMA_OPS)))
    waits = events[events["kind"] == CODE["waits"]]
    assert (waits["a1"] == WAIT_CAUSES.index("device")).sum() > 3
    steps = events[(events["kind"] == CODE["interrupts"]) & (events["a1"] == 4)]["a0"]
    raised = (steps == INTERRUPT_EVENTS.index("raised")).sum()
    assert raised > 10
    assert raised == (steps == INTERRUPT_EVENTS.index("cleared")).sum()
    # Whole pages of files: what the disk gave is what the cache holds.
    if guest == "files":
        data = moved[moved["a2"] == DMA_OPS.index("write")]
        assert data["a5"].sum() >= 512 << 10
        assert data["a4"].max() >= 8 * (1 + 128)
    else:
        packets = events[events["kind"] == CODE["packets"]]
        assert set(packets["a0"]) == {4, 5}
        # The first, which nobody listened to, and of eight in a row those that were too many.
        assert (packets["a2"] == 0).sum() == 1 + 4


@pytest.mark.parametrize("feedback", ["full", "none"])
@pytest.mark.parametrize("policy", ["first-touch", "migrate-replicate"])
def test_policies_live_in_the_capture(tmp_path, policy, feedback):
    sets = MOVING | {"placement__policy": policy, "time__feedback": feedback}
    trace, point = tmp_path / "t", spec(4, 4, **sets)
    run_guest("files", point, trace, GUESTS["files"])
    assert_sound(trace)
    expected = captured(trace)
    if policy == "migrate-replicate":
        assert expected.totals["replications"] > 0
    assert_same(replayed(without_results(trace), point), expected)


NO_FEEDBACK = FAST | {"time__feedback": "none", "machine__ram_bytes": "16MiB"}


@pytest.fixture(scope="module", params=sorted(GUESTS))
def base(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "t"
    run_guest(request.param, spec_at(4, 4, **NO_FEEDBACK), path, GUESTS[request.param])
    return request.param, path


def assert_exact(base, sets, folder):
    guest, trace = base
    nodes = sets.pop("machine__nodes", 4)
    if "placement__node_frames" in sets:
        sets["placement__node_frames"] *= 2  # drawn for half the memory
    point = spec_at(4, nodes, **(NO_FEEDBACK | sets))
    fresh = folder / "fresh"
    run_guest(guest, point, fresh, GUESTS[guest])
    assert_same(replayed(trace, point, out=folder / "run"), captured(fresh))
    assert_same_rows(trace, fresh)


@given(sets=points())
@settings(max_examples=4, deadline=None, derandomize=True, database=None)
def test_replay_equals_a_fresh_capture(base, tmp_path_factory, sets):
    assert_exact(base, sets, tmp_path_factory.mktemp("point"))


@pytest.mark.slow
@given(sets=points())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_many_points(base, tmp_path_factory, sets):
    assert_exact(base, sets, tmp_path_factory.mktemp("point"))


def test_a_wait_for_the_disk_absorbs_what_came_before(tmp_path):
    """A replay with slower memory waits shorter: the disk is done a fixed time after its start."""
    sets = {"machine__disk_latency_ns": 3_000_000}
    trace = tmp_path / "t"
    run_guest("files", spec(1, 1, **sets), trace, ("rounds=1", "os.tick=0"))
    before = captured(trace).totals
    after = replayed(trace, spec(1, 1, **sets, memory__local_ns=600)).totals
    assert before["idle_cycles"] > 10_000_000
    stall = after["local_stall_cycles"] - before["local_stall_cycles"]
    absorbed = before["idle_cycles"] - after["idle_cycles"]
    assert 0 < absorbed < stall
    assert after["cycles"] - before["cycles"] == stall - absorbed


@pytest.mark.slow
@pytest.mark.parametrize("cpus", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("guest", ["files", "files-sseg", "ping", "ping-sseg"])
def test_guests_check_themselves(tmp_path, guest, cpus):
    args = {"files": ("rounds=2", "os.cache=64"), "ping": ("rounds=6",)}[guest.split("-")[0]]
    result = run_guest(guest, spec_at(cpus, min(cpus, 8)), tmp_path / "t", args)
    assert b"checked" in result.console
    assert_sound(tmp_path / "t")
