"""Draw and tabulate the memory of virtual machines, in the form of the paper's Figure 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from disco_trace.report.comparison import Comparison

PARTS: Final = ("text", "data", "cache", "monitor")
MIB: Final = 1 << 20
TEXT: Final = (
    "Memory at the end of a run: what the virtual machines see, summed over them, and what there is"
    " of the machine's. Pages that machines share copy on write count once in the machine. The"
    " monitor's memory counts in both bars, as in the paper."
)


def footprint_figures(outcomes: Sequence[Any], why: Sequence[str]) -> tuple[str, list[Comparison]]:
    """Return the form of Figure 6: memory that machines see, and that there is, by their number."""
    header = ["machines", "memory", "total", "published", *PARTS]
    rows: list[list[str]] = []
    bars: list[dict[str, Any]] = []
    for each in outcomes:
        for kind, parts, published in (
            ("virtual", each.virtual, each.published.virtual),
            ("machine", each.machine, each.published.machine),
        ):
            first = each.case if kind == "virtual" else ""
            rows.append([first, kind, f"{parts.total / MIB:.2f}", f"{published:.0f}"])
            rows[-1] += [f"{getattr(parts, part) / MIB:.2f}" for part in PARTS]
            if each.machines == 0 and kind == "virtual":
                continue  # on the bare machine they are one
            label = "bare" if each.machines == 0 else f"{each.case}: {kind}"
            bars += [
                {"bar": label, "component": part, "megabytes": getattr(parts, part) / MIB}
                for part in PARTS
            ]
    figures = [
        Comparison(
            "Memory by what it is for",
            header,
            rows,
            [*_sentences(outcomes), *why],
            bars,
            axis="MiB",
            legend="Text and data are the kernel's and the program's; cache: pages of the disk.",
            measure="megabytes",
            palette="memory",
        )
    ]
    last = outcomes[-1]
    if all(parts is not None for parts in last.published_parts):
        figures.append(_beside(last))
    if last.tables:
        figures.append(_tables(last))
    return "Figure 6: memory footprint of virtual machines", figures


def _sentences(outcomes: Sequence[Any]) -> list[str]:
    """Say what sharing saves with most machines, and what the machine's memory grows by."""
    first = next((each for each in outcomes if each.machines == 1), outcomes[0])
    last = outcomes[-1]
    saved = 1 - last.machine.total / last.virtual.total
    theirs = 1 - last.published.machine / last.published.virtual
    seen, there = (
        getattr(last, kind).total / getattr(first, kind).total for kind in ("virtual", "machine")
    )
    published = (
        getattr(last.published, kind) / getattr(first.published, kind)
        for kind in ("virtual", "machine")
    )
    seen_theirs, there_theirs = published
    return [
        f"With {last.case} sharing saves {saved:.0%} of what the machines see here,"
        f" {theirs:.0%} published.",
        f"From {first.case} to {last.case} the memory seen grows {seen:.1f} times here,"
        f" {seen_theirs:.1f} times published; the machine's {there:.1f} times here,"
        f" {there_theirs:.1f} times published.",
    ]


def _beside(each: Any) -> Comparison:
    """Return what a machine has of each part for one that is seen, beside what was published."""
    rows = []
    virtual, machine = each.published_parts
    for part in PARTS:
        ours = getattr(each.virtual, part), getattr(each.machine, part)
        theirs = getattr(virtual, part), getattr(machine, part)
        rows.append([part])
        rows[-1] += [_share(*ours), f"{ours[0] / MIB:.2f}", f"{ours[1] / MIB:.2f}"]
        rows[-1] += [_share(*theirs), f"{theirs[0]:.1f}", f"{theirs[1]:.1f}"]
    header = ["part", "shared to", "virtual", "machine", "published", "virtual", "machine"]
    text = "How much memory there is for what the machines see, in MiB; the published ones in MB."
    return Comparison(f"{each.case}: parts", header, rows, [text], align=1)


def _share(virtual: float, machine: float) -> str:
    return f"{machine / virtual:.0%}" if virtual else "–"


def _tables(each: Any) -> Comparison:
    """Return what the monitor's memory is made of."""
    ordered = sorted(each.tables.items(), key=lambda item: -item[1])
    rows = [[name, f"{size / 1024:,.1f}"] for name, size in ordered]
    text = "The monitor's memory by table, computed from their layout."
    return Comparison(f"{each.case}: the monitor's memory", ["table", "KiB"], rows, [text], align=1)
