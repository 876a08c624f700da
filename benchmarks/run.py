"""Print one table of speeds and sizes: `python benchmarks/run.py [--runs N] [--markdown FILE]`.

Every measure has pinned arguments and writes to a temporary folder. Figures are medians of some
runs, except where the table says otherwise; ratios to peers come from runs of the same minute.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import captures
import peers
import questions
from timing import Table

SORT = ("radix", "--machine", "flash8")
DATABASE = ("database", "--machine", "flash8")
ROWS = ("--", "rows=256K", "rounds=2")
LONG = ("--", "rows=256K", "rounds=17")


def load() -> str:
    return "load " + " ".join(f"{value:.2f}" for value in os.getloadavg())


def measure(work: Path, runs: int, quick: bool) -> Table:
    """Make every measure; `quick` leaves out the large trace."""
    table = Table()
    questions.cold_compile(table, work)
    state = captures.State(work, runs)
    questions.waits(table, state)
    for bits in (6, 8):
        arguments = ("--", "keys=2M", f"bits={bits}")
        name = f"radix bits={bits},"
        captures.capture(table, state, f"{name} 1 CPU", (*SORT, *captures.ONE_CPU, *arguments))
        captures.drop(state, f"{name} 1 CPU")
        captures.capture(table, state, f"{name} 8 CPUs", (*SORT, *arguments))
        captures.drop(state, f"{name} 8 CPUs")
    table.attempt("QEMU with its cache plugin", lambda: peers.qemu(table, state))
    name = "database, 8 CPUs"
    captures.capture(table, state, "database, 1 CPU", (*DATABASE, *captures.ONE_CPU, *ROWS))
    captures.capture(table, state, name, (*DATABASE, *ROWS))
    captures.sizes(table, state, name)
    captures.replay(table, state, name, core=None)
    captures.replay(table, state, name, core=0)
    table.attempt("pycachesim", lambda: peers.pycachesim(table, state, name))
    if not quick:
        large = "database, large"
        captures.capture(table, state, large, (*DATABASE, *LONG), runs=1)
        captures.sizes(table, state, large)
        questions.grouped(table, state, large)
    questions.demo(table, state)
    captures.resident(table, state)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="runs of each measure")
    parser.add_argument("--quick", action="store_true", help="leave out the large trace")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    options = parser.parse_args()
    begin, before = time.perf_counter(), load()
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    print(f"{before} at the start", flush=True)
    with tempfile.TemporaryDirectory(prefix="disco-bench-") as folder:
        table = measure(Path(folder), options.runs, options.quick)
    closing = f"{load()} at the end; {time.perf_counter() - begin:.0f} s in all"
    print(closing)
    if options.markdown:
        text = f"{before} at the start; {closing}\n\n{table.markdown()}\n"
        options.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
