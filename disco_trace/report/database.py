"""Open traces and runs as a locked DuckDB: the public views, read-only, nothing else reachable."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import duckdb

from disco_trace.errors import DiscoError
from disco_trace.report.guard import SETTINGS, check_statement, clear_errors, explained
from disco_trace.report.modules import load_modules
from disco_trace.report.register import register
from disco_trace.report.sources import TraceSource, find_sources

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

# The order of views.md.
PUBLIC_VIEWS: Final = (
    "refs",
    "tlb_misses",
    "traps",
    "page_events",
    "schedule",
    "dma",
    "packets",
    "phases",
    "runs",
    "totals",
    "time_breakdown",
    "intervals",
    "misses",
    "page_heat",
    "page_moves",
    "symbol_misses",
)
# Tables of symbols, filled when a query first reads one, each from the view `<name>_now`; with
# the public views that stand on it.
_CACHES: Final = {
    "_ref_symbols": ("refs",),
    "_tlb_symbols": ("tlb_misses", "_tlb_exceptions", "symbol_misses"),
    "_trap_symbols": ("_placed_traps",),
    "_miss_symbols": ("misses", "remote_misses", "symbol_misses"),
    "_page_symbols": ("page_heat",),
}
# DuckDB takes an Arrow dataset for one row, and would build its hash tables on the large side of
# a join: 5.5 s in place of 0.7 s for 50 M rows. Our views join small tables last.
_PLANNING: Final = "SET disabled_optimizers = 'build_side_probe_side'"
# Rows of one batch of a result that is read while it is computed.
ARROW_BATCH_ROWS: Final = 100_000


class Database:
    """Hold the views over some traces and runs; a context manager.

    `phase` limits every view whose rows carry a phase to the one of that name, with the phases
    that lie inside it. Raises `DiscoError` for a path that holds no trace or run, or a damaged one.
    """

    def __init__(self, paths: Sequence[Path | str], *, phase: str | None = None) -> None:
        self.traces: list[TraceSource] = find_sources([Path(p) for p in paths])
        self.phase = phase
        self._connection = duckdb.connect(":memory:")
        try:
            register(self._connection, self.traces, phase)
            load_modules(self._connection)
            for setting in (_PLANNING, *SETTINGS):
                self._connection.execute(setting)
        except BaseException:
            self._connection.close()
            raise
        self._unfilled = set(_CACHES)

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def reader(self, sql: str) -> pa.RecordBatchReader:
        """Run one SELECT or EXPLAIN and return its rows as Arrow batches.

        The batches are computed while they are read, so a result may be larger than memory; read
        them under `guard.clear_errors`. Raises `DiscoError` with DuckDB's reason in one line, or
        for any other statement.
        """
        check_statement(sql)
        with clear_errors():
            self._fill_caches(sql)
            return self._connection.sql(sql).to_arrow_reader(ARROW_BATCH_ROWS)

    def query(self, sql: str) -> pl.DataFrame:
        """Run one SELECT and return all rows as a polars data frame; errors as `reader`."""
        import polars as pl

        reader = self.reader(sql)
        with clear_errors():
            frame = pl.from_arrow(reader.read_all())
        assert isinstance(frame, pl.DataFrame)
        # A sum of counts is 128 bits wide in DuckDB and arrives as a decimal without places.
        wide = [n for n, t in frame.schema.items() if isinstance(t, pl.Decimal) and not t.scale]
        return frame.with_columns(pl.col(wide).cast(pl.Int64)) if wide else frame

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Run one SELECT and return its rows as dicts of plain Python values."""
        check_statement(sql)
        with clear_errors():
            self._fill_caches(sql)
            cursor = self._connection.execute(sql)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def views(self) -> list[dict[str, str]]:
        """Return name and sentence of every public view and macro, in the documented order."""
        comments = self.rows(
            "SELECT view_name AS name, comment FROM duckdb_views() WHERE NOT internal"
        )
        by_name = {row["name"]: row["comment"] or "" for row in comments}
        listed = [{"name": name, "comment": by_name[name]} for name in PUBLIC_VIEWS]
        macros = self.rows(
            "SELECT function_name AS name, any_value(parameters) AS parameters, "
            "any_value(comment) AS comment FROM duckdb_functions() WHERE NOT internal "
            "AND function_type = 'table_macro' AND function_name NOT LIKE '\\_%' ESCAPE '\\' "
            "GROUP BY function_name ORDER BY function_name"
        )
        return listed + [
            {"name": f"{m['name']}({', '.join(m['parameters'])})", "comment": m["comment"] or ""}
            for m in macros
        ]

    def describe(self, view: str) -> dict[str, Any]:
        """Return the sentence of a view and its columns (name, type, comment).

        Raises `DiscoError` if there is no such public view.
        """
        sentences = {row["name"].split("(")[0]: row for row in self.views()}
        if view not in sentences:
            import difflib

            near = difflib.get_close_matches(view, sentences, n=1)
            raise DiscoError(
                f"no view {view!r}",
                expected=f"one of {', '.join(sentences)}",
                found=view,
                hint=f"did you mean {near[0]!r}?" if near else None,
            )
        # A macro has no comments of its own: its rows are those of the view under it.
        source = view if view in PUBLIC_VIEWS else "misses"
        columns = self.rows(
            "SELECT column_name AS name, data_type AS type, comment FROM duckdb_columns() "
            f"WHERE table_name = '{source}' ORDER BY column_index"
        )
        return {**sentences[view], "columns": columns}

    def _fill_caches(self, sql: str) -> None:
        """Fill the symbol tables from which `sql` reads a name.

        The plan tells, whatever the query looks like. But a filter on the name of an empty table
        is optimised away with the table, so the text is asked too.
        """
        if not self._unfilled:
            return
        plan = self._connection.execute(f"EXPLAIN (FORMAT json) {explained(sql)}").fetchall()[0][1]
        needed = _tables_for_names(json.loads(plan))
        words = set(re.findall(r"\w+", sql.lower()))
        if words & {"symbol", "image"}:
            needed |= {table for table, views in _CACHES.items() if words & {table, *views}}
        for table in sorted(self._unfilled & needed):
            self._connection.execute(f"INSERT INTO {table} FROM {table}_now")
            self._unfilled.discard(table)


def connect(paths: Sequence[Path | str], *, phase: str | None = None) -> Database:
    """Open traces and runs (folders) as one database; see `Database`."""
    return Database(paths, phase=phase)


def query(paths: Sequence[Path | str], sql: str) -> pl.DataFrame:
    """Run one SELECT over some traces and runs; return a polars data frame."""
    with connect(paths) as database:
        return database.query(sql)


def _tables_for_names(node: Any) -> set[str]:
    """Return the symbol tables of a plan from which more than the key is read."""
    if isinstance(node, list):
        return set().union(*(_tables_for_names(item) for item in node))
    info = node.get("extra_info", {})
    found = set()
    table = str(info.get("Table", "")).rsplit(".", 1)[-1].strip('"')
    if table in _CACHES and re.search(r"\b(symbol|image)\b", str(info.get("Projections", ""))):
        found.add(table)
    return found | _tables_for_names(node.get("children", []))
