"""Ask what if: run a trace through another memory system."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from disco_trace.cli import common
from disco_trace.errors import DiscoError

if TYPE_CHECKING:
    from disco_trace.requests import ReplayResult

# So many prices are named one by one.
MOST_PRICES = 3


def replay(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace folder.")],
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="NAME", help="Page placement policy.")
    ] = None,
    costs: Annotated[
        str | None, typer.Option("--costs", metavar="NAME|FILE", help="Cost table.")
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option("--spec", metavar="FILE", help="A TOML file on top of the capture's own."),
    ] = None,
    sets: common.Sets = None,
    phase: Annotated[
        str | None, typer.Option("--phase", metavar="NAME", help="Count this phase only.")
    ] = None,
    record_misses: Annotated[
        bool, typer.Option("--record-misses", help="Keep a row for each second-level miss.")
    ] = False,
    output: common.Out = None,
    runs: Annotated[
        Path | None,
        typer.Option("--runs", metavar="DIR", help="Put runs here, for traces that are read-only."),
    ] = None,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Run a trace through another memory system: other placement, caches, latencies or prices.

    What is not named stays as captured. The run goes to TRACE/runs; one that is there is reused.

    Examples:

    \b
        disco-trace replay traces/radix-8cpu
        disco-trace replay traces/radix-8cpu --policy migrate-replicate
        disco-trace replay traces/radix-8cpu --set memory.l2.size_bytes=256KiB --record-misses
        disco-trace replay traces/radix-8cpu --policy migrate --set placement.trigger_misses=64
    """
    with common.verb("replay", json=json, quiet=quiet) as out:
        from disco_trace.config import from_dict, resolve

        common.check_trace(trace)
        if policy is not None:
            common.check_policy(policy)
        # The manifest first: a wrong path must not wait for kernels.
        from disco_trace.trace.manifest import read_manifest

        captured = from_dict(read_manifest(trace).config, file=trace / "manifest.json")
        wanted = resolve(base=captured, file=spec, policy=policy, costs=costs, sets=sets or ())
        common.check_policy(wanted.placement.policy)
        compile_seconds = common.compile_kernels(out)
        from disco_trace.replay.engine import replay as run_replay

        try:
            with out.progress("replay", unit="references") as progress:
                result = run_replay(
                    trace,
                    wanted,
                    out=output,
                    runs=runs,
                    force=force,
                    phase=phase,
                    record_misses=record_misses,
                    progress=progress,
                )
        except DiscoError as error:
            inside = output is None and runs is None
            if inside and error.hint is None and not os.access(trace, os.W_OK):
                error.hint = "--runs DIR puts the run elsewhere, for traces that are read-only"
            raise
        report(out, result, compile_seconds)
        out.next("report", trace)


def report(out: common.Output, result: ReplayResult, compile_seconds: float = 0.0) -> None:
    """Say how a replay went, to people and in JSON."""
    from disco_trace.cli.summary import totals_lines

    for warning in result.warnings:
        out.warn(warning)
    out.set(
        path=result.path,
        totals=result.totals,
        per_cpu=result.per_cpu,
        seconds=result.seconds,
        compile_seconds=compile_seconds + result.compile_seconds,
        recorded_references=result.recorded_references,
        references_per_second=result.references_per_second,
        original_references=result.original_references,
        reused=result.reused,
        fidelity=result.fidelity,
    )
    out.say(f"{result.path}{' (was there already)' if result.reused else ''}")
    for line in totals_lines(result.totals, result.per_cpu):
        out.say(f"  {line}")
    for line in _changes(result.fidelity):
        out.say(f"  {line}")
    if not result.reused:
        speed = result.references_per_second / 1e6
        out.say(f"  {result.seconds:.1f} s, {speed:.1f} M recorded references a second")


def _changes(fidelity: Mapping[str, str]) -> list[str]:
    """Return how far each change can be trusted; the prices of a table are one change."""
    told = {path: kind for path, kind in fidelity.items() if path.startswith("costs.prices.")}
    lines = [f"{path}: {kind}" for path, kind in fidelity.items() if path not in told]
    if len(told) <= MOST_PRICES:
        return lines + [f"{path}: {kind}" for path, kind in told.items()]
    for kind in dict.fromkeys(told.values()):
        count = sum(1 for each in told.values() if each == kind)
        lines.append(f"{count} of costs.prices: {kind}")
    return lines
