"""Keep and check the lock file of the prebuilt images: what they are and what they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from disco_trace.errors import DiscoError

LOCK_NAME: Final = "images.lock.json"


class Locked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Record one image: its SHA-256 and size, and sources, compiler and segment it came from."""

    sha256: str
    bytes: int
    source_sha256: str
    compiler: str
    segment: str


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold the lock file: images by file name."""

    images: dict[str, Locked] = {}


def read_lock(folder: Path) -> Lock:
    """Return the lock file of a folder of images; DiscoError if it is missing or broken."""
    path = folder / LOCK_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Lock)
    except OSError as raised:
        raise DiscoError("the lock file of the images is missing", file=path) from raised
    except msgspec.DecodeError as raised:
        raise DiscoError("a broken lock file", file=path, found=str(raised)) from raised


def write_lock(folder: Path, entries: dict[str, Locked]) -> None:
    """Add or replace entries of the lock file; entries of images that are gone are dropped."""
    path = folder / LOCK_NAME
    images = dict(read_lock(folder).images) if path.exists() else {}
    images.update(entries)
    kept = {name: images[name] for name in sorted(images) if (folder / name).exists()}
    text = msgspec.json.format(msgspec.json.encode(Lock(kept)), indent=2)
    path.write_bytes(text + b"\n")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def source_sha256(roots: Iterable[Path]) -> str:
    """Return one SHA-256 over source files below some folders: relative names and contents.

    Names, not places, enter the sum: a checkout and an installed wheel agree.
    """
    total = hashlib.sha256()
    for root in roots:
        for path in sorted(root.rglob("*"), key=lambda path: path.relative_to(root).as_posix()):
            if path.suffix in (".c", ".h", ".S", ".ld"):
                name = f"{root.name}/{path.relative_to(root).as_posix()}"
                total.update(f"{name}\0{file_sha256(path)}\n".encode())
    return total.hexdigest()


@cache
def verify_image(image: Path) -> None:
    """Raise DiscoError if a prebuilt image is not the one that the lock file names."""
    locked = read_lock(image.parent).images.get(image.name)
    if locked is None:
        raise DiscoError("this image is not in the lock file", file=image)
    found = file_sha256(image)
    if found != locked.sha256:
        raise DiscoError(
            "this image is not the one that was built",
            file=image,
            expected=f"SHA-256 {locked.sha256}",
            found=found,
            hint="install disco-trace again, or rebuild the guest: disco-trace guests build DIR",
        )


def stale_images(capture: Path) -> list[str]:
    """Return the names of prebuilt images whose sources have changed since they were built."""
    lib, stale = capture / "lib", []
    for name, locked in read_lock(capture / "images").images.items():
        folder = capture / "guests" / Path(name).stem.removesuffix("-sseg")
        if source_sha256([lib, folder]) != locked.source_sha256:
            stale.append(name)
    return stale
