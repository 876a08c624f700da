"""Say what a difference between two runs is due to: by where time goes, and by cause.

By *account*: each cycle of a run belongs to the guest (its instructions), the hardware (stalls),
the monitor, or idling, and so does each cycle of the difference.

By *cause*: two runs differ in the guest's stream (two captures), in caches and latencies, in
placement, in prices, in the structure of the monitor's TLBs. Each mixture of the two runs' causes
is replayed, and a cause is charged the mean, over all orders in which causes can change, of what
changing it makes (Shapley 1953). What causes do only together is shown beside it (the dividends of
Harsanyi 1963). All in integers: both
add up to the difference exactly.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from disco_trace.config import Spec, diff, from_dict
from disco_trace.config.identity import flat_dict, from_flat
from disco_trace.config.replayable import ORDER, replayable
from disco_trace.config.structure import ROOT, structure_of
from disco_trace.errors import DiscoError
from disco_trace.requests import ProgressCallback
from disco_trace.trace.manifest import read_manifest
from disco_trace.trace.run import Run

# Whose time a component of `time_breakdown` is.
ACCOUNTS: Final[Mapping[str, str]] = {
    "user": "guest", "kernel": "guest", "refill": "guest",
    "l1_stall": "hardware", "local": "hardware", "remote": "hardware", "dirty": "hardware",
    "upgrade": "hardware", "uncached": "hardware",
    "monitor": "monitor",
    "idle": "idle", "ended": "idle",
}  # fmt: skip

STREAM: Final = "guest stream"
TLB: Final = "TLB structure"
# Causes that a replay can change, by the beginnings of their paths. What the monitor's TLBs are
# like may stand in a run's cost table or be its capture's, and is compared as it was.
CAUSES: Final[Mapping[str, tuple[str, ...]]] = {
    "caches and latencies": ("memory.",),
    "placement": ("placement.", "machine.nodes"),
    "prices": ("costs.table", "costs.prices."),
    TLB: (ROOT,),
}
# Only how results are written down.
_RESULTS_ONLY: Final = ("time.interval_us",)
_RULE: Final = re.compile(r"([a-z0-9_]+)\s*([<>]=?)\s*([+-]?\d+(?:\.\d+)?)\s*(%?)")


@dataclass(frozen=True)
class Account:
    """Hold one component of both runs, in cycles of all CPUs together."""

    account: str
    component: str
    cause: str
    first: int
    second: int

    @property
    def difference(self) -> int:
        """Return how much more the second run has."""
        return self.second - self.first


@dataclass(frozen=True)
class Measure:
    """Hold busy cycles (of all CPUs) and elapsed cycles (of the CPU that ends last)."""

    busy: int
    elapsed: int


@dataclass(frozen=True)
class Cause:
    """Hold what one cause is charged, and how far the replays that tell can be trusted."""

    name: str
    busy: int
    elapsed: int
    fidelity: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Interaction:
    """Hold what some causes make only together, beyond what each and each part of them makes."""

    names: tuple[str, ...]
    busy: int
    elapsed: int


@dataclass(frozen=True)
class Blame:
    """Hold the answer by cause; `replays` were made or found for it."""

    causes: list[Cause]
    interactions: list[Interaction]
    replays: list[Path]


def measure_of(run: Run) -> Measure:
    """Return the busy and the elapsed cycles of a run."""
    cycles = [counters["cycles"] for counters in run.per_cpu]
    return Measure(run.totals["cycles"] - run.totals["idle_cycles"], max(cycles))


def metrics_of(run: Run) -> dict[str, int]:
    """Return a run's totals with `busy_cycles` and `elapsed_cycles`."""
    measure = measure_of(run)
    return run.totals | {"busy_cycles": measure.busy, "elapsed_cycles": measure.elapsed}


def accounts_of(first: Run, second: Run) -> list[Account]:
    """Return every component of both runs; they add up to elapsed cycles times CPUs, each run.

    `ended` is what a CPU lacks of the run's end: time after its last event.
    """
    one, other = _components(first), _components(second)
    found = [
        Account(ACCOUNTS[key[0]], key[0], key[1], one.get(key, 0), other.get(key, 0))
        for key in dict.fromkeys([*one, *other])
    ]
    order = list(ACCOUNTS)
    return sorted(found, key=lambda each: (order.index(each.component), each.cause))


def _components(run: Run) -> dict[tuple[str, str], int]:
    from disco_trace.report.database import connect

    with connect([run.path]) as database:
        rows = database.rows(
            "SELECT run, component, cause, sum(cycles) AS cycles FROM time_breakdown GROUP BY ALL"
        )
    found = {
        (str(r["component"]), str(r["cause"])): int(r["cycles"])
        for r in rows
        if r["run"] == run.name
    }
    found["ended", ""] = measure_of(run).elapsed * len(run.per_cpu) - run.totals["cycles"]
    return found


