"""Put the sources under the SQL modules: Arrow datasets as `_source_*` views, codes as macros.

Every `_source_*` view is a union over all traces (or runs) with constant `trace` (and `run`)
columns, so a filter on them removes whole files. `context` is shifted by the trace's base, which
makes one dense key over all traces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.dataset as ds

from disco_trace.errors import DiscoError
from disco_trace.report.sources import RunSource, TraceSource
from disco_trace.trace import schema
from disco_trace.trace.encoding import SCHEMAS
from disco_trace.trace.manifest import Manifest, guest_names, guest_of
from disco_trace.trace.phases import inner_phases
from disco_trace.trace.run import Run
from disco_trace.trace.run_writer import RUN_SCHEMAS

_ENUMS: Final[Mapping[str, Sequence[str]]] = {
    "mode": schema.MODES,
    "ref_kind": schema.REF_KINDS,
    "source": schema.SOURCES,
    "class": schema.CLASSES,
    "move_action": schema.MOVE_ACTIONS,
    "move_reason": schema.MOVE_REASONS,
    "page_event": schema.PAGE_EVENTS,
    "schedule_event": schema.SCHEDULE_EVENTS,
    "dma_op": schema.DMA_OPS,
    "monitor_cause": schema.MONITOR_CAUSES,
}
# Kinds of a trace that views read, beside contexts and symbols.
_TRACE_KINDS: Final = (
    "refs", "exceptions", "traps", "page_events", "schedule", "dma", "packets", "phases",
)  # fmt: skip
# A run's label begins with its policy; of what else it changes so many words follow.
_NAMED_ELSEWHERE: Final = ("placement.policy",)
_MOST_CHANGES: Final = 3
_DERIVED_METRICS: Final = ("cycles", "l2_misses", "monitor_cycles")
# From most to least trusted; a run is as good as its worst change.
_FIDELITIES: Final = ("exact", "no feedback", "approximate")


def register(
    connection: duckdb.DuckDBPyConnection, traces: Sequence[TraceSource], phase: str | None
) -> None:
    """Create everything that the SQL modules build on.

    `phase` limits the views whose rows carry one to a phase by name, with the phases inside it;
    `DiscoError` if no trace has it.
    """
    names = [row for trace in traces for row in _phase_names(trace)]
    if phase is not None and phase not in {name for *_, name in names}:
        known = ", ".join(sorted({name for *_, name in names})) or "no phase is marked"
        raise DiscoError(f"no phase {phase!r}", expected=f"one of {known}", found=phase)
    _macros(connection, None if phase is None else _with_inner(traces, phase))
    _tables(connection, traces, names)
    bases = _context_tables(connection, traces)
    for kind in _TRACE_KINDS:
        _trace_kind(connection, kind, traces, bases)
    for table in RUN_SCHEMAS:
        _run_table(connection, table, traces, bases)


def _macros(connection: duckdb.DuckDBPyConnection, phases: Sequence[str] | None) -> None:
    for name, values in _ENUMS.items():
        items = ", ".join(literal(value) for value in values)
        connection.execute(
            f"CREATE MACRO _enum_{name}(code) AS list_extract([{items}], code::INTEGER + 1)"
        )
    # An expression that folds away where no phase was asked for.
    test = "true" if phases is None else f"phase IN ({', '.join(map(literal, phases))})"
    connection.execute(f"CREATE MACRO _in_phase(phase) AS ({test})")


def _tables(
    connection: duckdb.DuckDBPyConnection,
    traces: Sequence[TraceSource],
    phase_names: Sequence[tuple[str, int, int, str]],
) -> None:
    metrics = [m for m in schema.METRICS if m != "spare"] + list(_DERIVED_METRICS)
    _table(connection, "_metrics", "metric VARCHAR", [(metric,) for metric in metrics])
    _table(
        connection,
        "_source_phase_names",
        "trace VARCHAR, vm USMALLINT, phase UINTEGER, name VARCHAR",
        phase_names,
    )
    runs = [(trace, run) for trace in traces for run in trace.runs]
    _table(
        connection,
        "_source_runs",
        "trace VARCHAR, run VARCHAR, guest VARCHAR, policy VARCHAR, costs VARCHAR, "
        "cpus UTINYINT, nodes UTINYINT, spec VARCHAR, complete BOOLEAN, fingerprint VARCHAR, "
        "has_misses BOOLEAN, changes VARCHAR",
        [_run_row(trace, run) for trace, run in runs],
    )
    _table(
        connection,
        "_source_facts",
        "trace VARCHAR, topic VARCHAR, item VARCHAR, value VARCHAR",
        [row for trace in traces for row in _facts(trace)],
    )
    _table(
        connection,
        "_source_fidelity",
        "trace VARCHAR, run VARCHAR, metric VARCHAR, fidelity VARCHAR",
        [row for trace, run in runs for row in _fidelity_rows(trace, run)],
    )


def _phase_names(trace: TraceSource) -> list[tuple[str, int, int, str]]:
    """Return (trace, vm, phase, name) for every phase that is named or was entered."""
    rows = []
    contexts = trace.reader.contexts()
    manifest = trace.reader.manifest
    for vm in range(len(manifest.ram_pages)):
        entered = set(contexts["phase"][contexts["vm"] == vm].tolist()) - {0}
        names = {phase: str(phase) for phase in entered} | guest_of(manifest, vm).phases
        rows += [(trace.name, vm, phase, name) for phase, name in sorted(names.items())]
    return rows


def _with_inner(traces: Sequence[TraceSource], phase: str) -> list[str]:
    """Return the names of a phase and of those that lie inside it, in any of the traces."""
    found = {phase}
    for trace in traces:
        names = {(vm, number): name for _, vm, number, name in _phase_names(trace)}
        for (vm, number), inner in inner_phases(trace.reader).items():
            if names.get((vm, number)) == phase:
                found |= {names.get((vm, each), str(each)) for each in inner}
    return sorted(found)


def _facts(trace: TraceSource) -> list[tuple[str, str, str, str]]:
    """Return what the manifest and the provenance say, one (trace, topic, item, value) each."""
    reader, manifest = trace.reader, trace.reader.manifest
    identity = {
        "trace id": reader.trace_id,
        "format version": manifest.format_version,
        **_guest_facts(manifest),
        "start": _start(trace),
        "complete": manifest.complete,
        "exit reason": manifest.exit_reason,
        "segments": len(reader.segments),
        **{f"seed {name}": value for name, value in manifest.seeds.items()},
        **{f"rows of {kind}": count for kind, count in reader.rows.items()},
    }
    topics = {
        "identity": flat(identity),
        "configuration": flat(manifest.config),
        "provenance": flat(reader.provenance),
    }
    return [(trace.name, topic, *pair) for topic, pairs in topics.items() for pair in pairs]


def _start(trace: TraceSource) -> str:
    start = trace.reader.start
    if start is None:
        return "cold"
    return f"checkpoint {start.checkpoint[:16]} at phase {start.phase.name}"


def flat(values: Any, path: str = "") -> list[tuple[str, str]]:
    """Return the leaves of nested dicts as (dotted path, text), in order."""
    if isinstance(values, Mapping):
        return [p for key, v in values.items() for p in flat(v, f"{path}.{key}" if path else key)]
    if isinstance(values, list | tuple):
        return [(path, " ".join(map(str, values)))]
    if isinstance(values, bool):
        return [(path, "yes" if values else "no")]
    return [(path, "" if values is None else str(values))]


def _guest_facts(manifest: Manifest) -> dict[str, str]:
    """Return what ran: once, or for each machine where they differ."""
    facts = {}
    for vm, guest in enumerate(manifest.guests or [manifest.guest]):
        of = f" of vm {vm}" if manifest.guests else ""
        facts[f"guest{of}"] = " ".join([guest.name, *guest.args])
        facts[f"guest SHA-256{of}"] = guest.sha256
    return facts


def _run_row(trace: TraceSource, source: RunSource) -> tuple[Any, ...]:
    run = source.run
    spec = run.spec or trace.reader.manifest.config
    machine = spec.get("machine", {})
    return (
        trace.name,
        source.name,
        guest_names(trace.reader.manifest),
        spec.get("placement", {}).get("policy", ""),
        spec.get("costs", {}).get("table", ""),
        machine.get("cpus", trace.reader.manifest.cpus),
        machine.get("nodes", trace.reader.manifest.nodes),
        msgspec.json.encode(spec).decode(),
        run.complete,
        run.fingerprint,
        run.document.miss_parts > 0,
        _changes(spec, trace.reader.manifest.config),
    )


def _changes(spec: Mapping[str, Any], captured: Mapping[str, Any]) -> str:
    """Return in a few words what a run changes against its capture, the policy's name apart."""
    before = dict(flat(captured))
    changed = [
        (path, value)
        for path, value in flat(spec)
        if path in before and before[path] != value and path not in _NAMED_ELSEWHERE
    ]
    words = [f"{path.rsplit('.', 1)[-1]}={value}" for path, value in changed]
    if len(words) > _MOST_CHANGES:
        words = [*words[:_MOST_CHANGES], f"{len(words) - _MOST_CHANGES} more"]
    return ", ".join(words)


