"""Simulate the monitor's TLBs again from a trace, where a cost table asks for other than captured.

What the guest wrote to its TLB and looked for there is in the trace (`tlb_ops`), what it referred
to as well (`pages`, below the page filter), and who ran where (`schedule`). From these the rules of
`disco_trace.monitor` (hardware, software and the guest's own TLB) are played through for another
structure. Guest refills stay as recorded, only the monitor's entries change:

* a recorded miss that hits now: its row charges nothing;
* a recorded hit that misses now: a row is added, for the miss that the monitor resolves or, if
  nothing of the wanted structure maps the page, for an exception that it forwards and the traps of
  the handler behind it, as many as recorded handlers made on average;
* a recorded refill whose page the wanted software TLB still holds: the monitor's entries of its
  handler charge nothing, and one resolved miss takes their place. The guest's own instructions
  there stay in the stream.

Two models stand side by side: that of the capture, without hardware (model 0), which knows what a
guest's page table held, and the wanted one (model 1). All state is in the flat array `t`, laid out
by `p`. Whatever a trace holds, nothing is indexed outside: CPUs, contexts, virtual CPUs and TLB
indices are checked, addresses only select.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline, kernel
from disco_trace.replay.kernel import ADDED, MOST_TIMES
from disco_trace.trace.schema import (
    CONTROL,
    MODES,
    MONITOR_CAUSES,
    PAGE_KINDS,
    SCHEDULE_EVENTS,
    SPECIAL,
    TLB_OPS,
)

# Parameters in `p`. Q_SETS and Q_O_STLB have a word for each model.
(
    Q_CPUS, Q_ENTRIES, Q_VCPUS, Q_VMS, Q_TAGGED, Q_UNMAPPED, Q_NESTED,
    Q_SETS, Q_SETS_WANTED, Q_O_STLB, Q_O_STLB_WANTED, Q_O_VCPU, Q_O_TLB, Q_O_VM, Q_O_COUNTS,
) = range(15)  # fmt: skip
N_Q = 15
CAPTURED, WANTED = 0, 1

# A CPU's hardware TLB: entries (EntryHi + tag, EntryLo0, EntryLo1 without page numbers), hints,
# the entry that is replaced next, the tag of what runs.
MAX_TLB = 64
HW_ENTRY = 3
HW_HINTS = MAX_TLB * HW_ENTRY
HW_NEXT = HW_HINTS + 256
HW_TAG = HW_NEXT + 1
HW_WORDS = HW_TAG + 1
EMPTY = 1 << 40
TAG_SHIFT = 41
TAGS = 0x3FFF << TAG_SHIFT
PAIR = TAGS | EMPTY | 0xFFFFE000

# A virtual CPU: pages of its machine; the last TLBP hit; the page that the monitor maps at its
# start; the CPU it ran on last; the lowest entry that TLBWR replaced; state of the random choice
# of entries; whether its recorded handler is one that would not have run (2: it is about to);
# whether the monitor maps a special page.
(
    U_PAGES, U_PROBE, U_PROBE_HI, U_BOOT, U_BOOT_PAGE, U_LAST, U_WIRED, U_RANDOM, U_SKIP, U_SPECIAL,
) = range(10)  # fmt: skip
VCPU_WORDS = 10
BOOT_UNKNOWN, BOOT_MAPPED, BOOT_OVER = range(3)

TLB_WORDS = 4  # EntryHi, PageMask, EntryLo0, EntryLo1
STLB_WAYS = 4
STLB_WORDS = 3  # EntryHi + KEY_VALID, EntryLo0, EntryLo1
STLB_SET = STLB_WAYS * STLB_WORDS + 1  # and the way that is replaced next
KEY_VALID = 1 << 40

# A machine: its first virtual CPU, and how many it has.
VM_FIRST, VM_COUNT = range(2)
VM_WORDS = 2

# Counts: recorded refills, traps of their handlers by kind, what of their means is still owed.
N_REFILLS, N_PRIVILEGED, N_WRITES, N_OWED_PRIVILEGED, N_OWED_WRITES = range(5)
N_COUNTS = 5

_CODES = {kind.name: kind.code for kind in CONTROL}
TICKS, TLB_OP, EXCEPTIONS, RETURNS, TRAPS, SCHEDULES = (
    _CODES[name] for name in ("ticks", "tlb_ops", "exceptions", "returns", "traps", "schedule")
)
TLB_FAULT, DIRECT, FORWARD, PRIVILEGED, TLB_WRITE = (
    MONITOR_CAUSES.index(name)
    for name in ("tlb_fault", "kseg0", "forward", "privileged", "tlb_write")
)
WRITE_INDEXED, WRITE_RANDOM, PROBE, READ, FLUSH = (
    TLB_OPS.index(name) for name in ("write_indexed", "write_random", "probe", "read", "flush")
)
RUNS = SCHEDULE_EVENTS.index("run")
PREEMPTS = SCHEDULE_EVENTS.index("preempt")
IDLES = SCHEDULE_EVENTS.index("idle")
REFILL = MODES.index("refill")
STORE = PAGE_KINDS.index("store")
TLBS = 3  # ExcCode of a store's refill
HIT = -1


@inline
def vcpu_of(p, v):
    """Return where a virtual CPU's words begin."""
    return p[Q_O_VCPU] + v * VCPU_WORDS


