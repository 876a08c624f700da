"""Reproduce a figure or table of the literature: capture, replay, and print ours beside theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from disco_trace.cli import common
from disco_trace.errors import DiscoError

if TYPE_CHECKING:
    from disco_trace.experiments import Outcome

# Experiments under the monitor come with it.
LATER: Final = ("fig5", "fig6")
KNOWN: Final = ("fig8", "table3")


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

    fig8 is time and locality under page migration and replication; table3 counts and prices the
    moves. Both stand on the same captures, which are used again when they are there.

    Examples:

    \b
        disco-trace reproduce fig8
        disco-trace reproduce table3 --json
    """
    with common.verb("reproduce", json=json, quiet=quiet) as out:
        _check_name(experiment)
        page = output or folder / f"{experiment}.html"
        common.check_free(page, force=force, what="page")
        out.set(compile_seconds=common.compile_kernels(out))
        traces, found = _run(out, experiment, folder)
        from disco_trace.report.comparison import moves_figures, stalls_figures, write_comparison

        make = stalls_figures if experiment == "fig8" else moves_figures
        title, figures = make(found)
        for figure in figures:
            out.show(_table(figure.header, figure.rows))
        write_comparison(page, title, figures)
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

    traces, found = [], []
    for workload in experiments.read_experiment(name).workloads:
        out.say(f"capturing {workload.guest} on {workload.machine}")
        with out.progress("capture", unit="instructions") as progress:
            trace, spec, reused = experiments.capture_of(workload, folder, progress)
        out.say(f"{trace}: {'captured before' if reused else 'captured'}")
        with out.progress("replays", total=len(workload.cases)) as progress:
            found += experiments.outcomes(workload, trace, spec, progress)
        traces.append(trace)
    return traces, found


def _table(header: list[str], rows: list[list[str]]) -> object:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index < 2 else "right", no_wrap=index < 2)
    for row in rows:
        table.add_row(*row)
    return table
