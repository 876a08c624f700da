"""Save and restore the state of a memory system, and believe nothing of what is restored.

Compiled code indexes with tags, frames and CPU numbers that it finds in these arrays. So every
value of a restored array is compared with what the others say before a kernel sees it: a tag must
lie in its set, presence must be what the first level holds, a frame must have one owner.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from disco_trace.errors import DiscoError
from disco_trace.memory import layout
from disco_trace.memory.layout import (
    C_BASE,
    C_CLOCK,
    C_CONTEXT,
    C_EPOCH,
    C_EPOCH_END,
    C_INTERVAL_START,
    C_NODE,
    C_RAISE,
    CPU_WORDS,
    D_LOST,
    D_OWNER,
    D_SEEN,
    D_SHARERS,
    EXCLUSIVE,
    F_INTERVALS,
    F_MISSES,
    F_MOVES,
    F_RANDOM,
    F_REPLICAS,
    F_RETOUCHED,
    F_ROUND_ROBIN,
    G_MASTER,
    G_REPLICATED,
    GUEST,
    OWNER_DIRTY,
    P_CONTEXTS,
    P_CPUS,
    P_D_ORDER,
    P_D_SETS,
    P_D_SHIFT,
    P_D_TAGS,
    P_D_WAYS,
    P_GRANULE_SHIFT,
    P_I_ORDER,
    P_I_SETS,
    P_I_SHIFT,
    P_I_TAGS,
    P_I_WAYS,
    P_L1_STRIDE,
    P_L2_ORDER,
    P_L2_SETS,
    P_L2_SHIFT,
    P_L2_STRIDE,
    P_L2_WAYS,
    P_NAMES,
    P_NODE_FRAMES,
    P_NODE_SHARE,
    P_NODES,
    P_PAGES,
    P_POLICY,
    PAGE_WORDS,
    Memory,
)

Array = np.ndarray[Any, Any]

# Built from the specification.
DERIVED = ("p",)
# What was counted: a run that goes on from a state counts from there.
RESULTS = ("heat", "accounts", "interval_base", "misses", "moves", "intervals")
SCRATCH = ("here",)
# All others are the state: a field that is added is saved, and needs a check in `CHECKS`.
SAVED = tuple(f for f in Memory._fields if f not in (*DERIVED, *RESULTS, *SCRATCH))

# Numbers of a layout that the saved words do not depend on: parameters, metrics, heat, reasons.
_ELSEWHERE = ("P_", "X_", "M_", "H_", "EXIT_", "CAUSE_")

# No clock and no count comes near, and sums of two stay in a word.
MOST = 1 << 61


def layout_id(*modules: ModuleType, fields: Iterable[str]) -> str:
    """Return sixteen digits that change with what the words of a state's arrays mean.

    That is the fields' names, and every number that a layout module names and they depend on.
    """
    numbers = [
        (module.__name__, name, value)
        for module in modules
        for name, value in sorted(vars(module).items())
        if name.isupper() and type(value) is int and not name.startswith(_ELSEWHERE)
    ]
    text = json.dumps([list(fields), numbers])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def memory_layout_id() -> str:
    """Return the id of the layout of a `Memory`."""
    return layout_id(layout, fields=SAVED)


def saved_arrays(m: Memory) -> dict[str, Array]:
    """Return the arrays of the state by name.

    What was counted is no part of it: the time series of what goes on from it begins there.
    """
    arrays = {name: getattr(m, name) for name in SAVED}
    fill, cpu = m.fill.copy(), m.cpu.copy()
    fill[[F_MISSES, F_MOVES, F_INTERVALS]] = 0
    cpu[C_INTERVAL_START::CPU_WORDS] = cpu[C_CLOCK::CPU_WORDS]
    return {**arrays, "fill": fill, "cpu": cpu}


def check_memory(m: Memory, contexts: int) -> None:
    """Raise `DiscoError` unless the restored state is one that a memory system can be in.

    `contexts` is how many contexts (with mode) the machine or the trace knows.
    """
    for name in SAVED:
        CHECKS[name](m)
    in_range("memory.cpu", "context", m.cpu[C_CONTEXT::CPU_WORDS], min(contexts, m.p[P_CONTEXTS]))


def fail(array: str, what: str, expected: object, found: object) -> NoReturn:
    """Raise the error for an impossible value of an array."""
    raise DiscoError(
        f"impossible state: {what} in {array}", expected=str(expected), found=str(found)
    )


def in_range(array: str, what: str, values: Array, limit: int, low: int = 0) -> None:
    """Raise `DiscoError` unless `low` <= every value < `limit`."""
    if values.size == 0:
        return
    for value in (int(values.min()), int(values.max())):
        if not low <= value < limit:
            fail(array, what, f"{low} to {int(limit) - 1}", value)


def must_equal(array: str, what: str, values: Array, expected: Array) -> None:
    """Raise `DiscoError`, naming the first difference, unless the arrays are equal."""
    wrong = np.flatnonzero(values != expected)
    if len(wrong):
        at = wrong[0]
        fail(array, f"{what} {at}", np.ravel(expected)[at], np.ravel(values)[at])


def _cpu(m: Memory) -> None:
    words = m.cpu.reshape(-1, CPU_WORDS)
    cpus, nodes = int(m.p[P_CPUS]), int(m.p[P_NODES])
    must_equal("memory.cpu", "the node of CPU", words[:, C_NODE], np.arange(cpus) * nodes // cpus)
    in_range("memory.cpu", "context", words[:, C_CONTEXT], int(m.p[P_CONTEXTS]))
    for name, word in (
        ("clock", C_CLOCK), ("raise", C_RAISE), ("base", C_BASE),
        ("reset interval", C_EPOCH), ("end of the reset interval", C_EPOCH_END),
    ):  # fmt: skip
        in_range("memory.cpu", name, words[:, word], MOST)
    must_equal("memory.cpu", "interval of CPU", words[:, C_INTERVAL_START], words[:, C_CLOCK])


def _fill(m: Memory) -> None:
    for index in (F_MISSES, F_MOVES, F_INTERVALS):
        in_range("memory.fill", "count of results", m.fill[index : index + 1], 1)
    in_range("memory.fill", "number", m.fill, MOST)
    for name, index, limit in (
        ("node in turn", F_ROUND_ROBIN, int(m.p[P_NODES])), ("random number", F_RANDOM, 1 << 31),
        ("flag", F_RETOUCHED, 2),
    ):  # fmt: skip
        in_range("memory.fill", name, m.fill[index : index + 1], limit)


def _sides(m: Memory) -> Iterable[tuple[str, int, Array, Array, int]]:
    """Yield (name, line shift, tags [cpus, sets, ways], order [cpus, sets], ways) by side."""
    p = m.p
    cpus = int(p[P_CPUS])
    rows = m.l1.reshape(cpus, int(p[P_L1_STRIDE]))
    for name, shift, sets, ways, tags, order in (
        ("I", P_I_SHIFT, P_I_SETS, P_I_WAYS, P_I_TAGS, P_I_ORDER),
        ("D", P_D_SHIFT, P_D_SETS, P_D_WAYS, P_D_TAGS, P_D_ORDER),
    ):
        n, w, first, second = int(p[sets]), int(p[ways]), int(p[tags]), int(p[order])
        there = rows[:, first : first + n * w].reshape(cpus, n, w)
        yield name, int(p[shift]), there, rows[:, second : second + n], w


def check_sets(array: str, lines: Array, order: Array, ways: int) -> None:
    """Check sets of a cache: each line once, and an order that names each way once.

    lines: [..., ways], −1 for an empty way. order: one word a set, four bits a way.
    """
    if ways > 1:
        ranked = np.sort(lines, axis=-1)
        twice = (ranked[..., 1:] == ranked[..., :-1]) & (ranked[..., 1:] >= 0)
        if twice.any():
            fail(array, "line in two ways of a set", "each line once", ranked[..., 1:][twice][0])
    words = order.astype(np.uint64).reshape(-1)
    shifts = np.arange(0, 4 * ways, 4, dtype=np.uint64)
    nibbles = np.sort((words[:, None] >> shifts) & np.uint64(15), axis=1)
    beyond = words >> np.uint64(4 * ways) if ways < 16 else np.zeros_like(words)
    wrong = (nibbles != np.arange(ways, dtype=np.uint64)).any(axis=1) | (beyond != 0)
    if wrong.any():
        found = hex(int(words[wrong][0]))
        fail(array, "order of the ways of a set", f"each of {ways} ways once", found)


def _l1(m: Memory) -> None:
    pages = int(m.p[P_NAMES])
    used = 0
    for name, shift, tags, order, ways in _sides(m):
        lines = (tags >> 1) - 1
        held = tags != 0
        in_range("memory.l1", f"{name} line", lines[held], pages << (12 - shift))
        if name == "I" and (tags & 1).any():
            fail("memory.l1", "dirty instruction line", "clean lines", "a dirty one")
        # Within a page the set follows from the line; above, from the virtual address.
        sets = tags.shape[1]
        known = min(sets, 1 << (12 - shift)) - 1
        off = ((lines ^ np.arange(sets)[None, :, None]) & known != 0) & held
        if off.any():
            fail("memory.l1", f"{name} line in a set", "the set of its address", lines[off][0])
        check_sets("memory.l1", np.where(held, lines, -1), order, ways)
        used += tags[0].size + order[0].size
    padding = m.l1.reshape(int(m.p[P_CPUS]), -1)[:, used:]
    in_range("memory.l1", "word behind the sets", padding, 1)


def _held(m: Memory) -> tuple[Array, Array, Array]:
    """Return granule, CPU and dirtiness of every first-level line that is held."""
    granules, cpus, dirty = [], [], []
    for _, shift, tags, _, _ in _sides(m):
        cpu, s, way = np.nonzero(tags)
        values = tags[cpu, s, way]
        granules.append(((values >> 1) - 1) >> (int(m.p[P_GRANULE_SHIFT]) - shift))
        cpus.append(cpu)
        dirty.append(values & 1)
    return np.concatenate(granules), np.concatenate(cpus), np.concatenate(dirty)


def masks(keys: Array, cpus: Array) -> tuple[Array, Array]:
    """Return the distinct keys, and for each the mask of its CPUs (int64)."""
    distinct, place = np.unique(keys, return_inverse=True)
    mask = np.zeros(len(distinct), np.uint64)
    np.bitwise_or.at(mask, place.reshape(-1), np.uint64(1) << cpus.astype(np.uint64))
    return distinct, mask.view(np.int64)


def _only_at(array: str, what: str, words: Array, at: Array, expected: Array) -> None:
    """Check that `words` hold `expected` at the places `at`, and zero everywhere else."""
    must_equal(array, f"{what}, entry", words[at], expected)
    others = np.count_nonzero(words) - np.count_nonzero(expected)
    if others:
        fail(array, what, "no entry without a line", f"{others} entries")


def _presence(m: Memory) -> None:
    granules, cpus, dirty = _held(m)
    where, mask = masks(granules, cpus)
    _only_at("memory.presence", "holders of a granule", m.presence[0::2], where, mask)
    owners = dirty != 0
    keys, count = np.unique(granules[owners] * 256 + cpus[owners], return_counts=True)
    where, owner = keys >> 8, keys & 255
    if len(np.unique(where)) != len(where):
        fail("memory.l1", "dirty lines of a granule", "at one CPU", "at several")
    _only_at(
        "memory.presence", "dirty lines of a granule", m.presence[1::2], where, count * 256 + owner
    )


def _counts(m: Memory) -> None:
    granules, cpus, _ = _held(m)
    where, count = np.unique(granules * int(m.p[P_CPUS]) + cpus, return_counts=True)
    _only_at("memory.counts", "lines of a granule at a CPU", m.counts, where, count)


def _l2(m: Memory) -> None:
    p = m.p
    cpus, sets, ways = int(p[P_CPUS]), int(p[P_L2_SETS]), int(p[P_L2_WAYS])
    rows = m.l2.reshape(cpus, int(p[P_L2_STRIDE]))
    first = int(p[P_L2_ORDER])
    tags = rows[:, :first].reshape(cpus, sets, ways)
    held = tags != 0
    lines = (tags >> 2) - 1
    in_range("memory.l2", "line", lines[held], len(m.dir) // 4)
    in_range("memory.l2", "state of a line", tags[held] & 3, 4, low=1)
    off = ((lines ^ np.arange(sets)[None, :, None]) & (sets - 1) != 0) & held
    if off.any():
        fail("memory.l2", "line in a set", "the set of its address", lines[off][0])
    check_sets("memory.l2", np.where(held, lines, -1), rows[:, first : first + sets], ways)
    in_range("memory.l2", "word behind the sets", rows[:, first + sets :], 1)


def _dir(m: Memory) -> None:
    p = m.p
    cpus = int(p[P_CPUS])
    stride = int(p[P_L2_STRIDE])
    tags = m.l2.reshape(cpus, stride)[:, : int(p[P_L2_ORDER])]
    cpu, at = np.nonzero(tags)
    values = tags[cpu, at]
    lines = (values >> 2) - 1
    where, mask = masks(lines, cpu)
    _only_at("memory.dir", "sharers of a line", m.dir[D_SHARERS::4], where, mask)
    if cpus < 64:
        for word in (D_SEEN, D_LOST):
            in_range("memory.dir", "mask of CPUs", m.dir[word::4], 1 << cpus)
    owner = m.dir[D_OWNER::4]
    in_range("memory.dir", "owner", owner, 2 * OWNER_DIRTY)
    number = owner & 255
    in_range("memory.dir", "owner", number, cpus + 1)
    if (number[owner != 0] == 0).any():
        fail("memory.dir", "dirty line", "a line with an owner", "one without")
    alone = values & 3 >= EXCLUSIVE
    must_equal("memory.dir", "owner of exclusive line", number[lines[alone]], cpu[alone] + 1)
    busy = np.flatnonzero(m.dir.reshape(-1, 4).any(axis=1))
    pages = m.frame_page[(busy << int(p[P_L2_SHIFT])) >> 12]
    if (pages < 0).any():
        fail("memory.dir", "entry of a line", "none where no page is", "one")


def _frame_at(m: Memory) -> None:
    p = m.p
    pages, nodes = int(p[P_NAMES]), int(p[P_NODES])
    in_range("memory.frame_at", "frame", m.frame_at, len(m.frame_page), low=-1)
    views = m.frame_at.reshape(pages, nodes)
    placed = views[:, 0] >= 0
    if ((views >= 0) != placed[:, None]).any():
        fail("memory.frame_at", "page", "a frame for every node or none", "both")
    if int(p[P_POLICY]) == GUEST:
        there = np.flatnonzero(placed)
        must_equal("memory.frame_at", "frame of placed page", views[there, 0], _own(p, there))


def _own(p: Array, pages: Array) -> Array:
    """Return the frames that the policy `guest` gives pages (see `policies.static`)."""
    contents = pages >= p[P_PAGES]
    numbers = np.where(contents, pages - p[P_PAGES], pages)
    nodes = numbers // p[P_NODE_SHARE]
    first = nodes * p[P_NODE_FRAMES] + numbers - nodes * p[P_NODE_SHARE]
    return np.where(contents, first + p[P_NODE_SHARE], first)


def _frame_page(m: Memory) -> None:
    pages, nodes = int(m.p[P_NAMES]), int(m.p[P_NODES])
    in_range("memory.frame_page", "page", m.frame_page, pages, low=-1)
    page, node = np.nonzero(m.frame_at.reshape(pages, nodes) >= 0)
    frames = m.frame_at.reshape(pages, nodes)[page, node]
    must_equal("memory.frame_page", "page of frame", m.frame_page[frames], page)
    owned = np.count_nonzero(m.frame_page >= 0)
    if owned != len(np.unique(frames)):
        fail("memory.frame_page", "frames with a page", len(np.unique(frames)), owned)


def _page(m: Memory) -> None:
    pages, nodes = int(m.p[P_NAMES]), int(m.p[P_NODES])
    words = m.page.reshape(pages, PAGE_WORDS)
    in_range("memory.page", "number", words, MOST)
    in_range("memory.page", "flag", words[:, G_REPLICATED], 2)
    in_range("memory.page", "master", words[:, G_MASTER], len(m.frame_page))
    copied = words[:, G_REPLICATED] != 0
    views = m.frame_at.reshape(pages, nodes)
    same = views == words[:, G_MASTER : G_MASTER + 1]
    if not same[copied].any(axis=1).all():
        fail("memory.page", "master of a replicated page", "one of its frames", "another")
    if (views[~copied] != views[~copied][:, :1]).any():
        fail("memory.page", "page that is not replicated", "one frame", "several")
    replicas = int(np.count_nonzero(~same[copied]))
    if replicas != int(m.fill[F_REPLICAS]):
        fail("memory.fill", "count of replicas", replicas, int(m.fill[F_REPLICAS]))


def _free(m: Memory) -> None:
    nodes, frames = int(m.p[P_NODES]), int(m.p[P_NODE_FRAMES])
    stacks = m.free.reshape(nodes, 1 + frames)
    in_range("memory.free", "depth", stacks[:, 0], frames + 1)
    in_range("memory.free", "frame", stacks[:, 1:], frames)
    in_range("memory.node_next", "frame", m.node_next, frames + 1)
    if int(m.p[P_POLICY]) == GUEST:
        return  # frames are never taken from the stack
    owned = m.frame_page.reshape(nodes, frames) >= 0
    for node in range(nodes):
        used = np.zeros(frames, np.int64)
        np.add.at(used, stacks[node, 1 : 1 + stacks[node, 0]], 1)
        used += owned[node]
        handed_out = np.arange(frames) < m.node_next[node]
        must_equal("memory.free", f"uses of node {node}'s frame", used, handed_out.astype(np.int64))


def _node_next(m: Memory) -> None:
    in_range("memory.node_next", "frame", m.node_next, int(m.p[P_NODE_FRAMES]) + 1)


def _hot(m: Memory) -> None:
    in_range("memory.hot", "count", m.hot, MOST)


def _alias(m: Memory) -> None:
    """Check the names of guest pages: each its own or a content's, which counts who shows it."""
    pages = int(m.p[P_PAGES])
    if int(m.p[P_NAMES]) == pages:
        return
    names, counts = m.alias[:pages].astype(np.int64), m.alias[pages:]
    own = names == np.arange(pages)
    in_range("memory.alias", "content that a page shows", names[~own], 2 * pages, low=pages)
    shown = np.bincount(names[~own] - pages, minlength=pages)
    must_equal("memory.alias", "pages that show content", counts, shown)
    # A content that nobody shows is nowhere: there are frames for one name a page.
    unused = pages + np.flatnonzero(shown == 0)
    unused = np.concatenate([unused, np.flatnonzero(~own)])
    frames = m.frame_at.reshape(int(m.p[P_NAMES]), int(m.p[P_NODES]))[unused, 0]
    in_range("memory.frame_at", "frame of a name without a page", frames, 0, low=-1)


CHECKS: dict[str, Callable[[Memory], None]] = {
    "cpu": _cpu,
    "fill": _fill,
    "l1": _l1,
    "presence": _presence,
    "counts": _counts,
    "l2": _l2,
    "dir": _dir,
    "frame_at": _frame_at,
    "frame_page": _frame_page,
    "node_next": _node_next,
    "free": _free,
    "page": _page,
    "hot": _hot,
    "alias": _alias,
}
