"""One memory system, two drivers: everything that a recorded event does to it.

A capture calls these functions from a live CPU, a replay from a trace; nothing else changes the
arrays. Use `layout.build(spec)` for a cold `Memory`, then for each event in order:

* `enter(m, cpu, context, work)`: advance the CPU's clock by base cycles, in a context;
* `reference(m, cpu, kind, way, vaddr, page, seq, pc)` for a row of `refs` (after `enter`); it
  returns the stall in cycles, already on the clock. `way` is the first-level way that is filled
  (`first_level.choose_way` for a live CPU), `page` the dense guest page number. −1: the row does
  not fit the first level's state (a damaged trace), nothing was changed;
* `drop_page(m, page)`: the page's content died (freed, or overwritten by a device);
* `retouch(m)`: deal first touch again; `idle(m, cpu, cycles)`; `count(m, cpu, metric, n)`.

Kinds are indices into `trace.schema.REF_KINDS`. Results: `m.accounts`, `m.heat`, `m.misses`,
`m.moves`, `m.intervals` with their fill counts in `m.fill`; when `full(m)` the driver must empty
them before the next event.
"""

from __future__ import annotations

from disco_trace.jit import expand, helper, index, inline
from disco_trace.memory.first_level import (
    data_set,
    drop_parts,
    drop_synonyms,
    forget_dirty,
    instruction_set,
    promote,
    read_coherence,
    write_coherence,
)
from disco_trace.memory.layout import (
    C_BASE,
    C_CLOCK,
    C_CONTEXT,
    C_INTERVAL_START,
    C_NODE,
    CAUSE_COLLAPSE,
    CAUSE_SHOOTDOWN,
    CPU_WORDS,
    D_LOST,
    D_OWNER,
    D_SEEN,
    D_SHARERS,
    EXCLUSIVE,
    F_INTERVALS,
    F_MISSES,
    F_MOVES,
    G_REPLICATED,
    H_LOCAL,
    H_REMOTE,
    H_WRITES,
    M_CACHE_OPS,
    M_CAPACITY,
    M_COHERENCE,
    M_COLD,
    M_COLLAPSES,
    M_DIRTY,
    M_DIRTY_STALL,
    M_IDLE,
    M_L1_STALL,
    M_L1D_MISSES,
    M_L1I_MISSES,
    M_L2_HITS,
    M_LOCAL,
    M_LOCAL_STALL,
    M_REMOTE,
    M_REMOTE_STALL,
    M_UNCACHED,
    M_UNCACHED_STALL,
    M_UPGRADE_STALL,
    M_UPGRADES,
    M_WORK,
    M_WRITEBACKS,
    MARGIN,
    MIGRATE,
    MODIFIED,
    OWNER_DIRTY,
    P_COLLAPSE_COST,
    P_CONTEXTS,
    P_CPUS,
    P_D_COLOURS,
    P_D_ORDER,
    P_D_SETS,
    P_D_SHIFT,
    P_D_TAGS,
    P_D_WAYS,
    P_DEVICE,
    P_DIRTY,
    P_GRANULE_SHIFT,
    P_HIT,
    P_I_ORDER,
    P_I_SETS,
    P_I_SHIFT,
    P_I_TAGS,
    P_I_WAYS,
    P_INTERVAL,
    P_L1_STRIDE,
    P_L2_SHIFT,
    P_LOCAL,
    P_MESI,
    P_NAMES,
    P_NODES,
    P_POLICY,
    P_RECORD_MISSES,
    P_REMOTE,
    P_SHOOTDOWN,
    P_UNCACHED_LOCAL,
    P_UNCACHED_REMOTE,
    P_UPGRADE_LOCAL,
    P_UPGRADE_REMOTE,
    PAGE_WORDS,
    SHARED,
)
from disco_trace.memory.placement import (
    A_COLLAPSE,
    charge,
    collapse_page,
    log_move,
    node_of,
    on_node,
    unplace_page,
)
from disco_trace.memory.policies.dispatch import place
from disco_trace.memory.policies.migrate_replicate import count_write, on_miss
from disco_trace.memory.second_level import (
    account,
    downgrade,
    exclusive_state,
    invalidate_others,
    l2_find,
    l2_insert,
    l2_touch,
    presence_of,
)
from disco_trace.trace.schema import CLASSES, MOVE_REASONS, N_METRICS, REF_KINDS, SOURCES