def trace_of(run: Run) -> Path:
    """Return the trace that a run lies in. Raises DiscoError if it is kept elsewhere."""
    trace = run.path.parent.parent
    if run.path.parent.name != "runs" or not (trace / "manifest.json").is_file():
        raise DiscoError(
            "the trace of this run is not beside it",
            file=run.path,
            expected="a run in the folder runs of its trace",
            hint="--no-replays compares the counters alone",
        )
    return trace


def blame(
    first: Run,
    second: Run,
    *,
    runs: Path | None = None,
    progress: ProgressCallback | None = None,
) -> Blame:
    """Share the difference of two runs out among its causes, replaying what is between them.

    `runs` is the folder of those replays, by default that of the trace. Raises DiscoError if the
    runs cannot be mixed: other CPUs, or counted in different phases.
    """
    ends = (_End(first), _End(second))
    if first.raw.get("phase") != second.raw.get("phase"):
        raise DiscoError(
            "the runs count different phases",
            file=second.path,
            expected=str(first.raw.get("phase")),
            found=str(second.raw.get("phase")),
        )
    causes = _causes(*ends)
    replays: list[Path] = []
    trusted: dict[str, set[str]] = {name: set() for name in causes}
    for end in ends:
        _note(end.captured, end.spec, trusted)
    values = {frozenset(): measure_of(first), frozenset(causes): measure_of(second)}
    between = [
        frozenset(chosen)
        for size in range(1, len(causes))
        for chosen in itertools.combinations(causes, size)
    ]
    for done, chosen in enumerate(between):
        if progress:
            progress(done, len(between), " + ".join(sorted(chosen)))
        run = _replay(ends, causes, chosen, runs, trusted)
        replays.append(run.path)
        values[chosen] = measure_of(run)
    busy = shapley(list(causes), {key: value.busy for key, value in values.items()})
    elapsed = shapley(list(causes), {key: value.elapsed for key, value in values.items()})
    return Blame(
        causes=[
            Cause(name, busy[name], elapsed[name], _trust(name, trusted[name]), causes[name])
            for name in causes
        ],
        interactions=_interactions(list(causes), values),
        replays=replays,
    )


class _End:
    """Hold one of the two runs with its trace and specifications."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.trace = trace_of(run)
        manifest = self.trace / "manifest.json"
        self.captured = from_dict(read_manifest(self.trace).config, file=manifest)
        self.spec = from_dict(run.spec, file=run.path / "run.json")

    @property
    def structure(self) -> dict[str, Any]:
        """Return by path how the monitor's TLBs were built in this run; empty without a monitor."""
        if self.captured.monitor.kind == "none":
            return {}
        return structure_of(self.spec, self.captured).paths()


def _causes(first: _End, second: _End) -> dict[str, tuple[str, ...]]:
    """Return the causes in which two runs differ, each with the paths that do."""
    changed = [
        path
        for path in diff(first.spec, second.spec)
        if path not in _RESULTS_ONLY and not path.startswith(ROOT)
    ]
    if first.structure and second.structure:
        # Without a monitor on both sides it comes with the guest's stream.
        old, new = first.structure, second.structure
        changed += [path for path in old if old[path] != new[path]]
    found: dict[str, tuple[str, ...]] = {}
    streams = first.run.trace_id != second.run.trace_id
    for name, beginnings in CAUSES.items():
        paths = tuple(path for path in changed if path.startswith(beginnings))
        if paths:
            found[name] = paths
    rest = tuple(path for path in changed if not any(path in paths for paths in found.values()))
    if streams:
        if first.spec.machine.cpus != second.spec.machine.cpus:
            raise DiscoError(
                "runs on different numbers of CPUs have no mixture",
                file=second.run.path,
                expected=f"machine.cpus = {first.spec.machine.cpus}",
                found=str(second.spec.machine.cpus),
                hint="--no-replays compares the counters alone",
            )
        found = {STREAM: rest, **found}
    return found


def _replay(
    ends: tuple[_End, _End],
    causes: Mapping[str, tuple[str, ...]],
    chosen: frozenset[str],
    runs: Path | None,
    trusted: dict[str, set[str]],
) -> Run:
    """Return the run in which the chosen causes are the second run's, the others the first's."""
    from disco_trace.replay.engine import replay

    base = ends[STREAM in chosen] if STREAM in causes else ends[0]
    values = flat_dict(base.spec)
    for name, beginnings in CAUSES.items():
        if name == TLB and name not in causes:
            continue
        end = ends[name in chosen]
        source = flat_dict(end.spec) | (end.structure if name == TLB else {})
        values |= {path: v for path, v in source.items() if path.startswith(beginnings)}
    spec = from_flat(values)
    _note(base.captured, spec, trusted)
    phase = base.run.raw.get("phase")
    folder = _folder(runs, base)
    return Run.open(replay(base.trace, spec, runs=folder, phase=phase).path)


