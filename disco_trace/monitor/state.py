"""Check the restored state of the monitor: compiled code follows numbers and chains in it.

As in `memory.state`, nothing is believed: virtual CPUs are where the CPUs say they are, a chain of
pages that show a content holds each of them once, a list of frames is as long as it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from disco_trace.machine.layout import (
    CONFIG1,
    CONFIG2,
    CONFIG3,
    MAX_TLB,
    PHASE_DEPTH,
    PRID,
    S_BASE,
    S_CONTEXT,
    S_COUNT_OFFSET,
    S_DEADLINE,
    S_IPI_AT,
    S_IPI_LAST,
    S_NPC,
    S_OPEN,
    S_PC,
    S_PHASE_DEPTH,
    S_PHASES,
    S_RANDOM_ORIGIN,
    S_REFILL,
    S_REGIME,
    S_SEEN,
    S_SLICE,
    S_SLOT,
    S_SPECIAL,
    S_VCPU,
    S_VM,
    S_WAITING,
    S_WHICH,
    T_HI,
    T_LO0,
    T_LO1,
    T_MASK,
    TLB_WORDS,
    WAITING,
    X_CONTENTS,
    X_CPUS,
    X_DISK,
    X_MONITOR,
    X_O_BLOCKS,
    X_O_MEMMAP,
    X_O_PMAP,
    X_O_POOL,
    X_O_PRIVATE,
    X_O_RESIDENT,
    X_O_STLB,
    X_O_VCPU,
    X_O_VM,
    X_PAGES,
    X_POOL,
    X_SHARING,
    X_STLB_SETS,
    X_SWAP,
    X_TAGGED,
    X_TLB,
    X_VCPU_STRIDE,
    X_VCPUS,
    X_VMS,
    Machine,
)
from disco_trace.machine.layout import G_CONTEXTS as CONTEXTS
from disco_trace.machine.slots import NEVER, PAGE_WORDS, SLOTS
from disco_trace.memory.layout import Memory
from disco_trace.memory.state import MOST, fail, in_range, must_equal
from disco_trace.monitor import layout
from disco_trace.monitor.layout import (
    AWAY,
    C_BLOCK,
    C_COUNT,
    C_FIRST,
    CONTENT_WORDS,
    EMPTY,
    ENDED,
    HW_ENTRIES,
    HW_NEXT,
    HW_TAG,
    HW_WORDS,
    IN_MEMORY,
    K_KEY,
    KEY_VALID,
    NOBODY,
    PMAP_NAME,
    PMAP_NEXT,
    PMAP_WORDS,
    POOL_DEPTH,
    POOL_LIST,
    POOL_NEXT,
    R_NEXT,
    R_OWNER,
    R_PREVIOUS,
    R_STATE,
    R_WORDS,
    RUNNING,
    STLB_SET,
    STLB_WAYS,
    STLB_WORDS,
    STUCK,
    TAG_SHIFT,
    TAGS,
    V_BOOT,
    V_BOOT_PAGE,
    V_CP0,
    V_CPU,
    V_FPR,
    V_GPR,
    V_HOME,
    V_LAST,
    V_NUMBER,
    V_PROBE,
    V_PROBE_HI,
    V_S,
    V_STATE,
    V_TLB,
    V_VM,
    VM_CLEAN,
    VM_ENDED,
    VM_FIRST,
    VM_LINE,
    VM_LINE_SLOT,
    VM_OTHER,
    VM_STATUS,
    VM_UART,
    VM_USED,
    VM_VCPUS,
    VM_WORDS,
)

Array = np.ndarray[Any, Any]
ARRAY = "machine.mon"
U32 = 1 << 32


def check_monitor(mc: Machine, cold: Machine) -> None:
    """Raise `DiscoError` unless the monitor's restored state is one that it can be in."""
    _check_virtual_cpus(mc, cold)
    _check_machines(mc, cold)
    _check_hardware(mc)
    _check_software(mc)
    _check_pages(mc)
    _check_disks(mc)
    _check_frames(mc)


