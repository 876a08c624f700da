"""Read a trace: verified, one segment at a time, as the arrays that compiled code takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from disco_trace.errors import DiscoError
from disco_trace.trace.bounds import Bounds
from disco_trace.trace.columns import Columns, join_events
from disco_trace.trace.encoding import SCHEMAS
from disco_trace.trace.manifest import (
    MANIFEST,
    Manifest,
    read_manifest,
    read_provenance,
    trace_id,
)
from disco_trace.trace.parts import read_file, to_numpy
from disco_trace.trace.schema import KINDS
from disco_trace.trace.segments import SEGMENTS, Segment, part_name, read_segments
from disco_trace.trace.state import STATE, STATE_FOLDER, StateRecord, read_record, record_id

# What a replay needs of a reference. The sequence number is implied, the cycle a result, and the
# program counter wanted only in rows that SQL joins.
REPLAY_COLUMNS: Final = ("cpu", "context", "kind", "way", "vaddr", "guest_page", "work")
_KIND_NAMES: Final = frozenset(kind.name for kind in KINDS)


@dataclass(frozen=True)
class SegmentData:
    """Hold one segment in memory.

    `refs` maps names to contiguous arrays of `n_refs` elements in captured order; `events` holds
    all control rows (EVENT) in the order of `seq`; `pages` the page references' columns, where
    they were asked for. The sequence numbers from `first_seq` that no event has belong to the
    references, in order.
    """

    index: int
    first_seq: int
    n_refs: int
    refs: Columns
    events: np.ndarray[Any, Any]
    pages: Columns

    def ref_seqs(self) -> np.ndarray[Any, Any]:
        """Return the references' sequence numbers (uint64)."""
        free = np.ones(self.n_refs + len(self.events), bool)
        free[(self.events["seq"] - np.uint64(self.first_seq)).astype(np.int64)] = False
        return np.flatnonzero(free).astype(np.uint64) + np.uint64(self.first_seq)


