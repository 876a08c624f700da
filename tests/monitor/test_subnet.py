"""Machines on one subnet: who gets what, which pages are shown in place of a copy, who sees it."""

from __future__ import annotations

import numpy as np
import pytest

from disco_trace.boot import memory_of
from disco_trace.machine import layout
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.schema import INTERRUPT_EVENTS, MONITOR_CAUSES, PAGE_EVENTS, WAIT_CAUSES
from tests.monitor.test_lending import assert_accounted
from tests.monitor.test_sharing import assert_linked, assert_named, control_rows, run_to_the_end
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
PAIR = ("subnet:1 role=server rounds=5", "subnet:1 role=client rounds=6")
# More machines than CPUs, so that some are off their CPU when something comes for them.
MANY = ("subnet:2 role=server clients=3", *["subnet:1 role=client rounds=4"] * 3)
BASE = {"monitor__kind": "disco", "machine__ram_bytes": "8MiB"}
POOL = "640KiB"  # of two machines, the least


def spec_of(guests=PAIR, cpus=2, **sets):
    here = {"vm__count": len(guests), "vm__guests": guests, "monitor__slice_us": 300}
    return spec_at(cpus, cpus, **BASE | here | sets)


def packets_of(trace):
    """Return the packets by sender, receiver: pages shown, pages copied, bytes."""
    rows = control_rows(trace, "packets")
    contexts = TraceReader(trace).contexts()
    vms = dict(zip(contexts["id"].tolist(), contexts["vm"].tolist(), strict=True))
    senders = np.array([vms[int(context) >> 2] for context in rows["context"]])
    return senders, *(rows[name].astype(np.int64) for name in ("a0", "a1", "a2", "a3"))


@pytest.mark.parametrize("feedback", ["full", "none"])
@pytest.mark.parametrize(
    ("guests", "cpus"), [(PAIR, 2), (PAIR, 1), (MANY, 2), (MANY, 8)],
    ids=["pair", "pair on one CPU", "crowd", "room"],
)  # fmt: skip
def test_replays_repeat_it(tmp_path, guests, cpus, feedback):
    spec = spec_of(guests, cpus, time__feedback=feedback)
    result = run_guest("subnet", spec, tmp_path / "t", ())
    assert result.console.count(b"checked") == len(guests)
    assert_sound(tmp_path / "t")
    senders, receivers, remapped, copied, size = packets_of(tmp_path / "t")
    assert (senders != receivers).all()
    assert set(senders) == set(receivers) == set(range(len(guests)))
    # Both ways; of what is copied each message has its head, and odd ones their last part.
    assert {senders[remapped > 0].min(), receivers[remapped > 0].min()} == {0}
    lost = remapped + copied == 0
    assert (lost | (copied >= 1)).all()
    assert (size - 4096 * remapped >= 20).all()
    # Nobody's buffers overflow, but a machine that does not listen yet loses what greets it.
    assert lost.sum() < len(guests)
    assert (size[lost] < 64).all()
    expected = captured(tmp_path / "t")
    assert_same(replayed(without_results(tmp_path / "t"), spec), expected)


def test_devices_wake_the_receiver(tmp_path):
    """What a sender's device raises is the line of the receiver's machine; so says who waited."""
    run_guest("subnet", spec_of(cpus=2), tmp_path / "t", ())
    rows = control_rows(tmp_path / "t", "interrupts")
    raised = rows[(rows["a0"] == INTERRUPT_EVENTS.index("raised")) & (rows["a1"] == 4)]
    machine, line = raised["a2"].astype(int) // 8, (raised["a3"] >> np.uint64(48)).astype(int)
    assert ((machine == 0) & (line == 1)).sum() > 10
    assert ((machine == 1) & (line == 0)).sum() > 10
    waits = control_rows(tmp_path / "t", "waits")
    ended = waits[waits["a1"] == WAIT_CAUSES.index("device")]
    assert set(ended["a2"] // 8) == {0, 1}
    # A CPU each: who waits on a CPU is the machine whose device ends it.
    assert (ended["cpu"] == ended["a2"] // 8).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"memory__l2__size_bytes": "64KiB"},
        {"memory__remote_ns": 1500, "memory__local_ns": 100},
        {"placement__policy": "round-robin"},
        {"placement__policy": "guest"},
        {"costs__prices__network_us": 7.0, "costs__prices__remap_us": 3.0},
    ],
    ids=["l2", "latency", "round-robin", "guest", "prices"],
)
@pytest.mark.parametrize("guests", [MANY, PAIR], ids=["room", "pool"])
def test_replays_equal_a_fresh_capture_there(tmp_path, changes, guests):
    sets = {"time__feedback": "none", "vm__pool_bytes": POOL if guests == PAIR else 0}
    spec, there = spec_of(guests, **sets), spec_of(guests, **sets | changes)
    run_guest("subnet", spec, tmp_path / "t", ())
    run_guest("subnet", there, tmp_path / "u", ())
    assert replayed(tmp_path / "t", there).per_cpu == captured(tmp_path / "u").per_cpu


