"""Measure what a monitor costs a guest: the same program bare and in a virtual machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from disco_trace.config import resolve
from disco_trace.experiments.captures import capture_once, read_description
from disco_trace.requests import ProgressCallback

EXPERIMENTS: Final = {"fig5": "fig5"}

# Where time goes in Figure 5, stalls included.
PARTS: Final = ("user", "kernel", "monitor", "idle")
_OF_MODE: Final[Mapping[str, str]] = {
    "user": "user",
    "kernel": "kernel",
    "supervisor": "kernel",
    "refill": "kernel",
}


class Parts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold a bar: in per cent of the time on the bare machine."""

    user: float
    kernel: float
    idle: float
    monitor: float = 0.0

    @property
    def total(self) -> float:
        """Return the height of the bar."""
        return self.user + self.kernel + self.monitor + self.idle

    @property
    def busy(self) -> float:
        """Return the bar without idle time, which can hide what a monitor costs."""
        return self.total - self.idle


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold the two published bars of a workload, and the total that is printed for the monitor."""

    bare: Parts
    disco: Parts
    total: float


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe a program: its image for the bare machine, and the one that a monitor runs."""

    name: str
    bare: str
    disco: str
    machine: str
    published: Pair
    args: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    why: str = ""


class Overhead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe the experiment; `absent` says which published workloads have no counterpart."""

    title: str
    source: str
    absent: str
    workloads: tuple[Workload, ...]


@dataclass(frozen=True)
class Cause:
    """Hold one cause of monitor time: entries, and per cent of the time on the bare machine."""

    name: str
    entries: int
    percent: float
    us_each: float


@dataclass(frozen=True)
class Outcome:
    """Hold what a workload gave, in per cent of its time on the bare machine."""

    workload: str
    bare: Parts
    disco: Parts
    causes: list[Cause]
    published: Pair
    traces: tuple[Path, Path]
    # Of the programs, bare and over Disco, each retired once; what retired again; and whether every
    # process retired as many.
    user_instructions: tuple[int, int]
    user_restarts: tuple[int, int]
    same_by_process: bool
    why: str


def read_overhead(name: str) -> Overhead:
    """Read the experiment's description. Raises DiscoError (our bug) if it does not fit."""
    return read_description(EXPERIMENTS[name], Overhead)


def measure(
    workload: Workload, folder: Path, progress: ProgressCallback | None = None
) -> tuple[Outcome, bool]:
    """Capture a workload bare and under Disco below `folder`, or take what was captured before.

    Returns what came out, and whether both were there. Raises DiscoError if a guest fails, or if
    something else stands in a trace's place.
    """
    pairs = (workload.bare, "none"), (workload.disco, "disco")
    traces, known = [], True
    for guest, monitor in pairs:
        spec = resolve(machine=workload.machine, monitor=monitor, sets=workload.sets)
        trace, reused = capture_once(guest, workload.args, spec, folder, progress)
        traces.append(trace)
        known = known and reused
    bare, disco = (count_parts(trace) for trace in traces)
    whole = sum(bare.parts.values())
    causes = [
        Cause(
            name=name,
            entries=disco.entries.get(name, 0),
            percent=100 * cycles / whole,
            us_each=cycles / disco.entries[name] / spec.machine.clock_mhz,
        )
        for name, cycles in sorted(disco.causes.items(), key=lambda item: -item[1])
        if disco.entries.get(name)
    ]
    outcome = Outcome(
        workload=workload.name,
        bare=percent(bare.parts, whole),
        disco=percent(disco.parts, whole),
        causes=causes,
        published=workload.published,
        traces=(traces[0], traces[1]),
        user_instructions=(bare.user_instructions, disco.user_instructions),
        user_restarts=(bare.user_restarts, disco.user_restarts),
        same_by_process=bare.by_process == disco.by_process,
        why=workload.why,
    )
    return outcome, known


@dataclass
class Counted:
    """Hold cycles by part and by cause of monitor time, entries by cause, user instructions.

    And the sums of all counters, with the cycles from beginning to end.
    """

    parts: dict[str, int]
    causes: dict[str, int]
    entries: dict[str, int]
    by_process: dict[tuple[int, str], int]
    user_restarts: int
    totals: dict[str, int]

    @property
    def user_instructions(self) -> int:
        """Return what all programs retired, each instruction once."""
        return sum(self.by_process.values())


def count_parts(trace: Path) -> Counted:
    """Return what the capture of a trace counted, over all CPUs."""
    from disco_trace.report.database import connect

    retired, again = user_instructions(trace)
    by_process = {key: count - again.get(key, 0) for key, count in retired.items()}
    found = Counted(dict.fromkeys(PARTS, 0), {}, {}, by_process, sum(again.values()), {})
    with connect([trace / "runs" / "captured"]) as database:
        for row in database.rows(
            "SELECT mode, metric, sum(value) AS value FROM _accounts WHERE run = 'captured'"
            " GROUP BY ALL"
        ):
            metric, value = str(row["metric"]), int(row["value"])
            if not metric.endswith("_cycles"):
                continue
            if metric.startswith("monitor_"):
                found.parts["monitor"] += value
                cause = metric.removeprefix("monitor_").removesuffix("_cycles")
                found.causes[cause] = found.causes.get(cause, 0) + value
            elif metric == "idle_cycles":
                found.parts["idle"] += value
            else:
                found.parts[_OF_MODE[str(row["mode"])]] += value
        for row in database.rows(
            "SELECT metric, sum(value) AS value, max(value) AS most FROM totals"
            " WHERE run = 'captured' GROUP BY ALL"
        ):
            found.totals[str(row["metric"])] = int(row["value"])
            if row["metric"] == "cycles":
                found.totals["elapsed_cycles"] = int(row["most"])
        for row in database.rows("SELECT cause, count(*) AS entries FROM traps GROUP BY ALL"):
            found.entries[str(row["cause"])] = int(row["entries"])
    return found


def user_instructions(
    trace: Path,
) -> tuple[dict[tuple[int, str], int], dict[tuple[int, str], int]]:
    """Return what user mode retired by machine and process, and what of it retired again.

    An exception in the delay slot of a branch goes on at the branch, which so retires twice: how
    often depends on who resolves TLB misses and on when interrupts come, not on the program.
    """
    from disco_trace.report.database import connect

    def counted(rows: list[dict[str, Any]]) -> dict[tuple[int, str], int]:
        # The first process has the image's name, which says where its kernel is linked.
        return {
            (row["vm"], row["process"].removesuffix("-sseg")): int(row["count"]) for row in rows
        }

    with connect([trace / "runs" / "captured"]) as database:
        retired = database.rows(
            "SELECT vm, process, sum(value) AS count FROM _accounts WHERE run = 'captured'"
            " AND metric = 'instructions' AND mode = 'user' GROUP BY ALL"
        )
        again = database.rows(
            "SELECT c.vm, c.process, count(*) AS count FROM _source_exceptions AS r"
            " JOIN _contexts AS c USING (context) WHERE c.mode = 'user' AND r.delay_slot <> 0"
            " GROUP BY ALL"
        )
    return counted(retired), counted(again)


def percent(parts: dict[str, int], whole: int) -> Parts:
    """Return cycles by part as a bar, in per cent of `whole`."""
    return Parts(**{name: 100 * cycles / whole for name, cycles in parts.items()})