def _note(captured: Spec, spec: Spec, trusted: dict[str, set[str]]) -> None:
    """Note for each cause how far a run that changes its values can be trusted."""
    for path, fidelity in replayable(captured, spec).items():
        for name in trusted.keys() & CAUSES.keys():
            if path.startswith(CAUSES[name]):
                trusted[name].add(fidelity)


def _folder(runs: Path | None, end: _End) -> Path | None:
    """Return where replays of one of two traces go: runs are named by their trace's id, too."""
    return runs / end.trace.name if runs is not None else None


def _trust(name: str, fidelities: set[str]) -> str:
    """Return how far a cause's charge can be trusted."""
    if name == STREAM and not fidelities:
        return "two captures"
    return max(fidelities, key=list(ORDER).index, default="exact")  # type: ignore[arg-type]


def shapley(names: Sequence[str], values: Mapping[frozenset[str], int]) -> dict[str, int]:
    """Share `values[all] - values[none]` out in integers that add up to it exactly.

    values: an integer for each subset of the names. The exact shares are fractions of n!; what
    rounding down leaves goes, one by one, to the largest remainders (by name where they are equal).
    """
    count = len(names)
    orders = math.factorial(count)
    shares: dict[str, int] = {}
    for name in names:
        others = [other for other in names if other != name]
        shares[name] = sum(
            math.factorial(size)
            * math.factorial(count - size - 1)
            * (values[frozenset(before) | {name}] - values[frozenset(before)])
            for size in range(count)
            for before in itertools.combinations(others, size)
        )
    whole = {name: share // orders for name, share in shares.items()}
    difference = values[frozenset(names)] - values[frozenset()]
    left = difference - sum(whole.values())
    for name in sorted(names, key=lambda each: (-(shares[each] % orders), each))[:left]:
        whole[name] += 1
    return whole


def dividend(of: frozenset[str], values: Mapping[frozenset[str], int]) -> int:
    """Return what a set of causes makes beyond all that its parts make."""
    return sum(
        (-1) ** (len(of) - size) * values[frozenset(part)]
        for size in range(len(of) + 1)
        for part in itertools.combinations(sorted(of), size)
    )


def _interactions(
    names: Sequence[str], values: Mapping[frozenset[str], Measure]
) -> list[Interaction]:
    busy = {key: value.busy for key, value in values.items()}
    elapsed = {key: value.elapsed for key, value in values.items()}
    return [
        Interaction(chosen, dividend(frozenset(chosen), busy), dividend(frozenset(chosen), elapsed))
        for size in range(2, len(names) + 1)
        for chosen in itertools.combinations(names, size)
    ]


@dataclass(frozen=True)
class Rule:
    """Hold one limit of --fail-on: it is broken where the second run's metric is beyond it."""

    text: str
    metric: str
    broken: Callable[[Fraction, Fraction], bool]
    limit: Fraction
    percent: bool

    def fails(self, first: int, second: int) -> bool:
        """Tell whether the change from `first` to `second` breaks the rule."""
        change = Fraction(second - first)
        if self.percent:
            if first == 0:
                # No per cent of nothing: any change is beyond all limits on its side.
                sign = (change > 0) - (change < 0)
                return change != 0 and self.broken(Fraction(sign * 10**30), self.limit)
            change = 100 * change / first
        return self.broken(change, self.limit)


def parse_rule(text: str, metrics: Mapping[str, Any]) -> Rule:
    """Read `METRIC>+2%`, or without % a difference. Raises DiscoError for anything else."""
    match = _RULE.fullmatch(text.strip())
    if match is None:
        raise DiscoError(
            "malformed --fail-on",
            expected="METRIC>+2%, METRIC<-100 and the like",
            found=repr(text),
        )
    metric, sign, number, percent = match.groups()
    if metric not in metrics:
        import difflib

        near = difflib.get_close_matches(metric, list(metrics), n=1)
        raise DiscoError(
            f"no metric {metric!r}",
            expected=f"one of {', '.join(sorted(metrics))}",
            found=metric,
            hint=f"did you mean {near[0]!r}?" if near else None,
        )
    broken: dict[str, Callable[[Fraction, Fraction], bool]] = {
        ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
        "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    }  # fmt: skip
    return Rule(text, metric, broken[sign], Fraction(number), percent == "%")
