"""A virtual machine in this process, beside `tests.machine.board.Board` for the bare machine."""

from __future__ import annotations

import numpy as np

from disco_trace.machine import kernel, layout
from disco_trace.monitor import layout as monitor_layout
from tests.machine.board import Board

CP0_COMPARED = [
    layout.INDEX, layout.ENTRYLO0, layout.ENTRYLO1, layout.CONTEXT, layout.USERLOCAL,
    layout.PAGEMASK, layout.WIRED, layout.HWRENA, layout.BADVADDR, layout.ENTRYHI, layout.COMPARE,
    layout.STATUS, layout.INTCTL, layout.CAUSE, layout.EPC, layout.EBASE, layout.CONFIG,
    layout.CONFIG7, layout.ERRCTL, layout.ERROREPC,
]  # fmt: skip
STATE_COMPARED = [
    layout.S_PC, layout.S_NPC, layout.S_SLOT, layout.S_DEADLINE, layout.S_IPI_AT,
    layout.S_COUNT_OFFSET, layout.S_REFILL, layout.S_PHASE_DEPTH, layout.S_RANDOM_ORIGIN,
]  # fmt: skip


class Guest(Board):
    """One virtual machine over the monitor, its virtual CPUs each on a CPU of their own."""

    def __init__(self, *sets: str, cpus: int = 1, rows: int = 20_000) -> None:
        super().__init__("monitor.kind=disco", "placement.policy=guest", "machine.kseg0=mapped",
                         *sets, cpus=cpus, rows=rows)  # fmt: skip
        kernel.start(self.m, self.memory)
        self.started = True
        self.empty()

    def tlb(self, entry: int, hi: int, lo0: int, lo1: int, mask: int = 0, cpu: int = 0) -> None:
        super().tlb(entry, hi, lo0, lo1, mask, cpu)
        self.forget()

    def forget(self) -> None:
        """Empty all hardware and software TLBs, for state that a test has put in place."""
        m = self.m
        words = monitor_layout.HW_WORDS
        for cpu in range(len(m.gpr)):
            entries = m.mon[cpu * words : cpu * words + monitor_layout.HW_ENTRIES]
            entries.reshape(-1, 4)[:] = [monitor_layout.EMPTY, 0, 0, 0]
            m.filter[cpu] = 0
        first, last = int(m.p[layout.X_O_STLB]), int(m.p[layout.X_O_VM])
        m.mon[first:last] = 0
        for which in range(int(m.p[layout.X_VCPUS])):
            at = int(m.p[layout.X_O_VCPU]) + which * int(m.p[layout.X_VCPU_STRIDE])
            m.mon[at + monitor_layout.V_PROBE] = 0
            if m.mon[at + monitor_layout.V_CPU] >= 0:
                m.mon[at + monitor_layout.V_STATE] = monitor_layout.RUNNING

    def hardware(self, cpu: int = 0) -> np.ndarray:
        """Return the CPU's hardware TLB: rows of EntryHi, unused, EntryLo0, EntryLo1."""
        base = cpu * monitor_layout.HW_WORDS
        entries = self.m.mon[base : base + monitor_layout.HW_ENTRIES].reshape(-1, 4)
        return entries[entries[:, 0] != monitor_layout.EMPTY]

    def software(self, which: int = 0) -> list[tuple[int, int, int]]:
        """Return what a virtual CPU's software TLB holds: (EntryHi, EntryLo0, EntryLo1)."""
        sets = int(self.m.p[layout.X_STLB_SETS])
        if sets == 0:
            return []
        first = int(self.m.p[layout.X_O_STLB]) + which * sets * monitor_layout.STLB_SET
        rows = self.m.mon[first : first + sets * monitor_layout.STLB_SET].reshape(sets, -1)
        pairs = rows[:, :-1].reshape(-1, monitor_layout.STLB_WORDS)
        return [
            (int(key) & 0xFFFFFFFF, int(lo0), int(lo1)) for key, lo0, lo1, _ in pairs if key != 0
        ]

    def traps(self) -> list[int]:
        """Return the causes of the traps in the row buffer, in order."""
        events = self.m.events[: self.m.g[layout.G_EVENTS]]
        return events["a0"][events["kind"] == 7].tolist()


def assert_equal_state(bare: Board, guest: Guest, label: str = "") -> None:
    """Compare everything that a guest can see of its processors, and all memory."""
    one, other = bare.m, guest.m
    assert one.g[layout.G_INSTRUCTIONS] == other.g[layout.G_INSTRUCTIONS], label
    np.testing.assert_array_equal(one.gpr, other.gpr, label)
    for at in STATE_COMPARED:
        np.testing.assert_array_equal(one.s[:, at], other.s[:, at], f"{label} s[{at}]")
    np.testing.assert_array_equal(
        one.s[:, layout.S_WAITING] != 0, other.s[:, layout.S_WAITING] != 0, label
    )
    for at in CP0_COMPARED:
        np.testing.assert_array_equal(one.cp0[:, at], other.cp0[:, at], f"{label} cp0[{at}]")
    np.testing.assert_array_equal(one.tlb, other.tlb, label)
    np.testing.assert_array_equal(one.fpr, other.fpr, label)
    for cpu in range(len(one.gpr)):
        assert bare.get("count", cpu) == guest.get("count", cpu), label
    # Nothing is shared here, so memory stands where the machine sees it.
    assert (one.ram == other.ram[: len(one.ram)]).all(), label
