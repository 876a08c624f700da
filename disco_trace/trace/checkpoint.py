"""Keep a whole machine on disk, so that a capture can go on from it on another day.

A checkpoint is a folder: `checkpoint.json`, one Parquet file for each array of the machine, and the
guest's symbols. It needs no other file: neither the trace that it was saved from nor the image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from disco_trace.errors import DiscoError
from disco_trace.trace.digest import sha256_of
from disco_trace.trace.encoding import SCHEMAS
from disco_trace.trace.manifest import Guest, SymbolsPart, read_json
from disco_trace.trace.parts import read_file
from disco_trace.trace.state import (
    STATE_VERSION,
    Mark,
    Snapshot,
    State,
    check_state,
    check_version,
    convert,
    state_content,
    verify_state,
    write_state,
)
from disco_trace.trace.storage import Staging, disk_errors, write_atomically
from disco_trace.trace.symbols import write_symbols

CHECKPOINT: Final = "checkpoint.json"
CHECKPOINTS: Final = "checkpoints"
SYMBOLS_FILE: Final = "symbols.parquet"
_FOLDER: Final = re.compile(r"\w[\w.-]{0,99}", re.ASCII)


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Hold `checkpoint.json`.

    `image` is the SHA-256 of the guest's image alone, where `guest.sha256` covers all that was
    loaded. `config` is the resolved specification that the machine was built from. Of virtual
    machines, `guests` are what each runs where they differ, `mounted` which of the guest's disks
    each has, `lines` what each has printed since its last line ended.
    """

    format_version: int
    guest: Guest
    image: str
    config: dict[str, Any]
    seeds: dict[str, int]
    phase: Mark
    process_names: list[str]
    symbols: SymbolsPart | None
    state: State
    guests: list[Guest] = []
    mounted: list[list[int]] = []
    lines: list[str] = []


def write_checkpoint(
    path: Path, head: Mapping[str, Any], snapshot: Snapshot, symbols: Mapping[str, Any]
) -> Checkpoint:
    """Write a checkpoint to the folder `path`, which appears whole or not at all.

    `head` holds the fields of `Checkpoint` that are neither state nor symbols, in JSON types.
    """
    staging = Staging(path, force=True, hidden=True, replaceable=is_checkpoint)
    try:
        state = write_state(staging.path, snapshot)
        values = {
            "format_version": STATE_VERSION,
            **head,
            "symbols": msgspec.to_builtins(write_symbols(staging.path / SYMBOLS_FILE, symbols)),
            "state": msgspec.to_builtins(state),
        }
        checkpoint = msgspec.convert(values, Checkpoint, str_keys=True)
        text = json.dumps(msgspec.to_builtins(checkpoint, str_keys=True), indent=1) + "\n"
        with disk_errors(staging.path):
            write_atomically(staging.path / CHECKPOINT, text.encode())
    except BaseException:
        staging.abandon()
        raise
    staging.commit()
    return checkpoint


def read_checkpoint(path: Path) -> Checkpoint:
    """Read `checkpoint.json` in the folder `path`; nothing beyond it is read.

    Raises `DiscoError` if there is no checkpoint, or one that is damaged or of another version.
    """
    file = path / CHECKPOINT
    values = read_json(file, missing="no checkpoint here")
    check_version(values, file, "checkpoint")
    checkpoint: Checkpoint = convert(values, Checkpoint, file, "checkpoint")
    check_state(checkpoint.state, file)
    return checkpoint


def checkpoint_id(checkpoint: Checkpoint) -> str:
    """Name a checkpoint by its content (hex): the same on any host, with any library."""
    values = msgspec.to_builtins(checkpoint, str_keys=True)
    values["state"] = state_content(checkpoint.state)
    values["symbols"] = checkpoint.symbols.content if checkpoint.symbols else None
    return sha256_of(values)


def read_symbols(path: Path, checkpoint: Checkpoint) -> pa.Table:
    """Return the guest's symbol table, verified."""
    part = checkpoint.symbols
    if part is None:
        return SCHEMAS["symbols"].empty_table()
    return read_file(
        path / SYMBOLS_FILE,
        SCHEMAS["symbols"],
        rows=part.rows,
        size=part.bytes,
        sha256=part.sha256,
    )


def verify_checkpoint(path: Path) -> Checkpoint:
    """Read every file of a checkpoint; raise `DiscoError` for the first that is damaged."""
    checkpoint = read_checkpoint(path)
    read_symbols(path, checkpoint)
    verify_state(path, checkpoint.state)
    return checkpoint


def folder_name(phase: Mark) -> str:
    """Return the name of the folder of a phase's checkpoint: its name, or where odd its number."""
    return phase.name if _FOLDER.fullmatch(phase.name) else str(phase.number)


def is_checkpoint(path: Path) -> bool:
    """Tell whether a folder holds a checkpoint."""
    return (path / CHECKPOINT).is_file()


def list_checkpoints(trace: Path) -> list[Path]:
    """Return the checkpoints of a trace, by name."""
    folder = trace / CHECKPOINTS
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and is_checkpoint(p))


def checkpoint_folder(path: Path) -> Path:
    """Return the folder of a checkpoint, which may be named by its `checkpoint.json`.

    Raises `DiscoError`, naming the checkpoints of a trace where one is given instead.
    """
    folder = path.parent if path.name == CHECKPOINT else path
    if is_checkpoint(folder):
        return folder
    inside = [str(each) for each in list_checkpoints(folder)]
    raise DiscoError(
        "no checkpoint here",
        file=path,
        expected=f"a folder with {CHECKPOINT}",
        found="a trace" if (folder / "manifest.json").is_file() else
        "a folder without one" if folder.is_dir() else "a file" if folder.exists() else "nothing",
        hint=f"its checkpoints: {', '.join(inside)}" if inside else
        "--save-at PHASE saves one while a guest runs",
    )  # fmt: skip
