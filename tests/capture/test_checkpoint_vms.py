"""Checkpoints of virtual machines: all of them go on as if nothing had been, or are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disco_trace.boot import memory_of
from disco_trace.checkpoint.identity import saved_spec
from disco_trace.checkpoint.resume import resume
from disco_trace.checkpoint.save import added
from disco_trace.errors import DiscoError
from disco_trace.monitor import layout
from disco_trace.trace.checkpoint import CHECKPOINT, checkpoint_id, read_checkpoint
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.writer import REF_BUFFER_ROWS
from tests.capture import hostile
from tests.capture.checkpoints import assert_goes_on, go_on, load, spoil
from tests.replay.runs import (
    TINY,
    assert_same,
    assert_sound,
    captured,
    replayed,
    run_guest,
    spec_at,
)

ROOT = Path(__file__).parents[2]
BASE = {"monitor__kind": "disco", "machine__ram_bytes": "8MiB"}
CROWD = {"vm__count": 3, "vm__vcpus": 2, "monitor__slice_us": 200}
MOVING = {
    "placement__policy": "migrate-replicate", "placement__initial": "first-touch",
    "placement__trigger_misses": 8, "placement__sharing_misses": 4, "placement__reset_ms": 1,
    "memory__l2__size_bytes": "64KiB",
}  # fmt: skip
FILES = ("rounds=1", "os.cache=64")
UNLIKE = ("radix-sseg:2 keys=2K bits=6", "files-sseg:1 rounds=1 os.cache=64")
UNEVEN = ("database:1 rows=2K rounds=1", "radix:1 keys=1K")
SHORT = {"vm__count": 2, "vm__guests": UNEVEN, "vm__pool_bytes": "1MiB"}
PAIR = ("subnet:1 role=server rounds=4", "subnet:1 role=client rounds=5")
# Guest, its arguments, CPUs, phase, specification.
CASES = {
    "alone": ("radix", TINY["radix"], 1, 2, {}),
    "two": ("radix-sseg", TINY["radix"], 4, 2, {"vm__count": 2}),
    "crowd": ("radix", TINY["radix"], 2, 2, CROWD | MOVING),
    "tagged": ("radix", TINY["radix"], 2, 2, CROWD | {"costs__structure__tlb": "tagged"}),
    "mapped": (
        "radix", TINY["radix"], 2, 2, {"machine__kseg0": "mapped", "monitor__stlb_entries": 0}
    ),
    "idle CPUs": ("radix", TINY["radix"], 4, 2, {"vm__count": 2, "vm__vcpus": 1}),
    "guest": ("radix", TINY["radix"], 2, 2, CROWD | {"placement__policy": "guest"}),
    "disks": ("files", FILES, 2, 3, {"vm__count": 2}),
    "written": ("files", FILES, 2, 5, {"vm__count": 2} | MOVING),
    "alone with its pages": ("files", FILES, 2, 3, {"vm__count": 2, "vm__share": False}),
    "unlike": ("files-sseg", (), 3, 3, {"vm__count": 2, "vm__guests": UNLIKE}),
    "lending": ("database", (), 2, 3, SHORT),
    "partitions": ("database", (), 2, 3, SHORT | {"vm__lending": False}),
    "subnet": ("subnet", (), 2, 2, {"vm__count": 2, "vm__guests": PAIR}),
}  # fmt: skip


def saved(name, folder, feedback="full"):
    """Capture a case whole, saving it at its phase; return what came of it and its spec."""
    guest, args, cpus, phase, sets = CASES[name]
    spec = spec_at(cpus, cpus, **BASE | sets, time__feedback=feedback)
    return run_guest(guest, spec, folder, args, save_at=phase), spec


@pytest.mark.parametrize("feedback", ["full", "none"])
@pytest.mark.parametrize("name", CASES)
def test_all_machines_go_on(tmp_path, name, feedback):
    full, part = tmp_path / "full", tmp_path / "part"
    whole, spec = saved(name, full, feedback)
    result = go_on(whole.checkpoint, part)
    assert result.registers == whole.registers
    assert result.cp0 == whole.cp0
    assert result.guest_exit_status == whole.guest_exit_status
    assert whole.console.endswith(result.console)
    assert_sound(full)
    assert_sound(part)
    assert_goes_on(full, whole.checkpoint, part)
    state = read_checkpoint(whole.checkpoint).state
    assert added(state.base, result.per_cpu) == added([], whole.per_cpu)
    counted = captured(part)
    shutil.rmtree(part / "runs")
    assert_same(replayed(part, spec), counted)
    for manifest in (TraceReader(full).manifest, TraceReader(part).manifest):
        assert len(manifest.ram_pages) == spec.vm.count
        assert [guest.name for guest in manifest.guests] == [
            text.split(":")[0] for text in spec.vm.guests
        ]


def test_cases_have_what_is_hard(tmp_path):
    """Where they are saved, virtual CPUs are off their CPUs, pages shared, lent and away."""
    states = {}
    for name in ("crowd", "disks", "written", "lending", "partitions"):
        result, spec = saved(name, tmp_path / name)
        machine = resume(result.checkpoint, spec, REF_BUFFER_ROWS).machine
        p, mon = machine.p, machine.mon
        vcpus = mon[p[layout.X_O_VCPU] : p[layout.X_O_STLB]].reshape(-1, p[layout.X_VCPU_STRIDE])
        pmap = mon[p[layout.X_O_PMAP] : p[layout.X_O_MEMMAP]].reshape(-1, layout.PMAP_WORDS)
        states[name] = p, mon, vcpus, pmap
    _, _, vcpus, pmap = states["crowd"]
    assert (vcpus[:, layout.V_CPU] == layout.NOBODY).sum() >= 4
    for name in ("crowd", "disks", "written"):
        _, _, _, pmap = states[name]
        assert (pmap[:, layout.PMAP_NAME] != np.arange(len(pmap))).sum() > 20
        assert pmap[:, layout.PMAP_NEXT].any()
    p, mon, _, _ = states["written"]
    assert mon[p[layout.X_O_PRIVATE] : p[layout.X_O_RESIDENT]].any()
    for name in ("lending", "partitions"):
        p, mon, _, _ = states[name]
        pages = mon[p[layout.X_O_RESIDENT] + 1 :].reshape(-1, layout.R_WORDS)[:, layout.R_STATE]
        assert (pages == layout.IN_MEMORY).sum() > 50
    assert (pages == layout.AWAY).any()


def test_memory_is_what_it_was(tmp_path):
    """Each machine's bytes at the end are those of the run that was not cut."""
    whole, spec = saved("written", tmp_path / "t")
    found = resume(whole.checkpoint, spec, REF_BUFFER_ROWS)
    for vm in range(2):
        assert memory_of(found.machine, vm).any()
    from disco_trace.requests import Dump

    ends = []
    for name in ("a", "b"):
        dump = [Dump(0, 8 << 20, tmp_path / f"{name}{vm}", vm) for vm in range(2)]
        if name == "a":
            run_guest("files", spec, tmp_path / name, FILES, dump=dump)
        else:
            go_on(whole.checkpoint, tmp_path / name, dump=dump)
        ends.append([(tmp_path / f"{name}{vm}").read_bytes() for vm in range(2)])
    assert ends[0] == ends[1]


