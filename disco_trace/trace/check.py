"""Tell whether a trace keeps every promise of its format."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from disco_trace.errors import DiscoError
from disco_trace.trace import accounts as accounting
from disco_trace.trace.arrays import array_file
from disco_trace.trace.check_rows import TALLIED, RowChecker
from disco_trace.trace.checkpoint import (
    CHECKPOINT,
    SYMBOLS_FILE,
    is_checkpoint,
    list_checkpoints,
    verify_checkpoint,
)
from disco_trace.trace.columns import Columns
from disco_trace.trace.digest import ContentDigest
from disco_trace.trace.encoding import columns_of
from disco_trace.trace.manifest import MANIFEST
from disco_trace.trace.problem import Findings, Problem
from disco_trace.trace.reader import SegmentData, TraceReader
from disco_trace.trace.run import Run, list_runs
from disco_trace.trace.run_writer import RUN
from disco_trace.trace.schema import KINDS, METRIC_NAMES, REFS
from disco_trace.trace.segments import SEGMENTS
from disco_trace.trace.state import STATE, STATE_FOLDER, State, verify_state

_REF_COLUMNS: Final = tuple(c.name for c in REFS.columns)


def check(
    path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
) -> list[Problem]:
    """Verify the trace in the directory `path`, one segment in memory at a time.

    Returns what is wrong, errors and warnings; nothing for a good trace, complete or not.
    `progress(done, segments)` is called after each segment. Raises `DiscoError` if there is no
    trace at `path`.
    """
    directory = Path(path)
    if not (directory / MANIFEST).exists():
        raise DiscoError(
            "no trace here", file=directory, expected=f"a directory with {MANIFEST}", found="none"
        )
    findings = Findings()
    try:
        reader = TraceReader(directory)
        _ = reader.start
        _ = reader.bounds
    except DiscoError as error:
        findings.add_error("format", error)
        return findings.problems
    _check_files(reader, findings)
    _check_states(reader, findings)
    rows = _check_segments(reader, findings, progress or (lambda done, total: None))
    if rows is not None:
        _check_totals(reader, rows, findings)
    _check_runs(reader, rows, findings)
    return findings.problems


def check_run(path: str | os.PathLike[str]) -> list[Problem]:
    """Verify one run by itself: its files, and its sums.

    Raises `DiscoError` if there is no run at `path`.
    """
    directory = Path(path)
    if not (directory / RUN).exists():
        raise DiscoError(
            "no run here", file=directory, expected=f"a directory with {RUN}", found="none"
        )
    findings = Findings()
    _check_run(directory, findings)
    return findings.problems


def check_checkpoint(path: str | os.PathLike[str]) -> list[Problem]:
    """Verify one checkpoint by itself: its description and the hashes of all its files.

    Raises `DiscoError` if there is no checkpoint at `path`.
    """
    directory = Path(path)
    if not is_checkpoint(directory):
        raise DiscoError(
            "no checkpoint here",
            file=directory,
            expected=f"a directory with {CHECKPOINT}",
            found="none",
        )
    findings = Findings()
    _check_checkpoint(directory, findings)
    return findings.problems


def _check_checkpoint(path: Path, findings: Findings) -> None:
    try:
        checkpoint = verify_checkpoint(path)
    except DiscoError as error:
        findings.add_error("checkpoints", error)
        return
    _check_strangers(path, checkpoint.state, {CHECKPOINT, SYMBOLS_FILE}, "checkpoints", findings)


def _check_states(reader: TraceReader, findings: Findings) -> None:
    """Verify the state that the trace starts in, and the checkpoints that were saved from it."""
    if reader.start is not None:
        folder = reader.path / STATE_FOLDER
        try:
            verify_state(folder, reader.start.state)
        except DiscoError as error:
            findings.add_error("state", error)
        _check_strangers(folder, reader.start.state, {STATE}, "state", findings)
    for path in list_checkpoints(reader.path):
        _check_checkpoint(path, findings)


def _check_strangers(
    folder: Path, state: State, others: set[str], rule: str, findings: Findings
) -> None:
    known = {array_file(name) for name in state.arrays} | others
    for path in sorted(folder.iterdir()):
        if path.name not in known:
            findings.add(
                rule, "a file that does not belong here", severity="warning", file=str(path)
            )


def _check_files(reader: TraceReader, findings: Findings) -> None:
    """Look for parts that no segment knows, and at the symbol table and the id."""
    known = {path for kind in (*KINDS, None) for path in
             reader.part_paths(kind.name if kind else "symbols")}  # fmt: skip
    for kind in KINDS:
        for path in sorted((reader.path / kind.name).glob("*")):
            if path not in known:
                # A killed capture leaves the parts of the segment that it was writing.
                findings.add(
                    "files",
                    "a part belongs to no committed segment",
                    severity="error" if reader.complete else "warning",
                    file=str(path),
                )
    try:
        reader.symbols()
        _ = reader.provenance
    except DiscoError as error:
        findings.add_error("files", error)
    if reader.manifest.trace_id not in (None, reader.trace_id):
        findings.add(
            "id",
            "the trace's id is not that of its content",
            file=str(reader.path / MANIFEST),
            expected=reader.trace_id,
            found=reader.manifest.trace_id,
        )


def _check_segments(
    reader: TraceReader, findings: Findings, progress: Callable[[int, int], None]
) -> RowChecker | None:
    """Check every segment; return what the rows add up to, or None if some could not be read."""
    bounds = reader.bounds
    start = reader.start.state if reader.start else None
    contexts = reader.contexts()
    vcpus = list(zip(contexts["vm"].tolist(), contexts["vcpu"].tolist(), strict=True))
    rows = RowChecker(findings, bounds.cpus, bounds.contexts, vcpus, start)
    digest = ContentDigest()
    counted: dict[str, int] = {}
    before: dict[str, Any] = {}
    whole = True
    for number, line in enumerate(reader.segments):
        try:
            data = reader.load(number, columns=_REF_COLUMNS, pages=True)
        except DiscoError as error:
            findings.add_error("parts", error, number)
            rows.gap()
            whole = False
        else:
            rows.segment(data, line.last_seq)
            if whole:
                _add_content(reader, digest, data)
                _compare(findings, number, "content digest", digest.digests(), line.content)
        for kind, part in line.parts.items():
            counted[kind] = counted.get(kind, 0) + part.rows
        _compare(findings, number, "rows", counted, line.rows)
        for name, value in line.counters.items():
            earlier = before.get(name)
            if isinstance(value, int) and isinstance(earlier, int) and value < earlier:
                findings.add(
                    "counters",
                    f"counter {name} falls",
                    file=str(reader.path / SEGMENTS),
                    segment=number,
                    expected=f"at least {earlier}",
                    found=str(value),
                )
        before = line.counters
        progress(number + 1, len(reader.segments))
    return rows if whole else None


def _add_content(reader: TraceReader, digest: ContentDigest, data: SegmentData) -> None:
    for kind in KINDS:
        if kind.name not in reader.segments[data.index].parts:
            continue
        columns: Columns
        if kind.name == "refs":
            columns = data.refs
        elif kind.name == "pages":
            columns = data.pages
        else:
            mine = data.events[data.events["kind"] == kind.code]
            columns = {
                c.name: np.ascontiguousarray(mine[c.arg or c.name], c.type)
                for c in columns_of(kind)
            }
        digest.update(kind.name, columns)


def _compare(findings: Findings, segment: int, what: str, expected: Any, found: Any) -> None:
    if expected != found:
        differ = sorted(k for k in set(expected) | set(found) if expected.get(k) != found.get(k))
        findings.add(
            "segments",
            f"cumulative {what} in {SEGMENTS} is not what the parts add up to",
            segment=segment,
            expected=str({k: expected.get(k) for k in differ}),
            found=str({k: found.get(k) for k in differ}),
        )


def _check_totals(reader: TraceReader, rows: RowChecker, findings: Findings) -> None:
    """Compare what the rows add up to with the totals of the manifest (complete traces only)."""
    totals = reader.manifest.totals
    if not (reader.complete and totals and reader.manifest.events):
        return
    sums = rows.tally.sum(axis=(0, 1)).tolist()
    for name, value in zip(TALLIED, sums, strict=True):
        if name in totals and totals[name] != value:
            findings.add(
                "totals",
                f"the manifest's {name} are not what the rows add up to",
                file=str(reader.path / MANIFEST),
                expected=str(value),
                found=str(totals[name]),
            )


def _check_runs(reader: TraceReader, rows: RowChecker | None, findings: Findings) -> None:
    for path in list_runs(reader.path):
        checked = _check_run(path, findings)
        if checked is None:
            continue
        run, accounts = checked
        if run.trace_id not in ("", reader.trace_id):
            findings.add(
                "runs",
                "the run was made from another trace",
                file=str(path),
                expected=reader.trace_id,
                found=run.trace_id,
            )
        comparable = reader.complete and run.complete and reader.manifest.events
        if path.name == "captured" and rows is not None and comparable:
            _check_accounts(path, accounts, rows, findings)


def _check_run(path: Path, findings: Findings) -> tuple[Run, np.ndarray[Any, Any]] | None:
    """Read every file of a run and compare its sums; return it, or None if it is damaged."""
    try:
        run = Run.open(path)
        run.verify()
        accounts = run.accounts()
    except DiscoError as error:
        findings.add_error("runs", error)
        return None
    _check_sums(run, accounts, findings)
    return run, accounts


def _check_sums(run: Run, accounts: np.ndarray[Any, Any], findings: Findings) -> None:
    for name, expected in accounting.totals(accounts).items():
        if run.totals.get(name) != expected:
            findings.add(
                "runs",
                f"total {name} is not the sum of the run's accounts",
                file=str(run.path),
                expected=str(expected),
                found=str(run.totals.get(name)),
            )
    if run.per_cpu != accounting.per_cpu(accounts):
        findings.add("runs", "per_cpu differs from the run's accounts", file=str(run.path))


def _check_accounts(
    path: Path, accounts: np.ndarray[Any, Any], rows: RowChecker, findings: Findings
) -> None:
    """Compare each CPU's and context's accounts in the captured run with the rows."""
    cpus, contexts = rows.tally.shape[:2]
    for place, name in enumerate(TALLIED):
        kept = accounts[:, :, METRIC_NAMES.index(name)].astype(np.int64)
        wide = np.zeros((max(cpus, kept.shape[0]), max(contexts, kept.shape[1])), np.int64)
        told = wide.copy()
        wide[: kept.shape[0], : kept.shape[1]] = kept
        told[:cpus, :contexts] = rows.tally[:, :, place]
        wrong = np.argwhere(wide != told)
        if len(wrong):
            cpu, context = wrong[0].tolist()
            findings.add(
                "accounts",
                f"{name} of CPU {cpu} in context {context} are not what the rows add up to",
                times=len(wrong),
                file=str(path),
                expected=str(int(told[cpu, context])),
                found=str(int(wide[cpu, context])),
            )


__all__ = ["Problem", "check", "check_checkpoint", "check_run"]