@inline
def tlb_of(p, model, v):
    """Return where a model's copy of a guest's own TLB begins."""
    return p[Q_O_TLB] + (model * p[Q_VCPUS] + v) * (MAX_TLB * TLB_WORDS)


@inline
def set_of(p, model, v, vaddr):
    """Return where the set of an address begins; there must be sets."""
    sets = p[Q_SETS + model]
    pair = vaddr >> 13
    return p[Q_O_STLB + model] + (v * sets + (pair ^ (pair >> 7)) % sets) * STLB_SET


@inline
def flags(t, p, v, lo):
    """Return the low bits of EntryLo as hardware has them: not valid where there is no memory."""
    if lo >> 6 >= t[vcpu_of(p, v) + U_PAGES]:
        return lo & 1
    return lo & 7


@helper
def hits(t, p, cpu, vaddr, asid, store):
    """Tell whether the hardware TLB allows an access."""
    base = cpu * HW_WORDS
    hint = base + HW_HINTS + ((vaddr >> 12) & 255)
    tagged = vaddr | t[base + HW_TAG]
    found = base + t[hint] * HW_ENTRY
    if (t[found] ^ tagged) & PAIR or not (t[found] & 255 == asid or t[found + 1] & 1):
        found = np.int64(-1)
        for entry in range(p[Q_ENTRIES]):
            at = base + entry * HW_ENTRY
            if (t[at] ^ tagged) & PAIR == 0 and (t[at] & 255 == asid or t[at + 1] & 1):
                t[hint] = entry
                found = at
                break
        if found < 0:
            return False
    lo = t[found + (2 if vaddr & 4096 else 1)]
    return lo & 2 != 0 and (lo & 4 != 0 or not store)


@helper
def insert(t, p, cpu, hi, lo0, lo1):
    """Put a pair in hardware, in place of one for the same page, else first in first out."""
    base = cpu * HW_WORDS
    hi |= t[base + HW_TAG]
    slot = np.int64(-1)
    for entry in range(p[Q_ENTRIES]):
        at = base + entry * HW_ENTRY
        if (t[at] ^ hi) & PAIR == 0 and (t[at + 1] | t[at + 2]) & 2:
            if (t[at] ^ hi) & 255 == 0 or (t[at + 1] | lo0) & 1:
                if slot >= 0:
                    forget(t, at)
                else:
                    slot = at
    if slot < 0:
        slot = base + t[base + HW_NEXT] * HW_ENTRY
        t[base + HW_NEXT] = (t[base + HW_NEXT] + 1) % p[Q_ENTRIES]
    t[slot] = hi
    t[slot + 1] = lo0
    t[slot + 2] = lo1


@inline
def forget(t, at):
    """Make a hardware entry match nothing."""
    t[at] = EMPTY
    t[at + 1] = 0
    t[at + 2] = 0


@helper
def drop(t, p, cpu, vaddr, asid, span, every):
    """Drop hardware entries of what runs there: of the `span` bytes that hold an address."""
    base = cpu * HW_WORDS
    tagged = vaddr | t[base + HW_TAG]
    for entry in range(p[Q_ENTRIES]):
        at = base + entry * HW_ENTRY
        if (t[at] ^ tagged) & (TAGS | 0xFFFFE000) & ~(span - 1) == 0:
            if every or t[at] & 255 == asid or t[at + 1] & 1:
                forget(t, at)


