"""The software TLB of a virtual CPU: what its guest wrote to its TLB and has not taken back.

The guest's own TLB stays exact beside it (`Machine.tlb`); this one only spares the guest refills of
entries that were displaced. A guest cannot see that a displaced entry lives on, except by changing
a page table without telling the TLB what it believes to be gone. So whatever a guest does to find
out what its TLB holds, or to empty it, drops what it would not have found:

* TLBP that misses: the page it asked for;
* TLBWI of an invalid pair, or one that does not rewrite the page of the last TLBP hit: everything;
* TLBR: everything, as a guest may search its TLB by reading all entries.

Only a valid page, writable for a store, is taken from here: the guest's handlers for invalid and
for clean pages look for the faulting entry in the TLB, so they may only run when it is there.
"""

from __future__ import annotations

from disco_trace.jit import helper, inline
from disco_trace.machine.layout import (
    ENTRYHI,
    ENTRYLO0,
    ENTRYLO1,
    INDEX,
    PAGEMASK,
    S_WHICH,
    T_HI,
    T_LO0,
    T_LO1,
    T_MASK,
    TLB_WORDS,
    X_O_STLB,
    X_STLB_SETS,
    X_TLB,
)
from disco_trace.machine.translate import A_STORE, find_entry
from disco_trace.monitor.hardware import drop, flush, insert, machine_lo
from disco_trace.monitor.layout import (
    K_KEY,
    K_LO0,
    K_LO1,
    KEY_VALID,
    STLB_SET,
    STLB_WAYS,
    STLB_WORDS,
    V_BOOT,
    V_BOOT_PAGE,
    V_PROBE,
    V_PROBE_HI,
)
from disco_trace.monitor.vcpu import record


@inline
def set_of(mc, which, vaddr):
    """Return where the set of an address begins."""
    pair = (vaddr & 0xFFFFFFFF) >> 13
    number = (pair ^ (pair >> 7)) % mc.p[X_STLB_SETS]
    return mc.p[X_O_STLB] + (which * mc.p[X_STLB_SETS] + number) * STLB_SET


@inline
def maps(vaddr):
    """Tell whether a TLB entry for an address means anything: KSEG0 and KSEG1 never reach the TLB.

    Operating systems write such page numbers to make an entry match nothing.
    """
    return vaddr < 0x80000000 or vaddr >= 0xC0000000


@inline
def inserts(mc, cpu):
    """Tell whether the entry that the guest is about to write goes into the hardware TLB."""
    k = mc.cp0[cpu]
    small = k[PAGEMASK] & 0x1FFFE000 == 0
    return small and (k[ENTRYLO0] | k[ENTRYLO1]) & 2 != 0 and maps(k[ENTRYHI])


@helper
def find(mc, which, vaddr, asid, access):
    """Return the index of the pair that maps an address for an access, or −1."""
    if mc.p[X_STLB_SETS] == 0:
        return -1
    mon = mc.mon
    at = set_of(mc, which, vaddr)
    for way in range(STLB_WAYS):
        pair = at + way * STLB_WORDS
        key = mon[pair + K_KEY]
        if key & KEY_VALID and (key ^ vaddr) & 0xFFFFE000 == 0:
            if key & 255 == asid or mon[pair + K_LO0] & 1:
                lo = mon[pair + (K_LO1 if vaddr & 4096 else K_LO0)]
                if lo & 2 and (access != A_STORE or lo & 4):
                    return pair
                return -1
    return -1


