"""Print what a trace or run holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from disco_trace.cli import common

if TYPE_CHECKING:
    from disco_trace.trace.run import Run
    from disco_trace.trace.summary import TraceSummary


def info(
    path: common.PathArgument,
    runs: Annotated[
        Path | None, typer.Option("--runs", metavar="DIR", help="List the runs of this folder.")
    ] = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Print what a trace, run or checkpoint holds: guest, machine, counters, rows by kind, size.

    Nothing is verified beyond the manifest and the list of segments: `check` does that.

    Examples:

    \b
        disco-trace info traces/radix-8cpu
        disco-trace info traces/radix-8cpu/runs/captured
        disco-trace info traces/radix-8cpu/checkpoints/sort
        disco-trace info traces/radix-8cpu --json
    """
    with common.verb("info", json=json, quiet=quiet) as out:
        from disco_trace.trace.checkpoint import is_checkpoint
        from disco_trace.trace.run import Run
        from disco_trace.trace.run_writer import RUN

        folder = common.folder_of(path)
        out.set(path=folder)
        if (folder / RUN).is_file():
            _run(out, Run.open(folder))
            return
        if is_checkpoint(folder):
            _checkpoint(out, folder)
            return
        from disco_trace.trace.reader import TraceReader
        from disco_trace.trace.summary import summarize

        summary, warnings = summarize(TraceReader(folder), runs_folder=runs)
        for warning in warnings:
            out.warn(warning)
        out.set(**vars(summary))
        for line in _trace_lines(summary):
            out.print(line)
        out.next(*(("report", folder) if summary.complete else ("check", folder)))


def _run(out: common.Output, run: Run) -> None:
    from disco_trace.cli.summary import totals_lines

    out.set(
        run=run.name,
        run_id=run.run_id,
        trace_id=run.trace_id,
        spec=run.spec,
        complete=run.complete,
        fidelity=run.fidelity,
        fingerprint=run.fingerprint,
        totals=run.totals,
        per_cpu=run.per_cpu,
    )
    out.print(f"run {run.name}, {_completeness(run.complete)}")
    for line in totals_lines(run.totals, run.per_cpu):
        out.print(f"  {line}")
    out.print(f"  fingerprint {run.fingerprint[:16]}, trace {run.trace_id[:16]}")
    out.next("report", run.path)


def _checkpoint(out: common.Output, folder: Path) -> None:
    from disco_trace.cli.progress import readable
    from disco_trace.trace.checkpoint import checkpoint_id, read_checkpoint

    found = read_checkpoint(folder)
    state, machine = found.state, found.config.get("machine", {})
    size = sum(entry.bytes for entry in state.arrays.values())
    cycles = [cpu.cycle for cpu in state.cpus]
    out.set(
        checkpoint_id=checkpoint_id(found),
        guest=found.guest,
        config=found.config,
        phase=found.phase.name,
        seq=state.seq,
        instructions=state.instructions,
        cycles=cycles,
        rows=state.rows,
        per_cpu=state.base,
        arrays=state.arrays,
        bytes_on_disk=size,
    )
    out.print(f"checkpoint of {' '.join([found.guest.name, *found.guest.args])}")
    out.print(f"  where phase {found.phase.name} was first opened")
    out.print(
        f"  {_plural(len(cycles), 'CPU')}, {_plural(machine.get('nodes', 1), 'node')}, "
        f"{readable(state.instructions)} instructions, {readable(max(cycles))} cycles"
    )
    out.print(f"  size: {size / 1e6:.1f} MB in {_plural(len(state.arrays), 'array')}")
    out.print(f"  id {checkpoint_id(found)[:16]}")
    out.next("capture", found.guest.name, "--resume", folder)


def _trace_lines(summary: TraceSummary) -> Iterable[str]:
    from disco_trace.cli.progress import readable
    from disco_trace.cli.summary import totals_lines

    guest = " ".join([summary.guest["name"], *summary.guest["args"]])
    if len(set(summary.guests)) > 1:
        guest = f"{len(summary.guests)} guests"
    yield f"trace of {guest}, {_completeness(summary.complete)}: {summary.exit_reason}"
    yield (
        f"  machine: {_plural(summary.cpus, 'CPU')}, {_plural(summary.nodes, 'node')}, "
        f"{summary.ram_bytes / 2**20:g} MiB of memory"
    )
    if summary.monitor != "none":
        yield f"  {_plural(len(summary.guests), 'virtual machine')} over {summary.monitor}:"
        for what, vms in _alike(summary).items():
            yield f"    {vms}: {what}"
    if summary.start:
        before = readable(summary.start["instructions"])
        yield f"  from the checkpoint at phase {summary.start['phase']}, {before} instructions on"
    if summary.totals and summary.per_cpu:
        for line in totals_lines(summary.totals, summary.per_cpu):
            yield f"  {line}"
    elif isinstance(count := summary.totals.get("instructions"), int):
        yield f"  {readable(count)} instructions up to the last committed segment"
    size = f"  size: {summary.bytes_on_disk / 1e6:.1f} MB in {_plural(summary.segments, 'segment')}"
    if summary.bytes_per_reference is not None:
        size += f", {summary.bytes_per_reference:.2f} bytes a recorded reference"
    yield size
    width = max((len(kind) for kind in summary.rows), default=0)
    for kind, rows in summary.rows.items():
        size = f"{summary.bytes_by_kind.get(kind, 0) / 1e6:.2f} MB"
        yield f"    {kind:<{width}} {rows:>14,} rows {size:>12}"
    yield f"  runs: {', '.join(summary.runs) or 'none'}"
    if summary.checkpoints:
        yield f"  checkpoints: {', '.join(summary.checkpoints)}"
    yield f"  id {summary.trace_id[:16]}"


def _alike(summary: TraceSummary) -> dict[str, str]:
    """Return machines that run the same, by what that is: `vm 0, 1`."""
    found: dict[str, list[str]] = {}
    for vm, (guest, vcpus) in enumerate(zip(summary.guests, summary.vcpus, strict=True)):
        found.setdefault(f"{guest} on {_plural(vcpus, 'virtual CPU')}", []).append(str(vm))
    return {what: f"vm {', '.join(vms)}" for what, vms in found.items()}


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _completeness(complete: bool) -> str:
    return "complete" if complete else "incomplete, a readable prefix"
