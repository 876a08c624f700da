"""Write the rows of a query as a table for people, CSV, JSON or Parquet, while they arrive."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import IO, Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from disco_trace.report.guard import clear_errors

Format = Literal["table", "csv", "json", "parquet"]
# A table is for reading: what is longer should be grouped, or written as CSV.
TABLE_ROWS: Final = 200
# A longer text (the JSON of runs.spec) is cut in a table, and nowhere else.
CELL_CHARACTERS: Final = 60
# Columns that hold addresses: shown in hex in tables (only there).
_ADDRESSES: Final = ("vaddr", "pc")


def batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a reader; errors that turn up while rows are computed are one line."""
    while True:
        with clear_errors():
            try:
                batch = reader.read_next_batch()
            except StopIteration:
                return
        yield batch


def plain_rows(reader: pa.RecordBatchReader) -> Iterator[list[Any]]:
    """Yield each row as a list of values that JSON has."""
    for batch in batches(reader):
        columns = [column.to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            yield [plain_value(value) for value in row]


def plain_value(value: Any) -> Any:
    """Return a value of Arrow as one of JSON; sums (128 bits in DuckDB) as integers."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        return None
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, pa.MonthDayNano):
        parts = (value.months, "months"), (value.days, "days"), (value.nanoseconds / 1e9, "s")
        return " ".join(f"{count:g} {unit}" for count, unit in parts if count) or "0 s"
    return value if isinstance(value, int | float | str | bool | None) else str(value)


def write_csv(reader: pa.RecordBatchReader, out: IO[str]) -> int:
    """Write a header and the rows as CSV; return their number."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(reader.schema.names)
    count = 0
    for row in plain_rows(reader):
        writer.writerow("" if value is None else value for value in row)
        count += 1
    return count


def write_json(reader: pa.RecordBatchReader, out: IO[str]) -> int:
    """Write the rows as a JSON array of objects, one line each; return their number."""
    names = reader.schema.names
    count = 0
    for row in plain_rows(reader):
        item = json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, allow_nan=False)
        out.write(("[" if count == 0 else ",\n ") + item)
        count += 1
    out.write("]\n" if count else "[]\n")
    return count


def write_parquet(reader: pa.RecordBatchReader, out: IO[bytes]) -> int:
    """Write the rows as one Parquet file; return their number."""
    count = 0
    with pq.ParquetWriter(out, reader.schema, compression="zstd") as writer:
        for batch in batches(reader):
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def as_table(reader: pa.RecordBatchReader) -> tuple[Any, bool]:
    """Return a rich table of the first TABLE_ROWS rows, and whether more rows follow."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    numeric = [_is_number(field.type) for field in reader.schema]
    for name, right in zip(reader.schema.names, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for count, row in enumerate(plain_rows(reader)):
        if count == TABLE_ROWS:
            return table, True
        cells = zip(reader.schema.names, row, strict=True)
        table.add_row(*(_text(name, value) for name, value in cells))
    return table, False


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _text(name: str, value: Any) -> Any:
    from rich.text import Text

    if value is None:
        return Text("-", style="dim")
    if isinstance(value, bool):
        return Text("true" if value else "false")
    if isinstance(value, int):
        return Text(f"0x{value:08x}" if name in _ADDRESSES else f"{value:,}")
    if isinstance(value, float):
        return Text(f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}")
    text = " ".join(str(value).split())
    return Text(text if len(text) <= CELL_CHARACTERS else f"{text[: CELL_CHARACTERS - 1]}…")