@helper
def remember(mc, cpu, which, hi, lo0, lo1):
    """Enter a pair that the guest wrote, in place of what stood for its page before.

    A pair that is displaced leaves hardware, too, unless the guest's own TLB maps its page.
    """
    if mc.p[X_STLB_SETS] == 0:
        return
    mon = mc.mon
    forget_page(mc, which, hi, hi & 255, lo0 & 1)
    at = set_of(mc, which, hi)
    turn = at + STLB_WAYS * STLB_WORDS
    way = -1
    for candidate in range(STLB_WAYS):
        if mon[at + candidate * STLB_WORDS + K_KEY] == 0:
            way = candidate
    if way < 0:
        way = mon[turn]
        mon[turn] = (way + 1) % STLB_WAYS
    pair = at + way * STLB_WORDS
    old = mon[pair + K_KEY] & 0xFFFFFFFF
    if mon[pair + K_KEY] != 0:
        page = old & 0xFFFFE000
        every = mon[pair + K_LO0] & 1
        found = find_entry(mc.tlb[cpu], mc.hint[cpu], mc.p[X_TLB], page, old & 255)
        if found < 0 or (every and mc.tlb[cpu, found * TLB_WORDS + T_LO0] & 1 == 0):
            drop(mc, cpu, page, old & 255, 0x2000, every)
    mon[pair + K_KEY] = (hi & 0xFFFFE0FF) | KEY_VALID
    mon[pair + K_LO0] = lo0
    mon[pair + K_LO1] = lo1


@helper
def forget_page(mc, which, vaddr, asid, every):
    """Drop the pair of an address: of its address space and global ones, or (`every`) of all.

    Returns 1 if a global one went: hardware may have that for another address space alone (see
    `enter`), where nothing else would hold it then.
    """
    if mc.p[X_STLB_SETS] == 0:
        return 0
    mon = mc.mon
    was_global = 0
    at = set_of(mc, which, vaddr)
    for way in range(STLB_WAYS):
        pair = at + way * STLB_WORDS
        key = mon[pair + K_KEY]
        if key & KEY_VALID and (key ^ vaddr) & 0xFFFFE000 == 0:
            if every or key & 255 == asid or mon[pair + K_LO0] & 1:
                mon[pair + K_KEY] = 0
                was_global |= mon[pair + K_LO0] & 1
    return was_global


@helper
def forget_all(mc, which):
    """Empty a software TLB."""
    sets = mc.p[X_STLB_SETS]
    base = mc.p[X_O_STLB] + which * sets * STLB_SET
    for number in range(sets):
        for way in range(STLB_WAYS):
            mc.mon[base + number * STLB_SET + way * STLB_WORDS + K_KEY] = 0


@helper
def drop_everything(mc, cpu):
    """Empty the software TLB and the hardware TLB; the guest's own TLB maps what it holds."""
    forget_all(mc, mc.s[cpu, S_WHICH])
    flush(mc, cpu)


@helper
def before_write(mc, cpu, entry, indexed):
    """Keep the rules above as the guest is about to write a TLB entry from its registers."""
    k = mc.cp0[cpu]
    at = record(mc, mc.s[cpu, S_WHICH])
    mon = mc.mon
    if indexed:
        valid = (k[ENTRYLO0] | k[ENTRYLO1]) & 2
        probed = mon[at + V_PROBE] == entry + 1 and mon[at + V_PROBE_HI] == k[ENTRYHI] & 0xFFFFE0FF
        if not valid or not probed:
            drop_everything(mc, cpu)
    mon[at + V_PROBE] = 0
    if entry >= mc.p[X_TLB]:
        return
    # What the old entry mapped may only stay in hardware if the software TLB has it too, and if no
    # further entry for the page, of which the lowest counts, comes to light.
    old = entry * TLB_WORDS
    row = mc.tlb[cpu]
    hi = row[old + T_HI] + 0
    lo0 = row[old + T_LO0] + 0
    lo1 = row[old + T_LO1] + 0
    if (lo0 | lo1) & 2:
        small = row[old + T_MASK] | 0x1FFF == 0x1FFF
        if not small or not remembered(mc, cpu, hi, lo0, lo1) or overlapped(mc, cpu, entry, hi):
            span = (row[old + T_MASK] | 0x1FFF) + 1
            drop(mc, cpu, hi, hi & 255, span, lo0 & lo1 & 1)


