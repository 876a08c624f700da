"""What stands in the place of a capture stays, unless its replacement was asked for."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from disco_trace.errors import DiscoError
from disco_trace.trace.reader import TraceReader
from tests.replay.runs import (
    TINY,
    assert_same,
    assert_sound,
    captured,
    run_guest,
    spec_at,
)

ROOT = Path(__file__).parents[2]


def content(folder: Path) -> dict[str, str]:
    """Return the hash and time of every file below a folder."""
    return {
        str(p.relative_to(folder)): f"{hashlib.sha256(p.read_bytes()).hexdigest()} "
        f"{p.stat().st_mtime_ns}"
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_an_existing_trace_is_refused_and_untouched(tmp_path, cli):
    sets = ("--set", "machine.cpus=2", "--set", "machine.nodes=2")
    words = ("radix", *sets, "-o", tmp_path / "t", "--", *TINY["radix"])
    assert cli("capture", *words)["exit_code"] == 0
    before = content(tmp_path)
    answer = cli("capture", *words)
    assert answer["exit_code"] == 2
    assert "exist" in answer["error"]["message"]
    assert "--force" in answer["error"]["hint"]
    assert content(tmp_path) == before
    # The library refuses by itself, too.
    with pytest.raises(DiscoError, match="exists"):
        run_guest("radix", spec_at(2, 2), tmp_path / "t", TINY["radix"])
    assert content(tmp_path) == before


def test_force_replaces_it_whole(tmp_path):
    from disco_trace.replay.engine import replay

    spec = spec_at(2, 2)
    run_guest("radix", spec, tmp_path / "t", TINY["radix"])
    replay(tmp_path / "t", spec)
    run_guest("database", spec, tmp_path / "t", TINY["database"], force=True)
    reader = TraceReader(tmp_path / "t")
    assert reader.manifest.guest.name == "database"
    assert_sound(tmp_path / "t")
    assert [p.name for p in (tmp_path / "t" / "runs").iterdir()] == ["captured"]
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_force_does_not_replace_what_is_not_ours(tmp_path, cli, kind):
    place = tmp_path / "t"
    if kind == "folder":
        place.mkdir()
        (place / "thesis.tex").write_text("years of work")
    else:
        place.write_text("years of work")
    answer = cli("capture", "hello", "-o", place, "--force")
    assert answer["exit_code"] == 2
    kept = place / "thesis.tex" if kind == "folder" else place
    assert kept.read_text() == "years of work"


def test_a_failing_force_keeps_the_old_trace(tmp_path, cli):
    run_guest("hello", spec_at(1, 1), tmp_path / "t", [])
    before = content(tmp_path)
    bad = ("--load", f"{tmp_path / 'missing'}@0x1000")
    assert cli("capture", "hello", "-o", tmp_path / "t", "--force", *bad)["exit_code"] == 2
    assert content(tmp_path) == before


@pytest.mark.parametrize("feedback", ["full", "none"])
def test_two_captures_are_the_same_trace(tmp_path, feedback):
    """Another process, place, hash seed, time of day: the same rows, ids and results."""
    spec = spec_at(4, 4, time__feedback=feedback)
    run_guest("database", spec, tmp_path / "here", TINY["database"])
    there = tmp_path / "else" / "where" / "t"
    words = ["capture", "database", "-o", str(there), "--quiet", "--machine", "flash8"]
    for value in ("machine.cpus=4", "machine.nodes=4", f"time.feedback={feedback}"):
        words += ["--set", value]
    subprocess.run(
        [sys.executable, "-m", "disco_trace", *words, "--", *TINY["database"]],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "PYTHONPATH": str(ROOT)},
    )
    one, other = TraceReader(tmp_path / "here"), TraceReader(there)
    assert one.trace_id == other.trace_id
    assert one.manifest == other.manifest
    assert captured(tmp_path / "here").fingerprint == captured(there).fingerprint


def test_what_makes_another_trace(tmp_path):
    ids = []
    for index, (sets, args) in enumerate(
        [({}, "seed=1"), ({}, "seed=2"), ({"machine__seed": 5}, "seed=1"),
         ({"memory__remote_ns": 901}, "seed=1")]
    ):  # fmt: skip
        path = tmp_path / str(index)
        run_guest("radix", spec_at(2, 2, **sets), path, [*TINY["radix"], args])
        ids.append(TraceReader(path).trace_id)
    assert len(set(ids)) == 4


def _with_buffers(monkeypatch, path, feedback="none", **sizes):
    from disco_trace import capture as front
    from disco_trace.memory import layout

    with monkeypatch.context() as patch:
        for name, size in sizes.items():
            patch.setattr(front if hasattr(front, name) else layout, name, size)
        spec = spec_at(4, 4, machine__ram_bytes="8MiB", time__feedback=feedback)
        run_guest("database", spec, path, TINY["database"])
    return TraceReader(path), captured(path)


@pytest.mark.parametrize(("feedback", "rows"), [("none", 300), ("none", 1000), ("full", 300)])
def test_result_buffers_do_not_show(tmp_path, monkeypatch, feedback, rows):
    """How much room results have cannot be seen by the guest: another point fills it elsewhere."""
    plain, counted = _with_buffers(monkeypatch, tmp_path / "a", feedback)
    other, again = _with_buffers(monkeypatch, tmp_path / "b", feedback, MISS_ROWS=rows)
    assert other.trace_id == plain.trace_id
    assert_same(again, counted)


def test_event_buffers_do_not_show_in_results(tmp_path, monkeypatch):
    """Segments close intervals of work with `ticks` of their own: other rows, the same run."""
    plain, counted = _with_buffers(monkeypatch, tmp_path / "a")
    other, again = _with_buffers(monkeypatch, tmp_path / "b", REF_BUFFER_ROWS=2000)
    assert len(other.segments) > len(plain.segments) == 1
    assert_sound(tmp_path / "b")
    assert again.per_cpu == counted.per_cpu


def test_budgets_do_not_show(tmp_path, monkeypatch):
    plain, _ = _with_buffers(monkeypatch, tmp_path / "a")
    other, _ = _with_buffers(monkeypatch, tmp_path / "b", BUDGET=777)
    assert other.trace_id == plain.trace_id
