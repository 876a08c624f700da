"""Capture and replay small guests, and compare what two runs counted: to the last unit."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from disco_trace.capture import capture
from disco_trace.config import Spec, resolve
from disco_trace.guest.resolve import find_guest
from disco_trace.replay.engine import replay
from disco_trace.requests import CaptureRequest, CaptureResult
from disco_trace.trace.check import check
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.run import Run
from disco_trace.trace.schema import EVENT, PAGE, PAGES, REF, REFS
from disco_trace.trace.writer import TraceWriter

TABLES = ("accounts", "heat", "moves", "intervals")
# Guests far below their `ci` arguments: a capture takes a tenth of a second. Those that spend their
# time with disk and network stand in test_devices.py.
TINY = {
    "radix": ("keys=2K", "bits=6"),
    "database": ("rows=1K", "rounds=1", "products=200", "customers=200"),
    "raytrace": (
        "frames=1",
        "image=12",
        "ground=10",
        "spheres=80",
        "grid=8",
        "depth=2",
        "samples=2",
    ),
    # More processes than CPUs, and slices short enough for them to move.
    "engineering": (
        "verilogs=3",
        "machines=3",
        "vectors=1",
        "references=60",
        "multipliers=2",
        "bits=4",
        "random=100",
        "sets=64",
        "lines=1K",
        "os.tick=2000",
        "os.slice=1",
        "os.balance=2",
    ),
    "services": ("rounds=6", "os.tick=2000", "os.cache=16"),
}


def spec_at(cpus: int, nodes: int, **sets: Any) -> Spec:
    """Return flash8 with other CPUs and nodes; `sets` by path, `__` for the dots."""
    values = {"machine.cpus": cpus, "machine.nodes": nodes}
    return resolve(
        machine="flash8", sets=values | {name.replace("__", "."): v for name, v in sets.items()}
    )


def run_guest(
    guest: str, spec: Spec, out: Path, args: Sequence[str] | None = None, **options: Any
) -> CaptureResult:
    """Capture a guest (by default with its `ci` arguments), which must succeed."""
    words = list(find_guest(guest).ci_args if args is None else args)
    result = capture(CaptureRequest(guest=guest, args=words, spec=spec, out=out, **options))
    limited = {"max_instructions", "max_bytes", "stop_at"} & set(options)
    assert limited or result.succeeded, (result.exit_reason, result.console)
    return result


@dataclass
class Counted:
    """Hold everything that a run counted, in memory."""

    per_cpu: list[dict[str, int]]
    tables: dict[str, Any]
    fingerprint: str

    @classmethod
    def of(cls, run: Path) -> Counted:
        """Read the run in a folder; its files must be whole."""
        opened = Run.open(run)
        opened.verify()
        tables = {name: opened.table(name) for name in TABLES}
        tables["misses"] = opened.misses().to_table()
        return cls(opened.per_cpu, tables, opened.fingerprint)

    @property
    def totals(self) -> dict[str, int]:
        """Return the sums over the CPUs."""
        return {
            name: sum(row.get(name, 0) for row in self.per_cpu)
            for name in set().union(*self.per_cpu) - {"cpu"}
        }


def captured(trace: Path) -> Counted:
    """Return what the capture itself counted."""
    return Counted.of(trace / "runs" / "captured")


def replayed(trace: Path, spec: Spec, **options: Any) -> Counted:
    """Replay with misses recorded; return what it counted."""
    return Counted.of(replay(trace, spec, record_misses=True, force=True, **options).path)


def assert_same(one: Counted, other: Counted) -> None:
    """Compare two runs; the first counters that differ make the message."""
    for left, right in zip(one.per_cpu, other.per_cpu, strict=True):
        differ = {n: (left.get(n), right.get(n)) for n in left if left.get(n) != right.get(n)}
        assert not differ, f"CPU {left['cpu']}: {differ}"
        assert left == right
    for name, table in one.tables.items():
        assert table.num_rows == other.tables[name].num_rows, name
        assert table.equals(other.tables[name]), name
    assert one.fingerprint == other.fingerprint


def assert_sound(trace: Path) -> None:
    """Assert that a trace keeps every invariant."""
    assert [str(problem) for problem in check(trace)] == []


def rows_of(trace: Path, segment: int) -> tuple[Any, Any, Any]:
    """Return the rows of one segment as writable REF, PAGE and EVENT arrays."""
    reader = TraceReader(trace)
    data = reader.load(segment, columns=[c.name for c in REFS.columns], pages=True)

    def rows(dtype: np.dtype, columns: Mapping[str, Any], names: Sequence[str], n: int) -> Any:
        out = np.zeros(n, dtype)
        for name in names:
            out[name] = columns[name]
        return out

    refs = rows(REF, data.refs, [c.name for c in REFS.columns], data.n_refs)
    n_pages = len(data.pages["seq"]) if data.pages else 0
    pages = rows(PAGE, data.pages, [c.name for c in PAGES.columns] if n_pages else [], n_pages)
    return refs, pages, np.array(data.events, EVENT)


def rewrite(trace: Path, out: Path, change: Any = None, **manifest: Any) -> Path:
    """Write a trace anew, with valid checksums, each segment after `change(refs, pages, events)`.

    That spoils its arrays in place or returns new ones; `manifest` replaces fields.
    """
    reader = TraceReader(trace)
    fields = msgspec.to_builtins(reader.manifest)
    for name in ("complete", "exit_reason", "segments", "totals", "trace_id", "symbols"):
        del fields[name]
    with TraceWriter(out, fields | manifest) as writer:
        for index, line in enumerate(reader.segments):
            rows = rows_of(trace, index)
            if change is not None:
                rows = change(*rows) or rows
            writer.submit(*rows, line.counters)
        writer.close(complete=reader.complete, exit_reason=reader.manifest.exit_reason)
    return out


def without_results(trace: Path) -> Path:
    """Delete everything that a capture counted, and how it came about."""
    shutil.rmtree(trace / "runs")
    (trace / "provenance.json").unlink()
    return trace