FETCH = REF_KINDS.index("fetch")
LOAD = REF_KINDS.index("load")
STORE = REF_KINDS.index("store")
UPGRADE = REF_KINDS.index("upgrade")
UNCACHED_FETCH = REF_KINDS.index("uncached_fetch")
UNCACHED_LOAD = REF_KINDS.index("uncached_load")
UNCACHED_STORE = REF_KINDS.index("uncached_store")
CACHE_OP = REF_KINDS.index("cache_op")
SC_DONE = REF_KINDS.index("sc_done")
SC_FAIL = REF_KINDS.index("sc_fail")

S_LOCAL, S_REMOTE, S_DIRTY = (SOURCES.index(name) for name in ("local", "remote", "dirty"))
K_COLD, K_CAPACITY, K_COHERENCE = (CLASSES.index(n) for n in ("cold", "capacity", "coherence"))
R_WRITE = MOVE_REASONS.index("write")

# `cached` counts by adding a source or a class to the first of three.
assert (S_LOCAL, S_REMOTE, S_DIRTY) == (K_COLD, K_CAPACITY, K_COHERENCE) == (0, 1, 2)
assert (M_REMOTE, M_DIRTY) == (M_LOCAL + 1, M_LOCAL + 2)
assert (M_REMOTE_STALL, M_DIRTY_STALL) == (M_LOCAL_STALL + 1, M_LOCAL_STALL + 2)
assert (M_CAPACITY, M_COHERENCE) == (M_COLD + 1, M_COLD + 2)
assert (P_REMOTE, P_DIRTY) == (P_LOCAL + 1, P_LOCAL + 2)
assert H_REMOTE == H_LOCAL + 1


@inline
def full(m):
    """Tell whether a result buffer lacks the room that one event may need."""
    return (
        m.fill[F_MISSES] + MARGIN > m.misses.shape[0]
        or m.fill[F_MOVES] + MARGIN > m.moves.shape[0]
        or m.fill[F_INTERVALS] + 64 + MARGIN > m.intervals.shape[0]
    )


@inline
def rows_left(m):
    """Return how many references the result buffers certainly have room for, when not `full`."""
    misses = m.misses.shape[0] - m.fill[F_MISSES]
    moves = m.moves.shape[0] - m.fill[F_MOVES]
    intervals = m.intervals.shape[0] - m.fill[F_INTERVALS] - 64
    return min(misses, moves, intervals) // MARGIN


@inline
def count(m, cpu, metric, value):
    """Add to a metric of the CPU's current context."""
    account(m, cpu, metric, value)


@inline
def enter(m, cpu, context, work):
    """Put a CPU in a context and advance its clock by base cycles of work."""
    at = cpu * CPU_WORDS
    m.cpu[at + C_CONTEXT] = context
    m.cpu[at + C_BASE] += work
    clock = m.cpu[at + C_CLOCK] + work
    m.cpu[at + C_CLOCK] = clock
    m.accounts[index((cpu * m.p[P_CONTEXTS] + context) * N_METRICS) + M_WORK] += work
    if clock - m.cpu[at + C_INTERVAL_START] >= m.p[P_INTERVAL]:
        snapshot(m, cpu)


@helper
def snapshot(m, cpu):
    """Close a CPU's interval of the time series: its metrics since the last one."""
    at = m.fill[F_INTERVALS]
    if at >= m.intervals.shape[0]:
        return
    row = m.intervals[at]
    row["cpu"] = cpu
    row["start"] = m.cpu[cpu * CPU_WORDS + C_INTERVAL_START]
    row["end"] = m.cpu[cpu * CPU_WORDS + C_CLOCK]
    m.cpu[cpu * CPU_WORDS + C_INTERVAL_START] = m.cpu[cpu * CPU_WORDS + C_CLOCK]
    # What was the base is taken off, and the base becomes the sum over contexts, row by row.
    values = row["values"]
    base = m.interval_base[cpu]
    for metric in range(N_METRICS):
        values[metric] = -base[metric]
        base[metric] = 0
    contexts = m.p[P_CONTEXTS]
    for context in range(contexts):
        first = (cpu * contexts + context) * N_METRICS
        for metric in range(N_METRICS):
            base[metric] += m.accounts[index(first + metric)]
    for metric in range(N_METRICS):
        values[metric] += base[metric]
    m.fill[F_INTERVALS] = at + 1


