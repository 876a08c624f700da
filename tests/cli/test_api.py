"""The Python API over a trace and runs whose numbers were chosen by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import disco_trace
from tests.report.small import write_run, write_trace

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "small"
    write_trace(path)
    accounts = {
        (0, 0, "instructions"): 70,
        (0, 0, "work_cycles"): 80,
        (0, 0, "local_misses"): 3,
        (1, 0, "remote_misses"): 2,
        (1, 0, "remote_stall_cycles"): 540,
    }
    write_run(path / "runs" / "captured", accounts=accounts)
    return path


def test_open_tells_a_trace_from_a_run(small: Path) -> None:
    trace = disco_trace.open(small)
    assert isinstance(trace, disco_trace.Trace)
    assert isinstance(disco_trace.open(small / "runs" / "captured"), disco_trace.Run)
    with pytest.raises(disco_trace.DiscoError):
        disco_trace.open(small / "runs")


def test_a_trace_has_its_totals_specification_and_runs(small: Path) -> None:
    trace = disco_trace.Trace(small)
    assert trace.totals["local_misses"] == 3
    assert trace.totals["remote_misses"] == 2
    assert trace.spec.machine.cpus == 2
    assert [run.path.name for run in trace.runs] == ["captured"]
    # CPU 0 worked 80 cycles, CPU 1 stalled 540.
    assert [cpu["cycles"] for cpu in trace.captured.per_cpu] == [80, 540]


def test_sql_returns_a_frame(small: Path) -> None:
    frame = disco_trace.Trace(small).sql(
        "SELECT metric, sum(value) AS n FROM totals WHERE metric = 'instructions' GROUP BY ALL"
    )
    assert frame["n"].to_list() == [70]


@pytest.mark.parametrize("query", re.findall(r"```sql\n(.*?)```", README, re.DOTALL))
def test_the_questions_of_the_readme_are_answered(query: str, small: Path) -> None:
    assert disco_trace.Trace(small).sql(query).width >= 3


def test_notebooks_show_a_table(small: Path) -> None:
    text = disco_trace.Trace(small)._repr_html_()
    assert "<th>remote misses</th>" in text
    assert "<td>captured</td>" in text
    # Cycles of both CPUs: 80 + 540.
    assert ">620<" in disco_trace.Trace(small).captured._repr_html_()


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = disco_trace.nonsense
    assert {"open", "Trace", "Run", "DiscoError"} <= set(dir(disco_trace))
