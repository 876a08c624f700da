import errno

import numpy as np
import pytest

from disco_trace.errors import DiscoError
from disco_trace.trace import encoding, writer
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.run import Run, RunWriter
from disco_trace.trace.schema import N_METRICS
from disco_trace.trace.storage import disk_errors
from disco_trace.trace.writer import TraceWriter
from tests.trace.synthetic import MANIFEST, Walk, write_trace


def files(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_without_force_nothing_is_touched(tmp_path):
    write_trace(tmp_path / "t")
    before = files(tmp_path)
    with pytest.raises(DiscoError, match="exists") as caught:
        TraceWriter(tmp_path / "t", MANIFEST)
    assert "--force" in caught.value.hint
    assert files(tmp_path) == before


def test_force_replaces_at_the_close(tmp_path):
    write_trace(tmp_path / "t", seed=1)
    before = TraceReader(tmp_path / "t").trace_id
    walk = Walk(2)
    walk.run(10)
    writing = TraceWriter(tmp_path / "t", MANIFEST, force=True)
    writing.submit(*walk.take())
    writing.flush()
    assert TraceReader(tmp_path / "t").trace_id == before
    name = writing.close().trace_id
    assert TraceReader(tmp_path / "t").trace_id == name != before
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_force_replaces_nothing_but_traces(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    (tmp_path / "file").write_text("x")
    for name in ("home", "file"):
        with pytest.raises(DiscoError, match="not ours"):
            TraceWriter(tmp_path / name, MANIFEST, force=True)
    write_trace(tmp_path / "t")
    with pytest.raises(DiscoError, match="not ours"):
        RunWriter(tmp_path / "t", {}, force=True)
    assert (tmp_path / "home" / "letter").read_text() == "dear"


def test_abandon_leaves_what_was_there(tmp_path):
    write_trace(tmp_path / "t")
    before = files(tmp_path)
    TraceWriter(tmp_path / "t", MANIFEST, force=True).abandon()
    assert files(tmp_path) == before


def test_an_empty_directory_may_be_filled(tmp_path):
    (tmp_path / "t").mkdir()
    write_trace(tmp_path / "t")
    assert TraceReader(tmp_path / "t").complete


@pytest.mark.parametrize("force", [False, True])
def test_two_writers_do_not_share_a_place(tmp_path, force):
    first = TraceWriter(tmp_path / "t", MANIFEST)
    with pytest.raises(DiscoError):
        TraceWriter(tmp_path / "t", MANIFEST, force=force)
    first.close()
    second = TraceWriter(tmp_path / "t", MANIFEST, force=True)
    with pytest.raises(DiscoError, match="another process"):
        TraceWriter(tmp_path / "t", MANIFEST, force=True)
    second.close()


def full_disk(*args):
    raise OSError(errno.ENOSPC, "No space left on device", "part")


def write_then_fill(path, monkeypatch, **options):
    """Write one segment; the disk fills up with the second."""
    walk = Walk()
    with TraceWriter(path, MANIFEST, **options) as writing:
        walk.run(20)
        writing.submit(*walk.take())
        writing.flush()
        monkeypatch.setattr(writer, "encode", full_disk)
        walk.run(20)
        writing.submit(*walk.take())
        writing.submit(*walk.take())


def test_a_full_disk_is_told_at_the_next_call_and_the_prefix_stays(tmp_path, monkeypatch):
    with pytest.raises(DiscoError, match="disk is full") as caught:
        write_then_fill(tmp_path / "t", monkeypatch)
    assert caught.value.exit_code == 3
    reader = TraceReader(tmp_path / "t")
    assert (reader.complete, reader.manifest.exit_reason) == (False, "write failed")
    assert reader.load(0).n_refs == 20


def test_a_failed_force_keeps_the_good_trace(tmp_path, monkeypatch):
    write_trace(tmp_path / "t")
    before = files(tmp_path)
    with pytest.raises(DiscoError, match="disk is full"):
        write_then_fill(tmp_path / "t", monkeypatch, force=True)
    assert files(tmp_path) == before


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiscoError) as caught:
        TraceWriter(tmp_path / "file" / "t", MANIFEST)
    assert "\n" not in str(caught.value)


def test_other_errors_of_the_system_are_the_users_to_mend(tmp_path):
    with pytest.raises(DiscoError, match="cannot write") as caught, disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", "x")
    assert caught.value.exit_code == 2


def test_a_run_appears_whole(tmp_path):
    run = RunWriter(tmp_path / "runs" / "captured", {"a": 1})
    run.accounts(np.zeros((1, 4, N_METRICS), "u8"))
    assert not (tmp_path / "runs" / "captured").exists()
    run.close()
    assert Run.open(tmp_path / "runs" / "captured").spec == {"a": 1}
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["captured"]


def test_a_run_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), RunWriter(tmp_path / "runs" / "x", {}):
        raise RuntimeError
    assert list((tmp_path / "runs").iterdir()) == []


def test_every_column_has_an_encoding():
    for kind, schema in encoding.SCHEMAS.items():
        options = encoding.parquet_options(kind, schema)
        named = {*options["use_dictionary"], *options["column_encoding"]}
        assert named == set(schema.names)