def _section(mc: Machine, first: int, end: int | None, words: int) -> Array:
    """Return a section of the state, a row a record, as a view."""
    return mc.mon[int(mc.p[first]) : None if end is None else int(mc.p[end])].reshape(-1, words)


def _vcpus(mc: Machine) -> Array:
    return _section(mc, X_O_VCPU, X_O_STLB, int(mc.p[X_VCPU_STRIDE]))


def _machines(mc: Machine) -> Array:
    return _section(mc, X_O_VM, X_O_PMAP, VM_WORDS)


def _words(name: str, values: Array, limit: int, low: int = 0) -> None:
    in_range(ARRAY, name, values, limit, low)


def _times(name: str, values: Array) -> None:
    """Check times ahead: any but those that never come."""
    _words(name, values[values != NEVER], MOST)


def widest(mc: Machine) -> int:
    """Return how many virtual CPUs the largest machine has."""
    return int(_machines(mc)[:, VM_VCPUS].max())


def open_phases(mc: Machine) -> list[list[Any]]:
    """Return what `trace.state.VcpuState` says of every virtual CPU; of the bare machine nothing.

    The state of one that is on a CPU stands there.
    """
    if not mc.p[X_MONITOR]:
        return []
    found = []
    for record in _vcpus(mc):
        cpu = int(record[V_CPU])
        s = record[V_S:] if cpu == NOBODY else mc.s[cpu]
        phases = s[S_PHASES : S_PHASES + int(s[S_PHASE_DEPTH])].tolist()
        home = int(record[V_HOME]) if cpu == NOBODY else cpu
        found.append([int(record[V_VM]), int(record[V_NUMBER]), home, int(s[S_CONTEXT]), phases])
    return found


def check_who_runs(mc: Machine) -> None:
    """Check that each CPU runs one virtual CPU, which knows it, or waits for one."""
    p, s = mc.p, mc.s
    which = s[:, S_WHICH]
    in_range("machine.s", "virtual CPU", which, int(p[X_VCPUS]), low=NOBODY)
    in_range("machine.s", "regime", s[:, S_REGIME], 4)
    slices = s[:, S_SLICE]
    in_range("machine.s", "end of a slice", slices[slices != NEVER], MOST, low=-1)
    records = _vcpus(mc)
    where = np.full(len(records), NOBODY)
    busy = np.flatnonzero(which != NOBODY)
    where[which[busy]] = busy
    must_equal(ARRAY, "the CPU of virtual CPU", records[:, V_CPU], where)
    if len(np.unique(which[busy])) != len(busy):
        fail("machine.s", "virtual CPU", "on one CPU", "on several")
    machine = np.where(which == NOBODY, NOBODY, records[which, V_VM])
    must_equal("machine.s", "machine of CPU", s[:, S_VM], machine)
    must_equal("machine.s", "virtual CPU on CPU", s[busy, S_VCPU], records[which[busy], V_NUMBER])
    for name, word in (("home", V_HOME), ("last CPU", V_LAST)):
        must_equal(ARRAY, f"{name} of running virtual CPU", records[which[busy], word], busy)
    size = int(p[X_PAGES]) << 12
    must_equal("machine.s", "memory of CPU", s[busy, S_BASE], machine[busy] * size)
    in_range("machine.s", "memory", s[:, S_BASE], int(p[X_VMS]) * size)
    _check_special("machine.s", mc, s)
    must_equal("machine.s", "machine of special page", *_specials(mc, s[busy]))
    idle = which == NOBODY
    must_equal("machine.s", "wait of idle CPU", s[idle, S_WAITING], np.full(idle.sum(), WAITING))
    # It never ran one, and has the number that it was made with.
    must_equal("machine.s", "number of idle CPU", s[idle, S_VCPU], np.flatnonzero(idle))


def _check_special(array: str, mc: Machine, s: Array) -> None:
    """Check what CPUs know of special pages (`monitor.special`), and whose they are."""
    in_range(array, "special page", s[:, S_SPECIAL], int(mc.p[X_CONTENTS]) + 1)
    in_range(array, "flag of a special page", s[:, S_OPEN], 2)
    in_range(array, "lines of a special page", s[:, S_SEEN], 1 << 16)