@inline
def stall(m, cpu, metric, cycles):
    """Charge a stall: on the clock and to its metric."""
    m.cpu[cpu * CPU_WORDS + C_CLOCK] += cycles
    account(m, cpu, metric, cycles)
    return cycles


@inline
def charge_stall(m, cpu, at, cycles):
    """Charge a stall on the clock and to an entry of the accounts."""
    m.cpu[cpu * CPU_WORDS + C_CLOCK] += cycles
    m.accounts[at] += cycles
    return cycles


@inline
def idle(m, cpu, cycles):
    """Advance a waiting CPU's clock."""
    m.cpu[cpu * CPU_WORDS + C_CLOCK] += cycles
    account(m, cpu, M_IDLE, cycles)


@inline
def evict_first(m, cpu, tag, shift):
    """Take a victim out of the first level; tell the second level and directory what changed."""
    p = m.p
    line = index((tag >> 1) - 1)
    granule = line >> (p[P_GRANULE_SHIFT] - shift)
    at = index(granule * p[P_CPUS] + cpu)
    left = m.counts[at] - 1
    m.counts[at] = left
    if left == 0:
        m.presence[2 * granule] &= ~(1 << cpu)
    if tag & 1:
        forget_dirty(m, granule)
    if left == 0 or tag & 1:
        address = index(line << shift)
        frame = m.frame_at[index((address >> 12) * p[P_NODES] + m.cpu[cpu * CPU_WORDS + C_NODE])]
        if frame >= 0:
            fline = index((frame << 12) | (address & 4095)) >> p[P_L2_SHIFT]
            if (m.dir[4 * fline + D_SHARERS] >> cpu) & 1 == 0:
                evict_without_second(m, cpu, fline, tag & 1)
        elif tag & 1:
            account(m, cpu, M_WRITEBACKS, 1)


@helper
def evict_without_second(m, cpu, fline, dirty):
    """Finish a first-level eviction of a line that the CPU's second level does not hold."""
    if dirty:
        account(m, cpu, M_WRITEBACKS, 1)
    d = 4 * fline + D_OWNER
    if m.dir[d] & 255 != cpu + 1:
        return
    if (presence_of(m, fline) >> cpu) & 1 == 0:
        m.dir[d] = 0
    elif dirty:
        shift = m.p[P_L2_SHIFT]
        page = m.frame_page[(fline << shift) >> 12]
        first = ((page << 12) | ((fline << shift) & 4095)) >> m.p[P_GRANULE_SHIFT]
        still = False
        for g in range(first, first + (1 << max(0, shift - m.p[P_GRANULE_SHIFT]))):
            word = m.presence[2 * g + 1]
            if word != 0 and word & 255 == cpu:
                still = True
        if not still:
            m.dir[d] = cpu + 1


@expand
def reference(m, cpu, kind, way, vaddr, page, seq, pc):
    """Carry out one recorded reference; return its stall in cycles (−1: see the module)."""
    if kind <= UPGRADE:
        return cached(m, cpu, kind, way, vaddr, page, seq, pc)
    return uncommon(m, cpu, kind, way, vaddr, page, seq)


@helper
def uncommon(m, cpu, kind, operation, vaddr, page, seq):
    """Carry out an uncached reference, a CACHE operation or a store-conditional's outcome."""
    if kind == CACHE_OP:
        account(m, cpu, M_CACHE_OPS, 1)
        cache_operation(m, cpu, operation, vaddr, page)
        return 0
    if kind >= SC_DONE:
        return 0
    account(m, cpu, M_UNCACHED, 1)
    if page >= m.p[P_NAMES]:
        return stall(m, cpu, M_UNCACHED_STALL, m.p[P_DEVICE])
    node = m.cpu[cpu * CPU_WORDS + C_NODE]
    frame = m.frame_at[page * m.p[P_NODES] + node]
    if frame < 0:
        frame = place(m, cpu, seq, page)
    if kind == UNCACHED_STORE and m.page[page * PAGE_WORDS + G_REPLICATED] != 0:
        frame = collapse(m, cpu, seq, page)
    if on_node(m, frame, node):
        return stall(m, cpu, M_UNCACHED_STALL, m.p[P_UNCACHED_LOCAL])
    return stall(m, cpu, M_UNCACHED_STALL, m.p[P_UNCACHED_REMOTE])


