"""Say in what state a machine was: facts that every reader understands, and arrays that few need.

A checkpoint holds the state of the whole machine. A trace that was captured from one begins with a
*state record*, the folder `state`: the same without the contents of memory, enough for a replay to
start where the capture did. A trace without one started cold, and its manifest says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from disco_trace.errors import DiscoError
from disco_trace.trace.arrays import Array, ArrayEntry, check_entries, verify_array, write_array
from disco_trace.trace.digest import sha256_of
from disco_trace.trace.manifest import read_json
from disco_trace.trace.storage import disk_errors, write_atomically

STATE_VERSION: Final = 1
STATE_FOLDER: Final = "state"
STATE: Final = "state.json"
# The families of rows, each in a buffer of its own while a machine runs.
FAMILIES: Final = ("refs", "pages", "control")

_Count = Annotated[int, Meta(ge=0, le=2**62)]
_Small = Annotated[int, Meta(ge=0, lt=2**31)]
_Half = Annotated[int, Meta(ge=0, lt=2**16)]


class ContextState(msgspec.Struct, frozen=True, array_like=True):
    """Say what a context id stands for; `process` is 1 + the number of its name, 0 for none."""

    vm: _Half
    vcpu: _Half
    asid: _Half
    phase: _Small
    process: _Small


class ProcessState(msgspec.Struct, frozen=True, array_like=True):
    """Say which name (an index into `process_names`) an address space has."""

    vm: _Half
    asid: _Half
    name: _Small


class CpuState(msgspec.Struct, frozen=True, kw_only=True):
    """Say where a CPU was: its clock, its context (with mode), its open phases from the outermost.

    `retired` counts its instructions since the guest began.
    """

    cycle: _Count
    retired: _Count
    context: _Small
    waiting: bool
    phases: list[_Small]


class VcpuState(msgspec.Struct, frozen=True, array_like=True):
    """Say where a virtual CPU was: its CPU (or home), its context, its open phases."""

    vm: _Half
    vcpu: _Half
    cpu: _Half
    context: _Small
    phases: list[_Small]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Describe the state of a machine.

    `seq` is the number of the next row; `rows` counts those before it by family, `instructions`
    those of all CPUs. `base` holds what each CPU had counted (see `accounts.per_cpu`). `layout`
    names, by part of the program, the meaning of the words in its arrays. `vcpus` are those of
    virtual machines, whose phases stand there and not with the CPUs.
    """

    seq: _Count
    instructions: _Count
    rows: dict[str, _Count]
    cpus: list[CpuState]
    contexts: list[ContextState]
    processes: list[ProcessState]
    base: list[dict[str, _Count]]
    layout: dict[str, str]
    arrays: dict[str, ArrayEntry]
    vcpus: list[VcpuState] = []

    def open_phases(self) -> dict[tuple[int, int], list[int]]:
        """Return the open phases, outermost first, by (machine, virtual CPU)."""
        if self.vcpus:
            return {(each.vm, each.vcpu): list(each.phases) for each in self.vcpus}
        return {(0, number): list(cpu.phases) for number, cpu in enumerate(self.cpus)}


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Name the phase whose opening a checkpoint was saved at."""

    number: _Small
    name: str


class StateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Hold `state/state.json`: the state that a trace starts in, and the checkpoint it is of."""

    format_version: int
    checkpoint: str
    phase: Mark
    state: State


@dataclass(frozen=True)
class Snapshot:
    """Hold a state in memory: the fields of `State` but `arrays`, and the arrays themselves."""

    facts: dict[str, Any]
    arrays: dict[str, Array]


@dataclass(frozen=True)
class Start:
    """Hold what a trace starts from: a checkpoint's id and phase, and the state for its record."""

    checkpoint: str
    phase: Mark
    snapshot: Snapshot


def write_state(folder: Path, snapshot: Snapshot) -> State:
    """Write a state's arrays below `folder` (which exists); return their description."""
    entries = {name: write_array(folder, name, array) for name, array in snapshot.arrays.items()}
    values = {**snapshot.facts, "arrays": {k: msgspec.to_builtins(v) for k, v in entries.items()}}
    return msgspec.convert(values, State)


