"""Say what a trace holds, from its manifest and segment list alone: no part is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disco_trace.config import from_dict
from disco_trace.config.machines import virtual_machines
from disco_trace.errors import DiscoError
from disco_trace.trace.checkpoint import list_checkpoints
from disco_trace.trace.manifest import MANIFEST, guest_of
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.run import Run, list_runs


@dataclass(frozen=True)
class TraceSummary:
    """Describe a trace. `bytes_on_disk` counts the committed parts; `rows` is by kind.

    `bytes_per_reference` is all of the trace's bytes over its references, None without any.
    `totals` and `per_cpu` are those of `runs/captured`; of a capture that never ended, the
    counters of its last segment, and no `per_cpu`. `start` is None for a cold start, otherwise the
    checkpoint (its id), the phase that it was saved at, and the instructions before it.
    `guests` and `vcpus` have an entry for each virtual machine: what it runs, its virtual CPUs.
    """

    trace_id: str
    guest: dict[str, Any]
    cpus: int
    nodes: int
    ram_bytes: int
    monitor: str
    guests: list[str]
    vcpus: list[int]
    complete: bool
    exit_reason: str
    segments: int
    rows: dict[str, int]
    bytes_by_kind: dict[str, int]
    bytes_on_disk: int
    bytes_per_reference: float | None
    totals: dict[str, Any]
    per_cpu: list[dict[str, int]]
    runs: list[str]
    start: dict[str, Any] | None
    checkpoints: list[str]


def summarize(
    reader: TraceReader, *, runs_folder: Path | None = None
) -> tuple[TraceSummary, list[str]]:
    """Return the summary of a trace, and warnings about runs that could not be read.

    `runs_folder` is a folder of runs outside the trace, listed as well.
    """
    sizes: dict[str, int] = {}
    for segment in reader.segments:
        for kind, part in segment.parts.items():
            sizes[kind] = sizes.get(kind, 0) + part.bytes
    if reader.manifest.symbols:
        sizes["symbols"] = reader.manifest.symbols.bytes
    runs = list_runs(reader.path, runs_folder)
    totals: dict[str, Any] = reader.manifest.totals or reader.counters
    per_cpu: list[dict[str, int]] = []
    warnings: list[str] = []
    if runs and runs[0].name == "captured":
        try:
            captured = Run.open(runs[0])
            totals, per_cpu = captured.totals, captured.per_cpu
        except DiscoError as error:
            warnings.append(str(error))
    references = reader.rows.get("refs", 0)
    manifest = reader.manifest
    spec = from_dict(manifest.config, file=reader.path / MANIFEST)
    machines = virtual_machines(spec)
    summary = TraceSummary(
        trace_id=reader.trace_id,
        guest={
            "name": manifest.guest.name,
            "sha256": manifest.guest.sha256,
            "args": manifest.guest.args,
            "phases": manifest.guest.phases,
        },
        cpus=manifest.cpus,
        nodes=manifest.nodes,
        ram_bytes=4096 * sum(manifest.ram_pages),
        monitor=spec.monitor.kind,
        guests=[
            " ".join([guest.name, *guest.args])
            for guest in (guest_of(manifest, vm) for vm in range(len(machines)))
        ],
        vcpus=[machine.vcpus for machine in machines],
        complete=reader.complete,
        exit_reason=manifest.exit_reason if reader.closed else "killed",
        segments=len(reader.segments),
        rows=reader.rows,
        bytes_by_kind=sizes,
        bytes_on_disk=sum(sizes.values()),
        bytes_per_reference=sum(sizes.values()) / references if references else None,
        totals=totals,
        per_cpu=per_cpu,
        runs=[run.name for run in runs],
        start=_start(reader),
        checkpoints=[path.name for path in list_checkpoints(reader.path)],
    )
    return summary, warnings


def _start(reader: TraceReader) -> dict[str, Any] | None:
    if reader.start is None:
        return None
    return {
        "checkpoint": reader.start.checkpoint,
        "phase": reader.start.phase.name,
        "instructions": reader.start.state.instructions,
    }