def _specials(mc: Machine, s: Array) -> tuple[Array, Array]:
    """Return whose special pages are, and whose they must be: the running machine's."""
    own = s[s[:, S_SPECIAL] != 0]
    return (own[:, S_SPECIAL] - 1) // int(mc.p[X_PAGES]), own[:, S_VM]


def _check_virtual_cpus(mc: Machine, cold: Machine) -> None:
    """Check the records of virtual CPUs: whose they are, and the registers of those off a CPU."""
    p, records, made = mc.p, _vcpus(mc), _vcpus(cold)
    for word in (V_VM, V_NUMBER):
        must_equal(ARRAY, "owner of virtual CPU", records[:, word], made[:, word])
    for name, word, limit, low in (
        ("home", V_HOME, int(p[X_CPUS]), 0), ("state", V_STATE, STUCK + 1, 0),
        ("CPU", V_CPU, int(p[X_CPUS]), NOBODY), ("last CPU", V_LAST, int(p[X_CPUS]), NOBODY),
        ("probe", V_PROBE, MAX_TLB + 1, 0), ("probe", V_PROBE_HI, U32, 0),
        ("flag", V_BOOT, 2, 0), ("boot page", V_BOOT_PAGE, 1 << 19, 0),
    ):  # fmt: skip
        _words(f"{name} of a virtual CPU", records[:, word], limit, low)
    if (records[records[:, V_CPU] == NOBODY, V_STATE] == RUNNING).any():
        fail(ARRAY, "virtual CPU that runs", "one that is on a CPU", "another")
    _words("time of a virtual CPU", records[:, layout.V_READY], MOST)
    _words("time of a virtual CPU", records[:, layout.V_BASE_CLOCK], MOST)
    _words("register 0", records[:, V_GPR], 1)
    for name, first, end in (
        ("register", V_GPR, V_CP0), ("CP0 register", V_CP0, V_TLB), ("TLB", V_TLB, V_FPR)
    ):  # fmt: skip
        _words(name, records[:, first:end], U32)
    for register in (PRID, CONFIG1, CONFIG2, CONFIG3):
        at = V_CP0 + register
        must_equal(ARRAY, f"register {register} of virtual CPU", records[:, at], made[:, at])
    if (records[:, V_TLB + T_MASK : V_FPR : TLB_WORDS] & 0xE0001FFF).any():
        fail(ARRAY, "page mask", "bits 13 to 28", "others")
    _check_saved(mc, records[:, V_S:V_GPR], made[:, V_S:V_GPR])


def _check_saved(mc: Machine, s: Array, made: Array) -> None:
    """Check what goes to a CPU with a virtual CPU (`vcpu.OWN`)."""
    for word in (S_VM, S_VCPU, S_WHICH, S_BASE):
        must_equal(ARRAY, "owner of virtual CPU", s[:, word], made[:, word])
    for name, word, limit in (
        ("program counter", S_PC, U32), ("program counter", S_NPC, U32), ("flag", S_SLOT, 2),
        ("flag", S_REFILL, 2), ("regime", S_REGIME, 4), ("time", S_IPI_LAST, MOST),
        ("depth of phases", S_PHASE_DEPTH, PHASE_DEPTH + 1),
        ("context", S_CONTEXT, 4 * int(mc.g[CONTEXTS])),
    ):  # fmt: skip
        _words(f"{name} of a virtual CPU", s[:, word], limit)
    _check_special(ARRAY, mc, s)
    must_equal(ARRAY, "machine of special page", *_specials(mc, s))
    _words("phase of a virtual CPU", s[:, S_PHASES : S_PHASES + PHASE_DEPTH], 1 << 31)
    for word in (S_COUNT_OFFSET, S_RANDOM_ORIGIN):
        _words("offset of a virtual CPU", s[:, word], MOST, low=-MOST)
    for word in (S_DEADLINE, S_IPI_AT):
        _times("time of a virtual CPU", s[:, word])


