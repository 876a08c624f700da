"""Ask a trace or run questions in SQL."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from disco_trace.cli import common
from disco_trace.errors import DiscoError

if TYPE_CHECKING:
    from disco_trace.report.database import Database


class Format(StrEnum):
    """Name the forms that rows can take."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def sql(
    paths: common.PathsArgument,
    query: Annotated[
        str | None, typer.Option("-q", "--query", metavar="QUERY", help="The query.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", metavar="FILE", help="A file with the query.")
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Form of the rows; a table unless told otherwise."),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List the views, with a sentence for each.")
    ] = False,
    describe: Annotated[
        str | None,
        typer.Option("--describe", metavar="VIEW", help="Print the columns of a view."),
    ] = None,
    phase: Annotated[
        str | None,
        typer.Option(
            "--phase", metavar="NAME", help="Only this phase of the guest, and those inside it."
        ),
    ] = None,
    output: common.Out = None,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.QuietLong = False,
) -> None:
    """Ask a trace or run questions in SQL (DuckDB's dialect; read-only).

    Without -q or -f the query comes from standard input; on a terminal there is a prompt.
    Tables show addresses (vaddr, pc) in hex; the other forms hold plain numbers.

    Examples:

    \b
        disco-trace sql traces/radix-8cpu --list
        disco-trace sql traces/radix-8cpu --describe misses
        disco-trace sql traces/radix-8cpu -q "SELECT symbol, count(*) FROM refs GROUP BY ALL"
        disco-trace sql traces/radix-8cpu -q "FROM totals" --format parquet -o totals.parquet
    """
    with common.verb("sql", json=json, quiet=quiet) as out:
        _check_options(query, file, form, list_, describe, output, json)
        _check_paths(paths)
        from disco_trace.report.database import connect

        out.set(path=paths[0], paths=paths)
        with connect(paths, phase=phase) as database:
            if output is not None:
                _check_output(output, database, force=force)
            if list_:
                _list(out, database)
            elif describe is not None:
                _describe(out, database, describe)
            elif query is None and file is None and not json and sys.stdin.isatty():
                _prompt(out, database, form or Format.TABLE, output)
            else:
                text = _query(query, file)
                _answer(out, database, text, form or Format.TABLE, output)


def _check_options(
    query: str | None,
    file: Path | None,
    form: Format | None,
    list_: bool,
    describe: str | None,
    output: Path | None,
    json: bool,
) -> None:
    """Raise `DiscoError` for options that contradict each other."""
    asked = [
        name
        for name, given in (
            ("-q", query is not None),
            ("-f", file is not None),
            ("--list", list_),
            ("--describe", describe is not None),
        )
        if given
    ]
    if len(asked) > 1:
        raise DiscoError("one question at a time", expected="one option", found=" and ".join(asked))
    if json and form is not None:
        raise DiscoError(
            "two forms of the rows",
            expected="--json or --format",
            found=f"--json and --format {form.value}",
            hint="--json wraps columns and rows in one object, --format json prints a bare array",
        )
    if json and output is not None:
        raise DiscoError(
            "--json prints on standard output",
            expected="--format json with -o",
            found=f"--json -o {output}",
        )
    if (list_ or describe is not None) and (form is not None or output is not None):
        raise DiscoError(
            "--format and -o are for the rows of a query",
            expected="--list or --describe alone, or with --json",
            found="--format" if form is not None else f"-o {output}",
        )


def _check_paths(paths: list[Path]) -> None:
    """Raise `DiscoError` for a path that there is not, which may be a query without its -q."""
    for path in paths:
        if not path.exists():
            first = str(path).partition(" ")[0].upper()
            query = first in ("SELECT", "FROM", "WITH", "SUMMARIZE", "DESCRIBE", "PIVOT")
            raise DiscoError(
                "no such file or folder",
                file=path,
                expected="a trace or run",
                found="nothing",
                hint="a query comes after -q" if query else None,
            )