class TraceReader:
    """Read the trace in the directory `path`, complete or not.

    Raises `DiscoError` if it is no trace, too new, or damaged where it is read; the parts are read
    and verified later, segment by segment.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.manifest: Manifest = read_manifest(self.path)
        self.segments: list[Segment] = read_segments(self.path)
        if self.manifest.segments is not None and len(self.segments) != self.manifest.segments:
            raise DiscoError(
                "segments of the trace are missing",
                file=self.path / SEGMENTS,
                expected=f"{self.manifest.segments} lines",
                found=str(len(self.segments)),
            )

    @property
    def complete(self) -> bool:
        """Tell whether the capture reached its end; otherwise this is a prefix."""
        return self.manifest.complete

    @property
    def closed(self) -> bool:
        """Tell whether the capture closed the trace; one that was killed, or runs, did not."""
        return self.manifest.segments is not None

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Return `provenance.json`, or an empty dict where it has been removed."""
        return read_provenance(self.path)

    @cached_property
    def trace_id(self) -> str:
        """Return the content id (hex), also of a trace that was never closed."""
        return trace_id(self.manifest, self.segments[-1].content if self.segments else {})

    @property
    def rows(self) -> dict[str, int]:
        """Return the number of committed rows of each kind that has any."""
        return dict(self.segments[-1].rows) if self.segments else {}

    @property
    def counters(self) -> dict[str, Any]:
        """Return the machine's cumulative counters at the last committed segment."""
        return dict(self.segments[-1].counters) if self.segments else {}

    @cached_property
    def start(self) -> StateRecord | None:
        """Return the state that the trace starts in; None for a cold start.

        Raises `DiscoError` if it is missing or damaged, or belongs to another trace.
        """
        if self.manifest.state is None:
            return None
        file = self.path / STATE_FOLDER / STATE
        record = read_record(file.parent)
        found = record_id(record)
        cpus, machines = self.manifest.cpus, len(self.manifest.ram_pages)
        vm = max((context.vm for context in record.state.contexts), default=0)
        for what, expected, other in (
            ("the state record is not this trace's", self.manifest.state, found),
            ("the state record is of another machine", f"{cpus} CPUs",
             f"{len(record.state.cpus)} CPUs"),
            ("a context belongs to no virtual machine of the manifest", f"vm below {machines}",
             f"vm below {max(machines, vm + 1)}"),
            ("the trace does not go on from its state record",
             f"first_seq {self.segments[0].first_seq if self.segments else record.state.seq}",
             f"first_seq {record.state.seq}"),
        ):  # fmt: skip
            if expected != other:
                raise DiscoError(what, file=file, expected=expected, found=other)
        return record

    @cached_property
    def bounds(self) -> Bounds:
        """Return the limits that all values are held to."""
        return Bounds(self.manifest, self._context_vm())

    def contexts(self) -> Columns:
        """Return the contexts in the order of their ids: seq, id, vm, vcpu, asid, phase.

        Those that a resumed trace starts with have seq 0.

        Raises `DiscoError` unless the ids are 0, 1, 2 … without a gap, each declared once.
        """
        names = ("seq", "id", "vm", "vcpu", "asid", "phase")
        tables = [
            self.read("contexts", segment.segment, columns=names)
            for segment in self.segments
            if "contexts" in segment.parts
        ]
        types = {n: SCHEMAS["contexts"].field(n).type.to_pandas_dtype() for n in names}
        begun = self.start.state.contexts if self.start else []
        first = [(0, n, c.vm, c.vcpu, c.asid, c.phase) for n, c in enumerate(begun)]
        columns = {
            name: np.concatenate(
                [np.array([row[at] for row in first], types[name])] + [t[name] for t in tables]
            )
            for at, name in enumerate(names)
        }
        order = np.argsort(columns["id"], kind="stable")
        columns = {name: values[order] for name, values in columns.items()}
        ids, count = columns["id"], len(order)
        wrong = np.flatnonzero(ids != np.arange(count, dtype=ids.dtype))
        if len(wrong):
            raise DiscoError(
                "the trace's contexts are not numbered 0, 1, 2 …",
                file=self.path / "contexts",
                expected=f"id {int(wrong[0])}",
                found=str(int(ids[wrong[0]])),
            )
        return columns

    def _context_vm(self) -> np.ndarray[Any, Any]:
        vm = self.contexts()["vm"]
        machines = len(self.manifest.ram_pages)
        if len(vm) and int(vm.max()) >= machines:
            raise DiscoError(
                "a context belongs to no virtual machine of the manifest",
                file=self.path / MANIFEST,
                expected=f"vm below {machines}",
                found=str(int(vm.max())),
            )
        return vm

    def read(
        self,
        kind: str,
        segment: int,
        *,
        columns: Sequence[str] | None = None,
        verify: bool = True,
    ) -> Columns:
        """Read columns of one part, unchecked against bounds; nothing if it has no such rows."""
        entry = self.segments[segment].parts.get(kind)
        if entry is None:
            return {}
        table = read_file(
            self.path / part_name(kind, segment),
            SCHEMAS[kind],
            rows=entry.rows,
            size=entry.bytes,
            sha256=entry.sha256,
            columns=columns,
            verify=verify,
        )
        return to_numpy(table)

    def load(
        self,
        segment: int,
        *,
        columns: Sequence[str] = REPLAY_COLUMNS,
        pages: bool = False,
        verify: bool = True,
    ) -> SegmentData:
        """Read one segment into memory and hold its values to the bounds of the trace.

        `columns` are those of the references; `cpu`, `context`, `kind` and `way` index arrays
        safely then, and so does `guest_page` for cached references (`bounds.CACHED_KINDS`).
        Raises `DiscoError` for a missing, truncated, damaged or impossible part.
        """
        parts: dict[str, Columns] = {}
        line = self.segments[segment]
        for kind in line.parts:
            if kind == "pages" and not pages:
                continue
            wanted = columns if kind == "refs" else None
            parts[kind] = self.read(kind, segment, columns=wanted, verify=verify)
            self.bounds.check(self.path / part_name(kind, segment), kind, parts[kind])
        refs = parts.pop("refs", None)
        if refs is None:
            schema = SCHEMAS["refs"]
            refs = {n: np.empty(0, schema.field(n).type.to_pandas_dtype()) for n in columns}
        events = join_events(parts)
        self._check_events(line, events)
        n_refs = line.parts["refs"].rows if "refs" in line.parts else 0
        return SegmentData(segment, line.first_seq, n_refs, refs, events, parts.get("pages", {}))

    def _check_events(self, line: Segment, events: np.ndarray[Any, Any]) -> None:
        seqs = events["seq"]
        rising = bool((seqs[1:] > seqs[:-1]).all())
        if len(seqs) and not (
            rising and int(seqs[0]) >= line.first_seq and int(seqs[-1]) <= line.last_seq
        ):
            raise DiscoError(
                f"control rows of segment {line.segment} have impossible sequence numbers",
                file=self.path,
                expected=f"each once, {line.first_seq} to {line.last_seq}",
                found=f"{int(seqs.min())} to {int(seqs.max())}" if rising else "a repeated number",
            )

    def iter_segments(
        self,
        *,
        columns: Sequence[str] = REPLAY_COLUMNS,
        pages: bool = False,
        verify: bool = True,
    ) -> Iterator[SegmentData]:
        """Yield every segment in order, while a thread reads the next one ahead."""
        _ = self.bounds  # in this thread: its errors belong to the caller's first step
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="trace-reader") as executor:
            ahead = None
            for index in range(len(self.segments) + 1):
                ready = ahead
                ahead = None
                if index < len(self.segments):
                    ahead = executor.submit(
                        self.load, index, columns=columns, pages=pages, verify=verify
                    )
                if ready is not None:
                    yield ready.result()

    def part_paths(self, kind: str) -> list[Path]:
        """Return the files of the committed parts of a kind (`symbols` included), in order."""
        if kind == "symbols":
            return [self.path / part_name(kind, 0)] if self.manifest.symbols else []
        if kind not in _KIND_NAMES:
            raise DiscoError(
                "no such kind of row",
                file=self.path,
                expected=f"one of {', '.join(sorted(_KIND_NAMES))}",
                found=kind,
            )
        return [self.path / part_name(kind, s.segment) for s in self.segments if kind in s.parts]

    def dataset(self, kind: str) -> ds.Dataset:
        """Return the committed rows of a kind (or `symbols`) as an Arrow dataset, for SQL.

        The files' sizes are compared with what was committed, and page checksums are verified
        while they are read; the full hashes are not (`check` does).
        """
        paths = self.part_paths(kind)
        sizes = (
            [self.manifest.symbols.bytes]
            if kind == "symbols" and self.manifest.symbols
            else [s.parts[kind].bytes for s in self.segments if kind in s.parts]
        )
        for path, size in zip(paths, sizes, strict=True):
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                raise DiscoError(
                    "a file is missing" if found is None else "a file is damaged",
                    file=path,
                    expected=f"{size} bytes",
                    found="none" if found is None else f"{found} bytes",
                )
        schema = SCHEMAS[kind]
        if not paths:
            return ds.dataset(schema.empty_table())
        options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        file_format = ds.ParquetFileFormat(default_fragment_scan_options=options)
        return ds.dataset([str(p) for p in paths], schema=schema, format=file_format)

    def symbols(self) -> pa.Table:
        """Return the symbol table, verified; empty if the guest had none."""
        part = self.manifest.symbols
        if part is None:
            return SCHEMAS["symbols"].empty_table()
        path = self.path / part_name("symbols", 0)
        return read_file(
            path, SCHEMAS["symbols"], rows=part.rows, size=part.bytes, sha256=part.sha256
        )
