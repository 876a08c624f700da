"""Whatever a trace contains, a replay ends with results or with one clear error: never a crash.

The rows are spoilt and written anew, so that every checksum is right and only the values are not.
Run with NUMBA_BOUNDSCHECK=1 to see the reads that would go unnoticed.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disco_trace.config import from_dict, resolve
from disco_trace.errors import DiscoError
from disco_trace.replay.engine import replay
from disco_trace.trace.check import check
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.schema import CONTROL, EVENT, REF
from tests.replay.runs import rewrite, run_guest, spec_at

MOVING = {
    "machine__ram_bytes": "4MiB",
    "memory__l2__size_bytes": "8KiB",
    "placement__policy": "migrate-replicate",
    "placement__trigger_misses": 4,
    "placement__sharing_misses": 2,
    "placement__retouch_phase": 3,
}
# Where sums wrap and signs turn.
EDGES = [0, 1, 2, 7, 63, 64, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1,
         2**63, 2**64 - 1]  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "t"
    run_guest("radix", spec_at(2, 2, **MOVING), path, ["keys=256", "bits=4"])
    return path


def outcome(trace) -> str:
    """Replay a trace in two ways; return "done", or the error's message."""
    try:
        spec = from_dict(TraceReader(trace).manifest.config)
        for sets in ([], ["placement.policy=first-touch", "memory.l2.replacement=random"]):
            replay(trace, resolve(base=spec, sets=sets), record_misses=not sets)
    except DiscoError as error:
        return one_line(error)
    return "done"


def one_line(error: DiscoError) -> str:
    assert error.message
    assert "\n" not in error.message
    return error.message


def test_the_good_one_is_done(good, tmp_path):
    assert outcome(rewrite(good, tmp_path / "t")) == "done"


@st.composite
def spoilings(draw: st.DrawFn) -> list[tuple[bool, str, float, int, bool]]:
    """Draw what to spoil: (reference or control row, field, where, value, from there on)."""
    one = st.tuples(
        st.booleans(),
        st.integers(0, 20),
        st.floats(0, 1),
        st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1)),
        st.booleans(),
    )
    found = []
    for reference, field, where, value, rest in draw(st.lists(one, min_size=1, max_size=4)):
        names = [n for n in (REF if reference else EVENT).names if n != "seq"]
        found.append((reference, names[field % len(names)], where, value, rest))
    return found


def fitting(rows: np.ndarray, name: str, value: int) -> np.ndarray:
    """Return a value for each row, cut to what its column can hold on disk."""
    if rows.dtype == REF or not name.startswith("a"):
        return np.full(len(rows), value % 2 ** (8 * rows.dtype[name].itemsize), np.uint64)
    out = np.full(len(rows), value % 2**64, np.uint64)
    for kind in CONTROL:
        types = {column.arg: np.dtype(column.type) for column in kind.columns}
        if name in types:
            out[rows["kind"] == kind.code] = value % 2 ** (8 * types[name].itemsize)
    return out


def spoil(found):
    def change(refs, pages, events):
        for reference, name, where, value, rest in found:
            rows = refs if reference else events
            at = int(where * (len(rows) - 1))
            part = rows[at : None if rest else at + 1]
            part[name] = fitting(part, name, value)

    return change


def try_spoilt(good, folder, found):
    try:
        trace = rewrite(good, folder / "t", spoil(found))
    except (DiscoError, ValueError, KeyError, IndexError):
        return  # the writer's own refusal: a kind that does not exist
    said = outcome(trace)
    # What the rows do to the first level only a replay sees; everything else check sees, too.
    assert said in ("done", "the trace contradicts itself") or check(trace)
    shutil.rmtree(folder)


@given(found=spoilings())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_spoilt_rows(good, tmp_path_factory, found):
    try_spoilt(good, tmp_path_factory.mktemp("spoilt"), found)


@pytest.mark.slow
@given(found=spoilings())
@settings(max_examples=1000, deadline=None)
def test_many_spoilt_rows(good, tmp_path_factory, found):
    try_spoilt(good, tmp_path_factory.mktemp("spoilt"), found)


@pytest.mark.parametrize("field", ["cpu", "context", "kind", "way", "vaddr", "guest_page", "work"])
@pytest.mark.parametrize("value", [3, 200, 2**32 - 1, 2**63])
def test_each_field_of_every_reference(good, tmp_path, field, value):
    def change(refs, pages, events):
        refs[field] = value % 2 ** (8 * refs.dtype[field].itemsize)

    said = outcome(rewrite(good, tmp_path / "t", change))
    harmless = ("work", "vaddr", "context")
    assert field in harmless or said != "done"


