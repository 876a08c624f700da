"""Save and restore the state of a machine, and believe nothing of what is restored.

As in `memory.state`: each array has a check that keeps compiled code inside its arrays, whatever a
file holds. What a check does not look at (the contents of memory, of registers) is what a guest may
make of it anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from disco_trace.machine import layout, slots
from disco_trace.machine.layout import (
    ASIDS,
    EXIT_NONE,
    G_CONSOLE,
    G_CONTEXTS,
    G_CPU,
    G_DUE,
    G_EVENTS,
    G_EXIT,
    G_FETCH_DELTA,
    G_FETCH_LINE,
    G_INSTRUCTIONS,
    G_LINE_CPU,
    G_NAMES,
    G_PAGE_ROWS,
    G_REFS,
    G_RESUME,
    G_SAVE,
    G_SEQ,
    G_SINGLE,
    G_TURN,
    LOCKED,
    LOCKUP,
    MAX_NAMES,
    MAX_TLB,
    PHASE_DEPTH,
    S_BASE,
    S_CONTEXT,
    S_COUNT_OFFSET,
    S_DEADLINE,
    S_EXTRA,
    S_FRUITLESS,
    S_IPI_AT,
    S_LL,
    S_LLADDR,
    S_NPC,
    S_OPEN,
    S_PC,
    S_PENDING,
    S_PHASE_DEPTH,
    S_PHASES,
    S_RANDOM_ORIGIN,
    S_REFILL,
    S_REGIME,
    S_RETIRED,
    S_SEEN,
    S_SINCE,
    S_SLICE,
    S_SLOT,
    S_SPECIAL,
    S_VCPU,
    S_VM,
    S_WAITING,
    S_WAKER,
    S_WHICH,
    T_MASK,
    TLB_WORDS,
    X_CPUS,
    X_FILTER,
    X_MONITOR,
    X_RAM,
    X_SWAP,
    X_VMS,
    Machine,
)
from disco_trace.machine.slot_state import check_slots
from disco_trace.machine.slots import NEVER
from disco_trace.memory.layout import C_CLOCK, CPU_WORDS, P_I_SHIFT, Memory
from disco_trace.memory.state import MOST, fail, in_range, layout_id, must_equal
from disco_trace.monitor import layout as monitor_layout
from disco_trace.monitor.state import (
    check_monitor,
    check_names,
    check_who_runs,
    open_phases,
    widest,
)

# Built from the specification and the request; buffers that are empty, or whose rows are the
# trace's; scratch.
DERIVED = ("p",)
BUFFERS = ("console", "refs", "pages", "events")
SCRATCH = ("here", "actions")
# All others are the state: a field that is added is saved, and needs a check in `CHECKS`.
SAVED = tuple(f for f in Machine._fields if f not in (*DERIVED, *BUFFERS, *SCRATCH))
# Of no use to a replay, and large: left out of a trace's state record.
CONTENTS = ("ram", "ops", "disk", "frames")

NO_LINE = 1 << 32  # the hot loop's fetch line where it has none


def machine_layout_id() -> str:
    """Return the id of the layout of a `Machine`."""
    return layout_id(layout, slots, monitor_layout, fields=SAVED)


def saved_arrays(mc: Machine) -> dict[str, Any]:
    """Return the arrays of the state by name; that it was to be saved is no part of it."""
    arrays = {name: getattr(mc, name) for name in SAVED}
    arrays["g"] = arrays["g"].copy()
    arrays["g"][G_SAVE] = 0
    return arrays


def facts(mc: Machine, m: Memory) -> dict[str, Any]:
    """Return what `trace.state.State` says of the machine in words, in JSON types."""
    g, known = mc.g, int(mc.g[G_CONTEXTS])
    return {
        "seq": int(g[G_SEQ]),
        "instructions": int(g[G_INSTRUCTIONS]),
        "cpus": [_cpu_facts(mc, m, cpu) for cpu in range(int(mc.p[X_CPUS]))],
        "contexts": mc.contexts[:known].tolist(),
        "processes": [
            [at // ASIDS, at % ASIDS, int(mc.processes[at]) - 1]
            for at in np.flatnonzero(mc.processes > 0).tolist()
        ],
        "vcpus": open_phases(mc),
    }


def _cpu_facts(mc: Machine, m: Memory, cpu: int) -> dict[str, Any]:
    s = mc.s[cpu]
    # Virtual CPUs have phases of their own (`open_phases`).
    depth = 0 if mc.p[X_MONITOR] else int(s[S_PHASE_DEPTH])
    return {
        "cycle": int(m.cpu[cpu * CPU_WORDS + C_CLOCK]),
        "retired": int(s[S_RETIRED] + s[S_SINCE] + s[S_PENDING] - s[S_EXTRA]),
        "context": int(s[S_CONTEXT]),
        "waiting": bool(s[S_WAITING]),
        "phases": s[S_PHASES : S_PHASES + depth].tolist(),
    }


def process_names(mc: Machine) -> list[str]:
    """Return the names that the guest has given to its processes, by number."""
    known = mc.names[: int(mc.g[G_NAMES])]
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in known]


def check_machine(mc: Machine, m: Memory, cold: Machine) -> None:
    """Raise `DiscoError` unless the restored state is one that a machine can be in.

    `cold` is the machine of the same specification at its start. The memory system's own state,
    `m`, was checked before.
    """
    for name in SAVED:
        CHECKS[name](mc, cold)
    _fetch_line(mc, m)
    if mc.p[X_MONITOR]:
        check_names(mc, m)


def _g(mc: Machine, cold: Machine) -> None:
    g = mc.g
    for name, index, limit in (
        ("CPU", G_CPU, int(mc.p[X_CPUS])),
        ("CPU of the devices' line", G_LINE_CPU, int(mc.p[X_CPUS])),
        # Room for the ticks that close a segment.
        ("fill of refs", G_REFS, len(mc.refs) + 1 - len(mc.s)),
        ("fill of pages", G_PAGE_ROWS, len(mc.pages) + 1 - len(mc.s)),
        ("fill of events", G_EVENTS, len(mc.events) + 1 - len(mc.s)),
        ("fill of the console", G_CONSOLE, 1),
        ("count of contexts", G_CONTEXTS, len(mc.contexts) + 1),
        ("end of the run", G_EXIT, EXIT_NONE + 1),
        ("count of names", G_NAMES, MAX_NAMES + 1),
        ("flag", G_SAVE, 1),
        ("flag", G_SINGLE, 2),
        ("fetch line", G_FETCH_LINE, NO_LINE + 1),
        ("turn", G_TURN, MOST),
        ("start of the turn", G_RESUME, MOST),
    ):
        in_range("machine.g", name, g[index : index + 1], limit)
    in_range("machine.g", "count of contexts", g[G_CONTEXTS : G_CONTEXTS + 1], MOST, low=1)
    in_range("machine.g", "number", np.delete(g, G_DUE), MOST)


def _fetch_line(mc: Machine, m: Memory) -> None:
    """Check that what the broken-off turn was fetching from lies in memory."""
    line, delta = int(mc.g[G_FETCH_LINE]), int(mc.g[G_FETCH_DELTA])
    length = 1 << int(m.p[P_I_SHIFT])
    if int(mc.g[G_RESUME]) == 0 or line == NO_LINE:
        return
    physical = (line + delta) & 0xFFFFFFFF
    if line % length or physical % length or physical + length > _memory(mc):
        fail("machine.g", "fetch line", f"a line below {_memory(mc):#x}", hex(physical))


def _memory(mc: Machine) -> int:
    """Return how many bytes of `ram` the CPUs reach: under a monitor those of all machines."""
    return int(mc.p[X_SWAP]) << 12 if mc.p[X_MONITOR] else int(mc.p[X_RAM])


def _s(mc: Machine, cold: Machine) -> None:
    s = mc.s
    for name, index, limit in (
        ("program counter", S_PC, 1 << 32), ("next program counter", S_NPC, 1 << 32),
        ("flag", S_SLOT, 2), ("flag", S_LL, 2), ("flag", S_REFILL, 2),
        ("wait", S_WAITING, LOCKED + 1), ("count of exceptions", S_FRUITLESS, LOCKUP + 1),
        ("reservation", S_LLADDR, 1 << 40), ("waker", S_WAKER, int(mc.p[X_CPUS])),
        ("depth of phases", S_PHASE_DEPTH, PHASE_DEPTH + 1),
        ("context", S_CONTEXT, 4 * int(mc.g[G_CONTEXTS])),
    ):  # fmt: skip
        in_range("machine.s", name, s[:, index], limit)
    who = (
        S_VM, S_VCPU, S_WHICH, S_BASE, S_SLICE, S_REGIME, S_SPECIAL, S_OPEN, S_SEEN,
    )  # fmt: skip
    if mc.p[X_MONITOR]:
        check_who_runs(mc)
    else:
        for word in who:
            must_equal("machine.s", "who runs on CPU", s[:, word], cold.s[:, word])
    in_range("machine.s", "phase", s[:, S_PHASES : S_PHASES + PHASE_DEPTH], 1 << 31)
    signed = (S_COUNT_OFFSET, S_RANDOM_ORIGIN)
    in_range("machine.s", "offset", s[:, signed], MOST, low=-MOST)
    times = (S_DEADLINE, S_IPI_AT)
    in_range("machine.s", "number", np.delete(s, (*signed, *times, *who), axis=1), MOST)
    for word in times:
        ahead = s[:, word]
        in_range("machine.s", "time ahead", ahead[ahead != NEVER], MOST)


def _gpr(mc: Machine, cold: Machine) -> None:
    in_range("machine.gpr", "register 0", mc.gpr[:, 0], 1)


def _tlb(mc: Machine, cold: Machine) -> None:
    masks = mc.tlb.reshape(len(mc.s), MAX_TLB, TLB_WORDS)[:, :, T_MASK]
    if (masks & np.uint32(0xE0001FFF)).any():
        fail("machine.tlb", "page mask", "bits 13 to 28", "others")


def _filter(mc: Machine, cold: Machine) -> None:
    """Check that what the hot loop takes for a page's frame lies in memory."""
    entries = int(mc.p[X_FILTER])
    cpu, at = np.nonzero(mc.filter)
    in_range("machine.filter", "place", at, entries)
    values = mc.filter[cpu, at].astype(np.int64)
    in_range("machine.filter", "page", values >> 32, 1 << 21, low=1 << 20)
    must_equal("machine.filter", "place of entry", (values >> 32) & (entries - 1), at)
    in_range("machine.filter", "flags", values & 0xFFF, 4)
    cached = values & 2 == 0
    in_range("machine.filter", "frame", (values & 0xFFFFF000)[cached], _memory(mc))


