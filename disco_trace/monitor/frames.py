"""Who has which frames of the pool, where that is smaller than the machines' memories together.

`vm.pool_bytes` is what the machines share of the real memory. A page of `ram` (a guest page's own,
or a content) is in memory, away on the monitor's swap disk, or not yet worth a frame. One in memory
is charged to one machine, a shared one to the first machine that shows it. Each machine's pages
stand in two lists, oldest first: those that can be read again from a disk's image, and all others.
Here is who has what; what moves, `monitor.paging` decides.
"""

from __future__ import annotations

from disco_trace.jit import helper, inline
from disco_trace.machine.layout import (
    X_CONTENTS,
    X_O_MEMMAP,
    X_O_RESIDENT,
    X_O_VM,
    X_PAGES,
    X_POOL,
    X_SWAP,
)
from disco_trace.monitor.layout import (
    AWAY,
    C_BLOCK,
    C_FIRST,
    CONTENT_WORDS,
    IN_MEMORY,
    NO_FRAME,
    R_NEXT,
    R_OWNER,
    R_PREVIOUS,
    R_STATE,
    R_WORDS,
    VM_CLEAN,
    VM_OTHER,
    VM_USED,
    VM_WORDS,
)


@inline
def resident(mc, name):
    """Return where the record of a page of `ram` begins."""
    return mc.p[X_O_RESIDENT] + 1 + name * R_WORDS


@inline
def in_memory(mc, name):
    """Tell whether a page of `ram` has a frame."""
    return mc.p[X_POOL] == 0 or mc.mon[resident(mc, name) + R_STATE] == IN_MEMORY


@inline
def place_of(mc, name):
    """Return the page of `ram` that has the bytes of one: itself, or its copy on the swap disk."""
    if mc.p[X_POOL] != 0 and mc.mon[resident(mc, name) + R_STATE] == AWAY:
        return name + mc.p[X_SWAP]
    return name


@inline
def frames_in_use(mc):
    """Return how many frames of the pool are taken."""
    return mc.mon[mc.p[X_O_RESIDENT]]


@inline
def vm_at(mc, vm):
    """Return where the record of a machine begins."""
    return mc.p[X_O_VM] + vm * VM_WORDS


@inline
def first_guest_page(mc, name):
    """Return the guest page whose own a page of `ram` is, or the first that shows the content."""
    if name < mc.p[X_CONTENTS]:
        return name
    content = name - mc.p[X_CONTENTS]
    return mc.mon[mc.p[X_O_MEMMAP] + content * CONTENT_WORDS + C_FIRST] - 1


@inline
def is_clean(mc, name):
    """Tell whether what a page holds can be read again from the image of a disk."""
    if name < mc.p[X_CONTENTS]:
        return False
    content = name - mc.p[X_CONTENTS]
    return mc.mon[mc.p[X_O_MEMMAP] + content * CONTENT_WORDS + C_BLOCK] != 0


@helper
def occupy(mc, name):
    """Give a page a frame, as the newest page of the machine that shows it first."""
    mon = mc.mon
    owner = first_guest_page(mc, name) // mc.p[X_PAGES]
    at = resident(mc, name)
    ends = vm_at(mc, owner) + (VM_CLEAN if is_clean(mc, name) else VM_OTHER)
    last = mon[ends + 1] + 0
    mon[at + R_STATE] = IN_MEMORY
    mon[at + R_OWNER] = owner
    mon[at + R_PREVIOUS] = last
    mon[at + R_NEXT] = 0
    if last != 0:
        mon[resident(mc, last - 1) + R_NEXT] = name + 1
    else:
        mon[ends] = name + 1
    mon[ends + 1] = name + 1
    mon[vm_at(mc, owner) + VM_USED] += 1
    mon[mc.p[X_O_RESIDENT]] += 1


@helper
def vacate(mc, name, state):
    """Take a page's frame, if it has one; the page is in `state` from then on."""
    if mc.p[X_POOL] == 0:
        return
    mon = mc.mon
    at = resident(mc, name)
    if mon[at + R_STATE] == IN_MEMORY:
        owner = vm_at(mc, mon[at + R_OWNER])
        ends = owner + (VM_CLEAN if is_clean(mc, name) else VM_OTHER)
        before = mon[at + R_PREVIOUS] + 0
        after = mon[at + R_NEXT] + 0
        if before != 0:
            mon[resident(mc, before - 1) + R_NEXT] = after
        else:
            mon[ends] = after
        if after != 0:
            mon[resident(mc, after - 1) + R_PREVIOUS] = before
        else:
            mon[ends + 1] = before
        mon[owner + VM_USED] -= 1
        mon[mc.p[X_O_RESIDENT]] -= 1
    mon[at + R_STATE] = state


@helper
def charge_first(mc, name):
    """Charge a shared page to the machine that is now the first to show it."""
    if mc.p[X_POOL] == 0 or not in_memory(mc, name):
        return
    if mc.mon[resident(mc, name) + R_OWNER] != first_guest_page(mc, name) // mc.p[X_PAGES]:
        vacate(mc, name, NO_FRAME)
        occupy(mc, name)


@helper
def leave(mc, vm):
    """Take the frames of a machine's own pages: it was switched off."""
    if mc.p[X_POOL] == 0:
        return
    for page in range(vm * mc.p[X_PAGES], (vm + 1) * mc.p[X_PAGES]):
        if mc.mon[resident(mc, page) + R_STATE] == IN_MEMORY:
            vacate(mc, page, NO_FRAME)
