"""Show in a minute what the program is for: one capture, several what-ifs, one report."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from disco_trace.cli import common

if TYPE_CHECKING:
    from disco_trace.config import Spec
    from disco_trace.requests import ReplayResult

GUEST: Final = "database"
MACHINE: Final = "flash8"
# Half of the guest's usual size on caches of half the size, so that the tables are as much larger
# than a cache; four rounds of the query, so that a page is missed on often enough to be moved.
ARGUMENTS: Final = ("rows=128K", "products=4K", "rounds=4")
SETS: Final = ("memory.l2.size_bytes=512KiB",)
# What counts is the query: before it CPU 0 loads the tables alone, after it the guest checks
# itself.
PHASE: Final = "query"


_WHOSE: Final = "the demo's"
_ELSEWHERE: Final = "use --force to replace it, or -o PATH to write elsewhere"

# For the reader to go on with.
NEXT_QUERY: Final = (
    "SELECT symbol, mode, local, remote, stall_cycles FROM symbol_misses"
    " ORDER BY stall_cycles DESC LIMIT 10"
)


@dataclass(frozen=True)
class Question:
    """Hold one what-if: how it is called, what it changes, as words of `--set`."""

    name: str
    sets: tuple[str, ...]


# CPU 0 loads the tables, so all of them lie where it put them unless pages are dealt again, to
# whoever uses them first once the query begins (phase 3 of the guest).
_AT_QUERY: Final = "placement.retouch_phase=3"
# The last is no policy but the bound of all: every memory as near as the own.
QUESTIONS: Final = (
    Question("guest", ("placement.policy=guest",)),
    Question("round-robin", ("placement.policy=round-robin",)),
    Question("first-touch", ("placement.policy=first-touch",)),
    Question("first-touch at query", ("placement.policy=first-touch", _AT_QUERY)),
    Question("migrate", ("placement.policy=migrate",)),
    Question(
        "migrate, eager",
        (
            "placement.policy=migrate",
            "placement.trigger_misses=32",
            "placement.sharing_misses=8",
        ),
    ),
    Question(
        "first-touch at query, then migrate-replicate",
        ("placement.policy=migrate-replicate", "placement.initial=first-touch", _AT_QUERY),
    ),
    # Nodes of a power of two frames put their n-th pages into the same sets of a cache; a few more
    # frames a node part them (docs/policies.md).
    Question(
        "the same, nodes offset in the caches",
        (
            "placement.policy=migrate-replicate",
            "placement.initial=first-touch",
            "placement.node_frames=16400",
            _AT_QUERY,
        ),
    ),
    Question("all memory near", ()),
)


@dataclass(frozen=True)
class Finding:
    """Hold one line of the demo's table, all of the query alone.

    cycles: sum over the CPUs, without idle time. moves: pages migrated or copied. saved_percent:
    against the first line; negative where time was lost.
    """

    name: str
    path: Path
    cycles: int
    saved_percent: float
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

    Takes about half a minute. What an earlier demo left is used again; --force begins anew.

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
        findings = _findings(trace, results)
        out.say()
        out.say(f"The {PHASE} alone, in million cycles of all CPUs together, idle time left out:")
        out.show(_table(findings))
        for sentence in sentences(findings):
            out.say(wrapped(sentence))
        page = _report(out, trace)
        out.say(f"\nreport: {page} (open it in a browser)")
        out.set(captured=captured, findings=findings, report=page, sentences=sentences(findings))
        out.next("sql", trace, "--phase", PHASE, "-q", NEXT_QUERY)


def _captured(out: common.Output, output: Path | None, force: bool) -> tuple[Path, str, Spec]:
    """Return the demo's trace, whether it was `made` or `reused`, and its specification."""
    from disco_trace.config import resolve
    from disco_trace.experiments.captures import capture_now, captured_before

    spec = resolve(machine=MACHINE, sets=SETS)
    path = output or Path("traces") / f"demo-{GUEST}-{spec.machine.cpus}cpu"
    if (
        path.exists()
        and not force
        and captured_before(path, GUEST, ARGUMENTS, spec, whose=_WHOSE, hint=_ELSEWHERE)
    ):
        out.say(f"{path}: captured before")
        return path, "reused", spec
    words = " ".join([GUEST, *ARGUMENTS])
    out.say(f"capturing {words} on {spec.machine.cpus} CPUs, {spec.machine.nodes} nodes")
    with out.progress("capture", unit="instructions") as progress:
        result = capture_now(path, GUEST, ARGUMENTS, spec, progress, whose=_WHOSE)
    for warning in result.warnings:
        out.warn(warning)
    million = result.totals.get("instructions", 0) / 1e6
    out.say(
        f"{path}: {million:.0f} M instructions in {result.seconds:.1f} s"
        f" ({result.instructions_per_second / 1e6:.0f} M a second)"
    )
    return path, "made", spec


