"""Blame: shares add up exactly, whatever the values; mixtures are what they claim to be."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disco_trace import blame
from disco_trace.cli.main import main
from disco_trace.config import from_dict, resolve
from disco_trace.errors import DiscoError
from disco_trace.replay.engine import replay
from disco_trace.trace.run import Run
from tests.replay.runs import TINY, run_guest, spec_at


def subsets(names):
    return [
        frozenset(chosen)
        for size in range(len(names) + 1)
        for chosen in itertools.combinations(names, size)
    ]


@st.composite
def games(draw):
    names = list("abcd"[: draw(st.integers(1, 4))])
    value = st.integers(-(10**15), 10**15)
    return names, {chosen: draw(value) for chosen in subsets(names)}


@given(games())
def test_shares_add_up_and_are_the_mean_over_all_orders(game):
    names, values = game
    shares = blame.shapley(names, values)
    assert sum(shares.values()) == values[frozenset(names)] - values[frozenset()]
    exact = dict.fromkeys(names, Fraction(0))
    for order in itertools.permutations(names):
        done = frozenset()
        for name in order:
            exact[name] += values[done | {name}] - values[done]
            done |= {name}
    for name in names:
        assert abs(shares[name] - exact[name] / math.factorial(len(names))) < 1


@given(games())
def test_interactions_add_up(game):
    names, values = game
    parts = sum(blame.dividend(chosen, values) for chosen in subsets(names) if chosen)
    assert parts == values[frozenset(names)] - values[frozenset()]


@given(games(), st.integers(-1000, 1000))
def test_what_changes_nothing_is_charged_nothing_and_what_only_adds_its_own(game, own):
    names, values = game
    more = [*names, "z"]
    wider = {
        chosen: values[chosen - {"z"}] + (own if "z" in chosen else 0) for chosen in subsets(more)
    }
    # Rounding may give it one of what is left over, where the others' shares are no integers.
    assert abs(blame.shapley(more, wider)["z"] - own) <= 1
    assert all(blame.dividend(c, wider) == 0 for c in subsets(more) if "z" in c and len(c) > 1)


@pytest.mark.parametrize(
    ("text", "first", "second", "fails"),
    [
        ("cycles>+2%", 100, 102, False),
        ("cycles>+2%", 1000, 1021, True),
        ("cycles>=2%", 100, 102, True),
        ("cycles<-1%", 100, 98, True),
        ("cycles<-1%", 100, 99, False),
        ("cycles>0", 5, 6, True),
        ("cycles>0", 5, 5, False),
        ("cycles>10", 5, 15, False),
        ("cycles>50%", 0, 1, True),
        ("cycles>50%", 0, 0, False),
        ("cycles<-50%", 0, 7, False),
        (" cycles <= -0.5% ", 1000, 995, True),
    ],
)
def test_rules(text, first, second, fails):
    assert blame.parse_rule(text, {"cycles": 0}).fails(first, second) is fails


@pytest.mark.parametrize("text", ["cycles", "cycles=2", "cycles>2%%", "cycle>2", ">2", "cycles>x"])
def test_malformed_rules(text):
    with pytest.raises(DiscoError):
        blame.parse_rule(text, {"cycles": 0})


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, Path]:
    """Capture the same guest twice: elsewhere placed, and with other latencies."""
    folder = tmp_path_factory.mktemp("blame")
    one = spec_at(2, 2, time__feedback="none", placement__policy="first-touch")
    other = spec_at(2, 2, time__feedback="full", memory__remote_ns=1500)
    run_guest("radix", one, folder / "one", TINY["radix"])
    run_guest("radix", other, folder / "other", TINY["radix"])
    return folder / "one", folder / "other"


def captured(trace: Path) -> Run:
    return Run.open(trace / "runs" / "captured")


def test_a_run_beside_itself(two):
    run = captured(two[0])
    found = blame.blame(run, run)
    assert found == blame.Blame([], [], [])
    assert all(each.difference == 0 for each in blame.accounts_of(run, run))


def test_accounts_add_up_to_both_runs(two):
    one, other = map(captured, two)
    accounts = blame.accounts_of(one, other)
    for run, side in ((one, "first"), (other, "second")):
        measure = blame.measure_of(run)
        assert sum(getattr(a, side) for a in accounts) == measure.elapsed * len(run.per_cpu)
        busy = [getattr(a, side) for a in accounts if a.account != "idle"]
        assert sum(busy) == measure.busy
    assert {a.account for a in accounts} == {"guest", "hardware", "idle"}


def test_any_name_of_a_run_will_do(two):
    name = two[0] / "runs" / "it's mine"
    run = Run.open(replay(two[0], from_dict(captured(two[0]).spec), out=name).path)
    busy = [a.second for a in blame.accounts_of(captured(two[0]), run) if a.account != "idle"]
    assert sum(busy) == blame.measure_of(run).busy


def test_one_cause_is_charged_everything_and_needs_no_replay(two):
    base = from_dict(captured(two[0]).spec)
    spec = resolve(base=base, sets=["memory.local_ns=600"])
    other = Run.open(replay(two[0], spec).path)
    found = blame.blame(captured(two[0]), other)
    (cause,) = found.causes
    assert (cause.name, cause.paths) == ("caches and latencies", ("memory.local_ns",))
    assert cause.busy == other.totals["cycles"] - captured(two[0]).totals["cycles"] > 0
    assert found.replays == []


def test_mixtures_are_the_replays_that_they_claim(two):
    """Two causes on one trace without feedback: the mixtures are plain replays, and exact."""
    base = from_dict(captured(two[0]).spec)
    sets = ("memory.local_ns=600", "placement.policy=round-robin")
    runs = {
        chosen: Run.open(replay(two[0], resolve(base=base, sets=list(chosen))).path)
        for chosen in ((), sets[:1], sets[1:], sets)
    }
    found = blame.blame(runs[()], runs[sets])
    busy = {chosen: blame.measure_of(run).busy for chosen, run in runs.items()}
    by_name = {cause.name: cause for cause in found.causes}
    twice = (busy[sets[:1]] - busy[()]) + (busy[sets] - busy[sets[1:]])
    assert abs(2 * by_name["caches and latencies"].busy - twice) <= 1
    assert sum(cause.busy for cause in found.causes) == busy[sets] - busy[()]
    assert {cause.fidelity for cause in found.causes} == {"exact"}
    (both,) = found.interactions
    assert both.busy == busy[sets] - busy[sets[:1]] - busy[sets[1:]] + busy[()]
    assert set(found.replays) == {runs[sets[:1]].path, runs[sets[1:]].path}


CROWDED = {
    "monitor__kind": "disco",
    "vm__vcpus": 3,
    "monitor__slice_us": 300,
    "time__feedback": "none",
}


@pytest.fixture(scope="module")
def monitored(tmp_path_factory) -> Path:
    """A crowded machine's trace."""
    out = tmp_path_factory.mktemp("blame") / "monitored"
    run_guest("radix-sseg", spec_at(2, 2, **CROWDED), out, TINY["radix"])
    return out


