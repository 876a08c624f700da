"""Verify every invariant of a trace."""

from __future__ import annotations

from disco_trace.cli import common
from disco_trace.errors import EXIT_NO


def check(
    path: common.PathArgument,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Verify a trace, its runs and checkpoints: hashes, order, ranges, balances, totals.

    Exit code 1 says that the trace is wrong. Warnings alone, as the leftovers of a killed
    capture, do not make it wrong.

    Examples:

    \b
        disco-trace check traces/radix-8cpu
        disco-trace check traces/radix-8cpu/runs/captured
        disco-trace check traces/radix-8cpu/checkpoints/sort
    """
    with common.verb("check", json=json, quiet=quiet) as out:
        from disco_trace.trace import check as checker
        from disco_trace.trace.checkpoint import CHECKPOINT
        from disco_trace.trace.reader import TraceReader
        from disco_trace.trace.run_writer import RUN

        folder = common.folder_of(path)
        out.set(path=folder)
        is_trace = False
        if (folder / RUN).is_file():
            problems = checker.check_run(folder)
        elif (folder / CHECKPOINT).is_file():
            problems = checker.check_checkpoint(folder)
        else:
            with out.progress("checking", unit="segments") as progress:
                problems = checker.check(folder, progress=progress)
            is_trace = True
        errors = [p for p in problems if p.severity == "error"]
        for problem in errors:
            out.print(str(problem))
        for problem in problems:
            if problem.severity == "warning":
                out.warn(str(problem).removeprefix("warning: "))
        out.set(problems=problems, errors=len(errors))
        if errors:
            out.exit_code = EXIT_NO
        else:
            cut = ""
            if is_trace:
                complete = TraceReader(folder).complete
                out.set(complete=complete)
                cut = "" if complete else ", as far as it goes: the capture was broken off"
            out.say(f"every invariant holds{cut}")
            out.next("info", folder)
