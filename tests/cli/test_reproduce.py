"""Experiments: cases are replayed and set beside published figures; names that are not there."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from disco_trace.cli.main import main
from disco_trace.cli.reproduce import KNOWN
from disco_trace.config import resolve
from disco_trace.errors import EXIT_INTERRUPTED, DiscoError
from disco_trace.experiments import captures, footprint, overhead, placement, scaling, services
from disco_trace.experiments.placement import (
    Case,
    Experiment,
    Moves,
    Published,
    Workload,
    read_experiment,
)
from disco_trace.requests import CaptureRequest, ExitReason
from disco_trace.trace.run import Run
from tests.experiments.test_services import SMALL as SERVICES

PUBLISHED = Published(
    total=67, local_percent=78, exec=30.4, local_stall=13.0, remote_stall=13.3, monitor=10.3
)
SMALL = Experiment(
    title="small",
    source="none",
    workloads=(
        Workload(
            name="small",
            guest="database",
            machine="flash4",
            args=("rows=8K", "rounds=2", "products=1K", "customers=1K"),
            sets=("placement.policy=first-touch", "memory.l2.size_bytes=64KiB"),
            moves=Moves(
                migrations_per_s=2461, migration_us=67, replications_per_s=2208, replication_us=57
            ),
            why_moves="A reason for moves.",
            cases=(
                Case(name="no policy"),
                Case(
                    name="eager",
                    sets=(
                        "placement.policy=migrate-replicate",
                        "placement.initial=first-touch",
                        "placement.trigger_misses=8",
                        "placement.sharing_misses=2",
                    ),
                    published=PUBLISHED,
                    why="A reason.",
                ),
                Case(name="UMA bound", near=True),
            ),
        ),
        Workload(
            name="small over Disco",
            guest="database-sseg",
            machine="flash4",
            args=("rows=2K", "rounds=1", "products=200", "customers=200"),
            phase="query",
            sets=(
                "monitor.kind=disco",
                "placement.policy=round-robin",
                "memory.l2.size_bytes=64KiB",
            ),
            cases=(
                Case(name="no policy"),
                Case(
                    name="migrate, live",
                    live=True,
                    sets=(
                        "placement.policy=migrate",
                        "placement.initial=round-robin",
                        "placement.trigger_misses=8",
                        "placement.sharing_misses=2",
                    ),
                ),
            ),
        ),
    ),
)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    code = main(["reproduce", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_cases_beside_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(placement, "read_experiment", lambda name: SMALL)
    code, answer = run(capsys, "fig8", "--traces", str(tmp_path))
    assert code == 0
    base, eager, bound, still, live = answer["outcomes"]
    assert base["total"] == pytest.approx(100)
    for each in answer["outcomes"]:
        assert sum(each["parts"].values()) == pytest.approx(each["total"])
    assert base["parts"]["monitor"] == 0
    assert base["moves"]["migrations_per_s"] == 0
    # A move is charged 67 or 57 microseconds and the interruption of three other CPUs.
    moves = eager["moves"]
    assert moves["migrations_per_s"] + moves["replications_per_s"] > 0
    assert eager["parts"]["monitor"] > 0
    assert bound["local_percent"] == 100
    assert bound["parts"]["remote_stall"] == 0
    assert bound["parts"]["local_stall"] > base["parts"]["local_stall"]
    # What is live was captured under its policy; the monitor's part holds its moves and no traps.
    assert still["parts"]["monitor"] == 0
    assert still["parts"]["exec"] > 0
    assert live["parts"]["monitor"] > 0
    captured = Run.open(Path(live["run"]))
    assert captured.totals["migrations"] > 0
    assert captured.spec["placement"]["policy"] == "migrate"
    assert (
        Path(live["run"]).parent.parent.name == "reproduce-database-sseg-disco1-4cpu-migrate-live"
    )
    page = (tmp_path / "fig8.html").read_text()
    assert "eager, published" in page
    assert "A reason." in page

    # The same captures serve the other table; an existing page is not overwritten.
    code, answer = run(capsys, "table3", "--traces", str(tmp_path))
    assert code == 0
    assert "A reason for moves." in (tmp_path / "table3.html").read_text()
    code, answer = run(capsys, "table3", "--traces", str(tmp_path))
    assert code == 2
    assert "exists" in answer["error"]["message"]


def test_a_trace_of_another_guest_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "reproduce-database-4cpu"
    assert main(["capture", "hello", "-o", str(place), "--quiet"]) == 0
    capsys.readouterr()
    before = (place / "manifest.json").read_bytes()
    monkeypatch.setattr(placement, "read_experiment", lambda name: SMALL)
    code, answer = run(capsys, "fig8", "--traces", str(tmp_path))
    assert code == 2
    assert answer["error"]["found"] == "hello"
    assert (place / "manifest.json").read_bytes() == before


def test_what_is_damaged_can_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reproduce-database-4cpu").mkdir()
    monkeypatch.setattr(placement, "read_experiment", lambda name: SMALL)
    code, answer = run(capsys, "fig8", "--traces", str(tmp_path))
    assert code == 2
    assert "delete" in answer["error"]["hint"]


def test_a_trace_of_an_older_image_is_made_again(tmp_path: Path) -> None:
    spec = resolve(machine="uniprocessor", sets=("machine.ram_bytes=16MiB",))
    path, reused = captures.capture_once("hello", (), spec, tmp_path)
    assert not reused
    assert captures.capture_once("hello", (), spec, tmp_path) == (path, True)
    manifest = path / "manifest.json"
    document = json.loads(manifest.read_text())
    document["guest"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(document))
    assert captures.capture_once("hello", (), spec, tmp_path) == (path, False)
    assert json.loads(manifest.read_text())["guest"]["sha256"] != "0" * 64


def test_a_trace_of_an_older_disk_is_made_again(tmp_path: Path) -> None:
    spec = resolve(machine="uniprocessor", sets=("machine.ram_bytes=16MiB",))
    args = ("rounds=1", "os.cache=64")
    path, _ = captures.capture_once("files", args, spec, tmp_path)
    assert captures.capture_once("files", args, spec, tmp_path) == (path, True)
    manifest = path / "manifest.json"
    document = json.loads(manifest.read_text())
    document["guest"]["disks"][0]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(document))
    assert captures.capture_once("files", args, spec, tmp_path) == (path, False)
    (path / "runs" / "captured" / "run.json").unlink()
    assert captures.capture_once("files", args, spec, tmp_path) == (path, False)


SORT = ("keys=4K", "bits=6")
TINY = overhead.Overhead(
    title="tiny",
    source="none",
    absent="Nothing else.",
    workloads=(
        overhead.Workload(
            name="sort",
            bare="radix",
            disco="radix-sseg",
            machine="uniprocessor",
            args=("keys=4K",),
            published=overhead.Pair(
                bare=overhead.Parts(user=90, kernel=10, idle=0),
                disco=overhead.Parts(user=90, kernel=3, idle=0, monitor=22),
                total=116,
            ),
            why="A reason.",
        ),
    ),
)


def test_overhead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parts add up to the clocks of both captures, causes to the monitor's part."""
    monkeypatch.setattr(overhead, "read_overhead", lambda name: TINY)
    code, answer = run(capsys, "fig5", "--traces", str(tmp_path))
    assert code == 0
    (found,) = answer["outcomes"]
    bare, disco = (Run.open(Path(each) / "runs" / "captured") for each in found["traces"])
    assert sum(found["bare"].values()) == pytest.approx(100)
    assert found["bare"]["monitor"] == 0
    percent = 100 / bare.totals["cycles"]
    assert sum(found["disco"].values()) == pytest.approx(disco.totals["cycles"] * percent)
    monitor = disco.totals["monitor_cycles"] * percent
    assert found["disco"]["monitor"] == pytest.approx(monitor)
    assert sum(cause["percent"] for cause in found["causes"]) == pytest.approx(monitor)
    assert sum(cause["entries"] for cause in found["causes"]) == disco.totals["traps"]
    assert found["user_instructions"][0] == found["user_instructions"][1] > 0
    assert found["same_by_process"]
    page = (tmp_path / "fig5.html").read_text()
    for text in ("116 published", "A reason.", "Nothing else.", "tlb_write"):
        assert text in page


