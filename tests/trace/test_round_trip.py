from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disco_trace.errors import DiscoError
from disco_trace.trace.check import check
from disco_trace.trace.encoding import columns_of
from disco_trace.trace.reader import REPLAY_COLUMNS, TraceReader
from disco_trace.trace.schema import CONTROL, EVENT, PAGE, REF, REFS
from disco_trace.trace.writer import TraceWriter
from tests.trace.synthetic import CODE, MANIFEST, SYMBOLS, Walk, write_trace

NONE = (np.empty(0, REF), np.empty(0, PAGE), np.empty(0, EVENT))
ALL = tuple(c.name for c in REFS.columns)


@given(seed=st.integers(0, 1000), steps=st.lists(st.integers(0, 60), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, seed, steps):
    path = tmp_path_factory.mktemp("t") / "trace"
    walk = Walk(seed)
    written = []
    with TraceWriter(path, MANIFEST) as writer:
        for count in steps:
            walk.run(count)
            rows = walk.take()
            written.append(rows)
            writer.submit(*rows)
        writer.close(exit_reason="power-off")
    reader = TraceReader(path)
    assert reader.complete
    loaded = list(reader.iter_segments(columns=ALL, pages=True))
    assert len(loaded) == len(written)
    for data, (refs, pages, events) in zip(loaded, written, strict=True):
        assert data.n_refs == len(refs)
        for name in ALL:
            assert data.refs[name].dtype == REF[name]
            np.testing.assert_array_equal(data.refs[name], refs[name])
        np.testing.assert_array_equal(data.events, events)
        np.testing.assert_array_equal(data.ref_seqs(), refs["seq"])
        for name in data.pages:
            np.testing.assert_array_equal(data.pages[name], pages[name])
        assert len(pages) == (len(data.pages["seq"]) if data.pages else 0)
    assert check(path) == []


def test_replay_columns_are_what_numba_expects(tmp_path):
    write_trace(tmp_path / "t")
    data = TraceReader(tmp_path / "t").load(0)
    assert tuple(data.refs) == REPLAY_COLUMNS
    for values in (*data.refs.values(), data.events):
        assert values.flags.c_contiguous
        assert values.flags.writeable


def test_a_segment_without_references_has_empty_columns(tmp_path):
    walk = Walk()
    with TraceWriter(tmp_path / "t", MANIFEST) as writer:
        writer.submit(*walk.take())
        writer.close()
    data = TraceReader(tmp_path / "t").load(0)
    assert data.n_refs == 0
    assert {n: (len(v), v.dtype) for n, v in data.refs.items()} == {
        n: (0, REF[n]) for n in REPLAY_COLUMNS
    }
    assert len(data.events) == 2


def test_a_trace_without_rows_is_a_trace(tmp_path):
    with TraceWriter(tmp_path / "t", {**MANIFEST, "events": False}) as writer:
        writer.submit(*NONE)
        writer.close()
    reader = TraceReader(tmp_path / "t")
    assert reader.segments == []
    assert check(tmp_path / "t") == []
    assert reader.dataset("refs").to_table().num_rows == 0


def _one(path: Path, cuts: list[int], **manifest) -> str:
    """Write the same rows cut into other segments; return the id."""
    walk = Walk(7)
    walk.run(100)
    refs, pages, events = walk.take()
    last = int(max(refs["seq"][-1], events["seq"][-1]))
    with TraceWriter(path, {**MANIFEST, **manifest}) as writer:
        for low, high in zip([0, *cuts], [*cuts, last + 1], strict=True):
            inside = [r[(r["seq"] >= low) & (r["seq"] < high)] for r in (refs, pages, events)]
            writer.submit(*inside)
        assert writer.content_id() == writer.close().trace_id
    return TraceReader(path).trace_id


def test_the_id_depends_on_content_alone(tmp_path):
    name = _one(tmp_path / "a", [])
    assert name == _one(tmp_path / "elsewhere" / "b", [20, 90])
    assert name != _one(tmp_path / "c", [], seeds={"main": 2})


def test_the_id_of_a_prefix_is_its_own(tmp_path):
    write_trace(tmp_path / "a", segments=1)
    write_trace(tmp_path / "b", segments=2)
    assert TraceReader(tmp_path / "a").trace_id != TraceReader(tmp_path / "b").trace_id


def test_process_names_may_come_late(tmp_path):
    with TraceWriter(tmp_path / "t", MANIFEST) as writer:
        before = writer.content_id()
        writer.name_processes(["init", "sh"])
        assert writer.content_id() != before
        writer.close()
    assert TraceReader(tmp_path / "t").manifest.process_names == ["init", "sh"]


def test_sql_reads_the_dataset(tmp_path):
    written = write_trace(tmp_path / "t")
    reader = TraceReader(tmp_path / "t")
    connection = duckdb.connect()
    refs = reader.dataset("refs")
    connection.register("refs", refs)
    connection.register("syscalls", reader.dataset("exceptions"))
    expected = sum(int(r["work"].sum()) for r, _, _ in written)
    assert connection.execute("select sum(work) from refs").fetchall() == [(expected,)]
    codes = connection.execute("select distinct code, detail from syscalls").fetchall()
    assert codes == [(8, 4001)]


def test_parts_are_plain_parquet_for_other_tools(tmp_path):
    written = write_trace(tmp_path / "t", segments=1)
    part = tmp_path / "t" / "refs" / "part-00000.parquet"
    rows = duckdb.execute(f"select sum(vaddr), max(cycle), sum(way) from '{part}'").fetchall()
    refs = written[0][0]
    assert rows == [(int(refs["vaddr"].sum()), int(refs["cycle"].max()), int(refs["way"].sum()))]


def test_every_kind_survives(tmp_path):
    """One row of each kind with the largest value of each argument that its bounds allow."""
    events = np.zeros(len(CONTROL) + 1, EVENT)
    events["seq"] = np.arange(len(events))
    events["kind"][0] = CODE["contexts"]
    for row, kind in zip(events[1:], CONTROL, strict=True):
        row["kind"] = kind.code
        for column in kind.columns:
            limit = len(column.enum) - 1 if column.enum else np.iinfo(column.type).max
            most = {"guest_page": 255, "address": (256 << 12) - 1}
            row[column.arg] = most.get(column.name, limit)
        if kind.name == "contexts":
            row["a0"], row["a1"] = 1, 0
    with TraceWriter(tmp_path / "t", MANIFEST) as writer:
        writer.submit(*NONE[:2], events)
        writer.close()
    reader = TraceReader(tmp_path / "t")
    np.testing.assert_array_equal(reader.load(0).events, events)
    for kind in CONTROL:
        table = reader.dataset(kind.name).to_table()
        assert table.column_names == [c.name for c in columns_of(kind)]


def test_symbols_come_back(tmp_path):
    write_trace(tmp_path / "t")
    assert TraceReader(tmp_path / "t").symbols().to_pydict() == SYMBOLS


def test_contexts_are_in_the_order_of_their_ids(tmp_path):
    write_trace(tmp_path / "t")
    contexts = TraceReader(tmp_path / "t").contexts()
    assert contexts["id"].tolist() == [0, 1]
    assert contexts["vcpu"].tolist() == [0, 1]


def test_submit_returns_before_the_segment_is_written(tmp_path):
    """The next call waits, so that two sets of buffers suffice."""
    walk = Walk()
    with TraceWriter(tmp_path / "t", MANIFEST) as writer:
        walk.run(50)
        writer.submit(*walk.take())
        assert writer._pending is not None
        writer.flush()
        assert writer._pending is None
        assert (tmp_path / "t" / "segments.jsonl").read_bytes().count(b"\n") == 1
        writer.close()


def _write_all(path, *segments):
    with TraceWriter(path, MANIFEST) as writer:
        for rows in segments:
            writer.submit(*rows)
        writer.close()


@pytest.mark.parametrize("shift", [1, -1])
def test_a_gap_in_the_sequence_is_our_bug(tmp_path, shift):
    walk = Walk()
    walk.run(20)
    first = walk.take()
    walk.run(5)
    refs, pages, events = walk.take()
    refs["seq"] += np.uint64(shift % 2**64)
    events["seq"] += np.uint64(shift % 2**64)
    with pytest.raises(DiscoError) as caught:
        _write_all(tmp_path / "t", first, (refs, pages, events))
    assert caught.value.exit_code == 70
    assert len(TraceReader(tmp_path / "t").segments) == 1
    assert TraceReader(tmp_path / "t").manifest.exit_reason == "write failed"


def test_a_value_too_large_for_its_column_is_our_bug(tmp_path):
    walk = Walk()
    walk.event(0, "exceptions", 0, 256)
    with pytest.raises(DiscoError, match=r"exceptions\.code"):
        _write_all(tmp_path / "t", walk.take())