def test_resume_twice(tmp_path):
    """A checkpoint of a resumed capture is the one that the uninterrupted capture saves there."""
    spec = spec_at(2, 2, **BASE, vm__count=2)
    whole = run_guest("files", spec, tmp_path / "whole", FILES, save_at=5)
    first = run_guest("files", spec, tmp_path / "a", FILES, save_at=3)
    middle = go_on(first.checkpoint, tmp_path / "b", save_at=5)
    one, other = (checkpoint_id(read_checkpoint(r.checkpoint)) for r in (whole, middle))
    assert one == other
    last = go_on(middle.checkpoint, tmp_path / "c")
    assert last.registers == whole.registers
    assert_goes_on(tmp_path / "whole", whole.checkpoint, tmp_path / "c")


def test_phases_and_replays_of_a_trace_that_goes_on(tmp_path):
    """Each virtual CPU's open phases are known in SQL; other structures begin empty, and say so."""
    from disco_trace.report.database import connect

    whole, _ = saved("crowd", tmp_path / "full")
    go_on(whole.checkpoint, tmp_path / "part")
    seq = read_checkpoint(whole.checkpoint).state.seq
    query = """SELECT vm, vcpu, phase, count(*) AS n FROM refs
               WHERE seq >= {} GROUP BY ALL ORDER BY ALL"""
    rows = []
    for name, start in (("part", 0), ("full", seq)):
        with connect([tmp_path / name]) as database:
            rows.append(database.rows(query.format(start)))
    assert rows[0] == rows[1]
    ends = "SELECT vm, cpu, phase, end_cycle FROM phases WHERE end_cycle > 0 ORDER BY ALL"
    with connect([tmp_path / "part"]) as database:
        there = database.rows(ends)
    with connect([tmp_path / "full"]) as database:
        everything = database.rows(ends)
    assert len(there) > 5
    assert all(row in everything for row in there)
    from disco_trace.replay.engine import replay

    sets = CASES["crowd"][4] | {"costs__structure__tlb": "tagged"}
    wanted = spec_at(2, 2, **BASE | sets)
    result = replay(tmp_path / "part", wanted)
    assert "TLBs begin empty" in " ".join(result.warnings)


@pytest.mark.parametrize("change", [{"tlb": "tagged"}, {"software_tlb": 64}])
def test_tlbs_cannot_be_built_otherwise(good, tmp_path, change):
    """The state holds them. How the guest's kernel is mapped may change, as prices may."""
    saved = saved_spec(read_checkpoint(good), good)

    def other(**structure):
        costs = msgspec.structs.replace(
            saved.costs, structure=msgspec.structs.replace(saved.costs.structure, **structure)
        )
        return msgspec.structs.replace(saved, costs=costs)

    (name, value), *_ = change.items()
    message = f"a checkpoint cannot change costs.structure.{name} .* found {value}"
    with pytest.raises(DiscoError, match=message):
        go_on(good, tmp_path / "t", spec=other(**change))
    go_on(good, tmp_path / "t", spec=other(kernel="unmapped"), max_instructions=1000)


