"""Save a machine, between two calls of its kernel, as a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from disco_trace.machine import state as machine_state
from disco_trace.machine.layout import Machine
from disco_trace.memory import state as memory_state
from disco_trace.memory.layout import Memory
from disco_trace.trace import accounts as accounting
from disco_trace.trace.checkpoint import Checkpoint, write_checkpoint
from disco_trace.trace.schema import N_METRICS
from disco_trace.trace.state import Snapshot

Counters = list[dict[str, int]]


def save(
    path: Path,
    machine: Machine,
    memory: Memory,
    head: Mapping[str, Any],
    symbols: Mapping[str, Any],
    *,
    rows: dict[str, int],
    base: Counters,
) -> Checkpoint:
    """Save a machine between two calls of the kernel as a checkpoint in the folder `path`.

    head: guest, image, config, seeds and phase (see `trace.checkpoint.Checkpoint`). rows: by
    family, those that the guest has made since it began. base: what the CPUs had counted where
    this capture began, to which its own counts are added; empty for nothing.
    """
    cpus = len(machine.s)
    counted = accounting.per_cpu(memory.accounts.reshape(cpus, -1, N_METRICS).astype(np.uint64))
    facts = {
        **machine_state.facts(machine, memory),
        "rows": rows,
        "base": added(base, counted),
        "layout": layouts(),
    }
    arrays = {
        **{f"memory.{name}": a for name, a in memory_state.saved_arrays(memory).items()},
        **{f"machine.{name}": a for name, a in machine_state.saved_arrays(machine).items()},
    }
    head = {**head, "process_names": machine_state.process_names(machine)}
    return write_checkpoint(path, head, Snapshot(facts, arrays), symbols)


def layouts() -> dict[str, str]:
    """Return the ids of the layouts of both parts of the state."""
    return {
        "memory": memory_state.memory_layout_id(),
        "machine": machine_state.machine_layout_id(),
    }


def added(base: Counters, counted: Counters) -> Counters:
    """Return the sums of two lists of counters, CPU by CPU."""
    if not base:
        return counted
    return [
        {name: own.get(name, 0) + (0 if name == "cpu" else before.get(name, 0))
         for name in dict.fromkeys([*own, *before])}
        for own, before in zip(counted, base, strict=True)
    ]  # fmt: skip