def test_tlb_structure_is_a_cause_beside_prices(monitored):
    base = from_dict(captured(monitored).spec)
    other = Run.open(replay(monitored, resolve(base=base, costs="hardware-assist")).path)
    found = blame.blame(captured(monitored), other)
    by_name = {cause.name: cause for cause in found.causes}
    assert set(by_name) == {"prices", blame.TLB}
    assert by_name[blame.TLB].paths == ("costs.structure.tlb", "costs.structure.walk")
    assert by_name[blame.TLB].fidelity == "approximate"
    assert by_name["prices"].fidelity == "exact"
    assert by_name[blame.TLB].busy < 0
    one, two = blame.measure_of(captured(monitored)), blame.measure_of(other)
    assert sum(cause.busy for cause in found.causes) == two.busy - one.busy
    assert sum(cause.elapsed for cause in found.causes) == two.elapsed - one.elapsed


def test_tlb_structure_alone_is_charged_everything_and_called_approximate(monitored):
    base = from_dict(captured(monitored).spec)
    spec = resolve(base=base, sets=["costs.structure.tlb=tagged", "costs.structure.walk=software"])
    other = Run.open(replay(monitored, spec).path)
    (cause,) = blame.blame(captured(monitored), other).causes
    assert (cause.name, cause.paths) == (blame.TLB, ("costs.structure.tlb",))
    assert cause.fidelity == "approximate"


