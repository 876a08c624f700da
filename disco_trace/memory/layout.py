"""Lay out the memory system as flat arrays, from a specification.

Every array is int64 unless said otherwise; kernels index with values that they computed from
checked parameters, never with a guest's or a file's number that was not masked or compared.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from disco_trace.costs.prices import TRAP_CAUSES
from disco_trace.errors import DiscoError
from disco_trace.state import HERE_WORDS
from disco_trace.trace.schema import METRICS, MISS, MONITOR_CAUSES, MOVE, N_METRICS

PAGE_SHIFT = 12
PAGE_BYTES = 1 << PAGE_SHIFT

# Indices into Memory.p, the parameters.
(
    P_CPUS, P_NODES, P_PAGES, P_CONTEXTS,
    P_I_SHIFT, P_I_SETS, P_I_WAYS, P_D_SHIFT, P_D_SETS, P_D_WAYS,
    P_I_TAGS, P_I_ORDER, P_D_TAGS, P_D_ORDER, P_L1_STRIDE,
    P_GRANULE_SHIFT, P_L2_SHIFT, P_L2_SETS, P_L2_WAYS, P_L2_ORDER, P_L2_STRIDE,
    P_L2_REPLACEMENT, P_MESI, P_NODE_FRAMES,
    P_HIT, P_LOCAL, P_REMOTE, P_DIRTY, P_UPGRADE_LOCAL, P_UPGRADE_REMOTE,
    P_UNCACHED_LOCAL, P_UNCACHED_REMOTE, P_DEVICE,
    P_POLICY, P_INITIAL, P_NODE, P_TRIGGER, P_SHARING, P_WRITE, P_MIGRATE_LIMIT,
    P_RESET, P_MAX_MOVES, P_MIGRATE_COST, P_REPLICATE_COST, P_COLLAPSE_COST, P_REFUSED_COST,
    P_INTERVAL, P_RECORD_MISSES, P_D_COLOURS, P_I_COLOURS, P_RETOUCH, P_FEEDBACK,
    P_SHOOTDOWN, P_ENTRY_COST, P_ZERO_COST, P_COPY_COST, P_CPU_COST, P_VM_PAGES, P_NAMES,
    P_DEVICES, P_NODE_SHARE, P_PRICES,
) = range(62)  # fmt: skip
# P_PAGES counts the pages of all guests, P_NAMES the names that pages may have: with sharing each
# may also have that of a content which several guest pages show (`memory.pages`). P_NODE_SHARE is
# how many guest pages a node's memory stands for under the policy `guest`.
# P_PRICES … hold the price of an entry to the monitor by cause.
N_PARAMETERS = P_PRICES + len(MONITOR_CAUSES)

# Per-CPU words, Memory.cpu[cpu * CPU_WORDS + …].
# C_EPOCH is the reset interval of the page counters that the clock is in, until C_EPOCH_END.
(
    C_CLOCK, C_NODE, C_CONTEXT, C_INTERVAL_START, C_RAISE, C_BASE, C_EPOCH, C_EPOCH_END,
) = range(8)  # fmt: skip
CPU_WORDS = 8

# Counters and flags that belong to nobody else, Memory.fill.
F_MISSES, F_MOVES, F_INTERVALS, F_ROUND_ROBIN, F_RANDOM, F_BAD, F_RETOUCHED, F_REPLICAS = range(8)
# When the first machine's devices' interrupt line rose last, and when each device was started, on
# CPUs' clocks. The other machines' lines follow behind the devices.
F_LINE, F_DEVICE = 8, 16
SLOTS_OF_A_MACHINE = 8

# Per-page policy words, Memory.page[gpage * PAGE_WORDS + …].
G_EPOCH, G_WRITES, G_MIGRATED, G_MOVES, G_REPLICATED, G_MASTER = range(6)
PAGE_WORDS = 6

# Directory words of an fline, Memory.dir[fline * 4 + …]: one host cache line holds two entries.
D_SHARERS, D_SEEN, D_LOST, D_OWNER = range(4)
OWNER_DIRTY = 1 << 8  # D_OWNER = (owner + 1) | OWNER_DIRTY; 0 = nobody

# Per page and node, Memory.heat[(gpage * nodes + node) * 4 + …].
H_LOCAL, H_REMOTE, H_WRITES, H_MOVES = range(4)

SHARED, EXCLUSIVE, MODIFIED = 1, 2, 3
LRU, FIFO, RANDOM = 0, 1, 2
REPLACEMENTS = {"lru": LRU, "fifo": FIFO, "random": RANDOM}

GUEST, FIRST_TOUCH, ROUND_ROBIN, SINGLE_NODE, MIGRATE, REPLICATE, MIGRATE_REPLICATE = range(7)
POLICIES = {
    "guest": GUEST,
    "first-touch": FIRST_TOUCH,
    "round-robin": ROUND_ROBIN,
    "single-node": SINGLE_NODE,
    "migrate": MIGRATE,
    "replicate": REPLICATE,
    "migrate-replicate": MIGRATE_REPLICATE,
}

# Metric numbers, named as in the schema: M_WORK_CYCLES and so on.
(
    M_INSTRUCTIONS, M_WORK, M_L1_STALL, M_LOCAL_STALL, M_REMOTE_STALL, M_DIRTY_STALL,
    M_UPGRADE_STALL, M_UNCACHED_STALL, M_IDLE, M_L1I_MISSES, M_L1D_MISSES, M_UPGRADES,
    M_L2_HITS, M_LOCAL, M_REMOTE, M_DIRTY, M_COLD, M_CAPACITY, M_COHERENCE, M_INVALIDATIONS,
    M_WRITEBACKS, M_UNCACHED, M_CACHE_OPS, M_TLB_MISSES, M_EXCEPTIONS, M_INTERRUPTS, M_TRAPS,
    M_MIGRATIONS, M_REPLICATIONS, M_COLLAPSES, M_REFUSED, M_DATA_REFERENCES,
) = range(len(METRICS))  # fmt: skip
M_MONITOR = len(METRICS)
CAUSE_MIGRATE, CAUSE_REPLICATE, CAUSE_COLLAPSE, CAUSE_SHOOTDOWN, CAUSE_REFUSED = range(5)

INTERVAL = np.dtype(
    [("cpu", "i8"), ("start", "i8"), ("end", "i8"), ("values", "i8", (N_METRICS,))], align=True
)

MOST_PARTS = 255
MISS_ROWS = 1 << 18
MOVE_ROWS = 1 << 14
INTERVAL_ROWS = 1 << 11
# One event makes at most this many rows in any result buffer; drivers leave that much room.
MARGIN = 8


class Memory(NamedTuple):
    """Hold the state of one memory system.

    l1: per CPU [I tags, D tags, I order, D order]. A tag is `(line + 1) * 2 + dirty`, 0 invalid;
        an order word packs the ways of a set, four bits each, most recent lowest.
    presence: two words a granule: mask of CPUs that hold parts; `count * 256 + cpu` of dirty lines.
    counts: uint8 [granules, cpus], first-level lines of the granule that the CPU holds.
    l2: per CPU [tags, order]. A tag is `(fline + 1) * 4 + state`.
    dir: four words an fline. frame_at: [pages, nodes]. frame_page: page that owns a frame, or −1.
    accounts: [cpus, contexts, metrics]. free: [nodes, 1 + node_frames]:
        a stack of freed frames, after its depth. node_next: frames of a node ever handed out.
    alias: int32, empty without sharing: the name that each guest page has, then how many guest
        pages show each content.
    here: int64 [HERE_WORDS], the tuple itself while a kernel runs.
    """

    p: np.ndarray
    cpu: np.ndarray
    fill: np.ndarray
    l1: np.ndarray
    presence: np.ndarray
    counts: np.ndarray
    l2: np.ndarray
    dir: np.ndarray
    frame_at: np.ndarray
    frame_page: np.ndarray
    node_next: np.ndarray
    free: np.ndarray
    page: np.ndarray
    hot: np.ndarray
    heat: np.ndarray
    accounts: np.ndarray
    interval_base: np.ndarray
    misses: np.ndarray
    moves: np.ndarray
    intervals: np.ndarray
    alias: np.ndarray
    here: np.ndarray


def log2(value: int) -> int:
    """Return the exponent of a power of two; ValueError for anything else."""
    if value <= 0 or value & (value - 1):
        raise ValueError(f"{value} is not a power of two")
    return value.bit_length() - 1


def identity_order(ways: int) -> int:
    """Return the order word of an untouched set: way 0 most recent; 16 ways use the sign bit."""
    word = sum(way << (4 * way) for way in range(ways))
    return word - (1 << 64) if word >> 63 else word


def build(spec: Any, *, record_misses: bool = False, contexts: int = 64) -> Memory:
    """Allocate a cold memory system for a resolved `config.Spec`.

    Pages of RAM that are never touched cost no resident memory (zero pages).
    """
    from disco_trace.config import cycles
    from disco_trace.config.machines import machines_of, shares

    machine, memory, placement = spec.machine, spec.memory, spec.placement
    cpus, nodes = machine.cpus, machine.nodes
    machines = machines_of(spec)
    pages = machines * (machine.ram_bytes >> PAGE_SHIFT)
    if placement.policy not in POLICIES:
        raise DiscoError(
            f"the policy {placement.policy} comes with a later version",
            expected=", ".join(POLICIES),
            found=placement.policy,
        )
    policy = POLICIES[placement.policy]
    # A page has one name at a time, so as many frames as pages serve for twice as many names.
    names = 2 * pages if shares(spec) else pages
    node_frames = placement.node_frames or pages
    node_share = -(-pages // nodes)
    if policy == GUEST:
        node_frames = node_share * (names // pages)
    p = np.zeros(N_PARAMETERS, np.int64)

    def level(cache: Any, shift_index: int, sets_index: int, ways_index: int) -> tuple[int, int]:
        sets = cache.size_bytes // (cache.ways * cache.line_bytes)
        p[shift_index], p[sets_index], p[ways_index] = log2(cache.line_bytes), sets, cache.ways
        log2(sets)
        return sets, cache.ways

    i_sets, i_ways = level(machine.l1i, P_I_SHIFT, P_I_SETS, P_I_WAYS)
    d_sets, d_ways = level(machine.l1d, P_D_SHIFT, P_D_SETS, P_D_WAYS)
    l2_sets, l2_ways = level(memory.l2, P_L2_SHIFT, P_L2_SETS, P_L2_WAYS)
    p[P_CPUS], p[P_NODES], p[P_PAGES], p[P_CONTEXTS] = cpus, nodes, pages, contexts
    p[P_VM_PAGES], p[P_NAMES], p[P_NODE_SHARE] = pages // machines, names, node_share
    p[P_DEVICES] = machines * SLOTS_OF_A_MACHINE
    p[P_I_TAGS], p[P_D_TAGS] = 0, i_sets * i_ways
    p[P_I_ORDER] = p[P_D_TAGS] + d_sets * d_ways
    p[P_D_ORDER] = p[P_I_ORDER] + i_sets
    # A host cache line more, so that two CPUs' sets do not fall on the same host sets.
    p[P_L1_STRIDE] = p[P_D_ORDER] + d_sets + 8
    p[P_L2_ORDER] = l2_sets * l2_ways
    p[P_L2_STRIDE] = p[P_L2_ORDER] + l2_sets + 8
    p[P_GRANULE_SHIFT] = log2(machine.granule_bytes)
    p[P_I_COLOURS] = max(1, (i_sets << int(p[P_I_SHIFT])) >> PAGE_SHIFT)
    p[P_D_COLOURS] = max(1, (d_sets << int(p[P_D_SHIFT])) >> PAGE_SHIFT)
    p[P_L2_REPLACEMENT] = REPLACEMENTS[memory.l2.replacement]
    p[P_MESI] = memory.protocol == "mesi"
    p[P_NODE_FRAMES] = node_frames
    for index, name in (
        (P_HIT, "l2_hit_ns"), (P_LOCAL, "local_ns"), (P_REMOTE, "remote_ns"),
        (P_DIRTY, "dirty_ns"), (P_UPGRADE_LOCAL, "upgrade_local_ns"),
        (P_UPGRADE_REMOTE, "upgrade_remote_ns"), (P_UNCACHED_LOCAL, "uncached_local_ns"),
        (P_UNCACHED_REMOTE, "uncached_remote_ns"), (P_DEVICE, "device_ns"),
    ):  # fmt: skip
        p[index] = cycles(getattr(memory, name), machine.clock_mhz)
    p[P_POLICY], p[P_NODE] = policy, placement.node
    p[P_INITIAL] = POLICIES[placement.initial] if policy >= MIGRATE else policy
    p[P_TRIGGER], p[P_SHARING] = placement.trigger_misses, placement.sharing_misses
    p[P_WRITE], p[P_MIGRATE_LIMIT] = placement.write_misses, placement.migrate_limit
    p[P_RESET] = max(1, cycles(placement.reset_ms * 1_000_000, machine.clock_mhz))
    p[P_MAX_MOVES], p[P_RETOUCH] = placement.max_moves_per_page, placement.retouch_phase
    prices = spec.costs.prices
    for index, name in (
        (P_MIGRATE_COST, "migrate_us"), (P_REPLICATE_COST, "replicate_us"),
        (P_COLLAPSE_COST, "collapse_us"), (P_REFUSED_COST, "refused_us"),
        (P_ENTRY_COST, "tlb_entry_us"), (P_ZERO_COST, "zero_page_us"),
        (P_COPY_COST, "copy_page_us"), (P_CPU_COST, "interrupted_cpu_us"),
        *((P_PRICES + MONITOR_CAUSES.index(cause), f"{cause}_us") for cause in TRAP_CAUSES),
    ):  # fmt: skip
        p[index] = cycles(prices[name] * 1000, machine.clock_mhz)
    # Every other CPU may hold a translation of the page, and is interrupted.
    shootdown = cycles(prices["shootdown_us_per_cpu"] * 1000, machine.clock_mhz)
    p[P_SHOOTDOWN] = shootdown * (cpus - 1)
    p[P_INTERVAL] = max(1, cycles(spec.time.interval_us * 1000, machine.clock_mhz))
    p[P_RECORD_MISSES] = record_misses
    p[P_FEEDBACK] = spec.time.feedback == "full"

    # First-level lines of a granule are counted in a byte, all colours and both sides.
    parts = sum(
        int(p[colours]) * max(1, machine.granule_bytes >> int(p[shift]))
        for colours, shift in ((P_I_COLOURS, P_I_SHIFT), (P_D_COLOURS, P_D_SHIFT))
    )
    if parts > MOST_PARTS:
        raise DiscoError(
            "the first-level caches can hold too many synonyms of a granule",
            expected=f"at most {MOST_PARTS} lines: more ways, longer lines or less capacity",
            found=str(parts),
        )
    granules = names << (PAGE_SHIFT - int(p[P_GRANULE_SHIFT]))
    frames = nodes * node_frames
    flines = (frames << PAGE_SHIFT) >> int(p[P_L2_SHIFT])
    l1 = np.zeros(cpus * int(p[P_L1_STRIDE]), np.int64)
    l2 = np.zeros(cpus * int(p[P_L2_STRIDE]), np.int64)
    cpu = np.zeros(cpus * CPU_WORDS, np.int64)
    for c in range(cpus):
        base = c * int(p[P_L1_STRIDE])
        l1[base + p[P_I_ORDER] : base + p[P_D_ORDER]] = identity_order(i_ways)
        l1[base + p[P_D_ORDER] : base + p[P_D_ORDER] + d_sets] = identity_order(d_ways)
        base = c * int(p[P_L2_STRIDE]) + int(p[P_L2_ORDER])
        l2[base : base + l2_sets] = identity_order(l2_ways)
        cpu[c * CPU_WORDS + C_NODE] = c * nodes // cpus
    return Memory(
        p=p, cpu=cpu, fill=_fill(machine.seed, machines), l1=l1,
        presence=np.zeros(granules * 2, np.int64), counts=np.zeros(granules * cpus, np.uint8),
        l2=l2, dir=np.zeros(flines * 4, np.int64),
        frame_at=np.full(names * nodes, -1, np.int32), frame_page=np.full(frames, -1, np.int32),
        node_next=np.zeros(nodes, np.int64), free=np.zeros(nodes * (1 + node_frames), np.int32),
        page=np.zeros(names * PAGE_WORDS, np.int64), hot=np.zeros(names * nodes, np.int64),
        heat=np.zeros(names * nodes * 4, np.int64),
        accounts=np.zeros(cpus * contexts * N_METRICS, np.int64),
        interval_base=np.zeros((cpus, N_METRICS), np.int64),
        misses=np.zeros(MISS_ROWS, MISS), moves=np.zeros(MOVE_ROWS, MOVE),
        intervals=np.zeros(INTERVAL_ROWS, INTERVAL), alias=_aliases(pages, names),
        here=np.zeros(HERE_WORDS, np.int64),
    )  # fmt: skip


def _aliases(pages: int, names: int) -> np.ndarray:
    """Return the names of guest pages, each its own, and of no content a guest page."""
    if names == pages:
        return np.zeros(0, np.int32)
    return np.concatenate([np.arange(pages, dtype=np.int32), np.zeros(pages, np.int32)])


def _fill(seed: int, machines: int) -> np.ndarray:
    """Return the counters and flags, with the generator of random replacement seeded."""
    fill = np.zeros(F_DEVICE + machines * SLOTS_OF_A_MACHINE + machines - 1, np.int64)
    fill[F_RANDOM] = seed & 0x7FFFFFFF
    return fill


def with_contexts(memory: Memory, contexts: int) -> Memory:
    """Return the same memory system with room in its accounts for `contexts` contexts."""
    old = memory.p[P_CONTEXTS]
    if contexts <= old:
        return memory
    cpus = memory.p[P_CPUS]
    grown = np.zeros((cpus, contexts, N_METRICS), np.int64)
    grown[:, :old] = memory.accounts.reshape(cpus, old, N_METRICS)
    memory.p[P_CONTEXTS] = contexts
    return memory._replace(accounts=grown.reshape(-1))
