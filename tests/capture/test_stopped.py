"""A capture that is killed or interrupted, at any moment, leaves a prefix that can be used."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from disco_trace.config import from_dict
from disco_trace.replay.engine import replay
from disco_trace.trace.check import check
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.run import Run
from tests.replay.runs import assert_same, assert_sound, captured, replayed

ROOT = Path(__file__).parents[2]


def start(path: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a capture that never ends, and that fills a segment about ten times a second."""
    sets = ("cpus=4", "nodes=4", "l1d.size_bytes=1KiB", "ram_bytes=8MiB")
    options = [word for value in sets for word in ("--set", f"machine.{value}")]
    return subprocess.Popen(
        [sys.executable, "-m", "disco_trace", "capture", "spin", "-o", str(path), *options, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(path: Path, lines: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the trace has that many committed segments (or a manifest, for none)."""
    deadline = time.monotonic() + 60
    file = path / ("segments.jsonl" if lines else "manifest.json")
    while not (file.exists() and file.read_bytes().count(b"\n") >= lines):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("segments", [0, 1, 2, 3])
def test_a_killed_capture_can_be_replayed(tmp_path, segments):
    path = tmp_path / "t"
    process = start(path)
    wait_for(path, segments, process)
    time.sleep(random.Random(segments).random() * 0.2)
    process.kill()
    process.communicate(timeout=60)
    reader = TraceReader(path)
    assert not reader.complete
    assert not reader.closed
    assert len(reader.segments) >= segments
    assert [p for p in check(path) if p.severity == "error"] == []
    assert not (path / "runs" / "captured").exists()
    result = replay(path, from_dict(reader.manifest.config))
    assert Run.open(result.path).complete is False
    assert result.recorded_references == reader.rows.get("refs", 0)
    if reader.segments:
        assert result.totals["instructions"] == reader.counters["instructions"]
        assert [row["cycles"] for row in result.per_cpu] == reader.counters["cycles"]


def test_a_killed_force_keeps_the_old_trace(tmp_path):
    path = tmp_path / "t"
    process = start(path, "--max-instructions", "1000000")
    process.communicate(timeout=60)
    assert process.returncode == 4
    before = TraceReader(path).trace_id
    process = start(path, "--force")
    wait_for(tmp_path / ".t.new", 1, process)
    process.kill()
    process.communicate(timeout=60)
    assert TraceReader(path).trace_id == before
    assert_sound(path)


@pytest.mark.parametrize("segments", [0, 2])
def test_ctrl_c_closes_the_trace(tmp_path, segments):
    path = tmp_path / "t"
    process = start(path, "--json")
    wait_for(path, segments, process)
    time.sleep(0.1)  # for none: into the run proper, past the writing of the manifest
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    answer = json.loads(out)
    assert answer["exit_code"] == 130
    assert answer["ok"] is False
    assert answer["exit_reason"] == "interrupted"
    reader = TraceReader(path)
    assert reader.closed
    assert not reader.complete
    assert reader.manifest.exit_reason == "interrupted"
    assert_sound(path)
    # Here the results are written, too: they are the prefix's, to the unit.
    run = Run.open(path / "runs" / "captured")
    assert run.complete is False
    assert run.totals == answer["totals"]
    spec = from_dict(reader.manifest.config)
    assert_same(replayed(path, spec), captured(path))


def test_a_place_is_not_shared(tmp_path):
    path = tmp_path / "t"
    process = start(path)
    try:
        wait_for(path, 1, process)
        second = start(path, "--force", "--json")
        out, _ = second.communicate(timeout=60)
        assert second.returncode == 2
        assert "another process" in json.loads(out)["error"]["message"]
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert_sound(path)


def test_the_console_comes_as_the_guest_prints(tmp_path):
    words = ("capture", "hello", "--set", "machine.cpus=2", "-o", str(tmp_path / "t"))
    text = b"hello: 2 cpus, 1 nodes\nhello from cpu 0 on node 0\nhello from cpu 1 on node 0\n"
    command = [sys.executable, "-m", "disco_trace", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    plain = subprocess.run(
        [*command, "--console"], env=environment, capture_output=True, check=True
    )
    assert plain.stdout.startswith(text)
    assert b"goodbye\n" in plain.stdout
    told = subprocess.run(
        [*command, "--console", "--json", "--force"], env=environment, capture_output=True,
        check=True,
    )  # fmt: skip
    assert text in told.stderr
    assert json.loads(told.stdout)["console"].encode().startswith(text)
    silent = subprocess.run(
        [*command, "--quiet", "--force"], env=environment, capture_output=True, check=True
    )
    assert b"hello" not in silent.stdout
