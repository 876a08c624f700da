"""The placements that never move a page: guest, first touch, round robin, single node."""

from __future__ import annotations

from disco_trace.jit import inline
from disco_trace.memory.layout import (
    C_NODE,
    CPU_WORDS,
    F_ROUND_ROBIN,
    P_NODE,
    P_NODE_FRAMES,
    P_NODE_SHARE,
    P_NODES,
    P_PAGES,
)
from disco_trace.memory.placement import allocate_near


@inline
def place_guest(m, page):
    """Use the address that the guest chose: the frame of the same number.

    Shared contents have frames behind those of a node's guest pages, likewise by number.
    """
    p = m.p
    content = page >= p[P_PAGES]
    number = page - p[P_PAGES] if content else page
    node = number // p[P_NODE_SHARE]
    first = node * p[P_NODE_FRAMES] + number - node * p[P_NODE_SHARE]
    return first + p[P_NODE_SHARE] if content else first


@inline
def place_guest_node(m, page):
    """Use the node that the guest's address stands for, in a machine with room to move."""
    number = page - m.p[P_PAGES] if page >= m.p[P_PAGES] else page
    return allocate_near(m, number * m.p[P_NODES] // m.p[P_PAGES])


@inline
def place_first_touch(m, cpu):
    """Use the node of the CPU that references the page first."""
    return allocate_near(m, m.cpu[cpu * CPU_WORDS + C_NODE])


@inline
def place_round_robin(m):
    """Use the nodes in turn, in the order of first references."""
    node = m.fill[F_ROUND_ROBIN]
    m.fill[F_ROUND_ROBIN] = (node + 1) % m.p[P_NODES]
    return allocate_near(m, node)


@inline
def place_single_node(m):
    """Use one node for everything, as long as it has frames."""
    return allocate_near(m, m.p[P_NODE])
