"""A machine in this process: put words into RAM, set registers, run, look."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from disco_trace.config import resolve
from disco_trace.machine import kernel, layout
from disco_trace.machine.fpu.table import COSTS
from disco_trace.memory import layout as memory_layout
from disco_trace.memory.layout import F_INTERVALS, F_MISSES, F_MOVES
from tests.machine.assemble import CP0, REGISTERS, assemble

CODE = 0x80001000
KSEG0, KSEG1 = 0x80000000, 0xA0000000


class Board:
    """One machine. The clock runs one cycle an instruction unless `sets` says otherwise."""

    def __init__(self, *sets: str, cpus: int = 1, rows: int = 20_000, disks: Any = ()) -> None:
        spec = resolve(
            machine="uniprocessor",
            sets=[
                f"machine.cpus={cpus}",
                "machine.nodes=1",
                "machine.ram_bytes=16MiB",
                "time.feedback=none",
                "machine.mult_cycles=1",
                "machine.div_cycles=1",
                *(f"machine.fpu_{name}_cycles=1" for name in COSTS),
                *sets,
            ],
        )
        self.spec, self.disks = spec, disks
        self.m = layout.build(spec, rows, disks)
        self.memory = memory_layout.build(spec, contexts=4 * len(self.m.contexts))
        self.m.p[layout.X_CONTEXTS_FULL] = 1  # what does not fit shares one context
        self.started = False

    def fresh(self) -> Board:
        """Return the machine as it was built, with the same disks."""
        made = copy.copy(self)
        made.m = layout.build(self.spec, len(self.m.refs), self.disks)
        made.memory = memory_layout.build(self.spec, contexts=4 * len(made.m.contexts))
        made.started = False
        return made

    def words(self, at: int, words: Sequence[int] | np.ndarray) -> None:
        """Store words at a KSEG0, KSEG1 or physical address."""
        index = (at & 0x1FFFFFFF) >> 2
        self.m.ram[index : index + len(words)] = words
        self.m.ops[index : index + len(words)] = 0

    def word(self, at: int) -> int:
        """Return the word at an address."""
        return int(self.m.ram[(at & 0x1FFFFFFF) >> 2])

    def program(self, text: str, at: int = CODE, **symbols: int) -> None:
        """Assemble a program into RAM (where `at` is unmapped) and point CPU 0 at it."""
        self.words(at, assemble(text, at, **symbols))
        self.jump(at)

    def jump(self, pc: int, cpu: int = 0) -> None:
        """Set a CPU's program counter."""
        self.m.s[cpu, layout.S_PC] = pc
        self.m.s[cpu, layout.S_NPC] = (pc + 4) & 0xFFFFFFFF
        self.m.s[cpu, layout.S_SLOT] = 0

    def set(self, cpu: int = 0, /, **registers: int) -> None:
        """Set general or CP0 registers, hi and lo, by name."""
        for name, value in registers.items():
            if name in CP0:
                number, select = CP0[name]
                self.m.cp0[cpu, 8 * number + select] = value & 0xFFFFFFFF
            elif name in ("hi", "lo"):
                self.m.gpr[cpu, layout.HI if name == "hi" else layout.LO] = value & 0xFFFFFFFF
            else:
                self.m.gpr[cpu, REGISTERS[name]] = value & 0xFFFFFFFF

    def get(self, name: str, cpu: int = 0) -> int:
        """Return a register by name (CP0 names win; pc is the next instruction)."""
        if name == "pc":
            return int(self.m.s[cpu, layout.S_PC])
        if name == "count":
            return int(kernel.count_register(self.m, self.memory, cpu))
        if name in CP0:
            number, select = CP0[name]
            return int(self.m.cp0[cpu, 8 * number + select])
        if name in ("hi", "lo"):
            return int(self.m.gpr[cpu, layout.HI if name == "hi" else layout.LO])
        return int(self.m.gpr[cpu, REGISTERS[name]])

    def floats(self, cpu: int = 0, /, **registers: int) -> None:
        """Set FPU registers (d0 to d31 with Status.FR = 1, w0 to w31 with FR = 0) and fcsr."""
        for name, value in registers.items():
            if name == "fcsr":
                self.m.fpr[cpu, layout.FCSR] = value
            elif name[0] == "d":
                self.m.fpr[cpu, int(name[1:])] = value
            else:
                self.m.fpr[cpu].view(np.uint32)[int(name[1:])] = value

    def float(self, name: str, cpu: int = 0) -> int:
        """Return an FPU register by the names of `floats`."""
        if name == "fcsr":
            return int(self.m.fpr[cpu, layout.FCSR])
        if name[0] == "d":
            return int(self.m.fpr[cpu, int(name[1:])])
        return int(self.m.fpr[cpu].view(np.uint32)[int(name[1:])])

    def tlb(self, entry: int, hi: int, lo0: int, lo1: int, mask: int = 0, cpu: int = 0) -> None:
        """Fill a TLB entry as TLBWI would."""
        both = lo0 & lo1 & 1
        at = entry * layout.TLB_WORDS
        self.m.tlb[cpu, at : at + 4] = [hi & ~mask, mask, lo0 & ~1 | both, lo1 & ~1 | both]

    def run(self, instructions: int = 10_000, stop: int = -1, calls: int = 1000) -> int:
        """Run; return the EXIT_ code. Rows are thrown away. `stop`: an address to stop before."""
        m = self.m
        if not self.started:
            kernel.start(m, self.memory)
            self.started = True
        m.g[layout.G_EXIT] = 0
        m.p[layout.X_STOP] = stop
        m.p[layout.X_MAX_INSTRUCTIONS] = m.g[layout.G_INSTRUCTIONS] + instructions
        for _ in range(calls):
            code = int(kernel.run(m, self.memory, np.int64(1 << 22)))
            if code not in (layout.EXIT_NONE, layout.EXIT_FULL):
                return code
            self.empty()
        raise AssertionError("the machine makes no progress")

    def step(self, instructions: int = 1) -> None:
        """Retire an exact number of instructions."""
        before = int(self.m.g[layout.G_INSTRUCTIONS])
        code = self.run(instructions)
        assert code == layout.EXIT_INSTRUCTIONS, code
        assert self.m.g[layout.G_INSTRUCTIONS] == before + instructions

    def empty(self) -> None:
        """Throw away rows, results and console output."""
        g = self.m.g
        g[[layout.G_REFS, layout.G_PAGE_ROWS, layout.G_EVENTS, layout.G_CONSOLE]] = 0
        self.memory.fill[[F_MISSES, F_MOVES, F_INTERVALS]] = 0
