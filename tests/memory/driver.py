"""Drive the compiled memory system with full reference streams, and read its state back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from disco_trace.costs import Prices
from disco_trace.jit import kernel
from disco_trace.memory import layout, system
from disco_trace.memory.dma import dma
from disco_trace.memory.first_level import choose_way, data_set, instruction_set, promote
from disco_trace.trace.schema import (
    CLASSES,
    METRICS,
    MONITOR_CAUSES,
    MOVE_ACTIONS,
    MOVE_REASONS,
    REF_KINDS,
    SOURCES,
)
from tests.naive import Cache, Config

KIND = {name: index for index, name in enumerate(REF_KINDS)}
# A device's transfer: its length stands above the page offset in `vaddr`, as in the oracle.
DMA_READ, DMA_WRITE = 32, 33
KIND |= {"dma_read": DMA_READ, "dma_write": DMA_WRITE}
HIT = 255  # in the ways that `drive` returns: the first level served the reference
STATES = {layout.SHARED: "S", layout.EXCLUSIVE: "E", layout.MODIFIED: "M"}


def build(config: Config, pages: int, *, record_misses: bool = True) -> layout.Memory:
    """Build the compiled memory system of an oracle's configuration (1 GHz: 1 ns = 1 cycle)."""

    def cache(c: Cache) -> SimpleNamespace:
        return SimpleNamespace(
            size_bytes=c.sets * c.ways * c.line_bytes,
            ways=c.ways,
            line_bytes=c.line_bytes,
            replacement=c.replacement,
        )

    spec = SimpleNamespace(
        machine=SimpleNamespace(
            cpus=len(config.node_of),
            nodes=config.nodes,
            clock_mhz=1000,
            ram_bytes=pages * layout.PAGE_BYTES,
            l1i=cache(config.l1i),
            l1d=cache(config.l1d),
            granule_bytes=config.granule_bytes,
            seed=0,
        ),
        memory=SimpleNamespace(
            l2=cache(config.l2),
            protocol=config.protocol,
            l2_hit_ns=config.l2_hit_cycles,
            local_ns=config.local_cycles,
            remote_ns=config.remote_cycles,
            dirty_ns=config.dirty_cycles,
            upgrade_local_ns=config.upgrade_local_cycles,
            upgrade_remote_ns=config.upgrade_remote_cycles,
            uncached_local_ns=config.uncached_local_cycles,
            uncached_remote_ns=config.uncached_remote_cycles,
            device_ns=config.device_cycles,
        ),
        placement=SimpleNamespace(
            policy=config.policy,
            initial=config.initial,
            node=config.node,
            node_frames=config.frames_per_node,
            trigger_misses=config.trigger,
            sharing_misses=config.sharing,
            write_misses=config.write,
            migrate_limit=config.migrate_limit,
            reset_ms=config.reset_cycles / 1e6,
            max_moves_per_page=config.max_moves,
            retouch_phase=0,
        ),
        costs=SimpleNamespace(
            prices=Prices(
                migrate_us=config.migrate_cycles / 1e3,
                replicate_us=config.replicate_cycles / 1e3,
                collapse_us=config.collapse_cycles / 1e3,
                refused_us=config.refused_cycles / 1e3,
            )
        ),
        time=SimpleNamespace(interval_us=1e9, feedback="none"),
        monitor=SimpleNamespace(kind="none"),
        vm=SimpleNamespace(count=1),
    )
    memory = layout.build(spec, record_misses=record_misses, contexts=1)
    nodes = memory.cpu[layout.C_NODE :: layout.CPU_WORDS][: len(config.node_of)]
    assert tuple(nodes) == config.node_of, "the layout deals CPUs to nodes in order"
    return memory


@kernel
def drive(m, cpus, kinds, vaddrs, pages, work, ways):
    """Run references made above the first level, as a live CPU does; fill `ways`.

    Returns the index of the first reference that was refused, −1 if none was.
    """
    p = m.p
    for i in range(cpus.size):
        cpu, kind, vaddr, page = cpus[i], kinds[i], vaddrs[i], pages[i]
        system.enter(m, cpu, 0, work[i])
        if kind >= DMA_READ:
            ways[i] = 0
            dma(m, cpu, i, kind & 1, page << 12 | vaddr & 4095, vaddr >> 12)
            continue
        base = cpu * p[layout.P_L1_STRIDE]
        if kind == 0:
            index, n, shift = instruction_set(m, vaddr), p[layout.P_I_WAYS], p[layout.P_I_SHIFT]
            tags = base + p[layout.P_I_TAGS] + index * n
            order = base + p[layout.P_I_ORDER] + index
        else:
            index, n, shift = data_set(m, vaddr), p[layout.P_D_WAYS], p[layout.P_D_SHIFT]
            tags = base + p[layout.P_D_TAGS] + index * n
            order = base + p[layout.P_D_ORDER] + index
        line = ((page << layout.PAGE_SHIFT) | (vaddr & (layout.PAGE_BYTES - 1))) >> shift
        way = -1
        for w in range(n):
            if m.l1[tags + w] >> 1 == line + 1:
                way = w
        event = kind
        if way >= 0:
            promote(m.l1, order, way)
            if kind != 2 or m.l1[tags + way] & 1:
                ways[i] = HIT
                continue
            event = 3
        else:
            way = choose_way(m.l1, tags, order, n)
        ways[i] = way
        if system.reference(m, cpu, event, way, vaddr, page, i, vaddr) < 0:
            return i
    return -1


