"""Measure SQL over a large trace, and what a user waits for: compiling, help, a warm verb, demo."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from captures import State
from timing import DISCO, Table, disco, median, run

from disco_trace.trace.reader import TraceReader

QUERY = "SELECT cpu, kind, count(*) AS n, sum(work_cycles) AS work FROM refs GROUP BY ALL"
NEEDED_EVENTS = 50_000_000

# In a process of its own: what the query takes once the program has started and the trace is open.
_ALONE = """
import sys, time
from pathlib import Path
from disco_trace.report.database import connect
with connect([Path(sys.argv[1])]) as database:
    begin = time.perf_counter()
    rows = list(database.rows(sys.argv[2]))
    print()
    print(time.perf_counter() - begin, sum(row["n"] for row in rows))
"""


def grouped(table: Table, state: State, trace: str) -> None:
    """Add the time of a grouped query over the references of a trace, alone and as a command."""
    path = state.traces[trace]
    totals = TraceReader(path).segments
    rows = sum(part.rows for s in totals for kind, part in s.parts.items() if kind == "refs")
    done = [run((sys.executable, "-c", _ALONE, path, QUERY), state.work) for _ in range(state.runs)]
    # DuckDB may draw its progress on standard output first: the answer is the last line.
    said = [each.output.splitlines()[-1].split() for each in done]
    if {int(words[1]) for words in said} != {rows}:
        raise RuntimeError(f"the query does not see all {rows} references: {done[0].output}")
    seconds = median([float(words[0]) for words in said])
    met = seconds <= 2.0 if rows >= NEEDED_EVENTS else None
    table.add(
        f"grouped query over {rows / 1e6:.1f} M references", f"{seconds:.2f} s",
        "≤ 2 s for 50 M", met, f"`{QUERY}`",
    )  # fmt: skip
    whole = [disco(("sql", path, "-q", QUERY), state.work) for _ in range(state.runs)]
    table.add("  … as a command", f"{median([each.seconds for each in whole]):.2f} s")
    state.resident[f"sql {trace}"] = max(each.resident_bytes for each in (*done, *whole))


def cold_compile(table: Table, work: Path) -> None:
    """Compile into an empty cache, which the rest of this benchmark uses then: one run."""
    cache = work / "cache"
    cache.mkdir()
    os.environ["XDG_CACHE_HOME"] = str(cache)
    usage = os.times()
    done = disco(("doctor", "--compile"), work)
    spent = os.times()
    busy = spent.children_user + spent.children_system
    busy -= usage.children_user + usage.children_system
    seconds = done.seconds
    table.add(
        "cold compile", f"{seconds:.1f} s", "≤ 60 s", seconds <= 60,
        f"`doctor --compile`, empty XDG_CACHE_HOME, one run; {busy:.1f} s of processor time",
    )  # fmt: skip


def waits(table: Table, state: State) -> None:
    """Add the times of --help, a warm capture of `hello`, and `info`."""
    work = state.work

    def seconds(*words: str | Path) -> float:
        return median([run((*DISCO, *words), work).seconds for _ in range(state.runs)])

    value = seconds("--help")
    table.add("`--help`", f"{value:.2f} s", "≤ 0.5 s", value <= 0.5)
    hello = work / "hello"
    value = seconds("capture", "hello", "-o", hello, "--force")
    table.add("warm verb: `capture hello`", f"{value:.2f} s", "≤ 1.5 s", value <= 1.5)
    value = seconds("info", hello)
    table.add("warm verb: `info`", f"{value:.2f} s", "≤ 1.5 s", value <= 1.5)


def demo(table: Table, state: State) -> None:
    """Add the time of the demo with compiled kernels: one run."""
    done = run((*DISCO, "demo", "-o", state.work / "demo", "--force"), state.work)
    table.add("`demo`, compiled before", f"{done.seconds:.1f} s", "≤ 90 s", done.seconds <= 90)
    state.resident["demo"] = done.resident_bytes