@helper
def flush(t, p, cpu):
    """Empty the hardware TLB of what runs there."""
    base = cpu * HW_WORDS
    for entry in range(p[Q_ENTRIES]):
        if (t[base + entry * HW_ENTRY] ^ t[base + HW_TAG]) & TAGS == 0:
            forget(t, base + entry * HW_ENTRY)


@helper
def run_on(t, p, cpu, v):
    """Let a virtual CPU run on a CPU."""
    last = vcpu_of(p, v) + U_LAST
    if p[Q_TAGGED]:
        t[cpu * HW_WORDS + HW_TAG] = (v + 1) << TAG_SHIFT
        if t[last] == cpu:
            return
    t[last] = cpu
    flush(t, p, cpu)


@helper
def own(t, p, model, v, vaddr, asid):
    """Return where the lowest entry of the guest's TLB that matches an address stands, or −1."""
    base = tlb_of(p, model, v)
    for entry in range(p[Q_ENTRIES]):
        at = base + entry * TLB_WORDS
        if (t[at] ^ vaddr) & ~(t[at + 1] | 0x1FFF) & 0xFFFFFFFF == 0:
            if t[at] & 255 == asid or t[at + 2] & t[at + 3] & 1:
                return at
    return np.int64(-1)


@helper
def kept(t, p, model, v, vaddr, asid, store):
    """Return where the pair of the software TLB that maps an address for an access is, or −1."""
    if p[Q_SETS + model] == 0:
        return np.int64(-1)
    base = set_of(p, model, v, vaddr)
    for way in range(STLB_WAYS):
        pair = base + way * STLB_WORDS
        if t[pair] & KEY_VALID and (t[pair] ^ vaddr) & 0xFFFFE000 == 0:
            if t[pair] & 255 == asid or t[pair + 1] & 1:
                lo = t[pair + (2 if vaddr & 4096 else 1)]
                if lo & 2 and (lo & 4 or not store):
                    return pair
                return np.int64(-1)
    return np.int64(-1)


@helper
def forget_page(t, p, model, v, vaddr, asid, every):
    """Drop the pair of an address from a software TLB."""
    if p[Q_SETS + model] == 0:
        return
    base = set_of(p, model, v, vaddr)
    for way in range(STLB_WAYS):
        pair = base + way * STLB_WORDS
        if t[pair] & KEY_VALID and (t[pair] ^ vaddr) & 0xFFFFE000 == 0:
            if every or t[pair] & 255 == asid or t[pair + 1] & 1:
                t[pair] = 0


@helper
def forget_all(t, p, model, v):
    """Empty a software TLB."""
    sets = p[Q_SETS + model]
    base = p[Q_O_STLB + model] + v * sets * STLB_SET
    for number in range(sets):
        for way in range(STLB_WAYS):
            t[base + number * STLB_SET + way * STLB_WORDS] = 0


@helper
def remember(t, p, model, cpu, v, hi, lo0, lo1):
    """Enter a pair in a software TLB, in place of what stood for its page.

    In the wanted model a pair that is displaced leaves hardware, too, unless the guest's own TLB
    maps its page.
    """
    if p[Q_SETS + model] == 0:
        return
    forget_page(t, p, model, v, hi, hi & 255, lo0 & 1)
    base = set_of(p, model, v, hi)
    turn = base + STLB_WAYS * STLB_WORDS
    way = np.int64(-1)
    for candidate in range(STLB_WAYS):
        if t[base + candidate * STLB_WORDS] == 0:
            way = np.int64(candidate)
    if way < 0:
        way = t[turn] + 0
        t[turn] = (way + 1) % STLB_WAYS
    pair = base + way * STLB_WORDS
    if t[pair] != 0 and model == WANTED:
        page, space = t[pair] & 0xFFFFE000, t[pair] & 255
        if own(t, p, model, v, page, space) < 0:
            drop(t, p, cpu, page, space, 0x2000, t[pair + 1] & 1)
    t[pair] = (hi & 0xFFFFE0FF) | KEY_VALID
    t[pair + 1] = lo0
    t[pair + 2] = lo1


@helper
def remembered(t, p, model, v, hi, lo0, lo1):
    """Tell whether a software TLB holds exactly this pair."""
    if p[Q_SETS + model] == 0:
        return False
    base = set_of(p, model, v, hi)
    for way in range(STLB_WAYS):
        pair = base + way * STLB_WORDS
        if t[pair] == (hi & 0xFFFFE0FF) | KEY_VALID and t[pair + 1] == lo0 and t[pair + 2] == lo1:
            return True
    return False


