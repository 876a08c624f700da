"""Make the contents of disks: image files, numbers that a guest can check, and files of a guest.

A disk of files begins with a page that the library OS reads (words are little-endian): magic,
version, number of files, pages of the disk; from byte 64 on an entry of 64 bytes a file: a name of
up to 47 bytes ended by zeros, first page, length in bytes. A file is one extent of pages.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from disco_trace.config.text import parse_size
from disco_trace.errors import DiscoError

if TYPE_CHECKING:
    from disco_trace.guest.resolve import Guest

SECTOR: Final = 512
PAGE: Final = 4096
PATTERN: Final = "pattern:"
READ_ONLY: Final = "ro:"
# A persistent disk: `keep:FILE`, or `keep@N:FILE` for machine N.
KEEP: Final = re.compile(r"keep(?:@(\d{1,2}))?:")
# What is generated is held in memory.
MOST_PATTERN: Final = 1 << 30
DISK_SUFFIX: Final = ".disk"

MAGIC: Final = 0x53465444  # "DTFS"
VERSION: Final = 1
ENTRY: Final = 64
NAME_BYTES: Final = 48
MOST_FILES: Final = PAGE // ENTRY - 1


@dataclass(frozen=True)
class Disk:
    """Hold a disk: its name, its content as uint32 words in whole sectors, SHA-256 of the content.

    The words may be written: a file's are a private mapping, the file stays as it is. Of a
    persistent disk, `file` is what takes the content when the run is over, `vm` who mounts it.
    """

    name: str
    words: np.ndarray[Any, Any]
    read_only: bool
    sha256: str
    file: Path | None = None
    vm: int = 0

    @property
    def words_of(self) -> str:
        """Return the disk as it stands in a trace: with its name for its place."""
        return (
            f"keep@{self.vm}:{self.name}" if self.file else f"{'ro:' * self.read_only}{self.name}"
        )


def open_disk(text: str) -> Disk:
    """Return the disk that a word names: `[ro:]FILE`, `[ro:]pattern:SIZE`, `keep[@VM]:FILE`.

    Raises DiscoError.
    """
    if keep := KEEP.match(text):
        path = Path(text[keep.end() :])
        found = _map(path, False)
        # Its folder, too: the file is replaced by a new one.
        writable = os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK)
        if not writable or not path.resolve().is_file():
            raise DiscoError(
                "a persistent disk cannot be written",
                file=path,
                expected="a file that may be written, in a folder that may be",
            )
        return replace(found, file=path.resolve(), vm=int(keep[1] or 0))
    name = text.removeprefix(READ_ONLY)
    read_only = name != text
    if name.startswith(("keep:", "keep@")):
        raise DiscoError(
            "malformed persistent disk",
            expected="keep:FILE, or keep@N:FILE for machine N below 100",
            found=text,
        )
    if name.startswith(PATTERN):
        return make_disk(name, pattern(name, SECTOR), read_only)
    return _map(Path(name), read_only)


def make_disk(name: str, words: np.ndarray[Any, Any], read_only: bool = False) -> Disk:
    """Return a disk of words that are in memory."""
    return Disk(name, words, read_only, hashlib.sha256(words.tobytes()).hexdigest())


def _map(path: Path, read_only: bool) -> Disk:
    try:
        size = path.stat().st_size
        if size == 0 or size % SECTOR:
            raise DiscoError(
                "not a disk image",
                file=path,
                expected=f"whole sectors of {SECTOR} bytes",
                found=f"{size} bytes",
            )
        # Copy on write: what the guest writes stays in this process.
        words = np.memmap(path, "<u4", "c").view(np.ndarray)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "cannot be mapped"
        raise DiscoError(f"no disk image: {reason}", file=path, expected="an image file") from error
    return Disk(path.name, words, read_only, sha256)


def write_back(file: Path, words: np.ndarray[Any, Any], mounted: str) -> int:
    """Replace a persistent disk's file by its new content; return how many sectors changed.

    All at once: the file has the old content or the new. `mounted`: SHA-256 of what it had when the
    machine started. Raises DiscoError if it cannot be written, or if others have written to it.
    """
    try:
        old = np.fromfile(file, np.uint32)
        if old.shape != words.shape:
            raise DiscoError(
                "a persistent disk has changed its size during the run", file=file,
                expected=f"{words.nbytes} bytes", found=f"{old.nbytes} bytes",
            )  # fmt: skip
        if hashlib.sha256(old.tobytes()).hexdigest() != mounted:
            raise DiscoError(
                "a persistent disk was written by others during the run: it stays as they left it",
                file=file, expected="what it held when the machine started",
            )  # fmt: skip
        changed = (old != words).reshape(-1, SECTOR // 4).any(axis=1)
        if changed.any():
            with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as new:
                try:
                    words.tofile(new)
                    new.flush()
                    os.fsync(new.fileno())
                    os.chmod(new.name, file.stat().st_mode & 0o7777)
                    os.replace(new.name, file)
                except BaseException:
                    Path(new.name).unlink(missing_ok=True)
                    raise
    except OSError as error:
        raise DiscoError(f"cannot write back a disk: {error.strerror}", file=file) from error
    return int(changed.sum())


def pattern(text: str, unit: int) -> np.ndarray[Any, Any]:
    """Return the words of `pattern:SIZE`: word i is `mix(i)` of the library OS, in whole units."""
    size = text.removeprefix(PATTERN)
    try:
        count = parse_size(size)
    except ValueError:
        count = 0
    if not 0 < count <= MOST_PATTERN or count % 4:
        raise DiscoError(
            "bad size of a pattern", expected="4 bytes to 1 GiB in whole words", found=repr(text)
        )
    words = np.zeros(-(-count // unit) * unit // 4, np.uint32)
    words[: count // 4] = mix(np.arange(count // 4, dtype=np.uint32))
    return words


def mix(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the bijection of 32-bit words in `libos.h`: the finaliser of MurmurHash3."""
    x = values ^ values >> np.uint32(16)
    x = x * np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x = x * np.uint32(0xC2B2AE35)
    return x ^ x >> np.uint32(16)


