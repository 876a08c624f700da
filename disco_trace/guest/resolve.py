"""Find a guest: a prebuilt one by name, or the user's own image by path."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from disco_trace.errors import DiscoError
from disco_trace.guest.description import Description, read_description
from disco_trace.guest.lock import verify_image
from disco_trace.paths import data_folder

SUPERVISOR_SUFFIX: Final = "-sseg"


@dataclass(frozen=True)
class Guest:
    """Name a guest's image and what its description says.

    machine: preset that it is meant for, or None. arguments: what it gets if none are given.
    phases: names by number; empty for an image without a description. disk, files: as in
    `Description`; `disk.own_disk` makes the disk of them.
    """

    name: str
    image: Path
    description: str = ""
    machine: str | None = None
    arguments: tuple[str, ...] = ()
    demo_args: tuple[str, ...] = ()
    ci_args: tuple[str, ...] = ()
    phases: dict[int, str] = field(default_factory=dict)
    disk: str | None = None
    files: dict[str, str] = field(default_factory=dict)


def find_guest(guest: str) -> Guest:
    """Return the guest of a name, or of a path (with a `/`, or ending in `.elf`).

    An image by path takes its description from the file of its name with `.toml` beside it, if
    there is one. Raises DiscoError where there is no such guest, or a prebuilt image is not the
    one of the lock file.
    """
    if is_path(guest):
        return _by_path(Path(guest))
    images = data_folder("capture") / "images"
    image = images / f"{guest}.elf"
    if guest not in guest_names():
        near = difflib.get_close_matches(guest, guest_names(), n=1)
        known = ", ".join(guest_names())
        raise DiscoError(
            f"no guest {guest!r}",
            expected=f"{known}, or the path of an image",
            hint=f"did you mean {near[0]!r}?" if near else "see: disco-trace guests list",
        )
    verify_image(image)
    folder = data_folder("capture") / "guests" / guest.removesuffix(SUPERVISOR_SUFFIX)
    return _guest(guest, image, read_description(folder / "guest.toml"))


def is_path(guest: str) -> bool:
    """Tell whether a guest is asked for by the path of its image, not by name."""
    return "/" in guest or guest.endswith(".elf")


def guest_to_run(word: str, *, deprivileged: bool) -> Guest:
    """Return the guest that a word names, in the form that the machine runs.

    deprivileged: its kernel must be linked in the supervisor segment; an image that is given by
    its path is taken as it is. Raises DiscoError as `find_guest`.
    """
    guest = find_guest(word)
    return supervisor_form(guest) if deprivileged and not is_path(word) else guest


def supervisor_form(guest: Guest) -> Guest:
    """Return a guest found by name in the form that runs deprivileged, if it has one.

    That is linked in the mapped supervisor segment. Raises DiscoError if it is not the lock
    file's.
    """
    image = data_folder("capture") / "images" / f"{guest.name}{SUPERVISOR_SUFFIX}.elf"
    if not image.is_file():
        return guest
    verify_image(image)
    return replace(guest, image=image)


def guest_names() -> list[str]:
    """Return the names of the prebuilt guests, sorted."""
    return sorted(path.stem for path in (data_folder("capture") / "images").glob("*.elf"))


def _by_path(path: Path) -> Guest:
    if not path.is_file():
        raise DiscoError("no such image", file=path, expected="an ELF file or raw image")
    beside = path.with_suffix(".toml")
    if not beside.is_file():
        return Guest(path.stem, path)
    return _guest(path.stem, path, read_description(beside))


def _guest(name: str, image: Path, text: Description) -> Guest:
    return Guest(
        name=name,
        image=image,
        description=text.description,
        machine=text.machine,
        arguments=text.arguments,
        demo_args=text.demo,
        ci_args=text.ci,
        phases=dict(text.phases),
        disk=text.disk,
        files=dict(text.files),
    )
