"""pmap and memmap: which page of memory each guest page shows, and who shows each shared page.

A guest page has memory of its own, at its own number in `ram`, until it shows a *content*: a page
of an image, a block of a disk, a page of a message, which others may show too and nobody may write.
The first store gives the page memory of its own again. Contents stand behind all machines' memory.
What happens here is recorded by the callers as `page_events`: the memory system follows from those
(`memory.pages`).
"""

from __future__ import annotations

from disco_trace.jit import helper, inline
from disco_trace.machine.layout import (
    S_LL,
    S_LLADDR,
    TLB_WORDS,
    X_CONTENTS,
    X_CPUS,
    X_MONITOR,
    X_O_BLOCKS,
    X_O_MEMMAP,
    X_O_PMAP,
    X_O_POOL,
    X_PAGES,
    X_POOL,
    X_TLB,
    X_UNMAPPED,
)
from disco_trace.monitor.frames import charge_first, occupy, place_of, vacate
from disco_trace.monitor.hardware import clear_filter, forget, translates
from disco_trace.monitor.layout import (
    C_BLOCK,
    C_COUNT,
    C_FIRST,
    CONTENT_WORDS,
    HW_WORDS,
    NO_FRAME,
    PMAP_NAME,
    PMAP_NEXT,
    PMAP_WORDS,
    POOL_DEPTH,
    POOL_LIST,
    POOL_NEXT,
)


@helper
def real(mc, vm, address):
    """Return where a byte of a machine's memory stands in `ram`; the address must lie in it."""
    if mc.p[X_MONITOR] == 0:
        return address
    page = vm * mc.p[X_PAGES] + (address >> 12)
    name = mc.mon[mc.p[X_O_PMAP] + page * PMAP_WORDS + PMAP_NAME] + 0
    return place_of(mc, name) << 12 | (address & 4095)


@inline
def shown_content(mc, page):
    """Return the number of the content that a guest page shows; negative: it has its own memory."""
    return mc.mon[mc.p[X_O_PMAP] + page * PMAP_WORDS + PMAP_NAME] - mc.p[X_CONTENTS]


@inline
def shows_content(mc, page):
    """Tell whether a guest page shows a content."""
    return shown_content(mc, page) >= 0


@inline
def memmap(mc, content):
    """Return where the record of a content begins."""
    return mc.p[X_O_MEMMAP] + content * CONTENT_WORDS


@inline
def has_spare_content(mc):
    """Tell whether there is a content that nobody shows: not if every guest page shows another."""
    pool = mc.p[X_O_POOL]
    return mc.mon[pool + POOL_DEPTH] > 0 or mc.mon[pool + POOL_NEXT] < mc.p[X_CONTENTS]


@helper
def new_content(mc, block):
    """Return a content that nobody shows yet; `block`: 1 + the block of the disks that it is, or 0.

    There is always one: a guest page shows one at most, and there are as many.
    """
    pool = mc.p[X_O_POOL]
    depth = mc.mon[pool + POOL_DEPTH]
    if depth > 0:
        mc.mon[pool + POOL_DEPTH] = depth - 1
        content = mc.mon[pool + POOL_LIST + depth - 1]
    else:
        content = mc.mon[pool + POOL_NEXT]
        mc.mon[pool + POOL_NEXT] = content + 1
    at = memmap(mc, content)
    mc.mon[at + C_FIRST] = 0
    mc.mon[at + C_COUNT] = 0
    mc.mon[at + C_BLOCK] = block
    if block != 0:
        mc.mon[mc.p[X_O_BLOCKS] + block - 1] = content + 1
    return content


@helper
def show(mc, page, content):
    """Let a guest page show a content; what it held is lost to it.

    Returns how many CPUs had a translation.
    """
    cpus = withdraw(mc, page)
    at = memmap(mc, content)
    vacate(mc, page, NO_FRAME)
    own = mc.p[X_O_PMAP] + page * PMAP_WORDS
    mc.mon[own + PMAP_NAME] = mc.p[X_CONTENTS] + content
    # Behind the first, to which it is charged.
    before = at + C_FIRST
    if mc.mon[before] != 0:
        before = mc.p[X_O_PMAP] + (mc.mon[before] - 1) * PMAP_WORDS + PMAP_NEXT
    mc.mon[own + PMAP_NEXT] = mc.mon[before]
    mc.mon[before] = page + 1
    mc.mon[at + C_COUNT] += 1
    return cpus