def _fidelity_rows(trace: TraceSource, source: RunSource) -> list[tuple[str, str, str, str]]:
    """Return the fidelity of each metric, under the empty name that of all others.

    A run names it by metric, or by what was changed against the capture.
    """
    stated = source.run.fidelity
    known = {*schema.METRICS, *_DERIVED_METRICS}
    by_metric = {key: value for key, value in stated.items() if key in known}
    others = [value for key, value in stated.items() if key not in known]
    worst = max(others, key=_rank, default="exact")
    return [(trace.name, source.name, k, v) for k, v in {**by_metric, "": worst}.items()]


def _rank(fidelity: str) -> int:
    return _FIDELITIES.index(fidelity) if fidelity in _FIDELITIES else len(_FIDELITIES)


def _context_tables(
    connection: duckdb.DuckDBPyConnection, traces: Sequence[TraceSource]
) -> list[int]:
    """Create the sources of contexts, processes and symbols; return the context base by trace."""
    bases, base = [], 0
    contexts, processes, symbols = [], [], []
    for trace in traces:
        bases.append(base)
        columns = trace.reader.contexts()
        count = len(columns["id"])
        own: dict[str, str | int] = {"context_base": base, "trace": trace.name}
        given = [*_given_names(trace), *[None] * count][:count]
        table = pa.table(columns).append_column("given", pa.array(given, pa.string()))
        contexts.append(_prepend(table, own))
        processes.append(_processes(trace))
        symbols.append(_prepend(trace.reader.symbols(), {"trace": trace.name}))
        base += count
    for name, tables in (
        ("contexts", contexts),
        ("processes", processes),
        ("symbols", symbols),
    ):
        _materialise(connection, f"_source_{name}", pa.concat_tables(tables))
    return bases


