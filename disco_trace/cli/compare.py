"""Compare two runs: what differs, and what the difference is due to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from disco_trace.cli import common
from disco_trace.cli.tables import plain_table
from disco_trace.errors import EXIT_NO, DiscoError

if TYPE_CHECKING:
    from disco_trace.blame import Account, Blame
    from disco_trace.trace.run import Run

# What people are shown first; --json has all.
SHOWN: Final = (
    "busy_cycles", "elapsed_cycles", "instructions", "l2_misses", "local_misses", "remote_misses",
    "dirty_misses", "tlb_misses", "traps", "migrations", "replications",
)  # fmt: skip


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="A run; a trace means its capture.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="The run beside it.")],
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="METRIC>+2%",
            help="Exit with 1 if the second run's metric is beyond this; repeatable.",
        ),
    ] = None,
    no_replays: Annotated[
        bool, typer.Option("--no-replays", help="Compare the counters alone, not the causes.")
    ] = False,
    runs: Annotated[
        Path | None,
        typer.Option("--runs", metavar="DIR", help="Where the replays between the runs go."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="PATH", help="Write a page (HTML).")
    ] = None,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Say how two runs differ, where the difference lies, and what causes it.

    Busy cycles are those of all CPUs without idling, elapsed cycles those until the last CPU ends.
    Causes (the guest's stream, caches and latencies, placement, prices, TLB structure) are mixed
    and replayed; each is charged its mean effect over all orders of change, so that they add up
    exactly.

    Examples:

    \b
        disco-trace compare traces/radix-8cpu traces/radix-8cpu/runs/migrate-0a1b2c3d
        disco-trace compare traces/radix-1cpu traces/radix-sseg-disco1-1cpu -o blame.html
        disco-trace compare A B --fail-on 'busy_cycles>+2%' --fail-on 'remote_misses>0' --json
    """
    with common.verb("compare", json=json, quiet=quiet) as out:
        from disco_trace import blame

        one, other = _run(first), _run(second)
        before, after = blame.metrics_of(one), blame.metrics_of(other)
        # A cause of monitor time may be only one run's.
        names = dict.fromkeys([*before, *after])
        before, after = ({name: run.get(name, 0) for name in names} for run in (before, after))
        rules = [blame.parse_rule(text, before) for text in fail_on or []]
        if output is not None:
            common.check_free(output, force=force, what="page")
        accounts = blame.accounts_of(one, other)
        found: Blame | None = None
        if not no_replays:
            common.compile_kernels(out)
            with out.progress("replays between the runs") as progress:
                found = blame.blame(one, other, runs=runs, progress=progress)
        _say(out, before, after, accounts, found)
        failed = [
            rule.text for rule in rules if rule.fails(before[rule.metric], after[rule.metric])
        ]
        for text in failed:
            out.print(f"failed: {text}")
        out.set(
            path=second,
            first=one.path,
            second=other.path,
            metrics=[
                {"metric": name, "first": before[name], "second": after[name]} for name in before
            ],
            accounts=accounts,
            causes=found.causes if found else None,
            interactions=found.interactions if found else None,
            replays=found.replays if found else [],
            failed=failed,
        )
        if output is not None:
            _page(output, one, other, before, after, accounts, found)
            out.say(f"page: {output}")
            out.set(page=output)
        if failed:
            out.exit_code = EXIT_NO
        out.next("report", first, second)


def _run(path: Path) -> Run:
    """Return the run at a path, or the captured run of the trace there."""
    from disco_trace.trace.run import Run

    folder = common.folder_of(path)
    if (folder / "manifest.json").is_file():
        folder = folder / "runs" / "captured"
    run = Run.open(folder)
    if not run.complete:
        raise DiscoError(
            "the run is incomplete: its trace was broken off",
            file=folder,
            expected="two complete runs",
        )
    return run


