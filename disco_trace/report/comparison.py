"""Set what was found beside what was published: tables, bars and sentences in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup, escape

from disco_trace.report.charts import vega_spec
from disco_trace.report.html import Cell, Figure, Section, as_json, render, write_whole
from disco_trace.report.pages import Channel, Chart, Palette

PARTS: Final = ("exec", "local_stall", "remote_stall", "monitor")
OVERHEAD_PARTS: Final = ("user", "kernel", "monitor", "idle")
# In the colours that the same time has in every report.
_COLOURS: Final = {
    "exec": "user", "local_stall": "local", "remote_stall": "remote", "monitor": "monitor",
}  # fmt: skip

_BARS_TEXT: Final = (
    "Ours beside what was published, in per cent of the busy time without a policy; idle time is"
    " left out. Published totals are printed, the parts were read off the figure."
)
OVERHEAD_TEXT: Final = (
    "The same program on the bare machine and in a virtual machine over Disco, in per cent of the"
    " time on the bare machine; stalls belong to the part that waited."
)
_MOVES_TEXT: Final = (
    "Ours beside what was published: moves of all nodes together in a second of the machine, and"
    " what the monitor spent on one."
)


@dataclass
class Comparison:
    """Hold one table for terminal and page, the sentences below it, and rows for its bars."""

    title: str
    header: list[str]
    rows: list[list[str]]
    sentences: list[str]
    bars: list[dict[str, Any]] = field(default_factory=list)
    align: int = 2  # columns of text, before those of numbers
    axis: str = "per cent of the time without a policy"
    legend: str = "user: execution with first-level stalls; local and remote: second-level stalls."
    measure: str = "percent"  # which field of the bars is their length
    palette: Palette = "components"


def stalls_figures(outcomes: Sequence[Any]) -> tuple[str, list[Comparison]]:
    """Return the form of Figure 8: time by part, in per cent of the time without a policy."""
    header = [
        "workload",
        "case",
        "total",
        "local",
        "exec",
        "local stall",
        "remote stall",
        "monitor",
    ]
    figures = []
    for name, cases in _by_workload(outcomes):
        rows, bars = [], []
        sentences = [cases[0].why_workload] if cases[0].why_workload else []
        for each in cases:
            rows.append([name, each.case, *_figures(each.total, each.local_percent, each.parts)])
            bars += _bars(each.case, "here", each.parts)
            if each.published is not None:
                theirs = {part: getattr(each.published, part) for part in PARTS}
                local = each.published.local_percent
                rows.append(["", "  published", *_figures(each.published.total, local, theirs)])
                bars += _bars(each.case, "published", theirs)
                sentences.append(_difference(each, theirs))
        figures.append(Comparison(f"{name}: time by part", header, rows, sentences, bars))
    return "Figure 8: page migration and replication", figures


def moves_figures(outcomes: Sequence[Any]) -> tuple[str, list[Comparison]]:
    """Return the form of Table 3: moves a second, and what one costs."""
    header = ["workload", "case", "migrations/s", "µs each", "replications/s", "µs each"]
    rows: list[list[str]] = []
    sentences: list[str] = []
    for name, cases in _by_workload(outcomes):
        for each in cases:
            if each.moves.migrations_per_s or each.moves.replications_per_s:
                rows.append([name, each.case, *_moves(each.moves)])
        if cases[0].published_moves is not None:
            rows.append([name, "  published", *_moves(cases[0].published_moves)])
        sentences += [f"{name}: {each.why_moves}" for each in cases[:1] if each.why_moves]
    return "Table 3: page moves", [Comparison("Moves", header, rows, sentences)]


def overhead_figures(outcomes: Sequence[Any], absent: str) -> tuple[str, list[Comparison]]:
    """Return the form of Figure 5: time by part, in per cent of the time on the bare machine."""
    header = ["workload", "system", "total", "busy", *OVERHEAD_PARTS]
    rows: list[list[str]] = []
    sentences, bars, figures = [], [], []
    for each in outcomes:
        theirs = each.published
        for whose, parts in (
            ("bare", each.bare), ("  published", theirs.bare),
            ("Disco", each.disco), ("  published", theirs.disco),
        ):  # fmt: skip
            first = each.workload if whose == "bare" else ""
            values = [getattr(parts, part) for part in OVERHEAD_PARTS]
            # The published total is printed; the parts were read off a figure.
            total = theirs.total if parts is theirs.disco else parts.total
            rows.append([first, whose, f"{total:.0f}", f"{parts.busy:.0f}"])
            rows[-1] += [f"{value:.1f}" for value in values]
        for label, parts in (
            ("bare", each.bare), ("Disco", each.disco), ("Disco, published", theirs.disco),
        ):  # fmt: skip
            bars += [
                {
                    "bar": f"{each.workload}: {label}",
                    "component": part,
                    "percent": getattr(parts, part),
                }
                for part in OVERHEAD_PARTS
            ]
        sentences.append(
            f"{each.workload}: {each.disco.total:.0f} here, {theirs.total:.0f} published; busy time"
            f" grows by {each.disco.busy / each.bare.busy - 1:+.0%} here,"
            f" {theirs.disco.busy / theirs.bare.busy - 1:+.0%} published. {each.why}"
        )
    sentences.append(absent)
    figures.append(
        Comparison(
            "Time by part",
            header,
            rows,
            sentences,
            bars,
            axis="per cent of the time on the bare machine",
            legend="The guest's kernel lies in KSEG0 on the bare machine, in the supervisor segment"
            " over Disco.",
        )
    )
    figures += [_causes(each) for each in outcomes]
    figures.append(_programs(outcomes))
    return "Figure 5: overhead of virtualisation on one CPU", figures


def _causes(each: Any) -> Comparison:
    """Return where a workload's monitor time went."""
    rows = [
        [each.workload, cause.name, f"{cause.entries:,}", f"{cause.us_each:.3g}",
         f"{cause.percent:.2f}"]
        for cause in each.causes
    ]  # fmt: skip
    header = ["workload", "cause", "entries", "µs each", "% of bare time"]
    text = "Entries to the monitor by cause; prices are the cost table's, whose comments say why."
    return Comparison(f"{each.workload}: the monitor's time", header, rows, [text])


