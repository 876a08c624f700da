"""A capture that is killed at any moment leaves a readable prefix."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from disco_trace.cli.main import main
from disco_trace.trace.check import check
from disco_trace.trace.reader import TraceReader

ROOT = Path(__file__).parents[2]
ENDLESS = """
import sys
from pathlib import Path
from disco_trace.trace.run import RunWriter
from disco_trace.trace.schema import MISS
from disco_trace.trace.writer import TraceWriter
from tests.trace.synthetic import MANIFEST, Walk
import numpy as np

walk = Walk(3)
with TraceWriter(Path(sys.argv[1]), MANIFEST, force="--force" in sys.argv) as writer:
    run = RunWriter(writer.directory / "runs" / "captured", {})
    while True:
        walk.run(200)
        writer.submit(*walk.take(), {"instructions": sum(walk.retired)})
        run.misses(np.zeros(100, MISS))
"""


def start(path: Path, *options: str, lines: Path | None = None) -> subprocess.Popen:
    """Start an endless capture and wait until it has committed something."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(path), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    lines = lines or path / "segments.jsonl"
    deadline = time.monotonic() + 60
    while not (lines.exists() and lines.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def end(process: subprocess.Popen, how: signal.Signals) -> None:
    process.send_signal(how)
    process.communicate(timeout=60)


@pytest.mark.parametrize("delay", [0, 0.013, 0.037, 0.071])
def test_a_killed_capture_leaves_a_readable_prefix(tmp_path, delay):
    path = tmp_path / "t"
    process = start(path)
    time.sleep(delay)
    end(process, signal.SIGKILL)
    reader = TraceReader(path)
    assert not reader.complete
    assert not reader.closed
    assert len(reader.segments) >= 2
    assert sum(d.n_refs for d in reader.iter_segments()) == reader.rows["refs"]
    assert [p for p in check(path) if p.severity == "error"] == []
    assert not (path / "runs" / "captured").exists()


def test_ctrl_c_closes_an_incomplete_trace(tmp_path, capsys):
    path = tmp_path / "t"
    end(start(path), signal.SIGINT)
    reader = TraceReader(path)
    assert reader.closed
    assert not reader.complete
    assert reader.manifest.exit_reason == "interrupted"
    assert check(path) == []
    assert main(["check", str(path)]) == 0
    assert "as far as it goes" in capsys.readouterr().out


def test_the_place_of_a_killed_capture_can_be_used_again(tmp_path):
    path = tmp_path / "t"
    end(start(path), signal.SIGKILL)
    before = TraceReader(path).trace_id
    staged = tmp_path / ".t.new" / "segments.jsonl"
    end(start(path, "--force", lines=staged), signal.SIGKILL)
    assert TraceReader(path).trace_id == before, "a killed --force must leave the old trace"
    staged.unlink()  # the other leftovers of the killed one stay, and must not matter
    end(start(path, "--force", lines=staged), signal.SIGINT)
    assert TraceReader(path).manifest.exit_reason == "interrupted"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t"]


def test_a_torn_last_line_does_not_count(tmp_path):
    path = tmp_path / "t"
    end(start(path), signal.SIGKILL)
    lines = path / "segments.jsonl"
    whole = [x for x in lines.read_bytes().split(b"\n") if x.startswith(b"{") and x.endswith(b"}")]
    for length in np.linspace(1, len(whole[-1]), 7).astype(int):
        lines.write_bytes(b"\n".join(whole[:-1]) + b"\n" + whole[-1][:length])
        assert len(TraceReader(path).segments) == len(whole) - 1