@pytest.mark.parametrize("argument", range(6))
@pytest.mark.parametrize("value", [1, 2**31, 2**63, 2**64 - 1])
def test_each_argument_of_every_control_row(good, tmp_path, argument, value):
    """Contexts are declared by control rows: those keep theirs."""

    def change(refs, pages, events):
        keep = events["kind"] == 3
        name = f"a{argument}"
        events[name] = np.where(keep, events[name], fitting(events, name, value))

    outcome(rewrite(good, tmp_path / "t", change))


def test_shuffled_references(good, tmp_path):
    """Rows that do not fit the first level before them: refused, or merely other results."""

    def change(refs, pages, events):
        seqs = refs["seq"].copy()
        np.random.default_rng(1).shuffle(refs)
        refs["seq"] = seqs

    assert "contradicts itself" in outcome(rewrite(good, tmp_path / "t", change))


@pytest.mark.parametrize(
    "change",
    [
        {"cpus": 1},
        {"cpus": 64},
        {"nodes": 9},
        {"ram_pages": [1]},
        {"ram_pages": [1 << 39]},
        {"l1_ways": 1},
        {"l1_ways": 256},
        {"guest": {"name": "x", "sha256": "", "phases": {"40000": "far"}}},
    ],
    ids=str,
)
def test_a_manifest_that_contradicts_the_rows(good, tmp_path, change):
    outcome(rewrite(good, tmp_path / "t", None, **change))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("machine.cpus", 1),
        ("machine.cpus", 64),
        ("machine.ram_bytes", 1 << 20),
        ("machine.ram_bytes", 256 << 20),
        ("machine.l1d.ways", 1),
        ("machine.l1d.size_bytes", 1024),
        ("machine.l1d.line_bytes", 64),
        ("machine.l1i.size_bytes", 1024),
        ("machine.granule_bytes", 4096),
        ("machine.clock_mhz", 10_000),
        ("machine.clock_mhz", 0),
        ("machine.nodes", 16),
        ("memory.l2.size_bytes", -1),
        ("memory.l2.ways", "two"),
        ("memory.remote_ns", 10**6),
        ("placement.node", 15),
        ("placement.policy", "nearest"),
        ("costs.prices.migrate_us", 10**18),
        ("time.interval_us", 1),
        ("machine.colour", "blue"),
    ],
)
def test_a_configuration_that_contradicts_the_rows(good, tmp_path, path, value):
    config = json.loads((good / "manifest.json").read_text())["config"]
    *groups, name = path.split(".")
    at = config
    for group in groups:
        at = at[group]
    at[name] = value
    outcome(rewrite(good, tmp_path / "t", None, config=config))


def whole(trace):
    """Return the files of a trace that a replay reads."""
    return sorted(
        str(path.relative_to(trace))
        for path in trace.rglob("*")
        if path.is_file() and "runs" not in path.parts
    )


@given(data=st.data())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_changed_bytes(good, tmp_path_factory, data):
    trace = tmp_path_factory.mktemp("bytes") / "t"
    shutil.copytree(good, trace)
    shutil.rmtree(trace / "runs")
    name = data.draw(st.sampled_from(whole(trace)))
    content = bytearray((trace / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (trace / name).write_bytes(content)
    said = outcome(trace)
    # Page references, symbols and provenance are no input of a replay.
    read = name.endswith(".parquet") and name.split("/")[0] not in ("pages", "symbols")
    assert not read or said != "done" or content == (good / name).read_bytes()
    shutil.rmtree(trace.parent)


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_files_cut_short(good, tmp_path, cut):
    for name in whole(good):
        trace = shutil.copytree(good, tmp_path / name.replace("/", "-"))
        data = (trace / name).read_bytes()[:cut]
        (trace / name).write_bytes(data)
        said = outcome(trace)
        if name.split("/")[0] not in ("pages", "symbols", "provenance.json"):
            assert said != "done", name


def test_a_refused_replay_leaves_nothing(good, tmp_path):
    def change(refs, pages, events):
        refs["way"][300:] ^= 1

    trace = rewrite(good, tmp_path / "t", change)
    assert outcome(trace) != "done"
    assert [p for p in (trace / "runs").rglob("*") if p.is_file()] == []
