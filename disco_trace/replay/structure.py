"""Give a replay the traps that another structure of the monitor's TLBs would have made."""

from __future__ import annotations

from typing import Any

import numpy as np

from disco_trace.config import Spec
from disco_trace.config.machines import virtual_machines
from disco_trace.config.structure import structure_of
from disco_trace.errors import DiscoError
from disco_trace.replay import tlbs
from disco_trace.replay.tlbs import (
    CAPTURED,
    EMPTY,
    HW_ENTRY,
    HW_HINTS,
    HW_WORDS,
    MAX_TLB,
    N_COUNTS,
    N_Q,
    STLB_SET,
    STLB_WAYS,
    TLB_WORDS,
    VCPU_WORDS,
    VM_WORDS,
    WANTED,
    restructure,
)
from disco_trace.trace.schema import EVENT, PAGE

# Rows that one call may add; a longer segment takes several calls.
ADDED_ROWS = 1 << 16


class Restructured:
    """Simulate the monitor's TLBs of `wanted` along a trace that was captured with `captured`.

    contexts: those of the trace, with their machines, virtual CPUs and address spaces. ram_pages:
    memory of each machine. Every TLB begins empty, as a capture's does.
    """

    def __init__(self, captured: Spec, wanted: Spec, contexts: Any, ram_pages: list[int]) -> None:
        structure, before = structure_of(wanted, captured), structure_of(captured)
        counts = np.array([machine.vcpus for machine in virtual_machines(captured)], np.int64)
        vms = contexts["vm"].astype(np.int64)
        numbers = contexts["vcpu"].astype(np.int64)
        if len(ram_pages) != len(counts) or (numbers >= counts[vms]).any():
            raise DiscoError(
                "the trace's virtual CPUs are not those of its configuration",
                expected=f"{len(counts)} machines of {', '.join(map(str, counts))} virtual CPUs",
                found=f"{len(ram_pages)} machines, virtual CPU {int(numbers.max(initial=0))}",
            )
        first = np.cumsum(counts) - counts
        total = int(counts.sum())
        self.which = first[vms] + numbers
        self.asids = contexts["asid"].astype(np.int64) & 255

        p = np.zeros(N_Q, np.int64)
        p[tlbs.Q_CPUS], p[tlbs.Q_ENTRIES] = captured.machine.cpus, captured.machine.tlb_entries
        p[tlbs.Q_VCPUS], p[tlbs.Q_VMS] = total, len(counts)
        p[tlbs.Q_TAGGED] = structure.tlb == "tagged"
        p[tlbs.Q_UNMAPPED] = structure.kernel == "unmapped"
        p[tlbs.Q_NESTED] = structure.walk == "nested"
        p[tlbs.Q_SETS] = before.software_tlb // STLB_WAYS
        p[tlbs.Q_SETS_WANTED] = structure.software_tlb // STLB_WAYS
        at = captured.machine.cpus * HW_WORDS
        for word, size in (
            (tlbs.Q_O_VCPU, total * VCPU_WORDS),
            (tlbs.Q_O_TLB, 2 * total * MAX_TLB * TLB_WORDS),
            (tlbs.Q_O_STLB, total * int(p[tlbs.Q_SETS]) * STLB_SET),
            (tlbs.Q_O_STLB_WANTED, total * int(p[tlbs.Q_SETS_WANTED]) * STLB_SET),
            (tlbs.Q_O_VM, len(counts) * VM_WORDS),
            (tlbs.Q_O_COUNTS, N_COUNTS),
        ):
            p[word] = at
            at += size
        t = np.zeros(at, np.int64)
        for cpu in range(captured.machine.cpus):
            t[cpu * HW_WORDS : cpu * HW_WORDS + HW_HINTS : HW_ENTRY] = EMPTY
        vcpus = t[int(p[tlbs.Q_O_VCPU]) : int(p[tlbs.Q_O_TLB])].reshape(-1, VCPU_WORDS)
        vcpus[:, tlbs.U_LAST] = -1
        vcpus[:, tlbs.U_WIRED] = MAX_TLB
        vcpus[:, tlbs.U_RANDOM] = np.arange(total) + captured.machine.seed
        vcpus[:, tlbs.U_PAGES] = np.repeat(np.array(ram_pages, np.int64), counts)
        own = t[int(p[tlbs.Q_O_TLB]) : int(p[tlbs.Q_O_STLB])].reshape(-1, MAX_TLB, TLB_WORDS)
        own[:, :, 0] = 0x80000000 + (np.arange(MAX_TLB) << 13)
        machine = t[int(p[tlbs.Q_O_VM]) : int(p[tlbs.Q_O_COUNTS])].reshape(-1, VM_WORDS)
        machine[:, tlbs.VM_FIRST], machine[:, tlbs.VM_COUNT] = first, counts
        self.t, self.p = t, p
        self.added = np.zeros(ADDED_ROWS, EVENT)

    def rows(self, pages: Any, events: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return a segment's control rows with what the structure takes away and adds.

        Added rows (`replay.kernel.ADDED`) stand before the row whose sequence number they share.
        """
        events = np.array(events)
        columns = [pages.get(name) for name in _PAGE_COLUMNS] if pages else []
        columns = columns or [np.zeros(0, PAGE[name]) for name in _PAGE_COLUMNS]
        place = np.zeros(2, np.int64)
        parts = []
        while True:
            n = restructure(
                self.t, self.p, place, self.which, self.asids, *columns, events, self.added
            )
            parts.append(self.added[:n].copy())
            if place[0] >= len(columns[0]) and place[1] >= len(events):
                break
        added = np.concatenate(parts)
        return np.insert(events, np.searchsorted(events["seq"], added["seq"]), added)


_PAGE_COLUMNS = ("seq", "cpu", "context", "kind", "vaddr")

assert CAPTURED == 0
assert WANTED == 1
