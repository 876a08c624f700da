"""Write the report: one HTML file with charts, tables and the queries behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from disco_trace.cli import common
from disco_trace.errors import DiscoError


def report(
    paths: common.PathsArgument,
    page: Annotated[
        list[str] | None,
        typer.Option("--page", metavar="NAME", help="Only this page; repeatable."),
    ] = None,
    phase: Annotated[
        str | None,
        typer.Option(
            "--phase", metavar="NAME", help="Only this phase of the guest, and those inside it."
        ),
    ] = None,
    output: common.Out = None,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Write one HTML file that shows traces and their runs, and needs no network.

    A trace brings all its runs; name runs to show only those. The file goes beside the trace.

    Examples:

    \b
        disco-trace report traces/radix-8cpu
        disco-trace report traces/radix-8cpu --page overview --page placement -o radix.html
        disco-trace report traces/radix-8cpu/runs/captured --phase sort --force
    """
    with common.verb("report", json=json, quiet=quiet) as out:
        for path in paths:
            common.check_exists(path, what="a trace or run")
        target = output if output is not None else _beside(paths[0])
        _check_target(target, paths)
        common.check_free(target, force=force, what="report")
        from disco_trace.report.html import write_report

        with out.progress("report", unit="pages") as progress:
            pages = write_report(paths, target, pages=page or (), phase=phase, progress=progress)
        out.say(f"report: {target} ({', '.join(pages)})")
        out.set(path=target, paths=paths, pages=pages, phase=phase)
        out.next("sql", paths[0], "--list")


def _beside(path: Path) -> Path:
    """Return where the report goes: beside the trace, also for one of its runs."""
    resolved = path.resolve()
    if resolved.parent.name == "runs" and (resolved.parent.parent / "manifest.json").is_file():
        return common.report_path(path.parent.parent if path.parent.name == "runs" else resolved)
    return common.report_path(path)


def _check_target(target: Path, paths: list[Path]) -> None:
    """Raise `DiscoError` for a target inside a trace or run, or one that is a folder."""
    if target.is_dir():
        raise DiscoError("not a file", file=target, expected="a file name", found="a folder")
    for path in paths:
        if target.resolve().is_relative_to(path.resolve()):
            raise DiscoError(
                "a report goes beside a trace, not into it",
                file=target,
                expected="a file elsewhere",
                found=f"a place inside {path}",
            )
