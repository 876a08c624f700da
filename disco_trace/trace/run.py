"""Keep the results of a run: `Run` reads one, `RunWriter` writes one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from disco_trace.errors import DiscoError
from disco_trace.trace import accounts as accounting
from disco_trace.trace.manifest import read_json
from disco_trace.trace.parts import read_file
from disco_trace.trace.run_writer import RUN, RUN_SCHEMAS, RunWriter
from disco_trace.trace.schema import FORMAT_VERSION, METRIC_NAMES

__all__ = ["Run", "RunWriter", "list_runs"]


class RunFile(msgspec.Struct, frozen=True):
    """Describe one Parquet file of a run: rows, bytes, SHA-256 (hex)."""

    rows: int
    bytes: int
    sha256: str


class RunDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Hold `run.json`; `shape` is that of the accounts array."""

    format_version: int
    run_id: str
    trace_id: str
    engine: str
    spec: dict[str, Any]
    complete: bool
    fidelity: dict[str, str]
    totals: dict[str, int]
    per_cpu: list[dict[str, int]]
    fingerprint: str
    shape: tuple[int, int, int]
    miss_parts: int
    files: dict[str, RunFile]


class Run:
    """Read one run; `Run.open(path)` makes it.

    `totals` and `per_cpu` hold the metrics of `schema.METRICS` with `cycles`, `l2_misses` and
    `monitor_cycles`; `fingerprint` (hex) is equal for two runs whose accounts, heat and moves are.
    """

    def __init__(self, path: Path, document: RunDocument, raw: dict[str, Any]) -> None:
        self.path = path
        self.name = path.name
        self.document = document
        self.raw = raw
        self.run_id = document.run_id
        self.trace_id = document.trace_id
        self.spec = document.spec
        self.complete = document.complete
        self.fidelity = document.fidelity
        self.totals = document.totals
        self.per_cpu = document.per_cpu
        self.fingerprint = document.fingerprint

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """Read `run.json` of the run in the directory `path`.

        Raises `DiscoError` if there is none, or if it is damaged or too new.
        """
        directory = Path(path)
        file = directory / RUN
        raw = read_json(file, missing="no run here")
        version = raw.get("format_version")
        if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
            raise DiscoError(
                "the run was written by another version of this program",
                file=file,
                expected=f"format_version at most {FORMAT_VERSION}",
                found=str(version),
                hint="replay the trace again",
            )
        try:
            document = msgspec.convert(raw, RunDocument)
        except msgspec.ValidationError as error:
            raise DiscoError(
                "damaged run", file=file, expected="the fields of a run", found=str(error)
            ) from None
        return cls(directory, document, raw)

    def table(self, name: str) -> pa.Table:
        """Return `accounts`, `heat`, `moves` or `intervals` as a table, verified."""
        file = f"{name}.parquet"
        if file not in self.document.files:
            raise DiscoError(
                "the run has no such table",
                file=self.path,
                expected="accounts, heat, moves or intervals",
                found=name,
            )
        return self._read(file, name)

    def accounts(self) -> np.ndarray[Any, Any]:
        """Return the accounts: uint64, shape (cpus, contexts, N_METRICS)."""
        table = self.table("accounts")
        index = {name: i for i, name in enumerate(METRIC_NAMES)}
        names = table.column("metric").to_pylist()
        columns = {n: table.column(n).to_numpy() for n in ("cpu", "context", "value")}
        cpus, contexts, _ = self.document.shape
        try:
            columns["metric"] = np.array([index[name] for name in names], np.intp)
            return accounting.from_columns(columns, cpus, contexts)
        except (KeyError, IndexError) as error:
            raise DiscoError(
                "the run's accounts are impossible",
                file=self.path / "accounts.parquet",
                expected=f"{cpus} CPUs, {contexts} contexts, known metrics",
                found=str(error),
            ) from None

    def misses(self) -> ds.Dataset:
        """Return the recorded second-level misses as an Arrow dataset (empty if none were)."""
        files = [f for f in sorted(self.document.files) if f.startswith("misses/")]
        schema = RUN_SCHEMAS["misses"]
        if not files:
            return ds.dataset(schema.empty_table())
        for name in files:
            path, size = self.path / name, self.document.files[name].bytes
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                raise DiscoError(
                    "a part of the run is missing or damaged",
                    file=path,
                    expected=f"{size} bytes",
                    found="none" if found is None else f"{found} bytes",
                )
        return ds.dataset([str(self.path / n) for n in files], schema=schema, format="parquet")

    def verify(self) -> None:
        """Read every file of the run; raise `DiscoError` for the first that is damaged."""
        for name in self.document.files:
            self._read(name, name.split("/")[0].removesuffix(".parquet"))

    def _read(self, file: str, name: str) -> pa.Table:
        entry = self.document.files[file]
        return read_file(
            self.path / file,
            RUN_SCHEMAS[name],
            rows=entry.rows,
            size=entry.bytes,
            sha256=entry.sha256,
        )


def list_runs(trace: Path, more: Path | None = None) -> list[Path]:
    """Return the finished runs of a trace, `captured` first.

    They lie in `runs` below its directory, and in the folder `more`, if given.
    """
    found = [
        entry
        for folder in (trace / "runs", more)
        if folder is not None and folder.is_dir()
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and (entry / RUN).is_file()
    ]
    return sorted(found, key=lambda p: (p.name != "captured", p.name))
