"""Measure what a monitor adds to each service of a kernel, and calibrate its prices by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from disco_trace.config import Spec, resolve
from disco_trace.experiments.captures import capture_once, read_description
from disco_trace.requests import ProgressCallback

EXPERIMENTS: Final = {"table2": "table2"}

# The table's columns: the guest's kernel itself, then the monitor's work.
MONITOR: Final = ("tlb_write", "privileged", "call", "kernel_tlb")
PARTS: Final = ("kernel", *MONITOR)
# Columns that prices are asked of. Misses of a commodity kernel's mapped memory, of which ours has
# next to none, say nothing about what one costs.
PRICED: Final = ("tlb_write", "privileged", "call")
# Which column each cause belongs to. A miss that the monitor resolves is one of the program's,
# whose refill it takes the place of (as in the row UTLB_MISS), or one of the kernel's.
_OF_CAUSE: Final[Mapping[str, str]] = {
    "tlb_write": "tlb_write",
    "monitor_call": "call",
    "copy_on_write": "call",
    "zero": "call",
    "copy": "call",
    "network": "call",
    "remap": "call",
    "swap": "call",
    "lend": "call",
    "io": "call",
}
_MISSES: Final = ("tlb_fault", "kseg0")
# Prices that are asked of the rows: those of work that every other call of a service does, or more.
_OFTEN: Final = 0.5
_PAGE: Final = 4096


class Parts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold a row: fractions of the service's time without a monitor, or microseconds."""

    kernel: float
    tlb_write: float
    privileged: float
    call: float
    kernel_tlb: float

    @property
    def total(self) -> float:
        """Return the sum."""
        return self.kernel + self.monitor

    @property
    def monitor(self) -> float:
        """Return the sum of what the monitor spends."""
        return self.tlb_write + self.privileged + self.call + self.kernel_tlb


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe a service: the guest's phase, how often it is called there, what was published."""

    name: str
    theirs: str
    calls: int
    irix_us: float
    slowdown: float
    parts: Parts


