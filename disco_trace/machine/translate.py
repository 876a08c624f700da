"""Segments and the TLB: from a virtual address to a physical one, or to an exception.

Source: MIPS32 Architecture for Programmers, volume III, chapters 4 (virtual memory) and 6.
"""

from __future__ import annotations

from disco_trace.jit import helper, inline
from disco_trace.machine.layout import (
    CONFIG,
    ENTRYHI,
    STATUS,
    T_HI,
    T_LO0,
    T_LO1,
    T_MASK,
    TLB_WORDS,
    UART,
    X_RAM,
    X_TLB,
)

# What `translate` returns: the physical address with these flags, or −(exception | MISSED).
CACHED = 1 << 40
MAPPED = 1 << 41
WRITABLE = 1 << 42
# Under the monitor: a device answers; the monitor was entered.
DEVICE = 1 << 43
TRAPPED = 1 << 44
PHYSICAL = (1 << 40) - 1
MISSED = 1 << 8

MOD, TLBL, TLBS, ADEL, ADES, IBE, DBE = range(1, 8)
A_FETCH, A_LOAD, A_STORE = range(3)
DEVICES_END = UART + 0x20000


@inline
def is_cached(attribute):
    """Tell whether a cache coherency attribute, of a page or Config.K0, is a cached one.

    2 is uncached; 7, left to the implementation, is uncached accelerated, as on the 24K.
    """
    return attribute != 2 and attribute != 7


@inline
def matches(tlb, at, vaddr, asid):
    """Tell whether the TLB entry at index `at` translates an address in an address space."""
    mask = tlb[at + T_MASK] | 0x1FFF
    hi = tlb[at + T_HI]
    if (hi ^ vaddr) & ~mask & 0xFFFFFFFF:
        return False
    return (hi & 255) == asid or (tlb[at + T_LO0] & tlb[at + T_LO1] & 1) != 0


@helper
def find_entry(tlb, hint, entries, vaddr, asid):
    """Return the number of the lowest entry that matches an address, or −1.

    Several may: detecting that is optional (volume III, TLBWI), and nothing is raised here. `hint`
    remembers by page where the last match stood; it is only believed after a full check, and
    forgotten where a lower entry could match instead (`cop0.tlb_write`, `cop0.change_entryhi`).
    Entries of larger pages are not remembered: one could match another page of the same slot, too,
    for which a lower entry stands.
    """
    at = (vaddr >> 12) & 255
    guess = hint[at]
    if guess < entries and matches(tlb, guess * TLB_WORDS, vaddr, asid):
        return guess
    for entry in range(entries):
        if matches(tlb, entry * TLB_WORDS, vaddr, asid):
            if tlb[entry * TLB_WORDS + T_MASK] == 0:
                hint[at] = entry
            return entry
    return -1


@helper
def look_up(tlb, hint, entries, vaddr, asid, access):
    """Translate a mapped address through the TLB; see `translate` for the result."""
    entry = find_entry(tlb, hint, entries, vaddr, asid)
    fault = TLBS if access == A_STORE else TLBL
    if entry < 0:
        return -(fault | MISSED)
    at = entry * TLB_WORDS
    size = ((tlb[at + T_MASK] | 0x1FFF) + 1) >> 1
    lo = tlb[at + T_LO1] if vaddr & size else tlb[at + T_LO0]
    if lo & 2 == 0:
        return -fault
    if access == A_STORE and lo & 4 == 0:
        return -MOD
    physical = (((lo >> 6) << 12) & ~(size - 1)) | (vaddr & (size - 1))
    flags = MAPPED
    if is_cached((lo >> 3) & 7):
        flags |= CACHED
    if lo & 4:
        flags |= WRITABLE
    return physical | flags


@helper
def translate(p, k, tlb, hint, mode, vaddr, access):
    """Translate an address for an access in a mode (kernel and refill, supervisor, user).

    Returns the physical address with flags, or the negative of the exception code, with MISSED
    if no TLB entry matched. Addresses that neither RAM nor a device answers give a bus error.
    """
    address_error = ADES if access == A_STORE else ADEL
    if vaddr < 0x80000000:
        if k[STATUS] & 4:
            result = vaddr | WRITABLE
        else:
            result = look_up(tlb, hint, p[X_TLB], vaddr, k[ENTRYHI] & 255, access)
    elif mode == 2:
        return -address_error
    elif mode == 1 and (vaddr < 0xC0000000 or vaddr >= 0xE0000000):
        return -address_error
    elif vaddr < 0xA0000000:
        result = (vaddr & 0x1FFFFFFF) | WRITABLE
        if is_cached(k[CONFIG] & 7):
            result |= CACHED
    elif vaddr < 0xC0000000:
        result = (vaddr & 0x1FFFFFFF) | WRITABLE
    else:
        result = look_up(tlb, hint, p[X_TLB], vaddr, k[ENTRYHI] & 255, access)
    if result < 0:
        return result
    physical = result & PHYSICAL
    if physical < p[X_RAM]:
        return result
    if UART <= physical < DEVICES_END and access != A_FETCH:
        return result & ~CACHED
    return -IBE if access == A_FETCH else -DBE