def _check_machines(mc: Machine, cold: Machine) -> None:
    """Check the records of machines: what is theirs, who has ended, their interrupt line."""
    p, records, made = mc.p, _machines(mc), _machines(cold)
    for word in (layout.VM_BASE, layout.VM_PAGES, VM_VCPUS, VM_FIRST):
        must_equal(ARRAY, "what belongs to machine", records[:, word], made[:, word])
    _words("flag of a machine", records[:, VM_ENDED], 2)
    _words("status of a machine", records[:, VM_STATUS], U32)
    _words("time of a machine", records[:, layout.VM_LINE_CLOCK], MOST)
    _words("device of a machine", records[:, VM_LINE_SLOT], SLOTS * int(p[X_VMS]))
    _words("register of a console", records[:, VM_UART:], 256)
    for record in records:
        _words("virtual CPU of a line", record[VM_LINE : VM_LINE + 1], int(record[VM_VCPUS]))
    ended = records[_vcpus(mc)[:, V_VM], VM_ENDED] != 0
    must_equal(ARRAY, "end of virtual CPU", _vcpus(mc)[:, V_STATE] == ENDED, ended)
    if records[:, VM_ENDED].all():
        fail(ARRAY, "end of the machines", "one that has not ended", "none")


def _check_hardware(mc: Machine) -> None:
    """Check the hardware TLBs: pages that are there, for virtual CPUs that there are.

    Entries of a machine that has ended stay, though its pages have no frames: nobody uses them.
    """
    p = mc.p
    rows = mc.mon[: int(p[X_O_VCPU])].reshape(-1, HW_WORDS)
    entries = rows[:, :HW_ENTRIES].reshape(-1, TLB_WORDS)
    hi = entries[:, T_HI]
    empty = hi == EMPTY
    tag = (hi & TAGS) >> TAG_SHIFT
    _words("tag of an entry", tag[~empty], int(p[X_VCPUS]) + 1)
    _words("page of an entry", hi[~empty] & ~TAGS, U32)
    if (entries[empty][:, (T_LO0, T_LO1)] != 0).any() or entries[:, T_MASK].any():
        fail(ARRAY, "empty entry of a hardware TLB", "zeros", "others")
    present = _present(mc)
    present[: int(p[X_CONTENTS])] |= np.repeat(_machines(mc)[:, VM_ENDED] != 0, int(p[X_PAGES]))
    for word in (T_LO0, T_LO1):
        lo = entries[:, word]
        _words("page of a hardware TLB", lo >> 6, int(p[X_SWAP]))
        valid = lo[lo & 2 != 0]
        if not present[valid >> 6].all():
            fail(ARRAY, "page of a hardware TLB", "one in memory", "another")
        if (valid[(valid >> 6) >= p[X_CONTENTS]] & 4).any():
            fail(ARRAY, "page that several may show", "a read-only entry", "another")
    _words("hint of a hardware TLB", rows[:, HW_ENTRIES:HW_NEXT], int(p[X_TLB]))
    _words("next entry of a hardware TLB", rows[:, HW_NEXT], int(p[X_TLB]))
    which = mc.s[:, S_WHICH]
    # A CPU keeps the tag of the virtual CPU that it ran last.
    own = rows[:, HW_TAG] >> TAG_SHIFT
    must_equal(ARRAY, "tag of CPU", own << TAG_SHIFT, rows[:, HW_TAG])
    _words("tag of a CPU", own, 1 + int(p[X_VCPUS]) * int(p[X_TAGGED]))
    if p[X_TAGGED]:
        busy = which != NOBODY
        must_equal(ARRAY, "tag of busy CPU", own[busy], which[busy] + 1)
    _words("word behind a hardware TLB", rows[:, HW_TAG + 1 :], 1)


