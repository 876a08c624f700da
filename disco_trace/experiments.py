"""Run the experiments of the literature: captures, replays, and their figures in published form.

An experiment is a TOML file in `reports/experiments`: workloads, the cases that each is replayed
under, and what was published for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from disco_trace.config import Spec, diff, from_dict, resolve
from disco_trace.config.machines import virtual_machines
from disco_trace.errors import EXIT_BUG, EXIT_GUEST, DiscoError
from disco_trace.paths import data_folder
from disco_trace.requests import CaptureRequest, CaptureResult, ProgressCallback

# Of page moves; that of the monitor's overhead stands in `overhead.py`.
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

Description = TypeVar("Description", bound=msgspec.Struct)


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


def read_description(name: str, kind: type[Description]) -> Description:
    """Read a file of `reports/experiments`. Raises DiscoError (our bug) if it does not fit."""
    file = data_folder("reports") / "experiments" / f"{name}.toml"
    try:
        return msgspec.toml.decode(file.read_bytes(), type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise DiscoError(
            f"the experiment does not fit: {error}", file=file, exit_code=EXIT_BUG
        ) from error


def captured_before(
    path: Path, guest: str, args: Sequence[str], spec: Spec, *, whose: str, hint: str
) -> bool:
    """Tell whether the trace at `path` is complete and the one that would be made.

    Raises DiscoError, with `hint`, if it is of another guest: then it is not ours (`whose`) to
    replace.
    """
    from disco_trace.trace.manifest import read_manifest

    manifest = read_manifest(path)
    if manifest.guest.name != guest:
        raise DiscoError(
            f"this is not {whose} trace",
            file=path,
            expected=f"guest {guest}",
            found=manifest.guest.name,
            hint=hint,
        )
    same = list(manifest.guest.args) == list(args) and not diff(from_dict(manifest.config), spec)
    if not (manifest.complete and same and (path / "runs" / "captured").is_dir()):
        return False
    # An image may have been built anew since.
    from disco_trace.boot import starts_of

    request = CaptureRequest(guest=guest, args=list(args), spec=spec, out=path)
    return all(start.image.sha256 == manifest.guest.sha256 for start in starts_of(request))


def capture_now(
    path: Path,
    guest: str,
    args: Sequence[str],
    spec: Spec,
    progress: ProgressCallback | None = None,
    *,
    whose: str,
) -> CaptureResult:
    """Capture a guest into `path`, replacing a trace that is there; DiscoError if it fails."""
    from disco_trace.capture import capture

    result = capture(
        CaptureRequest(
            guest=guest,
            args=list(args),
            spec=spec,
            out=path,
            force=path.exists(),
            progress=progress,
        )
    )
    if not result.succeeded:
        raise DiscoError(
            f"{whose} guest failed",
            file=path,
            expected="exit status 0",
            found=f"{result.exit_reason}, status {result.guest_exit_status}",
            exit_code=EXIT_GUEST,
        )
    return result


def all_near(spec: Spec) -> tuple[str, ...]:
    """Return, as words of `--set`, what makes all memory as near as a CPU's own."""
    near = spec.memory.local_ns
    names = ("remote_ns", "dirty_ns", "upgrade_remote_ns", "uncached_remote_ns")
    return tuple(f"memory.{name}={near}" for name in names)


def capture_of(
    workload: Workload, folder: Path, progress: ProgressCallback | None = None
) -> tuple[Path, Spec, bool]:
    """Return the workload's trace (made now if it is not there), its spec, and whether it was.

    Raises DiscoError if the guest fails, or if something else stands in the trace's place.
    """
    spec = resolve(machine=workload.machine, sets=workload.sets)
    path, reused = capture_once(workload.guest, workload.args, spec, folder, progress)
    return path, spec, reused


def capture_once(
    guest: str,
    arguments: Sequence[str],
    spec: Spec,
    folder: Path,
    progress: ProgressCallback | None = None,
    *,
    name: str | None = None,
) -> tuple[Path, bool]:
    """Return the trace of a guest below `folder` and whether it was there; else it is made now.

    Without `arguments` the guest gets its own, without a `name` the trace is named after guest
    and machines. Raises DiscoError as `capture_of`.
    """
    from disco_trace.cli.common import trace_path
    from disco_trace.guest.resolve import find_guest

    machines = len(virtual_machines(spec))
    args = tuple(arguments) or tuple(find_guest(guest).arguments)
    path = folder / (name or f"reproduce-{trace_path(guest, spec.machine.cpus, machines).name}")
    whose = "the experiment's"
    hint = "use --traces DIR to work elsewhere"
    if path.exists() and captured_before(path, guest, args, spec, whose=whose, hint=hint):
        return path, True
    capture_now(path, guest, args, spec, progress, whose=whose)
    return path, False


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