def _programs(outcomes: Sequence[Any]) -> Comparison:
    """Return what the programs themselves retired: the same, bare and over the monitor."""
    rows = [
        [each.workload, f"{each.user_instructions[0]:,}", f"{each.user_instructions[1]:,}",
         "yes" if each.same_by_process else "no",
         f"{each.user_restarts[0]:,}", f"{each.user_restarts[1]:,}"]
        for each in outcomes
    ]  # fmt: skip
    header = ["workload", "bare", "Disco", "same", "again, bare", "again, Disco"]
    texts = [
        "Instructions that the programs retired, and whether each process retired as many.",
        "Again: branches that retired twice, because a TLB miss or an interrupt came in their delay"
        " slot and the guest went on at the branch. A miss that the monitor resolves is none of"
        " these. They are not among the former.",
    ]
    return Comparison("The programs' instructions", header, rows, texts, align=1)


def write_comparison(
    target: Path, title: str, figures: Sequence[Comparison], text: str = ""
) -> None:
    """Write the page, whole; an existing file is replaced."""
    made = [figure for each in figures for figure in _as_figures(each)]
    text = text or (_BARS_TEXT if any(each.bars for each in figures) else _MOVES_TEXT)
    section = Section("reproduce", title, text, made)
    write_whole(target, render(title, [section]))


def _by_workload(outcomes: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    names = dict.fromkeys(each.workload for each in outcomes)
    return [(name, [each for each in outcomes if each.workload == name]) for name in names]


def _figures(total: float, local: float, parts: dict[str, float]) -> list[str]:
    return [f"{total:.0f}", f"{local:.0f} %", *(f"{parts[part]:.1f}" for part in PARTS)]


def _moves(moves: Any) -> list[str]:
    """Return rates and costs; what does not happen has no cost."""

    def both(per_s: float, us: float) -> list[str]:
        return [f"{per_s:,.0f}", f"{us:.0f}" if per_s else "–"]

    return [
        *both(moves.migrations_per_s, moves.migration_us),
        *both(moves.replications_per_s, moves.replication_us),
    ]


def _bars(case: str, whose: str, parts: dict[str, float]) -> list[dict[str, Any]]:
    label = case if whose == "here" else f"{case}, published"
    return [{"bar": label, "component": _COLOURS[part], "percent": parts[part]} for part in PARTS]


def _difference(each: Any, theirs: dict[str, float]) -> str:
    """Say where ours and theirs part most, and why as far as it is known."""
    apart = {part: each.parts[part] - theirs[part] for part in PARTS}
    most = max(PARTS, key=lambda part: abs(apart[part]))
    text = (
        f"{each.case}: {each.total:.0f} here, {each.published.total:.0f} published; most apart is"
        f" {most.replace('_', ' ')}, {abs(apart[most]):.0f} points"
        f" {'above' if apart[most] > 0 else 'below'}."
    )
    return f"{text} {each.why}".strip()


def _as_figures(each: Comparison) -> list[Figure]:
    sentence = Markup('</p>\n    <p class="sentence">').join(
        escape(text) for text in each.sentences
    )
    table = Figure(
        each.title,
        sentence,
        "",
        [],
        header=[
            Cell(name, "right" if at >= each.align else "") for at, name in enumerate(each.header)
        ],
        rows=[
            [Cell(text, "right" if at >= each.align else "short") for at, text in enumerate(row)]
            for row in each.rows
        ],
    )
    if not each.bars:
        return [table]
    chart = Chart(
        title=each.title,
        kind="stacked-bar",
        query="",
        sentence="",
        x=Channel(each.measure, each.axis),
        y=Channel("bar"),
        color=Channel("component"),
        palette=each.palette,
    )
    drawing = Figure(
        f"{each.title}, drawn",
        Markup(each.legend),
        "",
        [],
        drawings=[("", as_json(vega_spec(chart, each.bars, each.bars)))],
    )
    return [drawing, table]
