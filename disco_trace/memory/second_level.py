"""Second-level caches and the directory over both levels (write-invalidate, MESI or MSI)."""

from __future__ import annotations

from disco_trace.jit import helper, index, inline
from disco_trace.memory.first_level import promote
from disco_trace.memory.layout import (
    C_CONTEXT,
    CPU_WORDS,
    D_LOST,
    D_OWNER,
    D_SHARERS,
    EXCLUSIVE,
    F_RANDOM,
    LRU,
    M_INVALIDATIONS,
    M_WRITEBACKS,
    MODIFIED,
    OWNER_DIRTY,
    P_CONTEXTS,
    P_CPUS,
    P_GRANULE_SHIFT,
    P_L2_ORDER,
    P_L2_REPLACEMENT,
    P_L2_SETS,
    P_L2_SHIFT,
    P_L2_STRIDE,
    P_L2_WAYS,
    RANDOM,
    SHARED,
)
from disco_trace.trace.schema import N_METRICS


@inline
def account(m, cpu, metric, value):
    """Add to a metric of a CPU, in the context that the CPU is in."""
    context = m.cpu[cpu * CPU_WORDS + C_CONTEXT]
    m.accounts[(cpu * m.p[P_CONTEXTS] + context) * N_METRICS + metric] += value


@inline
def l2_find(m, cpu, fline):
    """Return the index in m.l2 of the CPU's copy of a line, or −1."""
    p = m.p
    ways = p[P_L2_WAYS]
    first = index(cpu * p[P_L2_STRIDE] + (fline & (p[P_L2_SETS] - 1)) * ways)
    key = fline + 1
    for way in range(ways):
        if m.l2[first + way] >> 2 == key:
            return first + way
    return -1


@inline
def l2_touch(m, cpu, fline, at):
    """Make the line at index `at` the most recent of its set, under LRU."""
    p = m.p
    if p[P_L2_REPLACEMENT] == LRU:
        s = fline & (p[P_L2_SETS] - 1)
        way = at - cpu * p[P_L2_STRIDE] - s * p[P_L2_WAYS]
        order = index(cpu * p[P_L2_STRIDE] + p[P_L2_ORDER] + s)
        if m.l2[order] & 15 != way:
            promote(m.l2, order, way)


@inline
def presence_of(m, fline):
    """Return the mask of CPUs that hold, in the first level, any part of a frame line.

    0 for a frame that no page owns.
    """
    p = m.p
    shift = p[P_L2_SHIFT]
    page = m.frame_page[index(fline << shift) >> 12]
    if page < 0:
        return 0
    first = index((page << 12) | ((fline << shift) & 4095)) >> p[P_GRANULE_SHIFT]
    mask = m.presence[2 * first]
    if shift > p[P_GRANULE_SHIFT]:
        for g in range(first + 1, first + (1 << (shift - p[P_GRANULE_SHIFT]))):
            mask |= m.presence[2 * g]
    return mask


@inline
def dirty_part_of(m, fline, cpu):
    """Tell whether the CPU's first level holds a dirty part of a frame line."""
    p = m.p
    shift = p[P_L2_SHIFT]
    page = m.frame_page[(fline << shift) >> 12]
    if page < 0:
        return False
    first = ((page << 12) | ((fline << shift) & 4095)) >> p[P_GRANULE_SHIFT]
    count = 1 << max(0, shift - p[P_GRANULE_SHIFT])
    for g in range(first, first + count):
        word = m.presence[2 * g + 1]
        if word != 0 and word & 255 == cpu:
            return True
    return False


@helper
def dirty_above(m, page):
    """Tell whether any first level holds a dirty part of a page."""
    shift = m.p[P_GRANULE_SHIFT]
    first = (page << 12) >> shift
    dirty = False
    for g in range(first, first + (4096 >> shift)):
        dirty = dirty or m.presence[2 * g + 1] != 0
    return dirty


@inline
def l2_insert(m, cpu, fline, state):
    """Allocate a line in a CPU's second level, evicting if the set is full."""
    p = m.p
    ways = p[P_L2_WAYS]
    s = fline & (p[P_L2_SETS] - 1)
    first = index(cpu * p[P_L2_STRIDE] + s * ways)
    order = index(cpu * p[P_L2_STRIDE] + p[P_L2_ORDER] + s)
    way = -1
    for candidate in range(ways):
        if m.l2[first + candidate] == 0:
            way = candidate
            break
    if way < 0:
        if p[P_L2_REPLACEMENT] == RANDOM:
            # A 31-bit multiplicative generator: no host randomness, the same in both drivers.
            m.fill[F_RANDOM] = (m.fill[F_RANDOM] * 1103515245 + 12345) & 0x7FFFFFFF
            way = (m.fill[F_RANDOM] >> 12) % ways
        else:
            way = (m.l2[order] >> (4 * (ways - 1))) & 15
        l2_evict(m, cpu, m.l2[first + way])
    m.l2[first + way] = ((fline + 1) << 2) | state
    promote(m.l2, order, way)
    m.dir[4 * fline + D_SHARERS] |= 1 << cpu


