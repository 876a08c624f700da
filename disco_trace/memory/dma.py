"""What a device's transfer does to caches, directory and placement.

A device holds no lines: it reads and writes memory at its home, and the directory brings the
caches into line (docs/architecture.md, "DMA"). The same function serves capture and replay.
"""

from __future__ import annotations

from disco_trace.jit import helper
from disco_trace.memory.first_level import drop_parts, read_coherence
from disco_trace.memory.layout import (
    D_LOST,
    D_OWNER,
    D_SHARERS,
    G_REPLICATED,
    M_INVALIDATIONS,
    M_WRITEBACKS,
    OWNER_DIRTY,
    P_CPUS,
    P_GRANULE_SHIFT,
    P_L2_SHIFT,
    P_NAMES,
    P_NODES,
    PAGE_WORDS,
)
from disco_trace.memory.second_level import (
    account,
    dirty_part_of,
    downgrade,
    l2_find,
    presence_of,
)
from disco_trace.memory.system import collapse


@helper
def dma(m, cpu, seq, write, address, length):
    """Let a device read or (`write`) write bytes of one page, by its name, on behalf of a CPU.

    What lies beyond the page, or beyond the guest's memory, is left out.
    """
    p = m.p
    page = address >> 12
    first = address & 4095
    end = min(first + min(length, 4096), 4096)
    if page < 0 or page >= p[P_NAMES] or end <= first:
        return
    if m.page[page * PAGE_WORDS + G_REPLICATED] != 0:
        # Read-only copies are clean everywhere; a write has to leave one page.
        if write == 0:
            return
        collapse(m, cpu, seq, page)
    shift = p[P_GRANULE_SHIFT]
    base = page << 12
    low = (base | first) >> shift
    high = ((base | (end - 1)) >> shift) + 1
    frame = m.frame_at[page * p[P_NODES]]
    if frame < 0:
        write_home_unplaced(m, write, base, first, end, low, high)
        drop_granules(m, write, low, high)
        return
    # Second-level lines that overlap the granules, by their offset in the page.
    line = 1 << p[P_L2_SHIFT]
    begin = ((low << shift) - base) & ~(line - 1)
    stop = (high << shift) - base
    for offset in range(begin, stop, line):
        whole = write != 0 and first <= offset and offset + line <= end
        write_home(m, page, frame, offset, low, high, whole)
        if write != 0:
            take_line(m, cpu, (frame << 12 | offset) >> p[P_L2_SHIFT], page, offset, low, high)
    drop_granules(m, write, low, high)
    for offset in range(begin, stop, line):
        settle_line(m, (frame << 12 | offset) >> p[P_L2_SHIFT], write)


@helper
def granules_of(m, page, offset, low, high):
    """Return the granules of a second-level line that the transfer touches, [from, to)."""
    shift = m.p[P_GRANULE_SHIFT]
    first = ((page << 12) | offset) >> shift
    last = ((page << 12) | (offset + (1 << m.p[P_L2_SHIFT]) - 1)) >> shift
    return max(low, first), min(high, last + 1)


@helper
def write_home(m, page, frame, offset, low, high, whole):
    """Send a line's dirty data home, unless all of it is overwritten; count it for its owner."""
    fline = (frame << 12 | offset) >> m.p[P_L2_SHIFT]
    owner = m.dir[4 * fline + D_OWNER]
    if owner & OWNER_DIRTY == 0 or whole:
        return
    cpu = (owner & 255) - 1
    here = l2_find(m, cpu, fline) >= 0
    first, last = granules_of(m, page, offset, low, high)
    for granule in range(first, last):
        word = m.presence[2 * granule + 1]
        here = here or (word != 0 and word & 255 == cpu)
    if here:
        account(m, cpu, M_WRITEBACKS, 1)


@helper
def write_home_unplaced(m, write, base, first, end, low, high):
    """Count the dirty granules of a page without a frame that a transfer sends home."""
    shift = m.p[P_GRANULE_SHIFT]
    for granule in range(low, high):
        offset = (granule << shift) - base
        whole = write != 0 and first <= offset and offset + (1 << shift) <= end
        word = m.presence[2 * granule + 1]
        if word != 0 and not whole:
            account(m, word & 255, M_WRITEBACKS, 1)


@helper
def take_line(m, cpu, fline, page, offset, low, high):
    """Invalidate every second-level copy; count the CPUs that lose it or first-level parts."""
    d = 4 * fline
    sharers = m.dir[d + D_SHARERS]
    holders = sharers
    first, last = granules_of(m, page, offset, low, high)
    for granule in range(first, last):
        holders |= m.presence[2 * granule]
    count = 0
    for other in range(m.p[P_CPUS]):
        if (holders >> other) & 1:
            count += 1
            at = l2_find(m, other, fline)
            if at >= 0:
                m.l2[at] = 0
    m.dir[d + D_LOST] |= holders
    m.dir[d + D_SHARERS] = 0
    account(m, cpu, M_INVALIDATIONS, count)


@helper
def drop_granules(m, write, low, high):
    """Invalidate (device writes) or clean (device reads) the first level's parts of granules."""
    for granule in range(low, high):
        if write == 0:
            if m.presence[2 * granule + 1] != 0:
                read_coherence(m, 0, granule)
            continue
        holders = m.presence[2 * granule]
        for cpu in range(m.p[P_CPUS]):
            if (holders >> cpu) & 1:
                drop_parts(m, cpu, granule, False, False)
        m.presence[2 * granule + 1] = 0


@helper
def settle_line(m, fline, write):
    """Bring a line's owner up to date after the first level changed.

    Only a line longer than the granule can leave its owner parts, as after an eviction.
    """
    d = 4 * fline + D_OWNER
    owner = m.dir[d]
    if owner == 0:
        return
    cpu = (owner & 255) - 1
    still = dirty_part_of(m, fline, cpu)
    if write != 0:
        if (presence_of(m, fline) >> cpu) & 1 == 0:
            m.dir[d] = 0
        elif not still:
            m.dir[d] = cpu + 1
    elif owner & OWNER_DIRTY and not still:
        downgrade(m, fline, False)
