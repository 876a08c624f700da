"""Write a report: one HTML file that needs no network, from page descriptions and a database."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from disco_trace.errors import EXIT_BUG, DiscoError
from disco_trace.paths import data_folder
from disco_trace.report import text
from disco_trace.report.bundle import vega_bundle
from disco_trace.report.charts import facets, vega_spec
from disco_trace.report.database import Database, connect
from disco_trace.report.output import plain_value
from disco_trace.report.pages import PAGE_NAMES, Chart, Page, TableColumn, read_page

# A chart gets aggregated rows; what is longer belongs into SQL.
CHART_ROWS: Final = 5000
# Views whose rows carry no phase: their charts show the whole run, and say so.
_PHASELESS: Final = ("page_heat", "page_moves", "intervals", "_source_facts", "runs")


@dataclass
class Cell:
    """Hold one cell of a table: text, CSS class, and the whole value where the text is cut."""

    text: str
    style: str
    title: str = ""


@dataclass
class Figure:
    """Hold one chart as it goes into the template: texts, table cells or specifications."""

    title: str
    sentence: Markup
    query: str
    notes: list[str]
    header: list[Cell] = field(default_factory=list)
    rows: list[list[Cell]] = field(default_factory=list)
    drawings: list[tuple[str, Markup]] = field(default_factory=list)


@dataclass
class Section:
    """Hold one page as it goes into the template."""

    name: str
    title: str
    lead: str
    figures: list[Figure]


def write_report(
    paths: Sequence[Path | str],
    target: Path,
    *,
    pages: Sequence[str] = (),
    phase: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[str]:
    """Write the report of some traces and runs to `target`, whole; return the names of its pages.

    `pages` limits it to some pages, `phase` to one phase of the guest; `progress(done, pages,
    name)` is called before each. An existing file is replaced. Raises `DiscoError` for a page
    without rows that was asked for, an unknown page or phase, and whatever is wrong with the
    traces.
    """
    with connect(paths, phase=phase) as database:
        sections = build_sections(database, pages, progress)
        html = render(
            ", ".join(trace.name for trace in database.traces),
            sections,
            phase=database.phase,
            incomplete=[t.name for t in database.traces if not t.reader.complete],
        )
    write_whole(target, html)
    return [section.name for section in sections]


def write_whole(target: Path, html: str) -> None:
    """Write a page in one step: a reader never sees half of it."""
    hidden = target.with_name(f".{target.name}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden.write_text(html, encoding="utf-8")
        hidden.replace(target)
    finally:
        hidden.unlink(missing_ok=True)


def build_sections(
    database: Database,
    names: Sequence[str] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Section]:
    """Return the pages that have rows; those of `names`, if any, must have them."""
    environment = _environment()
    sections = []
    wanted = list(dict.fromkeys(names or PAGE_NAMES))
    for done, name in enumerate(wanted):
        if progress:
            progress(done, len(wanted), name)
        page = read_page(name)
        empty = [v for v in page.needs if not database.rows(f"SELECT 1 FROM {v} LIMIT 1")]
        figures = [] if empty else _figures(database, environment, page)
        if figures:
            sections.append(Section(name, page.title, page.lead, figures))
        elif names:
            raise DiscoError(
                f"the page {name!r} has nothing to show",
                expected=f"rows in {', '.join(empty) or ', '.join(page.needs)}",
                found="none",
            )
    return sections


def _figures(database: Database, environment: Environment, page: Page) -> list[Figure]:
    figures = (_figure(database, environment, chart) for chart in page.charts)
    return [figure for figure in figures if figure is not None]


def _figure(database: Database, environment: Environment, chart: Chart) -> Figure | None:
    """Run a chart's queries and return what the template needs; None if it has no rows."""
    query = chart.query.strip()
    try:
        rows = _rows(database, query, CHART_ROWS + 1)
        facts = _rows(database, chart.facts, 1) if rows and chart.facts else []
    except DiscoError as error:
        raise DiscoError(f"chart {chart.title!r}: {error}", exit_code=EXIT_BUG) from error
    if not rows:
        return None
    notes = []
    if len(rows) > CHART_ROWS:
        rows = rows[:CHART_ROWS]
        notes.append(f"The first {CHART_ROWS:,} rows; the query gives more.")
    if database.phase is not None and any(v in query for v in _PHASELESS):
        notes.append("The whole run: these rows belong to no phase.")
    try:
        sentence = environment.from_string(chart.sentence).render(
            rows=rows, facts=facts[0] if facts else {}, phase=database.phase
        )
    except Exception as error:  # a template's error can be of any class
        raise DiscoError(
            f"the sentence of chart {chart.title!r} fails: {error}", exit_code=EXIT_BUG
        ) from error
    figure = Figure(chart.title, Markup(" ".join(sentence.split())), query, notes)
    if chart.kind == "table":
        figure.header = [_header(column) for column in chart.columns]
        figure.rows = [[_cell(column, row) for column in chart.columns] for row in rows]
    else:
        parts = facets(chart, rows)
        figure.drawings = [
            # The legend is the same for all: once is enough.
            (name, as_json(vega_spec(chart, part, rows, legend=name == parts[-1][0])))
            for name, part in parts
        ]
    return figure


def _rows(database: Database, query: str, limit: int) -> list[dict[str, Any]]:
    rows = database.rows(f"SELECT * FROM ({query.strip().rstrip(';')}) LIMIT {limit}")
    return [{key: plain_value(value) for key, value in row.items()} for row in rows]


def _header(column: TableColumn) -> Cell:
    return Cell(column.title, "right" if column.format in text.NUMERIC else "")


def _cell(column: TableColumn, row: dict[str, Any]) -> Cell:
    value = row[column.field]
    shown = text.FORMATS[column.format](value)
    cut = column.format == "hash" and len(str(value)) > len(shown)
    style = "right" if column.format in text.NUMERIC else "short" if len(shown) <= 32 else ""
    return Cell(shown, style, str(value) if cut else "")


def as_json(spec: dict[str, Any]) -> Markup:
    """Return JSON that may stand inside a script element, whatever texts it holds."""
    data = json.dumps(spec, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    escaped = data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return Markup(escaped)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(data_folder("reports") / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "integer": text.integer,
        "percent": text.percent,
        "ratio": text.ratio,
        "decimal": text.decimal,
    }
    return environment


def render(
    title: str,
    sections: Sequence[Section],
    *,
    phase: str | None = None,
    incomplete: Sequence[str] = (),
) -> str:
    """Return the whole HTML file: sections, style, scripts, and Vega where anything is drawn."""
    environment = _environment()
    folder = data_folder("reports") / "templates"
    drawn = any(figure.drawings for section in sections for figure in section.figures)
    return environment.get_template("report.html.j2").render(
        title=title,
        phase=phase,
        incomplete=list(incomplete),
        sections=sections,
        style=Markup((folder / "report.css").read_text(encoding="utf-8")),
        script=Markup((folder / "report.js").read_text(encoding="utf-8")),
        bundle=Markup(vega_bundle()) if drawn else "",
    )
