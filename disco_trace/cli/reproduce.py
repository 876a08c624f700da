"""Reproduce a figure or table of the literature: capture, replay, and print ours beside theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from disco_trace.cli import common
from disco_trace.cli.tables import plain_table
from disco_trace.errors import EXIT_MISTAKE, DiscoError

if TYPE_CHECKING:
    from disco_trace.report.comparison import Comparison

KNOWN: Final = ("fig5", "fig6", "fig7", "fig8", "table2", "table3")


@dataclass
class _Found:
    """Hold what an experiment gave: traces, outcomes for the JSON, and the page's figures."""

    traces: list[Path]
    outcomes: list[Any]
    title: str
    figures: list[Comparison]
    text: str = ""


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

    fig5 is the monitor's overhead on one CPU, by part and by cause. fig6 is the memory of one to
    eight machines, seen and used. fig7 is the time of parallel work on eight CPUs, in one to eight
    machines. fig8 is time and locality under page migration and replication;
    table3 counts and prices the moves. table2 is the slowdown of single services of the kernel, and
    the prices that it implies. Captures that are there are used again.

    Examples:

    \b
        disco-trace reproduce fig5
        disco-trace reproduce fig8
        disco-trace reproduce table3 --json
    """
    with common.verb("reproduce", json=json, quiet=quiet) as out:
        if experiment not in KNOWN:
            raise DiscoError(
                f"no experiment {experiment!r}", expected=", ".join(KNOWN), found=experiment
            )
        page = output or folder / f"{experiment}.html"
        common.check_free(page, force=force, what="page")
        out.set(compile_seconds=common.compile_kernels(out))
        from disco_trace.report.comparison import write_comparison

        try:
            found = _RUNS[experiment](out, experiment, folder)
        except DiscoError as error:
            inside = error.file and Path(error.file).resolve().is_relative_to(folder.resolve())
            if inside and error.hint is None and error.exit_code == EXIT_MISTAKE:
                error.hint = "delete a trace that is damaged: it is captured anew"
            raise
        for figure in found.figures:
            out.show(plain_table(figure.header, figure.rows, left=figure.align))
        write_comparison(page, found.title, found.figures, found.text)
        out.say(f"page: {page} (open it in a browser)")
        out.set(path=page, experiment=experiment, traces=found.traces, outcomes=found.outcomes)
        out.next("report", found.traces[0])


def _moves(out: common.Output, name: str, folder: Path) -> _Found:
    """Capture every workload and replay its cases."""
    from disco_trace.experiments import placement
    from disco_trace.report import comparison

    traces: list[Path] = []
    found: list[Any] = []
    for workload in placement.read_experiment(name).workloads:
        out.say(f"capturing {workload.guest} on {workload.machine}")
        with out.progress("capture", unit="instructions") as progress:
            trace, spec, reused = placement.capture_of(workload, folder, progress)
        _say_captured(out, [trace], reused)
        with out.progress("replays", total=len(workload.cases)) as progress:
            found += placement.outcomes(workload, trace, spec, progress)
        traces.append(trace)
    make = comparison.stalls_figures if name == "fig8" else comparison.moves_figures
    return _Found(traces, found, *make(found))


def _overhead(out: common.Output, name: str, folder: Path) -> _Found:
    """Capture every workload bare and over Disco."""
    from disco_trace.experiments import overhead
    from disco_trace.report import comparison

    experiment = overhead.read_overhead(name)
    traces: list[Path] = []
    found: list[Any] = []
    for workload in experiment.workloads:
        out.say(f"capturing {workload.bare} bare, then {workload.disco} over Disco")
        with out.progress("capture", unit="instructions") as progress:
            outcome, reused = overhead.measure(workload, folder, progress)
        _say_captured(out, outcome.traces, reused)
        found.append(outcome)
        traces += outcome.traces
    title, figures = comparison.overhead_figures(found, experiment.absent)
    return _Found(traces, found, title, figures, comparison.OVERHEAD_TEXT)


def _footprint(out: common.Output, name: str, folder: Path) -> _Found:
    """Capture one guest in one to eight machines that share pages."""
    from disco_trace.experiments import footprint
    from disco_trace.report import footprints

    experiment = footprint.read_footprint(name)
    found: list[Any] = []
    for case in experiment.cases:
        out.say(f"capturing {experiment.guest}: {case.name}")
        with out.progress("capture", unit="instructions") as progress:
            outcome, reused = footprint.measure(experiment, case, folder, progress)
        _say_captured(out, [outcome.trace], reused)
        found.append(outcome)
    title, figures = footprints.footprint_figures(found, experiment.why)
    return _Found([each.trace for each in found], found, title, figures, footprints.TEXT)


def _scaling(out: common.Output, name: str, folder: Path) -> _Found:
    """Capture one piece of work on all CPUs, bare and in virtual machines."""
    from disco_trace.experiments import scaling
    from disco_trace.report import scalings

    workloads = scaling.read_scaling(name).workloads
    found: list[Any] = []
    for workload in workloads:
        out.say(f"capturing {workload.name}: {', '.join(case.name for case in workload.cases)}")
        with out.progress("capture", unit="instructions") as progress:
            outcomes, reused = scaling.measure(workload, folder, progress)
        _say_captured(out, [outcome.trace for outcome in outcomes], reused)
        found += outcomes
    title, figures = scalings.scaling_figures(workloads, found)
    return _Found([each.trace for each in found], found, title, figures, scalings.TEXT)


def _services(out: common.Output, name: str, folder: Path) -> _Found:
    """Capture the services of a kernel bare and over Disco; calibrate prices by them."""
    from disco_trace.experiments import services
    from disco_trace.report import services as figures

    experiment = services.read_services(name)
    out.say(f"capturing {experiment.bare} bare, then {experiment.disco} over Disco")
    with out.progress("capture", unit="instructions") as progress:
        found, reused = services.measure(experiment, folder, progress)
    _say_captured(out, found.traces, reused)
    out.set(prices=found.prices, errors=[found.error_others, found.error_assumed])
    made = figures.service_figures(found, experiment.why)
    return _Found(list(found.traces), found.rows, *made, figures.TEXT)


def _say_captured(out: common.Output, traces: list[Path] | tuple[Path, ...], reused: bool) -> None:
    out.say(f"{' and '.join(map(str, traces))}: {'captured before' if reused else 'captured'}")


_RUNS: Final[Mapping[str, Callable[[common.Output, str, Path], _Found]]] = {
    "fig5": _overhead,
    "fig6": _footprint,
    "fig7": _scaling,
    "fig8": _moves,
    "table2": _services,
    "table3": _moves,
}
