"""What each service of the guest `services` does is what its `counts.toml` says, one by one."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from disco_trace.guest.resolve import find_guest
from disco_trace.machine import kernel, layout
from disco_trace.memory import layout as memory_layout
from disco_trace.paths import data_folder
from disco_trace.trace.schema import CONTROL, TLB_OPS
from disco_trace.trace.writer import REF_BUFFER_ROWS
from tests.replay.runs import rows_of, run_guest, spec_at

CODE = {kind.name: kind.code for kind in CONTROL}
COUNTS = tomllib.loads((data_folder("capture") / "guests" / "services" / "counts.toml").read_text())
ROUNDS = 8
WRITES = {TLB_OPS.index("write_indexed"), TLB_OPS.index("write_random")}
PROBE = TLB_OPS.index("probe")


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    """Capture the services on one CPU; return its control rows, and where each phase lies."""
    trace = tmp_path_factory.mktemp("services") / "t"
    result = run_guest("services", spec_at(1, 1), trace, (f"rounds={ROUNDS}", "os.tick=0"))
    assert result.console == f"services: {ROUNDS} calls of each, checked\n".encode()
    return rows_of(trace, 0)[2]


def phases(events) -> dict[str, list[tuple[int, int]]]:
    """Return the stretches of each phase as (first, last) index of the rows that bound it."""
    names = find_guest("services").phases
    found: dict[str, list[tuple[int, int]]] = {}
    opened = 0
    for at in np.flatnonzero(events["kind"] == CODE["phases"]):
        if events["a0"][at] == 0:
            opened = at
        else:
            found.setdefault(names[int(events["a1"][at])], []).append((opened, at))
    return found


def test_every_service_is_counted(capture):
    assert set(phases(capture)) == set(COUNTS) == set(find_guest("services").phases.values())


@pytest.mark.parametrize("service", sorted(COUNTS))
def test_events_of_a_call(capture, service):
    """Refills stand apart: how many there are depends on what else the TLB holds."""
    stated = COUNTS[service]
    calls = ROUNDS // 4 + 1 if service == "spawn" else ROUNDS
    exceptions: Counter[str] = Counter()
    writes = probes = refills = 0
    for first, last in phases(capture)[service]:
        rows = capture[first:last]
        taken = rows[rows["kind"] == CODE["exceptions"]]
        refills += int((taken["a1"] == 1).sum())
        exceptions.update(f"code_{int(row['a0'])}" for row in taken if row["a1"] == 0)
        operations = rows[rows["kind"] == CODE["tlb_ops"]]
        writes += int(np.isin(operations["a0"], list(WRITES)).sum())
        probes += int((operations["a0"] == PROBE).sum())
    assert {name: n / calls for name, n in exceptions.items()} == stated["exceptions"]
    assert (writes - refills) / calls == stated["tlb_writes"]
    assert probes / calls == stated["tlb_probes"]
    low, high = stated["refills"]
    assert low <= refills / calls <= high, refills / calls


def test_privileged_instructions_of_a_call(capture):
    """Step through every phase and count what a monitor would have to emulate."""
    assert {
        service: {name: n for name, n in counts.items() if n}
        for service, counts in executed(capture).items()
    } == {service: stated["privileged"] for service, stated in COUNTS.items()}


def executed(events) -> dict[str, dict[str, float]]:
    """Return how often one call of each service executes each privileged instruction.

    Those of refills are left out: 3 moves from and 2 to CP0, a TLB write and an ERET for each. A
    step ends with a retired instruction, and one that faults does not retire: the first instruction
    of a vector belongs to the same step and is not seen. That is a move from CP0 for refills.
    """
    from disco_trace.boot import build_machine, disks_of, starts_of
    from disco_trace.requests import CaptureRequest

    spec = spec_at(1, 1)
    args = [f"rounds={ROUNDS}", "os.tick=0"]
    request = CaptureRequest(guest="services", args=args, spec=spec, out=Path("unused"))
    starts = starts_of(request)
    m = build_machine(request, starts, disks_of(request, starts), REF_BUFFER_ROWS)
    memory = memory_layout.build(spec, contexts=4 * len(m.contexts))
    m.p[layout.X_EVENTS] = 0
    kernel.start(m, memory)
    result: dict[str, dict[str, float]] = {}

    def go(instructions: int) -> None:
        m.p[layout.X_MAX_INSTRUCTIONS] = instructions
        m.g[layout.G_EXIT] = 0
        while m.g[layout.G_INSTRUCTIONS] < instructions:
            kernel.run(m, memory, np.int64(1 << 24))
            m.g[layout.G_CONSOLE] = 0
            memory.fill[:3] = 0

    stretches = sorted(
        (int(events["a2"][first]), int(events["a2"][last]), name)
        for name, pairs in phases(events).items()
        for first, last in pairs
    )
    for start, end, name in stretches:
        go(start)
        calls = ROUNDS // 4 + 1 if name == "spawn" else ROUNDS
        found = result.setdefault(name, dict.fromkeys(NAMES, 0.0))
        refills = 0
        for at in range(start, end - 1):
            pc = int(m.s[0, layout.S_PC])
            if pc >> 30 == 2:  # KSEG0: privileged code runs nowhere else
                word = int(m.ram[(pc & 0x1FFFFFFF) >> 2])
                name_of = privileged(word)
                if name_of:
                    found[name_of] += 1 / calls
                refills += pc == 0x80000004
            go(at + 1)
        for name_of, n in (("mfc0", 2), ("mtc0", 2), ("tlbwr", 1), ("eret", 1)):
            found[name_of] -= n * refills / calls
    return {
        name: {key: round(value, 6) for key, value in counts.items()}
        for name, counts in result.items()
    }


NAMES = ("mfc0", "mtc0", "tlbr", "tlbwi", "tlbwr", "tlbp", "eret", "wait", "di", "ei", "cache")


def privileged(word: int) -> str | None:
    """Return the name of a privileged instruction, None for any other."""
    major, fields = word >> 26, (word >> 21 & 31, word & 63)
    if major == 0x2F:
        return "cache"
    if major != 0x10:
        return None
    if fields[0] & 16:
        return {1: "tlbr", 2: "tlbwi", 6: "tlbwr", 8: "tlbp", 24: "eret", 32: "wait"}[fields[1]]
    return {0: "mfc0", 4: "mtc0", 11: "ei" if word & 32 else "di"}[fields[0]]
