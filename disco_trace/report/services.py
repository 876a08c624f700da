"""Draw and tabulate services of a kernel over the monitor, in the form of the paper's Table 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from disco_trace.report.comparison import Comparison

# The parts of a row, and what they are called.
PARTS: Final = {
    "kernel": "kernel",
    "tlb_write": "TLB writes",
    "privileged": "privileged",
    "call": "call + fault",
    "kernel_tlb": "kernel TLB",
}
MONITOR: Final = tuple(PARTS)[1:]
TEXT: Final = (
    "Time of a service over Disco, in parts of its time without: of the guest's kernel itself, and"
    " of the monitor for TLB writes (and misses that it resolves for the program), other privileged"
    " instructions and exceptions passed on, monitor calls with page faults of its own, and misses"
    " of the kernel's mapped memory."
)


def service_figures(found: Any, why: Sequence[str]) -> tuple[str, list[Comparison]]:
    """Return the form of Table 2, the prices that it implies, and how well they predict."""
    return "Table 2: services of the kernel", [
        _slowdowns(found.rows, why),
        _predictions(found),
        _prices(found),
    ]


def _slowdowns(rows: Sequence[Any], why: Sequence[str]) -> Comparison:
    """Return each service's slowdown by part, ours and theirs."""
    lines: list[list[str]] = []
    bars: list[dict[str, Any]] = []
    for each in rows:
        theirs = each.published
        lines.append([each.service.name, "here", _us(each.service.bare_us)])
        lines[-1] += [f"{each.parts.total:.2f}", *_fractions(each.parts)]
        lines.append([theirs.theirs, "  published", _us(theirs.irix_us)])
        lines[-1] += [f"{theirs.slowdown:.2f}", *_fractions(theirs.parts)]
        for label, parts in (("here", each.parts), ("published", theirs.parts)):
            bars += [
                {
                    "bar": f"{each.service.name}: {label}",
                    "component": name,
                    "slowdown": getattr(parts, part),
                }
                for part, name in PARTS.items()
            ]
    header = ["service", "whose", "µs without", "slowdown", *PARTS.values()]
    return Comparison(
        "Slowdown by part",
        header,
        lines,
        list(why),
        bars,
        axis="times the service's time without a monitor",
        legend="At the prices of the cost table that was captured with.",
        measure="slowdown",
        palette="services",
    )


def _predictions(found: Any) -> Comparison:
    """Return the published rows as prices from all other rows predict them."""
    lines: list[list[str]] = []
    for each in found.rows:
        theirs = each.published
        published = [getattr(theirs.parts, part) * theirs.irix_us for part in MONITOR]
        for label, values in (
            ("from the others", [getattr(each.predicted, part) for part in MONITOR]),
            ("published", published),
            ("as assumed", [getattr(each.assumed, part) for part in MONITOR]),
        ):
            name = theirs.theirs + (" (held out)" if each.held_out else "")
            first = name if label == "from the others" else ""
            lines.append([first, label, _us(sum(values)), *(_us(value) for value in values)])
    header = ["service", "µs of the monitor", "all", *(PARTS[part] for part in MONITOR)]
    texts = [
        "One price for each cause, by least squares over the other six rows, no price below zero,"
        " in parts of the published times; then the row that was left out, from what our service"
        " did. As assumed: at the prices of the cost table.",
        f"Root of the mean squared error over all rows and parts: {found.error_others:.2f} of the"
        f" published time from the others, {found.error_assumed:.2f} as assumed.",
    ]
    return Comparison("Rows that are predicted", header, lines, texts)


def _prices(found: Any) -> Comparison:
    """Return the prices, in microseconds."""
    lines = [
        [each.name, _us(each.assumed), _us(each.calibrated), _us(each.without)]
        for each in found.prices
    ]
    held = next(each.published.theirs for each in found.rows if each.held_out)
    header = ["price", "assumed", "by all rows", f"without {held}"]
    text = "A price that the rows have no work for stays as it is, and is not shown."
    return Comparison("Prices, in µs", header, lines, [text], align=1)


def _fractions(parts: Any) -> list[str]:
    return [f"{getattr(parts, part):.2f}" for part in PARTS]


def _us(value: float) -> str:
    if value < 0.0005:
        return "0"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"
