"""Load the SQL modules: a module's dotted path is its name, and it includes only downward."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import duckdb

from disco_trace.errors import EXIT_BUG, DiscoError
from disco_trace.paths import data_folder

_INCLUDE: Final = re.compile(r"^-- include: (\S+)$", re.MULTILINE)


def module_files() -> dict[str, Path]:
    """Map the names of all modules (`run.misses`) to their files, in alphabetical order."""
    root = data_folder("reports") / "sql"
    files = sorted(root.rglob("*.sql"))
    return {".".join(f.relative_to(root).with_suffix("").parts): f for f in files}


def load_modules(connection: duckdb.DuckDBPyConnection) -> None:
    """Create every module's objects, the included modules first.

    Raises `DiscoError` (our bug) for an unknown or circular include, or SQL that fails.
    """
    files = module_files()
    loaded: set[str] = set()
    for name in files:
        _load(connection, name, files, loaded, ())


def _load(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    files: dict[str, Path],
    loaded: set[str],
    above: tuple[str, ...],
) -> None:
    if name in loaded:
        return
    if name not in files or name in above:
        chain = " includes ".join((*above, name))
        raise DiscoError(f"SQL modules do not fit together: {chain}", exit_code=EXIT_BUG)
    text = files[name].read_text(encoding="utf-8")
    for included in _INCLUDE.findall(text):
        _load(connection, included, files, loaded, (*above, name))
    try:
        connection.execute(text)
    except duckdb.Error as error:
        raise DiscoError(
            f"the SQL module fails: {error}", file=files[name], exit_code=EXIT_BUG
        ) from error
    loaded.add(name)
