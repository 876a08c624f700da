"""Write the results of a run: of a capture while it runs, or of a replay."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from disco_trace.trace import accounts as accounting
from disco_trace.trace.columns import Columns, Splitter
from disco_trace.trace.digest import ContentDigest, sha256_of
from disco_trace.trace.encoding import encode, parquet_options, schema_of_dtype
from disco_trace.trace.schema import FORMAT_VERSION, HEAT, METRIC_NAMES, MISS, MOVE
from disco_trace.trace.storage import Staging, disk_errors, write_atomically

RUN: Final = "run.json"
# Misses should be handed over in pieces of about this size: 14 MiB of buffer, one part each.
MISS_BUFFER_ROWS: Final = 1 << 18
_METRIC: Final = pa.array(METRIC_NAMES, pa.string())


def _fields(*pairs: tuple[str, str]) -> pa.Schema:
    return pa.schema([pa.field(n, pa.type_for_alias(t), nullable=False) for n, t in pairs])


RUN_SCHEMAS: Final = {
    "accounts": _fields(
        ("cpu", "uint8"), ("context", "uint32"), ("metric", "string"), ("value", "uint64")
    ),
    "heat": schema_of_dtype(
        np.dtype([(n, HEAT[n]) for n in
                  ("vm", "guest_page", "node", "local", "remote", "writes", "moves")])
    ),
    "moves": schema_of_dtype(MOVE),
    "intervals": _fields(
        ("cpu", "uint8"), ("start_cycle", "uint64"), ("end_cycle", "uint64"),
        ("metric", "string"), ("value", "uint64"),
    ),
    "misses": schema_of_dtype(MISS),
}  # fmt: skip


class RunWriter:
    """Write the run of the directory `path`, which appears when it is closed, whole.

    `spec` is the resolved specification (JSON types); `trace_id` names the trace that was run,
    `engine` the version of the code, `run_id` the hash that the run is looked up by, if any.
    Raises `DiscoError` if the run exists and `force` is not given.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        spec: dict[str, Any],
        *,
        trace_id: str = "",
        run_id: str = "",
        engine: str = "",
        force: bool = False,
    ) -> None:
        self.path = Path(path)
        self._head = {"run_id": run_id, "trace_id": trace_id, "engine": engine, "spec": spec}
        self._staging = Staging(self.path, force=force, hidden=True, replaceable=_is_run)
        self.directory = self._staging.path
        self._files: dict[str, dict[str, Any]] = {}
        self._streams: dict[str, pq.ParquetWriter] = {}
        self._heat: list[np.ndarray[Any, Any]] = []
        self._accounts: np.ndarray[Any, Any] | None = None
        self._digest = ContentDigest()
        self._splitter = Splitter()
        self._miss_parts = 0
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="run-writer")
        self._pending: Future[None] | None = None
        self.closed = False

    def misses(self, rows: np.ndarray[Any, Any]) -> None:
        """Hand over MISS rows in order; a background thread writes them as one part.

        Returns at once unless the rows before are still being written. `rows` belongs to the
        writer until the next call of `misses`, `flush` or `close` returns.
        """
        self.flush()
        if len(rows):
            self._pending = self._executor.submit(self._write_misses, rows)

    def identify(self, trace_id: str) -> None:
        """Name the trace that was run, where that is known only at its end (a capture)."""
        self._head["trace_id"] = trace_id

    def flush(self) -> None:
        """Wait for the thread; raise what went wrong in it."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def moves(self, rows: np.ndarray[Any, Any]) -> None:
        """Append MOVE rows, in order."""
        columns = self._copied(rows)
        self._digest.update("moves", columns)
        self._append("moves", columns)

    def intervals(self, rows: np.ndarray[Any, Any]) -> None:
        """Append INTERVAL rows (`metric` indexes `schema.METRIC_NAMES`)."""
        columns: dict[str, Any] = dict(self._copied(rows))
        columns["metric"] = _METRIC.take(pa.array(columns["metric"]))
        self._append("intervals", columns)

    def heat(self, rows: np.ndarray[Any, Any]) -> None:
        """Add HEAT rows, in any order, each (vm, guest page, node) once; zero rows are dropped."""
        busy = (rows["local"] | rows["remote"] | rows["writes"] | rows["moves"]) != 0
        self._heat.append(rows[busy])

    def accounts(self, array: np.ndarray[Any, Any]) -> None:
        """Set the accounts: uint64, shape (cpus, contexts, N_METRICS), context = 4 x id + mode."""
        self._accounts = np.array(array, np.uint64)

    def close(
        self,
        *,
        complete: bool = True,
        fidelity: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Finish the run, put it in its place, and return what `run.json` holds.

        `fidelity` maps metrics to "exact", "approximate" or "no feedback"; `extra` adds keys of
        JSON types. Raises `ValueError` if `accounts` was never called.
        """
        if self._accounts is None:
            raise ValueError("a run needs its accounts")
        self.flush()
        self.closed = True
        self._executor.shutdown(wait=True)
        accounts = accounting.to_columns(self._accounts)
        heat = self._sorted_heat()
        self._digest.update("accounts", accounts)
        self._digest.update("heat", heat)
        with disk_errors(self.directory):
            named = {**accounts, "metric": _METRIC.take(pa.array(accounts["metric"]))}
            self._write_file("accounts", named)
            self._write_file("heat", heat)
            for name in ("moves", "intervals"):
                self._close_stream(name)
            document = {
                "format_version": FORMAT_VERSION,
                **self._head,
                "complete": complete,
                "fidelity": dict(fidelity or {}),
                "totals": accounting.totals(self._accounts),
                "per_cpu": accounting.per_cpu(self._accounts),
                "fingerprint": sha256_of(self._digest.digests()),
                "shape": list(self._accounts.shape),
                "miss_parts": self._miss_parts,
                "files": self._files,
                **(extra or {}),
            }
            text = json.dumps(document, indent=1) + "\n"
            write_atomically(self.directory / RUN, text.encode())
        self._staging.commit()
        return document

    def abandon(self) -> None:
        """Delete what was written; a run that stood at `path` before stays."""
        if not self.closed:
            self.closed = True
            self._executor.shutdown(wait=True)
            for stream in self._streams.values():
                stream.close()
            self._staging.abandon()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abandon()

    @staticmethod
    def _copied(rows: np.ndarray[Any, Any]) -> Columns:
        # Small tables, copied: the caller may reuse its buffer at once.
        return {name: np.array(rows[name]) for name in rows.dtype.names or ()}

    def _sorted_heat(self) -> Columns:
        rows = np.concatenate([np.empty(0, HEAT), *self._heat])
        rows = rows[np.lexsort((rows["node"], rows["guest_page"], rows["vm"]))]
        return {field.name: np.array(rows[field.name]) for field in RUN_SCHEMAS["heat"]}

    def _write_misses(self, rows: np.ndarray[Any, Any]) -> None:
        name = f"misses/part-{self._miss_parts:05d}.parquet"
        part = encode("misses", RUN_SCHEMAS["misses"], self._splitter.split(rows))
        path = self.directory / name
        with disk_errors(path):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(part.data)
        self._files[name] = {"rows": part.rows, "bytes": len(part.data), "sha256": part.sha256}
        self._miss_parts += 1

    def _append(self, name: str, columns: dict[str, Any]) -> None:
        schema = RUN_SCHEMAS[name]
        path = self.directory / f"{name}.parquet"
        with disk_errors(path):
            if name not in self._streams:
                options = parquet_options(name, schema)
                self._streams[name] = pq.ParquetWriter(path, schema, **options)
                self._files[path.name] = {"rows": 0}
            arrays = [pa.array(columns[f.name], type=f.type) for f in schema]
            self._streams[name].write_table(pa.Table.from_arrays(arrays, schema=schema))
            self._files[path.name]["rows"] += len(arrays[0])

    def _close_stream(self, name: str) -> None:
        if name not in self._streams:
            # A run without moves has an empty table of them: SQL finds its columns all the same.
            schema = RUN_SCHEMAS[name]
            self._write_file(name, {f.name: np.empty(0, "u1").astype(object) for f in schema})
            return
        self._streams.pop(name).close()
        path = self.directory / f"{name}.parquet"
        data = path.read_bytes()
        self._files[path.name] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def _write_file(self, name: str, columns: dict[str, Any]) -> None:
        part = encode(name, RUN_SCHEMAS[name], columns)
        (self.directory / f"{name}.parquet").write_bytes(part.data)
        entry = {"rows": part.rows, "bytes": len(part.data), "sha256": part.sha256}
        self._files[f"{name}.parquet"] = entry


def _is_run(path: Path) -> bool:
    return (path / RUN).is_file()