def _contexts(mc: Machine, cold: Machine) -> None:
    monitored = bool(mc.p[X_MONITOR])
    limits = {
        "virtual machine": int(mc.p[X_VMS]) if monitored else 1,
        "CPU": widest(mc) if monitored else len(mc.s),
        "address space": ASIDS,
        "phase": 1 << 31,
        "process": MAX_NAMES + 2,
    }
    for column, (name, limit) in enumerate(limits.items()):
        in_range("machine.contexts", name, mc.contexts[:, column], limit)


def _processes(mc: Machine, cold: Machine) -> None:
    in_range("machine.processes", "name", mc.processes, MAX_NAMES + 2)


def _uart(mc: Machine, cold: Machine) -> None:
    in_range("machine.uart", "register", mc.uart, 256)


def _cp0(mc: Machine, cold: Machine) -> None:
    """Check what says which processor it is: nothing writes those registers."""
    fixed = (layout.PRID, layout.CONFIG1, layout.CONFIG2, layout.CONFIG3)
    for register in fixed:
        must_equal(
            "machine.cp0", f"register {register} of CPU", mc.cp0[:, register],
            cold.cp0[:, register],
        )  # fmt: skip


def _mon(mc: Machine, cold: Machine) -> None:
    if mc.p[X_MONITOR]:
        check_monitor(mc, cold)
    else:
        must_equal("machine.mon", "word", mc.mon, cold.mon)


def _any_value(mc: Machine, cold: Machine) -> None:
    """Accept everything: a guest can make every value of it, or it is only believed if it fits."""


CHECKS: dict[str, Callable[[Machine, Machine], None]] = {
    "g": _g,
    "ram": _any_value,
    "ops": _any_value,  # decoded again, see `kernel.decode_again`
    "gpr": _gpr,
    "cp0": _cp0,
    "fpr": _any_value,
    "s": _s,
    "tlb": _tlb,
    "filter": _filter,
    "hint": _any_value,  # compared with the TLB before it is used
    "contexts": _contexts,
    "uart": _uart,
    "virtio": check_slots,
    "frames": _any_value,
    "disk": _any_value,
    "names": _any_value,
    "processes": _processes,
    "mon": _mon,
}
