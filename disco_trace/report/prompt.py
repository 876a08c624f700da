"""Ask for queries on a terminal: history, completion, errors that do not end the session."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from disco_trace.errors import DiscoError
from disco_trace.report.database import Database

HISTORY_LINES: Final = 1000
_WORDS: Final = (
    "SELECT", "FROM", "WHERE", "GROUP", "ORDER", "BY", "LIMIT", "JOIN", "USING", "COUNT", "SUM",
    "DESC", "WITH",
)  # fmt: skip
# Commands that people type without the dot.
_BARE: Final = ("quit", "exit", "help")
_HELP: Final = """\
A query ends with a semicolon. .views lists the views, .describe VIEW a view's columns,
.help this, .quit (or Ctrl-D) ends. Tab completes, arrows bring back older queries."""


def run_prompt(
    database: Database, answer: Callable[[str], None], say: Callable[[str], None]
) -> None:
    """Read queries until the end of input; `answer` runs one and prints its rows."""
    names = [trace.name for trace in database.traces]
    say(f"{', '.join(names)}: {len(database.views())} views. A query ends with ;")
    say(".views lists the views, .help helps, Ctrl-D leaves.")
    with _History(database):
        buffer = ""
        while True:
            try:
                line = input("...> " if buffer else "sql> ")
            except EOFError:
                say("")
                return
            except KeyboardInterrupt:
                # Ctrl-C drops what was typed, as in a shell.
                buffer = ""
                say("")
                continue
            words = line.split()
            if not buffer and words and (words[0].startswith(".") or line.strip() in _BARE):
                if not _command(database, [f".{words[0].lstrip('.')}", *words[1:]], say):
                    return
                continue
            buffer = f"{buffer}\n{line}".strip()
            if not buffer.endswith(";"):
                continue
            query, buffer = buffer, ""
            with contextlib.suppress(KeyboardInterrupt):
                _guarded(lambda query=query: answer(query), say)  # type: ignore[misc]


def _command(database: Database, words: list[str], say: Callable[[str], None]) -> bool:
    """Run a line that starts with a dot; return False at `.quit`."""
    match words:
        case [".quit" | ".exit"]:
            return False
        case [".views"]:
            say(view_list(database))
        case [".describe", view]:
            _guarded(lambda: say(description(database.describe(view))), say)
        case [".help"]:
            say(_HELP)
        case _:
            say(f"error: no command {' '.join(words)!r}; .help lists them")
    return True


def _guarded(action: Callable[[], None], say: Callable[[str], None]) -> None:
    try:
        action()
    except DiscoError as error:
        say(f"error: {error}" + (f"\nhint: {error.hint}" if error.hint else ""))


def view_list(database: Database) -> str:
    """Return each public view's name and sentence, which goes on below itself if it is long."""
    rows = database.views()
    width = max(len(row["name"]) for row in rows)
    return "\n".join(_entry(f"{row['name']:<{width}}  ", row["comment"]) for row in rows)


def _entry(head: str, text: str) -> str:
    """Return `head` and a text, broken between words at the terminal's width."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
    width = max(columns - len(head), 30)
    return head + f"\n{' ' * len(head)}".join(textwrap.wrap(text, width) or [""])


def description(described: dict[str, Any]) -> str:
    """Return the sentence of a view and one line for each column."""
    columns = described["columns"]
    widths = [max(len(c[key]) for c in columns) for key in ("name", "type")]
    lines = [
        _entry(f"  {c['name']:<{widths[0]}}  {c['type']:<{widths[1]}}  ", c["comment"] or "")
        for c in columns
    ]
    return "\n".join([f"{described['name']}: {described['comment']}", *lines])


class _History:
    """Keep the lines typed in the user's state folder; complete names by Tab."""

    def __init__(self, database: Database) -> None:
        views = [row["name"].split("(")[0] for row in database.views()]
        columns = database.rows(
            "SELECT DISTINCT column_name AS name FROM duckdb_columns() "
            "WHERE table_name NOT LIKE '\\_%' ESCAPE '\\'"
        )
        self._words = sorted({*views, *(row["name"] for row in columns), *_WORDS})
        state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        self._file = Path(state).expanduser() / "disco-trace" / "sql_history"

    def __enter__(self) -> None:
        try:
            import readline
        except ImportError:  # a Python without it: the prompt works, plainly
            self._readline = None
            return
        self._readline = readline
        with contextlib.suppress(OSError):
            readline.read_history_file(self._file)
        readline.set_history_length(HISTORY_LINES)
        readline.set_completer_delims(" \t\n(),.;=<>+-*/")
        readline.set_completer(self._complete)
        readline.parse_and_bind("tab: complete")

    def __exit__(self, *raised: object) -> None:
        if self._readline is None:
            return
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._readline.write_history_file(self._file)

    def _complete(self, text: str, state: int) -> str | None:
        found = [word for word in self._words if word.lower().startswith(text.lower())]
        return found[state] if state < len(found) else None
