"""Hand what the memory system counted to a run's writer: for replays and captures alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from disco_trace.memory.layout import (
    C_CLOCK,
    C_INTERVAL_START,
    CPU_WORDS,
    F_INTERVALS,
    F_MISSES,
    F_MOVES,
    P_CPUS,
    P_NAMES,
    P_NODES,
    P_PAGES,
    P_VM_PAGES,
    Memory,
)
from disco_trace.trace.run_writer import RunWriter
from disco_trace.trace.schema import HEAT, INTERVAL, N_METRICS

# The machine of a content that several may show.
NOBODY = 0xFFFF


class Results:
    """Empty a `Memory`'s result buffers into a `RunWriter`, with two buffers of misses in turn."""

    def __init__(self, writer: RunWriter, memory: Memory) -> None:
        self.writer = writer
        self._spare = np.zeros_like(memory.misses)

    def drain(self, memory: Memory) -> Memory:
        """Write out what the buffers hold; return the memory system to go on with."""
        fill = memory.fill
        several = memory.p[P_NAMES] != memory.p[P_VM_PAGES]
        if fill[F_MISSES]:
            misses = memory.misses[: fill[F_MISSES]]
            if several:
                _, misses["guest_page"] = _own_number(memory, misses["guest_page"])
            self.writer.misses(misses)
            memory, self._spare = memory._replace(misses=self._spare), memory.misses
        if fill[F_MOVES]:
            moves = memory.moves[: fill[F_MOVES]]
            if several:
                moves["vm"], moves["guest_page"] = _own_number(memory, moves["guest_page"])
            self.writer.moves(moves)
        if fill[F_INTERVALS]:
            self.writer.intervals(_long(memory.intervals[: fill[F_INTERVALS]]))
        fill[[F_MISSES, F_MOVES, F_INTERVALS]] = 0
        return memory

    def finish(self, memory: Memory, contexts: np.ndarray[Any, Any] | None = None) -> None:
        """Close every CPU's last interval and write heat and accounts.

        `contexts`, a mask over contexts, keeps only those in the accounts (one phase, say).
        """
        memory = self.drain(memory)
        self.writer.intervals(_long(_last_intervals(memory)))
        cpus, nodes, pages = (int(memory.p[i]) for i in (P_CPUS, P_NODES, P_NAMES))
        heat = _heat(memory.heat.reshape(pages, nodes, 4))
        heat["vm"], heat["guest_page"] = _own_number(memory, heat["guest_page"])
        self.writer.heat(heat)
        accounts = memory.accounts.reshape(cpus, -1, N_METRICS)
        if contexts is not None:
            accounts = accounts * contexts[None, :, None]
        self.writer.accounts(accounts)


def _own_number(memory: Memory, pages: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """Return machine and guest page for names of pages; of a content NOBODY and its number."""
    vm, page = np.divmod(pages, np.uint64(memory.p[P_VM_PAGES]))
    contents = pages >= memory.p[P_PAGES]
    vm[contents], page[contents] = NOBODY, pages[contents] - np.uint64(memory.p[P_PAGES])
    return vm, page


def room(memory: Memory) -> bool:
    """Tell whether all result buffers are less than half full."""
    fill = memory.fill
    return bool(
        fill[F_MISSES] * 2 < len(memory.misses)
        and fill[F_MOVES] * 2 < len(memory.moves)
        and fill[F_INTERVALS] * 2 < len(memory.intervals)
    )


def _long(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Turn interval rows with all metrics into one row for each metric that changed."""
    at, metric = np.nonzero(rows["values"])
    out = np.zeros(len(at), INTERVAL)
    out["start_cycle"], out["end_cycle"] = rows["start"][at], rows["end"][at]
    out["cpu"], out["metric"] = rows["cpu"][at], metric
    out["value"] = rows["values"][at, metric]
    return out


def _last_intervals(memory: Memory) -> np.ndarray[Any, Any]:
    """Return a row for each CPU with what happened since its last snapshot."""
    cpus = int(memory.p[P_CPUS])
    rows = np.zeros(cpus, memory.intervals.dtype)
    words = memory.cpu.reshape(cpus, CPU_WORDS)
    rows["cpu"] = np.arange(cpus)
    rows["start"], rows["end"] = words[:, C_INTERVAL_START], words[:, C_CLOCK]
    totals = memory.accounts.reshape(cpus, -1, N_METRICS).sum(axis=1)
    rows["values"] = totals - memory.interval_base
    return rows


def _heat(heat: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return HEAT rows of the pages and nodes that counted anything."""
    page, node = np.nonzero(heat.any(axis=2))
    out = np.zeros(len(page), HEAT)
    out["guest_page"], out["node"] = page, node
    for index, name in enumerate(("local", "remote", "writes", "moves")):
        out[name] = heat[page, node, index]
    return out
