"""Replay a trace under a specification: open, run every segment, close the results."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from disco_trace.compile import load
from disco_trace.config import Spec, from_dict, replayable, spec_id, to_dict
from disco_trace.config.replayable import overall
from disco_trace.config.resumable import losses
from disco_trace.config.structure import restructured
from disco_trace.errors import DiscoError
from disco_trace.replay.start import start_warnings, starting_memory
from disco_trace.requests import ProgressCallback, ReplayResult
from disco_trace.trace.allocation import keep_freed_memory
from disco_trace.trace.manifest import Manifest, guest_of
from disco_trace.trace.reader import REPLAY_COLUMNS, TraceReader
from disco_trace.trace.run import Run
from disco_trace.trace.run_writer import RunWriter
from disco_trace.trace.schema import CONTROL

# Raised when the meaning of a replay changes; part of every run's name.
ENGINE = "1"
PAGE_EVENT_CODE, DMA_CODE = (
    next(kind.code for kind in CONTROL if kind.name == name) for name in ("page_events", "dma")
)


def replay(
    trace: Path,
    spec: Spec,
    *,
    out: Path | None = None,
    runs: Path | None = None,
    force: bool = False,
    phase: str | None = None,
    record_misses: bool = False,
    progress: ProgressCallback | None = None,
) -> ReplayResult:
    """Run a trace through the memory system that `spec` describes; return what it counted.

    The run lies in `out`, or in `runs` (by default the trace's own `runs` folder) under the
    policy's name and eight digits of (trace, spec, engine, policy code); one that is there is
    reused unless `force`. `phase` counts only what happened inside one of the guest's phases.
    Raises DiscoError for a damaged trace and for changes that a replay cannot make.
    """
    begin = time.perf_counter()
    reader = TraceReader(trace)
    manifest = reader.manifest
    if not manifest.events:
        raise DiscoError(
            "the trace holds results only (captured with --no-events)",
            file=trace,
            hint="capture the guest again without --no-events",
        )
    captured = from_dict(manifest.config, file=trace / "manifest.json")
    fidelity = replayable(captured, spec)
    warnings: list[str] = []
    if reader.start is not None:
        warnings = start_warnings(captured, spec)
        fidelity |= dict.fromkeys(losses(captured, spec), "approximate")
    if captured.monitor.kind != "none" and spec.costs.table == "native":
        warnings.append(
            "free traps are not the bare machine, where the guest itself runs differently:"
            " a capture without a monitor shows the gap"
        )
    numbers = _phase_numbers(manifest, phase, trace)
    run_id = _run_id(reader, spec, numbers, record_misses)
    path = out or (runs or trace / "runs") / f"{spec.placement.policy}-{run_id}"
    if out is None and not force and (path / "run.json").is_file():
        run = Run.open(path)
        if run.raw.get("run_id") == run_id:
            return _result(run, path, begin, reader.rows.get("refs", 0), True, fidelity, warnings)

    anew = restructured(captured, spec)
    if anew and reader.start is not None:
        warnings.append("the trace starts from a checkpoint: the monitor's TLBs begin empty")
    compile_seconds = load(_compile)
    begin += compile_seconds
    from disco_trace.memory.layout import build
    from disco_trace.replay.kernel import DONE, DRAIN, replay_segment
    from disco_trace.replay.results import Results

    keep_freed_memory()

    contexts = reader.contexts()
    ids = len(contexts["id"])
    memory = build(spec, record_misses=record_misses, contexts=4 * max(ids, 1))
    memory = starting_memory(reader, memory, captured, spec, 4 * max(ids, 1))
    tlbs = None
    if anew:
        from disco_trace.replay.structure import Restructured

        tlbs = Restructured(captured, spec, contexts, manifest.ram_pages)
    first_page = _first_pages(manifest.ram_pages, contexts["vm"])
    columns = (*REPLAY_COLUMNS, "pc") if record_misses else REPLAY_COLUMNS
    total = reader.rows.get("refs", 0)
    done = 0
    with RunWriter(
        path, to_dict(spec), trace_id=reader.trace_id, run_id=run_id, engine=ENGINE, force=force
    ) as writer:
        results = Results(writer, memory)
        for segment in reader.iter_segments(columns=columns, pages=tlbs is not None):
            refs = segment.refs
            pcs = refs["pc"] if record_misses else np.zeros(0, np.uint64)
            place = np.zeros(3, np.int64)
            pages, events = _dense(refs, segment.events, first_page)
            if tlbs is not None:
                events = tlbs.rows(segment.pages, events)
            while True:
                code = replay_segment(
                    memory, place, segment.first_seq, refs["cpu"], refs["context"], refs["kind"],
                    refs["way"], refs["vaddr"], pages, refs["work"], pcs, events,
                )  # fmt: skip
                if code != DRAIN:
                    break
                memory = results.drain(memory)
            if code != DONE:
                raise DiscoError(
                    "the trace contradicts itself",
                    file=trace,
                    expected="a row that fits the first-level caches and contexts before it",
                    found=f"segment {segment.index}, reference {place[0]}, control row {place[1]}",
                    hint=f"disco-trace check {trace}",
                )
            done += segment.n_refs
            if progress:
                progress(done, total)
        results.finish(memory, _mask(contexts, numbers, 4 * max(ids, 1)))
        kind = overall(fidelity)
        writer.close(
            complete=reader.complete,
            fidelity={"*": kind},
            extra={
                "policy": spec.placement.policy,
                "costs": spec.costs.table,
                "changes": dict(fidelity),
                "phase": phase,
                "recorded_references": done,
            },
        )
    result = _result(Run.open(path), path, begin, done, False, fidelity, warnings)
    return dataclasses.replace(result, compile_seconds=compile_seconds)


def _compile() -> None:
    """Import Numba and load the kernels: what `compile_seconds` names apart."""
    from disco_trace.replay.kernel import compile_kernels

    compile_kernels()


def _first_pages(ram_pages: list[int], vms: Any) -> np.ndarray[Any, Any] | None:
    """Return for each context (with mode) its machine's first page among all; None for one machine.

    Every machine has room for as many pages as the largest.
    """
    if len(ram_pages) == 1:
        return None
    return np.repeat(np.asarray(vms, np.uint64) * np.uint64(max(ram_pages)), 4)


def _dense(refs: Any, events: Any, first_page: np.ndarray[Any, Any] | None) -> tuple[Any, Any]:
    """Return guest pages and control rows with pages counted through all machines."""
    pages = refs["guest_page"]
    if first_page is None:
        return pages, events
    events = np.array(events)
    mine = events["kind"] == PAGE_EVENT_CODE
    events["a1"][mine] += first_page[events["context"][mine]]
    mine = events["kind"] == DMA_CODE
    events["a3"][mine] += first_page[events["context"][mine]] << np.uint64(12)
    return pages + first_page[refs["context"]], events


def _result(
    run: Run,
    path: Path,
    begin: float,
    recorded: int,
    reused: bool,
    fidelity: dict[str, Any],
    warnings: list[str],
) -> ReplayResult:
    seconds = time.perf_counter() - begin
    totals = run.totals
    return ReplayResult(
        path=path,
        totals=totals,
        per_cpu=run.per_cpu,
        seconds=seconds,
        compile_seconds=0.0,
        recorded_references=recorded,
        references_per_second=recorded / seconds,
        original_references=totals["instructions"] + totals["data_references"],
        reused=reused,
        fidelity=dict(fidelity),
        warnings=warnings,
    )


def _run_id(reader: TraceReader, spec: Spec, phases: list[int], record_misses: bool) -> str:
    """Return the eight digits that name a run."""
    phase = ",".join(map(str, dict.fromkeys(phases)))
    words = [reader.trace_id, spec_id(spec), ENGINE, _policy_code(), phase, str(record_misses)]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:8]


def _policy_code() -> str:
    """Return a hash of the sources that decide a replay's results."""
    digest = hashlib.sha256()
    files = sorted((Path(__file__).parents[1] / "memory").rglob("*.py"))
    for file in (*files, Path(__file__).parent / "tlbs.py"):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _phase_numbers(manifest: Manifest, phase: str | None, trace: Path) -> list[int]:
    """Return the number of a phase, given by name or number, in each machine; 0 for none.

    In a machine whose guest has no such phase it is one that no guest can open.
    """
    machines = [guest_of(manifest, vm).phases for vm in range(len(manifest.ram_pages))]
    if phase is None:
        return [0] * len(machines)
    found = [
        next((int(number) for number, name in phases.items() if phase in (name, str(number))), -1)
        for phases in machines
    ]
    if max(found) > 0:
        return found
    named = dict.fromkeys(
        f"{name} ({number})" for each in machines for number, name in each.items()
    )
    raise DiscoError(
        f"no phase {phase!r} in this trace", file=trace, expected=", ".join(named) or "none"
    )


def _mask(contexts: Any, phases: list[int], size: int) -> np.ndarray[Any, Any] | None:
    """Return which contexts belong to a phase; None for all."""
    if not any(phases):
        return None
    mask = np.zeros(size, np.int64)
    wanted = np.asarray(phases)[contexts["vm"]] == contexts["phase"].astype(np.int64)
    for mode in range(4):
        mask[4 * contexts["id"].astype(np.int64) + mode] = wanted
    return mask
