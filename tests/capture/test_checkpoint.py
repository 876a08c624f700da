"""A capture that goes on from a checkpoint makes exactly what it would have made uninterrupted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import disco_trace
import disco_trace.capture as capturing
from disco_trace.checkpoint.save import added
from disco_trace.config import from_dict
from disco_trace.machine import slots
from disco_trace.trace.check import check
from disco_trace.trace.checkpoint import checkpoint_id, read_checkpoint
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.run import Run
from tests.capture.checkpoints import assert_goes_on, go_on, load
from tests.replay.runs import (
    TINY,
    assert_same,
    assert_sound,
    captured,
    replayed,
    run_guest,
    spec_at,
)

ROOT = Path(__file__).parents[2]
RAM = {"machine__ram_bytes": "16MiB"}
# A second level that is small enough, and thresholds low enough, for pages to move.
MOVING = RAM | {
    "placement__policy": "migrate-replicate",
    "placement__initial": "first-touch",
    "placement__trigger_misses": 8,
    "placement__sharing_misses": 4,
    "placement__migrate_limit": 4,
    "placement__reset_ms": 1,
    "memory__l2__size_bytes": "64KiB",
}
ODD = RAM | {
    "memory__l2__size_bytes": "16KiB",
    "memory__l2__replacement": "random",
    "memory__l2__line_bytes": 256,
    "machine__page_filter_entries": 1,
    "placement__policy": "round-robin",
}
PHASES = {
    "radix": {"sort": 2, "permute": 5},
    "database": {"query": 3, "join": 5},
    # The disk is busy at the first, and has been written to at the second.
    "files": {"map": 3, "sync": 5},
    "ping": {"exchange": 2, "overflow": 3},
}
CASES = [
    (guest, cpus, nodes, feedback, sets)
    for guest in PHASES
    for cpus, nodes, sets in ((1, 1, RAM), (4, 4, MOVING), (8, 4, ODD))
    for feedback in ("full", "none")
]


TWO = [
    word
    for value in ("cpus=2", "nodes=2", "ram_bytes=4MiB")
    for word in ("--set", f"machine.{value}")
]
RADIX = ("--", *TINY["radix"])


def name_of(case) -> str:
    guest, cpus, _, feedback, _ = case
    return f"{guest}-{cpus}-{feedback}"


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Capture every case, saving it at a phase; resume all of them in one new process."""
    folder = tmp_path_factory.mktemp("cases")
    found, words = {}, []
    for case in CASES:
        guest, cpus, nodes, feedback, sets = case
        (phase, number), *_ = PHASES[guest].items()
        full = folder / name_of(case)
        spec = spec_at(cpus, nodes, **sets, time__feedback=feedback)
        result = run_guest(guest, spec, full, save_at=number)
        assert result.checkpoint == full / "checkpoints" / phase
        part = folder / f"{full.name}-{phase}"
        words += [str(result.checkpoint), str(part)]
        found[name_of(case)] = (full, result, part, spec)
    done = subprocess.run(
        [sys.executable, "-m", "tests.capture.checkpoints", *words],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return found, json.loads(done.stdout)


@pytest.mark.parametrize("name", [name_of(case) for case in CASES])
def test_a_new_process_goes_on(cases, name):
    full, result, part, spec = cases[0][name]
    answer = cases[1][str(part)]
    assert_sound(full)
    assert_sound(part)
    assert_goes_on(full, result.checkpoint, part)
    assert answer["registers"] == result.registers
    assert answer["cp0"] == result.cp0
    assert result.console.decode().endswith(answer["console"])
    # What was counted before the checkpoint and after it is all.
    state = read_checkpoint(result.checkpoint).state
    assert added(state.base, answer["per_cpu"]) == added([], result.per_cpu)
    assert 0 < state.instructions < result.totals["instructions"]

    whole, counted = captured(full), captured(part)
    for table in ("moves", "misses"):
        seqs = whole.tables[table]["seq"].to_numpy()
        later = whole.tables[table].filter(seqs >= state.seq)
        assert later.equals(counted.tables[table]), table
    if "4" in name and "ping" not in name:
        assert counted.totals["migrations"] > 10
    if name.startswith("files-4"):
        assert (load(result.checkpoint, "machine.virtio")[:, slots.V_STATE] != slots.IDLE).any()
    # And a replay of the resumed trace starts where the capture did.
    shutil.rmtree(part / "runs")
    assert_same(replayed(part, spec), counted)


def test_saving_changes_nothing(cases, tmp_path):
    full, _, _, spec = cases[0]["radix-4-full"]
    run_guest("radix", spec, tmp_path / "t")
    assert TraceReader(tmp_path / "t").trace_id == TraceReader(full).trace_id
    assert captured(tmp_path / "t").fingerprint == captured(full).fingerprint


@pytest.mark.parametrize("guest", PHASES)
def test_resume_twice(tmp_path, guest):
    """A checkpoint of a resumed capture is the one that the uninterrupted capture saves there."""
    (first, one), (_, two) = PHASES[guest].items()
    spec = spec_at(4, 2, **MOVING)
    whole = run_guest(guest, spec, tmp_path / "whole", TINY.get(guest), save_at=two)
    run_guest(guest, spec, tmp_path / "a", TINY.get(guest), save_at=one)
    middle = go_on(tmp_path / "a/checkpoints" / first, tmp_path / "b", save_at=two)
    assert middle.registers == whole.registers
    names = [checkpoint_id(read_checkpoint(r.checkpoint)) for r in (whole, middle)]
    assert names[0] == names[1]
    last = go_on(middle.checkpoint, tmp_path / "c")
    assert last.registers == whole.registers
    assert_goes_on(tmp_path / "whole", whole.checkpoint, tmp_path / "c")
    again = go_on(whole.checkpoint, tmp_path / "d")
    assert again.per_cpu == last.per_cpu
    assert TraceReader(tmp_path / "c").trace_id == TraceReader(tmp_path / "d").trace_id
    assert_sound(tmp_path / "b")
    assert_sound(tmp_path / "c")
    assert_same(replayed(tmp_path / "c", spec), captured(tmp_path / "c"))


# Arrays that neither the numbering of rows nor the time series is part of.
INSTANT = (
    "machine.gpr", "machine.cp0", "machine.tlb", "machine.filter", "machine.ram", "memory.l1",
    "memory.l2", "memory.presence", "memory.dir", "memory.frame_at",
)  # fmt: skip


def test_the_instant_depends_on_nothing_but_the_guest(tmp_path, monkeypatch):
    """Neither the size of buffers nor how the run is cut into calls moves it."""
    spec = spec_at(4, 4, **RAM)
    found = []
    for number, (rows, budget) in enumerate([(1 << 20, 1 << 25), (700, 1 << 25), (1 << 20, 777)]):
        monkeypatch.setattr(capturing, "REF_BUFFER_ROWS", rows)
        monkeypatch.setattr(capturing, "BUDGET", budget)
        result = run_guest("radix", spec, tmp_path / str(number), TINY["radix"], save_at=2)
        found.append(result.checkpoint)
    states = [read_checkpoint(path).state for path in found]
    assert states[1].rows["refs"] == states[0].rows["refs"]
    assert states[1].rows["control"] > states[0].rows["control"], "ticks of many segments"
    assert {state.instructions for state in states} == {states[0].instructions}
    retired = [[cpu.retired for cpu in state.cpus] for state in states]
    assert retired[1] == retired[2] == retired[0]
    for name in INSTANT:
        for other in found[1:]:
            assert np.array_equal(load(found[0], name), load(other, name)), name
    assert checkpoint_id(read_checkpoint(found[2])) == checkpoint_id(read_checkpoint(found[0]))


def test_segments_close_where_they_would_have(tmp_path, monkeypatch):
    """Rows that the buffers held are not the resumed trace's, but count for its first segment."""
    monkeypatch.setattr(capturing, "REF_BUFFER_ROWS", 3000)
    spec = spec_at(4, 4, **RAM)
    whole = run_guest("database", spec, tmp_path / "whole", save_at=PHASES["database"]["join"])
    result = go_on(whole.checkpoint, tmp_path / "part")
    assert_goes_on(tmp_path / "whole", whole.checkpoint, tmp_path / "part")
    assert result.registers == whole.registers
    one, other = (TraceReader(tmp_path / name).segments for name in ("whole", "part"))
    assert len(other) > 3
    for ours, theirs in zip(reversed(other), reversed(one), strict=False):
        assert ours.last_seq == theirs.last_seq
        assert ours.counters == theirs.counters
    assert_sound(tmp_path / "part")
    assert_same(replayed(tmp_path / "part", spec), captured(tmp_path / "part"))


def test_a_trace_that_goes_on_is_seen_as_one(cases, tmp_path, cli):
    """Processes, phases and symbols in SQL are those that the whole trace has."""
    full, result, part, _ = cases[0]["database-8-full"]
    seq = read_checkpoint(result.checkpoint).state.seq

    def rows(trace, query):
        from disco_trace.report.database import connect

        with connect([trace]) as database:
            return database.rows(query)

    query = """SELECT process, mode, phase, symbol, kind, count(*) AS n FROM refs
               WHERE seq >= {} GROUP BY ALL ORDER BY ALL"""
    assert rows(part, query.format(0)) == rows(full, query.format(seq))
    ends = "SELECT cpu, phase, end_cycle FROM phases WHERE end_cycle > 0 ORDER BY ALL"
    clocks = [cpu.cycle for cpu in read_checkpoint(result.checkpoint).state.cpus]
    later = [row for row in rows(full, ends) if row["end_cycle"] > clocks[row["cpu"]]]
    assert rows(part, ends) == later
    inside = f"SELECT count(*) AS n FROM refs WHERE seq >= {seq}"
    from disco_trace.report.database import connect

    counts = []
    for trace in (full, part):
        with connect([trace], phase="query") as database:
            counts.append(database.rows(inside)[0]["n"])
    assert counts[0] == counts[1] > 1000


def test_no_events(tmp_path):
    """Without rows the results are the same, and a capture with rows can go on from one without."""
    spec = spec_at(2, 2, **RAM)
    bare = run_guest("radix", spec, tmp_path / "bare", TINY["radix"], save_at=2, no_events=True)
    full = run_guest("radix", spec, tmp_path / "full", TINY["radix"], save_at=2)
    parts = {
        "bare": go_on(bare.checkpoint, tmp_path / "a", no_events=True),
        "full": go_on(full.checkpoint, tmp_path / "b"),
        "late": go_on(bare.checkpoint, tmp_path / "c"),
        "less": go_on(full.checkpoint, tmp_path / "d", no_events=True),
    }
    for result in parts.values():
        assert result.per_cpu == parts["full"].per_cpu
        assert result.registers == full.registers
        assert_sound(result.path)
    assert_same(replayed(tmp_path / "c", spec), captured(tmp_path / "c"))


def test_limits_count_from_the_checkpoint(tmp_path):
    spec = spec_at(2, 2, **RAM)
    whole = run_guest("radix", spec, tmp_path / "t", TINY["radix"], save_at=2)
    result = go_on(whole.checkpoint, tmp_path / "a", max_instructions=12_345)
    assert result.totals["instructions"] >= 12_345
    counters = TraceReader(tmp_path / "a").counters["instructions"]
    assert counters == read_checkpoint(whole.checkpoint).state.instructions + 12_345
    names = {s["name"]: s["address"] for s in TraceReader(tmp_path / "t").symbols().to_pylist()}
    stopped = go_on(whole.checkpoint, tmp_path / "b", stop_at=names["power_off"])
    assert names["power_off"] in [row["pc"] for row in stopped.registers]


def test_prices_and_latencies_may_change(tmp_path):
    """Without feedback a resumed capture elsewhere is what a replay says of it, to the unit."""
    spec = spec_at(4, 4, **RAM, time__feedback="none")
    whole = run_guest("radix", spec, tmp_path / "t", TINY["radix"], save_at=2)
    part = go_on(whole.checkpoint, tmp_path / "part").path
    values = {"memory.remote_ns": 1234, "memory.l2_hit_ns": 50, "time.interval_us": 77}
    other = from_dict(TraceReader(part).manifest.config)
    from disco_trace.config import resolve

    other = resolve(base=other, sets=values)
    fresh = go_on(whole.checkpoint, tmp_path / "fresh", spec=other)
    assert_sound(fresh.path)
    assert_same(replayed(part, other), captured(fresh.path))
    assert Run.open(part / "runs" / "captured").fingerprint != captured(fresh.path).fingerprint


def test_a_checkpoint_of_its_own(tmp_path, cli):
    """It needs neither the trace that it was saved from nor the guest's image."""
    made = tmp_path / "mine.elf"
    shutil.copy(ROOT / "capture/images/radix.elf", made)
    answer = cli("capture", made, *TWO, "-o", tmp_path / "t", "--save-at", 2, *RADIX)
    assert answer["exit_code"] == 0
    place = tmp_path / "held"
    shutil.move(tmp_path / "t/checkpoints/2", place)
    shutil.rmtree(tmp_path / "t")
    made.unlink()
    again = cli("capture", "mine.elf", "--resume", place, "-o", tmp_path / "u")
    assert again["exit_code"] == 0
    assert again["registers"] == answer["registers"]
    assert again["checkpoint"] is None
    assert cli("check", place)["problems"] == []
    info = cli("info", place)
    assert info["guest"]["name"] == "mine"
    assert info["phase"] == "2"
    assert cli("info", tmp_path / "u")["start"]["checkpoint"] == info["checkpoint_id"]
    assert not check(tmp_path / "u")


def test_the_command_line(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    full = cli("capture", "radix", *TWO, "--save-at", "rank", *RADIX)
    assert full["checkpoint"] == "traces/radix-2cpu/checkpoints/rank"
    part = cli("capture", "radix", "--resume", full["checkpoint"], "--save-at", "never-mind")
    assert part["exit_code"] == 2
    assert "check (6)" in part["error"]["expected"]
    part = cli("capture", "radix", "--resume", f"{full['checkpoint']}/checkpoint.json",
               "--save-at", "1")  # fmt: skip
    assert part["path"] == "traces/radix-2cpu-rank"
    assert part["registers"] == full["registers"]
    assert part["warnings"] == ["phase 1 was not opened: no checkpoint was saved"]
    assert cli("info", "traces/radix-2cpu")["checkpoints"] == ["rank"]
    assert cli("info", "traces/radix-2cpu")["start"] is None
    assert cli("info", "traces/radix-2cpu-rank")["start"]["phase"] == "rank"
    assert cli("replay", "traces/radix-2cpu-rank")["totals"] == part["totals"]
    assert cli("capture", "radix", "--resume", full["checkpoint"])["exit_code"] == 2  # exists


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--machine", "flash8"), "--machine cannot be given with --resume"),
        (("--load", "checkpoint.json@0"), "--load cannot be given with --resume"),
        (("--entry", "0x80000000"), "--entry cannot be given with --resume"),
        (("--", "keys=1K"), "ARG cannot be given with --resume"),
        (("--set", "machine.cpus=4"), "a checkpoint cannot change machine.cpus"),
        (("--set", "memory.l2.size_bytes=64KiB"), "a checkpoint cannot change memory.l2"),
        (("--set", "time.feedback=none"), "a checkpoint cannot change time.feedback"),
        (("--policy", "migrate"), "a checkpoint cannot change placement.policy"),
        (("--set", "placement.reset_ms=1"), "a checkpoint cannot change placement.reset_ms"),
        (("--set", "machine.turn_cycles=1"), "a checkpoint cannot change machine.turn_cycles"),
        (("--force",), "the checkpoint lies in the trace that would be replaced"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_what_conflicts_is_refused(small, cli, monkeypatch, words, message):
    monkeypatch.chdir(small.parent)
    before = sorted(small.parent.rglob("*"))
    out = ("-o", small.parents[1]) if words == ("--force",) else ("-o", "nowhere")
    answer = cli("capture", "radix", "--resume", small, *out, *words)
    assert answer["exit_code"] == 2
    assert message in answer["error"]["message"]
    assert sorted(small.parent.rglob("*")) == before


def test_other_guests_are_refused(small, cli, tmp_path):
    answer = cli("capture", "database", "--resume", small, "-o", tmp_path / "t")
    assert answer["error"]["message"] == "the checkpoint is of another guest"
    (tmp_path / "radix.elf").write_bytes(b"\x7fELF built anew")
    answer = cli("capture", tmp_path / "radix.elf", "--resume", small, "-o", tmp_path / "t")
    assert "built anew" in answer["error"]["message"]
    answer = cli("capture", "radix", "--resume", small.parents[1], "-o", tmp_path / "t")
    assert answer["error"]["found"] == "a trace"
    assert str(small) in answer["error"]["hint"]
    answer = cli("capture", "radix", "--resume", tmp_path / "none", "-o", tmp_path / "t")
    assert answer["error"]["message"] == "no checkpoint here"
    assert not (tmp_path / "t").exists()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "t"
    spec = spec_at(2, 2, machine__ram_bytes="4MiB")
    return run_guest("radix", spec, path, TINY["radix"], save_at=2).checkpoint


def test_python_saves_and_resumes_too(tmp_path):
    whole = disco_trace.Trace.capture(
        "radix", args=TINY["radix"], out=tmp_path / "a", machine="uniprocessor", save_at="sort"
    )
    place = next((tmp_path / "a" / "checkpoints").iterdir())
    resumed = disco_trace.Trace.capture("radix", resume=place, out=tmp_path / "b")
    assert resumed.manifest.exit_reason == whole.manifest.exit_reason == "power-off"
    assert resumed.totals == go_on(place, tmp_path / "d").totals
    with pytest.raises(disco_trace.DiscoError, match="args cannot be given"):
        disco_trace.Trace.capture("radix", args=["keys=1"], resume=place, out=tmp_path / "c")
