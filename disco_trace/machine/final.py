"""Name the registers of a machine as it stands."""

from __future__ import annotations

from typing import Any

from disco_trace.machine import kernel
from disco_trace.machine.layout import HI, LO, S_PC, Machine
from disco_trace.memory.layout import Memory

CP0_NAMES = {
    "index": 0, "entrylo0": 16, "entrylo1": 24, "context": 32, "userlocal": 34, "pagemask": 40,
    "wired": 48, "hwrena": 56, "badvaddr": 64, "count": 72, "entryhi": 80, "compare": 88,
    "status": 96, "intctl": 97, "srsctl": 98, "cause": 104, "epc": 112, "prid": 120, "ebase": 121,
    "config": 128, "config1": 129, "config2": 130, "config3": 131, "config7": 135,
    "errctl": 208, "errorepc": 240,
}  # fmt: skip


def registers(machine: Machine, memory: Memory) -> tuple[list[dict[str, int]], Any]:
    """Return every CPU's general and CP0 registers by name."""
    general, system = [], []
    for cpu in range(len(machine.gpr)):
        row = machine.gpr[cpu]
        words = {f"r{n}": int(row[n]) for n in range(32)}
        words["hi"], words["lo"] = int(row[HI]), int(row[LO])
        words["pc"] = int(machine.s[cpu, S_PC]) & 0xFFFFFFFF
        general.append(words)
        cp0 = {name: int(machine.cp0[cpu, at]) for name, at in CP0_NAMES.items()}
        cp0["count"] = int(kernel.count_register(machine, memory, cpu))
        system.append(cp0)
    return general, system
