"""Say what a trace was captured from: the content of `manifest.json`.

What stands here is part of the trace's identity, except how the capture ended; host, times and
command line stand in `provenance.json`, which no id depends on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from disco_trace.errors import DiscoError
from disco_trace.trace.digest import combine, sha256_of
from disco_trace.trace.schema import FORMAT_VERSION
from disco_trace.trace.storage import write_atomically

MANIFEST: Final = "manifest.json"
PROVENANCE: Final = "provenance.json"
# Fields that say how a capture ended, and what follows from the rest.
_OUTCOME: Final = ("complete", "exit_reason", "totals", "trace_id", "segments")


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """Describe what a disk held when the capture began: SHA-256 (hex) of its content."""

    name: str
    bytes: int
    sha256: str
    read_only: bool = False
    persistent: bool = False


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """Name what ran: image name and SHA-256 (hex), arguments, names of its phases, its disks."""

    name: str
    sha256: str
    args: list[str] = []
    phases: dict[Annotated[int, msgspec.Meta(ge=0, lt=2**32)], str] = {}
    disks: list[Disk] = []


class SymbolsPart(msgspec.Struct, frozen=True, kw_only=True):
    """Describe the one part of `symbols`: rows, bytes, SHA-256 of the file and of its content."""

    rows: int
    bytes: int
    sha256: str
    content: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Hold `manifest.json`.

    `ram_pages[vm]` is the number of 4 KiB guest pages of a virtual machine (0 for a number that is
    not used; the bare machine is vm 0). `guests` is empty where every machine runs `guest`,
    otherwise it says what each runs. `l1_ways` is the larger associativity of the two
    first-level caches. `events` is false for a capture that recorded nothing but its results.
    `start` is "state" for a trace that was resumed from a checkpoint; it begins with a state record
    then, which `state` names by its content.
    """

    format_version: int
    guest: Guest
    guests: list[Guest] = []
    config: dict[str, Any]
    seeds: dict[str, int] = {}
    start: Literal["cold", "state"] = "cold"
    state: str | None = None
    cpus: int
    nodes: int
    ram_pages: list[int]
    l1_ways: int
    process_names: list[str] = []
    events: bool = True
    symbols: SymbolsPart | None = None
    complete: bool = False
    exit_reason: str = "running"
    segments: int | None = None
    totals: dict[str, Any] | None = None
    trace_id: str | None = None


def guest_of(manifest: Manifest, vm: int) -> Guest:
    """Return what a virtual machine runs (the bare machine is vm 0)."""
    return manifest.guests[vm] if vm < len(manifest.guests) else manifest.guest


def guest_names(manifest: Manifest) -> str:
    """Return what ran in a few words: `radix`, or `radix + database`."""
    return " + ".join(dict.fromkeys(g.name for g in manifest.guests or [manifest.guest]))


def build_manifest(values: dict[str, Any]) -> Manifest:
    """Check a caller's values and return the manifest (`format_version` may be left out).

    Raises `DiscoError` naming the first field that is missing or of the wrong type.
    """
    return _convert({"format_version": FORMAT_VERSION, **values}, MANIFEST)


def trace_id(manifest: Manifest, content: dict[str, str]) -> str:
    """Name a trace by what it was made from and by its rows.

    `content` maps kinds to their content digests (see `digest`). The same inputs give the same
    id on any host, at any time, in any folder, with any library version and buffer size.
    """
    essentials = msgspec.to_builtins(manifest)
    for field in _OUTCOME:
        del essentials[field]
    if manifest.format_version == 1:
        del essentials["guest"]["disks"]  # version 1 had none
    if not manifest.guests:
        del essentials["guests"]  # as in the traces of before there were any
    if manifest.state is None:
        del essentials["state"]  # as in the traces of before there were any
    if manifest.symbols is not None:
        essentials["symbols"] = manifest.symbols.content
    named = [("manifest", sha256_of(essentials)), *((f"kind {k}", d) for k, d in content.items())]
    return combine(named)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write or replace `manifest.json` atomically."""
    text = json.dumps(msgspec.to_builtins(manifest, str_keys=True), indent=1) + "\n"
    write_atomically(directory / MANIFEST, text.encode())


def read_manifest(directory: Path) -> Manifest:
    """Read `manifest.json` of a trace.

    Raises `DiscoError` if `directory` holds no trace, if the file is damaged, or if a newer
    version of the program wrote it.
    """
    path = directory / MANIFEST
    values = read_json(path, missing="no trace here")
    version = values.get("format_version")
    if not isinstance(version, int):
        raise DiscoError(
            "not the manifest of a trace",
            file=path,
            expected="a format_version",
            found=f"keys {', '.join(sorted(values)[:5]) or 'none'}",
        )
    if not 1 <= version <= FORMAT_VERSION:
        raise DiscoError(
            "the trace's format is newer than this program"
            if version > FORMAT_VERSION
            else "unknown trace format",
            file=path,
            expected=f"format_version at most {FORMAT_VERSION}",
            found=str(version),
            hint="install a newer disco-trace, or capture the guest again",
        )
    return _convert(values, path)


def read_json(path: Path, *, missing: str) -> dict[str, Any]:
    """Read a file with one JSON object; `missing` is the message where it is not there.

    Raises `DiscoError` for a file that is absent, unreadable or not one JSON object.
    """
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise DiscoError(missing, file=path, expected="the file", found="none") from None
    except OSError as error:
        raise DiscoError(f"cannot read: {error.strerror}", file=path) from error
    except (ValueError, RecursionError) as error:
        raise DiscoError(
            "damaged file", file=path, expected="one JSON object", found=str(error)
        ) from None
    if not isinstance(values, dict):
        raise DiscoError(
            "damaged file", file=path, expected="one JSON object", found=type(values).__name__
        )
    return values


def _convert(values: dict[str, Any], path: Path | str) -> Manifest:
    try:
        manifest = msgspec.convert(values, Manifest, str_keys=True, strict=True)
    except msgspec.ValidationError as error:
        raise DiscoError(
            "damaged manifest", file=path, expected="the fields of a manifest", found=str(error)
        ) from None
    if (manifest.start == "state") != (manifest.state is not None):
        raise DiscoError(
            "damaged manifest: the start is not what the state says",
            file=path,
            expected=f"a state record's id for start = {manifest.start}"
            if manifest.state is None
            else "start = state",
            found=str(manifest.state) if manifest.state is None else manifest.start,
        )
    limits = {
        "cpus": (manifest.cpus, 1, 256),
        "nodes": (manifest.nodes, 1, 256),
        "l1_ways": (manifest.l1_ways, 1, 256),
        "virtual machines": (len(manifest.ram_pages), 1, 1 << 16),
        "smallest ram_pages": (min(manifest.ram_pages, default=0), 0, 1 << 40),
        "largest ram_pages": (max(manifest.ram_pages, default=0), 1, 1 << 40),
    }
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise DiscoError(
                f"damaged manifest: {name} out of range",
                file=path,
                expected=f"{low} to {high}",
                found=str(value),
            )
    return manifest


def read_provenance(trace: Path) -> dict[str, Any]:
    """Return what a trace's folder says of where it was made; empty where that was removed."""
    path = trace / PROVENANCE
    return read_json(path, missing="") if path.exists() else {}
