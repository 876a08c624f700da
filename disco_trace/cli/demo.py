"""Show in a minute what the program is for: one capture, several what-ifs, one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from disco_trace.cli import common
from disco_trace.errors import EXIT_GUEST, DiscoError

if TYPE_CHECKING:
    from disco_trace.config import Spec
    from disco_trace.requests import ReplayResult

GUEST: Final = "database"
MACHINE: Final = "flash8"


@dataclass(frozen=True)
class Question:
    """Hold one what-if: how it is called, what it changes, as words of `--set`."""

    name: str
    sets: tuple[str, ...]


# The last is no policy but the bound of all: every memory as near as the own.
QUESTIONS: Final = (
    Question("guest", ("placement.policy=guest",)),
    Question("round-robin", ("placement.policy=round-robin",)),
    Question("first-touch", ("placement.policy=first-touch",)),
    # CPU 0 loads the tables, so they all stay on its node unless pages are dealt again (phase 3 of
    # the guest, "query") to whoever uses them first.
    Question(
        "first-touch at query", ("placement.policy=first-touch", "placement.retouch_phase=3")
    ),
    Question("migrate", ("placement.policy=migrate",)),
    Question("replicate", ("placement.policy=replicate",)),
    Question("migrate-replicate", ("placement.policy=migrate-replicate",)),
    Question("all memory near", ()),
)


@dataclass(frozen=True)
class Finding:
    """Hold one line of the demo's table; cycles of the CPU that ended last."""

    name: str
    path: Path
    cycles: int
    speedup: float
    local_fraction: float | None
    moves: int
    reused: bool


def demo(
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="PATH", help="Where the trace goes."),
    ] = None,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Capture a small database on eight nodes, try placement policies on it, write a report.

    What an earlier demo left is used again; --force begins anew.

    Examples:

    \b
        disco-trace demo
        disco-trace demo -o traces/mine --force
    """
    with common.verb("demo", json=json, quiet=quiet) as out:
        out.set(compile_seconds=common.compile_kernels(out))
        trace, captured, spec = _captured(out, output, force)
        out.set(path=trace)
        results = _replays(out, trace, spec, force)
        findings = _findings(results)
        out.say()
        out.show(_table(findings))
        for sentence in sentences(findings):
            out.say(sentence)
        page = _report(trace)
        out.say(f"report: {page}")
        out.set(captured=captured, findings=findings, report=page, sentences=sentences(findings))
        out.next("sql", trace, "-q", "SELECT * FROM runs")


def _captured(out: common.Output, output: Path | None, force: bool) -> tuple[Path, str, Spec]:
    """Return the demo's trace, whether it was `made` or `reused`, and its specification."""
    from disco_trace.capture import capture
    from disco_trace.config import resolve
    from disco_trace.guest.resolve import find_guest
    from disco_trace.requests import CaptureRequest

    guest = find_guest(GUEST)
    spec = resolve(machine=MACHINE)
    path = output or Path("traces") / f"demo-{GUEST}-{spec.machine.cpus}cpu"
    args = list(guest.demo_args)
    if path.exists() and not force and _usable(path, args, spec):
        out.say(f"{path}: captured before")
        return path, "reused", spec
    words = " ".join([GUEST, *args])
    out.say(f"capturing {words} on {spec.machine.cpus} CPUs, {spec.machine.nodes} nodes")
    with out.progress("capture", unit="instructions") as progress:
        result = capture(
            CaptureRequest(
                guest=GUEST, args=args, spec=spec, out=path, force=path.exists(), progress=progress
            )
        )
    for warning in result.warnings:
        out.warn(warning)
    if not result.succeeded:
        raise DiscoError(
            "the demo's guest failed",
            file=path,
            expected="exit status 0",
            found=f"{result.exit_reason}, status {result.guest_exit_status}",
            exit_code=EXIT_GUEST,
        )
    million = result.totals.get("instructions", 0) / 1e6
    out.say(
        f"{path}: {million:.0f} M instructions in {result.seconds:.1f} s"
        f" ({result.instructions_per_second / 1e6:.0f} M a second)"
    )
    return path, "made", spec


