"""Whole guests: alone and several, more virtual CPUs than CPUs, against the bare machine."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from disco_trace import Trace
from disco_trace import capture as capturing
from disco_trace import open as open_trace
from disco_trace.boot import build_machine, disks_of, starts_of
from disco_trace.config import resolve
from disco_trace.errors import DiscoError
from disco_trace.experiments.overhead import user_instructions
from disco_trace.guest.elf import load_image
from disco_trace.guest.resolve import find_guest
from disco_trace.machine import kernel, layout
from disco_trace.memory import layout as memory_layout
from disco_trace.memory.events import EXCEPTIONS
from disco_trace.requests import CaptureRequest, Dump
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.schema import MODES
from disco_trace.trace.writer import REF_BUFFER_ROWS
from tests.replay.runs import (
    TINY,
    assert_same,
    assert_sound,
    captured,
    replayed,
    run_guest,
    spec_at,
    without_results,
)

DISCO = {"monitor__kind": "disco"}
SMALL = {"machine__ram_bytes": "16MiB"}
MAPPED = {"machine__kseg0": "mapped"}
MOVING = {
    "placement__policy": "migrate-replicate",
    "placement__trigger_misses": 8,
    "placement__sharing_misses": 2,
}
RADIX = "radix-sseg:2 keys=2K bits=6"
DATABASE = "rows=1K rounds=1 products=200 customers=200"
FORMS = {
    "one CPU": ("radix-sseg", 1, 1, {}),
    "several CPUs": ("database-sseg", 4, 4, {}),
    "mapped KSEG0": ("radix", 4, 2, MAPPED),
    "two machines": ("radix-sseg", 4, 4, {"vm__count": 2}),
    "crowded": ("radix-sseg", 2, 2, {"vm__count": 2, "vm__vcpus": 2, "monitor__slice_us": 300}),
    "crowded machine": ("database", 2, 2, {"vm__vcpus": 5, "monitor__slice_us": 200} | MAPPED),
    "idle CPUs": ("radix-sseg", 8, 4, {"vm__count": 3, "vm__vcpus": 2}),
    "unlike machines": (
        "radix-sseg",
        4,
        4,
        {"vm__count": 3, "vm__guests": (RADIX, f"database-sseg:1 {DATABASE}", RADIX)},
    ),
    "no software TLB": ("radix-sseg", 2, 2, {"monitor__stlb_entries": 0}),
    "moving pages": ("database-sseg", 4, 4, {"vm__count": 2, **MOVING}),
}


@pytest.mark.parametrize("feedback", ["full", "none"])
@pytest.mark.parametrize("form", FORMS)
def test_replays_repeat_the_capture(tmp_path, form, feedback):
    guest, cpus, nodes, sets = FORMS[form]
    spec = spec_at(cpus, nodes, time__feedback=feedback, **DISCO, **SMALL, **sets)
    trace = tmp_path / "t"
    result = run_guest(guest, spec, trace, TINY[guest.removesuffix("-sseg")])
    assert result.console.count(b"checked") == spec.vm.count
    assert_sound(trace)
    expected = captured(trace)
    assert expected.totals["traps"] > 100
    assert expected.totals["monitor_cycles"] > 0
    assert (expected.totals["migrations"] > 0) == (form == "moving pages")
    assert_same(replayed(without_results(trace), spec), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"memory__l2__size_bytes": "64KiB"},
        {"memory__remote_ns": 1500, "memory__local_ns": 100},
        {"placement__policy": "round-robin"},
        {"costs__prices__tlb_fault_us": 3.0, "costs__prices__privileged_us": 0.1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_replays_equal_a_fresh_capture_there(tmp_path, changes):
    """Without feedback a replay under other parameters is what a capture under them would be."""
    sets = {"time__feedback": "none", "vm__count": 2, "vm__vcpus": 3, "monitor__slice_us": 300}
    sets |= DISCO | SMALL
    spec, there = spec_at(4, 4, **sets), spec_at(4, 4, **sets | changes)
    run_guest("radix-sseg", spec, tmp_path / "t", TINY["radix"])
    run_guest("radix-sseg", there, tmp_path / "u", TINY["radix"])
    replay, fresh = replayed(tmp_path / "t", there), captured(tmp_path / "u")
    assert replay.per_cpu == fresh.per_cpu
    assert replay.tables["accounts"].equals(fresh.tables["accounts"])


def test_machines_are_apart_in_the_trace(tmp_path):
    spec = spec_at(2, 2, vm__count=2, **DISCO, **SMALL)
    run_guest("radix-sseg", spec, tmp_path / "t", TINY["radix"])
    reader = TraceReader(tmp_path / "t")
    assert reader.manifest.ram_pages == [4096, 4096]
    contexts = reader.contexts()
    assert set(contexts["vm"].tolist()) == {0, 1}
    heat = captured(tmp_path / "t").tables["heat"].to_pydict()
    assert set(heat["vm"]) == {0, 1, 0xFFFF}  # the last: pages that both show
    assert max(heat["guest_page"]) < 4096
    # The same program in the same memory: each machine touches the same pages of its own.
    pages = [{p for p, v in zip(heat["guest_page"], heat["vm"], strict=True) if v == vm}
             for vm in (0, 1)]  # fmt: skip
    assert pages[0] == pages[1]


def test_each_machine_has_its_own_guest(tmp_path):
    """Symbols and names of phases are those of what the machine runs."""
    machines = ("database:1 " + DATABASE, "radix:2 keys=2K bits=6")
    spec = spec_at(3, 3, vm__count=2, vm__guests=machines, **DISCO, **SMALL)
    run_guest("radix", spec, tmp_path / "t")
    manifest = TraceReader(tmp_path / "t").manifest
    assert manifest.guest.name == "radix"
    assert [guest.name for guest in manifest.guests] == ["database", "radix"]
    assert manifest.guests[0].args == DATABASE.split()
    trace = open_trace(tmp_path / "t")
    phases = trace.sql("SELECT DISTINCT vm, phase FROM phases").rows()
    known = [set(find_guest(name).phases.values()) for name in ("database", "radix")]
    assert {name for vm, name in phases if vm == 0} == known[0]
    assert {name for vm, name in phases if vm == 1} == known[1]
    images = trace.sql("SELECT DISTINCT vm, image FROM symbol_misses WHERE image <> ''").rows()
    assert set(images) == {(0, "database"), (1, "radix")}
    # A phase of one guest only counts in its machine.
    name = min(known[1] - known[0])
    run = trace.replay(phase=name)
    vms = trace.sql(f"SELECT DISTINCT vm FROM time_breakdown WHERE run = '{run.path.name}'")
    assert vms.rows() == [(1,)]


def test_memory_of_each_machine_can_be_dumped(tmp_path):
    """The user text of its own guest stands in each; a machine that is not there has none."""
    names = ("database-sseg", "radix-sseg")
    machines = (f"database-sseg:1 {DATABASE}", RADIX)
    spec = spec_at(3, 3, vm__count=2, vm__guests=machines, **DISCO, **SMALL)
    texts = [load_image(find_guest(name).image, 16 << 20).segments[3] for name in names]
    files = [tmp_path / name for name in names]
    dump = [
        Dump(text.paddr, 4096, file, vm)
        for vm, (text, file) in enumerate(zip(texts, files, strict=True))
    ]
    run_guest("radix-sseg", spec, tmp_path / "t", (), dump=dump)
    for text, file in zip(texts, files, strict=True):
        assert file.read_bytes() == bytes(text.data[:4096])
    assert files[0].read_bytes() != files[1].read_bytes()
    wrong = [Dump(0, 16, tmp_path / "none", 2)]
    with pytest.raises(DiscoError, match="no such machine"):
        run_guest("radix-sseg", spec, tmp_path / "u", (), dump=wrong)
    assert not (tmp_path / "u").exists()


def test_unlike_machines_from_python(tmp_path):
    file = tmp_path / "two.toml"
    args = ", ".join(f'"{word}"' for word in DATABASE.split())
    file.write_text(f'[[vm]]\n[[vm]]\nguest = "database"\nargs = [{args}]\n')
    trace = Trace.capture(
        "radix", args=TINY["radix"], machine="flash4", monitor="disco", vms=str(file),
        set={"machine.ram_bytes": "16MiB"}, out=tmp_path / "t",
    )  # fmt: skip
    assert [guest.name for guest in trace.manifest.guests] == ["radix", "database"]
    assert trace.spec.vm.guests == ("radix:2 keys=2K bits=6", f"database:2 {DATABASE}")


def test_the_guest_asked_for_must_run(tmp_path):
    spec = spec_at(1, 1, vm__guests=("database:1",), **DISCO, **SMALL)
    with pytest.raises(DiscoError, match="no machine runs radix"):
        run_guest("radix", spec, tmp_path / "t", ())


def test_stolen_time_is_recorded(tmp_path):
    """Two machines on one CPU: each is ready in vain while the other runs."""
    spec = spec_at(1, 1, vm__count=2, vm__vcpus=1, monitor__slice_us=100, **DISCO, **SMALL)
    run_guest("radix-sseg", spec, tmp_path / "t", TINY["radix"])
    rows = [s.events[s.events["kind"] == 10] for s in TraceReader(tmp_path / "t").iter_segments()]
    rows = np.concatenate(rows)
    preempted = rows[rows["a0"] == 1]
    assert len(preempted) > 20
    slice_cycles = 100 * 300
    assert (preempted["a3"].astype(np.int64) >= slice_cycles).all()
    assert set(preempted["a2"].tolist()) == {0, 1 << 16}


def user_stream(spec, guest: str, args: tuple[str, ...], limit: int) -> dict[str, tuple[int, str]]:
    """Run a guest one instruction at a time, on one CPU.

    Returns, of each process by name, how many instructions user mode retired, and their hash. A
    branch whose delay slot faults is started again, and counts when it goes through.
    """
    request = CaptureRequest(guest=guest, args=list(args), spec=spec, out=Path("unused"))
    starts = starts_of(request)
    m = build_machine(request, starts, disks_of(request, starts), REF_BUFFER_ROWS)
    memory = memory_layout.build(spec, contexts=4 * len(m.contexts))
    kernel.start(m, memory)
    user = MODES.index("user")
    found: dict[int, tuple[Any, list[int]]] = {}  # by number of its name: its hash, and the count
    last = None  # whose, and where: not in the hash yet, for it may be a branch that starts again
    m.p[layout.X_MAX_INSTRUCTIONS] = 0
    while m.g[layout.G_EXIT] in (0, layout.EXIT_INSTRUCTIONS):
        m.g[layout.G_EXIT] = 0
        pc, mode = int(m.s[0, layout.S_PC]), int(m.s[0, layout.S_CONTEXT]) & 3
        retired = int(m.g[layout.G_INSTRUCTIONS])
        m.p[layout.X_MAX_INSTRUCTIONS] = retired + 1
        kernel.run(m, memory, 1)
        rows = m.events[: int(m.g[layout.G_EVENTS])]
        for at in (layout.G_REFS, layout.G_PAGE_ROWS, layout.G_EVENTS, layout.G_CONSOLE):
            m.g[at] = 0
        memory.fill[:3] = 0
        assert m.g[layout.G_INSTRUCTIONS] < limit
        if mode != user:
            continue
        if ((rows["kind"] == EXCEPTIONS) & (rows["a5"] != 0)).any():
            last = None
        # An interrupt or a miss may come first: then the instruction that retired was another.
        if m.s[0, layout.S_CONTEXT] & 3 == user and m.g[layout.G_INSTRUCTIONS] > retired:
            if last is not None:
                keep(found, *last)
            last = int(m.processes[int(m.cp0[0, layout.ENTRYHI]) & 255]), pc
    assert m.g[layout.G_STATUS] == 0
    assert last is not None
    keep(found, *last)
    names = ["", *(bytes(row).split(b"\0")[0].decode() for row in m.names)]
    return {
        names[number].removesuffix("-sseg"): (count[0], digest.hexdigest())
        for number, (digest, count) in found.items()
    }


def keep(found, number, pc):
    """Add an instruction to those that a process retired."""
    digest, count = found.setdefault(number, (hashlib.sha256(), [0]))
    digest.update(pc.to_bytes(4, "little"))
    count[0] += 1


# So small that every instruction can be stepped through; `files` checks too many words for that.
SMALLEST = {
    "hello": (),
    "radix": ("keys=2K", "bits=6"),
    "database": TINY["database"],
    "raytrace": (
        "frames=1", "image=8", "ground=4", "spheres=8", "grid=4", "depth=1", "samples=1",
    ),
    "engineering": (
        "verilogs=1", "machines=1", "vectors=1", "references=40", "multipliers=1", "bits=3",
        "random=30", "sets=64", "lines=1K",
    ),
    "processes": ("children=2", "work=1"),
    "services": ("rounds=2",),
    "ping": ("rounds=1", "bytes=4K"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("guest", SMALLEST)
def test_the_user_program_runs_the_same_instructions(guest):
    args = SMALLEST[guest]
    bare = resolve(machine="uniprocessor", sets=["machine.ram_bytes=16MiB"])
    expected = user_stream(bare, guest, args, 5_000_000)
    assert sum(count for count, _ in expected.values()) > 1000
    forms = [([], f"{guest}-sseg")]
    if guest in ("hello", "radix"):  # the others take minutes
        forms += [
            (["machine.kseg0=mapped"], guest),
            (["monitor.stlb_entries=0"], f"{guest}-sseg"),
            (["monitor.special_page=false"], f"{guest}-sseg"),
        ]
    for sets, image in forms:
        spec = resolve(machine="uniprocessor", monitor="disco",
                       sets=["machine.ram_bytes=16MiB", *sets])  # fmt: skip
        assert user_stream(spec, image, args, 5_000_000) == expected


@pytest.mark.parametrize("guest", [*TINY, "files", "processes", "ping"])
def test_each_process_retires_as_many_instructions(tmp_path, guest):
    """Bare and in a virtual machine, on one CPU; branches that start again apart."""
    args = TINY.get(guest)
    seen = []
    for at, (image, sets) in enumerate(
        ((guest, {}), (f"{guest}-sseg", DISCO), (guest, DISCO | MAPPED))
    ):
        run_guest(image, spec_at(1, 1, **SMALL, **sets), tmp_path / str(at), args)
        retired, again = user_instructions(tmp_path / str(at))
        assert set(again) <= set(retired)
        seen.append({key: count - again.get(key, 0) for key, count in retired.items()})
    assert seen[0] == seen[1] == seen[2]


def test_a_kernel_in_kseg0_is_refused_in_clear_words(tmp_path):
    with pytest.raises(DiscoError) as raised:
        run_guest(str(find_guest("hello").image), spec_at(1, 1, **DISCO), tmp_path / "t")
    assert "supervisor segment" in str(raised.value)
    assert "machine.kseg0=mapped" in raised.value.hint
    assert not (tmp_path / "t").exists()


def test_a_prebuilt_guest_is_taken_in_the_form_that_runs_deprivileged(tmp_path):
    run_guest("hello", spec_at(1, 1, **DISCO, **SMALL), tmp_path / "t")
    guest = TraceReader(tmp_path / "t").manifest.guest
    other = run_guest("hello-sseg", spec_at(1, 1, **DISCO, **SMALL), tmp_path / "u")
    assert guest.name == "hello"
    assert guest.sha256 == TraceReader(other.path).manifest.guest.sha256


def test_consoles_are_told_apart():
    console = capturing.Consoles(2)
    words = [ord(c) for c in "one\ntwo"] + [256 + ord(c) for c in "ONE\n"]
    assert console.read(np.array(words, np.uint16)) == b"[vm 0] one\n[vm 1] ONE\n"
    assert console.rest() == b"[vm 0] two\n"
