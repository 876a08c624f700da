"""Each rule of the checker finds its own breach, and nothing else is to blame."""

import json
import shutil

import numpy as np
import pytest

from disco_trace.trace.check import check, check_run
from disco_trace.trace.schema import WAIT_EVENTS
from disco_trace.trace.writer import TraceWriter
from tests.trace.synthetic import CODE, MANIFEST, SYMBOLS, Walk, write_trace
from tests.trace.test_damage import set_event, set_ref, write

TICKS, WAITS, PHASES = CODE["ticks"], CODE["waits"], CODE["phases"]


def rows_of(events, kind, cpu=0):
    return np.flatnonzero((events["kind"] == CODE[kind]) & (events["cpu"] == cpu))


def backwards(refs, pages, events):
    refs["cycle"][np.flatnonzero(refs["cpu"] == 0)[5]] = 0


def overworked(refs, pages, events):
    refs["work"][np.flatnonzero(refs["cpu"] == 1)[5]] = 100_000


def swapped(refs, pages, events):
    at = np.flatnonzero(np.diff(refs["seq"]) == 1)[0]
    refs["seq"][[at, at + 1]] = refs["seq"][[at + 1, at]]


def late_context(refs, pages, events):
    events["seq"][[0, 1]] = 0, 1
    declared = rows_of(events, "contexts", 1)[0]
    last = rows_of(events, "ticks", 0)[0]
    events[[declared, last]] = events[[last, declared]]
    events["seq"][[declared, last]] = events["seq"][[last, declared]]


def two_begins(refs, pages, events):
    events["a0"][rows_of(events, "waits")[1]] = WAIT_EVENTS.index("begin")


def deep(refs, pages, events):
    events["a3"][rows_of(events, "phases")[0]] = 2


def unretired(refs, pages, events):
    events["a2"][rows_of(events, "phases")[-1]] = 0


def wrong_mode(refs, pages, events):
    events["a2"][rows_of(events, "returns")[0]] = 1


def beyond_its_page(refs, pages, events):
    events["a5"][np.flatnonzero(events["kind"] == CODE["dma"])[0]] = 97


def stray_page(refs, pages, events):
    pages["seq"][0] = 10**6


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (backwards, "clock"),
        (overworked, "clock"),
        (swapped, "sequence"),
        (stray_page, "sequence"),
        (late_context, "context"),
        (two_begins, "wait"),
        (deep, "phase"),
        (unretired, "phase"),
        (wrong_mode, "mode"),
        (beyond_its_page, "dma"),
    ],
)
def test_a_breach_is_found(tmp_path, change, rule):
    assert rule in {p.rule for p in check(write(tmp_path / "t", change))}


@pytest.mark.parametrize("kind", ["packets", "dma", "tlb_ops"])
def test_what_a_device_does_is_in_a_context_of_its_own(tmp_path, kind):
    """A row after a return, in another mode: no breach if it is the device's."""

    def follow(refs, pages, events):
        mine = np.flatnonzero(events["cpu"] == 0)
        at = int(np.flatnonzero(events["kind"][mine] == CODE["returns"])[0])
        back, between, after = mine[at : at + 3]
        events["a2"][back] = events["context"][after] & 3
        events["kind"][between] = CODE[kind]
        events["context"][between] = events["context"][after] ^ 1

    rules = {problem.rule for problem in check(write(tmp_path / "t", follow))}
    assert ("mode" in rules) == (kind == "tlb_ops")


def test_an_untouched_trace_is_good(tmp_path):
    assert check(write(tmp_path / "t", lambda *rows: None)) == []


def test_state_is_carried_from_segment_to_segment(tmp_path):
    walk = Walk(5)
    with TraceWriter(tmp_path / "t", MANIFEST) as writer:
        walk.run(40)
        writer.submit(*walk.take())
        walk.clock = [0, 0]
        walk.run(40)
        writer.submit(*walk.take())
        writer.close()
    found = check(tmp_path / "t")
    assert {(p.rule, p.segment) for p in found} == {("clock", 1)}
    assert len(found) == 2