@helper
def overlapped(t, p, model, v, own_at, hi):
    """Tell whether an entry of the guest's TLB other than one covers a page, in any space."""
    base = tlb_of(p, model, v)
    for entry in range(p[Q_ENTRIES]):
        at = base + entry * TLB_WORDS
        if at != own_at and (t[at] ^ hi) & ~(t[at + 1] | 0x1FFF) & 0xFFFFFFFF == 0:
            return True
    return False


@helper
def enter(t, p, cpu, v, own_at, hi, lo0, lo1):
    """Put a guest's pair in the hardware TLB, its own entry's or (−1) what is remembered."""
    if lo0 & 1 and overlapped(t, p, WANTED, v, own_at, hi):
        lo0 &= ~1
        lo1 &= ~1
    insert(t, p, cpu, hi, flags(t, p, v, lo0), flags(t, p, v, lo1))


@helper
def drop_everything(t, p, model, cpu, v):
    """Empty a software TLB, and the hardware TLB of the wanted model."""
    forget_all(t, p, model, v)
    if model == WANTED:
        flush(t, p, cpu)


@helper
def write(t, p, model, cpu, v, entry, hi, lo0, lo1, mask):
    """Write the guest's TLB in one model, with what a write drops and enters elsewhere."""
    if entry >= p[Q_ENTRIES]:
        return
    at = tlb_of(p, model, v) + entry * TLB_WORDS
    old, old_lo0, old_lo1, old_mask = t[at] + 0, t[at + 2] + 0, t[at + 3] + 0, t[at + 1] | 0x1FFF
    if model == WANTED and (old_lo0 | old_lo1) & 2:
        gone = old_mask != 0x1FFF or not remembered(t, p, model, v, old, old_lo0, old_lo1)
        if gone or overlapped(t, p, model, v, at, old):
            drop(t, p, cpu, old, old & 255, old_mask + 1, old_lo0 & old_lo1 & 1)
    mask &= 0x1FFFE000
    hi &= ~mask & 0xFFFFE0FF
    both = lo0 & lo1 & 1
    lo0 = (lo0 & 0x3FFFFFFE) | both
    lo1 = (lo1 & 0x3FFFFFFE) | both
    t[at] = hi
    t[at + 1] = mask
    t[at + 2] = lo0
    t[at + 3] = lo1
    if mask != 0:
        drop_everything(t, p, model, cpu, v)
    else:
        forget_page(t, p, model, v, hi, hi & 255, both)
        if model == WANTED:
            drop(t, p, cpu, hi, hi & 255, 0x2000, both)
        maps = hi < 0x80000000 or hi >= 0xC0000000
        if (lo0 | lo1) & 2 and maps:
            if own(t, p, model, v, hi & 0xFFFFE000, hi & 255) == at:
                remember(t, p, model, cpu, v, hi, lo0, lo1)
                if model == WANTED:
                    enter(t, p, cpu, v, at, hi, lo0, lo1)
    u = vcpu_of(p, v)
    if model == WANTED and t[u + U_BOOT] == BOOT_MAPPED and (lo0 | lo1) & 2:
        if ((t[u + U_BOOT_PAGE] << 13) ^ hi) & ~(mask | 0x1FFF) & 0xFFFFFFFF == 0:
            t[u + U_BOOT] = BOOT_OVER
            drop(t, p, cpu, t[u + U_BOOT_PAGE] << 13, 0, 0x2000, 1)