def _usable(path: Path, args: Sequence[str], spec: Spec) -> bool:
    """Tell whether an earlier demo's trace is complete and the one that we would make.

    Raises DiscoError if there is something at `path` that a demo did not make: it is not ours.
    """
    from disco_trace.config import diff, from_dict
    from disco_trace.trace.manifest import read_manifest

    manifest = read_manifest(path)
    if manifest.guest.name != GUEST:
        raise DiscoError(
            "this is not the demo's trace",
            file=path,
            expected=f"guest {GUEST}",
            found=manifest.guest.name,
            hint="use --force to replace it, or -o PATH to write elsewhere",
        )
    same = list(manifest.guest.args) == list(args) and not diff(from_dict(manifest.config), spec)
    return manifest.complete and same and (path / "runs" / "captured").is_dir()


def _replays(
    out: common.Output, trace: Path, spec: Spec, force: bool
) -> list[tuple[str, ReplayResult]]:
    from disco_trace.config import resolve
    from disco_trace.replay.engine import replay

    results = []
    with out.progress("replays", total=len(QUESTIONS)) as progress:
        for number, question in enumerate(QUESTIONS):
            progress(number, note=question.name)
            sets = question.sets or _near(spec)
            wanted = resolve(base=spec, sets=sets)
            result = replay(
                trace,
                wanted,
                out=None,
                runs=None,
                force=force,
                phase=None,
                record_misses=False,
                progress=None,
            )
            results.append((question.name, result))
    computed = [result for _, result in results if not result.reused]
    if computed:
        seconds = sum(result.seconds for result in computed)
        rows = sum(result.recorded_references for result in computed)
        out.say(
            f"{len(computed)} replays in {seconds:.1f} s"
            f" ({rows / max(seconds, 1e-9) / 1e6:.0f} M recorded references a second)"
        )
    return results


def _near(spec: Spec) -> tuple[str, ...]:
    near = spec.memory.local_ns
    names = ("remote_ns", "dirty_ns", "upgrade_remote_ns", "uncached_remote_ns")
    return tuple(f"memory.{name}={near}" for name in names)


def _findings(results: Sequence[tuple[str, ReplayResult]]) -> list[Finding]:
    from disco_trace.cli.summary import elapsed_cycles, local_fraction

    base = elapsed_cycles(results[0][1].per_cpu)
    return [
        Finding(
            name=name,
            path=result.path,
            cycles=(cycles := elapsed_cycles(result.per_cpu)),
            speedup=base / cycles if cycles else 1.0,
            local_fraction=local_fraction(result.totals),
            moves=result.totals.get("migrations", 0) + result.totals.get("replications", 0),
            reused=result.reused,
        )
        for name, result in results
    ]


def _table(findings: Sequence[Finding]) -> object:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column("what if")
    for name in ("million cycles", "speed-up", "local misses", "pages moved"):
        table.add_column(name, justify="right")
    for finding in findings:
        local = finding.local_fraction
        table.add_row(
            finding.name,
            f"{finding.cycles / 1e6:,.1f}",
            f"{finding.speedup:.2f} x",
            "-" if local is None else f"{100 * local:.0f} %",
            f"{finding.moves:,}",
        )
    return table


def sentences(findings: Sequence[Finding]) -> list[str]:
    """Say in plain sentences what the table holds."""
    base, *others, bound = findings
    text = []
    if base.local_fraction is not None:
        text.append(
            f"As the guest placed its pages, {100 * base.local_fraction:.0f} % of the second-level"
            " misses were served by the CPU's own node."
        )
    best = min(others, key=lambda finding: finding.cycles)
    saved = 100 * (1 - best.cycles / base.cycles) if base.cycles else 0.0
    if best.cycles >= base.cycles:
        text.append("No policy did better than that.")
    else:
        text.append(
            f"The best policy, {best.name}, takes {saved:.0f} % off the time"
            + (
                f", with {100 * best.local_fraction:.0f} % of the misses local."
                if best.local_fraction is not None
                else "."
            )
        )
    gain = 100 * (1 - bound.cycles / base.cycles) if base.cycles else 0.0
    text.append(f"Memory as near as the own everywhere would take {gain:.0f} % off: the bound.")
    worse = [finding.name for finding in others if finding.cycles > 1.005 * base.cycles]
    if worse:
        text.append(f"Worse than doing nothing: {', '.join(worse)}.")
    text.append(
        "These are answers for the recorded instructions in the recorded order: what the guest"
        " would have done differently with more time (no feedback) is not in them."
    )
    return text


def _report(trace: Path) -> Path:
    """Write the report of the trace and all its runs; an older one of it is replaced."""
    from disco_trace.api import Trace

    return Trace(trace).report()
