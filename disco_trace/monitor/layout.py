"""Lay out the monitor's own state in one flat array, `Machine.mon` (int64).

One array, because each array of a named tuple costs seven words at every call. Its sections, with
their first words in `Machine.p`: a hardware TLB for each CPU, a record for each virtual CPU, a
software TLB for each virtual CPU, a record for each virtual machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from disco_trace.machine.layout import (
    CP0_WORDS,
    CPU_STATE,
    EBASE,
    GPR_WORDS,
    MAX_TLB,
    S_BASE,
    S_NPC,
    S_PC,
    S_SLICE,
    S_VCPU,
    S_VM,
    S_WHICH,
    STATUS,
    TLB_WORDS,
    X_CPUS,
    X_MAPPED,
    X_MONITOR,
    X_O_STLB,
    X_O_VCPU,
    X_O_VM,
    X_RAM,
    X_SLICE,
    X_SPECIAL,
    X_STLB_SETS,
    X_VCPU_STRIDE,
    X_VCPUS,
    X_VMS,
    Machine,
)
from disco_trace.machine.slots import NEVER

PAGE_SHIFT = 12

# A CPU's hardware TLB: entries (EntryHi, unused, EntryLo0, EntryLo1 with machine pages), a hint
# for each of 256 pages where its entry was last seen, and the entry that is replaced next.
HW_ENTRIES = MAX_TLB * TLB_WORDS
HW_NEXT = HW_ENTRIES + 256
HW_WORDS = HW_NEXT + 8
# What stands for EntryHi in an empty entry: equal to no address.
EMPTY = 1 << 40

# A virtual CPU's record.
(
    V_VM, V_NUMBER, V_HOME, V_STATE, V_READY, V_CPU, V_PROBE, V_PROBE_HI, V_BOOT, V_BOOT_PAGE,
    V_BASE_CLOCK,
) = range(11)  # fmt: skip
V_S = 16
V_GPR = V_S + CPU_STATE
V_CP0 = V_GPR + GPR_WORDS
V_TLB = V_CP0 + CP0_WORDS
V_FPR = V_TLB + MAX_TLB * TLB_WORDS
# States: it runs on V_CPU, could run, waits for an interrupt; its machine was switched off; its
# exception vector faults for ever.
RUNNING, READY, WAITING, ENDED, STUCK = range(5)

# The software TLB: sets of four pairs; `key` = EntryHi + KEY_VALID, then EntryLo0/1 of the guest.
STLB_WAYS = 4
STLB_WORDS = 4
STLB_SET = STLB_WAYS * STLB_WORDS + 1  # and the way that is replaced next
KEY_VALID = 1 << 40
K_KEY, K_LO0, K_LO1 = range(3)

# A virtual machine's record. VM_BASE and VM_PAGES are in pages; VM_FIRST is its first virtual CPU.
VM_BASE, VM_PAGES, VM_VCPUS, VM_FIRST, VM_ENDED, VM_STATUS = range(6)
VM_UART = 8
VM_WORDS = VM_UART + 16

NOBODY = -1


def attach(mc: Machine, spec: Any) -> Machine:
    """Return the machine with the monitor's state for `spec`, every virtual CPU cold and ready.

    Virtual CPU registers are those of the bare machine's entry state; `load_vcpu` fills in the
    program counter and arguments.
    """
    from disco_trace.config import cycles
    from disco_trace.config.machines import virtual_machines

    p = mc.p
    sizes = [machine.vcpus for machine in virtual_machines(spec)]
    vms, vcpus = len(sizes), sum(sizes)
    sets = spec.monitor.stlb_entries // STLB_WAYS
    stride = V_FPR + mc.fpr.shape[1]
    p[X_MONITOR], p[X_VMS], p[X_VCPUS] = 1, vms, vcpus
    p[X_MAPPED] = spec.machine.kseg0 == "mapped"
    p[X_STLB_SETS], p[X_VCPU_STRIDE] = sets, stride
    p[X_SPECIAL] = spec.monitor.special_page
    p[X_SLICE] = max(1, cycles(spec.monitor.slice_us * 1000, spec.machine.clock_mhz))
    p[X_O_VCPU] = int(p[X_CPUS]) * HW_WORDS
    p[X_O_STLB] = p[X_O_VCPU] + vcpus * stride
    p[X_O_VM] = p[X_O_STLB] + vcpus * (sets * STLB_SET)
    mon = np.zeros(int(p[X_O_VM]) + vms * VM_WORDS, np.int64)
    for cpu in range(int(p[X_CPUS])):
        mon[cpu * HW_WORDS : cpu * HW_WORDS + HW_ENTRIES : TLB_WORDS] = EMPTY
    pages = int(p[X_RAM]) >> PAGE_SHIFT
    owners: list[tuple[int, int]] = []  # machine and number of each virtual CPU
    for vm, size in enumerate(sizes):
        at = int(p[X_O_VM]) + vm * VM_WORDS
        mon[at + VM_BASE], mon[at + VM_PAGES] = vm * pages, pages
        mon[at + VM_VCPUS], mon[at + VM_FIRST] = size, len(owners)
        owners += [(vm, number) for number in range(size)]
    state, cp0, tlb = mc.s[0].copy(), mc.cp0[0].copy(), mc.tlb[0].copy()
    for which, (vm, number) in enumerate(owners):
        at = int(p[X_O_VCPU]) + which * stride
        mon[at + V_VM], mon[at + V_NUMBER] = vm, number
        mon[at + V_HOME] = which % int(p[X_CPUS])
        mon[at + V_STATE], mon[at + V_CPU] = READY, NOBODY
        state[S_VM], state[S_VCPU], state[S_WHICH] = vm, number, which
        state[S_BASE] = (vm * pages) << PAGE_SHIFT
        cp0[EBASE] = 0x80000000 | number
        mon[at + V_S : at + V_GPR] = state
        mon[at + V_CP0 : at + V_TLB] = cp0
        mon[at + V_TLB : at + V_FPR] = tlb
    mc.s[:, S_WHICH] = NOBODY
    mc.s[:, S_VM] = NOBODY
    mc.s[:, S_SLICE] = NEVER
    mc.cp0[:, STATUS] = 0
    mc.virtio[:] = 0  # slots of virtual machines are empty
    return mc._replace(mon=mon)


def load_vcpu(
    mc: Machine, which: int, *, pc: int, registers: Mapping[int, int], boot_page: int | None
) -> None:
    """Set where a virtual CPU starts; `boot_page` is what the monitor maps until the guest does.

    boot_page: virtual page pair (address >> 13) that translates to the physical address below it.
    """
    at = int(mc.p[X_O_VCPU]) + which * int(mc.p[X_VCPU_STRIDE])
    mc.mon[at + V_S + S_PC] = pc
    mc.mon[at + V_S + S_NPC] = (pc + 4) & 0xFFFFFFFF
    for register, value in registers.items():
        mc.mon[at + V_GPR + register] = value
    if boot_page is not None:
        mc.mon[at + V_BOOT], mc.mon[at + V_BOOT_PAGE] = 1, boot_page


def vm_record(mc: Machine, vm: int) -> np.ndarray[Any, Any]:
    """Return a virtual machine's record, as a view."""
    at = int(mc.p[X_O_VM]) + vm * VM_WORDS
    return mc.mon[at : at + VM_WORDS]