def _replays(
    out: common.Output, trace: Path, spec: Spec, force: bool
) -> list[tuple[str, ReplayResult]]:
    from disco_trace.config import resolve
    from disco_trace.experiments.captures import all_near
    from disco_trace.replay.engine import replay

    results = []
    with out.progress("replays", total=len(QUESTIONS)) as progress:
        for number, question in enumerate(QUESTIONS):
            progress(number, note=question.name)
            sets = question.sets or all_near(spec)
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


# Per run: cycles that were not idle, local misses, all misses, pages moved; in the query alone.
_COUNTED: Final = """
    SELECT run, metric, sum(value) AS value FROM totals
    WHERE metric IN ('cycles', 'idle_cycles', 'l2_misses', 'local_misses', 'migrations',
        'replications')
    GROUP BY run, metric
"""


def counted(trace: Path, runs: Sequence[Path]) -> dict[Path, dict[str, int]]:
    """Return what each run counted in the query alone: metric by metric, over all CPUs."""
    from disco_trace.report.database import connect

    names = {run.name: run for run in runs}
    found: dict[Path, dict[str, int]] = {run: {} for run in runs}
    with connect([trace, *runs], phase=PHASE) as database:
        for row in database.rows(_COUNTED):
            if row["run"] in names:
                found[names[row["run"]]][row["metric"]] = int(row["value"])
    return found


def _findings(trace: Path, results: Sequence[tuple[str, ReplayResult]]) -> list[Finding]:
    by_run = counted(trace, [result.path for _, result in results])
    found = [by_run[result.path] for _, result in results]
    cycles = [each["cycles"] - each["idle_cycles"] for each in found]
    return [
        Finding(
            name=name,
            path=result.path,
            cycles=busy,
            saved_percent=100 * (1 - busy / cycles[0]) if cycles[0] else 0.0,
            local_fraction=each["local_misses"] / each["l2_misses"] if each["l2_misses"] else None,
            moves=each["migrations"] + each["replications"],
            reused=result.reused,
        )
        for (name, result), each, busy in zip(results, found, cycles, strict=True)
    ]


def _table(findings: Sequence[Finding]) -> object:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("what if")
    for name in ("M cycles", "saved", "local", "pages moved"):
        table.add_column(name, justify="right", no_wrap=True)
    for finding in findings:
        local = finding.local_fraction
        table.add_row(
            finding.name,
            f"{finding.cycles / 1e6:,.1f}",
            f"{finding.saved_percent:.1f} %",
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
            f"Where the guest put its pages, {100 * base.local_fraction:.0f} % of the query's"
            " second-level misses are served by the CPU's own node"
            + (
                f"; were all memory as near as that, {bound.saved_percent:.0f} % of the time"
                " would go, which is about the most that any placement could save."
                if bound.saved_percent > 0
                else "."
            )
        )
    best = max(others, key=lambda finding: finding.saved_percent)
    if best.saved_percent < 0.5:
        text.append("No policy saves time worth mentioning.")
    else:
        local = best.local_fraction
        text.append(
            f'Best is "{best.name}": it saves {best.saved_percent:.0f} % of the time'
            + ("." if local is None else f" and serves {100 * local:.0f} % of the misses locally.")
        )
    worse = [finding for finding in others if finding.saved_percent < -0.5]
    if worse:
        listed = ", ".join(f'"{each.name}" by {-each.saved_percent:.0f} %' for each in worse)
        text.append(f"Slower than leaving the pages alone: {listed}.")
    text.append(
        "These answers hold for the recorded instructions in the recorded order: what the guest"
        ' would have done differently at another speed is not in them ("no feedback").'
    )
    return text


def wrapped(text: str) -> str:
    """Break a paragraph between words, for the terminal's width."""
    return textwrap.fill(text, min(shutil.get_terminal_size().columns, 100))


def _report(out: common.Output, trace: Path) -> Path:
    """Write the report of the trace and all its runs; an older one of it is replaced."""
    from disco_trace.api import Trace

    with out.progress("report") as progress:
        progress(0, note="drawing the charts")
        return Trace(trace).report()
