"""Names of pages: a guest page has its own, or that of a content which several guest pages show.

Memory is shared between machines copy on write (D97, section 4.4): pages of their images, blocks of
a disk, messages. Everything else in the memory system goes by names. A name is a number: guest
pages of all machines densely, then contents. `Memory.alias` follows from the trace's `page_events`
alone, so that capture and replay agree; a content that no guest page shows any more is dropped
here, so at most as many names as there are guest pages have frames, whatever a trace contains.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline
from disco_trace.memory.dma import dma
from disco_trace.memory.first_level import drop_parts
from disco_trace.memory.layout import (
    G_REPLICATED,
    GUEST,
    P_CPUS,
    P_GRANULE_SHIFT,
    P_NAMES,
    P_NODES,
    P_PAGES,
    P_POLICY,
    PAGE_WORDS,
)
from disco_trace.memory.placement import collapse_page
from disco_trace.memory.second_level import drop_frame
from disco_trace.memory.system import drop_page
from disco_trace.trace.schema import PAGE_EVENTS

PAGE_ALLOCATE = PAGE_EVENTS.index("allocate")
PAGE_MAP = PAGE_EVENTS.index("map")
PAGE_SHARE = PAGE_EVENTS.index("share")
PAGE_BREAK = PAGE_EVENTS.index("break")
PAGE_SWAP_OUT = PAGE_EVENTS.index("swap_out")
PAGE_SWAP_IN = PAGE_EVENTS.index("swap_in")
PAGE_LEND = PAGE_EVENTS.index("lend")
PAGE_RECLAIM = PAGE_EVENTS.index("reclaim")
PAGE_FREE = PAGE_EVENTS.index("free")
PAGE_ZERO = PAGE_EVENTS.index("zero")
PAGE_CLASS = PAGE_EVENTS.index("class")


@inline
def name_of(m, page):
    """Return the name of a guest page."""
    return page if m.p[P_NAMES] == m.p[P_PAGES] else m.alias[page]


@helper
def page_event(m, cpu, seq, event, page, content):
    """Do what an event in the life of a guest page does to caches, frames and names.

    `map`: the page shows a content, what it held is dead. `share`: what it holds becomes a content,
    in the same frame. `break`: it gets its own name back, with a copy of the content, or the
    content itself if nobody else shows it. `free`, `zero`: what it holds is dead. `swap_out`,
    `reclaim`: what it shows leaves memory, written to a disk or dropped; `swap_in`: a disk brings
    it back.
    """
    pages = m.p[P_PAGES]
    if page < 0 or page >= pages:
        return
    sharing = m.p[P_NAMES] != pages
    if event == PAGE_FREE or event == PAGE_ZERO:
        forget(m, page)
    elif event == PAGE_SWAP_OUT or event == PAGE_RECLAIM:
        name = name_of(m, page)
        if event == PAGE_SWAP_OUT:
            dma(m, cpu, seq, 0, name << 12, 4096)
        drop_page(m, name)
    elif event == PAGE_SWAP_IN:
        dma(m, cpu, seq, 1, name_of(m, page) << 12, 4096)
    elif sharing and (event == PAGE_MAP or event == PAGE_SHARE):
        if content < 0 or content >= pages or m.alias[page] == pages + content:
            return
        if event == PAGE_MAP:
            forget(m, page)
        elif m.alias[page] == page and m.alias[pages + content] == 0:
            rename(m, cpu, seq, page, pages + content)
        else:
            return
        m.alias[page] = pages + content
        m.alias[pages + content] += 1
    elif sharing and event == PAGE_BREAK:
        name = m.alias[page]
        if name == page:
            return
        if m.alias[name] == 1:
            rename(m, cpu, seq, name, page)
        else:
            # The copy reads the content and overwrites whatever caches hold of the page.
            dma(m, cpu, seq, 0, name << 12, 4096)
            dma(m, cpu, seq, 1, page << 12, 4096)
        m.alias[name] -= 1
        m.alias[page] = page


@helper
def forget(m, page):
    """Let a guest page hold nothing, under its own name."""
    name = page
    if m.p[P_NAMES] != m.p[P_PAGES]:
        name = m.alias[page]
    if name != page:
        m.alias[page] = page
        m.alias[name] -= 1
        if m.alias[name] > 0:
            return
    drop_page(m, name)


@helper
def rename(m, cpu, seq, old, new):
    """Give a page another name: it keeps its frame, but its lines leave the caches.

    Hardware goes by addresses and would keep the second level's; the first level goes by names.
    Under the policy `guest` each name has a frame of its own: the page is placed there when it is
    referred to next, as another content may come to stand in its old one.
    """
    nodes = m.p[P_NODES]
    if m.page[old * PAGE_WORDS + G_REPLICATED] != 0:
        collapse_page(m, old)
    dma(m, cpu, seq, 0, old << 12, 4096)
    shift = m.p[P_GRANULE_SHIFT]
    first = (old << 12) >> shift
    for granule in range(first, first + (4096 >> shift)):
        holders = m.presence[2 * granule]
        if holders != 0:
            for other in range(m.p[P_CPUS]):
                if (holders >> other) & 1:
                    drop_parts(m, other, granule, False, False)
    frame = np.int64(m.frame_at[old * nodes])
    if frame >= 0:
        drop_frame(m, frame, True)
        if m.p[P_POLICY] == GUEST:
            m.frame_page[frame] = -1
            frame = np.int64(-1)
        else:
            m.frame_page[frame] = new
    for node in range(nodes):
        m.frame_at[old * nodes + node] = -1
        m.frame_at[new * nodes + node] = frame