@helper
def first_tag(m, cpu, data, vaddr):
    """Return where the tags of an address's first-level set begin."""
    p = m.p
    base = cpu * p[P_L1_STRIDE]
    if data:
        return base + p[P_D_TAGS] + data_set(m, vaddr) * p[P_D_WAYS]
    return base + p[P_I_TAGS] + instruction_set(m, vaddr) * p[P_I_WAYS]


@helper
def indexed_way(m, data, vaddr):
    """Return the way that an index operation means: the address bits above the set's."""
    p = m.p
    shift, sets, ways = p[P_I_SHIFT], p[P_I_SETS], p[P_I_WAYS]
    if data:
        shift, sets, ways = p[P_D_SHIFT], p[P_D_SETS], p[P_D_WAYS]
    while sets > 1:
        sets >>= 1
        shift += 1
    return (vaddr >> shift) % ways


@helper
def cache_operation(m, cpu, operation, vaddr, page):
    """Do a CACHE instruction on this CPU's first level; the operation is the 5-bit field.

    Index operations act on the indexed way (address bits above the index), hit operations on the
    line that holds the address. A store of a tag (2) invalidates: one that keeps the line valid is
    recorded as operation 3, which does nothing here. Memory always has the data of the last store,
    so a line that an operation drops counts as written back. The second level is coherent and out
    of the instruction's reach.
    """
    p = m.p
    data = operation & 3 == 1
    if operation & 3 > 1:
        return
    action = operation >> 2
    shift, ways = (p[P_D_SHIFT], p[P_D_WAYS]) if data else (p[P_I_SHIFT], p[P_I_WAYS])
    tags = first_tag(m, cpu, data, vaddr)
    if action == 0 or action == 2:
        at = tags + indexed_way(m, data, vaddr)
        if m.l1[at] != 0:
            evict_line(m, cpu, at, shift)
    elif action == 4 or (data and (action == 5 or action == 6)):
        key = (((page << 12) | (vaddr & 4095)) >> shift) + 1
        for way in range(ways):
            if m.l1[tags + way] >> 1 == key:
                if action == 6:
                    clean_line(m, cpu, tags + way, shift)
                else:
                    evict_line(m, cpu, tags + way, shift)


@helper
def evict_line(m, cpu, at, shift):
    """Invalidate the first-level line at an index, writing it back like any victim."""
    tag = m.l1[at]
    m.l1[at] = 0
    evict_first(m, cpu, tag, shift)


@helper
def clean_line(m, cpu, at, shift):
    """Write a dirty first-level line back and keep it clean."""
    p = m.p
    tag = m.l1[at]
    if tag & 1:
        line = (tag >> 1) - 1
        m.l1[at] = tag & ~1
        forget_dirty(m, line >> (p[P_GRANULE_SHIFT] - shift))
        address = line << shift
        frame = m.frame_at[(address >> 12) * p[P_NODES] + m.cpu[cpu * CPU_WORDS + C_NODE]]
        if frame < 0:
            account(m, cpu, M_WRITEBACKS, 1)
            return
        fline = ((frame << 12) | (address & 4095)) >> p[P_L2_SHIFT]
        if (m.dir[4 * fline + D_SHARERS] >> cpu) & 1 == 0:
            evict_without_second(m, cpu, fline, 1)


@helper
def collapse(m, cpu, seq, page):
    """Collapse a replicated page that is about to be written; return its master frame."""
    nodes = m.p[P_NODES]
    node = m.cpu[cpu * CPU_WORDS + C_NODE]
    home = node_of(m, m.frame_at[page * nodes + node])
    collapse_page(m, page)
    frame = m.frame_at[page * nodes + node]
    cost = m.p[P_COLLAPSE_COST]
    charge(m, cpu, CAUSE_COLLAPSE, cost)
    charge(m, cpu, CAUSE_SHOOTDOWN, m.p[P_SHOOTDOWN])
    account(m, cpu, M_COLLAPSES, 1)
    log_move(m, cpu, seq, page, A_COLLAPSE, R_WRITE, home, node_of(m, frame), cost)
    return frame


