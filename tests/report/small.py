"""Write small traces and runs from plain values, for tests of what SQL makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from disco_trace.trace import schema
from disco_trace.trace.run_writer import RunWriter
from disco_trace.trace.writer import TraceWriter

KINDS = {kind.name: kind for kind in schema.CONTROL}
CONFIG = {
    "machine": {"cpus": 2, "nodes": 2, "clock_mhz": 300},
    "placement": {"policy": "guest"},
    "costs": {"table": "disco"},
    "time": {"feedback": "full"},
}


def fill(dtype: np.dtype, rows: Iterable[dict[str, Any]]) -> np.ndarray:
    """Return a structured array; fields that a row does not name are 0."""
    listed = list(rows)
    out = np.zeros(len(listed), dtype)
    for number, row in enumerate(listed):
        for key, value in row.items():
            out[number][key] = value
    return out


def event(kind: str, **values: Any) -> dict[str, Any]:
    """Return an EVENT row of a kind, its own columns by name; enums by text."""
    fields = {column.name: column for column in KINDS[kind].columns}
    row: dict[str, Any] = {"kind": KINDS[kind].code}
    for key, value in values.items():
        column = fields.get(key)
        if column is None:
            row[key] = value
        else:
            row[column.arg] = column.enum.index(value) if column.enum else value
    return row


def write_trace(
    path: Path,
    *,
    refs: Sequence[dict[str, Any]] = (),
    events: Sequence[dict[str, Any]] = (),
    symbols: Sequence[tuple[Any, ...]] = (),
    phases: dict[int, str] | None = None,
    process_names: Sequence[str] = (),
    config: dict[str, Any] | None = None,
    cpus: int = 2,
    nodes: int = 2,
) -> Path:
    """Write a trace; `seq` is given to rows that lack it: events first, then references."""
    events = [{"seq": n, **row} for n, row in enumerate(events)]
    refs = [{"seq": len(events) + n, **row} for n, row in enumerate(refs)]
    columns = [column.name for column in schema.SYMBOL_COLUMNS]
    table = {name: [row[i] for row in symbols] for i, name in enumerate(columns)}
    manifest = {
        "guest": {
            "name": path.name,
            "sha256": "0" * 64,
            "phases": phases or {},
            "args": ["-p", "2"],
        },
        "config": config or CONFIG,
        "cpus": cpus,
        "nodes": nodes,
        "ram_pages": [4096, 4096],
        "l1_ways": 2,
        "process_names": list(process_names),
    }
    writer = TraceWriter(path, manifest, symbols=table if symbols else None)
    writer.submit(fill(schema.REF, refs), fill(schema.PAGE, []), fill(schema.EVENT, events))
    writer.close(exit_reason="power-off")
    return path


def write_run(
    path: Path,
    *,
    accounts: dict[tuple[int, int, str], int] | None = None,
    heat: Sequence[dict[str, Any]] = (),
    moves: Sequence[dict[str, Any]] = (),
    intervals: Sequence[dict[str, Any]] = (),
    misses: Sequence[dict[str, Any]] = (),
    spec: dict[str, Any] | None = None,
    fidelity: dict[str, str] | None = None,
    contexts: int = 8,
    trace_id: str = "",
) -> Path:
    """Write a run; `accounts` maps (cpu, context, metric) to a value."""
    spec = spec or CONFIG
    array = np.zeros((spec["machine"]["cpus"], contexts, schema.N_METRICS), np.uint64)
    for (cpu, context, metric), value in (accounts or {}).items():
        array[cpu, context, schema.METRIC_NAMES.index(metric)] = value
    writer = RunWriter(path, spec, trace_id=trace_id)
    writer.accounts(array)
    if heat:
        writer.heat(fill(schema.HEAT, heat))
    if moves:
        writer.moves(fill(schema.MOVE, moves))
    if intervals:
        named = [{**r, "metric": schema.METRIC_NAMES.index(r["metric"])} for r in intervals]
        writer.intervals(fill(schema.INTERVAL, named))
    if misses:
        writer.misses(fill(schema.MISS, misses))
    writer.close(fidelity=fidelity)
    return path