def _check_software(mc: Machine) -> None:
    """Check the software TLBs: each pair in its set, and whose turn it is to be replaced."""
    p = mc.p
    sets = int(p[X_STLB_SETS])
    rows = _section(mc, X_O_STLB, X_O_VM, STLB_SET)
    if not len(rows):
        return
    pairs = rows[:, : STLB_WAYS * STLB_WORDS].reshape(-1, STLB_WAYS, STLB_WORDS)
    keys = pairs[:, :, K_KEY]
    used = keys != 0
    page = keys & 0xFFFFFFFF
    must_equal(ARRAY, "key of pair", (page & 0xFFFFE0FF) | KEY_VALID * used, keys)
    number = ((page >> 13) ^ (page >> 20)) % sets
    here = np.arange(len(rows))[:, None] % sets
    if ((number != here) & used).any():
        fail(ARRAY, "pair of a software TLB", "in the set of its page", "in another")
    _words("pair of a software TLB", pairs[:, :, 1:], U32)
    _words("way of a software TLB", rows[:, STLB_WAYS * STLB_WORDS], STLB_WAYS)


def _check_pages(mc: Machine) -> None:
    """Check what guest pages show, who shows each content, and which contents are free."""
    p = mc.p
    pages = int(p[X_CONTENTS])
    pmap = _section(mc, X_O_PMAP, X_O_MEMMAP, PMAP_WORDS)
    names, following = pmap[:, PMAP_NAME], pmap[:, PMAP_NEXT]
    own = names == np.arange(pages)
    memmap = _section(mc, X_O_MEMMAP, X_O_POOL, CONTENT_WORDS)
    _words("content that a page shows", names[~own] - pages, len(memmap))
    _words("next page of a content", following, pages + 1)
    _words("next page of a page of its own", following[own], 1)
    shown = np.bincount(names[~own] - pages, minlength=len(memmap))
    must_equal(ARRAY, "pages that show content", memmap[:, C_COUNT], shown)
    _words("first page of a content", memmap[:, C_FIRST], pages + 1)
    for content in np.flatnonzero((shown > 0) | (memmap[:, C_FIRST] > 0)).tolist():
        _check_chain(names, following, memmap[content], pages + content)
    if not p[X_SHARING]:
        return
    pool = mc.mon[int(p[X_O_POOL]) : int(p[X_O_BLOCKS])]
    _words("free contents", pool[POOL_DEPTH : POOL_DEPTH + 1], len(memmap) + 1)
    _words("first content never used", pool[POOL_NEXT : POOL_NEXT + 1], len(memmap) + 1)
    free = pool[POOL_LIST : POOL_LIST + int(pool[POOL_DEPTH])]
    _words("free content", free, int(pool[POOL_NEXT]))
    uses = (shown > 0).astype(np.int64)
    np.add.at(uses, free, 1)
    handed_out = (np.arange(len(memmap)) < pool[POOL_NEXT]).astype(np.int64)
    must_equal(ARRAY, "uses of content", uses, handed_out)


def check_names(mc: Machine, m: Memory) -> None:
    """Check that the memory system knows pages by the names that the monitor has for them."""
    names = _section(mc, X_O_PMAP, X_O_MEMMAP, PMAP_WORDS)[:, PMAP_NAME]
    if mc.p[X_SHARING]:
        must_equal("memory.alias", "name of page", m.alias[: len(names)], names)


def _check_chain(names: Array, following: Array, record: Array, name: int) -> None:
    """Check that the pages that show a content stand in its chain, each once."""
    page, count = int(record[C_FIRST]), 0
    while page and count < record[C_COUNT]:
        if names[page - 1] != name:
            fail(ARRAY, "chain of a content", "pages that show it", page - 1)
        page, count = int(following[page - 1]), count + 1
    if page or count != record[C_COUNT]:
        fail(ARRAY, "chain of a content", f"{int(record[C_COUNT])} pages", "another number")