@kernel
def replay(m, cpus, kinds, vaddrs, pages, work, ways):
    """Run recorded references (below the first level); return the first refused one, or −1."""
    for i in range(cpus.size):
        system.enter(m, cpus[i], 0, work[i])
        if kinds[i] >= DMA_READ:
            address = pages[i] << 12 | vaddrs[i] & 4095
            dma(m, cpus[i], i, kinds[i] & 1, address, vaddrs[i] >> 12)
            continue
        if system.reference(m, cpus[i], kinds[i], ways[i], vaddrs[i], pages[i], i, vaddrs[i]) < 0:
            return i
    return -1


@kernel
def add_work(m, work):
    """Advance every CPU's clock by the work after its last event."""
    for cpu in range(work.size):
        system.enter(m, cpu, 0, work[cpu])


@kernel
def drop_page(m, page):
    """Drop a page whose content died."""
    system.drop_page(m, page)


@kernel
def retouch(m):
    """Deal first touch again."""
    system.retouch(m)


def counters(m: layout.Memory) -> list[dict[str, int]]:
    """Return each CPU's non-zero metrics by name."""
    table = m.accounts.reshape(int(m.p[layout.P_CPUS]), -1, len(METRICS) + len(MONITOR_CAUSES))
    names = [*METRICS, *(f"monitor_{cause}_cycles" for cause in MONITOR_CAUSES)]
    return [
        {name: int(v) for name, v in zip(names, row.sum(axis=0), strict=True) if v} for row in table
    ]


def order_of(word: int, ways: int, lines: list[Any]) -> list[int]:
    """Return a set's valid ways, next victim first, from its packed order word."""
    order = [int(word) >> (4 * place) & 15 for place in reversed(range(ways))]
    assert sorted(order) == list(range(ways)), f"order word {word:#x} is no permutation"
    return [way for way in order if lines[way] is not None]


def state(m: layout.Memory) -> dict[str, Any]:
    """Return tags, orders, directory, map and clocks as plain values, keyed by what they are."""
    p = [int(v) for v in m.p]
    cpus, nodes = p[layout.P_CPUS], p[layout.P_NODES]
    result: dict[str, Any] = {"l1": [], "l2": []}
    for cpu in range(cpus):
        base = cpu * p[layout.P_L1_STRIDE]
        for tags, order, sets, ways, shift in (
            (layout.P_I_TAGS, layout.P_I_ORDER, layout.P_I_SETS, layout.P_I_WAYS, layout.P_I_SHIFT),
            (layout.P_D_TAGS, layout.P_D_ORDER, layout.P_D_SETS, layout.P_D_WAYS, layout.P_D_SHIFT),
        ):
            per_page = layout.PAGE_BYTES >> p[shift]
            for index in range(p[sets]):
                words = m.l1[base + p[tags] + index * p[ways] :][: p[ways]]
                lines = [
                    (*divmod(int(w) // 2 - 1, per_page), bool(w & 1)) if w else None for w in words
                ]
                word = m.l1[base + p[order] + index]
                result["l1"].append((lines, order_of(word, p[ways], lines)))
        base = cpu * p[layout.P_L2_STRIDE]
        for index in range(p[layout.P_L2_SETS]):
            words = m.l2[base + index * p[layout.P_L2_WAYS] :][: p[layout.P_L2_WAYS]]
            lines = [
                (
                    *divmod(int(w) // 4 - 1, layout.PAGE_BYTES >> p[layout.P_L2_SHIFT]),
                    STATES[int(w) & 3],
                )
                if w
                else None
                for w in words
            ]
            word = m.l2[base + p[layout.P_L2_ORDER] + index]
            result["l2"].append((lines, order_of(word, p[layout.P_L2_WAYS], lines)))
    entries = m.dir.reshape(-1, 4)
    per_page = layout.PAGE_BYTES >> p[layout.P_L2_SHIFT]
    result["directory"] = {
        divmod(int(f), per_page): (
            int(entries[f, layout.D_SHARERS]),
            int(entries[f, layout.D_OWNER] & 255) - 1,
            bool(entries[f, layout.D_OWNER] & layout.OWNER_DIRTY),
        )
        for f in np.flatnonzero(entries[:, layout.D_SHARERS] | entries[:, layout.D_OWNER])
    }
    frames = m.frame_at.reshape(-1, nodes)
    result["frame_at"] = {
        int(g): [int(f) for f in frames[g]] for g in np.flatnonzero((frames >= 0).any(axis=1))
    }
    presence = m.presence.reshape(-1, 2)
    counts = m.counts.reshape(-1, cpus)
    result["presence"] = {
        int(g): (int(presence[g, 0]), int(presence[g, 1]), tuple(int(c) for c in counts[g]))
        for g in np.flatnonzero(presence.any(axis=1) | counts.any(axis=1))
    }
    result["clock"] = [int(m.cpu[c * layout.CPU_WORDS + layout.C_CLOCK]) for c in range(cpus)]
    result["counters"] = counters(m)
    result["misses"] = [
        (
            *(int(row["cpu"]), REF_KINDS[row["kind"]], int(row["vaddr"]), int(row["guest_page"])),
            *(int(row["home"]), SOURCES[row["source"]], CLASSES[row["class"]]),
            int(row["stall_cycles"]),
        )
        for row in m.misses[: m.fill[layout.F_MISSES]]
    ]
    result["moves"] = [
        (
            *(int(row["cpu"]), int(row["guest_page"]), MOVE_ACTIONS[row["action"]]),
            *(MOVE_REASONS[row["reason"]], int(row["from_node"]), int(row["to_node"])),
        )
        for row in m.moves[: m.fill[layout.F_MOVES]]
        if MOVE_ACTIONS[row["action"]] != "place"
    ]
    heat = m.heat.reshape(-1, nodes, 4)
    result["heat"] = {
        (int(g), int(n)): tuple(int(v) for v in heat[g, n])
        for g, n in zip(*np.nonzero(heat.any(axis=2)), strict=True)
    }
    return result
