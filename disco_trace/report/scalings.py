"""Draw and tabulate the time of one piece of work on all CPUs, in the form of Figure 7."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from disco_trace.report.comparison import Comparison

PARTS: Final = ("user", "kernel", "monitor", "idle")
TEXT: Final = (
    "The same work on all CPUs, on the bare machine and in virtual machines over Disco: the time of"
    " all CPUs, in per cent of that on the bare machine. Stalls belong to the part that waited."
)


def scaling_figures(
    workloads: Sequence[Any], outcomes: Sequence[Any]
) -> tuple[str, list[Comparison]]:
    """Return the form of Figure 7: time by part, in per cent of the time on the bare machine."""
    header = ["workload", "case", "total", "published", *PARTS, "ms", "local"]
    figures = []
    for workload in workloads:
        rows: list[list[str]] = []
        bars: list[dict[str, Any]] = []
        for each in outcomes:
            if each.workload != workload.name:
                continue
            published = "" if each.published is None else f"{each.published:.0f}"
            rows.append([workload.name if not rows else "", each.case])
            rows[-1] += [f"{each.parts.total:.0f}", published]
            rows[-1] += [f"{getattr(each.parts, part):.1f}" for part in PARTS]
            rows[-1] += [f"{each.milliseconds:.0f}", f"{each.local_percent:.0f} %"]
            bars += [
                {"bar": each.case, "component": part, "percent": getattr(each.parts, part)}
                for part in PARTS
            ]
        figures.append(
            Comparison(
                f"{workload.name}: time by part",
                header,
                rows,
                [f"Published: {workload.theirs}.", *workload.why],
                bars,
                axis="per cent of the time on the bare machine",
                legend="Local, in the table: the share of second-level misses that the own node"
                " serves.",
            )
        )
    return "Figure 7: scalability on eight CPUs", figures
