"""Run commands, take medians, print a table: what every measure of `run.py` shares."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DISCO = (sys.executable, "-m", "disco_trace")


class Skip(Exception):
    """Say why a measure cannot be made here, and what would make it possible."""


@dataclass(frozen=True)
class Done:
    """Hold what one command did: wall seconds, peak resident bytes, exit code and its JSON."""

    seconds: float
    resident_bytes: int
    code: int
    output: str
    answer: dict[str, Any] = field(default_factory=dict)


def run(words: Sequence[str | Path], cwd: Path, *, env: dict[str, str] | None = None) -> Done:
    """Run one command to its end. Raises RuntimeError with its last words if it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        # One child at a time, and its own resource usage: hence wait4 and no communicate().
        process = subprocess.Popen(
            [str(word) for word in words], cwd=cwd, stdout=out, stderr=err, env=env
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = code = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        output = out.read().decode(errors="replace")
        said = err.read().decode(errors="replace")
    if code != 0:
        last = (said or output).strip()[-400:]
        raise RuntimeError(f"{' '.join(map(str, words))}: exit {code}: {last}")
    return Done(seconds, usage.ru_maxrss * 1024, code, output)


def disco(words: Sequence[str | Path], cwd: Path, *, core: int | None = None) -> Done:
    """Run a verb with --json, on one core if `core` is given."""
    pin: tuple[str, ...] = () if core is None else ("taskset", "-c", str(core))
    # Options stand before the guest's own arguments.
    at = list(words).index("--") if "--" in words else len(words)
    done = run((*pin, *DISCO, *words[:at], "--json", *words[at:]), cwd)
    answer = json.loads(done.output)
    return Done(done.seconds, done.resident_bytes, done.code, done.output, answer)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


@dataclass
class Row:
    """Hold one line of the table; `aim` is the figure to reach, `met` None where there is none."""

    what: str
    value: str
    aim: str = ""
    met: bool | None = None
    note: str = ""


@dataclass
class Table:
    """Collect rows; print each as soon as it is known, and all as Markdown at the end."""

    rows: list[Row] = field(default_factory=list)

    def add(
        self, what: str, value: str, aim: str = "", met: bool | None = None, note: str = ""
    ) -> None:
        self.rows.append(Row(what, value, aim, met, note))
        print(f"  {what:58s} {value:>16s}  {aim} {_word(met)} {note}".rstrip(), flush=True)

    def attempt(self, what: str, measure: Callable[[], None]) -> None:
        """Make a measure; where it cannot be made the table says so, and the rest goes on."""
        try:
            measure()
        except Skip as reason:
            self.add(what, "skipped", note=str(reason))

    def markdown(self) -> str:
        lines = ["| measure | measured | to reach | | |", "|---|--:|--:|---|---|"]
        for row in self.rows:
            lines.append(
                f"| {row.what} | {row.value} | {row.aim} | {_word(row.met)} | {row.note} |"
            )
        return "\n".join(lines)


def _word(met: bool | None) -> str:
    return {None: "", True: "reached", False: "**falls short**"}[met]


def million(rate: float) -> str:
    return f"{rate / 1e6:.1f} M/s"