def _say(
    out: common.Output,
    before: dict[str, int],
    after: dict[str, int],
    accounts: list[Account],
    found: Blame | None,
) -> None:
    for header, rows in _tables(before, after, accounts, found):
        out.show(plain_table(header, rows, left=1))


def _tables(
    before: dict[str, int],
    after: dict[str, int],
    accounts: list[Account],
    found: Blame | None,
) -> list[tuple[list[str], list[list[str]]]]:
    """Return the tables for people: counters, accounts, causes with what they do together."""
    counters = [
        [name, f"{before[name]:,}", f"{after[name]:,}", *_change(before[name], after[name])]
        for name in SHOWN
        if before[name] or after[name]
    ]
    tables = [(["metric", "first", "second", "difference", "%"], counters)]
    base = before["busy_cycles"]
    rows = [
        [
            f"{each.account}: {each.component}{' ' + each.cause if each.cause else ''}",
            f"{each.first:,}", f"{each.second:,}", f"{each.difference:+,}",
            _percent(each.difference, base),
        ]
        for each in accounts
        if each.first or each.second
    ]  # fmt: skip
    tables.append((["account", "first", "second", "difference", "% of busy"], rows))
    if found is not None and found.causes:
        elapsed = before["elapsed_cycles"]
        rows = [
            [each.name, f"{each.busy:+,}", _percent(each.busy, base), f"{each.elapsed:+,}",
             _percent(each.elapsed, elapsed), each.fidelity]
            for each in found.causes
        ]  # fmt: skip
        rows += [
            [f"  (together: {', '.join(each.names)})", f"{each.busy:+,}",
             _percent(each.busy, base), f"{each.elapsed:+,}", _percent(each.elapsed, elapsed), ""]
            for each in found.interactions
        ]  # fmt: skip
        tables.append((["cause", "busy", "%", "elapsed", "%", "trust"], rows))
    return tables


def _change(first: int, second: int) -> tuple[str, str]:
    return f"{second - first:+,}", _percent(second - first, first)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:+.1f}" if whole else "–"


def _page(
    target: Path,
    one: Run,
    other: Run,
    before: dict[str, int],
    after: dict[str, int],
    accounts: list[Account],
    found: Blame | None,
) -> None:
    """Write tables and a drawing of the difference."""
    from disco_trace.report.comparison import Comparison, write_comparison

    names = _names(one), _names(other)
    busy, elapsed = (
        f"{100 * (after[name] / before[name] - 1):+.1f} %"
        for name in ("busy_cycles", "elapsed_cycles")
    )
    sentence = f"From {names[0]} to {names[1]}: busy time {busy}, elapsed time {elapsed}."
    bars = [
        {
            "bar": name,
            # What a CPU lacks of the run's end is drawn as idle time.
            "component": "idle" if each.account == "idle" else each.component,
            "percent": 100 * cycles / before["busy_cycles"],
        }
        for each in accounts
        for name, cycles in zip(names, (each.first, each.second), strict=True)
        if cycles
    ]
    titles = ("Counters", "Where the difference lies", "What causes it")
    notes: tuple[Any, ...] = (
        [sentence],
        ["Cycles of all CPUs: the guest's instructions, stalls of the hardware, the monitor, idling"
         " (ended: after a CPU's last event). The differences add up exactly."],
        ["Each cause's mean effect over all orders in which causes can change; the lines below say"
         " what causes make only together, and are contained in the shares above."],
    )  # fmt: skip
    figures = [
        Comparison(title, header, rows, note, align=1)
        for title, (header, rows), note in zip(
            titles, _tables(before, after, accounts, found), notes, strict=False
        )
    ]
    figures[1].bars = bars
    figures[1].axis = "per cent of the first run's busy time"
    figures[1].legend = "All CPUs together, idle time too, to the end of each run."
    write_comparison(target, f"{names[0]} and {names[1]}", figures, sentence)


def _names(run: Run) -> str:
    trace = run.path.resolve().parent.parent.name if run.path.parent.name == "runs" else ""
    return f"{trace}/{run.name}" if trace else run.name