def test_footprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One machine and two, in the table, in the JSON and on the page."""
    parts = footprint.Parts(text=13.1, data=13.9, cache=45.7, monitor=4.6)
    totals = footprint.Totals(virtual=77, machine=38)
    cases = tuple(
        footprint.Case(f"{count} VM", count, totals, virtual_parts=parts, machine_parts=parts)
        for count in (1, 2)
    )
    tiny = footprint.Footprint(
        title="tiny", source="none", guest="files", machine="flash4", cases=cases,
        args=("rounds=1",), sets=("machine.ram_bytes=16MiB",), why=("A reason.",),
    )  # fmt: skip
    monkeypatch.setattr(footprint, "read_footprint", lambda name: tiny)
    code, answer = run(capsys, "fig6", "--traces", str(tmp_path))
    assert code == 0
    one, two = answer["outcomes"]
    assert two["virtual"]["cache"] == 2 * one["virtual"]["cache"]
    assert two["machine"]["monitor"] == sum(two["tables"].values())
    page = (tmp_path / "fig6.html").read_text()
    for text in ("A reason.", "51% published", "memmap", "2 VM: machine"):
        assert text in page


def test_scaling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bars add up to the clocks of all CPUs; cases of one guest have traces of their own."""
    disco = ("monitor.kind=disco",)
    tiny = scaling.Scaling(
        title="tiny",
        source="none",
        workloads=(
            scaling.Workload(
                name="sort",
                machine="flash4",
                theirs="something else",
                sets=("machine.ram_bytes=16MiB",),
                why=("A reason.",),
                cases=(
                    scaling.Case("bare", "radix", SORT, published=100),
                    scaling.Case("near", "radix", SORT, ("placement.policy=first-touch",)),
                    scaling.Case("one", "radix-sseg", SORT, disco, published=34),
                    scaling.Case("two", "radix-sseg", SORT, (*disco, "vm.count=2")),
                ),
            ),
        ),
    )
    monkeypatch.setattr(scaling, "read_scaling", lambda name: tiny)
    code, answer = run(capsys, "fig7", "--traces", str(tmp_path))
    assert code == 0
    assert len(set(answer["traces"])) == 4
    runs = [Run.open(Path(each) / "runs" / "captured") for each in answer["traces"]]
    for found, each in zip(answer["outcomes"], runs, strict=True):
        percent = 100 * each.totals["cycles"] / runs[0].totals["cycles"]
        assert sum(found["parts"].values()) == pytest.approx(percent)
        assert (found["parts"]["monitor"] > 0) == (found["case"] in ("one", "two"))
        assert found["milliseconds"] == pytest.approx(each.totals["elapsed_cycles"] / 300e3)
    assert answer["outcomes"][1]["local_percent"] > answer["outcomes"][0]["local_percent"]
    page = (tmp_path / "fig7.html").read_text()
    for text in ("A reason.", "something else", "two"):
        assert text in page