# ---- what a file may hold -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small checkpoint with shared pages, some lent and away, and virtual CPUs without a CPU."""
    return hostile.virtual(tmp_path_factory.mktemp("good") / "t")


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(["machine.mon"] * 4 + ["machine.s", "machine.virtio", "memory.alias"]),
    spoils=hostile.SPOILS,
)
def test_any_values(good, tmp_path, name, spoils):
    """Whatever an array holds, the machines go on or are refused: nothing leaves its arrays."""
    end = hostile.outcome_of(good, tmp_path, name, spoils)
    assert end == "done" or "impossible state" in end or "not those of the arrays" in end


FOREIGN = {
    "a disk before the first": (lambda d: d.update(mounted=[[0], [-9], []]), "impossible disks"),
    "a disk more": (lambda d: d.update(mounted=[[0], [99], []]), "impossible disks"),
    "no disks": (lambda d: d.update(mounted=[]), "impossible disks"),
    "a guest fewer": (lambda d: d["guests"].pop(), "guests of other machines"),
    "a guest more": (lambda d: d["guests"].append(d["guest"]), "guests of other machines"),
    "no lines": (lambda d: d.update(lines=[]), "lines of other machines"),
    "open phases": (lambda d: d["state"]["vcpus"][0][4].append(7), "the vcpus"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_it_says_of_machines(good, tmp_path, what):
    change, message = FOREIGN[what]
    bad = shutil.copytree(good, tmp_path / "bad")
    document = json.loads((bad / CHECKPOINT).read_text())
    change(document)
    (bad / CHECKPOINT).write_text(json.dumps(document))
    assert message in hostile.outcome(bad, tmp_path / "t")


def spoilt_word(section, record, word, value):
    """Return a change of one word of the monitor's state, by section."""

    def change(array):
        out = array.copy()
        out[section + record + word] = value
        return out

    return change


def test_each_chain_is_followed(good, tmp_path):
    """Chains with a page twice, of another content, or without an end; lists likewise."""
    spec_of_it = read_checkpoint(good)
    machine = resume(good, saved_spec(spec_of_it, good), REF_BUFFER_ROWS).machine
    p, mon = machine.p, machine.mon
    at = int(p[layout.X_O_PMAP])
    pmap = mon[at : int(p[layout.X_O_MEMMAP])].reshape(-1, layout.PMAP_WORDS)
    shown = np.flatnonzero(pmap[:, layout.PMAP_NAME] >= len(pmap))
    chained = int(np.flatnonzero(pmap[:, layout.PMAP_NEXT])[0])
    residents = int(p[layout.X_O_RESIDENT]) + 1
    records = mon[residents:].reshape(-1, layout.R_WORDS)
    listed = int(np.flatnonzero(records[:, layout.R_NEXT] > 0)[0])
    vm = int(p[layout.X_O_VM])
    stride = int(p[layout.X_VCPU_STRIDE])
    vcpus = mon[int(p[layout.X_O_VCPU]) : int(p[layout.X_O_STLB])].reshape(-1, stride)
    running = int(np.flatnonzero(vcpus[:, layout.V_CPU] != layout.NOBODY)[0])
    vcpu = int(p[layout.X_O_VCPU]) + running * stride
    changes = {
        "a page before itself": (at, chained * 2, layout.PMAP_NEXT, chained + 1),
        "a page of another": (at, chained * 2, layout.PMAP_NEXT, int(shown[-1]) + 1),
        "an end too early": (at, chained * 2, layout.PMAP_NEXT, 0),
        "another content": (at, chained * 2, layout.PMAP_NAME, chained),
        "a list without an end": (
            residents, listed * layout.R_WORDS, layout.R_NEXT, listed + 1
        ),
        "a list cut short": (residents, listed * layout.R_WORDS, layout.R_NEXT, 0),
        "a frame more": (vm, 0, layout.VM_USED, int(mon[vm + layout.VM_USED]) + 1),
        "no frames": (residents, -1, 0, 0),
        "home elsewhere": (vcpu, 0, layout.V_HOME, 1 - int(mon[vcpu + layout.V_HOME])),
        "last elsewhere": (vcpu, 0, layout.V_LAST, 1 - int(mon[vcpu + layout.V_LAST])),
    }  # fmt: skip
    for number, (what, change) in enumerate(changes.items()):
        bad = spoil(good, tmp_path / str(number), "machine.mon", spoilt_word(*change))
        assert "impossible state" in hostile.outcome(bad, tmp_path / "t"), what
    same = spoil(good, tmp_path / "same", "machine.mon", load(good, "machine.mon"))
    assert hostile.outcome(same, tmp_path / "t") == "done"


@pytest.mark.slow
def test_no_index_leaves_its_array():
    """Many spoilt checkpoints with every index checked (minutes to compile)."""
    hostile.assert_indices_stay("2", "900", "virtual")
