"""Read what a report shows: a page is a TOML file with its charts, their queries and sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from disco_trace.errors import EXIT_BUG, DiscoError
from disco_trace.paths import data_folder

# The order of the pages in a report; those that are missing here come with later versions.
PAGE_NAMES: Final = (
    "overview",
    "time",
    "misses",
    "placement",
    "tlb",
    "monitor",
    "blame",
    "symbols",
    "provenance",
)

Kind = Literal["bar", "stacked-bar", "stacked-area", "line", "heat-map", "table"]
# How a cell of a table is written.
CellFormat = Literal["text", "integer", "percent", "ratio", "decimal", "hash"]


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bind a column of the query to an axis, colour or facet; `format` is a d3 number format."""

    field: str
    title: str = ""
    format: str = ""


class TableColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Show a column of the query in a table; the unit stands in its title."""

    field: str
    title: str
    format: CellFormat = "text"


Palette = Literal["", "components", "memory", "services", "sources", "actions"]


class Chart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe one chart or table.

    `query` gives its rows, at most 5,000, in the order in which they are shown; `facts`, a query
    of one row, what the sentence needs beside them. `sentence` is a Jinja template over `rows`,
    `facts` and `phase` that says what to see. `facet` draws one chart for each of its values.
    `palette` names a fixed assignment of colours to values. A chart without rows is left out.
    """

    title: str
    kind: Kind
    query: str
    sentence: str
    facts: str = ""
    x: Channel | None = None
    y: Channel | None = None
    color: Channel | None = None
    facet: Channel | None = None
    palette: Palette = ""
    columns: tuple[TableColumn, ...] = ()


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe one page: shown when every view of `needs` has rows; `lead` says what it is for."""

    title: str
    needs: tuple[str, ...]
    lead: str
    charts: tuple[Chart, ...]


def read_page(name: str) -> Page:
    """Read the description of a page; `DiscoError` if there is none of that name."""
    file = data_folder("reports") / "pages" / f"{name}.toml"
    if name not in PAGE_NAMES:
        raise DiscoError(
            f"no page {name!r}", expected=f"one of {', '.join(PAGE_NAMES)}", found=name
        )
    return parse_page(file)


def parse_page(file: Path) -> Page:
    """Read a page description from a file; `DiscoError` (our bug) if it does not fit together."""
    try:
        page = msgspec.toml.decode(file.read_bytes(), type=Page)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise DiscoError(
            f"the page description does not fit: {error}", file=file, exit_code=EXIT_BUG
        ) from error
    for chart in page.charts:
        given = {name for name in ("x", "y", "color") if getattr(chart, name) is not None}
        needed = {"table": set(), "bar": {"x", "y"}}.get(chart.kind, {"x", "y", "color"})
        missing = needed - given
        if missing or (chart.kind == "table") != bool(chart.columns):
            raise DiscoError(
                f"chart {chart.title!r} lacks {', '.join(sorted(missing)) or 'columns'}",
                file=file,
                exit_code=EXIT_BUG,
            )
    return page