def _processes(trace: TraceSource) -> pa.Table:
    table = trace.reader.dataset("processes").to_table(columns=["seq", "vm", "asid", "name"])
    if trace.reader.start is not None:
        # What address spaces were called before the trace begins: before its first row.
        known = trace.reader.start.state.processes
        rows = [{"seq": 0, "vm": p.vm, "asid": p.asid, "name": p.name} for p in known]
        table = pa.concat_tables([pa.Table.from_pylist(rows, table.schema), table])
    texts = [_process_name(trace, n) for n in table["name"].to_pylist()]
    table = table.drop_columns(["name"]).append_column("name", pa.array(texts, pa.string()))
    return _prepend(table, {"trace": trace.name})


def _process_name(trace: TraceSource, number: int) -> str:
    names = trace.reader.manifest.process_names
    return names[number] if number < len(names) else f"process {number}"


def _given_names(trace: TraceSource) -> list[str | None]:
    """Return the process of each context that a resumed trace starts with.

    One that had no name yet has the first that its address space got then.
    """
    if trace.reader.start is None:
        return []
    contexts = trace.reader.start.state.contexts
    first: dict[tuple[int, int], int] = {}
    for c in contexts:
        if c.process:
            first.setdefault((c.vm, c.asid), c.process)
    numbers = [c.process or first.get((c.vm, c.asid), 0) for c in contexts]
    return [_process_name(trace, number - 1) if number else None for number in numbers]


def _open_phases(trace: TraceSource) -> pa.Table:
    """Return the phases that a resumed trace starts in, as rows that open them before its first."""
    state = trace.reader.start.state if trace.reader.start else None
    cpus = state.cpus if state else []
    where = [(number, cpu.context, cpu.phases) for number, cpu in enumerate(cpus)]
    if state and state.vcpus:
        where = [(each.cpu, each.context, each.phases) for each in state.vcpus]
    rows = [
        {
            "seq": 0, "cycle": cpus[number].cycle, "cpu": number, "context": context, "work": 0,
            "instructions": 0, "event": 0, "phase": phase, "retired": cpus[number].retired,
            "depth": depth + 1,
        }
        for number, context, phases in where
        for depth, phase in enumerate(phases)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, SCHEMAS["phases"])


