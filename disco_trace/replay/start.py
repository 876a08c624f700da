"""Start a replay where its trace starts: cold, or in the state of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from disco_trace.config import Spec
from disco_trace.config.resumable import Loss, losses
from disco_trace.errors import DiscoError
from disco_trace.memory.layout import (
    C_BASE,
    C_CLOCK,
    C_CONTEXT,
    C_EPOCH,
    C_EPOCH_END,
    C_INTERVAL_START,
    C_RAISE,
    CPU_WORDS,
    D_OWNER,
    F_REPLICAS,
    F_ROUND_ROBIN,
    G_MASTER,
    G_MOVES,
    G_REPLICATED,
    OWNER_DIRTY,
    P_GRANULE_SHIFT,
    P_L2_SHIFT,
    P_NAMES,
    P_NODES,
    PAGE_WORDS,
    Memory,
    build,
)
from disco_trace.memory.state import SAVED, check_memory, memory_layout_id
from disco_trace.trace.arrays import read_array
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.state import STATE, STATE_FOLDER, State, check_layout

# What belongs to the first level and to the CPUs, whatever lies below; and who shows what.
_ABOVE = ("l1", "presence", "counts", "alias")
_PAGE_MAP = ("frame_at", "frame_page", "node_next", "free", "page", "hot")
_CLOCKS = (C_CLOCK, C_BASE, C_CONTEXT, C_RAISE, C_INTERVAL_START)


def starting_memory(
    reader: TraceReader, memory: Memory, captured: Spec, wanted: Spec, contexts: int
) -> Memory:
    """Return the memory system that a replay begins with; `memory` is the cold one of `wanted`.

    Where `wanted` makes part of the saved state useless, that part begins cold (see `losses`).
    contexts: with mode. Raises DiscoError for a state record that is damaged or impossible.
    """
    record = reader.start
    if record is None:
        return memory
    saved = build(captured, contexts=contexts)
    load_memory(reader.path / STATE_FOLDER, reader.path / STATE_FOLDER / STATE, record.state, saved)
    lost = losses(captured, wanted)
    if set(lost.values()) & {"second level", "page map"}:
        saved = _rebuilt(saved, memory, "page map" in lost.values())
    else:
        saved = memory._replace(**{name: getattr(saved, name) for name in SAVED})
    if "counters" in lost.values():
        _forget_counters(saved)
    return saved


def load_memory(folder: Path, file: Path, state: State, memory: Memory) -> None:
    """Read the arrays of a memory system into `memory`, which is cold, and check every value.

    `folder` holds the arrays, `file` says of them what `state` holds; errors name one of both.
    """
    check_layout(state, {"memory": memory_layout_id()}, file)
    for name in SAVED:
        whole = f"memory.{name}"
        entry = state.arrays.get(whole)
        if entry is None:
            raise DiscoError("an array is missing", file=file, expected=whole, found="none")
        read_array(folder, whole, entry, getattr(memory, name))
    try:
        check_memory(memory, 4 * len(state.contexts))
    except DiscoError as error:
        error.file = error.file or str(folder)
        raise


def start_warnings(captured: Spec, wanted: Spec) -> list[str]:
    """Return what to say of a replay that cannot use all of the state that its trace starts in."""
    lost: Mapping[str, Loss] = losses(captured, wanted)
    consequences = {
        "page map": "every page is placed anew, and the second level begins cold",
        "second level": "the second level begins cold, its directory built from the first level",
        "counters": "the policy's page counters begin anew",
    }
    return [
        f"the trace starts from a checkpoint of another {part} ({', '.join(paths)}): {text}"
        for part, text in consequences.items()
        if (paths := [path for path, loss in lost.items() if loss == part])
    ]


def _rebuilt(saved: Memory, cold: Memory, unplaced: bool) -> Memory:
    """Return `cold` with the saved first level and, unless `unplaced`, the saved page map.

    A page without a frame gets one at its next reference, as after `retouch`.
    """
    cpus, clocks = cold.cpu.reshape(-1, CPU_WORDS), saved.cpu.reshape(-1, CPU_WORDS)
    cpus[:, _CLOCKS] = clocks[:, _CLOCKS]
    fill = saved.fill.copy()
    if unplaced:
        fill[[F_ROUND_ROBIN, F_REPLICAS]] = 0
    kept = _ABOVE if unplaced else (*_ABOVE, *_PAGE_MAP)
    memory = cold._replace(fill=fill, **{name: getattr(saved, name) for name in kept})
    if not unplaced:
        cpus[:, (C_EPOCH, C_EPOCH_END)] = clocks[:, (C_EPOCH, C_EPOCH_END)]
        own_dirty_lines(memory)
    return memory


def own_dirty_lines(memory: Memory) -> None:
    """Give each second-level line to the CPU whose first level holds part of it dirty.

    What `second_level.rehome` does for one page, for all that have a frame, in the same order.
    """
    p = memory.p
    granule_shift, shift = int(p[P_GRANULE_SHIFT]), int(p[P_L2_SHIFT])
    dirty = memory.presence[1::2]
    granules = np.flatnonzero(dirty)
    address = granules << granule_shift
    frames = memory.frame_at.reshape(int(p[P_NAMES]), int(p[P_NODES]))[address >> 12, 0]
    frames = frames.astype(np.int64)
    placed = frames >= 0
    first = (frames << 12) | (address & 4095)
    owner = ((dirty[granules] & 255) + 1) | OWNER_DIRTY
    for step in range(max(1, 1 << max(0, granule_shift - shift))):
        lines = (first >> shift) + step
        # The last of several granules of a long line wins, as it does there.
        memory.dir[4 * lines[placed] + D_OWNER] = owner[placed]


def _forget_counters(memory: Memory) -> None:
    """Let a policy count the misses of its pages from here, in its own reset intervals."""
    cpus = memory.cpu.reshape(-1, CPU_WORDS)
    cpus[:, (C_EPOCH, C_EPOCH_END)] = 0
    words = memory.page.reshape(-1, PAGE_WORDS)
    others = np.delete(np.arange(PAGE_WORDS), (G_MOVES, G_REPLICATED, G_MASTER))
    words[:, others] = 0
    memory.hot[:] = 0