@expand
def cached(m, cpu, kind, way, vaddr, page, seq, pc):
    """Carry out a first-level miss, or a first write to a clean line."""
    p = m.p
    bit = 1 << cpu
    books = index((cpu * p[P_CONTEXTS] + m.cpu[cpu * CPU_WORDS + C_CONTEXT]) * N_METRICS)
    node = index(m.cpu[cpu * CPU_WORDS + C_NODE])
    page = index(page)
    address = index((page << 12) | (vaddr & 4095))
    granule = address >> p[P_GRANULE_SHIFT]
    base = cpu * p[P_L1_STRIDE]
    write = kind == STORE or kind == UPGRADE

    # The slot of the first level, checked before anything changes.
    if kind == FETCH:
        shift = p[P_I_SHIFT]
        s = instruction_set(m, vaddr)
        slot = index(base + p[P_I_TAGS] + s * p[P_I_WAYS] + way)
        order = index(base + p[P_I_ORDER] + s)
    else:
        shift = p[P_D_SHIFT]
        s = data_set(m, vaddr)
        slot = index(base + p[P_D_TAGS] + s * p[P_D_WAYS] + way)
        order = index(base + p[P_D_ORDER] + s)
    key = (address >> shift) + 1
    victim = m.l1[slot]
    if kind == UPGRADE:
        if victim != key << 1:
            return -1
    elif victim >> 1 == key:
        return -1

    # Placement comes first: what follows needs a home.
    frame = m.frame_at[index(page * p[P_NODES] + node)]
    if frame < 0:
        frame = place(m, cpu, seq, page)
    if write and m.page[page * PAGE_WORDS + G_REPLICATED] != 0:
        frame = collapse(m, cpu, seq, page)
    fline = index((frame << 12) | (vaddr & 4095)) >> p[P_L2_SHIFT]
    d = 4 * fline

    # First level.
    if kind != UPGRADE and victim != 0:
        m.l1[slot] = 0
        evict_first(m, cpu, victim, shift)
    others = m.presence[2 * granule] & ~bit
    dirty_word = m.presence[2 * granule + 1]
    if write:
        if others != 0:
            write_coherence(m, cpu, granule)
        if p[P_D_COLOURS] > 1:
            drop_synonyms(m, cpu, vaddr, key - 1, False)
        dirty_word = m.presence[2 * granule + 1]
        m.presence[2 * granule + 1] = dirty_word + 256 if dirty_word != 0 else 256 + cpu
        m.l1[slot] = (key << 1) | 1
    else:
        if dirty_word != 0:
            if dirty_word & 255 != cpu:
                read_coherence(m, cpu, granule)
            elif kind == LOAD and p[P_D_COLOURS] > 1:
                drop_synonyms(m, cpu, vaddr, key - 1, True)
        m.l1[slot] = key << 1
    if kind != UPGRADE:
        m.counts[index(granule * p[P_CPUS] + cpu)] += 1
    m.presence[2 * granule] |= bit
    if m.l1[order] & 15 != way:
        promote(m.l1, order, way)

    # Second level and directory.
    if kind == FETCH:
        m.accounts[books + M_L1I_MISSES] += 1
    elif kind != UPGRADE:
        m.accounts[books + M_L1D_MISSES] += 1
    at = l2_find(m, cpu, fline)
    owner = m.dir[d + D_OWNER]
    mine = owner & 255 == cpu + 1
    local = on_node(m, frame, node)
    if write and mine:
        m.dir[d + D_OWNER] = (cpu + 1) | OWNER_DIRTY
        if at >= 0:
            m.l2[at] = ((fline + 1) << 2) | MODIFIED
    if at >= 0 and (mine or not write):
        l2_touch(m, cpu, fline, at)
        if kind == UPGRADE:
            return 0
        m.accounts[books + M_L2_HITS] += 1
        return charge_stall(m, cpu, books + M_L1_STALL, p[P_HIT])
    if kind == UPGRADE and mine:
        return 0
    if write:
        m.heat[index((page * p[P_NODES] + node) * 4) + H_WRITES] += 1
        if p[P_POLICY] >= MIGRATE:
            count_write(m, cpu, page)
    if write and (at >= 0 or kind == UPGRADE):
        # Permission without data. Another owner's dirty data (of another granule of a longer
        # line) goes home.
        if owner & OWNER_DIRTY:
            account(m, (owner & 255) - 1, M_WRITEBACKS, 1)
        invalidate_others(m, cpu, fline, others)
        m.dir[d + D_OWNER] = (cpu + 1) | OWNER_DIRTY
        if at >= 0:
            m.l2[at] = ((fline + 1) << 2) | MODIFIED
            l2_touch(m, cpu, fline, at)
        m.accounts[books + M_UPGRADES] += 1
        if kind == STORE:
            m.accounts[books + M_L2_HITS] += 1
        if local:
            return charge_stall(m, cpu, books + M_UPGRADE_STALL, p[P_UPGRADE_LOCAL])
        return charge_stall(m, cpu, books + M_UPGRADE_STALL, p[P_UPGRADE_REMOTE])

    # A second-level miss. Where does the data come from?
    source = S_LOCAL if local else S_REMOTE
    if owner & OWNER_DIRTY and not mine:
        owner_node = m.cpu[((owner & 255) - 1) * CPU_WORDS + C_NODE]
        if not local or owner_node != node:
            source = S_DIRTY
    seen = (m.dir[d + D_SEEN] >> cpu) & 1
    lost = (m.dir[d + D_LOST] >> cpu) & 1
    miss_class = seen * (K_CAPACITY + lost * (K_COHERENCE - K_CAPACITY))
    m.dir[d + D_SEEN] |= bit
    m.dir[d + D_LOST] &= ~bit
    if write:
        if not mine:
            invalidate_others(m, cpu, fline, others)
        m.dir[d + D_OWNER] = (cpu + 1) | OWNER_DIRTY
        state = MODIFIED
    elif mine:
        state = exclusive_state(owner)
    else:
        if owner != 0:
            downgrade(m, fline, True)
        state = SHARED
        if (
            p[P_MESI] != 0
            and owner == 0
            and m.dir[d + D_SHARERS] & ~bit == 0
            and presence_of(m, fline) & ~bit == 0
            and m.page[page * PAGE_WORDS + G_REPLICATED] == 0
        ):
            state = EXCLUSIVE
            m.dir[d + D_OWNER] = cpu + 1
    l2_insert(m, cpu, fline, state)

    # The three sources and the three classes stand in a row everywhere: no branch to mispredict.
    m.heat[index((page * p[P_NODES] + node) * 4) + H_LOCAL + (source != S_LOCAL)] += 1
    m.accounts[books + M_LOCAL + source] += 1
    cycles = charge_stall(m, cpu, books + M_LOCAL_STALL + source, p[P_LOCAL + source])
    m.accounts[books + M_COLD + miss_class] += 1
    if p[P_RECORD_MISSES] != 0:
        log_miss(m, cpu, kind, vaddr, page, seq, pc, node_of(m, frame), source, miss_class, cycles)
    if p[P_POLICY] >= MIGRATE:
        before = m.cpu[cpu * CPU_WORDS + C_CLOCK]
        on_miss(m, cpu, seq, page, frame)
        cycles += m.cpu[cpu * CPU_WORDS + C_CLOCK] - before
    return cycles