class Services(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe the experiment; `held_out` is the row that the prices are tested by."""

    title: str
    source: str
    bare: str
    disco: str
    machine: str
    held_out: str
    rows: tuple[Row, ...]
    args: tuple[str, ...] = ()
    disco_args: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Service:
    """Hold what a call of a service took: times in microseconds, work by column and price."""

    name: str
    bare_us: float
    kernel_us: float
    work: dict[str, dict[str, float]]

    def priced(self, prices: Mapping[str, float]) -> Parts:
        """Return the microseconds of a call over the monitor, at some prices."""
        spent = {
            column: sum(count * prices[name] for name, count in work.items())
            for column, work in self.work.items()
        }
        return Parts(kernel=self.kernel_us, **spent)


@dataclass(frozen=True)
class Outcome:
    """Hold a row, ours beside theirs.

    `parts` are fractions of our own time without a monitor; `predicted` and `assumed` the
    microseconds of their service, at prices calibrated by all other rows, and at the table's.
    """

    service: Service
    parts: Parts
    predicted: Parts
    assumed: Parts
    published: Row
    held_out: bool


@dataclass(frozen=True)
class Prices:
    """Hold one price: as the cost table has it, by all rows, and without the one held out."""

    name: str
    assumed: float
    calibrated: float
    without: float


@dataclass(frozen=True)
class Found:
    """Hold rows, prices, and the root of mean squares of errors in fractions of their times.

    `error_others`: of each row at prices from all others; `error_assumed`: at the table's.
    """

    rows: list[Outcome]
    prices: list[Prices]
    error_others: float
    error_assumed: float
    traces: tuple[Path, Path]


def read_services(name: str) -> Services:
    """Read the experiment's description. Raises DiscoError (our bug) if it does not fit."""
    return read_description(EXPERIMENTS[name], Services)


def measure(
    experiment: Services, folder: Path, progress: ProgressCallback | None = None
) -> tuple[Found, bool]:
    """Capture the services bare and under Disco below `folder`, or take what was captured before.

    Returns what came out, and whether both were there. Raises DiscoError if a guest fails, or if
    something else stands in a trace's place.
    """
    traces, known = [], True
    for guest, args, monitor in (
        (experiment.bare, experiment.args, "none"),
        (experiment.disco, experiment.disco_args, "disco"),
    ):
        spec = resolve(machine=experiment.machine, monitor=monitor, sets=experiment.sets)
        trace, reused = capture_once(guest, args, spec, folder, progress)
        traces.append(trace)
        known = known and reused
    services = services_of(traces[0], traces[1], experiment.rows, spec)
    found = calibrated(services, experiment.rows, experiment.held_out, spec)
    return Found(*found, traces=(traces[0], traces[1])), known


def services_of(bare: Path, disco: Path, rows: Sequence[Row], spec: Spec) -> list[Service]:
    """Return what a call of each service took, from the phases of two captures."""
    times = [_kernel_cycles(trace) for trace in (bare, disco)]
    work = _work(disco)
    per_us = spec.machine.clock_mhz
    return [
        Service(
            name=row.name,
            bare_us=times[0].get(row.name, 0) / row.calls / per_us,
            kernel_us=times[1].get(row.name, 0) / row.calls / per_us,
            work={
                column: {
                    name: count / row.calls
                    for (phase, where, name), count in work.items()
                    if phase == row.name and where == column
                }
                for column in MONITOR
            },
        )
        for row in rows
    ]


def _kernel_cycles(trace: Path) -> dict[str, int]:
    """Return the cycles of the guest's kernel in each phase, stalls included."""
    from disco_trace.report.database import connect

    with connect([trace / "runs" / "captured"]) as database:
        rows = database.rows(
            "SELECT phase, sum(value) AS cycles FROM _accounts WHERE run = 'captured'"
            " AND mode <> 'user' AND metric LIKE '%\\_cycles' ESCAPE '\\'"
            " AND metric NOT LIKE 'monitor%' AND metric <> 'idle_cycles' GROUP BY ALL"
        )
    return {row["phase"]: int(row["cycles"]) for row in rows}


def _work(trace: Path) -> dict[tuple[str, str, str], float]:
    """Return how often each price was charged, by phase and column."""
    from disco_trace.report.database import connect

    with connect([trace]) as database:
        rows = database.rows(
            "SELECT phase, mode = 'user' AS user, cause, count(*) AS entries,"
            " sum(tlb_entries) AS tlb_entry, sum(pages_zeroed) AS zero_page,"
            f" sum(bytes_copied) / {_PAGE} AS copy_page,"
            " sum(cpus_interrupted) AS interrupted_cpu FROM traps GROUP BY ALL"
        )
    found: dict[tuple[str, str, str], float] = {}
    for row in rows:
        column = column_of(row["cause"], row["user"])
        for name, count in _charged(row).items():
            key = row["phase"], column, name
            found[key] = found.get(key, 0) + count
    return found


def column_of(cause: str, user: bool) -> str:
    """Return the column of the monitor's work for a cause, from user mode or not."""
    if cause in _MISSES:
        return "tlb_write" if user else "kernel_tlb"
    return _OF_CAUSE.get(cause, "privileged")


def _charged(row: Mapping[str, Any]) -> dict[str, float]:
    work = {
        f"{name}_us": float(row[name])
        for name in ("tlb_entry", "zero_page", "copy_page", "interrupted_cpu")
        if row[name]
    }
    return {f"{row['cause']}_us": float(row["entries"]), **work}


def calibrated(
    services: Sequence[Service], rows: Sequence[Row], held_out: str, spec: Spec
) -> tuple[list[Outcome], list[Prices], float, float]:
    """Return rows, prices and both errors: one price a cause, by least squares over the rows."""
    table = {name: spec.costs.prices[name] for name in spec.costs.prices.__struct_fields__}
    pairs = list(zip(services, rows, strict=True))
    everything = fitted(pairs, table)
    found = []
    for service, row in pairs:
        others = fitted([pair for pair in pairs if pair[1].name != row.name], table)
        ours = service.priced(table)
        found.append(
            Outcome(
                service=service,
                parts=_divided(ours, service.bare_us),
                predicted=service.priced(others),
                assumed=ours,
                published=row,
                held_out=row.name == held_out,
            )
        )
        if row.name == held_out:
            without = others
    prices = [
        Prices(name, table[name], everything[name], without[name])
        for name in table
        if everything[name] != table[name] or without[name] != table[name]
    ]
    errors = [_error([(getattr(o, which), o.published) for o in found])
              for which in ("predicted", "assumed")]  # fmt: skip
    return found, prices, errors[0], errors[1]


def _divided(parts: Parts, by: float) -> Parts:
    return Parts(**{name: getattr(parts, name) / by if by else 0.0 for name in PARTS})


def _error(pairs: Sequence[tuple[Parts, Row]]) -> float:
    """Return the root of the mean square of what the priced columns are off."""
    off = [
        getattr(parts, column) / row.irix_us - getattr(row.parts, column)
        for parts, row in pairs
        for column in PRICED
    ]
    return float(np.sqrt(np.mean(np.square(off))))


def fitted(pairs: Sequence[tuple[Service, Row]], table: Mapping[str, float]) -> dict[str, float]:
    """Return the table with prices that bring the services' work nearest to what was published.

    Least squares over the priced columns of all rows, in fractions of the published time; no price
    goes below zero. A price that these rows have no work for stays as it is.
    """
    names = sorted(
        {
            name
            for service, _ in pairs
            for column in PRICED
            for name, count in service.work[column].items()
            if count >= _OFTEN and name in table and name != "tlb_entry_us"
        }
    )
    matrix, wanted = [], []
    for service, row in pairs:
        for column in PRICED:
            work = service.work[column]
            rest = sum(count * table.get(name, 0) for name, count in work.items()
                       if name not in names)  # fmt: skip
            matrix.append([work.get(name, 0) / row.irix_us for name in names])
            wanted.append(getattr(row.parts, column) - rest / row.irix_us)
    return dict(table) | dict(zip(names, _least_squares(matrix, wanted), strict=True))


def _least_squares(matrix: Sequence[Sequence[float]], wanted: Sequence[float]) -> list[float]:
    """Return what is nearest to `wanted` without going below zero.

    One unknown after the other takes its best value, the others held, until none changes: the sum
    of squares is convex, so this ends at its least.
    """
    a, b = np.array(matrix, float), np.array(wanted, float)
    squares, aims = a.T @ a, a.T @ b
    found = np.zeros(len(aims))
    for _ in range(100_000):
        before = found.copy()
        for k in range(len(found)):
            rest = aims[k] - squares[k] @ found + squares[k, k] * found[k]
            found[k] = max(0.0, rest / squares[k, k])
        if np.abs(found - before).max(initial=0) <= 1e-12:
            break
    return [float(value) for value in found]
