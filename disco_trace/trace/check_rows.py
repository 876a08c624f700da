"""Check the rows of a trace, segment by segment, and carry each CPU's state along."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from disco_trace.trace.problem import Findings
from disco_trace.trace.reader import SegmentData
from disco_trace.trace.schema import (
    CONTROL,
    MODES,
    MONITOR_CAUSES,
    PHASE_EVENTS,
    REF_KINDS,
    WAIT_EVENTS,
)
from disco_trace.trace.state import State

_CODE: Final = {kind.name: kind.code for kind in CONTROL}
_OPEN: Final = PHASE_EVENTS.index("open")
_BEGIN: Final = WAIT_EVENTS.index("begin")
_USER: Final = MODES.index("user")
# Rows that are in a context of their own: where a page or a device belongs.
_ELSEWHERE: Final = [
    _CODE[name] for name in ("contexts", "page_events", "dma", "packets", "interrupts")
]
_OF_DEVICES: Final = [
    MONITOR_CAUSES.index(name) for name in ("network", "remap", "swap", "io", "lend")
]
# What the rows alone say about a run, to be compared with the accounts that the capture kept.
TALLIED: Final = (
    "instructions",
    "work_cycles",
    "l1i_misses",
    "l1d_misses",
    "uncached",
    "cache_ops",
    "exceptions",
    "interrupts",
    "tlb_misses",
)
_METRIC_OF_KIND: Final = {
    "fetch": "l1i_misses",
    "load": "l1d_misses",
    "store": "l1d_misses",
    "uncached_fetch": "uncached",
    "uncached_load": "uncached",
    "uncached_store": "uncached",
    "cache_op": "cache_ops",
}
Array = np.ndarray[Any, Any]


@dataclass
class CpuState:
    """Hold what the last row of a CPU left behind; None where a damaged segment hides it."""

    cycle: int | None = 0
    waiting: bool | None = False
    retired: int = 0
    modes: tuple[int, ...] | None = None  # what the next row's mode may be


@dataclass
class RowChecker:
    """Check the rows of one trace; give `segment` every segment in order, `gap` for a bad one.

    `start` is the state that a resumed trace begins in.
    `tally` (int64, shape (cpus, contexts, len(TALLIED))) is what the rows add up to.
    """

    findings: Findings
    cpus: int
    contexts: int  # ids x 4
    # (virtual machine, virtual CPU) of each context id: phases nest on a virtual CPU.
    vcpus: list[tuple[int, int]]
    start: State | None = None
    states: list[CpuState] = field(init=False)
    tally: Array = field(init=False)
    declared: Array = field(init=False)
    depths: dict[tuple[int, int], int | None] = field(init=False)

    def __post_init__(self) -> None:
        self.states = [CpuState() for _ in range(self.cpus)]
        if self.start is not None:
            self.states = [CpuState(cpu.cycle, cpu.waiting, cpu.retired) for cpu in self.start.cpus]
        self.depths = dict.fromkeys(self.vcpus, 0)
        if self.start is not None:
            self.depths |= {who: len(open_) for who, open_ in self.start.open_phases().items()}
        self.tally = np.zeros((self.cpus, self.contexts, len(TALLIED)), np.int64)
        # The row that declares each context id; no row is earlier than "never".
        self.declared = np.full(self.contexts // 4, np.iinfo(np.uint64).max, np.uint64)
        if self.start is not None:
            self.declared[: len(self.start.contexts)] = 0

    def gap(self) -> None:
        """Forget the state of every CPU: a segment could not be read."""
        self.states = [CpuState(None, None) for _ in range(self.cpus)]
        self.depths = dict.fromkeys(self.vcpus)
        self.declared[:] = 0

    def segment(self, data: SegmentData, last_seq: int) -> None:
        """Check one segment whose columns (all of them) passed the reader's bounds."""
        self._sequence(data, last_seq)
        self._contexts(data)
        self._count(data)
        self._transfers(data)
        for cpu, rows in self._by_cpu(data):
            self._clock(data, cpu, rows)
        events = data.events
        for cpu in range(self.cpus):
            mine = events[events["cpu"] == cpu]
            self._modes(data, cpu, mine)
            self._waits(data, cpu, mine[mine["kind"] == _CODE["waits"]])
            self._retired(data, cpu, mine[mine["kind"] == _CODE["phases"]])
        self._phases(data, events[events["kind"] == _CODE["phases"]])

    def _sequence(self, data: SegmentData, last_seq: int) -> None:
        seqs = data.refs["seq"]
        if len(seqs):
            expected = data.ref_seqs()
            wrong = np.flatnonzero(seqs != expected)
            if len(wrong):
                self.findings.add(
                    "sequence",
                    "a sequence number is missing, repeated or out of order in refs",
                    times=len(wrong),
                    segment=data.index,
                    seq=int(seqs[wrong[0]]),
                    expected=str(int(expected[wrong[0]])),
                )
        if not data.pages:
            return
        page_seqs = data.pages["seq"]
        bad = np.flatnonzero(page_seqs[1:] < page_seqs[:-1])
        low, high = int(page_seqs.min()), int(page_seqs.max())
        if len(bad) or low < data.first_seq or high > last_seq + 1:
            self.findings.add(
                "sequence",
                "page references are out of order or beyond their segment",
                times=max(1, len(bad)),
                segment=data.index,
                expected=f"rising, {data.first_seq} to {last_seq + 1}",
                found=f"{low} to {high}",
            )

    def _contexts(self, data: SegmentData) -> None:
        rows = data.events[data.events["kind"] == _CODE["contexts"]]
        self.declared[rows["a0"].astype(np.int64)] = rows["seq"]
        users = data.events[data.events["kind"] != _CODE["contexts"]]
        # A page reference may stand at the number of the row that declares its own context.
        sources = [
            ("refs", data.refs["seq"], data.refs["context"]),
            ("control rows", users["seq"], users["context"]),
        ]
        if data.pages:
            sources.append(("pages", data.pages["seq"], data.pages["context"]))
        for name, seqs, contexts in sources:
            early = np.flatnonzero(self.declared[contexts >> 2] > seqs)
            if len(early):
                self.findings.add(
                    "context",
                    f"{name} use a context before it is declared",
                    times=len(early),
                    segment=data.index,
                    seq=int(seqs[early[0]]),
                    found=f"context {int(contexts[early[0]]) >> 2}",
                )

    def _count(self, data: SegmentData) -> None:
        refs, events = data.refs, data.events
        place = refs["cpu"].astype(np.int64) * self.contexts + refs["context"]
        for number, kind in enumerate(REF_KINDS):
            if kind in _METRIC_OF_KIND:
                self._add(_METRIC_OF_KIND[kind], place[refs["kind"] == number])
        self._add("work_cycles", place, refs["work"])
        place = events["cpu"].astype(np.int64) * self.contexts + events["context"]
        self._add("work_cycles", place, events["work"])
        self._add("instructions", place, events["instructions"])
        taken = events["kind"] == _CODE["exceptions"]
        interrupt = taken & (events["a0"] == 0)
        self._add("exceptions", place[taken])
        self._add("interrupts", place[interrupt])
        self._add("tlb_misses", place[taken & ~interrupt & (events["a1"] != 0)])

    def _transfers(self, data: SegmentData) -> None:
        """Check that each transfer of a device stays within a page."""
        rows = data.events[data.events["kind"] == _CODE["dma"]]
        offset = rows["a3"] & np.uint64(4095)
        wrong = np.flatnonzero((rows["a5"] == 0) | (rows["a5"] > np.uint64(4096) - offset))
        if len(wrong):
            row = rows[wrong[0]]
            self.findings.add(
                "dma",
                "a device's transfer does not lie within one page",
                times=len(wrong),
                segment=data.index,
                seq=int(row["seq"]),
                expected="1 byte to the end of the page",
                found=f"{int(row['a5'])} bytes at {int(row['a3']):#x}",
            )

    def _add(self, metric: str, place: Array, weights: Array | None = None) -> None:
        # Sums of float64 are exact below 2^53 cycles in one segment.
        counts = np.bincount(place, weights, minlength=self.cpus * self.contexts)
        self.tally[:, :, TALLIED.index(metric)] += counts.astype(np.int64).reshape(
            self.cpus, self.contexts
        )

    def _by_cpu(self, data: SegmentData) -> Iterator[tuple[int, dict[str, Array]]]:
        """Yield (cpu, seq, cycle and work of its references and control rows in order)."""
        for cpu in range(self.cpus):
            chosen = np.flatnonzero(data.refs["cpu"] == cpu)
            events = data.events[data.events["cpu"] == cpu]
            seqs = np.concatenate([data.refs["seq"][chosen], events["seq"]])
            order = np.argsort(seqs, kind="stable")
            rows = {"seq": seqs[order]}
            for name in ("cycle", "work"):
                values = [data.refs[name][chosen].astype(np.uint64), events[name]]
                rows[name] = np.concatenate(values)[order]
            yield cpu, rows

    def _clock(self, data: SegmentData, cpu: int, rows: dict[str, Array]) -> None:
        if not len(rows["seq"]):
            return
        state = self.states[cpu]
        cycles = rows["cycle"]
        if state.cycle is None:
            before, after, work, seqs = cycles[:-1], cycles[1:], rows["work"][1:], rows["seq"][1:]
        else:
            before = np.concatenate([np.array([state.cycle], np.uint64), cycles[:-1]])
            after, work, seqs = cycles, rows["work"], rows["seq"]
        back = np.flatnonzero(after < before)
        if len(back):
            self.findings.add(
                "clock",
                f"the clock of CPU {cpu} runs backwards",
                times=len(back),
                segment=data.index,
                seq=int(seqs[back[0]]),
                expected=f"at least cycle {int(before[back[0]])}",
                found=str(int(after[back[0]])),
            )
        short = np.flatnonzero((after >= before) & (after - before < work))
        if len(short):
            self.findings.add(
                "clock",
                f"CPU {cpu} worked longer than its clock advanced",
                times=len(short),
                segment=data.index,
                seq=int(seqs[short[0]]),
                expected=f"at least {int(work[short[0]])} cycles",
                found=str(int(after[short[0]] - before[short[0]])),
            )
        state.cycle = int(cycles[-1])

    def _modes(self, data: SegmentData, cpu: int, rows: Array) -> None:
        """Check that a row after a return, or an exception, is in the mode that they lead to.

        Only control rows are looked at: the references between share their contexts. What becomes
        of a page, and what a device does, is in a context of their machine, not of the CPU.
        """
        of_devices = (rows["kind"] == _CODE["traps"]) & np.isin(rows["a0"], _OF_DEVICES)
        rows = rows[~np.isin(rows["kind"], _ELSEWHERE) & ~of_devices]
        if not len(rows):
            return
        state = self.states[cpu]
        modes = rows["context"] & 3
        if state.modes is not None and int(modes[0]) not in state.modes:
            self._wrong_mode(data, cpu, rows[0], state.modes)
        before, after = rows[:-1], modes[1:]
        wrong = ((before["kind"] == _CODE["returns"]) & (after != before["a2"])) | (
            (before["kind"] == _CODE["exceptions"]) & (after == _USER)
        )
        for at in np.flatnonzero(wrong)[:5]:
            self._wrong_mode(data, cpu, rows[at + 1], _next_modes(rows[at]) or ())
        state.modes = _next_modes(rows[-1])

    def _wrong_mode(self, data: SegmentData, cpu: int, row: Any, allowed: tuple[int, ...]) -> None:
        self.findings.add(
            "mode",
            f"CPU {cpu} continues in a mode that its last exception or return did not lead to",
            segment=data.index,
            seq=int(row["seq"]),
            expected=" or ".join(MODES[m] for m in allowed),
            found=MODES[int(row["context"]) & 3],
        )

    def _waits(self, data: SegmentData, cpu: int, rows: Array) -> None:
        if not len(rows):
            return
        state = self.states[cpu]
        begins = rows["a0"] == _BEGIN
        first_wrong = state.waiting is not None and bool(begins[0]) == state.waiting
        wrong = np.flatnonzero(begins[1:] == begins[:-1]) + 1
        if first_wrong or len(wrong):
            at = 0 if first_wrong else wrong[0]
            self.findings.add(
                "wait",
                f"waits of CPU {cpu} do not begin and end in turn",
                times=len(wrong) + first_wrong,
                segment=data.index,
                seq=int(rows["seq"][at]),
                found=f"another {WAIT_EVENTS[int(rows['a0'][at])]}",
            )
        state.waiting = bool(begins[-1])

    def _phases(self, data: SegmentData, rows: Array) -> None:
        for row in rows:
            who = self.vcpus[int(row["context"]) >> 2]
            depth, before = int(row["a3"]), self.depths[who]
            if before is not None:
                # A guest may close what it never opened; the depth stays then.
                opened = int(row["a0"]) == _OPEN
                allowed = {before + 1} if opened else {before, max(before - 1, 0)}
                if depth not in allowed:
                    self.findings.add(
                        "phase",
                        f"phases of CPU {who[1]} of machine {who[0]} do not nest",
                        segment=data.index,
                        seq=int(row["seq"]),
                        expected=f"depth {' or '.join(map(str, sorted(allowed)))}",
                        found=str(depth),
                    )
            self.depths[who] = depth

    def _retired(self, data: SegmentData, cpu: int, rows: Array) -> None:
        state = self.states[cpu]
        for row in rows:
            retired = int(row["a2"])
            if retired < state.retired:
                self.findings.add(
                    "phase",
                    f"CPU {cpu} has retired fewer instructions than at its last phase",
                    segment=data.index,
                    seq=int(row["seq"]),
                    expected=f"at least {state.retired}",
                    found=str(retired),
                )
            state.retired = retired


def _next_modes(row: Any) -> tuple[int, ...] | None:
    if row["kind"] == _CODE["returns"]:
        return (int(row["a2"]),)
    if row["kind"] == _CODE["exceptions"]:
        return tuple(m for m in range(len(MODES)) if m != _USER)
    return None