def write_record(folder: Path, checkpoint: str, phase: Mark, snapshot: Snapshot) -> StateRecord:
    """Write a trace's state record to its folder `state`, which is made."""
    with disk_errors(folder):
        folder.mkdir()
    record = StateRecord(
        format_version=STATE_VERSION,
        checkpoint=checkpoint,
        phase=phase,
        state=write_state(folder, snapshot),
    )
    text = json.dumps(msgspec.to_builtins(record), indent=1) + "\n"
    with disk_errors(folder):
        write_atomically(folder / STATE, text.encode())
    return record


def read_record(folder: Path) -> StateRecord:
    """Read a trace's state record; its arrays are read later, by who needs them.

    Raises `DiscoError` if it is missing, damaged, or of another version.
    """
    file = folder / STATE
    values = read_json(file, missing="the state that the trace starts in is missing")
    check_version(values, file, "state record")
    record = convert(values, StateRecord, file, "state record")
    check_state(record.state, file)
    return record


def record_id(record: StateRecord) -> str:
    """Name a state record by its content (hex), whatever library wrote its files."""
    values = msgspec.to_builtins(record)
    values["state"] = state_content(record.state)
    return sha256_of(values)


def state_content(state: State) -> dict[str, Any]:
    """Return a state as JSON types, each array by its values alone."""
    values = msgspec.to_builtins(state)
    values["arrays"] = {
        name: [entry.dtype, list(entry.shape), entry.content]
        for name, entry in sorted(state.arrays.items())
    }
    return dict(values)


def check_version(values: Mapping[str, Any], file: Path, what: str) -> None:
    """Raise `DiscoError` unless a document is of a version that this program reads."""
    version = values.get("format_version")
    if version != STATE_VERSION:
        raise DiscoError(
            f"this {what} was written by another version of this program",
            file=file,
            expected=f"format_version {STATE_VERSION}",
            found=str(version),
        )


def convert(values: Mapping[str, Any], kind: Any, file: Path, what: str) -> Any:
    """Return a document as the struct `kind`; raise `DiscoError` for the first wrong field."""
    try:
        return msgspec.convert(values, kind, str_keys=True, strict=True)
    except msgspec.ValidationError as error:
        raise DiscoError(
            f"damaged {what}", file=file, expected=f"the fields of a {what}", found=str(error)
        ) from None


def check_state(state: State, file: Path) -> None:
    """Raise `DiscoError` where the facts of a state contradict each other."""
    check_entries(state.arrays, file)
    contexts = 4 * len(state.contexts)
    for number, cpu in enumerate(state.cpus):
        if cpu.context >= contexts:
            raise DiscoError(
                f"CPU {number} is in a context that there is not",
                file=file,
                expected=f"below {contexts}",
                found=str(cpu.context),
            )
    for each in state.vcpus:
        if each.context >= contexts or each.cpu >= len(state.cpus):
            raise DiscoError(
                f"virtual CPU {each.vcpu} of machine {each.vm} is where there is nothing",
                file=file,
                expected=f"context below {contexts}, CPU below {len(state.cpus)}",
                found=f"context {each.context}, CPU {each.cpu}",
            )
    if set(state.rows) != set(FAMILIES):
        raise DiscoError(
            "damaged counts of rows", file=file, expected=", ".join(FAMILIES),
            found=", ".join(state.rows),
        )  # fmt: skip
    if len(state.base) != len(state.cpus):
        raise DiscoError(
            "the counters are not those of the CPUs",
            file=file,
            expected=f"{len(state.cpus)} CPUs",
            found=str(len(state.base)),
        )


def check_layout(state: State, layout: Mapping[str, str], file: Path) -> None:
    """Raise `DiscoError` if the arrays' words mean something else to this version."""
    for part, expected in layout.items():
        found = state.layout.get(part)
        if found != expected:
            raise DiscoError(
                f"the state of the {part} was saved by another version of this program",
                file=file,
                expected=f"layout {expected}",
                found=found or "none",
                hint="resume and replay it with the version that saved it, or capture it again",
            )


def verify_state(folder: Path, state: State) -> None:
    """Read every array of a state; raise `DiscoError` for the first that is damaged."""
    for name, entry in state.arrays.items():
        verify_array(folder, name, entry)
