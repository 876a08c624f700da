"""Read one Parquet part, and believe nothing that it says before it is verified."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from disco_trace.errors import DiscoError
from disco_trace.trace.columns import Columns


def read_file(
    path: Path,
    schema: pa.Schema,
    *,
    rows: int,
    size: int,
    sha256: str,
    columns: Sequence[str] | None = None,
    verify: bool = True,
) -> pa.Table:
    """Read a Parquet file as a table with the columns of `schema` (or some of them).

    `rows`, `size` (bytes) and `sha256` (hex) are what was promised when it was written;
    `verify=False` skips the hash alone. Raises `DiscoError` naming file, expected and found.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DiscoError(
            "a file is missing", file=path, expected="the file", found="none"
        ) from None
    except OSError as error:
        raise DiscoError(f"cannot read: {error.strerror}", file=path) from error
    if len(data) != size:
        raise DiscoError(
            "a file has the wrong size",
            file=path,
            expected=f"{size} bytes",
            found=f"{len(data)} bytes",
        )
    if verify and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise DiscoError(
            "a file is damaged",
            file=path,
            expected=f"sha256 {sha256[:16]}…",
            found=f"{found[:16]}…",
        )
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        table = None
        if file.schema_arrow.equals(schema):
            table = file.read(columns=None if columns is None else list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DiscoError(
            "a file is damaged",
            file=path,
            expected="a Parquet file",
            found=str(error),
        ) from None
    if table is None:
        raise DiscoError(
            "other columns than this kind of row has",
            file=path,
            expected=_describe(schema),
            found=_describe(file.schema_arrow),
        )
    if table.num_rows != rows:
        raise DiscoError(
            "a file has the wrong number of rows",
            file=path,
            expected=str(rows),
            found=str(table.num_rows),
        )
    return table


def to_numpy(table: pa.Table) -> Columns:
    """Return the columns as contiguous, writable arrays, without a copy where Arrow allows it.

    Writable, because Numba takes a read-only array for another type and would compile twice.
    """
    return {name: _array(table.column(name)) for name in table.column_names}


def _array(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    dtype = column.type.to_pandas_dtype()
    if column.num_chunks != 1:
        return np.concatenate(
            [np.empty(0, dtype), *(c.to_numpy(zero_copy_only=False) for c in column.chunks)],
            dtype=dtype,
        )
    chunk = column.chunk(0)
    buffer = chunk.buffers()[1]
    if buffer is None or chunk.offset or chunk.null_count or not buffer.is_mutable:
        return np.array(chunk.to_numpy(zero_copy_only=False), dtype=dtype)
    return np.frombuffer(buffer, dtype=dtype, count=len(chunk))


def _describe(schema: pa.Schema) -> str:
    return ", ".join(f"{f.name} {f.type}" for f in schema)
