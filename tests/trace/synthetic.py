"""Make small traces that keep every invariant, by walking CPUs row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from disco_trace.trace.run import RunWriter
from disco_trace.trace.schema import (
    CONTROL,
    EVENT,
    METRICS,
    N_METRICS,
    PAGE,
    REF,
    REF_KINDS,
)
from disco_trace.trace.writer import TraceWriter

CODE = {kind.name: kind.code for kind in CONTROL}
MANIFEST = {
    "guest": {"name": "toy", "sha256": "ab" * 32, "args": ["-n", "3"], "phases": {1: "work"}},
    "config": {"machine": {"cpus": 2}},
    "seeds": {"main": 1},
    "cpus": 2,
    "nodes": 2,
    "ram_pages": [256],
    "l1_ways": 2,
    "process_names": ["init"],
}
SYMBOLS = {
    "vm": [0, 0],
    "asid": [-1, -1],
    "image": ["toy", "toy"],
    "name": ["main", "table"],
    "address": [0x80001000, 0x80002000],
    "size": [64, 4096],
    "type": ["func", "data"],
}
KERNEL, USER = 0, 2


class Walk:
    """Emit rows as a machine would, and keep the accounts that a capture would."""

    def __init__(self, seed: int = 1, cpus: int = 2) -> None:
        self.rng = np.random.default_rng(seed)
        self.cpus = cpus
        self.seq = 0
        self.clock = [0] * cpus
        self.mode = [KERNEL] * cpus
        self.retired = [0] * cpus
        self.accounts = np.zeros((cpus, 4 * cpus, N_METRICS), np.uint64)
        self.clear()
        for cpu in range(cpus):
            self.event(cpu, "contexts", 0, cpu, 0, cpu, 0, 0)

    def clear(self) -> None:
        self.refs: list[tuple] = []
        self.pages: list[tuple] = []
        self.events: list[tuple] = []

    def account(self, cpu: int, metric: str, value: int = 1) -> None:
        self.accounts[cpu, 4 * cpu + self.mode[cpu], METRICS.index(metric)] += np.uint64(value)

    def _advance(self, cpu: int, work: int) -> int:
        self.clock[cpu] += work
        self.account(cpu, "work_cycles", work)
        self.seq += 1
        return self.clock[cpu]

    def event(self, cpu: int, kind: str, work: int, *args: int, instructions: int = 0) -> None:
        cycle = self._advance(cpu, work)
        self.account(cpu, "instructions", instructions)
        self.retired[cpu] += instructions
        six = (*args, *[0] * (6 - len(args)))
        context = 4 * cpu + self.mode[cpu]
        self.events.append(
            (self.seq - 1, cycle, work, instructions, *six, context, CODE[kind], cpu)
        )

    def ref(self, cpu: int) -> None:
        kind = int(self.rng.integers(0, len(REF_KINDS)))
        name = REF_KINDS[kind]
        page = int(self.rng.integers(0, 256)) if kind < 4 else 0x1F000
        way = int(self.rng.integers(0, 2)) if kind < 4 else 21 if name == "cache_op" else 0
        work = int(self.rng.integers(0, 40))
        cycle = self._advance(cpu, work)
        metric = {
            "fetch": "l1i_misses",
            "load": "l1d_misses",
            "store": "l1d_misses",
            "cache_op": "cache_ops",
        }.get(name)
        if name.startswith("uncached"):
            metric = "uncached"
        if metric:
            self.account(cpu, metric)
        vaddr = 0x80000000 + page * 4096 + int(self.rng.integers(0, 1024)) * 4
        context = 4 * cpu + self.mode[cpu]
        self.refs.append(
            (self.seq - 1, cycle, vaddr, page, 0x80001000, work, context, cpu, kind, way)
        )
        stall = int(self.rng.choice([10, 90, 270]))
        self.account(cpu, "l1_stall_cycles", stall)
        self.clock[cpu] += stall

    def page(self, cpu: int) -> None:
        context = 4 * cpu + self.mode[cpu]
        self.pages.append((self.seq, 0x00400000, context, cpu, 1))

    def run(self, steps: int) -> None:
        """Emit about `steps` references with everything else among them."""
        for _ in range(steps):
            cpu = int(self.rng.integers(0, self.cpus))
            self.ref(cpu)
            what = int(self.rng.integers(0, 30))
            if what == 0:
                self.event(cpu, "exceptions", 3, 8, 0, 0x80001000, 0, 4001, instructions=3)
                self.account_exception(cpu)
                self.mode[cpu] = KERNEL
            elif what == 1:
                self.event(cpu, "returns", 5, 0, 0x00400000, USER, instructions=5)
                self.mode[cpu] = USER
            elif what == 2:
                self.event(cpu, "waits", 1, 0, instructions=1)
                self.clock[cpu] += 50
                self.account(cpu, "idle_cycles", 50)
                self.event(cpu, "waits", 0, 1, 1, 0, 0, 50, 0)
            elif what == 3:
                self.event(cpu, "phases", 1, 0, 1, self.retired[cpu] + 1, 1, instructions=1)
                self.event(cpu, "phases", 2, 1, 1, self.retired[cpu] + 2, 0, instructions=2)
            elif what == 4:
                self.page(cpu)
            elif what == 5:
                self.event(cpu, "tlb_ops", 2, 1, 63, 0x400000, 77, 99, 0, instructions=2)
            elif 6 <= what < 10:
                self.event(cpu, "dma", 1, 4, 1, 1, 7 * 4096 + 4000, 3, 96, instructions=1)
        for cpu in range(self.cpus):
            self.event(cpu, "ticks", 7, instructions=7)

    def account_exception(self, cpu: int) -> None:
        self.account(cpu, "exceptions")

    def take(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows since the last call as REF, PAGE and EVENT arrays."""
        arrays = (
            np.array(self.refs, REF),
            np.array(self.pages, PAGE),
            np.array(self.events, EVENT),
        )
        self.clear()
        return arrays


def write_trace(path: Path, *, segments: int = 3, steps: int = 400, seed: int = 1, **kwargs):
    """Write a valid trace with its captured run; return the rows of each segment."""
    walk = Walk(seed)
    written = []
    with TraceWriter(path, MANIFEST, symbols=SYMBOLS, provenance={"host": "h"}, **kwargs) as writer:
        for _ in range(segments):
            walk.run(steps)
            rows = walk.take()
            written.append(rows)
            writer.submit(*rows, {"instructions": sum(walk.retired)})
        run = RunWriter(
            writer.directory / "runs" / "captured", {"memory": {}}, trace_id=writer.content_id()
        )
        run.accounts(walk.accounts)
        document = run.close()
        writer.close(exit_reason="power-off", totals=document["totals"])
    return written
