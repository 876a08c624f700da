"""Refuse whatever is not a question: one statement that reads, and nothing beside the views."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import duckdb

from disco_trace.errors import DiscoError

# Settled before the first query of a user and locked. No path is allowed, not even a temporary
# folder: an allowed folder would let COPY write there.
SETTINGS: Final = (
    "SET temp_directory = ''",
    "SET python_enable_replacements = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET allow_community_extensions = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_ALLOWED: Final = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
# Functions of a SELECT that reach around the views: raw pointers, or a change of the session.
_REFUSED: Final = re.compile(
    r"\b(arrow_scan\w*|python_arrow_scan|pandas_scan|python_map_function|seq_scan|"
    r"json_execute_serialized_sql|write_log|checkpoint|force_checkpoint|"
    r"(?:enable|disable)_(?:logging|profiling)|truncate_duckdb_logs|"
    r"(?:create|register|deregister|destroy)_external_resource\w*)\b",
    re.IGNORECASE,
)
_EXPLAIN: Final = re.compile(
    r"\A(?:\s|--[^\n]*\n|/\*.*?\*/)*EXPLAIN\b\s*(?:\([^)]*\)|ANALYZE\b)?",
    re.IGNORECASE | re.DOTALL,
)


def check_statement(sql: str) -> None:
    """Raise `DiscoError` unless `sql` is one SELECT (WITH, FROM, DESCRIBE, SHOW) or EXPLAIN."""
    with clear_errors():
        statements = duckdb.extract_statements(sql)
    if len(statements) != 1:
        raise DiscoError(
            "SQL: one statement at a time", expected="1 statement", found=str(len(statements))
        )
    statement = statements[0]
    if statement.type not in _ALLOWED:
        raise DiscoError(
            "SQL: traces are read-only here",
            expected="SELECT, WITH, DESCRIBE, SHOW or EXPLAIN",
            found=statement.type.name,
        )
    refused = _REFUSED.search(sql)
    if refused:
        raise DiscoError(f"SQL: the function {refused[0]} is not available here")
    if statement.type is duckdb.StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs what it explains, so that is held to the same rules.
        inner = explained(statement.query)
        if inner == statement.query or _EXPLAIN.match(inner):
            raise DiscoError("SQL: EXPLAIN takes a SELECT", found=_line(inner)[:60])
        check_statement(inner)


def explained(sql: str) -> str:
    """Return a statement without the EXPLAIN before it, if there is one."""
    return _EXPLAIN.sub("", sql, count=1)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn DuckDB's and Arrow's errors into one line, with DuckDB's suggestion as the hint."""
    try:
        yield
    except duckdb.InterruptException:
        raise KeyboardInterrupt from None
    except (duckdb.Error, OSError) as error:
        raise _clear(str(error)) from error


def _clear(text: str) -> DiscoError:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    kept: list[str] = []
    for line in lines:
        # From here on DuckDB quotes the query with a pointer below it.
        if line.startswith(("LINE ", "^")):
            break
        kept.append(line)
    hints = [line for line in kept[1:] if line.startswith(("Candidate", "Did you"))]
    message = " ".join(line for line in kept if line not in hints)
    if "Out of Memory" in message:
        hints = ["group or limit the rows; --phase NAME reads a part of the trace"]
    # DuckDB knows the private views too, and would lead there.
    if "does not exist" in message and (not hints or '"_' in hints[0]):
        hints = ["disco-trace sql PATH --list names the views, --describe VIEW the columns of one"]
    return DiscoError(f"SQL: {_line(message)}", hint=hints[0] if hints else None)


def _line(text: str) -> str:
    return " ".join(text.split())
