"""Test what surrounds the views: the lock, the paths, names, phases, several traces, damage."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from disco_trace.errors import DiscoError
from disco_trace.report.database import Database, connect, query
from tests.report.small import event, write_run, write_trace

REFUSED = [
    "COPY runs TO '{path}/refs/part-00000.parquet'",
    "COPY (SELECT 1) TO '{path}/x.csv'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{path}/x.csv'",
    "EXPLAIN EXPLAIN SELECT 1",
    "ATTACH '{path}/x.db'",
    "INSTALL httpfs",
    "LOAD json",
    "SELECT * FROM read_parquet('{path}/refs/part-00000.parquet')",
    "SELECT * FROM '{path}/refs/part-00000.parquet'",
    "SELECT * FROM read_csv('{path}/segments.jsonl')",
    "SELECT * FROM read_text('{path}/manifest.json')",
    "SELECT * FROM glob('{path}/*')",
    "SELECT * FROM parquet_metadata('{path}/refs/part-00000.parquet')",
    "FROM sniff_csv('{path}/segments.jsonl')",
    "PRAGMA version",
    "PRAGMA table_info('runs')",
    "SET threads = 1",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "SET VARIABLE a = 1",
    "CREATE OR REPLACE VIEW runs AS SELECT 1",
    "CREATE TEMP TABLE t AS SELECT 1",
    "DROP VIEW runs",
    "INSERT INTO _metrics VALUES ('x')",
    "DELETE FROM _metrics",
    "EXPLAIN ANALYZE DELETE FROM _metrics",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW runs",
    "EXPORT DATABASE '{path}'",
    "IMPORT DATABASE '{path}'",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "USE memory",
    "PREPARE q AS SELECT 1",
    "BEGIN",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM json_execute_serialized_sql('{{}}')",
    "SELECT write_log('x')",
    "",
    "-- nothing",
]
ALLOWED = [
    "SELECT 1",
    "SELECT 1;",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "FROM runs",
    "VALUES (1)",
    "DESCRIBE runs",
    "SHOW TABLES",
    "SUMMARIZE runs",
    "EXPLAIN SELECT * FROM runs",
    "EXPLAIN ANALYZE SELECT count(*) FROM refs",
    "/* why */ EXPLAIN (FORMAT json) SELECT 1",
]


def content(folder: Path) -> dict[str, str]:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def database(trace: Path) -> Iterator[Database]:
    with connect([trace]) as opened:
        yield opened


@pytest.mark.parametrize("sql", REFUSED)
def test_refuses_what_is_not_a_question(trace: Path, database: Database, sql: str) -> None:
    before = content(trace)
    for run in (database.query, database.rows):
        with pytest.raises(DiscoError) as raised:
            run(sql.format(path=trace))
        assert raised.value.exit_code == 2
        assert "\n" not in str(raised.value)
    assert len(database.rows("SELECT * FROM runs")) == 2
    assert content(trace) == before


@pytest.mark.parametrize("sql", ALLOWED)
def test_answers_questions(database: Database, sql: str) -> None:
    assert database.query(sql).height >= 1


def test_python_variables_are_no_tables(trace: Path) -> None:
    secret = pl.DataFrame({"a": [1]})
    with pytest.raises(DiscoError, match="secret does not exist"):
        query([trace], "SELECT * FROM secret")
    assert secret.height == 1


def test_an_error_is_one_line_with_a_hint(trace: Path) -> None:
    with pytest.raises(DiscoError) as raised:
        query([trace], "SELECT polcy\nFROM runs")
    assert "polcy" in str(raised.value)
    assert "LINE" not in str(raised.value)
    assert "policy" in (raised.value.hint or "")


def test_an_error_while_rows_are_read(trace: Path) -> None:
    with pytest.raises(DiscoError, match=r"^SQL: .*boo"):
        query([trace], "SELECT CASE WHEN i = 900000 THEN error('boo') END FROM range(1000000) t(i)")


def test_sums_arrive_as_integers(trace: Path) -> None:
    frame = query([trace], "SELECT sum(value) AS v FROM totals WHERE metric = 'cycles'")
    assert frame.schema["v"] == pl.Int64
    assert frame["v"][0] == 330


SYMBOL_QUERIES = [
    ("SELECT * FROM refs ORDER BY seq", 5),
    ("FROM refs ORDER BY seq", 5),
    ("SELECT COLUMNS('sym.*') FROM refs", 5),
    ("SELECT any_value(r.symbol) AS symbol FROM refs r GROUP BY seq", 5),
    ("SELECT symbol FROM refs WHERE symbol IS NOT NULL", 5),
    ("WITH a AS (SELECT symbol AS x FROM refs) SELECT x AS symbol FROM a WHERE x > ''", 5),
    ("SELECT * FROM misses", 3),
    ("SELECT * FROM tlb_misses", 3),
    ("SELECT * FROM symbol_misses WHERE image <> ''", 2),
    ("SELECT symbol FROM page_heat WHERE symbol IN ('main', 'table')", 2),
    ("SELECT symbol FROM query_table('refs')", 5),
]


@pytest.mark.parametrize(("sql", "count"), SYMBOL_QUERIES)
def test_symbols_are_filled_for_any_query(trace: Path, sql: str, count: int) -> None:
    symbols = query([trace], sql)["symbol"]
    assert len(symbols) == count
    assert symbols.null_count() == 0


def test_a_phase_limits_what_carries_one(trace: Path) -> None:
    with connect([trace], phase="sort") as database:
        assert [r["seq"] for r in database.rows("SELECT seq FROM refs ORDER BY 1")] == [20, 21, 22]
        assert database.rows("SELECT count(*) AS n FROM misses") == [{"n": 2}]
        cycles = database.rows(
            "SELECT cpu, value FROM totals WHERE metric = 'cycles' AND run = 'captured' ORDER BY 1"
        )
        assert cycles == [{"cpu": 0, "value": 0}, {"cpu": 1, "value": 98}]
        # Phase 2 is only ever opened inside it, and belongs to it.
        phases = database.rows("SELECT DISTINCT phase FROM phases ORDER BY phase")
        assert phases == [{"phase": "2"}, {"phase": "sort"}]


def test_an_unknown_phase_names_the_known(trace: Path) -> None:
    with pytest.raises(DiscoError, match=r"expected one of .*sort"):
        connect([trace], phase="sotr")


def test_a_run_brings_its_trace_and_no_other_run(trace: Path) -> None:
    frame = query([trace / "runs" / "captured"], "SELECT trace, run FROM runs")
    assert frame.rows() == [("small", "captured")]
    assert query([trace / "runs" / "captured"], "SELECT count(*) FROM refs").item() == 5


def test_a_trace_and_its_run_are_not_counted_twice(trace: Path) -> None:
    paths = [trace, trace / "runs" / "captured", trace / "manifest.json", trace]
    assert query(paths, "SELECT count(*) FROM runs").item() == 2


def test_a_run_elsewhere_needs_its_trace(trace: Path, tmp_path: Path) -> None:
    from disco_trace.trace.reader import TraceReader

    run = write_run(tmp_path / "mine", trace_id=TraceReader(trace).trace_id)
    with pytest.raises(DiscoError, match="trace of this run is not known"):
        query([run], "FROM runs")
    assert query([run, trace], "SELECT run FROM runs ORDER BY 1")["run"].to_list() == [
        "captured",
        "migrate-0000abcd",
        "mine",
    ]


def test_two_traces_keep_apart(trace: Path, tmp_path: Path) -> None:
    other = write_trace(
        tmp_path / "other" / "small",
        events=[event("contexts", id=0, asid=3), event("processes", asid=3, name=0)],
        refs=[{"pc": 0x80001008, "vaddr": 0x1000, "guest_page": 1}],
        process_names=["lisp"],
        symbols=[(0, -1, "other", "start", 0x80001000, 0x100, "func")],
    )
    parent = trace.parent.name
    frame = query(
        [trace, other], "SELECT trace, process, symbol FROM refs WHERE pc = 2147487752 ORDER BY 1"
    )
    assert set(frame.rows()) == {
        (f"{parent}/small", "asid 0", "boot"),
        ("other/small", "lisp", "start"),
    }
    assert query([other], "SELECT count(*) FROM runs").item() == 0
    assert query([other], "SELECT count(*) FROM misses").item() == 0


def test_an_address_space_that_is_used_again_shows_each_name_in_its_time(tmp_path: Path) -> None:
    path = write_trace(
        tmp_path / "again",
        events=[
            event("contexts", id=0, asid=5),
            event("processes", asid=5, name=0),
            event("contexts", id=1, asid=5),
            event("processes", asid=5, name=1),
            event("contexts", id=2, asid=5),
            event("processes", asid=6, name=1),
            event("processes", asid=5, name=0),
            event("contexts", id=3, asid=6),
            event("contexts", id=4, asid=7),
        ],
        refs=[{"context": 4 * n, "pc": 0x80001000} for n in range(5)],
        process_names=["first", "second"],
    )
    frame = query([path], "SELECT process FROM refs ORDER BY seq")
    # Before it had a name an address space has its first; one that never had shows its number.
    assert frame["process"].to_list() == ["first", "first", "second", "second", "asid 7"]


def test_a_trace_without_symbols_shows_addresses(tmp_path: Path) -> None:
    path = write_trace(
        tmp_path / "bare",
        events=[event("contexts", id=0)],
        refs=[{"pc": 0x80001008, "vaddr": 0x80000040}],
    )
    write_run(path / "runs" / "captured", heat=[{"guest_page": 17, "local": 1}])
    assert query([path], "SELECT symbol FROM refs").item() == "0x80001008"
    assert query([path], "SELECT symbol FROM page_heat").item() == "page 0x11"


def test_an_empty_trace_answers(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "empty")
    for view in ("refs", "misses", "page_heat", "symbol_misses", "totals", "phases"):
        assert query([path], f"SELECT * FROM {view}").height == 0


@pytest.mark.parametrize("what", ["nothing", "file", "folder"])
def test_other_paths_are_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "file":
        path.write_text("x")
    if what == "folder":
        path.mkdir()
    with pytest.raises(DiscoError, match="expected a"):
        query([path], "SELECT 1")


@pytest.mark.parametrize(
    "victim", ["refs/part-00000.parquet", "runs/captured/accounts.parquet", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["cut", "gone", "garbled"])
def test_damage_is_named(trace: Path, tmp_path: Path, victim: str, damage: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trace, copy)
    file = copy / victim
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "gone":
        file.unlink()
    else:
        middle = len(data) // 2
        file.write_bytes(b"\x00" * middle + data[middle:][::-1])
    with pytest.raises(DiscoError):
        query([copy], "SELECT * FROM refs, totals")
