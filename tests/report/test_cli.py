"""Test the verbs sql and report: forms of rows, refusals, the prompt on a terminal."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from disco_trace.cli.main import main

QUERY = "SELECT seq, symbol, pc, work_cycles FROM refs ORDER BY seq"
ROWS = [
    (18, "boot", 0x80001008, 3),
    (19, "idle_loop", 0x80001050, 0),
    (20, "main", 0x00400040, 0),
    (21, "0x00409000", 0x00409000, 2),
    (22, "clock", 0x80002004, 0),
]
Capture = pytest.CaptureFixture[str]


def test_a_table_for_people(trace: Path, capsys: Capture) -> None:
    assert main(["sql", str(trace), "-q", QUERY]) == 0
    out = capsys.readouterr().out
    assert "0x80001050" in out
    assert len([line for line in out.splitlines() if "0x" in line]) == 5


def test_csv(trace: Path, capsys: Capture) -> None:
    assert main(["sql", str(trace), "-q", QUERY, "--format", "csv"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["seq", "symbol", "pc", "work_cycles"]
    assert [(int(a), b, int(c), int(d)) for a, b, c, d in rows[1:]] == ROWS


def test_json_rows_are_a_bare_array(trace: Path, capsys: Capture) -> None:
    assert main(["sql", str(trace), "-q", QUERY, "--format", "json"]) == 0
    assert [tuple(row.values()) for row in json.loads(capsys.readouterr().out)] == ROWS
    assert main(["sql", str(trace), "-q", f"FROM ({QUERY}) WHERE false", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_json_object(trace: Path, capsys: Capture) -> None:
    query = "SELECT sum(value) AS v, avg(cpu) AS a, NULL AS n, 'x' AS t FROM totals"
    assert main(["sql", str(trace), "-q", query, "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["schema"] == "disco-trace/sql@1"
    assert body["ok"] is True
    assert body["columns"] == ["v", "a", "n", "t"]
    assert isinstance(body["rows"][0][0], int)
    assert body["rows"][0][2:] == [None, "x"]


def test_parquet_and_files(trace: Path, tmp_path: Path, capsys: Capture) -> None:
    for form in ("parquet", "csv", "json", "table"):
        file = tmp_path / f"rows.{form}"
        words = ["sql", str(trace), "-q", QUERY, "--format", form, "-o", str(file)]
        assert main(words) == 0
        assert main(words) == 2
        assert "exists already" in capsys.readouterr().err
        assert main([*words, "--force"]) == 0
    table = pq.read_table(tmp_path / "rows.parquet")
    assert [tuple(row.values()) for row in table.to_pylist()] == ROWS
    assert len(list(tmp_path.iterdir())) == 4


def test_a_failing_query_leaves_the_old_file(trace: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("old")
    query = "SELECT CASE WHEN i = 900000 THEN error('boo') END FROM range(1000000) t(i)"
    words = ["sql", str(trace), "-q", query, "--format", "csv", "-o", str(file), "--force"]
    assert main(words) == 2
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_nothing_is_written_into_a_trace(trace: Path, capsys: Capture) -> None:
    inside = trace / "refs" / "part-00000.parquet"
    before = inside.read_bytes()
    words = [str(trace), "-o", str(inside), "--force"]
    assert main(["sql", *words, "-q", QUERY, "--format", "parquet"]) == 2
    assert main(["report", *words]) == 2
    assert capsys.readouterr().err.count("inside") == 2
    assert inside.read_bytes() == before


def test_a_long_table_says_that_it_ends(trace: Path, capsys: Capture) -> None:
    assert main(["sql", str(trace), "-q", "SELECT * FROM range(1000)"]) == 0
    captured = capsys.readouterr()
    assert "first 200 rows" in captured.err
    assert main(["sql", str(trace), "-q", "SELECT * FROM range(200)"]) == 0
    assert capsys.readouterr().err == ""


def test_query_from_a_file_and_from_standard_input(
    trace: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "q.sql"
    file.write_text("-- why\nSELECT count(*) AS n FROM refs;\n")
    assert main(["sql", str(trace), "-f", str(file), "--format", "csv"]) == 0
    assert capsys.readouterr().out == "n\n5\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT 7 AS n"))
    assert main(["sql", str(trace), "--format", "csv"]) == 0
    assert capsys.readouterr().out == "n\n7\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-q", "SELECT 1", "--json", "--format", "csv"], "--json or --format"),
        (["-q", "SELECT 1", "--list"], "one question at a time"),
        (["-q", "SELECT 1", "-f", "x.sql"], "one question at a time"),
        (["-f", "no-such-file.sql"], "no-such-file.sql"),
        (["--describe", "mises"], "did you mean 'misses'"),
        (["--list", "--format", "csv"], "--list or --describe alone"),
        (["-q", "  "], "no query"),
        (["-q", "SELECT 1", "--json", "-o", "x"], "--format json with -o"),
        (["-q", "SELECT 1", "--phase", "sotr"], "expected one of"),
        (["-q", "SELECT nothing"], "nothing"),
        (["-q", "DROP VIEW runs"], "read-only"),
    ],
)
def test_mistakes_are_one_line(trace: Path, capsys: Capture, words: list[str], said: str) -> None:
    assert main(["sql", str(trace), *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) <= 2


def test_a_query_in_place_of_a_path_is_told_of_its_option(trace: Path, capsys: Capture) -> None:
    assert main(["sql", str(trace), "SELECT 1"]) == 2
    assert "hint: a query comes after -q" in capsys.readouterr().err
    assert main(["sql", str(trace), "selected"]) == 2
    assert "hint" not in capsys.readouterr().err


def test_values_that_json_lacks_are_readable_text(trace: Path, capsys: Capture) -> None:
    query = "SELECT 'ab'::BLOB AS b, INTERVAL '1 month 3 days 2.5 s' AS i, 'nan'::DOUBLE AS n"
    assert main(["sql", str(trace), "-q", query, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == [["6162", "1 months 3 days 2.5 s", None]]


def test_errors_in_json(trace: Path, capsys: Capture) -> None:
    assert main(["sql", str(trace), "-q", "SELECT polcy FROM runs", "--json"]) == 2
    body = json.loads(capsys.readouterr().out)
    assert body["ok"] is False
    assert "polcy" in body["error"]["message"]
    assert "policy" in body["error"]["hint"]


def test_list_and_describe(trace: Path, capsys: Capture) -> None:
    assert main(["sql", str(trace), "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 17
    assert main(["sql", str(trace), "--describe", "misses", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["view"] == "misses"
    assert [c["name"] for c in body["columns"]][:3] == ["trace", "run", "seq"]


def test_report(trace: Path, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "r.html"
    words = ["report", str(trace), "-o", str(file), "--page", "overview", "--page", "time"]
    assert main(words) == 0
    assert "next: " in capsys.readouterr().out
    first = file.read_text(encoding="utf-8")
    assert main([*words, "--json"]) == 2
    assert "exists already" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert file.read_text(encoding="utf-8") == first
    assert main([*words, "--force", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["path"] == str(file)
    assert body["pages"] == ["overview", "time"]
    assert main(["report", str(trace), "-o", str(tmp_path / "s.html"), "--page", "nix"]) == 2
    assert main(["report", str(tmp_path / "none")]) == 2


def test_a_report_goes_beside_its_trace(trace: Path, capsys: Capture) -> None:
    target = trace.with_name("small.html")
    for path in (trace, trace / "runs" / "captured"):
        assert main(["report", str(path), "--page", "provenance"]) == 0
        assert target.exists()
        target.unlink()
    assert sorted(f.name for f in (trace / "runs").iterdir()) == ["captured", "migrate-0000abcd"]


def test_the_prompt(trace: Path, tmp_path: Path) -> None:
    """Type at a real terminal: a query over two lines, a mistake, a command, the end."""
    master, slave = pty.openpty()
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "dumb"}
    process = subprocess.Popen(
        [sys.executable, "-m", "disco_trace", "sql", str(trace), "--format", "csv"],
        stdin=slave, stdout=slave, stderr=slave, env=environment, close_fds=True,
    )  # fmt: skip
    os.close(slave)
    said = ""

    def wait_for(text: str) -> None:
        nonlocal said
        end = time.monotonic() + 60
        while text not in said:
            assert time.monotonic() < end, said
            if select.select([master], [], [], 1)[0]:
                said += os.read(master, 4096).decode()
        said = said.partition(text)[2]

    for typed, answer in [
        ("SELECT count(*) * 1000\n", "...> "),
        ("AS n FROM refs;\n", "5000"),
        ("SELECT nix;\n", "error: SQL"),
        (".describe runs\n", "fingerprint"),
        (".bogus\n", "no command"),
    ]:
        if answer != "5000":  # the second line of a query has its prompt already
            wait_for("sql> ")
        os.write(master, typed.encode())
        wait_for(answer)
    wait_for("sql> ")
    os.write(master, b"\x04")
    assert process.wait(30) == 0
    os.close(master)
    history = (tmp_path / "disco-trace" / "sql_history").read_text()
    assert "AS n FROM refs;" in history