@helper
def overlapped(mc, cpu, entry, hi):
    """Tell whether another entry of the guest's TLB covers the page of one, in any address space.

    Few guests have such entries on purpose, but what they then see is defined here: the lowest.
    """
    row = mc.tlb[cpu]
    for other in range(mc.p[X_TLB]):
        at = other * TLB_WORDS
        if (
            other != entry
            and (row[at + T_HI] ^ hi) & ~(row[at + T_MASK] | 0x1FFF) & 0xFFFFFFFF == 0
        ):
            return True
    return False


@helper
def enter(mc, cpu, entry, hi, lo0, lo1):
    """Put a pair of the guest's in the hardware TLB, from its own entry or (−1) what is remembered.

    A global one beside which another entry stands for the page enters for one address space only:
    for the others that entry may count.
    """
    if lo0 & 1 and overlapped(mc, cpu, entry, hi):
        lo0 &= ~1
        lo1 &= ~1
    insert(mc, cpu, hi, machine_lo(mc, cpu, lo0), machine_lo(mc, cpu, lo1))


@helper
def remembered(mc, cpu, hi, lo0, lo1):
    """Tell whether the software TLB holds exactly this pair."""
    if mc.p[X_STLB_SETS] == 0:
        return False
    mon = mc.mon
    at = set_of(mc, mc.s[cpu, S_WHICH], hi)
    for way in range(STLB_WAYS):
        pair = at + way * STLB_WORDS
        if mon[pair + K_KEY] == (hi & 0xFFFFE0FF) | KEY_VALID:
            if mon[pair + K_LO0] == lo0 and mon[pair + K_LO1] == lo1:
                return True
    return False


@helper
def after_write(mc, cpu, entry):
    """Drop what the new entry contradicts, and remember it if it is a valid pair of 4 KiB pages."""
    if entry >= mc.p[X_TLB]:
        return
    which = mc.s[cpu, S_WHICH]
    at = record(mc, which)
    row = mc.tlb[cpu]
    new = entry * TLB_WORDS
    hi = row[new + T_HI] + 0
    lo0 = row[new + T_LO0] + 0
    lo1 = row[new + T_LO1] + 0
    wide = row[new + T_MASK] | 0x1FFF
    every = lo0 & lo1 & 1
    if wide != 0x1FFF:
        # Rare: a large entry may cover any number of remembered pairs.
        drop_everything(mc, cpu)
    else:
        was_global = forget_page(mc, which, hi, hi & 255, every)
        drop(mc, cpu, hi, hi & 255, 0x2000, every | was_global)
        first = find_entry(mc.tlb[cpu], mc.hint[cpu], mc.p[X_TLB], hi & 0xFFFFE000, hi & 255)
        # Of several matching entries the lowest counts.
        if (lo0 | lo1) & 2 and maps(hi) and first == entry:
            remember(mc, cpu, which, hi, lo0, lo1)
            enter(mc, cpu, entry, hi & 0xFFFFE0FF, lo0, lo1)
    if mc.mon[at + V_BOOT] != 0 and (lo0 | lo1) & 2:
        if ((mc.mon[at + V_BOOT_PAGE] << 13) ^ hi) & ~wide & 0xFFFFFFFF == 0:
            # The guest maps its boot page itself from here on.
            mc.mon[at + V_BOOT] = 0
            drop(mc, cpu, mc.mon[at + V_BOOT_PAGE] << 13, 0, 0x2000, 1)


@helper
def after_probe(mc, cpu):
    """Note a TLBP hit; a miss drops the page from software and hardware."""
    k = mc.cp0[cpu]
    which = mc.s[cpu, S_WHICH]
    at = record(mc, which)
    hi = k[ENTRYHI] & 0xFFFFE0FF
    if k[INDEX] & 0x80000000:
        mc.mon[at + V_PROBE] = 0
        was_global = forget_page(mc, which, hi, hi & 255, 0)
        drop(mc, cpu, hi, hi & 255, 0x2000, was_global)
    else:
        mc.mon[at + V_PROBE] = (k[INDEX] & 63) + 1
        mc.mon[at + V_PROBE_HI] = hi
