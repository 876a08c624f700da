"""Translate a guest's addresses: by the hardware TLB, or by what the guest and the monitor know."""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline
from disco_trace.machine.emit import KERNEL, REFILL, SUPERVISOR, USER, emit, mode_of
from disco_trace.machine.layout import (
    CONFIG,
    ENTRYHI,
    S_REFILL,
    S_REGIME,
    S_VM,
    S_WHICH,
    STATUS,
    T_HI,
    T_LO0,
    T_LO1,
    T_MASK,
    TLB_WORDS,
    UART,
    X_MAPPED,
    X_O_VM,
    X_POOL,
    X_TLB,
    X_UNMAPPED,
)
from disco_trace.machine.translate import (
    A_FETCH,
    A_STORE,
    ADEL,
    ADES,
    CACHED,
    DBE,
    DEVICE,
    DEVICES_END,
    IBE,
    MAPPED,
    MISSED,
    MOD,
    TLBL,
    TLBS,
    TRAPPED,
    WRITABLE,
    find_entry,
    is_cached,
)
from disco_trace.memory.events import PAGE_EVENT, TRAPS
from disco_trace.memory.pages import PAGE_BREAK
from disco_trace.monitor.hardware import flush, insert, look_up_hardware, machine_lo
from disco_trace.monitor.layout import (
    HW_WORDS,
    K_LO0,
    K_LO1,
    V_BOOT,
    V_BOOT_PAGE,
    VM_BASE,
    VM_PAGES,
    VM_WORDS,
)
from disco_trace.monitor.pages import break_share, shown_content, shows_content
from disco_trace.monitor.paging import bring_in, record_moves
from disco_trace.monitor.software import enter, find
from disco_trace.monitor.special import is_special, special_pair
from disco_trace.monitor.vcpu import record
from disco_trace.trace.schema import MONITOR_CAUSES

TLB_FAULT = MONITOR_CAUSES.index("tlb_fault")
DIRECT = MONITOR_CAUSES.index("kseg0")
COPY_ON_WRITE = MONITOR_CAUSES.index("copy_on_write")
V_D_G = 7


@inline
def virtual_mode(mc, cpu):
    """Return the mode that the guest believes to be in."""
    return mode_of(mc.cp0[cpu, STATUS], mc.s[cpu, S_REFILL])


@helper
def enter_regime(mc, cpu, mode):
    """Flush the hardware TLB where addresses change their meaning without a TLB write.

    That is with virtual ERL, which unmaps useg, and between virtual kernel and supervisor mode,
    which hardware runs in the same mode. User mode reaches nothing but useg in any case.
    """
    regime = (mc.cp0[cpu, STATUS] >> 2) & 1
    if mode == SUPERVISOR:
        regime |= 2
    if regime != mc.s[cpu, S_REGIME]:
        mc.s[cpu, S_REGIME] = regime
        flush(mc, cpu)


@helper
def reach(mc, mode):
    """Return the end of what the page filter serves from address 0 up, and the size above KSEG1.

    A kernel under `kseg0 = "mapped"` reaches everything through the TLB; otherwise, like the
    hardware's supervisor mode, useg and the supervisor segment.
    """
    if mode == USER:
        return 0x80000000, 0
    if mode == SUPERVISOR or mc.p[X_MAPPED] == 0:
        return 0x80000000, 0x20000000
    return 0xC0000000, 0x40000000


@inline
def guest_translate(mc, m, cpu, mode, vaddr, access, pc, work):
    """Translate an address for an access of the guest, as `translate` does for the bare machine.

    The result may say DEVICE: a physical address of the guest that no memory answers. TRAPPED: the
    monitor was entered, and a row has consumed `work`.
    """
    allowed = vaddr < 0x80000000
    if not allowed:
        if mode == SUPERVISOR or (mode != USER and mc.p[X_MAPPED] == 0):
            allowed = 0xC0000000 <= vaddr < 0xE0000000
        else:
            allowed = mode != USER
    result = -1
    if allowed:
        asid = mc.cp0[cpu, ENTRYHI] & 255
        result = look_up_hardware(mc.mon, cpu * HW_WORDS, mc.p[X_TLB], vaddr, asid, access)
        if result < 0:
            result = fault(mc, m, cpu, mode, vaddr, access, pc, work)
    else:
        result = -(ADES if access == A_STORE else ADEL)
    return result


