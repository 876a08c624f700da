"""The hardware TLB of a CPU that runs a virtual machine: 4 KiB pairs with machine pages.

Disco's rules: the guest's ASID is inserted as it is; everything is dropped when another virtual
CPU comes to run, or (structure `tagged`) its entries stay and match it alone: a virtual CPU that
ran elsewhere in between finds none of them. What stands here also stands in the guest's own TLB, in
its software TLB, or is a direct mapping of the present regime (KSEG0, KSEG1, useg under ERL).
"""

from __future__ import annotations

from disco_trace.jit import helper, inline
from disco_trace.machine.layout import (
    S_VM,
    T_HI,
    T_LO0,
    T_LO1,
    TLB_WORDS,
    X_CONTENTS,
    X_O_PMAP,
    X_O_VM,
    X_TAGGED,
    X_TLB,
)
from disco_trace.machine.translate import A_STORE, CACHED, MAPPED, WRITABLE, is_cached
from disco_trace.monitor.frames import in_memory
from disco_trace.monitor.layout import (
    EMPTY,
    HW_ENTRIES,
    HW_NEXT,
    HW_TAG,
    HW_WORDS,
    PAIR,
    PMAP_NAME,
    PMAP_WORDS,
    TAG_SHIFT,
    TAGS,
    VM_BASE,
    VM_PAGES,
    VM_WORDS,
)


@inline
def stands_for(mon, at, tagged, asid):
    """Tell whether the hardware entry at index `at` translates an address (with its tag)."""
    hi = mon[at + T_HI]
    if (hi ^ tagged) & PAIR:
        return False
    # Entries are made with both or neither global bit.
    return (hi & 255) == asid or (mon[at + T_LO0] & 1) != 0


@helper
def look_up_hardware(mon, base, entries, vaddr, asid, access):
    """Translate an address through the hardware TLB at `base`; −1 if it does not allow the access.

    The result is the machine address with flags, as of `machine.translate`.
    """
    hint = base + HW_ENTRIES + ((vaddr >> 12) & 255)
    found = base + mon[hint] * TLB_WORDS
    tagged = vaddr | mon[base + HW_TAG]
    if not stands_for(mon, found, tagged, asid):
        found = -1
        for entry in range(entries):
            if stands_for(mon, base + entry * TLB_WORDS, tagged, asid):
                mon[hint] = entry
                found = base + entry * TLB_WORDS
                break
        if found < 0:
            return -1
    lo = mon[found + (T_LO1 if vaddr & 4096 else T_LO0)]
    if lo & 2 == 0 or (access == A_STORE and lo & 4 == 0):
        return -1
    flags = MAPPED
    if is_cached((lo >> 3) & 7):
        flags |= CACHED
    if lo & 4:
        flags |= WRITABLE
    return ((lo >> 6) << 12) | (vaddr & 4095) | flags


@inline
def machine_lo(mc, cpu, lo):
    """Return an EntryLo of the guest with the machine's page; not valid where none is in memory."""
    vm = mc.p[X_O_VM] + mc.s[cpu, S_VM] * VM_WORDS
    page = lo >> 6
    if page >= mc.mon[vm + VM_PAGES]:
        return lo & 1
    at = mc.p[X_O_PMAP] + (mc.mon[vm + VM_BASE] + page) * PMAP_WORDS
    name = mc.mon[at + PMAP_NAME]
    if not in_memory(mc, name):
        return lo & 1
    # Nobody writes what others may show, too.
    flags = lo & 63 if name < mc.p[X_CONTENTS] else lo & ~4 & 63
    return (name << 6) | flags


@inline
def clear_filter(mc, cpu):
    """Empty the CPU's page filter: something left its TLB."""
    for index in range(mc.filter.shape[1]):
        mc.filter[cpu, index] = 0


@helper
def insert(mc, cpu, hi, lo0, lo1):
    """Put a pair in the hardware TLB, in place of one for the same page, else first in first out.

    Not at random, as the time base of Random stands still between the traps of one instruction:
    its code page and its data page could then evict each other for ever.
    """
    if (lo0 | lo1) & 2 == 0:
        return  # Neither page is in memory: the guest's own entry is looked at when one is wanted.
    mon = mc.mon
    base = cpu * HW_WORDS
    hi |= mon[base + HW_TAG]
    slot = -1
    for entry in range(mc.p[X_TLB]):
        at = base + entry * TLB_WORDS
        if (mon[at + T_HI] ^ hi) & PAIR == 0 and (mon[at + T_LO0] | mon[at + T_LO1]) & 2:
            if (mon[at + T_HI] ^ hi) & 255 == 0 or (mon[at + T_LO0] | lo0) & 1:
                if slot >= 0:
                    # A global pair takes the place of several.
                    forget(mon, at)
                else:
                    slot = at
    if slot < 0:
        slot = base + mon[base + HW_NEXT] * TLB_WORDS
        mon[base + HW_NEXT] = (mon[base + HW_NEXT] + 1) % mc.p[X_TLB]
    mon[slot + T_HI] = hi
    mon[slot + T_LO0] = lo0
    mon[slot + T_LO1] = lo1
    clear_filter(mc, cpu)


@helper
def drop(mc, cpu, vaddr, asid, span, every):
    """Drop hardware entries of the aligned stretch of `span` bytes that holds an address.

    Those of the address space and global ones; with `every`, of any address space.
    """
    mon = mc.mon
    base = cpu * HW_WORDS
    tag = mon[base + HW_TAG] + 0
    for entry in range(mc.p[X_TLB]):
        at = base + entry * TLB_WORDS
        if (mon[at + T_HI] ^ (vaddr | tag)) & (TAGS | 0xFFFFE000) & ~(span - 1) == 0:
            if every or mon[at + T_HI] & 255 == asid or mon[at + T_LO0] & 1:
                forget(mon, at)
    clear_filter(mc, cpu)


@inline
def forget(mon, at):
    """Make a hardware entry match nothing."""
    mon[at + T_HI] = EMPTY
    mon[at + T_LO0] = 0
    mon[at + T_LO1] = 0


@inline
def translates(mon, cpu, entry, name):
    """Tell whether a CPU's hardware entry translates to a page of `ram`."""
    at = cpu * HW_WORDS + entry * TLB_WORDS
    lo0 = mon[at + T_LO0]
    lo1 = mon[at + T_LO1]
    return (lo0 & 2 != 0 and lo0 >> 6 == name) or (lo1 & 2 != 0 and lo1 >> 6 == name)


@helper
def flush(mc, cpu):
    """Empty a CPU's hardware TLB: of the entries of what runs there, where they carry tags."""
    base = cpu * HW_WORDS
    tag = mc.mon[base + HW_TAG] + 0
    for entry in range(mc.p[X_TLB]):
        at = base + entry * TLB_WORDS
        if (mc.mon[at + T_HI] ^ tag) & TAGS == 0:
            forget(mc.mon, at)
    clear_filter(mc, cpu)


@helper
def change_owner(mc, cpu, which, stale):
    """Let the CPU's hardware TLB serve another virtual CPU; what it held of it may be `stale`."""
    if mc.p[X_TAGGED] != 0:
        mc.mon[cpu * HW_WORDS + HW_TAG] = (which + 1) << TAG_SHIFT
        if not stale:
            clear_filter(mc, cpu)
            return
    flush(mc, cpu)
