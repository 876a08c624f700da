"""Replays of a trace that goes on from a checkpoint: exact, or marked where they cannot be."""

from __future__ import annotations

import json
import shutil

import msgspec
import numpy as np
import pytest

from disco_trace.config import from_dict, resolve
from disco_trace.errors import DiscoError
from disco_trace.memory import layout
from disco_trace.memory.layout import D_OWNER, build
from disco_trace.replay.engine import replay
from disco_trace.replay.start import own_dirty_lines
from disco_trace.trace.arrays import write_array
from disco_trace.trace.check import check
from disco_trace.trace.manifest import read_manifest, write_manifest
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.run import Run
from disco_trace.trace.state import STATE, STATE_FOLDER, read_record, record_id
from tests.capture.checkpoints import go_on
from tests.replay.runs import TINY, assert_same, captured, replayed, run_guest, spec_at

MOVING = {
    "machine__ram_bytes": "4MiB",
    "memory__l2__size_bytes": "16KiB",
    "placement__policy": "migrate-replicate",
    "placement__initial": "first-touch",
    "placement__trigger_misses": 8,
    "placement__sharing_misses": 4,
}


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """Return a static trace without feedback and a moving one, both from a checkpoint."""
    folder = tmp_path_factory.mktemp("state")
    made = {}
    for name, sets in (
        ("static", {"machine__ram_bytes": "4MiB", "time__feedback": "none"}),
        ("moving", MOVING),
    ):
        spec = spec_at(4, 4, **sets)
        whole = run_guest("radix", spec, folder / name, TINY["radix"], save_at=2)
        made[name] = go_on(whole.checkpoint, folder / f"{name}-part").path
    return made


def wanted(trace, *words):
    return resolve(base=from_dict(TraceReader(trace).manifest.config), sets=words)


COLD = {
    "memory.l2.size_bytes=64KiB": "second level",
    "memory.l2.ways=1": "second level",
    "memory.l2.line_bytes=512": "second level",
    "memory.l2.replacement=random": "second level",
    "memory.protocol=msi": "second level",
    "machine.nodes=2": "page map",
    "placement.policy=first-touch": "page map",
    "placement.policy=round-robin": "page map",
}


@pytest.mark.parametrize("name", ["static", "moving"])
@pytest.mark.parametrize("word", COLD)
def test_another_second_level_or_map_begins_cold(traces, name, word):
    trace = traces[name]
    result = replay(trace, wanted(trace, word), force=True)
    path = word.split("=")[0]
    assert result.fidelity[path] == "approximate"
    assert len(result.warnings) == 1
    assert f"another {COLD[word]} ({path})" in result.warnings[0]
    assert "cold" in result.warnings[0]
    run = Run.open(result.path)
    assert run.fidelity == {"*": "approximate"}
    # What lies above the second level is exact all the same.
    own = captured(trace).totals
    for metric in ("instructions", "work_cycles", "l1i_misses", "l1d_misses", "tlb_misses"):
        assert run.totals[metric] == own[metric], metric
    if "line_bytes" not in word:
        assert run.totals["cold_misses"] > own["cold_misses"]
    again = replay(trace, wanted(trace, word))
    assert again.reused
    assert again.warnings == result.warnings


@pytest.mark.parametrize(
    "words",
    [("memory.remote_ns=2000", "memory.dirty_ns=100"), ("placement.node=1",),
     ("time.interval_us=10",), ("costs.prices.migrate_us=9",), ("placement.reset_ms=1",)],
    ids=lambda words: words[0],
)  # fmt: skip
def test_what_leaves_no_mark_keeps_the_state(traces, words):
    trace = traces["static"]
    result = replay(trace, wanted(trace, *words))
    assert result.warnings == []
    assert set(result.fidelity.values()) == {"exact"}
    own = captured(trace).totals
    for metric in ("local_misses", "remote_misses", "dirty_misses", "cold_misses", "l2_hits"):
        assert result.totals[metric] == own[metric]


def test_counters_of_another_interval_begin_anew(traces):
    trace = traces["moving"]
    result = replay(trace, wanted(trace, "placement.reset_ms=1"))
    assert result.fidelity["placement.reset_ms"] == "approximate"
    assert "counters" in result.warnings[0]


def test_thresholds_use_the_state(traces):
    trace = traces["moving"]
    result = replay(trace, wanted(trace, "placement.trigger_misses=4"))
    assert result.warnings == []
    assert result.fidelity["placement.trigger_misses"] == "no feedback"


