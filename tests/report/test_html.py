"""Test the report: its pages and numbers, and that nothing in it can break or leave the file."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from disco_trace.errors import DiscoError
from disco_trace.report import text
from disco_trace.report.bundle import vega_bundle
from disco_trace.report.charts import facets, vega_spec
from disco_trace.report.database import connect
from disco_trace.report.html import CHART_ROWS, Section, build_sections, write_report
from disco_trace.report.pages import PAGE_NAMES, Channel, Chart, parse_page, read_page
from tests.report.small import event, write_run, write_trace

EVIL = "</script><script>alert('x')</script>&\"<b>"


@pytest.fixture(scope="module")
def sections(trace: Path) -> dict[str, Section]:
    with connect([trace]) as database:
        return {section.name: section for section in build_sections(database)}


@pytest.fixture(scope="module")
def page(trace: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("report") / "small.html"
    write_report([trace], target)
    assert [f.name for f in target.parent.iterdir()] == ["small.html"]
    return target.read_text(encoding="utf-8")


def specs(html: str) -> list[dict]:
    found = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    return [json.loads(spec) for spec in found]


def test_every_page_with_rows_is_shown(sections: dict[str, Section]) -> None:
    assert list(sections) == list(PAGE_NAMES)


def test_every_chart_has_a_sentence_and_its_query(sections: dict[str, Section]) -> None:
    figures = [figure for section in sections.values() for figure in section.figures]
    assert len(figures) > 15
    for figure in figures:
        assert figure.sentence.rstrip().endswith((".", ").")), figure.title
        assert "–" not in figure.sentence, figure.sentence
        assert "SELECT" in figure.query


def figure(sections: dict[str, Section], page: str, title: str):  # type: ignore[no-untyped-def]
    return next(f for f in sections[page].figures if f.title == title)


def test_numbers_of_the_overview(sections: dict[str, Section]) -> None:
    compared = figure(sections, "overview", "Runs compared")
    cells = [[cell.text for cell in row] for row in compared.rows]
    # Busy: 200 - 2 idle and 80 + 50 cycles at 300 MHz. Elapsed: the largest clock, 100 and 80.
    assert cells == [
        ["captured (guest)", "0.00066", "0.0 %", "0.000333", "1.00×",
         "57.1 %", "0", "4.0 %", "exact"],
        ["migrate", "0.000433", "34.3 %", "0.000267", "1.25×", "–", "0", "0.0 %", "no feedback"],
    ]  # fmt: skip
    assert "Least busy is migrate: its CPUs work and stall 34.3 % less" in compared.sentence
    cycles = figure(sections, "overview", "Where the cycles went")
    assert "the largest part is “kernel”, 47.5 %" in cycles.sentence
    assert "10.0 % are stalls for memory beyond the own node" in cycles.sentence


def test_numbers_of_the_misses(sections: dict[str, Section]) -> None:
    table = figure(sections, "misses", "By process and mode")
    assert [cell.text for cell in table.rows[0]] == [
        "captured (guest)", "sorter", "user", "2", "0.0 %", "600", "300", "87.0 %",
    ]  # fmt: skip


def test_nothing_comes_from_elsewhere(page: str) -> None:
    own = page.replace(vega_bundle(), "")
    assert "default-src 'none'" in own
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", own)
    assert "http" not in re.sub(r"http-equiv", "", own)
    assert page.count(vega_bundle()) == 1


def test_the_html_is_well_formed(page: str) -> None:
    open_tags: list[str] = []
    empty = {"meta", "link", "br", "img", "hr", "input"}

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list) -> None:
            if tag not in empty:
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Parser().feed(page)
    assert open_tags == []


def test_every_drawing_is_valid_vega_lite(page: str) -> None:
    import altair as alt
    import vl_convert

    drawings = specs(page)
    assert len(drawings) >= 10
    for spec in drawings:
        alt.Chart.from_dict(spec)  # validates against the schema
        assert 0 < len(spec["data"]["values"]) <= CHART_ROWS
        assert "<svg" in vl_convert.vegalite_to_svg({**spec, "width": 600})


def test_hostile_names_stay_texts(tmp_path: Path) -> None:
    path = write_trace(
        tmp_path / "evil",
        phases={1: EVIL},
        process_names=[EVIL],
        events=[event("contexts", id=0, asid=1, phase=1), event("processes", asid=1, name=0)],
        symbols=[(0, -1, EVIL, EVIL, 0x80001000, 0x100, "func")],
        refs=[{"pc": 0x80001000, "vaddr": 0x80001000, "guest_page": 1}],
    )
    write_run(
        path / "runs" / "captured",
        accounts={(0, 0, "work_cycles"): 5},
        heat=[{"guest_page": 1, "local": 3}],
        misses=[{"seq": 2, "pc": 0x80001000, "vaddr": 0x80001000, "stall_cycles": 9}],
    )
    target = tmp_path / "evil.html"
    write_report([path], target, phase=EVIL)
    html = target.read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "<b>" not in html.replace(vega_bundle(), "")
    assert any(EVIL in json.dumps(spec, ensure_ascii=False).replace('\\"', '"')
               for spec in specs(html))  # fmt: skip


def test_the_same_trace_gives_the_same_bytes(trace: Path, page: str, tmp_path: Path) -> None:
    write_report([trace], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_a_phase_is_named_and_charts_without_one_say_so(trace: Path, tmp_path: Path) -> None:
    target = tmp_path / "phase.html"
    write_report([trace], target, phase="sort")
    html = target.read_text(encoding="utf-8")
    assert "Only the phase <strong>sort</strong>" in html
    assert "these rows belong to no phase" in html


def test_one_run_is_enough(trace: Path, tmp_path: Path) -> None:
    pages = write_report([trace / "runs" / "migrate-0000abcd"], tmp_path / "one.html")
    assert pages == ["overview", "time", "tlb", "monitor", "provenance"]
    assert "There is one run only" in (tmp_path / "one.html").read_text(encoding="utf-8")


def test_two_runs_have_a_difference(trace: Path, tmp_path: Path) -> None:
    assert "blame" in write_report([trace], tmp_path / "two.html")
    with connect([trace]) as database:
        (found,) = database.rows(
            "SELECT sum(difference) AS difference, any_value(first) AS first FROM _differences"
        )
        cycles = {
            row["run"]: row["cycles"]
            for row in database.rows(
                "SELECT run, sum(cycles) AS cycles FROM time_breakdown GROUP BY run"
            )
        }
    first, other = cycles["captured"], cycles["migrate-0000abcd"]
    assert found["difference"] == int(other) - int(first) != 0
    assert found["first"].startswith("captured")


def test_a_trace_without_runs_shows_what_it_is(tmp_path: Path) -> None:
    path = write_trace(tmp_path / "bare")
    assert write_report([path], tmp_path / "bare.html") == ["provenance"]
    with pytest.raises(DiscoError, match=r"'misses' has nothing to show .*rows in misses"):
        write_report([path], tmp_path / "bare.html", pages=["misses"])


def test_two_traces_in_one_report(trace: Path, tmp_path: Path) -> None:
    other = write_trace(tmp_path / "other", events=[event("contexts", id=0)])
    write_run(other / "runs" / "captured", accounts={(0, 0, "work_cycles"): 7})
    write_report([trace, other], tmp_path / "two.html")
    html = (tmp_path / "two.html").read_text(encoding="utf-8")
    assert "other: captured (guest)" in html
    assert "small: migrate" in html


def test_unknown_pages_are_refused_before_anything_is_written(trace: Path, tmp_path: Path) -> None:
    with pytest.raises(DiscoError, match="expected one of overview"):
        write_report([trace], tmp_path / "x.html", pages=["overvew"])
    assert list(tmp_path.iterdir()) == []


def test_a_chart_is_cut_at_its_limit(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from disco_trace.report import html

    monkeypatch.setattr(html, "CHART_ROWS", 3)
    with connect([trace]) as database:
        figures = build_sections(database, ["time"])[0].figures
    assert figures[0].notes == ["The first 3 rows; the query gives more."]
    assert sum(len(json.loads(str(s))["data"]["values"]) for _, s in figures[0].drawings) == 3


def test_a_page_that_does_not_fit_is_our_bug(tmp_path: Path) -> None:
    file = tmp_path / "page.toml"
    file.write_text(
        'title = "t"\nneeds = []\nlead = ""\n'
        '[[charts]]\ntitle = "c"\nkind = "line"\nquery = "x"\nsentence = ""\n'
    )
    with pytest.raises(DiscoError, match="lacks color, x, y") as raised:
        parse_page(file)
    assert raised.value.exit_code == 70


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_pages_show_views_in_needs(name: str) -> None:
    assert read_page(name).needs


STACKED = Chart(
    "t", "stacked-bar", "q", "s",
    x=Channel("n"), y=Channel("y"), color=Channel("c"), facet=Channel("f"), palette="sources",
)  # fmt: skip


def test_stacks_follow_the_palette_and_facets_share_a_scale() -> None:
    rows = [
        {"f": "b", "y": "1", "c": "dirty", "n": 1},
        {"f": "b", "y": "1", "c": "local", "n": 2},
        {"f": "a", "y": "1", "c": "remote", "n": 9},
    ]
    assert [name for name, _ in facets(STACKED, rows)] == ["b", "a"]
    spec = vega_spec(STACKED, rows[:2], rows)
    assert spec["encoding"]["color"]["scale"]["domain"] == ["local", "remote", "dirty"]
    assert spec["encoding"]["x"]["scale"]["domainMax"] == 9
    assert len(spec["data"]["values"]) == 2


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (text.integer, 1234567, "1,234,567"),
        (text.integer, None, "–"),
        (text.percent, 0.1234, "12.3 %"),
        (text.ratio, 1.324, "1.32×"),
        (text.decimal, 12345.6, "12,346"),
        (text.decimal, 123.45, "123.5"),
        (text.decimal, 300.0, "300"),
        (text.decimal, 0.00033333, "0.000333"),
        (text.decimal, 0, "0"),
        (text.plain, "", "–"),
        (text.short_hash, "0123456789abcdef", "0123456789ab"),
    ],
)
def test_numbers_for_people(function, value, expected: str) -> None:  # type: ignore[no-untyped-def]
    assert function(value) == expected


def test_the_bundle_is_kept_and_a_damaged_one_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = vega_bundle()
    (kept,) = (tmp_path / "disco-trace").iterdir()
    kept.write_text("// sha256 wrong\nalert(1)", encoding="utf-8")
    assert vega_bundle() == script
    assert kept.read_text(encoding="utf-8").endswith(script)


def test_a_run_is_labelled_by_what_it_changes() -> None:
    from disco_trace.report.register import _changes

    captured = {"placement": {"policy": "guest", "retouch_phase": 0}, "memory": {"remote_ns": 900}}
    assert _changes(captured, captured) == ""
    other = {"placement": {"policy": "first-touch", "retouch_phase": 3}, "memory": {}}
    assert _changes(other, captured) == "retouch_phase=3"
    before = {"x": dict.fromkeys("abcde", 1)}
    assert _changes({"x": dict.fromkeys("abcde", 2)}, before) == "a=2, b=2, c=2, 2 more"