def needs_folder(disk: str | None, files: Mapping[str, str]) -> bool:
    """Tell whether a guest's disk holds files of its folder, and not only patterns."""
    contents = [*files.values(), *([disk] if disk else [])]
    return any(not text.removeprefix(READ_ONLY).startswith(PATTERN) for text in contents)


def guest_disk(disk: str | None, files: Mapping[str, str], folder: Path) -> Disk | None:
    """Return the disk that a guest's description asks for, from files of `folder`; None for none.

    disk: as for `open_disk`, relative to the folder. files: contents by name.
    """
    if disk is not None:
        name = disk.removeprefix(READ_ONLY)
        if name.startswith(PATTERN):
            return open_disk(disk)
        return open_disk(disk[: len(disk) - len(name)] + str(folder / name))
    return make_disk("files", _file_system(files, folder)) if files else None


def own_disk(guest: Guest) -> Disk | None:
    """Return the disk that a guest brings along, or None.

    Patterns are generated; what came from files of the guest's folder stands beside its image,
    where `guests build` put it. Raises DiscoError if it is not there.
    """
    if not needs_folder(guest.disk, guest.files):
        return guest_disk(guest.disk, guest.files, guest.image.parent)
    path = guest.image.with_suffix(DISK_SUFFIX)
    if not path.is_file():
        raise DiscoError(
            "the guest's disk is missing",
            file=path,
            expected="the disk that `guests build` writes beside the image",
            hint="disco-trace guests build DIR",
        )
    read_only = guest.disk is not None and guest.disk.startswith(READ_ONLY)
    return open_disk(f"{READ_ONLY if read_only else ''}{path}")


def _file_system(files: Mapping[str, str], folder: Path) -> np.ndarray[Any, Any]:
    """Return the words of a disk of files, in the order of their names."""
    if len(files) > MOST_FILES:
        raise DiscoError(
            "too many files on a guest's disk", expected=str(MOST_FILES), found=str(len(files))
        )
    parts: list[np.ndarray[Any, Any]] = []
    table = b""
    page = 1
    for name, text in sorted(files.items()):
        if not 0 < len(name.encode()) < NAME_BYTES or "\0" in name:
            raise DiscoError(
                "bad name of a file on a guest's disk",
                expected=f"1 to {NAME_BYTES - 1} bytes",
                found=repr(name)[:80],
            )
        if text.startswith(PATTERN):
            words, size = pattern(text, PAGE), parse_size(text.removeprefix(PATTERN))
        else:
            data = _read(folder / text)
            size = len(data)
            words = np.frombuffer(data + bytes(-size % PAGE), "<u4")
        table += struct.pack("<48sII8x", name.encode(), page, size)
        parts.append(words)
        page += 4 * len(words) // PAGE
    first = struct.pack("<4I48x", MAGIC, VERSION, len(files), page) + table
    return np.concatenate([np.frombuffer(first.ljust(PAGE, b"\0"), "<u4"), *parts])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DiscoError(f"cannot read: {error.strerror}", file=path) from error
