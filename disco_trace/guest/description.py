"""Read `guest.toml`, which says what a guest is: phases, arguments, the machine it is meant for."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from disco_trace.errors import DiscoError

Segment = Literal["kseg0", "supervisor"]

# A phase number is the immediate of an `addiu`, positive.
MAX_PHASE: Final = 32767


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Describe a guest.

    arguments: what it gets if none are given. demo, ci: smaller ones, for `disco-trace demo` and
    for tests. machine: preset that it is meant for. segments: where its kernel can be linked, in
    KSEG0 or in the mapped supervisor segment; the first is the guest's own name, the other gets
    `-sseg` behind it. phases: names by number. disk: a disk of the guest's own, a file or
    `pattern:SIZE`, with `ro:` before it if it refuses writes; or files: a disk with these files,
    name = "file of the folder" or "pattern:SIZE".
    """

    description: str
    arguments: tuple[str, ...] = ()
    demo: tuple[str, ...] = ()
    ci: tuple[str, ...] = ()
    machine: str | None = None
    segments: tuple[Segment, ...] = ("kseg0",)
    phases: dict[int, str] = {}
    disk: str | None = None
    files: dict[str, str] = {}


def read_description(path: Path) -> Description:
    """Return the description in a TOML file; DiscoError names what is wrong with it."""
    try:
        text = path.read_bytes()
        # TOML keys are strings; `strict=False` lets the numbers of phases be read from them.
        found = msgspec.toml.decode(text, type=Description, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as raised:
        raise DiscoError(
            "not a description of a guest",
            file=path,
            expected="the keys description, arguments, demo, ci, machine, segments, phases, disk, "
            "files",
            found=str(raised),
        ) from raised
    wrong = [number for number in found.phases if not 0 < number <= MAX_PHASE]
    if wrong:
        raise DiscoError(
            "a phase has an impossible number",
            file=path,
            expected=f"1 to {MAX_PHASE}",
            found=str(wrong[0]),
        )
    if found.disk is not None and found.files:
        raise DiscoError("two disks", file=path, expected="disk or files", found="disk and files")
    if not found.segments:
        raise DiscoError("no segments", file=path, expected="kseg0, supervisor or both", found="[]")
    return found
