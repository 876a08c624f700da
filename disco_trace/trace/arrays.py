"""Keep the arrays of a machine's state on disk: one Parquet file each, one column of its values.

Parquet because the traces have it: compressed, typed, readable by others, and nothing in it is
code (a pickle would be). Most of a machine's state is zero; what is written and read goes in pieces
of a million values, and pieces of zeros cost no memory when they are read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from disco_trace.errors import DiscoError
from disco_trace.trace.storage import disk_errors

Array = np.ndarray[Any, Any]

PIECE_VALUES: Final = 1 << 20
# Level 3 of zstd makes the state of `radix` a tenth smaller, and takes half as long again.
ZSTD_LEVEL: Final = 1
MOST_DIMENSIONS: Final = 4
MOST_VALUES: Final = 1 << 32
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_DTYPES: Final = frozenset(f"{sign}{size}" for sign in "iu" for size in (1, 2, 4, 8))


class ArrayEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one array: type (numpy's, little-endian), shape, and its file.

    `bytes` and `sha256` are the file's; `content` is a SHA-256 over the values alone, which no
    version of a library changes.
    """

    dtype: str
    shape: tuple[int, ...]
    bytes: int
    sha256: str
    content: str

    @property
    def size(self) -> int:
        """Return the number of values."""
        size = 1
        for length in self.shape:
            size *= length
        return size


def array_file(name: str) -> str:
    """Return the file's name of the array `name` (`memory.l2`)."""
    return f"{name}.parquet"


def check_entries(entries: Mapping[str, ArrayEntry], file: Path) -> None:
    """Raise `DiscoError`, naming `file`, for a name, type or shape that no array of ours has."""
    for name, entry in entries.items():
        wrong = None
        if not _NAME.fullmatch(name):
            wrong = ("the name of an array", name)
        elif entry.dtype not in _DTYPES:
            wrong = (f"a type of integers for {name}", entry.dtype)
        elif len(entry.shape) > MOST_DIMENSIONS or min(entry.shape, default=0) < 0:
            wrong = (f"the shape of {name}", str(entry.shape))
        elif entry.size > MOST_VALUES:
            wrong = (f"at most {MOST_VALUES} values in {name}", str(entry.size))
        if wrong:
            raise DiscoError("damaged list of arrays", file=file, expected=wrong[0], found=wrong[1])


def write_array(folder: Path, name: str, array: Array) -> ArrayEntry:
    """Write an array of integers below `folder`; return its entry."""
    dtype = array.dtype.newbyteorder("<")
    flat = np.ascontiguousarray(array, dtype).reshape(-1)
    schema = _schema(dtype)
    content = hashlib.sha256()
    path = folder / array_file(name)
    with disk_errors(path):
        with pq.ParquetWriter(
            path,
            schema,
            use_dictionary=False,
            compression="zstd",
            compression_level=ZSTD_LEVEL,
            write_statistics=False,
            store_schema=False,
        ) as writer:
            for start in range(0, len(flat), PIECE_VALUES):
                piece = flat[start : start + PIECE_VALUES]
                content.update(piece.data)
                writer.write_table(pa.Table.from_arrays([pa.array(piece)], schema=schema))
        data = path.read_bytes()
    return ArrayEntry(
        dtype=dtype.str[1:],
        shape=array.shape,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        content=content.hexdigest(),
    )


def read_array(folder: Path, name: str, entry: ArrayEntry, target: Array) -> None:
    """Read an array into `target`, which must have the entry's type and shape.

    Zeros are not written where zeros are, so that they cost no memory. Raises `DiscoError` for a
    missing, damaged or other file.
    """
    path = folder / array_file(name)
    expected, found = (
        describe(target.dtype.str[1:], target.shape),
        describe(entry.dtype, entry.shape),
    )
    if expected != found:
        raise DiscoError("an array of another machine", file=path, expected=expected, found=found)
    flat = target.view()
    flat.shape = (-1,)  # a view, never a copy
    at = 0
    for piece in _pieces(path, entry):
        place = flat[at : at + len(piece)]
        if piece.any() or place.any():
            place[:] = piece
        at += len(piece)


def verify_array(folder: Path, name: str, entry: ArrayEntry) -> None:
    """Read an array and compare all that was promised of it; raise `DiscoError` if it differs."""
    path = folder / array_file(name)
    content = hashlib.sha256()
    for piece in _pieces(path, entry):
        content.update(piece.data)
    if content.hexdigest() != entry.content:
        raise DiscoError(
            "an array's values are not those that were saved",
            file=path,
            expected=f"sha256 {entry.content[:16]}…",
            found=f"{content.hexdigest()[:16]}…",
        )


def describe(dtype: str, shape: tuple[int, ...]) -> str:
    """Return type and shape in words: `i8, 4 x 32`."""
    return f"{dtype}, {' x '.join(map(str, shape))}"


def _pieces(path: Path, entry: ArrayEntry) -> Iterator[Array]:
    """Yield the values of a file in pieces; everything it says is checked before."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DiscoError(
            "a file is missing", file=path, expected="the file", found="none"
        ) from None
    except OSError as error:
        raise DiscoError(f"cannot read: {error.strerror}", file=path) from error
    if len(data) != entry.bytes:
        raise DiscoError(
            "a file has the wrong size",
            file=path,
            expected=f"{entry.bytes} bytes",
            found=f"{len(data)} bytes",
        )
    if (found := hashlib.sha256(data).hexdigest()) != entry.sha256:
        raise DiscoError(
            "a file is damaged",
            file=path,
            expected=f"sha256 {entry.sha256[:16]}…",
            found=f"{found[:16]}…",
        )
    schema = _schema(np.dtype(f"<{entry.dtype}"))
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        wrong = None
        if not file.schema_arrow.equals(schema):
            wrong = (schema.field(0).type, ", ".join(map(str, file.schema_arrow.types)))
        elif file.metadata.num_rows != entry.size:
            wrong = (f"{entry.size} values", file.metadata.num_rows)
        if wrong:
            raise DiscoError(
                "another array than was promised", file=path, expected=str(wrong[0]),
                found=str(wrong[1]),
            )  # fmt: skip
        left = entry.size
        for batch in file.iter_batches(PIECE_VALUES, use_threads=False):
            piece = batch.column(0).to_numpy(zero_copy_only=False)
            left -= len(piece)
            if left < 0:
                break
            yield piece
    except (pa.ArrowException, OSError) as error:
        raise DiscoError(
            "a file is damaged", file=path, expected="a Parquet file", found=str(error)
        ) from None
    if left:
        raise DiscoError(
            "a file is damaged", file=path, expected=f"{entry.size} values", found="others"
        )


def _schema(dtype: np.dtype[Any]) -> pa.Schema:
    return pa.schema([pa.field("value", pa.from_numpy_dtype(dtype), nullable=False)])