@helper
def tlb_op(t, p, cpu, v, mode, op, index, hi, lo0, lo1, mask):
    """Follow a TLB instruction of the guest in both models."""
    u = vcpu_of(p, v)
    hi &= 0xFFFFFFFF
    if op == WRITE_INDEXED or op == WRITE_RANDOM:
        if op == WRITE_INDEXED:
            probed = t[u + U_PROBE] == index + 1 and t[u + U_PROBE_HI] == hi & 0xFFFFE0FF
            if (lo0 | lo1) & 2 == 0 or not probed:
                drop_everything(t, p, CAPTURED, cpu, v)
                drop_everything(t, p, WANTED, cpu, v)
        else:
            t[u + U_WIRED] = min(t[u + U_WIRED], index)
        t[u + U_PROBE] = 0
        write(t, p, CAPTURED, cpu, v, index, hi, lo0, lo1, mask)
        if t[u + U_SKIP] and mode == REFILL:
            return  # a handler that would not have run
        place = index
        if op == WRITE_INDEXED:
            # The wanted model may hold the page elsewhere, where its own refill put it.
            there = own(t, p, WANTED, v, hi & 0xFFFFE000, hi & 255)
            if there >= 0:
                place = (there - tlb_of(p, WANTED, v)) // TLB_WORDS
        write(t, p, WANTED, cpu, v, place, hi, lo0, lo1, mask)
    elif op == PROBE:
        if index & 0x80000000:
            t[u + U_PROBE] = 0
            forget_page(t, p, CAPTURED, v, hi, hi & 255, 0)
            forget_page(t, p, WANTED, v, hi, hi & 255, 0)
            drop(t, p, cpu, hi, hi & 255, 0x2000, 0)
            there = own(t, p, WANTED, v, hi & 0xFFFFE000, hi & 255)
            if there >= 0:
                # Only the wanted model refilled it: the guest believes it to be gone.
                t[there] = 0x80000000
                t[there + 1] = 0
                t[there + 2] = 0
                t[there + 3] = 0
        else:
            t[u + U_PROBE] = (index & 63) + 1
            t[u + U_PROBE_HI] = hi & 0xFFFFE0FF
    elif op == READ or op == FLUSH:
        drop_everything(t, p, CAPTURED, cpu, v)
        drop_everything(t, p, WANTED, cpu, v)


@helper
def pair_around(t, at, vaddr):
    """Return the pair of 4 KiB pages around an address that an entry of the guest's TLB maps."""
    size = ((t[at + 1] | 0x1FFF) + 1) >> 1
    lo0 = t[at + 2] + 0
    lo1 = t[at + 3] + 0
    if size != 4096:
        lo = lo1 if vaddr & size else lo0
        page = ((lo >> 6) & ~((size >> 12) - 1)) | ((vaddr & (size - 1) & ~0x1FFF) >> 12)
        lo0 = (page << 6) | (lo & 63)
        lo1 = ((page | 1) << 6) | (lo & 63)
    return lo0, lo1


@helper
def resolve(t, p, cpu, v, vaddr, asid, store):
    """Let the wanted model's monitor resolve a miss; return False if nothing maps the page."""
    hi = (vaddr & 0xFFFFE000) | asid
    at = own(t, p, WANTED, v, vaddr, asid)
    if at >= 0:
        lo0, lo1 = pair_around(t, at, vaddr)
        lo = lo1 if vaddr & 4096 else lo0
        if lo & 2 == 0 or (store and lo & 4 == 0):
            return False
        enter(t, p, cpu, v, at, hi, lo0, lo1)
        return True
    pair = kept(t, p, WANTED, v, vaddr, asid, store)
    if pair >= 0:
        enter(t, p, cpu, v, np.int64(-1), hi, t[pair + 1] + 0, t[pair + 2] + 0)
        return True
    u = vcpu_of(p, v)
    if t[u + U_BOOT] == BOOT_MAPPED and vaddr >> 13 == t[u + U_BOOT_PAGE]:
        insert(t, p, cpu, hi, np.int64(7), np.int64(7))
        return True
    if t[u + U_SPECIAL] != 0 and vaddr & 0xFFFFF000 == SPECIAL:
        enter(t, p, cpu, v, np.int64(-1), hi, np.int64(1), np.int64(7))
        return True
    return False


@helper
def refill(t, p, cpu, v, vaddr, asid):
    """Let the wanted model's guest refill its TLB with what its page table held.

    That is what the capture's TLBs map, or where they do not know, a page of its own.
    """
    hi = (vaddr & 0xFFFFE000) | asid
    at = own(t, p, CAPTURED, v, vaddr, asid)
    pair = kept(t, p, CAPTURED, v, vaddr, asid, False)
    if at >= 0:
        lo0, lo1 = pair_around(t, at, vaddr)
    elif pair >= 0:
        lo0 = t[pair + 1] + 0
        lo1 = t[pair + 2] + 0
    elif vaddr & 4096:
        lo0, lo1 = np.int64(0), np.int64(6)
    else:
        lo0, lo1 = np.int64(6), np.int64(0)
    u = vcpu_of(p, v)
    t[u + U_RANDOM] = (t[u + U_RANDOM] * 1103515245 + 12345) & 0x7FFFFFFF
    wired = min(t[u + U_WIRED], p[Q_ENTRIES] - 1)
    entry = wired + (t[u + U_RANDOM] >> 8) % (p[Q_ENTRIES] - wired)
    write(t, p, WANTED, cpu, v, entry, hi, lo0, lo1, np.int64(0))


