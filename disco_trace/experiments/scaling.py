"""Measure how long one piece of work takes on all CPUs, bare and divided among machines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from disco_trace.config import resolve
from disco_trace.experiments.captures import capture_once, read_description
from disco_trace.experiments.overhead import Parts, count_parts, percent
from disco_trace.requests import ProgressCallback

EXPERIMENTS: Final = {"fig7": "fig7"}


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe one bar; `published`: its height in per cent of the first."""

    name: str
    guest: str
    args: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    published: float | None = None


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe the bars of a workload, the first of which is 100; `theirs`: what the paper ran."""

    name: str
    machine: str
    theirs: str
    cases: tuple[Case, ...]
    sets: tuple[str, ...] = ()
    why: tuple[str, ...] = ()


class Scaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe the experiment."""

    title: str
    source: str
    workloads: tuple[Workload, ...]


@dataclass(frozen=True)
class Outcome:
    """Hold one bar: parts of all CPUs' time, in per cent of the first case's, and locality."""

    workload: str
    case: str
    parts: Parts
    milliseconds: float
    local_percent: float
    published: float | None
    trace: Path


def read_scaling(name: str) -> Scaling:
    """Read the experiment's description. Raises DiscoError (our bug) if it does not fit."""
    return read_description(EXPERIMENTS[name], Scaling)


def measure(
    workload: Workload, folder: Path, progress: ProgressCallback | None = None
) -> tuple[list[Outcome], bool]:
    """Capture every case of a workload below `folder`, or take what was captured before.

    Returns the bars, and whether all were there. Raises DiscoError if a guest fails, or if
    something else stands in a trace's place.
    """
    known = True
    found: list[Outcome] = []
    whole = 0
    for case in workload.cases:
        spec = resolve(machine=workload.machine, sets=(*workload.sets, *case.sets))
        label = f"{workload.name} {case.name}".replace(",", "").replace(" ", "-").lower()
        trace, reused = capture_once(
            case.guest, case.args, spec, folder, progress, name=f"reproduce-scaling-{label}"
        )
        known = known and reused
        counted = count_parts(trace)
        whole = whole or sum(counted.parts.values())
        misses = counted.totals["l2_misses"]
        found.append(
            Outcome(
                workload=workload.name,
                case=case.name,
                parts=percent(counted.parts, whole),
                milliseconds=counted.totals["elapsed_cycles"] / spec.machine.clock_mhz / 1000,
                local_percent=100 * counted.totals["local_misses"] / misses if misses else 0.0,
                published=case.published,
                trace=trace,
            )
        )
    return found, known