def test_a_rule_broken_by_every_row_is_told_a_few_times(tmp_path):
    def change(refs, pages, events):
        refs["cycle"] = 0

    found = check(write(tmp_path / "t", change))
    assert 1 <= len([p for p in found if p.rule == "clock"]) <= 5
    assert "rows)" in found[0].message


def test_damage_in_one_segment_hides_no_other(tmp_path):
    write_trace(tmp_path / "t", segments=4, steps=50)
    (tmp_path / "t" / "refs" / "part-00001.parquet").unlink()
    (tmp_path / "t" / "ticks" / "part-00003.parquet").unlink()
    assert [(p.rule, p.segment) for p in check(tmp_path / "t")] == [("parts", 1), ("parts", 3)]


def _edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _edit_line(path, change):
    lines = path.read_text().splitlines()
    segment = json.loads(lines[1])
    change(segment)
    path.write_text("\n".join([lines[0], json.dumps(segment), *lines[2:]]) + "\n")


@pytest.fixture
def trace(tmp_path):
    write_trace(tmp_path / "t", segments=3, steps=50)
    return tmp_path / "t"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda s: s["rows"].update(refs=1), "segments"),
        (lambda s: s["content"].update(refs="00"), "segments"),
        (lambda s: s["counters"].update(instructions=0), "counters"),
    ],
)
def test_a_segment_line_must_be_what_the_parts_say(trace, change, rule):
    _edit_line(trace / "segments.jsonl", change)
    assert rule in {p.rule for p in check(trace)}


@pytest.mark.parametrize(
    ("file", "change", "rule"),
    [
        ("manifest.json", lambda d: d["totals"].update(instructions=1), "totals"),
        ("manifest.json", lambda d: d.update(seeds={"main": 9}), "id"),
        ("runs/captured/run.json", lambda d: d["totals"].update(cycles=1), "runs"),
        ("runs/captured/run.json", lambda d: d["per_cpu"][1].update(upgrades=1), "runs"),
        ("runs/captured/run.json", lambda d: d.update(trace_id="11"), "runs"),
    ],
)
def test_totals_must_be_sums(trace, file, change, rule):
    _edit(trace / file, change)
    assert {p.rule for p in check(trace)} >= {rule}


def test_accounts_must_be_what_the_rows_add_up_to(tmp_path):
    """Rows of one guest under the accounts of another."""
    write_trace(tmp_path / "a", seed=1)
    write_trace(tmp_path / "b", seed=2)
    shutil.rmtree(tmp_path / "a" / "runs")
    shutil.copytree(tmp_path / "b" / "runs", tmp_path / "a" / "runs")
    found = {p.rule: p for p in reversed(check(tmp_path / "a"))}
    assert {"accounts", "runs"} <= set(found)


def test_a_leftover_part_is_an_error_in_a_complete_trace_only(trace):
    shutil.copy(trace / "refs" / "part-00000.parquet", trace / "refs" / "part-00009.parquet")
    assert [(p.rule, p.severity) for p in check(trace)] == [("files", "error")]
    _edit(trace / "manifest.json", lambda d: d.update(complete=False, segments=None))
    assert [(p.rule, p.severity) for p in check(trace)] == [("files", "warning")]


def test_a_run_alone(trace):
    run = trace / "runs" / "captured"
    assert check_run(run) == []
    (run / "heat.parquet").write_bytes(b"")
    assert [p.rule for p in check_run(run)] == ["runs"]


def test_progress_is_told(trace):
    seen = []
    check(trace, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_problem_is_one_line(tmp_path):
    for change in (set_ref("cpu", 9), set_event("ticks", "cycle", 0)):
        (tmp_path / "t").exists() and shutil.rmtree(tmp_path / "t")
        for problem in check(write(tmp_path / "t", change)):
            assert "\n" not in str(problem)
            assert str(problem).startswith("error: ")


def test_symbols_are_part_of_the_id(tmp_path):
    for name, symbols in (("a", SYMBOLS), ("b", {**SYMBOLS, "size": [64, 1]})):
        with TraceWriter(tmp_path / name, MANIFEST, symbols=symbols) as writer:
            writer.close()
    ids = [json.loads((tmp_path / n / "manifest.json").read_text())["trace_id"] for n in "ab"]
    assert ids[0] != ids[1]
