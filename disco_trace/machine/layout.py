"""Lay out the machine's state as flat arrays.

The memory system's state stands beside it in `memory.layout.Memory`; nothing is kept twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from disco_trace.machine.fpu.table import COSTS as FPU_COSTS
from disco_trace.machine.slots import (
    ACTION_WORDS,
    ACTIONS,
    MOST_FRAME,
    NEVER,
    SLOTS,
    Disk,
    build_slots,
    join_disks,
    places_of,
)
from disco_trace.state import HERE_WORDS
from disco_trace.trace.schema import EVENT, PAGE, REF

# Machine.p, parameters.
(
    X_CPUS, X_RAM, X_TLB, X_FILTER, X_TURN, X_MULT, X_DIV, X_STOP, X_MAX_INSTRUCTIONS,
    X_FEEDBACK, X_EVENTS, X_PAGES, X_CONTEXTS_FULL, X_NODES, X_SAVE, X_FPU,
    X_MONITOR, X_MAPPED, X_VMS, X_VCPUS, X_SLICE, X_STLB_SETS,
    X_VCPU_STRIDE, X_O_VCPU, X_O_STLB, X_O_VM, X_TAGGED, X_UNMAPPED,
    X_SHARING, X_CONTENTS, X_O_PMAP, X_O_MEMMAP, X_O_POOL, X_O_BLOCKS, X_O_PRIVATE, X_DISK,
    X_POOL, X_LENDING, X_SWAP, X_O_RESIDENT, X_SUBNET,
    X_SAVE_VM, X_SPECIAL,
    X_FPU_COSTS,
) = range(44)  # fmt: skip
# X_SAVE: the phase at whose next opening, by virtual machine X_SAVE_VM, all is stopped to be saved;
# 0 for none.
# X_FPU_COSTS …: what FPU instructions cost, in the order of `fpu.table.COSTS`, then 0 for no cost.
N_X = X_FPU_COSTS + 10
# X_MONITOR: 1 with a monitor below the guests. X_RAM and X_PAGES are one machine's. X_O_…: where
# the sections of `Machine.mon` begin (`monitor.layout`). X_TAGGED: hardware TLB entries carry their
# virtual CPU. X_UNMAPPED: KSEG0 and KSEG1 of a guest's kernel take no hardware TLB entries.
# X_CONTENTS: the first page of `ram` that is no machine's own (`monitor.pages`). X_DISK: words of
# all disks' images. X_POOL: frames for all machines, 0: as many as they have pages. X_LENDING: a
# machine may take more than its share of them. X_SWAP: pages of `ram` before the swap disk's.
# X_SUBNET: the ports of all machines are on one network.
# X_SPECIAL: guests are offered special pages.

# Machine.g, state that belongs to the whole machine.
(
    G_TURN, G_CPU, G_SEQ, G_REFS, G_PAGE_ROWS, G_EVENTS, G_CONSOLE, G_CONTEXTS, G_EXIT, G_STATUS,
    G_INSTRUCTIONS, G_STOP_CPU, G_PHASE_LOST, G_RESUME, G_FETCH_LINE, G_FETCH_DELTA, G_SINGLE,
    G_NAMES, G_DUE, G_LINE_CLOCK, G_LINE_SLOT, G_LINE_CPU, G_SAVE, N_G,
) = range(24)  # fmt: skip

# G_DUE is the earliest time of a device (`slots.V_DUE`); G_LINE_CLOCK and G_LINE_SLOT say when the
# devices' interrupt line rose last, and by which slot; G_LINE_CPU is the CPU that it leads to.

# A turn that a full buffer broke off goes on where it was, so that buffers do not show in results:
# G_RESUME is 1 + the clock at its start (0: none), the others the hot loop's fetch state. So does
# one that a checkpoint broke off (G_SAVE: the phase of X_SAVE has just been opened).

# Machine.s, int64 words of a CPU.
(
    S_PC, S_NPC, S_SLOT, S_PENDING, S_EXTRA, S_SINCE, S_LL, S_LLADDR, S_WAITING, S_DEADLINE,
    S_COUNT_OFFSET, S_CONTEXT, S_REFILL, S_RETIRED, S_PHASE_DEPTH, S_WAKER, S_WAIT_BASE,
    S_DATA, S_RANDOM_ORIGIN, S_IPI_AT, S_IPI_LAST, S_FRUITLESS, S_LAST_RETIRED,
    S_VM, S_VCPU, S_WHICH, S_BASE, S_SLICE, S_REGIME, S_PHASES,
) = range(30)  # fmt: skip
# S_PHASES … hold the stack of open phases. S_IPI_AT and S_IPI_LAST: the first and the last time at
# which inter-processor interrupts on their way will arrive (NEVER: none is). S_FRUITLESS counts
# exceptions since the last retired instruction, S_LAST_RETIRED is what had retired by the last one.
# Who runs here: S_VM, S_VCPU (its number in the machine), S_WHICH (its number among all virtual
# CPUs) and S_BASE (first byte of its memory in `ram`).
PHASE_DEPTH = 12

# What S_WAITING says: an instruction is next; WAIT; locked up. A CPU is locked up after LOCKUP
# exceptions in a row without a retired instruction: an exception vector that faults itself.
RUNNING, WAITING, LOCKED = range(3)
LOCKUP = 1 << 14
# Its special page (`monitor.special`): 1 + the guest page, of all machines', or 0; 1 while `cp0` is
# the truth and the page is not; the interrupt lines that the page shows.
S_SPECIAL = S_PHASES + PHASE_DEPTH
S_OPEN, S_SEEN = S_SPECIAL + 1, S_SPECIAL + 2
CPU_STATE = S_SPECIAL + 3

HI, LO = 32, 33
GPR_WORDS = 40

# CP0 registers, number × 8 + select.
INDEX, RANDOM, ENTRYLO0, ENTRYLO1, CONTEXT, USERLOCAL = 0, 8, 16, 24, 32, 34
PAGEMASK, WIRED, HWRENA, BADVADDR, COUNT, ENTRYHI, COMPARE = 40, 48, 56, 64, 72, 80, 88
STATUS, INTCTL, SRSCTL, SRSMAP, CAUSE, EPC, PRID, EBASE = 96, 97, 98, 99, 104, 112, 120, 121
CONFIG, CONFIG1, CONFIG2, CONFIG3, CONFIG7, LLADDR = 128, 129, 130, 131, 135, 136
ERRCTL, TAGLO, DTAGLO, TAGHI, DTAGHI = 208, 224, 226, 232, 234
ERROREPC, DESAVE, DEPC = 240, 248, 192
CP0_WORDS = 256
STATUS_CU1, STATUS_FR = 1 << 29, 1 << 26

# A CPU's FPU: 32 registers of 64 bits, or with Status.FR = 0 the first 16 as 32 words (a double
# in an even and the next odd one), then FCSR.
FCSR = 32
FPR_WORDS = 33
# F64, L, W, D, S; the processor's identification is PRId's.
FIR_VALUE = 0x00739300

TLB_WORDS = 4  # EntryHi, PageMask, EntryLo0, EntryLo1
MAX_TLB = 64
CAUSE_DC = 1 << 27
T_HI, T_MASK, T_LO0, T_LO1 = range(4)

# Why the compiled loop came back to Python.
(
    EXIT_NONE, EXIT_FULL, EXIT_POWER, EXIT_STOP, EXIT_INSTRUCTIONS, EXIT_DEADLOCK, EXIT_CONTEXTS,
    EXIT_INTERRUPTED, EXIT_BYTES, EXIT_LOCKUP, EXIT_SAVE,
) = range(11)  # fmt: skip
EXIT_REASONS = {
    EXIT_POWER: "power-off",
    EXIT_STOP: "stop-at",
    EXIT_INSTRUCTIONS: "max-instructions",
    EXIT_DEADLOCK: "deadlock: every CPU waits and nothing can wake one",
    EXIT_INTERRUPTED: "interrupted",
    EXIT_BYTES: "max-bytes",
    EXIT_LOCKUP: "lockup: a CPU faults for ever, finishing no instruction",
}

UART, POWER, CPU_BLOCK, MARKS = 0x1F000000, 0x1F001000, 0x1F002000, 0x1F003000
VIRTIO, SLOT_SHIFT = 0x1F010000, 9
IP_IPI, IP_UART, IP_VIRTIO, IP_TIMER = 2, 3, 4, 7

CONSOLE_BYTES = 1 << 16
# Rows of the table of contexts: it begins with the fewest, and is doubled.
FEWEST_CONTEXTS, MOST_CONTEXTS = 256, 4096
CONTEXT_WORDS = 5  # vm, vcpu, asid, phase, 1 + number of the process's name (0: none)
ASIDS = 256
# Names of processes that a trace may tell apart, and the bytes of one.
MAX_NAMES = 1024
NAME_BYTES = 28

# One trip through the slow part of the loop writes at most this many rows of a kind (a CACHE
# operation, an exception with its context, ticks of 64 CPUs).
ROOM = 160


class Machine(NamedTuple):
    """Hold everything of the machine but its memory system.

    ram: uint32 words. ops: uint8 dense opcode id per word, 0 where not decoded yet (a store clears
    it). gpr: uint32 [cpus, GPR_WORDS]. cp0: uint32 [cpus, CP0_WORDS].
    fpr: uint64 [cpus, FPR_WORDS]. s: int64 [cpus, CPU_STATE].
    tlb: uint32 [cpus, MAX_TLB * TLB_WORDS]. filter: uint64 [cpus, 64]:
    `(page + 2^20) << 32 | frame address | uncached << 1 | writable`.
    hint: uint8 [cpus, 256]: where a page's TLB entry was last seen.
    contexts: int64 [capacity, CONTEXT_WORDS]. uart: int64 [16]. mon: the monitor's own state.
    console: uint16, machine << 8 | byte. here: int64 [HERE_WORDS], the tuple itself while a kernel
    runs.
    virtio: int64 [machines × SLOTS, SLOT_WORDS], see `slots`. frames: uint8 [machines × SLOTS,
    MOST_FRAME], what a port sends. disk: uint32 words of all disks, one behind the other, then each
    virtual machine's own. actions: see `slots.A_DMA`.
    names: uint8 [MAX_NAMES + 1, NAME_BYTES], of which `g[G_NAMES]` are known; processes: int64
    [vms × ASIDS], 1 + the number of an address space's name, 0 for none.
    """

    p: np.ndarray
    g: np.ndarray
    ram: np.ndarray
    ops: np.ndarray
    gpr: np.ndarray
    cp0: np.ndarray
    fpr: np.ndarray
    s: np.ndarray
    tlb: np.ndarray
    filter: np.ndarray
    hint: np.ndarray
    contexts: np.ndarray
    uart: np.ndarray
    virtio: np.ndarray
    frames: np.ndarray
    disk: np.ndarray
    actions: np.ndarray
    console: np.ndarray
    names: np.ndarray
    processes: np.ndarray
    mon: np.ndarray
    refs: np.ndarray
    pages: np.ndarray
    events: np.ndarray
    here: np.ndarray


def buffers(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Allocate one set of event buffers: references, page references, control rows."""
    return np.zeros(rows, REF), np.zeros(rows, PAGE), np.zeros(max(rows // 4, 1024), EVENT)


def config1(spec: Any) -> int:
    """Encode Config1 from the first-level caches, the TLB and the FPU."""

    def cache(level: Any) -> int:
        sets = level.size_bytes // (level.ways * level.line_bytes)
        code = sets.bit_length() - 1 - 6
        if not -1 <= code <= 6 or level.ways > 8 or level.line_bytes > 128:
            return 0
        return (code & 7) << 6 | (level.line_bytes.bit_length() - 2) << 3 | (level.ways - 1)

    # I fields in 24:16, D fields in 15:7; line 0 would mean "no cache".
    i, d = cache(spec.machine.l1i), cache(spec.machine.l1d)
    size = (spec.machine.tlb_entries - 1) << 25
    return 1 << 31 | size | (i & 0x1FF) << 16 | (d & 0x1FF) << 7 | spec.machine.fpu


def build(
    spec: Any,
    rows: int,
    disks: Sequence[Disk] = (),
    mounted: Sequence[Sequence[int]] | None = None,
) -> Machine:
    """Allocate a machine in the state that docs/architecture.md gives for entry, PC = 0.

    disks: the contents of its block devices; what the guest writes is written there.
    mounted: which of them each virtual machine has, copy on write.
    """
    from disco_trace.config.machines import machines_of, pooled, shares
    from disco_trace.memory.layout import PAGE_BYTES

    cpus = spec.machine.cpus
    machines = machines_of(spec)
    words = (1 + shares(spec)) * machines * spec.machine.ram_bytes // 4
    words *= 1 + pooled(spec)  # and behind it what is on the monitor's swap disk
    refs, pages, events = buffers(rows)
    p = np.zeros(N_X, np.int64)
    p[X_CPUS], p[X_RAM], p[X_TLB] = cpus, spec.machine.ram_bytes, spec.machine.tlb_entries
    p[X_FILTER], p[X_TURN] = spec.machine.page_filter_entries, spec.machine.turn_cycles
    p[X_MULT], p[X_DIV] = spec.machine.mult_cycles, spec.machine.div_cycles
    p[X_FPU] = spec.machine.fpu
    for index, name in enumerate(FPU_COSTS):
        p[X_FPU_COSTS + index] = getattr(spec.machine, f"fpu_{name}_cycles") - 1
    p[X_FEEDBACK], p[X_EVENTS] = spec.time.feedback == "full", 1
    p[X_PAGES], p[X_NODES] = spec.machine.ram_bytes // PAGE_BYTES, spec.machine.nodes
    p[X_CONTENTS] = np.iinfo(np.int64).max
    p[X_STOP], p[X_MAX_INSTRUCTIONS] = -1, np.iinfo(np.int64).max
    cp0 = np.zeros((cpus, CP0_WORDS), np.uint32)
    cp0[:, PRID] = 0x00019300
    cp0[:, CONFIG] = 0x80000483
    cp0[:, CONFIG1] = config1(spec)
    cp0[:, CONFIG2] = 0x80000000
    cp0[:, CONFIG3] = 1 << 13
    cp0[:, INTCTL] = 7 << 29
    cp0[:, EBASE] = 0x80000000 | np.arange(cpus)
    cp0[:, HWRENA] = 0
    s = np.zeros((cpus, CPU_STATE), np.int64)
    s[:, S_NPC] = 4
    # Count and Compare start equal and meet again after a wrap.
    s[:, S_DEADLINE] = 1 << 33
    s[:, S_IPI_AT] = NEVER
    s[:, S_VCPU] = np.arange(cpus)
    contexts = np.zeros((FEWEST_CONTEXTS, CONTEXT_WORDS), np.int64)
    g = np.zeros(N_G, np.int64)
    g[G_DUE] = NEVER
    machine = Machine(
        p=p, g=g, ram=np.zeros(words, np.uint32),
        ops=np.zeros(words, np.uint8), gpr=np.zeros((cpus, GPR_WORDS), np.uint32), cp0=cp0,
        fpr=np.zeros((cpus, FPR_WORDS), np.uint64), s=s,
        tlb=_cold_tlb(cpus), filter=np.zeros((cpus, 64), np.uint64),
        hint=np.zeros((cpus, 256), np.uint8), contexts=contexts, uart=np.zeros(16, np.int64),
        virtio=build_slots(spec, places_of(disks)), frames=np.zeros((SLOTS, MOST_FRAME), np.uint8),
        disk=join_disks(disks), actions=np.zeros((ACTIONS, ACTION_WORDS), np.int64),
        console=np.zeros(CONSOLE_BYTES, np.uint16),
        names=np.zeros((MAX_NAMES + 1, NAME_BYTES), np.uint8),
        processes=np.zeros(machines * ASIDS, np.int64), mon=np.zeros(1, np.int64),
        refs=refs, pages=pages, events=events, here=np.zeros(HERE_WORDS, np.int64),
    )  # fmt: skip
    if spec.monitor.kind == "none":
        return machine
    from disco_trace.monitor.layout import attach

    return attach(machine, spec, disks, mounted or [[]] * machines)


def _cold_tlb(cpus: int) -> np.ndarray:
    """Return TLBs whose entries match nothing: distinct KSEG0 pages, invalid."""
    tlb = np.zeros((cpus, MAX_TLB, TLB_WORDS), np.uint32)
    tlb[:, :, T_HI] = 0x80000000 + (np.arange(MAX_TLB, dtype=np.uint32) << 13)
    return tlb.reshape(cpus, -1)
