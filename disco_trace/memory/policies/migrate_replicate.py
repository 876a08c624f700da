"""Migration and replication by miss counts, after Verghese et al. (ASPLOS 1996), section 3.

A page that a remote node misses on `trigger` times within a reset interval is hot there. If no
other node has missed on it `sharing` times it is migrated; if others have and it was not written
(fewer than `write` times) it is replicated; a write-shared page is left where it is. Counts are
the memory system's own per-page per-node miss counters, as FLASH's hardware kept them.
"""

from __future__ import annotations

from disco_trace.jit import helper, index, inline
from disco_trace.memory.layout import (
    C_CLOCK,
    C_EPOCH,
    C_EPOCH_END,
    C_NODE,
    CAUSE_MIGRATE,
    CAUSE_REFUSED,
    CAUSE_REPLICATE,
    CAUSE_SHOOTDOWN,
    CPU_WORDS,
    G_EPOCH,
    G_MIGRATED,
    G_MOVES,
    G_REPLICATED,
    G_WRITES,
    M_MIGRATIONS,
    M_REFUSED,
    M_REPLICATIONS,
    MIGRATE,
    P_MAX_MOVES,
    P_MIGRATE_COST,
    P_MIGRATE_LIMIT,
    P_NODES,
    P_POLICY,
    P_REFUSED_COST,
    P_REPLICATE_COST,
    P_RESET,
    P_SHARING,
    P_SHOOTDOWN,
    P_TRIGGER,
    P_WRITE,
    PAGE_WORDS,
    REPLICATE,
)
from disco_trace.memory.placement import (
    A_MIGRATE,
    A_REFUSE,
    A_REPLICATE,
    add_replica,
    allocate,
    charge,
    count_move,
    log_move,
    move_page,
    node_of,
    on_node,
    replica_room,
)
from disco_trace.memory.second_level import account, dirty_above
from disco_trace.trace.schema import MOVE_REASONS

R_HOT = MOVE_REASONS.index("hot")
R_SHARED = MOVE_REASONS.index("shared")
R_LIMIT = MOVE_REASONS.index("limit")
R_NO_FRAME = MOVE_REASONS.index("no_frame")
R_WRITE_SHARED = MOVE_REASONS.index("write_shared")


@inline
def new_epoch(m, cpu, page):
    """Clear a page's counters at its first event in a new reset interval of the acting CPU."""
    at = cpu * CPU_WORDS
    clock = m.cpu[at + C_CLOCK]
    if clock >= m.cpu[at + C_EPOCH_END]:
        # Once an interval, because a division is dear.
        epoch = clock // m.p[P_RESET]
        m.cpu[at + C_EPOCH] = epoch
        m.cpu[at + C_EPOCH_END] = (epoch + 1) * m.p[P_RESET]
    epoch = m.cpu[at + C_EPOCH]
    state = page * PAGE_WORDS
    if epoch > m.page[state + G_EPOCH]:
        m.page[state + G_EPOCH] = epoch
        m.page[state + G_WRITES] = 0
        m.page[state + G_MIGRATED] = 0
        nodes = m.p[P_NODES]
        for node in range(nodes):
            m.hot[page * nodes + node] = 0


@inline
def count_write(m, cpu, page):
    """Count a write miss or upgrade of a page."""
    new_epoch(m, cpu, page)
    m.page[page * PAGE_WORDS + G_WRITES] += 1


@inline
def on_miss(m, cpu, seq, page, frame):
    """Count a second-level miss; move the page if it has become hot on this CPU's node."""
    node = index(m.cpu[cpu * CPU_WORDS + C_NODE])
    new_epoch(m, cpu, page)
    at = index(page * m.p[P_NODES] + node)
    misses = m.hot[at] + 1
    m.hot[at] = misses
    if misses >= m.p[P_TRIGGER] and not on_node(m, frame, node):
        decide(m, cpu, seq, page, frame)


@helper
def decide(m, cpu, seq, page, frame):
    """Migrate, replicate or leave a page that is hot on this CPU's node."""
    p = m.p
    nodes = p[P_NODES]
    node = m.cpu[cpu * CPU_WORDS + C_NODE]
    home = node_of(m, frame)
    m.hot[page * nodes + node] = 0
    state = page * PAGE_WORDS
    shared = False
    for other in range(nodes):
        if other != node and m.hot[page * nodes + other] >= p[P_SHARING]:
            shared = True
    if p[P_MAX_MOVES] > 0 and m.page[state + G_MOVES] >= p[P_MAX_MOVES]:
        refuse(m, cpu, seq, page, R_LIMIT, home, node)
    elif shared or m.page[state + G_REPLICATED] != 0:
        if p[P_POLICY] == MIGRATE or m.page[state + G_WRITES] >= p[P_WRITE]:
            refuse(m, cpu, seq, page, R_WRITE_SHARED, home, node)
        else:
            replicate(m, cpu, seq, page, home, node)
    elif p[P_POLICY] == REPLICATE:
        if m.page[state + G_WRITES] >= p[P_WRITE]:
            refuse(m, cpu, seq, page, R_WRITE_SHARED, home, node)
        else:
            replicate(m, cpu, seq, page, home, node)
    elif m.page[state + G_MIGRATED] >= p[P_MIGRATE_LIMIT]:
        refuse(m, cpu, seq, page, R_LIMIT, home, node)
    else:
        migrate(m, cpu, seq, page, home, node)


@helper
def refuse(m, cpu, seq, page, reason, home, node):
    """Record a hot page that stays where it is, and the cost of having looked at it."""
    cost = m.p[P_REFUSED_COST]
    charge(m, cpu, CAUSE_REFUSED, cost)
    account(m, cpu, M_REFUSED, 1)
    log_move(m, cpu, seq, page, A_REFUSE, reason, home, node, cost)


@helper
def migrate(m, cpu, seq, page, home, node):
    """Move a page to the node where it is hot."""
    frame = allocate(m, node)
    if frame < 0:
        refuse(m, cpu, seq, page, R_NO_FRAME, home, node)
        return
    move_page(m, page, frame)
    m.page[page * PAGE_WORDS + G_MIGRATED] += 1
    count_move(m, page, node)
    cost = m.p[P_MIGRATE_COST]
    charge(m, cpu, CAUSE_MIGRATE, cost)
    charge(m, cpu, CAUSE_SHOOTDOWN, m.p[P_SHOOTDOWN])
    account(m, cpu, M_MIGRATIONS, 1)
    log_move(m, cpu, seq, page, A_MIGRATE, R_HOT, home, node, cost)


@helper
def replicate(m, cpu, seq, page, home, node):
    """Give the node where a page is hot a read-only copy.

    Not while a first level holds part of the page dirty: stores that hit there are no events, so
    they would neither collapse the page nor reach its copies.
    """
    if dirty_above(m, page):
        refuse(m, cpu, seq, page, R_WRITE_SHARED, home, node)
        return
    frame = allocate(m, node) if replica_room(m) else -1
    if frame < 0:
        refuse(m, cpu, seq, page, R_NO_FRAME, home, node)
        return
    add_replica(m, page, node, frame)
    count_move(m, page, node)
    cost = m.p[P_REPLICATE_COST]
    charge(m, cpu, CAUSE_REPLICATE, cost)
    charge(m, cpu, CAUSE_SHOOTDOWN, m.p[P_SHOOTDOWN])
    account(m, cpu, M_REPLICATIONS, 1)
    log_move(m, cpu, seq, page, A_REPLICATE, R_SHARED, home, node, cost)
