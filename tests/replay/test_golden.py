"""Traces of every format version stay readable, and keep their meaning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from disco_trace.config import from_dict, resolve
from disco_trace.replay.engine import replay
from disco_trace.trace.check import check
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.run import Run
from disco_trace.trace.schema import FORMAT_VERSION, KINDS
from tests.replay.runs import assert_same, captured, replayed, rows_of

GOLDEN = Path(__file__).parents[2] / "traces" / "golden"
TRACES = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
MOST_BYTES = 512 << 10


@pytest.fixture(params=TRACES)
def golden(request, tmp_path):
    """Copy a golden trace: replays write into its folder."""
    return shutil.copytree(GOLDEN / request.param, tmp_path / request.param)


def test_every_version_has_one():
    versions = {TraceReader(GOLDEN / name).manifest.format_version for name in TRACES}
    assert versions == set(range(1, FORMAT_VERSION + 1))
    assert set(EXPECTED) == set(TRACES)


def test_they_are_small_and_say_nothing_of_their_maker():
    files = [path for path in GOLDEN.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert not [path for path in files if path.name == "provenance.json"]


def test_a_golden_trace_is_sound(golden):
    assert check(golden) == []
    reader = TraceReader(golden)
    assert reader.complete
    assert reader.trace_id == reader.manifest.trace_id
    assert reader.trace_id == EXPECTED[golden.name]["trace_id"]
    assert reader.rows == EXPECTED[golden.name]["rows"]


def test_its_replay_gives_the_recorded_run(golden):
    spec = from_dict(TraceReader(golden).manifest.config)
    expected = captured(golden)
    shutil.rmtree(golden / "runs")
    assert_same(replayed(golden, spec), expected)


def test_its_replays_elsewhere_give_the_recorded_totals(golden):
    base = from_dict(TraceReader(golden).manifest.config)
    for point in EXPECTED[golden.name]["points"]:
        run = Run.open(replay(golden, resolve(base=base, sets=point["set"])).path)
        assert {name: run.totals[name] for name in point["totals"]} == point["totals"], point


def test_together_they_hold_what_a_guest_can_do():
    """Between them: every kind of row and reference that this version's machine records."""
    kinds, references = set(), set()
    for name in TRACES:
        reader = TraceReader(GOLDEN / name)
        kinds |= set(reader.rows)
        references |= set(rows_of(GOLDEN / name, 0)[0]["kind"].tolist())
    assert kinds == {kind.name for kind in KINDS}
    assert {0, 1, 2, 3, 5, 6, 8} <= references
