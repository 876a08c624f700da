"""Reproduce a figure or table of the literature: capture, replay, and print ours beside theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from disco_trace.cli import common
from disco_trace.cli.tables import plain_table
from disco_trace.errors import DiscoError

if TYPE_CHECKING:
    from disco_trace.experiments import Outcome

# What the monitor cannot do yet.
LATER: Final = ("fig6",)
KNOWN: Final = ("fig5", "fig8", "table3")


def reproduce(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help=", ".join(KNOWN))],
    folder: Annotated[
        Path, typer.Option("--traces", metavar="DIR", help="Where traces and the page go.")
    ] = Path("traces"),
    output: common.Out = None,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Capture what an experiment of the SOSP 1997 paper needs, replay it, set it beside the paper.

    fig5 is the monitor's overhead on one CPU, by part and by cause. fig8 is time and locality under
    page migration and replication; table3 counts and prices the moves. Captures that are there are
    used again.

    Examples:

    \b
        disco-trace reproduce fig5
        disco-trace reproduce fig8
        disco-trace reproduce table3 --json
    """
    with common.verb("reproduce", json=json, quiet=quiet) as out:
        _check_name(experiment)
        page = output or folder / f"{experiment}.html"
        common.check_free(page, force=force, what="page")
        out.set(compile_seconds=common.compile_kernels(out))
        from disco_trace.report import comparison

        text = ""
        if experiment == "fig5":
            traces, found, absent = _overhead(out, experiment, folder)
            title, figures = comparison.overhead_figures(found, absent)
            text = comparison.OVERHEAD_TEXT
        else:
            traces, found = _run(out, experiment, folder)
            fig8 = experiment == "fig8"
            make = comparison.stalls_figures if fig8 else comparison.moves_figures
            title, figures = make(found)
        for figure in figures:
            out.show(plain_table(figure.header, figure.rows, left=2))
        comparison.write_comparison(page, title, figures, text)
        out.say(f"page: {page} (open it in a browser)")
        out.set(path=page, experiment=experiment, traces=traces, outcomes=found)
        out.next("report", traces[0])


def _check_name(name: str) -> None:
    if name in LATER:
        raise DiscoError(
            f"the experiment {name!r} needs more of the monitor than this version has",
            expected=", ".join(KNOWN),
            found=name,
        )
    if name not in KNOWN:
        raise DiscoError(f"no experiment {name!r}", expected=", ".join(KNOWN), found=name)


def _run(out: common.Output, name: str, folder: Path) -> tuple[list[Path], list[Outcome]]:
    """Capture every workload and replay its cases; return the traces and what was found."""
    from disco_trace import experiments

    traces: list[Path] = []
    found: list[Outcome] = []
    for workload in experiments.read_experiment(name).workloads:
        out.say(f"capturing {workload.guest} on {workload.machine}")
        with out.progress("capture", unit="instructions") as progress:
            trace, spec, reused = experiments.capture_of(workload, folder, progress)
        out.say(f"{trace}: {'captured before' if reused else 'captured'}")
        with out.progress("replays", total=len(workload.cases)) as progress:
            found += experiments.outcomes(workload, trace, spec, progress)
        traces.append(trace)
    return traces, found


def _overhead(out: common.Output, name: str, folder: Path) -> tuple[list[Path], list[Any], str]:
    """Capture every workload bare and over Disco; return traces, outcomes, and what is absent."""
    from disco_trace import overhead

    experiment = overhead.read_overhead(name)
    traces: list[Path] = []
    found: list[Any] = []
    for workload in experiment.workloads:
        out.say(f"capturing {workload.bare} bare, then {workload.disco} over Disco")
        with out.progress("capture", unit="instructions") as progress:
            outcome, reused = overhead.measure(workload, folder, progress)
        words = "captured before" if reused else "captured"
        out.say(f"{' and '.join(map(str, outcome.traces))}: {words}")
        found.append(outcome)
        traces += outcome.traces
    return traces, found, experiment.absent
