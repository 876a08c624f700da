"""Whatever the files contain, a reader answers with one clear error or right data."""

import contextlib
import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disco_trace.errors import DiscoError
from disco_trace.trace.check import check
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.schema import FORMAT_VERSION
from disco_trace.trace.writer import TraceWriter
from tests.trace.synthetic import CODE, MANIFEST, Walk, write_trace


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "t"
    write_trace(path, segments=2, steps=60)
    return path


@pytest.fixture
def trace(good, tmp_path):
    return shutil.copytree(good, tmp_path / "t")


def read_all(path):
    reader = TraceReader(path)
    reader.symbols()
    return list(reader.iter_segments(pages=True))


def refused(path) -> DiscoError:
    with pytest.raises(DiscoError) as caught:
        read_all(path)
    assert caught.value.file
    assert check(path), "the checker must see it, too"
    return caught.value


def test_a_garbled_part(trace):
    part = trace / "refs" / "part-00001.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 0x10
    part.write_bytes(data)
    error = refused(trace)
    assert error.file == str(part)
    assert error.expected.startswith("sha256")
    assert error.found


def test_a_truncated_part(trace):
    part = trace / "waits" / "part-00000.parquet"
    size = part.stat().st_size
    os.truncate(part, size - 9)
    error = refused(trace)
    assert (error.expected, error.found) == (f"{size} bytes", f"{size - 9} bytes")
    with pytest.raises(DiscoError, match="damaged"):
        TraceReader(trace).dataset("waits")


def test_a_missing_part(trace):
    (trace / "refs" / "part-00000.parquet").unlink()
    assert refused(trace).found == "none"
    with pytest.raises(DiscoError, match="missing"):
        TraceReader(trace).dataset("refs")


def test_a_newer_version(trace):
    manifest = json.loads((trace / "manifest.json").read_text())
    manifest["format_version"] = FORMAT_VERSION + 1
    (trace / "manifest.json").write_text(json.dumps(manifest))
    error = refused(trace)
    assert "newer" in error.message
    assert error.found == str(FORMAT_VERSION + 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "JSON"), ("[]", "JSON"), ("{}", "format_version"), ("{" * 100_000, "JSON")],
)
def test_a_damaged_manifest(trace, text, expected):
    (trace / "manifest.json").write_text(text)
    assert expected in refused(trace).expected


@pytest.mark.parametrize(
    "change",
    [
        {"cpus": 0},
        {"cpus": "two"},
        {"cpus": 2**40},
        {"l1_ways": 0},
        {"ram_pages": []},
        {"ram_pages": [-1]},
        {"guest": None},
        {"guest": {"name": "x", "sha256": "0", "phases": {str(2**32): "far"}}},
        {"config": 3},
    ],
)
def test_an_impossible_manifest(trace, change):
    manifest = json.loads((trace / "manifest.json").read_text())
    (trace / "manifest.json").write_text(json.dumps(manifest | change))
    refused(trace)


def test_segments_cut_off_a_closed_trace(trace):
    lines = trace / "segments.jsonl"
    lines.write_bytes(lines.read_bytes().split(b"\n")[0] + b"\n")
    assert refused(trace).expected == "2 lines"


def test_segments_out_of_order(trace):
    lines = trace / "segments.jsonl"
    first, second, _ = lines.read_bytes().split(b"\n")
    lines.write_bytes(second + b"\n" + first + b"\n")
    assert "segment" in refused(trace).message


def test_no_segment_list(trace):
    (trace / "segments.jsonl").unlink()
    refused(trace)


def test_no_trace_at_all(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DiscoError, match="no trace"):
            TraceReader(path)
        with pytest.raises(DiscoError, match="no trace"):
            check(path)


FILES = [
    "manifest.json", "segments.jsonl", "refs/part-00000.parquet", "contexts/part-00000.parquet",
    "symbols/part-00000.parquet", "runs/captured/run.json", "runs/captured/accounts.parquet",
]  # fmt: skip


@given(data=st.data(), name=st.sampled_from(FILES))
@settings(max_examples=60, deadline=None)
def test_a_changed_byte_never_crashes(good, tmp_path_factory, data, name):
    path = tmp_path_factory.mktemp("fuzz") / "t"
    shutil.copytree(good, path)
    content = bytearray((path / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    (path / name).write_bytes(content)
    with contextlib.suppress(DiscoError):  # nothing else may come
        read_all(path)
    problems = check(path)
    assert all("\n" not in str(problem) for problem in problems)
    if name.endswith(".parquet"):
        assert problems
    shutil.rmtree(path)


# -- values that would lead compiled code astray ---------------------------------------------


def write(path, change, **manifest):
    """Write a trace whose rows `change(refs, pages, events)` has spoilt."""
    walk = Walk(5)
    walk.run(80)
    refs, pages, events = walk.take()
    change(refs, pages, events)
    with TraceWriter(path, {**MANIFEST, **manifest}) as writer:
        writer.submit(refs, pages, events)
        writer.close()
    return path


def set_ref(name, value, kinds=(0, 1, 2, 3)):
    def change(refs, pages, events):
        at = np.flatnonzero(np.isin(refs["kind"], kinds))[3]
        refs[name][at] = value

    return change


def set_event(kind, name, value):
    def change(refs, pages, events):
        events[name][np.flatnonzero(events["kind"] == CODE[kind])[0]] = value

    return change


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (set_ref("cpu", 2), "cpu"),
        (set_ref("kind", 10), "kind"),
        (set_ref("way", 2), "way"),
        (set_ref("way", 32, kinds=(7,)), "way"),
        (set_ref("context", 8), "context"),
        (set_ref("guest_page", 256), "guest_page"),
        (set_ref("guest_page", 2**63), "guest_page"),
        (set_event("ticks", "cpu", 2), "cpu"),
        (set_event("ticks", "context", 2**31), "context"),
        (set_event("waits", "a0", 2), "event"),
        (set_event("waits", "a1", 5), "cause"),
        (set_event("returns", "a2", 4), "to_mode"),
        (set_event("contexts", "a1", 1), "context"),
        (set_event("contexts", "a0", 7), "contexts"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, change, word):
    assert word in refused(write(tmp_path / "t", change)).message


def test_each_machine_has_its_own_memory(tmp_path):
    def change(refs, pages, events):
        set_event("contexts", "a1", 1)(refs, pages, events)  # context 0: vm 1 of 100 pages
        refs["guest_page"][refs["context"] < 4] %= 100

    write(tmp_path / "a", change, ram_pages=[256, 100])
    assert [p for p in check(tmp_path / "a") if p.rule == "parts"] == []

    def beyond(refs, pages, events):
        change(refs, pages, events)
        at = np.flatnonzero((refs["context"] < 4) & (refs["kind"] < 4))[0]
        refs["guest_page"][at] = 100

    assert refused(write(tmp_path / "b", beyond, ram_pages=[256, 100])).expected == "below 100"


@pytest.mark.parametrize(
    "change",
    [{"first_seq": 2**63, "last_seq": 2**63 + 10}, {"first_seq": -1}, {"parts": {}},
     {"parts": {"nothing": {"rows": 1, "bytes": 1, "sha256": ""}}}, {"segment": 5}],
)  # fmt: skip
def test_an_impossible_segment_line(trace, change):
    lines = (trace / "segments.jsonl").read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | change)
    (trace / "segments.jsonl").write_text("\n".join(lines) + "\n")
    assert "line 1" in refused(trace).message
