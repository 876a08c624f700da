"""Build the machine of a checkpoint again, and believe nothing that its files say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from disco_trace.checkpoint.identity import saved_spec
from disco_trace.checkpoint.save import layouts
from disco_trace.config import Spec
from disco_trace.config.machines import machines_of
from disco_trace.config.resumable import check_resumable
from disco_trace.errors import DiscoError
from disco_trace.machine import kernel
from disco_trace.machine import layout as machine_layout
from disco_trace.machine import state as machine_state
from disco_trace.machine.layout import CONTEXT_WORDS, FEWEST_CONTEXTS, MOST_CONTEXTS, Machine
from disco_trace.machine.slots import FIRST_PORT, SECTOR, build_slots, places_of
from disco_trace.memory import layout as memory_layout
from disco_trace.memory import state as memory_state
from disco_trace.memory.layout import Memory
from disco_trace.replay.start import load_memory
from disco_trace.trace.arrays import MOST_VALUES, describe, read_array
from disco_trace.trace.checkpoint import (
    CHECKPOINT,
    Checkpoint,
    checkpoint_id,
    read_checkpoint,
    read_symbols,
)
from disco_trace.trace.state import Snapshot, Start, State, check_layout


@dataclass(frozen=True)
class Resumed:
    """Hold a machine that goes on: its state, where it comes from, and the guest's symbols."""

    machine: Machine
    memory: Memory
    checkpoint: Checkpoint
    start: Start
    symbols: dict[str, list[Any]]


def resume(path: Path, spec: Spec, rows: int) -> Resumed:
    """Build the machine of the checkpoint in the folder `path`, to go on as `spec` says.

    rows: the size of its event buffers, as in `machine.layout.build`. Raises DiscoError for a
    checkpoint that is damaged, impossible or of another version, and for a `spec` that it cannot
    go on with (see `config.resumable`).
    """
    checkpoint = read_checkpoint(path)
    file = path / CHECKPOINT
    state = checkpoint.state
    check_resumable(saved_spec(checkpoint, path), spec)
    check_layout(state, layouts(), file)
    names = {f"machine.{name}" for name in machine_state.SAVED}
    names |= {f"memory.{name}" for name in memory_state.SAVED}
    if names != set(state.arrays):
        other = sorted(names ^ set(state.arrays))
        raise DiscoError(
            "not the arrays of a machine of this version", file=file,
            expected=f"{len(names)} arrays", found=f"missing or unknown: {', '.join(other)}",
        )  # fmt: skip
    contexts = _contexts_shape(state.arrays["machine.contexts"].shape, file)
    cold, machine = (_cold(spec, checkpoint, contexts, file, n) for n in (1, rows))
    memory = memory_layout.build(spec, record_misses=True, contexts=4 * contexts[0])
    load_memory(path, file, state, memory)
    for name in machine_state.SAVED:
        whole = f"machine.{name}"
        read_array(path, whole, state.arrays[whole], getattr(machine, name))
    try:
        machine_state.check_machine(machine, memory, cold)
        _check_facts(machine, memory, checkpoint)
    except DiscoError as error:
        error.file = error.file or str(path)
        raise
    kernel.decode_again(machine)
    symbols = read_symbols(path, checkpoint).to_pydict()
    start = Start(checkpoint_id(checkpoint), checkpoint.phase, _record(machine, memory, state))
    return Resumed(machine, memory, checkpoint, start, symbols)


def _cold(
    spec: Spec, checkpoint: Checkpoint, contexts: tuple[int, int], file: Path, rows: int
) -> Machine:
    """Return the machine at its start, with the checkpoint's disks, blank."""
    sizes = [(disk.bytes, disk.read_only) for disk in checkpoint.guest.disks]
    total = sum(size for size, _ in sizes)
    wrong = [size for size, _ in sizes if size <= 0 or size % SECTOR]
    if wrong or len(sizes) > FIRST_PORT or total > MOST_VALUES:
        raise DiscoError(
            "damaged checkpoint: impossible disks", file=file,
            expected=f"at most {FIRST_PORT}, in whole sectors", found=str([s for s, _ in sizes]),
        )  # fmt: skip
    # Room that is not touched costs no memory: the slots need only the lengths.
    blank = [(np.broadcast_to(np.uint32(0), size // 4), read_only) for size, read_only in sizes]
    if spec.monitor.kind == "none":
        return machine_layout.build(spec, rows)._replace(
            contexts=np.zeros(contexts, np.int64),
            virtio=build_slots(spec, places_of(blank)),
            disk=np.zeros(max(1, total // 4), np.uint32),
        )
    mounted = checkpoint.mounted
    impossible = [n for disks in mounted for n in disks if not 0 <= n < len(blank)]
    if len(mounted) != machines_of(spec) or impossible or any(len(d) > FIRST_PORT for d in mounted):
        raise DiscoError(
            "damaged checkpoint: impossible disks", file=file,
            expected=f"some of {len(blank)} disks for each of {machines_of(spec)} machines",
            found=str(mounted)[:200],
        )  # fmt: skip
    _check_words(spec, checkpoint, file)
    return machine_layout.build(spec, rows, blank, mounted)._replace(
        contexts=np.zeros(contexts, np.int64)
    )


def _check_words(spec: Spec, checkpoint: Checkpoint, file: Path) -> None:
    """Raise DiscoError unless every machine has its guest, where they differ, and its console."""
    machines = machines_of(spec)
    for name, found, expected in (
        ("guests", checkpoint.guests, len(spec.vm.guests)),
        ("lines", checkpoint.lines, machines),
    ):
        if len(found) != expected:
            raise DiscoError(
                f"damaged checkpoint: {name} of other machines", file=file,
                expected=f"{expected} for {machines} machines", found=str(len(found)),
            )  # fmt: skip


def _contexts_shape(shape: tuple[int, ...], file: Path) -> tuple[int, int]:
    """Return the shape of the table of contexts, which is not given by the specification."""
    if len(shape) == 2 and FEWEST_CONTEXTS <= shape[0] <= MOST_CONTEXTS:
        if shape[1] == CONTEXT_WORDS:
            return shape[0], shape[1]
    expected = f"{FEWEST_CONTEXTS} to {MOST_CONTEXTS} x {CONTEXT_WORDS}"
    raise DiscoError(
        "an array of another machine", file=file, expected=f"machine.contexts of {expected}",
        found=describe("i8", shape),
    )  # fmt: skip


def _check_facts(machine: Machine, memory: Memory, checkpoint: Checkpoint) -> None:
    """Raise DiscoError unless the checkpoint says in words what its arrays hold."""
    words = msgspec.to_builtins(checkpoint.state)
    told = {**machine_state.facts(machine, memory), "names": machine_state.process_names(machine)}
    for name, value in told.items():
        found = checkpoint.process_names if name == "names" else words[name]
        if msgspec.to_builtins(value) != found:
            raise DiscoError(
                f"the {name} in {CHECKPOINT} are not those of the arrays",
                expected=str(value)[:200],
                found=str(found)[:200],
            )


def _record(machine: Machine, memory: Memory, state: State) -> Snapshot:
    """Return what a resumed trace begins with: all but the contents of memory."""
    facts = msgspec.to_builtins(state)
    del facts["arrays"]
    arrays = {f"memory.{name}": getattr(memory, name) for name in memory_state.SAVED}
    arrays |= {
        f"machine.{name}": getattr(machine, name)
        for name in machine_state.SAVED
        if name not in machine_state.CONTENTS
    }
    return Snapshot(facts, arrays)
