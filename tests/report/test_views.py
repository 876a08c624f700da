"""Test every view: its columns are the promised ones, its rows the ones worked out by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from disco_trace.report.database import PUBLIC_VIEWS, Database, connect, query
from disco_trace.report.modules import module_files
from tests.report.small import event, write_trace

E = "seq cycle cpu vm vcpu process mode phase"
# The promise, copied from the documentation of the views by hand.
COLUMNS = {
    "refs": f"trace {E} kind vaddr guest_page pc symbol work_cycles",
    "tlb_misses": f"trace {E} kind vaddr asid pc symbol",
    "traps": f"trace {E} cause pc vaddr tlb_entries pages_zeroed bytes_copied cpus_interrupted",
    "page_events": f"trace {E} guest_page event other_vm bytes content other_page",
    "schedule": f"trace {E} event from_vcpu to_vcpu stolen_cycles",
    "dma": f"trace {E} device request op guest_page first_byte block bytes",
    "packets": f"trace {E} peer pages_remapped pages_copied bytes lost",
    "phases": "trace phase cpu vm start_cycle end_cycle instructions",
    "runs": "trace run guest policy costs cpus nodes spec complete fingerprint",
    "totals": "trace run cpu metric value unit fidelity",
    "time_breakdown": "trace run cpu vm component cause cycles fraction",
    "intervals": "trace run cpu start_cycle end_cycle metric value",
    "misses": f"trace run {E} node home source class kind vaddr guest_page pc symbol stall_cycles",
    "page_heat": "trace run vm guest_page node local remote writes moves symbol",
    "page_moves": "trace run seq cycle vm guest_page action reason from_node to_node cycles",
    "symbol_misses": "trace run vm process image symbol mode local remote tlb stall_cycles",
}
# Query, rows.
CASES = [
    (
        "SELECT seq, process, mode, phase, kind, pc, symbol, work_cycles FROM refs ORDER BY seq",
        [
            (18, "asid 0", "kernel", "", "store", 0x80001008, "boot", 3),
            (19, "asid 0", "kernel", "", "load", 0x80001050, "idle_loop", 0),
            (20, "sorter", "user", "sort", "fetch", 0x00400040, "main", 0),
            (21, "sorter", "user", "sort", "upgrade", 0x00409000, "0x00409000", 2),
            (22, "sorter", "kernel", "sort", "uncached_fetch", 0x80002004, "clock", 0),
        ],
    ),
    ("SELECT count(*) FROM refs WHERE symbol = 'main'", [(1,)]),
    ("SELECT cpu, vm, vcpu, vaddr, guest_page FROM refs WHERE seq = 20",
     [(1, 0, 1, 0x00400100, 9)]),
    (
        "SELECT seq, kind, vaddr, asid, symbol, phase FROM tlb_misses ORDER BY seq",
        [
            (7, "fetch", 0x00400010, 7, "main", "sort"),
            (8, "store", 0x10000000, 7, "main", "sort"),
            (9, "fetch", 0x00400024, 7, "main", "sort"),
        ],
    ),
    (
        "SELECT cause, tlb_entries, pages_zeroed, bytes_copied, cpus_interrupted FROM traps",
        [("tlb_write", 2, 1, 64, 3)],
    ),
    ("SELECT cycle, guest_page, event, bytes FROM page_events", [(80, 5, "zero", 4096)]),
    ("SELECT event, from_vcpu, to_vcpu FROM schedule", [("preempt", 1, 65536)]),
    (
        "SELECT phase, cpu, start_cycle, end_cycle, instructions FROM phases ORDER BY start_cycle",
        [("sort", 1, 20, 60, 28), ("2", 1, 25, 40, 12), ("sort", 0, 70, None, None)],
    ),
    (
        "SELECT run, guest, policy, costs, cpus, nodes, complete, spec->>'$.time.feedback' "
        "FROM runs ORDER BY run",
        [
            ("captured", "small", "guest", "disco", 2, 2, True, "full"),
            ("migrate-0000abcd", "small", "migrate", "disco", 2, 2, True, "full"),
        ],
    ),
    (
        "SELECT cpu, metric, value, unit, fidelity FROM totals WHERE run = 'captured' AND metric "
        "IN ('cycles', 'instructions', 'l2_misses', 'monitor_cycles', 'migrations') ORDER BY ALL",
        [
            (0, "cycles", 100, "cycles", "exact"),
            (0, "instructions", 70, "instructions", "exact"),
            (0, "l2_misses", 0, "misses", "exact"),
            (0, "migrations", 0, "events", "exact"),
            (0, "monitor_cycles", 0, "cycles", "exact"),
            (1, "cycles", 100, "cycles", "exact"),
            (1, "instructions", 40, "instructions", "exact"),
            (1, "l2_misses", 7, "misses", "exact"),
            (1, "migrations", 0, "events", "exact"),
            (1, "monitor_cycles", 8, "cycles", "exact"),
        ],
    ),
    (
        "SELECT cpu, value, fidelity FROM totals WHERE run LIKE 'migrate%' AND metric = 'cycles' "
        "ORDER BY cpu",
        [(0, 80, "no feedback"), (1, 50, "no feedback")],
    ),
    (
        "SELECT component, cause, cycles, fraction FROM time_breakdown "
        "WHERE run = 'captured' AND cpu = 1 ORDER BY ALL",
        [
            ("idle", "", 2, 0.02),
            ("kernel", "", 15, 0.15),
            ("monitor", "migrate", 6, 0.06),
            ("monitor", "shootdown", 2, 0.02),
            ("refill", "", 5, 0.05),
            ("remote", "", 20, 0.2),
            ("user", "", 50, 0.5),
        ],
    ),
    ("SELECT run, cpu, start_cycle, end_cycle, metric, value FROM intervals",
     [("captured", 1, 0, 50, "local_misses", 4)]),
    (
        "SELECT run, seq, process, phase, node, home, source, class, kind, symbol, stall_cycles "
        "FROM misses ORDER BY seq",
        [
            ("captured", 18, "asid 0", "", 0, 0, "local", "cold", "store", "boot", 90),
            ("captured", 20, "sorter", "sort", 1, 0, "remote", "capacity", "fetch", "main", 270),
            ("captured", 21, "sorter", "sort", 1, 1, "dirty", "coherence", "load", "main", 330),
        ],
    ),
    ("SELECT seq, source FROM remote_misses('captured') ORDER BY seq",
     [(20, "remote"), (21, "dirty")]),
    ("SELECT count(*) FROM remote_misses('migrate-0000abcd')", [(0,)]),
    (
        "SELECT vm, guest_page, node, local, remote, writes, moves, symbol FROM page_heat "
        "ORDER BY guest_page",
        [(0, 3, 0, 9, 1, 2, 0, "table"), (0, 9, 1, 1, 4, 0, 1, "main")],
    ),
    (
        "SELECT seq, guest_page, action, reason, from_node, to_node, cycles FROM page_moves "
        "ORDER BY seq",
        [
            (19, 3, "place", "first_touch", None, 0, 0),
            (20, 9, "migrate", "hot", 0, 1, 300),
        ],
    ),
    (
        "SELECT run, process, image, symbol, mode, local, remote, tlb, stall_cycles "
        "FROM symbol_misses ORDER BY stall_cycles",
        [
            ("captured", "asid 0", "kernel", "boot", "kernel", 1, 0, 0, 90),
            ("captured", "sorter", "sort", "main", "user", 0, 2, 3, 600),
        ],
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def database(trace: Path) -> Iterator[Database]:
    with connect([trace]) as opened:
        yield opened


@pytest.mark.parametrize(("sql", "expected"), CASES)
def test_rows(trace: Path, sql: str, expected: list[tuple]) -> None:
    # Each in a database of its own: the symbol tables must be filled by this very query.
    assert query([trace], sql).rows() == expected


def test_what_devices_did(tmp_path: Path) -> None:
    write_trace(
        tmp_path / "io",
        phases={1: "sort"},
        process_names=["sorter"],
        events=[
            event("contexts", cycle=0, id=0),
            event("processes", cycle=11, cpu=1, asid=7, name=0),
            event("contexts", cycle=20, cpu=1, id=1, vcpu=1, asid=7, phase=1),
            event("dma", cycle=91, cpu=0, device=0, request=3, op="write", address=0x9000,
                  block=16, bytes=4096),
            event("dma", cycle=92, cpu=1, context=6, device=4, request=1, op="ring_read",
                  address=0x7020, bytes=16),
            event("packets", cycle=93, cpu=1, context=6, peer=4, pages_remapped=1,
                  pages_copied=2, bytes=5000),
            event("packets", cycle=94, cpu=1, context=6, peer=5, bytes=60),
        ],
    )  # fmt: skip
    columns = "cycle, cpu, process, mode, phase"
    with connect([tmp_path / "io"]) as database:
        assert database.query(
            f"SELECT {columns}, device, request, op, guest_page, first_byte, block, bytes FROM dma"
        ).rows() == [
            (91, 0, "asid 0", "kernel", "", 0, 3, "write", 9, 0, 16, 4096),
            (92, 1, "sorter", "user", "sort", 4, 1, "ring_read", 7, 0x20, 0, 16),
        ]
        assert database.query(
            f"SELECT {columns}, peer, pages_remapped, pages_copied, bytes, lost FROM packets"
        ).rows() == [
            (93, 1, "sorter", "user", "sort", 4, 1, 2, 5000, False),
            (94, 1, "sorter", "user", "sort", 5, 0, 0, 60, True),
        ]


def test_the_promised_views_are_there(database: Database) -> None:
    assert tuple(COLUMNS) == PUBLIC_VIEWS
    listed = [row["name"] for row in database.views()]
    assert listed == [*COLUMNS, "remote_misses(run)"]


@pytest.mark.parametrize("view", COLUMNS)
def test_columns_and_comments(database: Database, view: str) -> None:
    described = database.describe(view)
    assert " ".join(c["name"] for c in described["columns"]) == COLUMNS[view]
    assert described["comment"].endswith(".")
    assert [c["name"] for c in described["columns"] if not c["comment"]] == []


def test_the_views_columns_are_those_of_the_macro(database: Database) -> None:
    frame = database.query("SELECT * FROM remote_misses('captured')")
    assert " ".join(frame.columns) == COLUMNS["misses"]
    assert database.describe("remote_misses")["columns"] == database.describe("misses")["columns"]


def test_every_other_object_is_private(database: Database) -> None:
    objects = database.rows(
        "SELECT view_name AS name FROM duckdb_views() WHERE NOT internal "
        "UNION ALL SELECT table_name FROM duckdb_tables() WHERE NOT internal "
        "UNION ALL SELECT function_name FROM duckdb_functions() WHERE NOT internal"
    )
    public = {row["name"] for row in objects if not row["name"].startswith("_")}
    assert public == {*COLUMNS, "remote_misses"}


def test_time_adds_up_to_the_clock(database: Database) -> None:
    rows = database.rows(
        "SELECT run, cpu, sum(cycles) AS parts, sum(fraction) AS whole, any_value(value) AS clock "
        "FROM time_breakdown JOIN (FROM totals WHERE metric = 'cycles') USING (run, cpu) "
        "GROUP BY ALL"
    )
    assert len(rows) == 4
    for row in rows:
        assert row["parts"] == row["clock"]
        assert row["whole"] == pytest.approx(1)


def test_modules_include_only_what_exists() -> None:
    assert {name.split(".")[0] for name in module_files()} == {"common", "trace", "run"}


README = Path(__file__).parents[2] / "README.md"
QUESTIONS = re.findall(r"```sql\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_questions_of_the_readme_are_answered(question: str, trace: Path) -> None:
    rows = query([trace], question)
    assert rows.height > 0
    if "percent" in rows.columns:  # of a run's time, also for what only one CPU spent
        for run in rows["run"].unique():
            part = rows.filter(rows["run"] == run)["percent"].sum()
            assert part == pytest.approx(100, abs=0.5)