def test_the_description_of_scaling() -> None:
    for workload in scaling.read_scaling("fig7").workloads:
        assert workload.cases[0].published == 100
        assert workload.why


def test_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows, prices and predictions stand in the JSON and on the page."""
    monkeypatch.setattr(services, "read_services", lambda name: SERVICES)
    code, answer = run(capsys, "table2", "--traces", str(tmp_path))
    assert code == 0
    assert {price["name"] for price in answer["prices"]} >= {"privileged_us", "tlb_write_us"}
    assert [row["held_out"] for row in answer["outcomes"]].count(True) == 1
    page = (tmp_path / "table2.html").read_text()
    for text in ("A reason.", "WRITE (held out)", "privileged_us", "quick_fault: published"):
        assert text in page


def test_every_experiment_is_offered() -> None:
    parts = footprint, overhead, placement, scaling, services
    assert set(KNOWN) == {name for part in parts for name in part.EXPERIMENTS}


def test_the_description_of_overhead() -> None:
    """Published parts add up to what is printed, to the accuracy of reading a figure."""
    for workload in overhead.read_overhead("fig5").workloads:
        assert workload.published.bare.total == pytest.approx(100, abs=0.1)
        assert workload.published.disco.total == pytest.approx(workload.published.total, abs=0.5)
        assert workload.why


@pytest.mark.parametrize("name", ["fig4", "fig9"])
def test_unknown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = run(capsys, name)
    assert code == 2
    assert "fig8" in answer["error"]["expected"]


@pytest.mark.parametrize("name", sorted(placement.EXPERIMENTS))
def test_descriptions(name: str) -> None:
    experiment = read_experiment(name)
    for workload in experiment.workloads:
        first = workload.cases[0]
        assert first.published is not None
        assert first.published.total == 100
        assert not first.sets
        for case in workload.cases:
            if case.published is not None:
                parts = case.published
                known = parts.exec + parts.local_stall + parts.remote_stall + parts.monitor
                assert known == pytest.approx(parts.total, abs=0.5)


def test_an_interrupted_experiment_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its guest has not failed."""

    def interrupted(request: CaptureRequest) -> SimpleNamespace:
        return SimpleNamespace(exit_reason=ExitReason.INTERRUPTED, succeeded=False)

    monkeypatch.setattr("disco_trace.capture.capture", interrupted)
    with pytest.raises(DiscoError, match="interrupted") as raised:
        captures.capture_now(tmp_path / "t", "hello", (), resolve(), whose="ours")
    assert raised.value.exit_code == EXIT_INTERRUPTED