def _trace_kind(
    connection: duckdb.DuckDBPyConnection,
    kind: str,
    traces: Sequence[TraceSource],
    bases: Sequence[int],
) -> None:
    branches = []
    columns = [name for name in SCHEMAS[kind].names if name != "context"]
    for number, trace in enumerate(traces):
        name = f"_{kind}_{number}"
        connection.register(name, trace.reader.dataset(kind))
        branches.append(_branch(name, columns, {"trace": trace.name}, 4 * bases[number]))
        if kind == "phases" and trace.reader.start is not None:
            connection.register(f"{name}_open", _open_phases(trace))
            own = {"trace": trace.name}
            branches.append(_branch(f"{name}_open", columns, own, 4 * bases[number]))
    _union(connection, f"_source_{kind}", branches)


def _run_table(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    traces: Sequence[TraceSource],
    bases: Sequence[int],
) -> None:
    schema_ = RUN_SCHEMAS[table]
    columns = [name for name in schema_.names if name != "context"]
    branches = []
    for number, trace in enumerate(traces):
        for index, run in enumerate(trace.runs):
            name = f"_{table}_{number}_{index}"
            connection.register(name, _run_dataset(run.run, table, schema_))
            own = {"trace": trace.name, "run": run.name}
            shift = 4 * bases[number] if "context" in schema_.names else None
            extra = ""
            if table == "misses":
                # The node of a CPU, by the run's own node map.
                *_, cpus, nodes = _run_row(trace, run)[:7]
                extra = f", (cpu::UINTEGER * {int(nodes)} // {int(cpus)})::UTINYINT AS node"
            branches.append(_branch(name, columns, own, shift, extra))
    if not branches:
        empty = _prepend(schema_.empty_table(), {"trace": "", "run": ""})
        if table == "misses":
            empty = empty.append_column("node", pa.array([], pa.uint8()))
        connection.register(f"_{table}_none", empty)
        branches.append(f'SELECT * FROM "_{table}_none"')
    _union(connection, f"_source_{table}", branches)


def _run_dataset(run: Run, table: str, schema_: pa.Schema) -> ds.Dataset:
    """Return a run's table as a dataset; the sizes of its files are compared with `run.json`."""
    names = [f for f in sorted(run.document.files) if f.startswith((f"{table}.", f"{table}/"))]
    if not names:
        return ds.dataset(schema_.empty_table())
    for name in names:
        path, size = run.path / name, run.document.files[name].bytes
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            raise DiscoError(
                "a table of the run is missing or damaged",
                file=path,
                expected=f"{size} bytes",
                found="none" if found is None else f"{found} bytes",
            )
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    file_format = ds.ParquetFileFormat(default_fragment_scan_options=options)
    return ds.dataset([str(run.path / n) for n in names], schema=schema_, format=file_format)


def _branch(
    name: str,
    columns: Iterable[str],
    own: Mapping[str, str],
    shift: int | None,
    extra: str = "",
) -> str:
    constants = ", ".join(f'{literal(value)} AS "{key}"' for key, value in own.items())
    listed = ", ".join(f'"{column}"' for column in columns)
    context = ""
    if shift is not None:
        context = f", (context + {shift})::UINTEGER AS context" if shift else ", context"
    return f'SELECT {constants}, {listed}{context}{extra} FROM "{name}"'


def _union(connection: duckdb.DuckDBPyConnection, view: str, branches: Sequence[str]) -> None:
    connection.execute(f"CREATE VIEW {view} AS {' UNION ALL '.join(branches)}")


def _prepend(table: pa.Table, constants: Mapping[str, str | int]) -> pa.Table:
    """Return the table with constant columns before its own."""
    for key, value in reversed(list(constants.items())):
        kind = pa.string() if isinstance(value, str) else pa.uint32()
        table = table.add_column(0, key, pa.array([value] * len(table), kind))
    return table


def _materialise(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    """Copy a small Arrow table into DuckDB, which then knows its statistics."""
    connection.register("_copied", table)
    connection.execute(f"CREATE TABLE {name} AS FROM _copied")
    connection.unregister("_copied")


def _table(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    columns: str,
    rows: Sequence[tuple[Any, ...]],
) -> None:
    connection.execute(f"CREATE TABLE {name} ({columns})")
    if rows:
        marks = ", ".join("?" for _ in rows[0])
        connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)


def literal(text: str) -> str:
    """Quote a text for SQL."""
    return "'" + text.replace("'", "''") + "'"
