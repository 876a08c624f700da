"""Lay out the monitor's own state in one flat array, `Machine.mon` (int64).

One array, because each array of a named tuple costs seven words at every call. Its sections, with
their first words in `Machine.p`: a hardware TLB for each CPU, a record for each virtual CPU, a
software TLB for each virtual CPU, a record for each virtual machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    X_CONTENTS,
    X_CPUS,
    X_DISK,
    X_LENDING,
    X_MAPPED,
    X_MONITOR,
    X_O_BLOCKS,
    X_O_MEMMAP,
    X_O_PMAP,
    X_O_POOL,
    X_O_PRIVATE,
    X_O_RESIDENT,
    X_O_STLB,
    X_O_VCPU,
    X_O_VM,
    X_POOL,
    X_RAM,
    X_SHARING,
    X_SLICE,
    X_SPECIAL,
    X_STLB_SETS,
    X_SUBNET,
    X_SWAP,
    X_TAGGED,
    X_UNMAPPED,
    X_VCPU_STRIDE,
    X_VCPUS,
    X_VMS,
    Machine,
)
from disco_trace.machine.slots import (
    MOST_FRAME,
    NEVER,
    SECTOR,
    SLOTS,
    Disk,
    Place,
    build_slots,
    places_of,
)
from disco_trace.machine.slots import PAGE_WORDS as SECTION

PAGE_SHIFT = 12

# A CPU's hardware TLB: entries (EntryHi, unused, EntryLo0, EntryLo1 with machine pages), a hint
# for each of 256 pages where its entry was last seen, the entry that is replaced next, and the tag
# of the virtual CPU that runs: 0 where tags are not asked for, so that all entries are its.
HW_ENTRIES = MAX_TLB * TLB_WORDS
HW_NEXT = HW_ENTRIES + 256
HW_TAG = HW_NEXT + 1
HW_WORDS = HW_NEXT + 8
# What stands for EntryHi in an empty entry: equal to no address.
EMPTY = 1 << 40
# Above: the tag, 1 + the number of the virtual CPU.
TAG_SHIFT = 41
TAGS = 0x3FFF << TAG_SHIFT
# What two entries for one page pair, of one virtual CPU, have in common.
PAIR = TAGS | EMPTY | 0xFFFFE000

# A virtual CPU's record.
(
    V_VM, V_NUMBER, V_HOME, V_STATE, V_READY, V_CPU, V_PROBE, V_PROBE_HI, V_BOOT, V_BOOT_PAGE,
    V_BASE_CLOCK, V_LAST,
) = range(12)  # fmt: skip
V_S = 16
V_GPR = V_S + CPU_STATE
V_CP0 = V_GPR + GPR_WORDS
V_TLB = V_CP0 + CP0_WORDS
V_FPR = V_TLB + MAX_TLB * TLB_WORDS
# V_LAST: the CPU that it ran on last. States: it runs on V_CPU, could run, waits for an interrupt;
# its machine was switched off; its exception vector faults for ever.
RUNNING, READY, WAITING, ENDED, STUCK = range(5)

# The software TLB: sets of four pairs; `key` = EntryHi + KEY_VALID, then EntryLo0/1 of the guest.
STLB_WAYS = 4
STLB_WORDS = 4
STLB_SET = STLB_WAYS * STLB_WORDS + 1  # and the way that is replaced next
KEY_VALID = 1 << 40
K_KEY, K_LO0, K_LO1 = range(3)

# A virtual machine's record. VM_BASE and VM_PAGES are in pages; VM_FIRST is its first virtual CPU.
# VM_LINE: which of its virtual CPUs the interrupt line of its devices leads to; when it rose last,
# and for which slot. VM_USED: frames of the pool that are charged to it; VM_CLEAN, VM_OTHER: 1 +
# its oldest page that can be read again, and of the others, before 1 + the newest
# (`monitor.frames`).
(
    VM_BASE, VM_PAGES, VM_VCPUS, VM_FIRST, VM_ENDED, VM_STATUS, VM_LINE, VM_LINE_CLOCK,
    VM_LINE_SLOT, VM_USED, VM_CLEAN, VM_CLEAN_LAST, VM_OTHER, VM_OTHER_LAST,
) = range(14)  # fmt: skip
VM_UART = 16
VM_WORDS = VM_UART + 16

# pmap, a record a guest page: the page of `ram` that it shows, and 1 + the next guest page that
# shows the same content. memmap, a record a content: 1 + the first guest page that
# shows it, how many do, 1 + the block of the disks that it is. Pool: how many are free, the
# first that was never used, the free ones.
PMAP_NAME, PMAP_NEXT, PMAP_WORDS = range(3)
C_FIRST, C_COUNT, C_BLOCK, CONTENT_WORDS = range(4)
POOL_DEPTH, POOL_NEXT, POOL_LIST = range(3)

# Where the machines share a pool of frames: how many are taken, then a record a page of `ram`: its
# state, the machine that it is charged to, 1 + the pages before and behind it in that one's list.
R_STATE, R_OWNER, R_PREVIOUS, R_NEXT, R_WORDS = range(5)
NO_FRAME, IN_MEMORY, AWAY = range(3)

NOBODY = -1


def attach(
    mc: Machine, spec: Any, disks: Sequence[Disk], mounted: Sequence[Sequence[int]]
) -> Machine:
    """Return the machine with the monitor's state for `spec`, every virtual CPU cold and ready.

    disks: the images; mounted: which of them each machine has.

    Virtual CPU registers are those of the bare machine's entry state; `load_vcpu` fills in the
    program counter and arguments.
    """
    from disco_trace.config import cycles
    from disco_trace.config.machines import joined, pooled, shares, virtual_machines
    from disco_trace.config.structure import structure_of

    p = mc.p
    sizes = [machine.vcpus for machine in virtual_machines(spec)]
    vms, vcpus = len(sizes), sum(sizes)
    structure = structure_of(spec)
    sets = structure.software_tlb // STLB_WAYS
    stride = V_FPR + mc.fpr.shape[1]
    p[X_MONITOR], p[X_VMS], p[X_VCPUS] = 1, vms, vcpus
    p[X_MAPPED] = spec.machine.kseg0 == "mapped"
    p[X_TAGGED] = structure.tlb == "tagged"
    p[X_UNMAPPED] = structure.kernel == "unmapped"
    p[X_STLB_SETS], p[X_VCPU_STRIDE] = sets, stride
    p[X_SPECIAL] = spec.monitor.special_page
    p[X_SLICE] = max(1, cycles(spec.monitor.slice_us * 1000, spec.machine.clock_mhz))
    p[X_O_VCPU] = int(p[X_CPUS]) * HW_WORDS
    p[X_O_STLB] = p[X_O_VCPU] + vcpus * stride
    p[X_O_VM] = p[X_O_STLB] + vcpus * (sets * STLB_SET)
    pages = int(p[X_RAM]) >> PAGE_SHIFT
    images = places_of(disks, SECTION)
    p[X_DISK] = max((at + -(-words // SECTION) * SECTION for at, words, _ in images), default=0)
    p[X_SHARING], p[X_CONTENTS] = shares(spec), vms * pages
    contents = vms * pages * int(p[X_SHARING])
    p[X_O_PMAP] = p[X_O_VM] + vms * VM_WORDS
    p[X_O_MEMMAP] = p[X_O_PMAP] + vms * pages * PMAP_WORDS
    p[X_O_POOL] = p[X_O_MEMMAP] + contents * CONTENT_WORDS
    p[X_O_BLOCKS] = p[X_O_POOL] + POOL_LIST + contents
    p[X_O_PRIVATE] = p[X_O_BLOCKS] + p[X_DISK] // SECTION
    sectors = int(p[X_DISK]) // (SECTOR // 4)
    p[X_POOL], p[X_LENDING] = spec.vm.pool_bytes >> PAGE_SHIFT, spec.vm.lending
    p[X_SWAP] = vms * pages + contents
    p[X_SUBNET] = joined(spec)
    p[X_O_RESIDENT] = p[X_O_PRIVATE] + vms * (sectors // 32 + 1)
    records = (1 + int(p[X_SWAP]) * R_WORDS) * pooled(spec)
    mon = np.zeros(int(p[X_O_RESIDENT]) + records, np.int64)
    pmap = mon[int(p[X_O_PMAP]) : int(p[X_O_MEMMAP])].reshape(-1, PMAP_WORDS)
    pmap[:, PMAP_NAME] = np.arange(vms * pages)
    for cpu in range(int(p[X_CPUS])):
        mon[cpu * HW_WORDS : cpu * HW_WORDS + HW_ENTRIES : TLB_WORDS] = EMPTY
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
        mon[at + V_STATE], mon[at + V_CPU], mon[at + V_LAST] = READY, NOBODY, NOBODY
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
    return mc._replace(
        mon=mon,
        virtio=np.concatenate(
            [build_slots(spec, [images[i] for i in have], vm) for vm, have in enumerate(mounted)]
        ),
        frames=np.zeros((vms * SLOTS, MOST_FRAME), np.uint8),
        disk=_areas(disks, images, int(p[X_DISK]), vms),
    )


def _areas(
    disks: Sequence[Disk], images: Sequence[Place], size: int, vms: int
) -> np.ndarray[Any, Any]:
    """Return the images, each from a whole page on, and as much room again for every machine."""
    room = np.zeros(max(1, (1 + vms) * size), np.uint32)
    for (words, _), (at, count, _) in zip(disks, images, strict=True):
        if words.any():  # zeros are there, and cost no memory
            room[at : at + count] = words
    return room


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


def shown_pages(mc: Machine, vm: int) -> np.ndarray[Any, Any]:
    """Return which page of `ram` has the bytes of each page of a machine."""
    pages = int(mc.p[X_RAM]) >> PAGE_SHIFT
    at = int(mc.p[X_O_PMAP]) + vm * pages * PMAP_WORDS
    names = mc.mon[at : at + pages * PMAP_WORDS : PMAP_WORDS]
    if not mc.p[X_POOL]:
        return names
    states = mc.mon[int(mc.p[X_O_RESIDENT]) + 1 :].reshape(-1, R_WORDS)[names, R_STATE]
    return names + np.where(states == AWAY, mc.p[X_SWAP], 0)


def vm_record(mc: Machine, vm: int) -> np.ndarray[Any, Any]:
    """Return a virtual machine's record, as a view."""
    at = int(mc.p[X_O_VM]) + vm * VM_WORDS
    return mc.mon[at : at + VM_WORDS]