def test_identity(traces):
    for trace in traces.values():
        assert_same(replayed(trace, wanted(trace)), captured(trace))


def test_a_phase_of_it(traces):
    trace = traces["static"]
    run = replay(trace, wanted(trace), phase="permute")
    assert 0 < run.totals["l2_misses"] < captured(trace).totals["l2_misses"]


def test_owners_are_those_of_the_first_level():
    """Rebuilt from presence: line by line, as a page that is placed gives them."""
    for line, expected in ((128, 1), (64, 2), (512, 1)):
        spec = resolve(
            machine="flash4", sets=["machine.ram_bytes=1MiB", f"memory.l2.line_bytes={line}"]
        )
        m = build(spec, contexts=4)
        frame, page = 7, 3
        m.frame_at.reshape(-1, spec.machine.nodes)[page] = frame
        m.frame_page[frame] = page
        granule = (page << 12) // 128 + 4
        m.presence[2 * granule + 1] = 2 * 256 + 3
        m.presence[2 * ((200 << 12) // 128) + 1] = 256 + 1  # of a page without a frame
        own_dirty_lines(m)
        owners = m.dir[D_OWNER::4]
        first = ((frame << 12) + 4 * 128) // line
        assert np.flatnonzero(owners).tolist() == [first + n for n in range(expected)]
        assert set(owners[owners != 0]) == {(3 + 1) | layout.OWNER_DIRTY}


def spoil(trace, out, name, change):
    """Copy a resumed trace with one array of its state changed, and every hash right again."""
    shutil.copytree(trace, out, ignore=shutil.ignore_patterns("runs"))
    folder = out / STATE_FOLDER
    document = json.loads((folder / STATE).read_text())
    entry = read_record(folder).state.arrays[name]
    array = np.zeros(entry.shape, entry.dtype)
    from disco_trace.trace.arrays import read_array

    read_array(folder, name, entry, array)
    document["state"]["arrays"][name] = msgspec.to_builtins(
        write_array(folder, name, change(array))
    )
    (folder / STATE).write_text(json.dumps(document))
    manifest = read_manifest(out)
    manifest = msgspec.structs.replace(
        manifest, state=record_id(read_record(folder)), trace_id=None
    )
    write_manifest(out, manifest)
    return out


def changed(index, value):
    def change(array):
        array.reshape(-1)[index] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [("memory.l1", 0, 1 << 50), ("memory.l2", 0, -1), ("memory.dir", 3, 1 << 30),
     ("memory.frame_at", 5, 1 << 30), ("memory.cpu", layout.C_CONTEXT, 1 << 20),
     ("memory.cpu", layout.C_NODE, 7), ("memory.fill", layout.F_MISSES, 99),
     ("memory.presence", 0, -1), ("memory.free", 0, -1)],
)  # fmt: skip
def test_impossible_states_are_refused(traces, tmp_path, name, index, value):
    bad = spoil(traces["moving"], tmp_path / "bad", name, changed(index, value))
    for words in ((), ("memory.l2.size_bytes=64KiB",)):
        with pytest.raises(DiscoError, match="impossible state") as caught:
            replay(bad, wanted(bad, *words))
        assert str(bad) in str(caught.value)
    assert not (bad / "runs").exists() or not any((bad / "runs").iterdir())


def test_damaged_states_are_found(traces, tmp_path):
    whole = shutil.copytree(traces["static"], tmp_path / "t")
    file = whole / STATE_FOLDER / "memory.l2.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert [p.rule for p in check(whole)] == ["state"]
    with pytest.raises(DiscoError, match="damaged"):
        replay(whole, wanted(whole))
    # Another state, whole in itself, is not this trace's.
    shutil.rmtree(whole / STATE_FOLDER)
    shutil.copytree(traces["moving"] / STATE_FOLDER, whole / STATE_FOLDER)
    assert [p.rule for p in check(whole)] == ["format"]
    with pytest.raises(DiscoError, match="not this trace's"):
        replay(whole, from_dict(read_manifest(whole).config))
    shutil.rmtree(whole / STATE_FOLDER)
    with pytest.raises(DiscoError, match="is missing"):
        replay(whole, from_dict(read_manifest(whole).config))
    manifest = read_manifest(whole)
    write_manifest(whole, msgspec.structs.replace(manifest, state=None))
    with pytest.raises(DiscoError, match="start is not what the state says"):
        read_manifest(whole)