def test_tlb_structure_of_two_captures(monitored, tmp_path):
    """Theirs by capture, by table and by nothing: what they had is compared, not what was said."""
    sets = {"costs__structure__tlb": "tagged", "monitor__stlb_entries": 64}
    run_guest("radix-sseg", spec_at(2, 2, **CROWDED, **sets), tmp_path / "other", TINY["radix"])
    one, two = captured(monitored), captured(tmp_path / "other")
    found = blame.blame(one, two, runs=tmp_path / "runs")
    by_name = {cause.name: cause for cause in found.causes}
    assert set(by_name) == {blame.STREAM, blame.TLB}
    assert by_name[blame.TLB].paths == ("costs.structure.tlb", "costs.structure.software_tlb")
    first, second = blame.measure_of(one), blame.measure_of(two)
    assert sum(cause.busy for cause in found.causes) == second.busy - first.busy
    assert sum(cause.elapsed for cause in found.causes) == second.elapsed - first.elapsed


def test_two_captures_have_their_streams_as_a_cause(two, tmp_path):
    one, other = map(captured, two)
    found = blame.blame(one, other, runs=tmp_path)
    names = [cause.name for cause in found.causes]
    assert names == [blame.STREAM, "caches and latencies", "placement"]
    assert sum(c.busy for c in found.causes) == (
        blame.measure_of(other).busy - blame.measure_of(one).busy
    )
    assert sum(c.elapsed for c in found.causes) == (
        blame.measure_of(other).elapsed - blame.measure_of(one).elapsed
    )
    assert len(found.replays) == 2**3 - 2
    assert all(tmp_path in path.parents for path in found.replays)
    assert "time.feedback" in found.causes[0].paths
    assert {c.fidelity for c in found.causes[1:]} == {"no feedback"}


def test_the_verb(two, tmp_path, capsys):
    words = ["compare", str(two[0]), str(two[1]), "--runs", str(tmp_path / "runs")]
    page = tmp_path / "page.html"
    rules = ["--fail-on", "busy_cycles>-99%", "--fail-on", "instructions>+1000%"]
    assert main([*words, *rules, "-o", str(page), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["failed"] == ["busy_cycles>-99%"]
    assert answer["causes"][0]["name"] == blame.STREAM
    assert "What causes it" in page.read_text()
    assert main([*words, "--no-replays"]) == 0
    assert "hardware: local" in capsys.readouterr().out
    assert main([*words, "--fail-on", "busy_cycle>1"]) == 2
    assert "did you mean 'busy_cycles'" in capsys.readouterr().err


def test_metrics_that_only_one_run_has(two, monitored, capsys):
    for first, second in ((two[0], monitored), (monitored, two[0])):
        words = ["compare", str(first), str(second), "--no-replays", "--json"]
        assert main(words) == 0
        metrics = {each["metric"]: each for each in json.loads(capsys.readouterr().out)["metrics"]}
        pair = metrics["monitor_privileged_cycles"]
        assert sorted([pair["first"] > 0, pair["second"] > 0]) == [False, True]


def test_runs_that_cannot_be_mixed(two, tmp_path):
    run_guest("radix", spec_at(1, 1), tmp_path / "alone", TINY["radix"])
    with pytest.raises(DiscoError, match="different numbers of CPUs"):
        blame.blame(captured(two[0]), captured(tmp_path / "alone"))
    phased = Run.open(replay(two[0], from_dict(captured(two[0]).spec), phase="sort").path)
    with pytest.raises(DiscoError, match="different phases"):
        blame.blame(captured(two[0]), phased)
