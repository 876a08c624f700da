"""Services of a kernel over Disco: work counted against its list, prices found where known."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

import numpy as np
import pytest

from disco_trace.config import resolve
from disco_trace.experiments import services
from disco_trace.experiments.services import MONITOR, PRICED, Parts, Row, Service, Services
from disco_trace.paths import data_folder
from disco_trace.report.database import connect

ROUNDS = 8
CALLS = {"demand_zero": ROUNDS, "quick_fault": ROUNDS, "open": ROUNDS, "read": ROUNDS,
         "write": ROUNDS, "utlb_miss": ROUNDS, "spawn": ROUNDS // 4 + 1}  # fmt: skip
NOTHING = Parts(kernel=1, tlb_write=0.2, privileged=0.1, call=0.1, kernel_tlb=0.1)


def rows(**parts: Parts) -> tuple[Row, ...]:
    return tuple(
        Row(name, name.upper(), calls, 10, 1.5, parts.get(name, NOTHING))
        for name, calls in CALLS.items()
    )


SMALL = Services(
    title="small", source="none", bare="services", disco="services-sseg", machine="uniprocessor",
    held_out="write", rows=rows(), sets=("machine.ram_bytes=16MiB",), why=("A reason.",),
    args=(f"rounds={ROUNDS}", "os.tick=0"),
    disco_args=(f"rounds={ROUNDS}", "os.tick=0"),
)  # fmt: skip


def test_work_is_what_the_services_are_listed_to_do(tmp_path: Path) -> None:
    """No more is emulated than `counts.toml` lists; what is priced adds up to what was charged."""
    found, reused = services.measure(SMALL, tmp_path)
    assert not reused
    counts = tomllib.loads(
        (data_folder("capture") / "guests" / "services" / "counts.toml").read_text()
    )
    for each in found.rows:
        service, listed = each.service, counts[each.service.name]
        privileged = listed["privileged"]
        least = sum(n for name, n in privileged.items() if name != "tlbwi")
        refills = service.work["tlb_write"].get("tlb_write_us", 0) - listed["tlb_writes"]
        # A refill that reaches the guest has 3 mfc0, 2 mtc0 and an eret beside its TLB write.
        assert refills >= 0
        emulated = service.work["privileged"].get("privileged_us", 0)
        assert emulated <= least + 6 * refills + 1e-9
        assert (emulated > 0) == (least + refills > 0)
        exceptions = sum(listed["exceptions"].values())
        assert service.work["privileged"].get("forward_us", 0) == pytest.approx(
            exceptions + refills
        )
        assert service.bare_us > 0
    spec = resolve(machine="uniprocessor", monitor="disco", sets=SMALL.sets)
    table = {name: spec.costs.prices[name] for name in spec.costs.prices.__struct_fields__}
    with connect([found.traces[1] / "runs" / "captured"]) as database:
        charged = database.rows(
            "SELECT phase, sum(value) AS cycles FROM _accounts WHERE run = 'captured'"
            " AND metric LIKE 'monitor%' GROUP BY ALL"
        )
    cycles = {row["phase"]: int(row["cycles"]) for row in charged}
    for each in found.rows:
        name = each.service.name
        monitor = each.service.priced(table).monitor * CALLS[name] * 300
        # Each charge is a whole number of cycles.
        assert monitor == pytest.approx(cycles.get(name, 0), rel=0.01, abs=1)
        assert each.parts.monitor * each.service.bare_us == pytest.approx(each.assumed.monitor)
    again, reused = services.measure(SMALL, tmp_path)
    assert reused
    assert again == found


def service(name: str, work: dict[str, dict[str, float]]) -> Service:
    return Service(name, 1.0, 1.0, {column: work.get(column, {}) for column in MONITOR})


def test_prices_that_made_the_rows_are_found() -> None:
    """Rows computed from prices give these back; what no row tells of keeps the table's price."""
    known = {"tlb_write_us": 2.0, "privileged_us": 0.25, "forward_us": 0.75, "monitor_call_us": 3.0}
    table = dict.fromkeys(known, 1.0) | {"tlb_fault_us": 0.047, "zero_page_us": 10.0}
    choose = random.Random(5)
    pairs = []
    for at in range(5):
        made = service(
            f"row {at}",
            {
                "tlb_write": {"tlb_write_us": choose.randint(1, 4)},
                "privileged": {
                    "privileged_us": choose.randint(2, 20),
                    "forward_us": choose.randint(1, 3),
                },
                "call": {"monitor_call_us": choose.randint(0, 3), "zero_page_us": 0.1},
            },
        )
        spent = made.priced(known | {"zero_page_us": 10.0, "tlb_fault_us": 0.047})
        time = choose.uniform(5, 50)
        parts = {column: getattr(spent, column) / time for column in MONITOR}
        pairs.append((made, Row(made.name, made.name, 1, time, 2, Parts(kernel=1, **parts))))
    found = services.fitted(pairs, table)
    assert found == pytest.approx(table | known, abs=1e-6)


def test_least_squares_that_do_not_go_below_zero() -> None:
    """At the least, no price can be moved up or down (but not below zero) to come nearer."""
    generator = np.random.default_rng(7)
    for _ in range(30):
        a, b = generator.uniform(0, 3, (8, 3)), generator.normal(0, 2, 8)
        found = np.array(services._least_squares(a.tolist(), b.tolist()))
        assert (found >= 0).all()

        def off(prices: np.ndarray, a: np.ndarray = a, b: np.ndarray = b) -> float:
            return float(np.sum((a @ prices - b) ** 2))

        for k in range(3):
            for step in (1e-3, -1e-3):
                other = found.copy()
                other[k] = max(0, other[k] + step)
                assert off(other) >= off(found) - 1e-9


@pytest.mark.parametrize(
    ("cause", "user", "column"),
    [
        ("tlb_fault", True, "tlb_write"),
        ("tlb_fault", False, "kernel_tlb"),
        ("kseg0", False, "kernel_tlb"),
        ("privileged", False, "privileged"),
        ("forward", True, "privileged"),
        ("copy_on_write", True, "call"),
        ("monitor_call", False, "call"),
    ],
)
def test_columns(cause: str, user: bool, column: str) -> None:
    assert services.column_of(cause, user) == column


def test_the_description() -> None:
    """Published parts add up to what is printed, but for WRITE's, an erratum; shown as they are."""
    experiment = services.read_services("table2")
    for row in experiment.rows:
        if row.theirs != "write":
            assert row.parts.total == pytest.approx(row.slowdown, abs=0.021)
    assert experiment.held_out in {row.name for row in experiment.rows}
    assert set(PRICED) < set(MONITOR)