@helper
def access(t, p, cpu, v, vaddr, asid, store, direct):
    """Refer to a page in the wanted model; return HIT or the cause of the trap that resolves it.

    direct: the recorded trap says that the segment is not mapped.
    """
    segment = 0x80000000 <= vaddr < 0xC0000000
    if segment and p[Q_UNMAPPED]:
        return np.int64(HIT)
    if hits(t, p, cpu, vaddr, asid, store):
        return np.int64(HIT)
    if segment or direct:
        page = (vaddr & 0x1FFFE000) >> 12
        pages = t[vcpu_of(p, v) + U_PAGES]
        insert(
            t, p, cpu, (vaddr & 0xFFFFE000) | asid,
            np.int64(7 if page < pages else 1), np.int64(7 if page + 1 < pages else 1),
        )  # fmt: skip
        return np.int64(DIRECT)
    if resolve(t, p, cpu, v, vaddr, asid, store):
        return np.int64(TLB_FAULT)
    refill(t, p, cpu, v, vaddr, asid)
    return np.int64(TLB_FAULT if p[Q_NESTED] else FORWARD)


@helper
def mean(t, p, count, owed):
    """Return how many traps of a kind an added handler makes: recorded ones' mean, in turn."""
    counts = p[Q_O_COUNTS]
    refills = t[counts + N_REFILLS]
    if refills == 0:
        return np.int64(0)
    whole = t[counts + owed] + t[counts + count]
    traps = whole // refills
    t[counts + owed] = whole - traps * refills
    return min(traps, np.int64(MOST_TIMES))


@inline
def add(added, n, seq, cpu, context, cause, times, entries):
    """Append a row for traps that were not recorded; return how many rows there are."""
    if times == 0:
        return n
    row = added[n]
    row["seq"] = seq
    row["cycle"] = 0
    row["work"] = 0
    row["instructions"] = 0
    row["a0"] = cause
    row["a1"] = times
    row["a2"] = 0
    row["a3"] = entries
    row["a4"] = 0
    row["a5"] = 0
    row["context"] = context
    row["kind"] = ADDED
    row["cpu"] = cpu
    return n + 1


@inline
def add_handler(t, p, added, n, seq, cpu, context):
    """Append the traps of a refill handler."""
    n = add(added, n, seq, cpu, context, PRIVILEGED, mean(t, p, N_PRIVILEGED, N_OWED_PRIVILEGED), 0)
    return add(added, n, seq, cpu, context, TLB_WRITE, mean(t, p, N_WRITES, N_OWED_WRITES), 1)


@inline
def silence(events, e):
    """Make a trap charge nothing; its work and instructions stay."""
    events[e]["kind"] = TICKS
    events[e]["a0"] = 0


@inline
def is_refill(events, e):
    """Tell whether the row behind a forwarded exception is its refill."""
    if e + 1 >= events.shape[0]:
        return False
    row = events[e + 1]
    same = row["cpu"] == events[e]["cpu"] and row["seq"] == events[e]["seq"] + np.uint64(1)
    return same and row["kind"] == EXCEPTIONS and row["a1"] != 0


