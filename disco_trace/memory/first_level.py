"""First-level caches and their coherence: the part that no replay parameter can touch.

Nothing here reads a frame, the second level or the directory. See docs/architecture.md.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, index, inline
from disco_trace.memory.layout import (
    P_CPUS,
    P_D_COLOURS,
    P_D_SETS,
    P_D_SHIFT,
    P_D_TAGS,
    P_D_WAYS,
    P_GRANULE_SHIFT,
    P_I_COLOURS,
    P_I_SETS,
    P_I_SHIFT,
    P_I_TAGS,
    P_I_WAYS,
    P_L1_STRIDE,
)


@inline
def promote(order, index, way):
    """Make `way` the most recent in the packed order word order[index] (nibbles, recent lowest)."""
    word = order[index]
    if (word >> 4) & 15 == way:
        order[index] = (word & ~255) | ((word & 15) << 4) | way
        return
    shift = 0
    while (word >> shift) & 15 != way and shift < 60:
        shift += 4
    low = word & ((1 << shift) - 1)
    high = word & ~((1 << (shift + 4)) - 1) if shift < 60 else 0
    order[index] = high | (low << 4) | way


@helper
def choose_way(l1, tags, order_index, ways):
    """Return the way that a miss fills: the lowest invalid one, else the least recently used.

    `tags` is the index of the set's first tag. The way is not yet promoted.
    """
    for way in range(ways):
        if l1[tags + way] == 0:
            return way
    return (l1[order_index] >> (4 * (ways - 1))) & 15


@inline
def data_set(m, vaddr):
    """Return the first-level data set of a virtual address."""
    return (vaddr >> m.p[P_D_SHIFT]) & (m.p[P_D_SETS] - 1)


@inline
def instruction_set(m, vaddr):
    """Return the first-level instruction set of a virtual address."""
    return (vaddr >> m.p[P_I_SHIFT]) & (m.p[P_I_SETS] - 1)


@helper
def drop_parts(m, cpu, granule, data_only, clean_only):
    """Invalidate (or with `clean_only` clean) a CPU's lines of a granule; return lines changed.

    A line may stand in any colour: the set bits above the page offset come from the virtual
    address, so each colour is probed. Presence counts of invalidated lines are returned to zero.
    """
    p = m.p
    changed = 0
    # Once as many lines are found as there are, nothing is left to look for.
    there = np.int64(m.counts[index(granule * p[P_CPUS] + cpu)])
    if clean_only:
        there = m.presence[2 * granule + 1] >> 8
    first = granule << p[P_GRANULE_SHIFT]
    end = first + (1 << p[P_GRANULE_SHIFT])
    base = cpu * p[P_L1_STRIDE]
    for side in range(1 if data_only else 2):
        if side == 0:
            shift, sets, ways = p[P_D_SHIFT], p[P_D_SETS], p[P_D_WAYS]
            tags, colours = base + p[P_D_TAGS], p[P_D_COLOURS]
        else:
            shift, sets, ways = p[P_I_SHIFT], p[P_I_SETS], p[P_I_WAYS]
            tags, colours = base + p[P_I_TAGS], p[P_I_COLOURS]
        address = first
        while address < end and changed < there:
            line = address >> shift
            key = line + 1
            in_page = (address & 4095) >> shift
            for colour in range(colours):
                s = (in_page + ((colour << 12) >> shift)) & (sets - 1)
                for way in range(ways):
                    l1_at = index(tags + s * ways + way)
                    tag = m.l1[l1_at]
                    if tag >> 1 == key:
                        if clean_only:
                            if tag & 1:
                                m.l1[l1_at] = tag & ~1
                                changed += 1
                        else:
                            m.l1[l1_at] = 0
                            changed += 1
            address += 1 << shift
    if not clean_only and changed:
        at = granule * p[P_CPUS] + cpu
        left = m.counts[at] - changed
        m.counts[at] = left if left > 0 else 0
        if left <= 0:
            m.presence[2 * granule] &= ~(1 << cpu)
    return changed


@helper
def drop_synonyms(m, cpu, vaddr, line, clean_only):
    """Invalidate (or clean) this CPU's other copies of one data line, in the other colours.

    A store may leave no synonym behind that a later load could hit stale; a load beside a dirty
    synonym cleans it, so that the next store there is a recorded first write.
    """
    p = m.p
    shift = p[P_D_SHIFT]
    own = data_set(m, vaddr)
    in_page = (vaddr & 4095) >> shift
    tags = cpu * p[P_L1_STRIDE] + p[P_D_TAGS]
    ways = p[P_D_WAYS]
    granule = line >> (p[P_GRANULE_SHIFT] - shift)
    for colour in range(p[P_D_COLOURS]):
        s = (in_page + ((colour << 12) >> shift)) & (p[P_D_SETS] - 1)
        if s == own:
            continue
        for way in range(ways):
            at = tags + s * ways + way
            tag = m.l1[at]
            if tag >> 1 == line + 1:
                if tag & 1:
                    forget_dirty(m, granule)
                if clean_only:
                    m.l1[at] = tag & ~1
                else:
                    m.l1[at] = 0
                    m.counts[granule * p[P_CPUS] + cpu] -= 1


@inline
def forget_dirty(m, granule):
    """Count one dirty line of the granule less; nobody holds dirty parts after the last."""
    word = m.presence[2 * granule + 1]
    if word >= 512:
        m.presence[2 * granule + 1] = word - 256
    else:
        m.presence[2 * granule + 1] = 0


@helper
def read_coherence(m, cpu, granule):
    """Clean another CPU's dirty parts of a granule that this CPU is about to read."""
    word = m.presence[2 * granule + 1]
    drop_parts(m, word & 255, granule, True, True)
    m.presence[2 * granule + 1] = 0


@helper
def write_coherence(m, cpu, granule):
    """Invalidate every other CPU's parts of a granule that this CPU is about to write."""
    others = m.presence[2 * granule] & ~(1 << cpu)
    for other in range(m.p[P_CPUS]):
        if (others >> other) & 1:
            drop_parts(m, other, granule, False, False)
    word = m.presence[2 * granule + 1]
    if word != 0 and word & 255 != cpu:
        m.presence[2 * granule + 1] = 0
