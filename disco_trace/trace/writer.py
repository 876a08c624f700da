"""Write a trace while its machine runs, one segment at a time, in one background thread."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec
import numpy as np

from disco_trace.errors import EXIT_BUG, DiscoError
from disco_trace.trace.columns import Columns, Splitter, split_events
from disco_trace.trace.digest import ContentDigest
from disco_trace.trace.encoding import SCHEMAS, encode
from disco_trace.trace.manifest import (
    MANIFEST,
    PROVENANCE,
    Manifest,
    build_manifest,
    trace_id,
    write_manifest,
)
from disco_trace.trace.segments import SEGMENTS, PartEntry, Segment, part_name
from disco_trace.trace.state import STATE_FOLDER, Start, record_id, write_record
from disco_trace.trace.storage import Staging, disk_errors, write_atomically
from disco_trace.trace.symbols import write_symbols

# How many references a caller should gather before it submits them, and the buffers' sizes:
# two sets are alive. A quarter of it costs 1 % more bytes and a quarter more time to load; four
# times as much gains nothing, and delays the prefix that survives a kill.
REF_BUFFER_ROWS: Final = 1 << 20
PAGE_BUFFER_ROWS: Final = 1 << 18
EVENT_BUFFER_ROWS: Final = 1 << 17

Rows = np.ndarray[Any, Any]


class TraceWriter:
    """Write a trace to the directory `path`.

    `manifest` holds the fields of `manifest.Manifest` that are known at the start; `symbols`, if
    given, the columns of the symbol table (see `schema.SYMBOL_COLUMNS`), equally long sequences;
    `start` the state of a machine that goes on from a checkpoint.
    An existing trace stays untouched until `close` where `force` is given; without it, `DiscoError`
    is raised before anything is written. While the capture runs, `directory` is where its files
    are: write runs to `directory / "runs"` and close them before the trace.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        manifest: dict[str, Any],
        *,
        symbols: Mapping[str, Any] | None = None,
        start: Start | None = None,
        provenance: dict[str, Any] | None = None,
        force: bool = False,
    ) -> None:
        self.path = Path(path)
        self._manifest = build_manifest(manifest)
        self._staging = Staging(self.path, force=force, hidden=False, replaceable=_is_trace)
        self.directory = self._staging.path
        self._digest = ContentDigest()
        # References and page rows are split apart: both are being written at the same time.
        self._splitters = {"refs": Splitter(), "pages": Splitter()}
        self._rows: dict[str, int] = {}
        self._segments = 0
        self.bytes_written = 0  # of committed parts
        self._next_seq: int | None = None
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trace-writer")
        # Two at a time: a guest that misses in the TLB writes more than one core can encode while
        # the machine runs on another (measured with radix bits=8: see docs/performance.md).
        self._encoders = ThreadPoolExecutor(max_workers=2, thread_name_prefix="trace-encoder")
        self._pending: Future[None] | None = None
        self._failure: BaseException | None = None
        self.closed = False
        with disk_errors(self.directory):
            if symbols is not None:
                self._write_symbols(symbols)
            if start is not None:
                self._write_state(start)
            if provenance is not None:
                self.write_provenance(provenance)
            self._lines = (self.directory / SEGMENTS).open("ab", buffering=0)
            write_manifest(self.directory, self._manifest)

    def submit(
        self, refs: Rows, pages: Rows, events: Rows, counters: Mapping[str, Any] | None = None
    ) -> None:
        """Hand over one segment: REF, PAGE and EVENT rows, each in the order of `seq`.

        Returns at once unless the segment before is still being written. The arrays belong to the
        writer until the next call of `submit`, `flush` or `close` returns. `counters` holds
        cumulative numbers of the machine (JSON types) that go into the segment's line. Raises
        what went wrong with an earlier segment.
        """
        self.flush()
        if len(refs) or len(pages) or len(events):
            self._pending = self._executor.submit(
                self._write_segment, refs, pages, events, dict(counters or {})
            )

    def flush(self) -> None:
        """Wait until everything submitted is committed; raise what went wrong."""
        if self._failure is None and self._pending is not None:
            try:
                self._pending.result()
                self._pending = None
            except (KeyboardInterrupt, SystemExit):
                # Ours, not the thread's (it raises neither): the segment is still being written.
                raise
            except BaseException as error:
                self._failure = error
        if self._failure is not None:
            raise self._failure

    def write_provenance(self, provenance: dict[str, Any]) -> None:
        """Write `provenance.json` (JSON types); nothing that identifies the trace depends on it."""
        text = json.dumps(provenance, indent=1, default=str) + "\n"
        write_atomically(self.directory / PROVENANCE, text.encode())

    def name_processes(self, names: list[str]) -> None:
        """Set the names that `processes` rows index; they turn up while the guest runs.

        They are part of the trace's id: set them before `content_id`. They are on disk when this
        returns, so that a capture that is killed has them, too.
        """
        self._manifest = msgspec.structs.replace(self._manifest, process_names=list(names))
        with disk_errors(self.directory):
            write_manifest(self.directory, self._manifest)

    def content_id(self) -> str:
        """Return the id of the trace as committed so far (waits for the thread)."""
        self.flush()
        return trace_id(self._manifest, self._digest.digests())

    def close(
        self,
        *,
        complete: bool = True,
        exit_reason: str = "",
        totals: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Finish the trace, put it in its place, and return its manifest.

        `complete=False` leaves a readable prefix that says so. Raises what went wrong with an
        earlier segment; the prefix before it stays readable then.
        """
        if self.closed:
            return self._manifest
        try:
            self.flush()
        finally:
            # Also after a failure: what was committed is good, and must say that it is not all.
            failed = self._failure is not None
            if failed or self._pending is None:
                self.closed = True
                self._executor.shutdown(wait=True)
                self._encoders.shutdown(wait=True)
                self._finish(complete and not failed, exit_reason, totals, failed)
        return self._manifest

    def _finish(
        self,
        complete: bool,
        exit_reason: str,
        totals: Mapping[str, Any] | None,
        failed: bool,
    ) -> None:
        self._lines.close()
        self._manifest = msgspec.structs.replace(
            self._manifest,
            complete=complete,
            exit_reason="write failed" if failed else exit_reason,
            segments=self._segments,
            totals=None if totals is None else dict(totals),
        )
        if not failed:
            # After a failure the digests have seen rows that were never committed.
            name = trace_id(self._manifest, self._digest.digests())
            self._manifest = msgspec.structs.replace(self._manifest, trace_id=name)
        with disk_errors(self.directory):
            write_manifest(self.directory, self._manifest)
        if failed and self.directory != self.path:
            # Do not replace a good trace by half a one.
            self._staging.abandon()
        else:
            self._staging.commit()

    def abandon(self) -> None:
        """Delete what was written, and leave what stood at `path` before."""
        if not self.closed:
            self.closed = True
            self._executor.shutdown(wait=True)
            self._encoders.shutdown(wait=True)
            self._lines.close()
            self._staging.abandon()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        reason = "not closed"
        if kind is not None:
            reason = "interrupted" if issubclass(kind, KeyboardInterrupt) else "error"
        self.close(complete=False, exit_reason=reason)

    # -- in the background thread ------------------------------------------------------------

    def _write_segment(
        self, refs: Rows, pages: Rows, events: Rows, counters: dict[str, Any]
    ) -> None:
        first, last = self._sequence(refs, pages, events)
        with disk_errors(self.directory):
            tasks = {
                kind: self._encoders.submit(self._write_rows, kind, rows)
                for kind, rows in (("refs", refs), ("pages", pages))
                if len(rows)
            }
            try:
                for control, columns in split_events(events):
                    tasks[control.name] = self._encoders.submit(
                        self._write_part, control.name, columns
                    )
            finally:
                # All have ended before anything is said of one: none must write behind our back.
                wait(tasks.values())
            parts = {kind: task.result() for kind, task in tasks.items()}
            for kind, part in parts.items():
                self.bytes_written += part.bytes
                self._rows[kind] = self._rows.get(kind, 0) + part.rows
            segment = Segment(
                segment=self._segments,
                first_seq=first,
                last_seq=last,
                parts=parts,
                rows=dict(self._rows),
                content=self._digest.digests(),
                counters=counters,
            )
            # One write of one line: a kill leaves it whole or torn, and a torn one is not read.
            self._lines.write(msgspec.json.encode(segment) + b"\n")
        self._segments += 1
        self._next_seq = last + 1

    def _sequence(self, refs: Rows, pages: Rows, events: Rows) -> tuple[int, int]:
        """Return the first and last sequence number; refuse rows that leave a gap."""
        ends = [(int(rows["seq"][0]), int(rows["seq"][-1])) for rows in (refs, events) if len(rows)]
        if not ends:
            first = self._next_seq if self._next_seq is not None else int(pages["seq"][0])
            return first, first - 1
        first, last = min(low for low, _ in ends), max(high for _, high in ends)
        count = len(refs) + len(events)
        start = first if self._next_seq is None else self._next_seq
        if first != start or last - first + 1 != count:
            raise DiscoError(
                "the machine's sequence numbers have a gap",
                file=self.path,
                expected=f"{count} rows from {start}",
                found=f"{first} to {last}",
                exit_code=EXIT_BUG,
            )
        return first, last

    def _write_rows(self, kind: str, rows: Rows) -> PartEntry:
        return self._write_part(kind, self._splitters[kind].split(rows))

    def _write_part(self, kind: str, columns: Columns) -> PartEntry:
        """Write and hash one part; each kind's parts follow one another, those of kinds do not."""
        part = encode(kind, SCHEMAS[kind], columns)
        path = self.directory / part_name(kind, self._segments)
        path.parent.mkdir(exist_ok=True)
        try:
            path.write_bytes(part.data)
        except OSError:
            path.unlink(missing_ok=True)  # leaves room for the manifest on a full disk
            raise
        self._digest.update(kind, columns)
        return PartEntry(part.rows, part.data.nbytes, part.sha256)

    # -- at the start ------------------------------------------------------------------------

    def _write_symbols(self, symbols: Mapping[str, Any]) -> None:
        entry = write_symbols(self.directory / part_name("symbols", 0), symbols)
        self._manifest = msgspec.structs.replace(self._manifest, symbols=entry)

    def _write_state(self, start: Start) -> None:
        folder = self.directory / STATE_FOLDER
        record = write_record(folder, start.checkpoint, start.phase, start.snapshot)
        self._manifest = msgspec.structs.replace(
            self._manifest, start="state", state=record_id(record)
        )


def _is_trace(path: Path) -> bool:
    return (path / MANIFEST).is_file()