@inline
def l2_evict(m, cpu, tag):
    """Send a victim home: write it back if modified, and keep what the first level still holds."""
    line = index((tag >> 2) - 1)
    d = 4 * line
    if tag & 3 == MODIFIED:
        account(m, cpu, M_WRITEBACKS, 1)
    m.dir[d + D_SHARERS] &= ~(1 << cpu)
    owner = m.dir[d + D_OWNER]
    if owner & 255 == cpu + 1:
        if (presence_of(m, line) >> cpu) & 1:
            if dirty_part_of(m, line, cpu):
                m.dir[d + D_OWNER] = (cpu + 1) | OWNER_DIRTY
            else:
                m.dir[d + D_OWNER] = cpu + 1
        else:
            m.dir[d + D_OWNER] = 0


@inline
def downgrade(m, fline, write_back):
    """Take exclusive permission from a line's owner, who keeps a shared copy if it has one."""
    d = 4 * fline
    owner = m.dir[d + D_OWNER]
    if owner == 0:
        return
    cpu = (owner & 255) - 1
    at = l2_find(m, cpu, fline)
    if at >= 0:
        m.l2[at] = ((fline + 1) << 2) | SHARED
    if owner & OWNER_DIRTY and write_back:
        account(m, cpu, M_WRITEBACKS, 1)
    m.dir[d + D_OWNER] = 0


@helper
def invalidate_others(m, cpu, fline, first_level_holders):
    """Take a line from every other holder; count one invalidation a CPU for the writer.

    `first_level_holders` is the mask of CPUs whose first-level parts the write has invalidated.
    """
    d = 4 * fline
    sharers = m.dir[d + D_SHARERS] & ~(1 << cpu)
    holders = (sharers | first_level_holders) & ~(1 << cpu)
    count = 0
    for other in range(m.p[P_CPUS]):
        if (holders >> other) & 1:
            count += 1
            if (sharers >> other) & 1:
                at = l2_find(m, other, fline)
                if at >= 0:
                    m.l2[at] = 0
    m.dir[d + D_LOST] |= holders
    m.dir[d + D_SHARERS] &= 1 << cpu
    account(m, cpu, M_INVALIDATIONS, count)


@helper
def drop_frame(m, frame, write_back):
    """Drop all second-level lines of a frame and forget its directory entries (a page moved)."""
    shift = m.p[P_L2_SHIFT]
    first = (frame << 12) >> shift
    for fline in range(first, first + (4096 >> shift)):
        d = 4 * fline
        sharers = m.dir[d + D_SHARERS]
        if sharers != 0:
            for cpu in range(m.p[P_CPUS]):
                if (sharers >> cpu) & 1:
                    at = l2_find(m, cpu, fline)
                    if at >= 0:
                        if m.l2[at] & 3 == MODIFIED and write_back:
                            account(m, cpu, M_WRITEBACKS, 1)
                        m.l2[at] = 0
        for word in range(4):
            m.dir[d + word] = 0


@helper
def rehome(m, page, frame):
    """Give a new frame's lines to the CPUs whose first level holds the page's lines dirty."""
    p = m.p
    shift = p[P_L2_SHIFT]
    first = (page << 12) >> p[P_GRANULE_SHIFT]
    for g in range(first, first + (4096 >> p[P_GRANULE_SHIFT])):
        word = m.presence[2 * g + 1]
        if word != 0:
            offset = (g << p[P_GRANULE_SHIFT]) & 4095
            fline = ((frame << 12) | offset) >> shift
            last = ((frame << 12) | (offset + (1 << p[P_GRANULE_SHIFT]) - 1)) >> shift
            for line in range(fline, last + 1):
                m.dir[4 * line + D_OWNER] = ((word & 255) + 1) | OWNER_DIRTY


@helper
def share_frame(m, frame):
    """Downgrade every owned line of a frame to shared (its page becomes replicated)."""
    shift = m.p[P_L2_SHIFT]
    first = (frame << 12) >> shift
    for fline in range(first, first + (4096 >> shift)):
        if m.dir[4 * fline + D_OWNER] != 0:
            downgrade(m, fline, True)


@inline
def exclusive_state(owner):
    """Return the second-level state of a line whose owner word is ours."""
    return MODIFIED if owner & OWNER_DIRTY else EXCLUSIVE
