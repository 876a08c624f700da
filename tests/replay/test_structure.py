"""Replays under another structure of the monitor's TLBs, against an oracle and fresh captures."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from disco_trace.config import Spec, from_dict, resolve
from disco_trace.config.structure import restructured, structure_of
from disco_trace.errors import DiscoError
from disco_trace.replay.engine import replay
from disco_trace.replay.kernel import ADDED
from disco_trace.replay.structure import Restructured
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.run import Run
from disco_trace.trace.schema import (
    CONTROL,
    EVENT,
    MONITOR_CAUSES,
    PAGE,
    PAGE_KINDS,
    SCHEDULE_EVENTS,
    TLB_OPS,
)
from tests.naive_structure import Monitor, Pair
from tests.replay.runs import TINY, Counted, captured, replayed, run_guest, spec_at

CODES = {kind.name: kind.code for kind in CONTROL}
CROWDED = {
    # A page of memory that changes drops entries, which the replay does not follow.
    "vm__share": False,
    "monitor__kind": "disco",
    "machine__ram_bytes": "16MiB",
    "machine__page_filter_entries": 1,
    "time__feedback": "none",
}
FORMS = {
    "two machines": ("radix-sseg", {"vm__count": 2, "vm__vcpus": 2, "monitor__slice_us": 300}),
    "mapped": (
        "database",
        {"vm__vcpus": 5, "monitor__slice_us": 200, "machine__kseg0": "mapped"},
    ),
    "processes": ("engineering-sseg", {"vm__vcpus": 3, "monitor__slice_us": 200}),
    "no software TLB": (
        "radix-sseg",
        {"vm__vcpus": 3, "monitor__slice_us": 300, "monitor__stlb_entries": 0},
    ),
}


@pytest.fixture(scope="module", params=FORMS)
def form(request, tmp_path_factory) -> tuple[str, Path]:
    guest, sets = FORMS[request.param]
    out = tmp_path_factory.mktemp("structure") / "t"
    run_guest(guest, spec_at(2, 2, **CROWDED, **sets), out, TINY[guest.removesuffix("-sseg")])
    return guest, out


@pytest.fixture(scope="module")
def trace(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("structure") / "t"
    guest, sets = FORMS["mapped"]
    run_guest(guest, spec_at(2, 2, **CROWDED, **sets), out, TINY[guest])
    return out


def spec_of(trace: Path) -> Spec:
    return from_dict(TraceReader(trace).manifest.config)


def wanted(trace: Path, **structure: object) -> Spec:
    sets = {f"costs.structure.{name}": value for name, value in structure.items()}
    return resolve(base=spec_of(trace), sets=sets)


def fresh(form: tuple[str, Path], spec: Spec, out: Path) -> Counted:
    guest, _ = form
    run_guest(guest, spec, out, TINY[guest.removesuffix("-sseg")])
    return captured(out)


def test_the_captures_own_structure_has_exactly_the_recorded_traps(form):
    # Not what a replay does (it leaves the rows alone), but what the model must be able to.
    _, trace = form
    reader = TraceReader(trace)
    own = spec_of(trace)
    model = Restructured(own, own, reader.contexts(), reader.manifest.ram_pages)
    traps = 0
    for segment in reader.iter_segments(pages=True):
        rows = model.rows(segment.pages, segment.events)
        np.testing.assert_array_equal(rows, segment.events)
        traps += int((rows["kind"] == CODES["traps"]).sum())
    assert traps > 1000


@pytest.mark.parametrize(
    "structure",
    [{"tlb": "tagged"}, {"kernel": "unmapped"}, {"tlb": "tagged", "kernel": "unmapped"}],
)
def test_tags_and_unmapped_kernels_equal_a_fresh_capture(form, tmp_path, structure):
    # With a page filter of one entry and without feedback these are exact, all CPUs and counters.
    _, trace = form
    there = wanted(trace, **structure)
    run = replayed(trace, there)
    other = fresh(form, there, tmp_path / "fresh")
    assert run.per_cpu == other.per_cpu
    if structure == {"tlb": "tagged"}:
        assert run.totals["traps"] < 0.99 * captured(trace).totals["traps"]


def test_without_a_software_tlb_a_replay_is_close_to_a_fresh_capture(form, tmp_path):
    _, trace = form
    there = wanted(trace, software_tlb=0)
    run, other = replayed(trace, there), fresh(form, there, tmp_path / "fresh")
    old = captured(trace).totals["traps"]
    assert abs(run.totals["traps"] - other.totals["traps"]) <= max(8, 0.01 * old)
    for cause in ("tlb_fault", "kseg0", "forward", "privileged", "tlb_write"):
        name = f"monitor_{cause}_cycles"
        assert run.totals.get(name, 0) == pytest.approx(other.totals.get(name, 0), rel=0.04)


def test_a_software_tlb_where_there_was_none(tmp_path):
    guest, sets = FORMS["no software TLB"]
    out = tmp_path / "t"
    run_guest(guest, spec_at(2, 2, **CROWDED, **sets), out, TINY["radix"])
    there = wanted(out, software_tlb=1024)
    run, other = replayed(out, there), fresh((guest, out), there, tmp_path / "fresh")
    # Equal, but for a fault or two that virtual CPUs come to in another order.
    for name in ("monitor_forward_cycles", "monitor_tlb_write_cycles", "monitor_tlb_fault_cycles"):
        assert run.totals[name] == pytest.approx(other.totals[name], rel=0.01)
    assert run.totals["traps"] == pytest.approx(other.totals["traps"], rel=0.01)


def test_nested_walks_trap_for_no_tlb_write(trace):
    before, run = captured(trace), replayed(trace, wanted(trace, walk="nested"))
    assert before.totals["monitor_tlb_write_cycles"] > 0
    assert run.totals.get("monitor_tlb_write_cycles", 0) == 0
    assert run.totals["monitor_privileged_cycles"] < before.totals["monitor_privileged_cycles"]
    assert run.totals["monitor_tlb_fault_cycles"] > before.totals["monitor_tlb_fault_cycles"]
    assert run.totals["instructions"] == before.totals["instructions"]


def test_the_captured_structure_by_name_is_exact_and_identical(trace):
    own = spec_of(trace)
    named = wanted(trace, tlb="flush", software_tlb=1024, kernel="mapped", walk="software")
    assert not restructured(own, named)
    result = replay(trace, named, force=True)
    assert set(result.fidelity.values()) == {"exact"}
    assert Counted.of(result.path).per_cpu == captured(trace).per_cpu


def test_another_structure_is_labelled_approximate(trace):
    result = replay(trace, wanted(trace, tlb="tagged"))
    assert result.fidelity == {"costs.structure.tlb": "approximate"}
    assert Run.open(result.path).raw["fidelity"] == {"*": "approximate"}


def test_tables_ask_for_structure(trace):
    own = spec_of(trace)
    assist = structure_of(resolve(base=own, costs="hardware-assist"), own)
    assert (assist.tlb, assist.walk) == ("tagged", "nested")
    assert structure_of(resolve(base=own, costs="exokernel"), own).software_tlb == 4096
    for table in ("disco", "native"):
        assert not restructured(own, resolve(base=own, costs=table))
    replay(trace, resolve(base=own, costs="hardware-assist"))
    replay(trace, resolve(base=own, costs="exokernel"))


def test_a_tagged_capture_replays_to_the_last_unit(trace, tmp_path):
    there = wanted(trace, tlb="tagged")
    guest, _ = FORMS["mapped"]
    run_guest(guest, there, tmp_path / "t", TINY[guest])
    first = captured(tmp_path / "t")
    assert replayed(tmp_path / "t", there).per_cpu == first.per_cpu
    # And back again: flushed, as the first capture was.
    back = resolve(base=there, sets={"costs.structure.tlb": "flush"})
    assert replayed(tmp_path / "t", back).per_cpu == captured(trace).per_cpu


def test_without_a_monitor_structure_means_nothing(tmp_path):
    run_guest("radix", spec_at(1, 1), tmp_path / "t", TINY["radix"])
    result = replay(tmp_path / "t", wanted(tmp_path / "t", tlb="tagged", software_tlb=0))
    assert set(result.fidelity.values()) == {"exact"}
    assert Counted.of(result.path).per_cpu == captured(tmp_path / "t").per_cpu


def test_a_trace_of_other_virtual_cpus_is_refused():
    spec = spec_at(1, 1, monitor__kind="disco")
    contexts = {name: np.array([0, 9]) for name in ("vm", "vcpu", "asid")}
    contexts["vm"][:] = 0
    with pytest.raises(DiscoError, match="virtual CPUs"):
        Restructured(spec, spec, contexts, [64])


# The model against the oracle: any sequence of TLB instructions, switches and page references.

CPUS, VCPUS, ENTRIES, ASIDS, PAGES = 2, 3, 8, 3, 64


class Script:
    """Random events of a crowded machine, beside the oracle that says which traps they make."""

    def __init__(self, seed: int, software: tuple[int, int], tagged: bool) -> None:
        self.random = random.Random(seed)
        self.oracle = Monitor(CPUS, VCPUS, ENTRIES, software, tagged, PAGES, 0)
        self.events: list[tuple] = []
        self.pages: list[tuple] = []
        self.expected: list[tuple[int, str]] = []
        self.at: list[int] = [0, 1]
        self.asid = [0] * VCPUS
        for cpu in range(CPUS):
            self.switch(cpu, cpu)

    def event(self, kind: str, cpu: int, *arguments: int) -> None:
        row = np.zeros(1, EVENT)
        row["seq"], row["kind"], row["cpu"] = len(self.events), CODES[kind], cpu
        v = self.at[cpu]
        row["context"] = 4 * (v * ASIDS + self.asid[v])
        for number, value in enumerate(arguments):
            row[f"a{number}"] = value
        self.events.append(row)

    def switch(self, cpu: int, v: int) -> None:
        self.event("schedule", cpu, SCHEDULE_EVENTS.index("preempt"), self.at[cpu], v)
        self.at[cpu] = v
        self.oracle.run(cpu, v)

    def page(self) -> int:
        """Return a page pair: few, that meet in sets of the software TLB, some in KSEG0."""
        if self.random.random() < 0.08:
            return (0x80000000 >> 13) + self.random.randrange(4)
        return self.random.choice((0, 1, 2, 3, 128, 129, 256, 385, 0xC0000000 >> 13))

    def lo(self, shared: int) -> int:
        bits = self.random.choice((6, 6, 6, 2, 4))
        return (self.random.randrange(PAGES) << 6) | bits | shared

    def step(self) -> None:
        cpu = self.random.randrange(CPUS)
        v = self.at[cpu]
        asid, page = self.asid[v], self.page()
        action = self.random.choices(
            ("access", "random", "again", "indexed", "probe", "read", "switch", "asid"),
            (60, 12, 6, 2, 5, 1, 6, 4),
        )[0]  # fmt: skip
        if action == "access":
            address = (page << 13) | self.random.choice((0, 4096)) | 8
            kind = self.random.choice(("load", "store"))
            self.pages.append(
                (len(self.events), address, 4 * (v * ASIDS + asid), cpu, PAGE_KINDS.index(kind))
            )
            cause = self.oracle.access(cpu, address, asid, kind == "store")
            if cause != "hit":
                self.expected.append((len(self.events), cause))
        elif action in ("random", "indexed", "again"):
            shared = int(self.random.random() < 0.15)
            lo0, lo1 = self.lo(shared), self.lo(shared)
            index = self.random.randrange(2, ENTRIES)
            hi = (page << 13) | asid
            if action == "again":
                # The usual idiom: rewrite what a probe has found.
                found = self.probe(cpu, page, asid)
                index = index if found is None else found
            indexed = action != "random"
            op = TLB_OPS.index("write_indexed" if indexed else "write_random")
            self.event("tlb_ops", cpu, op, index, hi, lo0, lo1, 0)
            self.oracle.write(cpu, index, Pair(page, asid, lo0, lo1), indexed)
        elif action == "probe":
            self.probe(cpu, page, asid)
        elif action == "read":
            self.event("tlb_ops", cpu, TLB_OPS.index("read"), 0)
            self.oracle.read(cpu)
        elif action == "asid":
            self.asid[v] = self.random.randrange(ASIDS)
        else:
            idle = [other for other in range(VCPUS) if other not in self.at]
            self.switch(cpu, idle[0])

    def probe(self, cpu: int, page: int, asid: int) -> int | None:
        found = self.oracle.probe(cpu, page, asid)
        index = 0x80000000 if found is None else found
        self.event("tlb_ops", cpu, TLB_OPS.index("probe"), index, (page << 13) | asid)
        return found


@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize("software", [(8, 8), (1024, 0), (0, 8), (8, 1024), (0, 0)])
@pytest.mark.parametrize("seed", range(8))
def test_the_model_agrees_with_the_oracle(seed, software, tagged):
    script = Script(seed, software, tagged)
    for _ in range(1500):
        script.step()
    before = {"monitor__stlb_entries": software[0], "machine__tlb_entries": ENTRIES}
    own = spec_at(CPUS, 1, monitor__kind="disco", vm__vcpus=VCPUS, **before)
    spec = resolve(
        base=own,
        sets={
            "costs.structure.tlb": "tagged" if tagged else "flush",
            "costs.structure.software_tlb": software[1],
        },
    )
    numbers = np.arange(VCPUS * ASIDS)
    contexts = {"vm": 0 * numbers, "vcpu": numbers // ASIDS, "asid": numbers % ASIDS}
    model = Restructured(own, spec, contexts, [PAGES])
    events = np.concatenate(script.events)
    pages = np.array(
        script.pages, [(n, PAGE[n]) for n in ("seq", "vaddr", "context", "cpu", "kind")]
    )
    columns = {name: np.ascontiguousarray(pages[name]) for name in pages.dtype.names}
    rows = model.rows(columns, events)
    added = rows[rows["kind"] == ADDED]
    assert (rows["seq"][1:] >= rows["seq"][:-1]).all()
    found = [(int(row["seq"]), MONITOR_CAUSES[row["a0"]]) for row in added]
    assert found == script.expected
    assert len(Counter(cause for _, cause in found)) > 1
