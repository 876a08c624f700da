"""What reports draw of virtual machines: their virtual CPUs, their pages, the monitor's time."""

from __future__ import annotations

from collections import defaultdict

import pytest

from disco_trace.report.database import connect
from disco_trace.report.pages import read_page
from tests.capture.checkpoints import go_on
from tests.replay.runs import TINY, run_guest, spec_at


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Three machines of two virtual CPUs on two CPUs."""
    sets = {"monitor__kind": "disco", "vm__count": 3, "vm__vcpus": 2, "monitor__slice_us": 200}
    trace = tmp_path_factory.mktemp("crowd") / "crowd"
    run_guest("radix", spec_at(2, 2, **sets, machine__ram_bytes="8MiB"), trace, TINY["radix"])
    return trace


def drawn(page, title, *paths, phase=None):
    """Return the rows and the facts of a chart."""
    chart = next(chart for chart in read_page(page).charts if chart.title == title)
    with connect(paths, phase=phase) as database:
        facts = database.rows(chart.facts) if chart.facts else [{}]
        return database.rows(chart.query), facts[0]


def test_every_virtual_cpu_has_its_whole_time(crowd):
    rows, facts = drawn("monitor", "Virtual CPUs over CPUs", crowd)
    parts = defaultdict(dict)
    for row in rows:
        parts[row["name"]][row["state"]] = row["fraction"]
    assert list(parts) == [f"machine {m}, virtual CPU {v}" for m in range(3) for v in range(2)]
    for states in parts.values():
        assert sum(states.values()) == pytest.approx(1, abs=0.02)
        assert all(0 <= value <= 1 for value in states.values())
    on_cpus = sum(states["on a CPU"] for states in parts.values())
    assert 1.5 < on_cpus <= 2
    most = max(parts, key=lambda name: parts[name].get("ready in vain", 0))
    assert facts["stolen"] == pytest.approx(parts[most]["ready in vain"])
    machine, vcpu = (int(part.split()[-1]) for part in most.split(","))
    assert facts["name"] == f"Virtual CPU {vcpu} of machine {machine}"
    assert facts["switches"] > 10


def test_one_phase_alone_has_no_turns(crowd):
    """Decisions outside the phase are not seen, so nobody can say how long a turn was."""
    rows, _ = drawn("monitor", "Virtual CPUs over CPUs", crowd, phase="sort")
    assert rows == []


def test_a_trace_from_a_checkpoint_has_its_own_time(tmp_path):
    """Turns begin at the checkpoint's clock, with what ran there, and end where the trace does."""
    sets = {"monitor__kind": "disco", "vm__vcpus": 4, "monitor__slice_us": 200}
    spec = spec_at(2, 2, **sets, machine__ram_bytes="8MiB")
    whole = run_guest("radix", spec, tmp_path / "whole", TINY["radix"], save_at=2)
    # Cut off while virtual CPUs run, not by the machine's end.
    go_on(whole.checkpoint, tmp_path / "part", max_instructions=300_000)
    rows, _ = drawn("monitor", "Virtual CPUs over CPUs", tmp_path / "part")
    assert all(0 <= row["fraction"] <= 1 for row in rows)
    on_cpus = [row["fraction"] for row in rows if row["state"] == "on a CPU"]
    assert len(on_cpus) == 4
    assert sum(on_cpus) == pytest.approx(2, abs=0.05)


def test_events_of_pages_are_those_of_the_view(crowd):
    rows, facts = drawn("monitor", "Pages shared, lent and paged out", crowd)
    with connect([crowd]) as database:
        events = {
            (row["vm"], row["event"]): row["n"]
            for row in database.rows(
                "SELECT vm, event, count(*) AS n FROM page_events GROUP BY ALL"
            )
        }
    for row in rows:
        assert row["events"] == events[int(row["machine"].split()[1]), row["event"]]
    assert facts["shown"] == sum(row["events"] for row in rows if row["event"] == "map") > 30
    assert facts["broken"] == sum(row["events"] for row in rows if row["event"] == "break") > 0


@pytest.mark.parametrize("page", ["time", "monitor"])
def test_causes_add_up(crowd, page):
    rows, _ = drawn(page, "Monitor time by cause", crowd)
    assert len(rows) == 8
    assert rows[-1]["cause"] == "all others"
    with connect([crowd]) as database:
        whole = database.rows(
            "SELECT sum(cycles) AS n FROM time_breakdown WHERE component = 'monitor'"
        )
    assert sum(row["cycles"] for row in rows) == whole[0]["n"] > 0