@inline
def log_miss(m, cpu, kind, vaddr, page, seq, pc, home, source, miss_class, cycles):
    """Append a row to the misses; drivers keep room for it."""
    at = m.fill[F_MISSES]
    if at < m.misses.shape[0]:
        row = m.misses[at]
        row["seq"] = seq
        row["cycle"] = m.cpu[cpu * CPU_WORDS + C_CLOCK] - cycles
        row["vaddr"] = vaddr
        row["guest_page"] = page
        row["pc"] = pc
        row["stall_cycles"] = cycles
        row["context"] = m.cpu[cpu * CPU_WORDS + C_CONTEXT]
        row["cpu"] = cpu
        row["home"] = home
        row["source"] = source
        row["class"] = miss_class
        row["kind"] = kind
        m.fill[F_MISSES] = at + 1


@helper
def drop_page(m, page):
    """Drop every cached line of a page, unwritten, and its frame: its content is dead."""
    p = m.p
    shift = p[P_GRANULE_SHIFT]
    first = (page << 12) >> shift
    for granule in range(first, first + (4096 >> shift)):
        holders = m.presence[2 * granule]
        if holders != 0:
            for cpu in range(p[P_CPUS]):
                if (holders >> cpu) & 1:
                    drop_parts(m, cpu, granule, False, False)
        m.presence[2 * granule + 1] = 0
    unplace_page(m, page, False)


@helper
def retouch(m):
    """Unplace every page, so that the next reference is a first touch again."""
    for page in range(m.p[P_NAMES]):
        unplace_page(m, page, True)
