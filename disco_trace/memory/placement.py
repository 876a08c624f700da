"""Frames of the nodes, and the moves of pages between them: mechanism only, no policy."""

from __future__ import annotations

from disco_trace.jit import helper, inline
from disco_trace.memory.layout import (
    C_CLOCK,
    C_CONTEXT,
    CPU_WORDS,
    F_MOVES,
    F_REPLICAS,
    G_MASTER,
    G_MOVES,
    G_REPLICATED,
    H_MOVES,
    M_MONITOR,
    P_CONTEXTS,
    P_NODE_FRAMES,
    P_NODES,
    P_PAGES,
    PAGE_WORDS,
)
from disco_trace.memory.second_level import drop_frame, rehome, share_frame
from disco_trace.trace.schema import MOVE_ACTIONS, N_METRICS

A_PLACE = MOVE_ACTIONS.index("place")
A_MIGRATE = MOVE_ACTIONS.index("migrate")
A_REPLICATE = MOVE_ACTIONS.index("replicate")
A_COLLAPSE = MOVE_ACTIONS.index("collapse")
A_REFUSE = MOVE_ACTIONS.index("refuse")


@inline
def node_of(m, frame):
    """Return the node whose memory holds a frame."""
    return frame // m.p[P_NODE_FRAMES]


@inline
def on_node(m, frame, node):
    """Tell whether a node's memory holds a frame, without a division."""
    first = node * m.p[P_NODE_FRAMES]
    return first <= frame < first + m.p[P_NODE_FRAMES]


@helper
def allocate(m, node):
    """Take a frame of a node: the last freed, else the next untouched; −1 when it is full."""
    frames = m.p[P_NODE_FRAMES]
    stack = node * (1 + frames)
    depth = m.free[stack]
    if depth > 0:
        m.free[stack] = depth - 1
        return node * frames + m.free[stack + depth]
    if m.node_next[node] < frames:
        m.node_next[node] += 1
        return node * frames + m.node_next[node] - 1
    return -1


@helper
def release(m, frame):
    """Give a frame back to its node; its cache lines must have been dropped."""
    frames = m.p[P_NODE_FRAMES]
    node = frame // frames
    stack = node * (1 + frames)
    m.frame_page[frame] = -1
    if m.free[stack] < frames:
        m.free[stack] += 1
        m.free[stack + m.free[stack]] = frame - node * frames


@helper
def allocate_near(m, node):
    """Take a frame of a node, or of the next one that has any; −1 if the machine is full."""
    nodes = m.p[P_NODES]
    for step in range(nodes):
        frame = allocate(m, (node + step) % nodes)
        if frame >= 0:
            return frame
    return -1


@inline
def replica_room(m):
    """Tell whether a replica would still leave a frame for every page of the guests."""
    return m.fill[F_REPLICAS] < m.p[P_NODES] * m.p[P_NODE_FRAMES] - m.p[P_PAGES]


@inline
def map_everywhere(m, page, frame):
    """Point every node's view of a page at one frame."""
    nodes = m.p[P_NODES]
    for node in range(nodes):
        m.frame_at[page * nodes + node] = frame
    m.frame_page[frame] = page


@inline
def charge(m, cpu, cause, cycles):
    """Add monitor time to a CPU's clock and to its accounts."""
    m.cpu[cpu * CPU_WORDS + C_CLOCK] += cycles
    context = m.cpu[cpu * CPU_WORDS + C_CONTEXT]
    at = (cpu * m.p[P_CONTEXTS] + context) * N_METRICS + M_MONITOR + cause
    m.accounts[at] += cycles


@inline
def log_move(m, cpu, seq, page, action, reason, from_node, to_node, cycles):
    """Append a row to the moves; drivers keep room for the rows of one event."""
    at = m.fill[F_MOVES]
    if at < m.moves.shape[0]:
        row = m.moves[at]
        row["seq"] = seq
        row["cycle"] = m.cpu[cpu * CPU_WORDS + C_CLOCK]
        row["guest_page"] = page
        row["cycles"] = cycles
        row["vm"] = 0
        row["cpu"] = cpu
        row["action"] = action
        row["reason"] = reason
        row["from_node"] = from_node
        row["to_node"] = to_node
        m.fill[F_MOVES] = at + 1


@inline
def count_move(m, page, node):
    """Count a move for the page's cap and the heat map."""
    m.page[page * PAGE_WORDS + G_MOVES] += 1
    m.heat[(page * m.p[P_NODES] + node) * 4 + H_MOVES] += 1


@helper
def move_page(m, page, frame):
    """Move a page to a new frame: drop the old one's lines, re-home the first level's."""
    old = m.frame_at[page * m.p[P_NODES]]
    drop_frame(m, old, True)
    release(m, old)
    map_everywhere(m, page, frame)
    rehome(m, page, frame)


@helper
def add_replica(m, page, node, frame):
    """Give a node its own read-only copy of a page."""
    nodes = m.p[P_NODES]
    state = page * PAGE_WORDS
    if m.page[state + G_REPLICATED] == 0:
        m.page[state + G_REPLICATED] = 1
        m.page[state + G_MASTER] = m.frame_at[page * nodes]
        share_frame(m, m.page[state + G_MASTER])
    m.frame_at[page * nodes + node] = frame
    m.frame_page[frame] = page
    m.fill[F_REPLICAS] += 1


@helper
def collapse_page(m, page):
    """Drop every replica of a page; return how many there were."""
    nodes = m.p[P_NODES]
    state = page * PAGE_WORDS
    master = m.page[state + G_MASTER]
    dropped = 0
    for node in range(nodes):
        frame = m.frame_at[page * nodes + node]
        if frame != master:
            drop_frame(m, frame, False)
            release(m, frame)
            dropped += 1
            m.frame_at[page * nodes + node] = master
    m.page[state + G_REPLICATED] = 0
    m.fill[F_REPLICAS] -= dropped
    return dropped


@helper
def unplace_page(m, page, write_back):
    """Forget where a page is: its content died, or (`write_back`) first touch is dealt again."""
    nodes = m.p[P_NODES]
    frame = m.frame_at[page * nodes]
    if frame < 0:
        return
    if m.page[page * PAGE_WORDS + G_REPLICATED] != 0:
        collapse_page(m, page)
        frame = m.frame_at[page * nodes]
    drop_frame(m, frame, write_back)
    release(m, frame)
    for node in range(nodes):
        m.frame_at[page * nodes + node] = -1