@helper
def fault(mc, m, cpu, mode, vaddr, access, pc, work):
    """Find what an address that the hardware TLB does not map means to the guest.

    In this order: a segment that is not mapped, the guest's own TLB, the software TLB, the page
    that the monitor maps for a start in the supervisor segment, the special page. Memory is entered
    in the hardware TLB, with a `traps` row; an exception that is the guest's own comes back for it.
    """
    k = mc.cp0[cpu]
    asid = k[ENTRYHI] & 255
    kernel = mode == KERNEL or mode == REFILL
    hi = (vaddr & 0xFFFFE000) | asid
    cause = TLB_FAULT
    entry = -1
    special = False
    if kernel and vaddr < 0x80000000 and k[STATUS] & 4:
        lo0, lo1 = direct(vaddr, 2)
        cause = DIRECT
    elif 0x80000000 <= vaddr < 0xC0000000:
        cacheable = vaddr < 0xA0000000 and is_cached(k[CONFIG] & 7)
        lo0, lo1 = direct(vaddr & 0x1FFFFFFF, 3 if cacheable else 2)
        cause = DIRECT
    else:
        missed = TLBS if access == A_STORE else TLBL
        entry = find_entry(mc.tlb[cpu], mc.hint[cpu], mc.p[X_TLB], vaddr, asid)
        if entry >= 0:
            lo0, lo1 = split(mc.tlb[cpu], entry * TLB_WORDS, vaddr)
            lo = lo1 if vaddr & 4096 else lo0
            if lo & 2 == 0:
                return -missed
            if access == A_STORE and lo & 4 == 0:
                return -MOD
        else:
            at = record(mc, mc.s[cpu, S_WHICH])
            pair = find(mc, mc.s[cpu, S_WHICH], vaddr, asid, access)
            if pair >= 0:
                lo0 = mc.mon[pair + K_LO0]
                lo1 = mc.mon[pair + K_LO1]
            elif mc.mon[at + V_BOOT] != 0 and kernel and vaddr >> 13 == mc.mon[at + V_BOOT_PAGE]:
                lo0, lo1 = direct(vaddr & 0x1FFFFFFF, 3)
            elif kernel and is_special(mc, cpu, vaddr):
                lo0, lo1 = special_pair(mc, cpu)
                special = True
            else:
                return -(missed | MISSED)
    lo = lo1 if vaddr & 4096 else lo0
    vm = mc.p[X_O_VM] + mc.s[cpu, S_VM] * VM_WORDS
    if lo >> 6 >= mc.mon[vm + VM_PAGES]:
        physical = ((lo >> 6) << 12) | (vaddr & 4095)
        if UART <= physical < DEVICES_END and access != A_FETCH:
            return physical | DEVICE
        return -(IBE if access == A_FETCH else DBE)
    page = mc.mon[vm + VM_BASE] + (lo >> 6)
    trapped = 0
    if mc.p[X_POOL] != 0:
        mc.actions[0, 0] = 0
        bring_in(mc, page)
        if mc.actions[0, 0] != 0:
            work = record_moves(mc, m, cpu, work)
            trapped = TRAPPED
    if (access == A_STORE or special) and shows_content(mc, page):
        trap_copy(mc, m, cpu, pc, vaddr, page, work)
        work = 0
        trapped = TRAPPED
    if cause == DIRECT and mc.p[X_UNMAPPED] != 0 and vaddr >= 0x80000000:
        own = machine_lo(mc, cpu, lo)
        flags = MAPPED | trapped
        if own & 4:
            flags |= WRITABLE
        if is_cached((lo >> 3) & 7):
            flags |= CACHED
        return ((own >> 6) << 12) | (vaddr & 4095) | flags
    if cause == DIRECT:
        insert(mc, cpu, hi, machine_lo(mc, cpu, lo0), machine_lo(mc, cpu, lo1))
    else:
        enter(mc, cpu, np.int64(entry), np.int64(hi), np.int64(lo0), np.int64(lo1))
    emit(mc, m, cpu, TRAPS, work, cause, pc, vaddr, 1, 0, 0)
    return TRAPPED | look_up_hardware(mc.mon, cpu * HW_WORDS, mc.p[X_TLB], vaddr, asid, access)


@helper
def trap_copy(mc, m, cpu, pc, vaddr, page, work):
    """Give a page that a store wants memory of its own; record what that took."""
    content = shown_content(mc, page)
    mc.actions[0, 0] = 0
    result = break_share(mc, page)
    others = max(0, (result >> 13) - 1)
    emit(mc, m, cpu, TRAPS, work, COPY_ON_WRITE, pc, vaddr, 0, others << 32, result & 8191)
    emit(mc, m, cpu, PAGE_EVENT, 0, PAGE_BREAK, page, 0, result & 8191, content, 0)
    bring_in(mc, page)
    record_moves(mc, m, cpu, 0)


@inline
def direct(physical, cca):
    """Return the pair of EntryLo that maps an address as a segment without translation does."""
    lo = ((physical & ~0x1FFF) >> 6) | (cca << 3) | V_D_G
    return lo, lo + 64


@inline
def split(tlb, at, vaddr):
    """Return the pair of 4 KiB pages around an address that a TLB entry of any size maps."""
    size = ((tlb[at + T_MASK] | 0x1FFF) + 1) >> 1
    lo0 = tlb[at + T_LO0] + 0
    lo1 = tlb[at + T_LO1] + 0
    if size != 4096:
        lo = lo1 if vaddr & size else lo0
        page = ((lo >> 6) & ~((size >> 12) - 1)) | ((vaddr & (size - 1) & ~0x1FFF) >> 12)
        lo0 = (page << 6) | (lo & 63)
        lo1 = ((page | 1) << 6) | (lo & 63)
    return lo0, lo1


assert T_HI == 0
