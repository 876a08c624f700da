"""Define every row of a trace: the one source for writer, reader, checker, SQL and SCHEMA.md.

Three families of rows leave the compiled code, each in its own structured buffer:

* ``REF``: references below the first level; nearly all the volume, so the row is narrow.
* ``PAGE``: page references below the page filter; they take no sequence number of their own.
* ``EVENT``: everything else ("control rows"), one wide row with six arguments whose meaning
  depends on the kind. On disk each kind has its own folder and its own named columns.

References and control rows share one global sequence: every number is used exactly once, by one
row. A reader therefore never needs the ``seq`` column of ``refs``: the control rows' numbers leave
the references' as the complement. A ``PAGE`` row carries the number of the *next* row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

FORMAT_VERSION: Final = 2

REF: Final = np.dtype(
    [
        ("seq", "u8"),
        ("cycle", "u8"),
        ("vaddr", "u8"),
        ("guest_page", "u8"),
        ("pc", "u8"),
        ("work", "u4"),
        ("context", "u4"),
        ("cpu", "u1"),
        ("kind", "u1"),
        ("way", "u1"),
    ],
    align=True,
)

PAGE: Final = np.dtype(
    [
        ("seq", "u8"),
        ("vaddr", "u8"),
        ("context", "u4"),
        ("cpu", "u1"),
        ("kind", "u1"),
    ],
    align=True,
)

EVENT: Final = np.dtype(
    [
        ("seq", "u8"),
        ("cycle", "u8"),
        ("work", "u8"),
        ("instructions", "u8"),
        ("a0", "u8"),
        ("a1", "u8"),
        ("a2", "u8"),
        ("a3", "u8"),
        ("a4", "u8"),
        ("a5", "u8"),
        ("context", "u4"),
        ("kind", "u1"),
        ("cpu", "u1"),
    ],
    align=True,
)

# One row for each second-level miss of a run (a result, never an input of a replay).
MISS: Final = np.dtype(
    [
        ("seq", "u8"),
        ("cycle", "u8"),
        ("vaddr", "u8"),
        ("guest_page", "u8"),
        ("pc", "u8"),
        ("stall_cycles", "u4"),
        ("context", "u4"),
        ("cpu", "u1"),
        ("home", "u1"),
        ("source", "u1"),
        ("class", "u1"),
        ("kind", "u1"),
    ],
    align=True,
)

# One row for each page move of a run.
MOVE: Final = np.dtype(
    [
        ("seq", "u8"),
        ("cycle", "u8"),
        ("guest_page", "u8"),
        ("cycles", "u8"),
        ("vm", "u2"),
        ("cpu", "u1"),
        ("action", "u1"),
        ("reason", "u1"),
        ("from_node", "u1"),
        ("to_node", "u1"),
    ],
    align=True,
)

# Kinds of reference. A `load`, `store` or `fetch` missed the first level; an `upgrade` is the
# first write to a line that the first level holds clean; `sc_done` and `sc_fail` report the
# outcome of a store-conditional and touch nothing (its store is a row of its own).
REF_KINDS: Final = (
    "fetch",
    "load",
    "store",
    "upgrade",
    "uncached_fetch",
    "uncached_load",
    "uncached_store",
    "cache_op",
    "sc_done",
    "sc_fail",
)

MODES: Final = ("kernel", "supervisor", "user", "refill")

PAGE_KINDS: Final = ("fetch", "load", "store")
SOURCES: Final = ("local", "remote", "dirty")
CLASSES: Final = ("cold", "capacity", "coherence")
MOVE_ACTIONS: Final = ("place", "migrate", "replicate", "collapse", "refuse")
MOVE_REASONS: Final = (
    "first_touch",
    "round_robin",
    "policy",
    "hot",
    "shared",
    "write",
    "limit",
    "no_frame",
    "write_shared",
)
TLB_OPS: Final = ("write_indexed", "write_random", "probe", "read", "asid", "flush")
INTERRUPT_EVENTS: Final = (
    "raised",
    "cleared",
    "delivered",
    "taken",
    "timer_programmed",
    "device_started",
)
PAGE_EVENTS: Final = (
    "allocate",
    "map",
    "share",
    "break",
    "reuse",
    "swap_out",
    "swap_in",
    "lend",
    "reclaim",
    "free",
    "zero",
    "class",
)
SCHEDULE_EVENTS: Final = ("run", "preempt", "idle", "migrate", "stop")
# What a device does to memory; the low bit says that it writes.
DMA_OPS: Final = ("read", "write", "ring_read", "ring_write")
WAIT_EVENTS: Final = ("begin", "end")
WAIT_CAUSES: Final = ("none", "timer", "ipi", "device", "never")
PHASE_EVENTS: Final = ("open", "close")
RETURN_OPS: Final = ("eret", "mode_write")


@dataclass(frozen=True)
class Column:
    """Name one column of a kind: its type on disk and its meaning.

    ``enum`` names the tuple whose index is stored; ``arg`` is the EVENT field it travels in.
    """

    name: str
    type: str
    doc: str
    arg: str = ""
    enum: tuple[str, ...] | None = None
    unit: str = ""


@dataclass(frozen=True)
class Kind:
    """Name one folder of a trace, the sentence for its row, and the columns beyond the common."""

    name: str
    code: int
    doc: str
    columns: tuple[Column, ...] = ()


# Columns that every control row has, in this order, before its own.
COMMON: Final = (
    Column("seq", "uint64", "global sequence number"),
    Column("cycle", "uint64", "the CPU's clock in the captured run", unit="cycles"),
    Column("cpu", "uint8", "CPU that acted"),
    Column("context", "uint32", "context in force before the event (4 x contexts.id + mode)"),
    Column("work", "uint64", "base cycles since this CPU's previous row", unit="cycles"),
    Column("instructions", "uint64", "instructions retired since this CPU's previous control row"),
)


def _c(
    arg: int, name: str, doc: str, type: str = "uint64", enum: tuple[str, ...] | None = None,
    unit: str = "",
) -> Column:  # fmt: skip
    return Column(name, "uint8" if enum else type, doc, f"a{arg}", enum, unit)


REFS: Final = Kind(
    "refs",
    0,
    "One reference that left the first-level caches, or the outcome of a store-conditional.",
    (
        Column("seq", "uint64", "global sequence number"),
        Column("cycle", "uint64", "the CPU's clock before the stall, captured run", unit="cycles"),
        Column("cpu", "uint8", "CPU that made the reference"),
        Column("context", "uint32", "context (4 x contexts.id + mode)"),
        Column("kind", "uint8", "what was referenced and why", enum=REF_KINDS),
        Column("way", "uint8", "first-level way filled or written; a cache_op's operation field"),
        Column("vaddr", "uint64", "virtual address of the reference"),
        Column("guest_page", "uint64", "guest-physical page number (4 KiB pages)"),
        Column("pc", "uint64", "virtual address of the instruction"),
        Column("work", "uint32", "base cycles since this CPU's previous row", unit="cycles"),
    ),
)

PAGES: Final = Kind(
    "pages",
    1,
    "One page reference that missed the per-CPU page filter (mapped segments only).",
    (
        Column("seq", "uint64", "sequence number of the next row; shared, not its own"),
        Column("cpu", "uint8", "CPU that made the reference"),
        Column("context", "uint32", "context (4 x contexts.id + mode)"),
        Column("kind", "uint8", "kind of access", enum=PAGE_KINDS),
        Column("vaddr", "uint64", "virtual address of the reference"),
    ),
)

CONTROL: Final = (
    Kind(
        "ticks",
        2,
        "An accounting row: closes an interval of work and nothing else.",
        (_c(0, "data_references", "loads and stores since this CPU's previous tick"),),
    ),
    Kind(
        "contexts",
        3,
        "A context seen for the first time: what `context` columns point to. An address space that "
        "gets another name (see `processes`) gets other contexts.",
        (
            _c(0, "id", "context number without mode", "uint32"),
            _c(1, "vm", "virtual machine; 0 on the bare machine", "uint16"),
            _c(2, "vcpu", "virtual CPU; equals the CPU on the bare machine", "uint16"),
            _c(3, "asid", "address-space identifier (EntryHi.ASID)", "uint16"),
            _c(4, "phase", "innermost open phase, 0 for none", "uint32"),
        ),
    ),
    Kind(
        "tlb_ops",
        4,
        "One TLB instruction, ASID change or flush of the guest.",
        (
            _c(0, "op", "operation", enum=TLB_OPS),
            _c(1, "index", "TLB index written, probed or read; 2^31 on a probe miss", "uint32"),
            _c(2, "entryhi", "EntryHi: virtual page pair and ASID", "uint64"),
            _c(3, "entrylo0", "EntryLo0 of the even page"),
            _c(4, "entrylo1", "EntryLo1 of the odd page"),
            _c(5, "pagemask", "PageMask"),
        ),
    ),
    Kind(
        "exceptions",
        5,
        "One guest exception taken (also those that trap to the monitor).",
        (
            _c(0, "code", "Cause.ExcCode (0 interrupt, 2 TLBL, 3 TLBS, 8 syscall ...)", "uint8"),
            _c(1, "refill", "1 if no TLB entry matched (a TLB miss)", "uint8"),
            _c(2, "pc", "address of the faulting instruction"),
            _c(3, "vaddr", "BadVAddr, for address and TLB exceptions; otherwise 0"),
            _c(4, "detail", "system call number ($v0), interrupt lines (Cause.IP), or 0"),
            _c(5, "delay_slot", "1 if the instruction stands in a branch delay slot", "uint8"),
        ),
    ),
    Kind(
        "returns",
        6,
        "One return from an exception, or another change of processor mode.",
        (
            _c(0, "op", "how", enum=RETURN_OPS),
            _c(1, "pc", "address continued at"),
            _c(2, "to_mode", "mode continued in", enum=MODES),
        ),
    ),
    Kind(
        "traps",
        7,
        "One entry to the monitor, with the work that it did.",
        (
            _c(0, "cause", "cause of the trap (costs table)", "uint8"),
            _c(1, "pc", "address of the trapping instruction"),
            _c(2, "vaddr", "address concerned, or 0"),
            _c(3, "tlb_entries", "TLB entries inserted", "uint32"),
            _c(4, "pages", "pages zeroed (low 32 bits), CPUs interrupted (high 32 bits)"),
            _c(5, "bytes_copied", "bytes copied by the monitor", unit="bytes"),
        ),
    ),
    Kind(
        "interrupts",
        8,
        "One step of an interrupt: raised, cleared, delivered, taken; or what will lead to one: a "
        "timer programmed, a device started.",
        (
            _c(0, "event", "step", enum=INTERRUPT_EVENTS),
            _c(1, "line", "Cause.IP bit number", "uint8"),
            _c(
                2,
                "target",
                "CPU concerned; for line 4, the device that works (slot + 8 x virtual machine)",
                "uint16",
            ),
            _c(
                3,
                "deadline",
                "a timer's absolute deadline on the turn clock; for line 4, the time since the "
                "device was started (raised; + 2^48 x the machine whose line it is), or its "
                "latency (device_started)",
            ),
        ),
    ),
    Kind(
        "page_events",
        9,
        "One event in the life of a guest page.",
        (
            _c(0, "event", "what happened", enum=PAGE_EVENTS),
            _c(1, "guest_page", "guest-physical page number"),
            _c(
                2,
                "other_vm",
                "the other machine of a share or loan, or at the end of a message",
                "uint16",
            ),
            _c(3, "bytes", "bytes concerned", unit="bytes"),
            _c(4, "content", "content id of a shared page, or page class"),
            _c(5, "other_page", "the other machine's guest page"),
        ),
    ),
    Kind(
        "schedule",
        10,
        "One decision of the scheduler of virtual CPUs.",
        (
            _c(0, "event", "decision", enum=SCHEDULE_EVENTS),
            _c(1, "from_vcpu", "virtual CPU that ran (vm x 2^16 + vcpu)", "uint32"),
            _c(2, "to_vcpu", "virtual CPU that runs next", "uint32"),
            _c(3, "stolen", "cycles for which the virtual CPU was ready and did not run"),
        ),
    ),
    Kind(
        "waits",
        11,
        "The beginning or end of a WAIT.",
        (
            _c(0, "event", "begin or end", enum=WAIT_EVENTS),
            _c(1, "cause", "what ended it", enum=WAIT_CAUSES),
            _c(2, "waker", "CPU that raised the interrupt; the device's slot", "uint16"),
            _c(3, "slack", "end of the wait minus the waker's clock at the raise", unit="cycles"),
            _c(4, "duration", "base duration on the turn clock", unit="cycles"),
            _c(5, "deadline", "timer deadline on the turn clock", unit="cycles"),
        ),
    ),
    Kind(
        "dma",
        12,
        "One page (or part) that a device read or wrote: data, or its rings in memory.",
        (
            _c(0, "device", "slot of the device", "uint8"),
            _c(1, "request", "number of the request, of the device that works on it"),
            _c(2, "op", "what the device did to memory", enum=DMA_OPS),
            _c(3, "address", "guest-physical address of the first byte"),
            _c(4, "block", "sector of 512 bytes on the disk; 0 elsewhere"),
            _c(5, "bytes", "bytes moved, within one page", unit="bytes"),
        ),
    ),
    Kind(
        "packets",
        13,
        "One packet that reached, or failed to reach, a receiver.",
        (
            _c(0, "peer", "virtual machine at the other end; bare machine: its slot", "uint16"),
            _c(1, "pages_remapped", "aligned full pages passed by remapping", "uint32"),
            _c(2, "pages_copied", "pages (or parts) copied; both 0: the packet was lost", "uint32"),
            _c(3, "bytes", "length", unit="bytes"),
        ),
    ),
    Kind(
        "phases",
        14,
        "A phase opened or closed on one CPU.",
        (
            _c(0, "event", "open or close", enum=PHASE_EVENTS),
            _c(1, "phase", "number the guest gave", "uint32"),
            _c(2, "retired", "instructions this CPU has retired since the start"),
            _c(3, "depth", "phases open on this CPU after the event", "uint8"),
        ),
    ),
    Kind(
        "processes",
        15,
        "A name for an address space from now on (names stand in the manifest, by number).",
        (
            _c(0, "vm", "virtual machine", "uint16"),
            _c(1, "asid", "address-space identifier", "uint16"),
            _c(2, "name", "index into manifest.process_names", "uint32"),
        ),
    ),
)

CONTROL_BY_CODE: Final = {k.code: k for k in CONTROL}
KINDS: Final = (REFS, PAGES, *CONTROL)
# `symbols` is a table of its own, one part, written when the trace begins.
SYMBOL_COLUMNS: Final = (
    Column("vm", "uint16", "virtual machine"),
    Column("asid", "int32", "address space, -1 for all"),
    Column("image", "string", "image the symbol comes from"),
    Column("name", "string", "symbol"),
    Column("address", "uint64", "first virtual address"),
    Column("size", "uint64", "length", unit="bytes"),
    Column("type", "string", "func, data or section"),
)

# What a run counts, per CPU and context. The order is the order in the accounts array.
# `*_cycles` metrics add up to the clock exactly.
METRICS: Final = (
    "instructions",
    "work_cycles",
    "l1_stall_cycles",
    "local_stall_cycles",
    "remote_stall_cycles",
    "dirty_stall_cycles",
    "upgrade_stall_cycles",
    "uncached_stall_cycles",
    "idle_cycles",
    "l1i_misses",
    "l1d_misses",
    "upgrades",
    "l2_hits",
    "local_misses",
    "remote_misses",
    "dirty_misses",
    "cold_misses",
    "capacity_misses",
    "coherence_misses",
    "invalidations",
    "writebacks",
    "uncached",
    "cache_ops",
    "tlb_misses",
    "exceptions",
    "interrupts",
    "traps",
    "migrations",
    "replications",
    "collapses",
    "refused_moves",
    "data_references",
)
# Where a monitor shows a guest's kernel its special page: the last page of the supervisor segment,
# which LUI and one access reach.
SPECIAL: Final = 0xDFFFF000

# Monitor time by cause follows the metrics: index len(METRICS) + cause.
MONITOR_CAUSES: Final = (
    "migrate",
    "replicate",
    "collapse",
    "shootdown",
    "refused",
    "privileged",
    "tlb_write",
    "tlb_fault",
    "forward",
    "monitor_call",
    "page_fault",
    "copy_on_write",
    "zero",
    "copy",
    "io",
    "network",
    "schedule",
    "interrupt",
    "ipi",
    "swap",
    "lend",
    "emulate_load",
    "emulate_store",
    "kseg0",
    "remap",
    "other1",
    "other2",
    "other3",
    "other4",
    "other5",
    "other6",
    "other7",
)
N_METRICS: Final = len(METRICS) + len(MONITOR_CAUSES)
assert len(METRICS) == 32
assert len(MONITOR_CAUSES) == 32

# The metrics by name, in the order of the last axis of an accounts array.
METRIC_NAMES: Final = (*METRICS, *(f"monitor_{cause}_cycles" for cause in MONITOR_CAUSES))

# A change of one metric on one CPU over an interval of that CPU's clock (runs only).
INTERVAL: Final = np.dtype(
    [
        ("start_cycle", "u8"),
        ("end_cycle", "u8"),
        ("value", "u8"),
        ("metric", "u1"),  # index into METRIC_NAMES
        ("cpu", "u1"),
    ],
    align=True,
)

# What the CPUs of one node did to one guest page (runs only).
HEAT: Final = np.dtype(
    [
        ("guest_page", "u8"),
        ("local", "u8"),
        ("remote", "u8"),
        ("writes", "u8"),
        ("moves", "u4"),
        ("vm", "u2"),
        ("node", "u1"),
    ],
    align=True,
)
