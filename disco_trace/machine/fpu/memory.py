"""FPU loads and stores that do not hit: uncached memory and devices."""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper
from disco_trace.machine.devices import device_read, device_write
from disco_trace.machine.isa import ID
from disco_trace.machine.layout import STATUS, STATUS_FR, X_MONITOR, X_RAM

U = np.uint64
(
    O_LWC1, O_LDC1, O_SWC1, O_SDC1, O_LWXC1, O_LDXC1, O_LUXC1, O_SWXC1, O_SDXC1, O_SUXC1,
) = (
    ID[name] for name in
    ["lwc1", "ldc1", "swc1", "sdc1", "lwxc1", "ldxc1", "luxc1", "swxc1", "sdxc1", "suxc1"]
)  # fmt: skip


@helper
def float_place(mc, cpu, op, word):
    """Return if an FPU memory instruction loads, its first word of `fpr`, and how many words."""
    loads = (
        op == O_LWC1 or op == O_LDC1 or op == O_LWXC1 or op == O_LDXC1 or op == O_LUXC1
    )  # fmt: skip
    single = op == O_LWC1 or op == O_LWXC1 or op == O_SWC1 or op == O_SWXC1
    if op == O_LWC1 or op == O_LDC1 or op == O_SWC1 or op == O_SDC1:
        number = np.int64(word >> U(16)) & 31
    else:
        number = np.int64(word >> (U(6) if loads else U(11))) & 31
    at = number << (1 if mc.cp0[cpu, STATUS] & STATUS_FR else 0)
    if not single:
        at &= ~1
    return loads, at, 1 if single else 2


@helper
def float_access(mc, m, cpu, op, word, physical, work):
    """Move the data of an FPU load or store; eight bytes are two words, the lower one first.

    physical: aligned to the access. Returns what `device_write` does, 0 for memory and loads.
    """
    loads, at, halves = float_place(mc, cpu, op, word)
    words = mc.fpr[cpu].view(np.uint32)
    done = np.int64(0)
    for half in range(halves):
        address = physical + 4 * half
        ram = address < mc.p[X_RAM] or mc.p[X_MONITOR] != 0
        if loads and ram:
            words[at + half] = mc.ram[address >> 2]
        elif loads:
            words[at + half] = device_read(mc, cpu, address) & 0xFFFFFFFF
        elif ram:
            mc.ram[address >> 2] = words[at + half]
            mc.ops[address >> 2] = 0
        else:
            # The first of two rows closes the work before both.
            left = np.int64(0) if done & 2 else work
            done |= device_write(mc, m, cpu, address, np.int64(words[at + half]), left)
    return done