@helper
def withdraw(mc, page):
    """Take a guest page from what translations say of it, and from the content that it shows.

    A content that nobody shows any more is free. Returns how many CPUs had a translation.
    """
    own = mc.p[X_O_PMAP] + page * PMAP_WORDS
    name = mc.mon[own + PMAP_NAME] + 0
    cpus = drop_translations(mc, name)
    if name < mc.p[X_CONTENTS]:
        return cpus
    content = name - mc.p[X_CONTENTS]
    at = memmap(mc, content)
    following = mc.mon[own + PMAP_NEXT] + 0
    if mc.mon[at + C_FIRST] == page + 1:
        mc.mon[at + C_FIRST] = following
    else:
        before = mc.mon[at + C_FIRST] - 1
        while mc.mon[mc.p[X_O_PMAP] + before * PMAP_WORDS + PMAP_NEXT] != page + 1:
            before = mc.mon[mc.p[X_O_PMAP] + before * PMAP_WORDS + PMAP_NEXT] - 1
        mc.mon[mc.p[X_O_PMAP] + before * PMAP_WORDS + PMAP_NEXT] = following
    mc.mon[own + PMAP_NAME] = page
    mc.mon[own + PMAP_NEXT] = 0
    mc.mon[at + C_COUNT] -= 1
    if mc.mon[at + C_COUNT] > 0:
        charge_first(mc, name)
    else:
        vacate(mc, name, NO_FRAME)
        if mc.mon[at + C_BLOCK] != 0:
            mc.mon[mc.p[X_O_BLOCKS] + mc.mon[at + C_BLOCK] - 1] = 0
        pool = mc.p[X_O_POOL]
        mc.mon[pool + POOL_LIST + mc.mon[pool + POOL_DEPTH]] = content
        mc.mon[pool + POOL_DEPTH] += 1
    return cpus


@helper
def break_share(mc, page):
    """Give a guest page memory of its own with what it showed.

    Returns CPUs with a translation × 8192 + the bytes that the monitor has to copy: none if nobody
    else shows the content, which then becomes the page's own.
    """
    content = shown_content(mc, page)
    copied = 4096 if mc.mon[memmap(mc, content) + C_COUNT] > 1 else 0
    source = place_of(mc, mc.p[X_CONTENTS] + content) << 10
    for word in range(1024):
        mc.ram[(page << 10) + word] = mc.ram[source + word]
        mc.ops[(page << 10) + word] = 0
    return withdraw(mc, page) << 13 | copied


@helper
def share_page(mc, page):
    """Make what a guest page holds in memory of its own a content, which it then shows.

    Its frame is the content's from then on. Returns how many CPUs had a translation.
    """
    content = new_content(mc, 0)
    target = (mc.p[X_CONTENTS] + content) << 10
    for word in range(1024):
        mc.ram[target + word] = mc.ram[(page << 10) + word]
        mc.ops[target + word] = 0
    cpus = show(mc, page, content)
    if mc.p[X_POOL] != 0:
        occupy(mc, mc.p[X_CONTENTS] + content)
    return cpus


@helper
def drop_translations(mc, name):
    """Drop a page of memory from every hardware TLB; return how many CPUs had a translation.

    The entries that Disco finds through its backmaps are found here by looking at them all.
    Reservations on the page are lost.
    """
    cpus = 0
    for cpu in range(mc.p[X_CPUS]):
        found = False
        for entry in range(mc.p[X_TLB]):
            if translates(mc.mon, cpu, entry, name):
                forget(mc.mon, cpu * HW_WORDS + entry * TLB_WORDS)
                found = True
        cpus += found
        if found or mc.p[X_UNMAPPED] != 0:
            clear_filter(mc, cpu)
        if mc.s[cpu, S_LLADDR] >> 12 == name:
            mc.s[cpu, S_LL] = 0
    return cpus
