"""Cost tables over a monitored trace: each row of `traps` costs what its table says, no more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from disco_trace.config import Spec, from_dict, resolve
from disco_trace.costs.prices import TRAP_CAUSES
from disco_trace.replay.engine import replay
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.schema import MONITOR_CAUSES
from tests.replay.runs import TINY, assert_same, captured, replayed, run_guest, spec_at

# Cycles at 300 MHz, worked out by hand from capture/costs/*.toml: those of a cause, of a zeroed
# page, of an interrupted CPU.
TABLES = {
    "disco": (
        {
            "privileged": 150, "tlb_write": 450, "tlb_fault": 14, "kseg0": 14, "forward": 150,
            "interrupt": 300, "monitor_call": 300, "emulate_load": 210, "emulate_store": 210,
            "ipi": 450, "schedule": 600,
        },
        3000,
        300,
    ),
    "hardware-assist": (
        {
            "tlb_fault": 80, "kseg0": 20, "interrupt": 1000, "monitor_call": 1000,
            "emulate_load": 1000, "emulate_store": 1000, "ipi": 1000, "schedule": 1000,
        },
        3000,
        1000,
    ),
    "exokernel": (
        {
            "tlb_write": 75, "tlb_fault": 18, "kseg0": 18, "forward": 18, "interrupt": 18,
            "monitor_call": 40, "emulate_load": 40, "emulate_store": 40, "ipi": 30,
            "schedule": 30,
        },
        3000,
        18,
    ),
    "native": ({}, 0, 0),
}  # fmt: skip


@pytest.fixture(scope="module")
def trace(tmp_path_factory) -> Path:
    """A crowded machine's trace, where every cause but the assist's own occurs."""
    out = tmp_path_factory.mktemp("costs") / "t"
    spec = spec_at(2, 2, monitor__kind="disco", machine__ram_bytes="16MiB", vm__vcpus=3,
                   monitor__slice_us=300, time__feedback="none")  # fmt: skip
    run_guest("radix-sseg", spec, out, TINY["radix"])
    return out


# A table's prices alone: its structure, which would change the traps, stays the captured one.
PRICES_ONLY = {
    "costs.structure.tlb": "captured",
    "costs.structure.software_tlb": -1,
    "costs.structure.kernel": "captured",
    "costs.structure.walk": "captured",
}


def spec_of(trace: Path) -> Spec:
    """Return what the trace was captured with."""
    return from_dict(TraceReader(trace).manifest.config)


def expected_cycles(trace: Path, table: str) -> dict[str, int]:
    """Add up the prices of the trace's rows, one by one."""
    prices, zeroed, interrupted = TABLES[table]
    cycles: Counter[str] = Counter()
    for segment in TraceReader(trace).iter_segments():
        for row in segment.events[segment.events["kind"] == 7]:
            cause = MONITOR_CAUSES[row["a0"]]
            pages, cpus = int(row["a4"]) & 0xFFFFFFFF, int(row["a4"]) >> 32
            cycles[cause] += prices.get(cause, 0) + pages * zeroed + cpus * interrupted
            assert row["a5"] == 0  # nothing is copied here
    return {cause: n for cause, n in cycles.items() if n}


@pytest.mark.parametrize("table", TABLES)
def test_a_replay_charges_each_row_its_price(trace, table):
    base = captured(trace)
    run = replayed(trace, resolve(base=spec_of(trace), costs=table, sets=PRICES_ONLY))
    accounts = run.tables["accounts"].to_pydict()
    found: Counter[str] = Counter()
    for metric, value in zip(accounts["metric"], accounts["value"], strict=True):
        if metric.startswith("monitor_") and metric != "monitor_cycles":
            found[metric.removeprefix("monitor_").removesuffix("_cycles")] += value
    assert dict(found) == expected_cycles(trace, table)
    assert run.totals["traps"] == base.totals["traps"]
    # Nothing but the monitor's share changes.
    for own, other in zip(run.per_cpu, base.per_cpu, strict=True):
        assert own["cycles"] - own["monitor_cycles"] == other["cycles"] - other["monitor_cycles"]
    if table == "disco":
        assert_same(run, base)


def test_free_traps_are_not_called_the_bare_machine(trace, tmp_path):
    wanted = [resolve(base=spec_of(trace), costs=table) for table in ("native", "disco")]
    native, disco = (replay(trace, spec, runs=tmp_path).warnings for spec in wanted)
    assert "not the bare machine" in " ".join(native)
    assert disco == []


def test_all_causes_of_the_tables_occur(trace):
    causes = set(expected_cycles(trace, "disco"))
    # test_sharing, test_subnet, test_lending
    elsewhere = {"copy_on_write", "network", "remap", "swap", "io", "lend"}
    assert set(TRAP_CAUSES) - causes <= {"kseg0"} | elsewhere


def test_a_replay_with_a_table_equals_a_fresh_capture_with_it(trace, tmp_path):
    there = resolve(base=spec_of(trace), costs="exokernel", sets=PRICES_ONLY)
    run_guest("radix-sseg", there, tmp_path / "u", TINY["radix"])
    assert_same(replayed(trace, there), captured(tmp_path / "u"))
