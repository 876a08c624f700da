"""Share the pages of the images that several machines start from, copy on write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from disco_trace.jit import helper
from disco_trace.machine.emit import emit
from disco_trace.machine.layout import (
    G_CONTEXTS,
    S_BASE,
    S_CONTEXT,
    X_CONTENTS,
    X_O_MEMMAP,
    X_O_PMAP,
    X_O_POOL,
    X_PAGES,
    X_POOL,
    X_SHARING,
    X_VMS,
    Machine,
)
from disco_trace.memory.events import CONTEXTS, PAGE_EVENT
from disco_trace.memory.pages import PAGE_MAP
from disco_trace.monitor.layout import (
    C_COUNT,
    C_FIRST,
    CONTENT_WORDS,
    PMAP_NAME,
    PMAP_NEXT,
    PMAP_WORDS,
    POOL_NEXT,
)
from disco_trace.monitor.pages import shown_content, shows_content

PAGE_SHIFT, WORDS = 12, 1024
SUPERVISOR = 1


def share_images(machine: Machine, images: Sequence[tuple[str, Iterable[int]]]) -> None:
    """Let machines with the same image show the pages of it that are equal in all of them.

    images: of each machine the hash of its image, and the pages of memory that it covers.
    Called on a machine in its entry state, before anything runs; `announce` records it.
    """
    p, mon = machine.p, machine.mon
    if not p[X_SHARING]:
        return
    pages, first = int(p[X_PAGES]), int(p[X_CONTENTS])
    ram = machine.ram.reshape(-1, WORDS)
    pmap = mon[int(p[X_O_PMAP]) : int(p[X_O_MEMMAP])].reshape(-1, PMAP_WORDS)
    memmap = mon[int(p[X_O_MEMMAP]) : int(p[X_O_POOL])].reshape(-1, CONTENT_WORDS)
    groups: dict[str, list[int]] = {}
    for vm, (name, _) in enumerate(images):
        groups.setdefault(name, []).append(vm)
    content = 0
    for vms in groups.values():
        covered = images[vms[0]][1]
        for page in sorted(covered) if len(vms) > 1 else ():
            own = [vm * pages + page for vm in vms]
            if not all(np.array_equal(ram[own[0]], ram[other]) for other in own[1:]):
                continue
            ram[first + content] = ram[own[0]]
            pmap[own, PMAP_NAME] = first + content
            pmap[own, PMAP_NEXT] = [*(number + 1 for number in own[1:]), 0]
            memmap[content, C_FIRST], memmap[content, C_COUNT] = own[0] + 1, len(own)
            content += 1
    mon[int(p[X_O_POOL]) + POOL_NEXT] = content


@helper
def announce_images(mc, m, first, most):
    """Record which guest pages show contents at the start, from page `first` on, `most` at a time.

    Returns the page to go on with, or −1 at the end.
    """
    if first == 0 and mc.p[X_POOL] != 0:
        # Pages of one machine may leave memory for another's sake before it has run.
        for vm in range(mc.p[X_VMS]):
            context_of(mc, m, vm)
    if mc.p[X_SHARING] == 0:
        return -1
    s = mc.s[0]
    context, base = s[S_CONTEXT], s[S_BASE]
    rows = 0
    page = first
    while page < mc.p[X_CONTENTS] and rows < most:
        if shows_content(mc, page):
            vm = page // mc.p[X_PAGES]
            s[S_CONTEXT] = context_of(mc, m, vm)
            s[S_BASE] = vm * mc.p[X_PAGES] << PAGE_SHIFT
            content = shown_content(mc, page)
            emit(mc, m, 0, PAGE_EVENT, 0, PAGE_MAP, page, 0, 4096, content, 0)
            rows += 1
        page += 1
    s[S_CONTEXT] = context
    s[S_BASE] = base
    return page if page < mc.p[X_CONTENTS] else -1


@helper
def context_of(mc, m, vm):
    """Return a context (with mode) of a machine that may not have run yet, declared if need be."""
    known = mc.g[G_CONTEXTS]
    for index in range(known):
        if mc.contexts[index, 0] == vm:
            return index * 4 + SUPERVISOR
    if known >= mc.contexts.shape[0]:
        return SUPERVISOR
    for word in range(mc.contexts.shape[1]):
        mc.contexts[known, word] = 0
    mc.contexts[known, 0] = vm
    mc.g[G_CONTEXTS] = known + 1
    emit(mc, m, 0, CONTEXTS, 0, known, vm, 0, 0, 0, 0)
    return known * 4 + SUPERVISOR