def test_what_is_shown_is_not_moved(tmp_path):
    """With sharing whole pages are neither read nor written by a device; all else is the same."""
    moved, copied, events = {}, {}, {}
    for share in (True, False):
        out = tmp_path / str(share)
        run_guest("subnet", spec_of(vm__share=share, time__feedback="none"), out, ())
        rows = control_rows(out, "dma")
        moved[share] = [int(rows["a5"][rows["a2"] == op].sum()) for op in range(4)]
        traps = control_rows(out, "traps")
        network = traps[traps["a0"] == MONITOR_CAUSES.index("network")]
        copied[share] = int(network["a5"].sum())
        shown = int(packets_of(out)[2].sum())
        assert (shown > 0) == share
        remap = traps["a0"] == MONITOR_CAUSES.index("remap")
        assert remap.sum() == shown
        assert traps["a5"][remap].sum() == 0
        if share:
            pages = 4096 * shown
        event = control_rows(out, "page_events")["a0"]
        events[share] = {name: int((event == code).sum()) for name, code in EVENTS.items()}
    assert copied[False] - copied[True] == pages
    assert moved[False][0] - moved[True][0] == pages
    assert moved[False][1] - moved[True][1] == pages
    assert moved[False][2:] == moved[True][2:]
    assert events[False]["share"] == 0
    assert events[True]["share"] == pages // 4096
    # Pages that are given back before they are filled anew: only pages of the image break.
    assert events[True]["break"] < 20 < events[True]["share"]


@pytest.mark.parametrize(
    ("pool", "lending"), [("0", True), (POOL, True), (POOL, False)],
    ids=["room", "lending", "partitions"],
)  # fmt: skip
def test_memory_ends_as_if_everything_were_copied(pool, lending):
    ends = []
    for share in (True, False):
        sets = {"vm__share": share, "time__feedback": "none"}
        if share:
            sets |= {"vm__pool_bytes": pool, "vm__lending": lending}
        m, memory = run_to_the_end(spec_of(**sets), "subnet", ())
        ends.append([memory_of(m, vm).tobytes() for vm in range(2)])
        if share:
            assert_linked(m)
            assert_named(m, memory)
        if share and pool != "0":
            assert_accounted(m, True)
            assert m.p[layout.X_POOL] > 0
    assert ends[0] == ends[1]


@pytest.mark.parametrize("feedback", ["full", "none"])
@pytest.mark.parametrize("lending", [True, False], ids=["lending", "partitions"])
def test_replays_repeat_it_on_too_few_frames(tmp_path, lending, feedback):
    sets = {"vm__pool_bytes": POOL, "vm__lending": lending, "time__feedback": feedback}
    spec = spec_of(**sets)
    run_guest("subnet", spec, tmp_path / "t", ())
    assert_sound(tmp_path / "t")
    event = control_rows(tmp_path / "t", "page_events")["a0"]
    assert (event == EVENTS["swap_out"]).sum() > 5
    assert (event == EVENTS["share"]).sum() > 5
    expected = captured(tmp_path / "t")
    assert_same(replayed(without_results(tmp_path / "t"), spec), expected)


def test_each_machine_by_itself(tmp_path):
    """Machines that use both their ports do not disturb each other, joined or not."""
    for subnet in (True, False):
        out = tmp_path / str(subnet)
        spec = spec_at(2, 2, vm__count=3, vm__subnet=subnet, **BASE)
        result = run_guest("ping", spec, out, ("rounds=3", "bytes=20K"))
        assert result.console.count(b"checked") == 3
        senders, receivers, remapped, _, _ = packets_of(out)
        assert (senders == receivers).all()
        assert remapped.sum() == 0


def test_without_a_file_of_machines(tmp_path):
    """The first machine serves, the next one asks, others have nothing to do."""
    spec = spec_at(4, 4, vm__count=3, **BASE)
    result = run_guest("subnet", spec, tmp_path / "t", ("rounds=2",))
    assert result.console.count(b"checked") == 2
    assert b"machine 2 is none of the 1" in result.console
    assert packets_of(tmp_path / "t")[2].sum() > 5


@pytest.mark.parametrize("kind", ["none", "disco"])
def test_both_sides_in_one_machine(tmp_path, kind):
    spec = spec_at(2, 2, monitor__kind=kind, machine__ram_bytes="8MiB")
    result = run_guest("subnet", spec, tmp_path / "t")
    assert result.console.count(b"checked") == 2
    rows = control_rows(tmp_path / "t", "packets")
    assert rows["a1"].sum() == 0
    expected = captured(tmp_path / "t")
    assert_same(replayed(without_results(tmp_path / "t"), spec), expected)


def test_without_a_subnet_the_pair_says_so(tmp_path):
    spec = spec_of(vm__subnet=False)
    with pytest.raises(AssertionError, match=r"vm\.subnet joins"):
        run_guest("subnet", spec, tmp_path / "t", ())