@kernel
def restructure(t, p, place, which, asids, p_seq, p_cpu, p_context, p_kind, p_vaddr, events, added):
    """Change a segment's control rows to what the wanted structure would have had.

    `place` = [next page reference, next control row], for a call that goes on when `added` was
    full. which, asids: by context number without mode. Returns how many rows were added; it is
    done when `place` is at both ends.
    """
    j, e = place[0] + 0, place[1] + 0
    n = np.int64(0)
    contexts = which.shape[0]
    while n + 4 <= added.shape[0]:
        last = e >= events.shape[0]
        if j < p_seq.shape[0] and (last or p_seq[j] <= events[e]["seq"]):
            cpu, context = np.int64(p_cpu[j]), np.int64(p_context[j])
            vaddr = np.int64(p_vaddr[j]) & 0xFFFFFFFF
            if cpu < p[Q_CPUS] and context >> 2 < contexts:
                v, asid = which[context >> 2], asids[context >> 2]
                cause = access(t, p, cpu, v, vaddr, asid, p_kind[j] == STORE, False)
                if cause != HIT:
                    seq = p_seq[j]
                    n = add(added, n, seq, cpu, context, cause, 1, 0 if cause == FORWARD else 1)
                    if cause == FORWARD:
                        n = add_handler(t, p, added, n, seq, cpu, context)
            j += 1
            continue
        if last:
            break
        row = events[e]
        kind, cpu, context = np.int64(row["kind"]), np.int64(row["cpu"]), np.int64(row["context"])
        if cpu >= p[Q_CPUS] or context >> 2 >= contexts:
            e += 1
            continue
        v, asid, mode = which[context >> 2], asids[context >> 2], context & 3
        u = vcpu_of(p, v)
        a0, a1, a2, a3 = (
            np.int64(row["a0"]), np.int64(row["a1"]), np.int64(row["a2"]), np.int64(row["a3"]),
        )  # fmt: skip
        if kind == TRAPS:
            if a0 == TLB_FAULT or a0 == DIRECT:
                vaddr = a2 & 0xFFFFFFFF
                store = False
                if j < p_seq.shape[0] and p_seq[j] == row["seq"] + np.uint64(1):
                    store = p_cpu[j] == row["cpu"] and p_kind[j] == STORE
                special = vaddr & 0xFFFFF000 == SPECIAL
                unknown = a0 == TLB_FAULT and (special or t[u + U_BOOT] == BOOT_UNKNOWN)
                if unknown and own(t, p, CAPTURED, v, vaddr, asid) < 0:
                    if kept(t, p, CAPTURED, v, vaddr, asid, store) < 0:
                        # A page that the monitor maps of its own accord.
                        if special:
                            t[u + U_SPECIAL] = 1
                        else:
                            t[u + U_BOOT] = BOOT_MAPPED
                            t[u + U_BOOT_PAGE] = vaddr >> 13
                cause = access(t, p, cpu, v, vaddr, asid, store, a0 == DIRECT)
                if cause == HIT:
                    silence(events, e)
                elif cause != a0:
                    events[e]["a0"] = cause
                    events[e]["a3"] = 0 if cause == FORWARD else 1
                    if cause == FORWARD:
                        seq = row["seq"] + np.uint64(1)
                        n = add_handler(t, p, added, n, seq, cpu, context)
            elif a0 == FORWARD and is_refill(events, e):
                t[p[Q_O_COUNTS] + N_REFILLS] += 1
                vaddr = np.int64(events[e + 1]["a3"]) & 0xFFFFFFFF
                store = np.int64(events[e + 1]["a0"]) == TLBS
                if hits(t, p, cpu, vaddr, asid, store):
                    silence(events, e)
                    t[u + U_SKIP] = 2
                elif resolve(t, p, cpu, v, vaddr, asid, store):
                    events[e]["a0"] = TLB_FAULT
                    events[e]["a3"] = 1
                    t[u + U_SKIP] = 2
                elif p[Q_NESTED]:
                    # The walk finds what the recorded handler is about to write.
                    events[e]["a0"] = TLB_FAULT
                    events[e]["a3"] = 1
            elif a0 == PRIVILEGED or a0 == TLB_WRITE:
                if mode == REFILL:
                    t[p[Q_O_COUNTS] + (N_WRITES if a0 == TLB_WRITE else N_PRIVILEGED)] += 1
                    if p[Q_NESTED] or t[u + U_SKIP]:
                        silence(events, e)
                elif p[Q_NESTED] and a0 == TLB_WRITE:
                    silence(events, e)
        elif kind == TLB_OP:
            tlb_op(t, p, cpu, v, mode, a0, a1, a2, a3, np.int64(row["a4"]), np.int64(row["a5"]))
        elif kind == EXCEPTIONS:
            t[u + U_SKIP] = 1 if t[u + U_SKIP] == 2 else 0
        elif kind == RETURNS:
            t[u + U_SKIP] = 0
        elif kind == SCHEDULES and (a0 == RUNS or a0 == PREEMPTS or a0 == IDLES):
            vm, number = a2 >> 16, a2 & 0xFFFF
            if 0 <= vm < p[Q_VMS]:
                machine = p[Q_O_VM] + vm * VM_WORDS
                if number < t[machine + VM_COUNT]:
                    run_on(t, p, cpu, t[machine + VM_FIRST] + number)
        e += 1
    place[0] = j
    place[1] = e
    return n
