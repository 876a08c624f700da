"""Say how each column lies on disk: Arrow types, Parquet encodings, compression.

The choices were measured with `benchmarks/trace_format.py --columns` on 1 Mi references of 8 CPUs
(random table, scans, code, kernel data), one core. Bytes a row, nanoseconds a row to read; the
alternative that came nearest stands behind. A whole trace took 8.9 bytes a reference (9.7 where
the CPUs' clocks drift apart), 115 ns to write, 19 ns to load for a replay, 24 ns with its hashes.

| column     | chosen                | B    | ns  | nearest                         |
|------------|-----------------------|------|-----|---------------------------------|
| seq        | delta, plain pages    | 0.08 | 1.3 | delta, zstd 0.03 B, 2.0 ns      |
| cycle      | delta, plain pages    | 1.40 | 1.7 | byte streams, zstd 1.65 B, 3.3  |
| vaddr      | byte streams, lz4     | 3.64 | 2.0 | byte streams, zstd 3.04 B, 5.7  |
| guest_page | dictionary, lz4       | 1.70 | 2.1 | dictionary, zstd 1.66 B, 3.2 ns |
| pc         | dictionary, zstd      | 1.04 | 3.0 | dictionary, lz4 1.37 B, 2.1 ns  |
| work       | byte streams, zstd    | 0.71 | 1.5 | dictionary, zstd 0.71 B, 2.0 ns |
| context    | byte streams, lz4     | 0.43 | 1.0 | byte streams, zstd 0.22 B, 2.2  |
| cpu        | byte streams, lz4     | 0.42 | 0.8 | byte streams, zstd 0.22 B, 2.0  |
| kind       | dictionary, plain     | 0.25 | 1.2 | byte streams, zstd 0.30 B, 1.9  |
| way        | dictionary, plain     | 0.13 | 1.0 | delta, zstd 0.17 B, 2.0 ns      |

`delta` is DELTA_BINARY_PACKED, `byte streams` BYTE_STREAM_SPLIT: it puts the zero high bytes of
64-bit addresses side by side, where a codec turns them into nothing. What every replay reads is
quick to read: lz4 for `vaddr`, `context` and `cpu` (the two on `database`) costs a byte a
reference and saves 6 of 18 ns. zstd is at level 1: level 3 saves 0.1 bytes a reference and costs
10 ns more to write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from disco_trace.trace.schema import COMMON, CONTROL, PAGES, REFS, SYMBOL_COLUMNS, Column, Kind

# Larger dictionaries make Parquet fall back to plain values in the middle of a part. 4 MiB holds
# 512 Ki pages, more than a board of 256 MiB has in eight virtual machines.
DICTIONARY_BYTES: Final = 4 << 20
# From 256 KiB on, size and speed no longer change (64 KiB: 10 % slower byte streams).
DATA_PAGE_BYTES: Final = 256 << 10
# One row group a part: a reader then gets each column as one contiguous buffer, without a copy.
# 1 Mi references are 56 MiB in the capture's buffer and 9 MB on disk.
ROW_GROUP_ROWS: Final = 1 << 26
ZSTD_LEVEL: Final = 1


class Encoding(NamedTuple):
    """Name the Parquet encoding of a column ("DICTIONARY" or a Parquet name) and its codec."""

    encoding: str
    codec: str


DELTA: Final = Encoding("DELTA_BINARY_PACKED", "NONE")
STREAMS: Final = Encoding("BYTE_STREAM_SPLIT", "ZSTD")
FAST_STREAMS: Final = Encoding("BYTE_STREAM_SPLIT", "LZ4")
DICTIONARY: Final = Encoding("DICTIONARY", "ZSTD")
FAST_DICTIONARY: Final = Encoding("DICTIONARY", "LZ4")
PLAIN_DICTIONARY: Final = Encoding("DICTIONARY", "NONE")

_MEASURED: Final = {
    "seq": DELTA,
    "cycle": DELTA,
    "vaddr": STREAMS,
    "guest_page": FAST_DICTIONARY,
    "work": STREAMS,
    "context": STREAMS,
    "cpu": STREAMS,
    "kind": PLAIN_DICTIONARY,
    "way": PLAIN_DICTIONARY,
}
# Of references, which every replay reads; no replay reads the other bulky kinds, there size counts.
_QUICK: Final = dict.fromkeys(("vaddr", "context", "cpu"), FAST_STREAMS)
# Clocks of intervals and stretches of work rise slowly, too.
_RISING: Final = {"start_cycle": DELTA, "end_cycle": DELTA}
# Kinds whose rows come by the million; the rest are small, and a dictionary serves them.
_BULKY: Final = frozenset({"refs", "pages", "misses"})


def encoding_of(kind: str, column: str) -> Encoding:
    """Return how `column` of the rows in folder `kind` is stored."""
    if column in ("seq", "cycle"):
        return DELTA
    if kind == REFS.name and column in _QUICK:
        return _QUICK[column]
    if kind in _BULKY:
        return _MEASURED.get(column, DICTIONARY)
    if column == "vaddr":
        # Of exceptions, nearly all different: 2.8 B and 8 ns a row to write, with a dictionary
        # 4.5 B and 105 ns (a sixth of the writer's time where a guest misses in the TLB).
        return STREAMS
    return _RISING.get(column, DICTIONARY)


def columns_of(kind: Kind) -> tuple[Column, ...]:
    """Return all columns of a kind, in the order on disk."""
    if kind.name in (REFS.name, PAGES.name):
        return kind.columns
    return COMMON + kind.columns


def _arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    types = {"string": pa.string()}
    return pa.schema(
        [
            pa.field(c.name, types.get(c.type) or pa.type_for_alias(c.type), nullable=False)
            for c in columns
        ]
    )


SCHEMAS: Final[Mapping[str, pa.Schema]] = {
    **{kind.name: _arrow_schema(columns_of(kind)) for kind in (REFS, PAGES, *CONTROL)},
    "symbols": _arrow_schema(SYMBOL_COLUMNS),
}


def schema_of_dtype(dtype: np.dtype[Any]) -> pa.Schema:
    """Return the Arrow schema of a structured dtype, one column a field, none nullable."""
    assert dtype.names is not None
    return pa.schema(
        [pa.field(n, pa.from_numpy_dtype(dtype[n]), nullable=False) for n in dtype.names]
    )


def parquet_options(kind: str, schema: pa.Schema) -> dict[str, Any]:
    """Return the keyword arguments for `pyarrow.parquet.ParquetWriter`."""
    chosen = {}
    for field in schema:
        choice = encoding_of(kind, field.name)
        if not pa.types.is_integer(field.type):
            choice = DICTIONARY
        chosen[field.name] = choice
    return {
        "use_dictionary": [n for n, c in chosen.items() if c.encoding == "DICTIONARY"],
        "column_encoding": {n: c.encoding for n, c in chosen.items() if c.encoding != "DICTIONARY"},
        "compression": {n: c.codec for n, c in chosen.items()},
        "compression_level": {n: ZSTD_LEVEL for n, c in chosen.items() if c.codec == "ZSTD"},
        "dictionary_pagesize_limit": DICTIONARY_BYTES,
        "data_page_size": DATA_PAGE_BYTES,
        "write_page_checksum": True,
        # Statistics of narrow integer columns cost nothing to keep and let SQL skip row groups.
        "write_statistics": True,
        # The Arrow schema would be repeated, in base64, in every part.
        "store_schema": False,
    }


class Part(NamedTuple):
    """Hold one encoded Parquet file: its bytes, rows and SHA-256 (hex)."""

    data: memoryview
    rows: int
    sha256: str


def encode(kind: str, schema: pa.Schema, columns: Mapping[str, Any]) -> Part:
    """Encode equally long columns as one Parquet file with one row group, in memory.

    `columns` maps each name of `schema` to an array of the field's type. Raises
    `pyarrow.ArrowInvalid` if a column does not fit.
    """
    arrays = [pa.array(columns[f.name], type=f.type) for f in schema]
    table = pa.Table.from_arrays(arrays, schema=schema)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, **parquet_options(kind, schema)) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
    data = memoryview(sink.getvalue())
    return Part(data, table.num_rows, hashlib.sha256(data).hexdigest())
