"""The replay loop: references and control rows of one segment, in the order of the capture."""

from __future__ import annotations

import numpy as np

from disco_trace.jit import kernel
from disco_trace.memory.events import control, trap
from disco_trace.memory.layout import (
    P_CONTEXTS,
    P_CPUS,
    P_D_WAYS,
    P_I_WAYS,
    P_NAMES,
    P_PAGES,
)
from disco_trace.memory.pages import name_of
from disco_trace.memory.system import (
    FETCH,
    UPGRADE,
    cached,
    enter,
    full,
    rows_left,
    uncommon,
)

# What `replay_segment` returns.
DONE, DRAIN, DAMAGED = range(3)
# A control row that was not recorded (`replay.tlbs`): traps of cause `a0`, `a1` times, of `a3` TLB
# entries each. It stands before the row whose sequence number it shares.
ADDED = 255
MOST_TIMES = 64


@kernel
def replay_segment(
    m, place, first_seq, cpus, contexts, kinds, ways, vaddrs, pages, works, pcs, events
):
    """Replay rows of a segment from `place` on.

    `place` = [next reference, next control row, added rows among those before it].

    References are column arrays of one length (`pcs` may be empty, then misses have pc 0);
    `events` is an EVENT array in sequence order. References have no sequence numbers here: they
    are the numbers that the control rows leave (see `trace.schema`). Returns DONE, DRAIN (empty
    the result buffers and call again) or DAMAGED (row at `place` does not fit the state).
    """
    i = place[0]
    e = place[1]
    own = e - place[2]
    references = kinds.shape[0]
    p = m.p
    unchecked = np.int64(0)
    have_pc = pcs.shape[0] == references
    sharing = p[P_NAMES] != p[P_PAGES]
    while True:
        # References stand before control row e up to its sequence number.
        until = references
        if e < events.shape[0]:
            until = min(references, np.int64(events[e]["seq"]) - first_seq - own)
        while i < until:
            if i >= unchecked:
                if full(m):
                    place[0] = i
                    place[1] = e
                    return DRAIN
                unchecked = i + rows_left(m)
            cpu = np.int64(cpus[i])
            context = np.int64(contexts[i])
            kind = np.int64(kinds[i])
            way = np.int64(ways[i])
            vaddr = np.int64(vaddrs[i])
            page = np.int64(pages[i])
            seq = first_seq + i + own
            if cpu >= p[P_CPUS] or context >= p[P_CONTEXTS]:
                place[0] = i
                place[1] = e
                return DAMAGED
            enter(m, cpu, context, np.int64(works[i]))
            if kind <= UPGRADE:
                bound = p[P_I_WAYS] if kind == FETCH else p[P_D_WAYS]
                bad = page < 0 or page >= p[P_PAGES] or way >= bound
                if not bad:
                    if sharing:
                        page = np.int64(m.alias[page])
                    pc = np.int64(pcs[i]) if have_pc else np.int64(0)
                    bad = cached(m, cpu, kind, way, vaddr, page, seq, pc) < 0
                if bad:
                    place[0] = i
                    place[1] = e
                    return DAMAGED
            elif page >= 0:
                # What is no page of a guest is a device's, of whatever number.
                page = np.int64(name_of(m, page)) if page < p[P_PAGES] else np.int64(p[P_NAMES])
                uncommon(m, cpu, kind, way, vaddr, page, seq)
            i += 1
        if e >= events.shape[0]:
            if i >= references:
                place[0] = i
                place[1] = e
                return DONE
            continue
        unchecked = 0
        if full(m):
            place[0] = i
            place[1] = e
            return DRAIN
        row = events[e]
        cpu = np.int64(row["cpu"])
        context = np.int64(row["context"])
        if cpu >= p[P_CPUS] or context >= p[P_CONTEXTS]:
            place[0] = i
            place[1] = e
            return DAMAGED
        if row["kind"] == ADDED:
            enter(m, cpu, context, np.int64(0))
            for _ in range(min(np.int64(row["a1"]), MOST_TIMES)):
                trap(m, cpu, np.int64(row["a0"]), np.int64(row["a3"]), np.int64(0), np.int64(0))
            e += 1
            place[2] += 1
            continue
        control(
            m, np.int64(row["kind"]), cpu, context, np.int64(row["work"]),
            np.int64(row["instructions"]), np.int64(row["seq"]), np.int64(row["a0"]),
            np.int64(row["a1"]), np.int64(row["a2"]), np.int64(row["a3"]), np.int64(row["a4"]),
            np.int64(row["a5"]),
        )  # fmt: skip
        e += 1
        own += 1


def compile_kernels() -> None:
    """Compile (or load from the cache) everything that a replay runs."""
    from disco_trace.config import Spec
    from disco_trace.memory.layout import build
    from disco_trace.trace.schema import EVENT

    m = build(Spec(), contexts=4)
    empty = {name: np.zeros(0, dtype) for name, dtype in REPLAY_DTYPES.items()}
    place, pcs, events = np.zeros(3, np.int64), np.zeros(0, "u8"), np.zeros(0, EVENT)
    replay_segment(m, place, 0, *empty.values(), pcs, events)


# The columns that a replay reads, in the order of `replay_segment`'s parameters.
REPLAY_DTYPES = {
    "cpu": "u1", "context": "u4", "kind": "u1", "way": "u1", "vaddr": "u8", "guest_page": "u8",
    "work": "u4",
}  # fmt: skip