def _check_output(output: Path, database: Database, *, force: bool) -> None:
    """Raise `DiscoError` if the file exists, or lies where it could harm a trace."""
    target = output.resolve()
    for trace in database.traces:
        for folder in (trace.path, *(run.run.path for run in trace.runs)):
            if target.is_relative_to(folder.resolve()):
                raise DiscoError(
                    "a query writes nothing into a trace or run",
                    file=output,
                    expected="a file elsewhere",
                    found=f"a place inside {folder}",
                )
    if target.is_dir():
        raise DiscoError("not a file", file=output, expected="a file name", found="a folder")
    common.check_free(output, force=force, what="file")


def _query(query: str | None, file: Path | None) -> str:
    """Return the query of the command line, of a file or of standard input."""
    try:
        text = query
        if text is None:
            text = sys.stdin.read() if file is None else file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DiscoError(
            "the query is not text", file=file, expected="UTF-8", found=error.reason
        ) from None
    if not text.strip():
        raise DiscoError(
            "no query",
            file=file,
            expected="SQL with -q, in a file with -f, or on standard input",
            found="nothing",
        )
    return text


def _list(out: common.Output, database: Database) -> None:
    from disco_trace.report.prompt import view_list

    out.print(view_list(database))
    out.set(views=database.views())


def _describe(out: common.Output, database: Database, view: str) -> None:
    from disco_trace.report.prompt import description

    described = database.describe(view)
    out.print(description(described))
    out.set(view=described["name"], comment=described["comment"], columns=described["columns"])


def _prompt(out: common.Output, database: Database, form: Format, output: Path | None) -> None:
    from disco_trace.report.prompt import run_prompt

    if form is Format.PARQUET or output is not None:
        raise DiscoError(
            "the prompt prints on the terminal",
            expected="a query with -q or -f",
            found="--format parquet" if form is Format.PARQUET else f"-o {output}",
        )
    run_prompt(database, lambda text: _answer(out, database, text, form, None), print)


def _answer(
    out: common.Output, database: Database, text: str, form: Format, output: Path | None
) -> None:
    """Run one query and put its rows where they were asked for."""
    if out.json:
        from disco_trace.report.output import plain_rows

        reader = database.reader(text)
        out.set(columns=reader.schema.names, rows=list(plain_rows(reader)))
    elif output is None:
        _show(out, database, text, form)
    else:
        count = _write(database, text, form, output)
        out.say(f"{count:,} rows written to {output}")


def _show(out: common.Output, database: Database, text: str, form: Format) -> None:
    """Print the rows on standard output."""
    from disco_trace.report import output as forms

    if form is Format.PARQUET and sys.stdout.isatty():
        raise DiscoError("Parquet is not text", expected="-o FILE, or a pipe", found="a terminal")
    reader = database.reader(text)
    if form is Format.TABLE:
        if _is_explain(reader.schema.names):
            out.print("\n".join(row[1] for row in forms.plain_rows(reader)))
            return
        table, more = forms.as_table(reader)
        out.show(table)
        if more:
            out.warn(f"the first {forms.TABLE_ROWS} rows; --format csv prints all of them")
    elif form is Format.CSV:
        forms.write_csv(reader, sys.stdout)
    elif form is Format.JSON:
        forms.write_json(reader, sys.stdout)
    else:
        forms.write_parquet(reader, sys.stdout.buffer)


def _is_explain(names: list[str]) -> bool:
    return names == ["explain_key", "explain_value"]


def _write(database: Database, text: str, form: Format, output: Path) -> int:
    """Write the rows to a file, which appears when it is whole; return their number."""
    from rich.console import Console

    from disco_trace.report import output as forms

    reader = database.reader(text)
    hidden = output.with_name(f".{output.name}.new")
    try:
        if form is Format.PARQUET:
            with hidden.open("wb") as binary:
                count = forms.write_parquet(reader, binary)
        else:
            with hidden.open("w", encoding="utf-8", newline="") as plain:
                if form is Format.TABLE:
                    table, more = forms.as_table(reader)
                    if more:
                        raise DiscoError(
                            f"a table ends after {forms.TABLE_ROWS} rows",
                            expected="--format csv, json or parquet for so many",
                            found="more rows",
                        )
                    Console(file=plain, width=200, highlight=False).print(table)
                    count = table.row_count
                elif form is Format.CSV:
                    count = forms.write_csv(reader, plain)
                else:
                    count = forms.write_json(reader, plain)
        hidden.replace(output)
    finally:
        hidden.unlink(missing_ok=True)
    return count
