"""Move and replicate pages: Figure 8 and Table 3, by replays and live in the monitor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from disco_trace.config import Spec, resolve
from disco_trace.experiments.captures import all_near, capture_once, read_description
from disco_trace.requests import ProgressCallback

EXPERIMENTS: Final = {"fig8": "fig8", "table3": "fig8"}

# Which part of Figure 8 each component of `time_breakdown` belongs to. The paper's execution time
# holds what is not a second-level stall; it has no bar of its own for upgrades.
PARTS: Final[Mapping[str, str]] = {
    "user": "exec",
    "kernel": "exec",
    "refill": "exec",
    "l1_stall": "exec",
    "uncached": "exec",
    "local": "local_stall",
    "remote": "remote_stall",
    "dirty": "remote_stall",
    "upgrade": "remote_stall",
}

# What the monitor does for policies. Its other work stands in for the guest's kernel and hardware:
# it is execution here, and has no bar of its own in the paper.
MOVES: Final = ("migrate", "replicate", "collapse", "shootdown", "refused")


class Published(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold a bar of the published figure, in per cent of the time without a policy."""

    total: float
    local_percent: float
    exec: float
    local_stall: float
    remote_stall: float
    monitor: float


class Moves(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold what was published, or counted, of moves: per second of the machine, and cost of one."""

    migrations_per_s: float
    migration_us: float
    replications_per_s: float
    replication_us: float


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe one bar: what a replay changes (`near`: all memory as near as the own).

    `live`: no replay, but a capture of its own under these changes.
    """

    name: str
    sets: tuple[str, ...] = ()
    near: bool = False
    live: bool = False
    published: Published | None = None
    why: str = ""


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe one capture and its cases, the first of which is the capture's own placement.

    `phase` limits the figures to one phase of the guest; `args` are the guest's arguments, its
    own defaults where there are none; `why` says why the workload is set as it is.
    """

    name: str
    guest: str
    machine: str
    cases: tuple[Case, ...]
    sets: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    phase: str | None = None
    moves: Moves | None = None
    why: str = ""
    why_moves: str = ""


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe an experiment."""

    title: str
    source: str
    workloads: tuple[Workload, ...]


@dataclass(frozen=True)
class Outcome:
    """Hold what one case gave: in per cent of the first case's busy time, and its moves."""

    workload: str
    case: str
    run: Path
    total: float
    local_percent: float
    parts: dict[str, float]
    moves: Moves
    published: Published | None
    published_moves: Moves | None
    why: str
    why_workload: str
    why_moves: str


def read_experiment(name: str) -> Experiment:
    """Read an experiment's description. Raises DiscoError (our bug) if it does not fit."""
    return read_description(EXPERIMENTS[name], Experiment)


def capture_of(
    workload: Workload, folder: Path, progress: ProgressCallback | None = None
) -> tuple[Path, Spec, bool]:
    """Return the workload's trace (made now if it is not there), its spec, and whether it was.

    Raises DiscoError if the guest fails, or if something else stands in the trace's place.
    """
    spec = resolve(machine=workload.machine, sets=workload.sets)
    path, reused = capture_once(workload.guest, workload.args, spec, folder, progress)
    return path, spec, reused


def spec_of(case: Case, captured: Spec) -> Spec:
    """Return the specification that a case is replayed under."""
    near = all_near(captured) if case.near else ()
    return resolve(base=captured, sets=(*case.sets, *near))


def outcomes(
    workload: Workload, trace: Path, spec: Spec, progress: ProgressCallback | None = None
) -> list[Outcome]:
    """Replay, or capture, every case of a workload; return its figures, the first case being 100.

    Raises DiscoError as `capture_of` where a case is captured.
    """
    from disco_trace.replay.engine import replay

    runs: list[Path] = []
    for at, case in enumerate(workload.cases):
        if progress:
            progress(at, note=f"{workload.name}: {case.name}")
        if case.live:
            runs.append(_live(workload, case, trace, spec) / "runs" / "captured")
        else:
            runs.append(replay(trace, spec_of(case, spec)).path)
    counted = _count(
        trace,
        [run for case, run in zip(workload.cases, runs, strict=True) if not case.live],
        workload.phase,
    )
    for case, run in zip(workload.cases, runs, strict=True):
        if case.live:
            counted |= _count(run.parent.parent, [run], workload.phase)
    base = sum(counted[runs[0]].busy.values())
    found = []
    for case, run in zip(workload.cases, runs, strict=True):
        one = counted[run]
        parts = dict.fromkeys(("exec", "local_stall", "remote_stall", "monitor"), 0.0)
        moving = sum(one.causes.get(cause, 0) for cause in MOVES)
        parts["exec"] += 100 * (one.busy.get("monitor", 0) - moving) / base
        parts["monitor"] += 100 * moving / base
        for component, cycles in one.busy.items():
            if component == "monitor":
                continue
            part = PARTS[component]
            # Where all memory is near, nothing is remote.
            part = "local_stall" if case.near and part == "remote_stall" else part
            parts[part] += 100 * cycles / base
        misses = one.totals["l2_misses"]
        local = misses if case.near else one.totals["local_misses"]
        found.append(
            Outcome(
                workload=workload.name,
                case=case.name,
                run=run,
                total=sum(parts.values()),
                local_percent=100 * local / misses if misses else 0.0,
                parts=parts,
                moves=_moves(one, spec.machine.clock_mhz),
                published=case.published,
                published_moves=workload.moves,
                why=case.why,
                why_workload=workload.why,
                why_moves=workload.why_moves,
            )
        )
    return found


def _live(workload: Workload, case: Case, trace: Path, spec: Spec) -> Path:
    """Return the trace of a case that is captured: beside the workload's own, named after it."""
    words = "".join(c if c.isalnum() else " " for c in case.name).split()
    name = "-".join([trace.name, *words])
    path, _ = capture_once(
        workload.guest, workload.args, spec_of(case, spec), trace.parent, name=name
    )
    return path


@dataclass
class _Counted:
    """Hold cycles by component (idle left out), counters, monitor cycles by cause, and length."""

    busy: dict[str, int]
    totals: dict[str, int]
    causes: dict[str, int]
    elapsed: int


def _count(trace: Path, runs: Sequence[Path], phase: str | None) -> dict[Path, _Counted]:
    """Return what each run counted, over all CPUs, in the phase if one is named."""
    from disco_trace.report.database import connect

    found = {run: _Counted({}, {}, {}, 0) for run in runs}
    names = {run.name: found[run] for run in runs}
    with connect([trace, *runs], phase=phase) as database:
        for row in database.rows(
            "SELECT run, component, cause, sum(cycles) AS cycles FROM time_breakdown"
            " WHERE component <> 'idle' GROUP BY ALL"
        ):
            if one := names.get(row["run"]):
                cycles = int(row["cycles"])
                one.busy[row["component"]] = one.busy.get(row["component"], 0) + cycles
                if row["cause"]:
                    one.causes[row["cause"]] = cycles
        for row in database.rows(
            "SELECT run, metric, sum(value) AS value, max(value) AS most FROM totals GROUP BY ALL"
        ):
            if one := names.get(row["run"]):
                one.totals[row["metric"]] = int(row["value"])
                if row["metric"] == "cycles":
                    one.elapsed = int(row["most"])
    return found


def _moves(counted: _Counted, clock_mhz: float) -> Moves:
    """Return moves a second and the cost of one; shootdowns are shared out among all moves."""
    seconds = counted.elapsed / (clock_mhz * 1e6)
    totals, causes = counted.totals, counted.causes
    migrations, replications = totals["migrations"], totals["replications"]
    shared = causes.get("shootdown", 0) / max(1, migrations + replications)

    def cost_us(cause: str, count: int) -> float:
        return (causes.get(cause, 0) / count + shared) / clock_mhz if count else 0.0

    return Moves(
        migrations_per_s=migrations / seconds if seconds else 0.0,
        migration_us=cost_us("migrate", migrations),
        replications_per_s=replications / seconds if seconds else 0.0,
        replication_us=cost_us("replicate", replications),
    )