def _check_disks(mc: Machine) -> None:
    """Check which contents are blocks of disks, and which sectors machines have written."""
    p = mc.p
    blocks = mc.mon[int(p[X_O_BLOCKS]) : int(p[X_O_PRIVATE])]
    assert len(blocks) == int(p[X_DISK]) // PAGE_WORDS
    memmap = _section(mc, X_O_MEMMAP, X_O_POOL, CONTENT_WORDS)
    _words("block of a content", memmap[:, C_BLOCK], len(blocks) + 1)
    used = np.flatnonzero((memmap[:, C_COUNT] > 0) & (memmap[:, C_BLOCK] > 0))
    expected = np.zeros(len(blocks), np.int64)
    expected[memmap[used, C_BLOCK] - 1] = used + 1
    must_equal(ARRAY, "content of block", blocks, expected)
    if np.count_nonzero(expected) != len(used):
        fail(ARRAY, "block of a content", "in one content", "in several")
    written = mc.mon[int(p[X_O_PRIVATE]) : int(p[X_O_RESIDENT])]
    _words("written sectors", written, U32)


def _present(mc: Machine) -> Array:
    """Return of each page of `ram` whether it is in memory."""
    p = mc.p
    if not p[X_POOL]:
        return np.ones(int(p[X_SWAP]), bool)
    states: Array = mc.mon[int(p[X_O_RESIDENT]) + 1 :].reshape(-1, R_WORDS)[:, R_STATE]
    return states == IN_MEMORY


def _check_frames(mc: Machine) -> None:
    """Check who has which frames of the pool: each page that is in memory stands in one list."""
    p = mc.p
    if not p[X_POOL]:
        return
    taken = mc.mon[int(p[X_O_RESIDENT]) : int(p[X_O_RESIDENT]) + 1]
    records = mc.mon[int(p[X_O_RESIDENT]) + 1 :].reshape(-1, R_WORDS)
    _words("state of a page", records[:, R_STATE], AWAY + 1)
    _words("owner of a page", records[:, R_OWNER], int(p[X_VMS]))
    for word in (R_PREVIOUS, R_NEXT):
        _words("neighbour of a page", records[:, word], len(records) + 1)
    listed = np.zeros(len(records), bool)
    for vm, machine in enumerate(_machines(mc)):
        length = 0
        for ends in (VM_CLEAN, VM_OTHER):
            for page in _list(records, machine[ends : ends + 2], listed):
                if records[page, R_OWNER] != vm or _clean(mc, page) != (ends == VM_CLEAN):
                    fail(ARRAY, "page of a list", "the list of its machine and kind", page)
                length += 1
        if length != machine[VM_USED]:
            fail(ARRAY, f"frames of machine {vm}", length, int(machine[VM_USED]))
    must_equal(ARRAY, "frame of page", records[:, R_STATE] == IN_MEMORY, listed)
    must_equal(ARRAY, "frames", taken, listed.sum())
    _words("frames", taken, int(p[X_POOL]) + 1)
    _check_shown(mc, records)


def _list(records: Array, ends: Array, listed: Array) -> Iterator[int]:
    """Yield the pages of a list from the oldest on, marking them; each stands in one list."""
    _words("end of a list", ends, len(records) + 1)
    before, page = 0, int(ends[0])
    while page:
        if listed[page - 1] or records[page - 1, R_PREVIOUS] != before:
            fail(ARRAY, "list of pages", "each page once, behind its neighbour", page - 1)
        listed[page - 1] = True
        yield page - 1
        before, page = page, int(records[page - 1, R_NEXT])
    if before != ends[1]:
        fail(ARRAY, "newest page of a list", before, int(ends[1]))


def _clean(mc: Machine, name: int) -> bool:
    """Tell whether what a page holds can be read again from the image of a disk."""
    content = name - int(mc.p[X_CONTENTS])
    at = int(mc.p[X_O_MEMMAP]) + content * CONTENT_WORDS + C_BLOCK
    return content >= 0 and bool(mc.mon[at])


def _check_shown(mc: Machine, records: Array) -> None:
    """Check that only what a guest page shows is in memory, or away."""
    names = _section(mc, X_O_PMAP, X_O_MEMMAP, PMAP_WORDS)[:, PMAP_NAME]
    others = np.ones(len(records), bool)
    others[names] = False
    if records[others, R_STATE].any():
        fail(ARRAY, "page that nobody shows", "without a frame", "with one")
