"""Put files and directories where a reader sees all of them or nothing."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from disco_trace.errors import EXIT_MISSING, DiscoError

_LOCK: Final = ".lock"
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write below `path` into one clear line."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise DiscoError(
            "the disk is full" if full else f"cannot write: {error.strerror or error}",
            file=error.filename or path,
            hint="free some space, or choose another place with -o" if full else None,
            exit_code=EXIT_MISSING if full else 2,
        ) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a small file so that a reader finds the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    os.replace(temporary, path)


class Staging:
    """Hold a directory under construction: the place itself, or a hidden sibling of it.

    A fresh trace is written in place, so that a killed capture leaves a readable prefix under its
    own name. Whatever replaces something, and every run, is written to a hidden sibling and put in
    place by one rename. The directory is locked while its writer lives; the kernel drops the lock
    of a killed one, so its leftovers can be told from work in progress.
    """

    def __init__(
        self, target: Path, *, force: bool, hidden: bool, replaceable: Callable[[Path], bool]
    ) -> None:
        """Create the directory.

        Raises `DiscoError` if `target` exists and either `force` is false or `replaceable(target)`
        is, or if another process is writing it.
        """
        self.target = target
        exists = target.exists() and not _is_empty_directory(target)
        if exists and not force:
            raise DiscoError(
                "exists already", file=target, hint="--force replaces it, -o writes elsewhere"
            )
        if exists and not replaceable(target):
            raise DiscoError(
                "exists and is not ours to replace",
                file=target,
                expected="a directory that disco-trace wrote",
                found="a directory" if target.is_dir() else "a file",
                hint="choose another place with -o",
            )
        if exists:
            _refuse_if_locked(target)
        with disk_errors(target):
            self.path = target.with_name(f".{target.name}.new") if exists or hidden else target
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(exist_ok=True)
            self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR, 0o644)
            self._acquire()
            for leftover in self.path.iterdir():
                if leftover.name != _LOCK:
                    _remove(leftover)

    def _acquire(self) -> None:
        if not _try_lock(self._lock):
            os.close(self._lock)
            raise _busy(self.target)

    def commit(self) -> None:
        """Put the directory in its place (replacing what is there) and release the lock."""
        with disk_errors(self.target):
            (self.path / _LOCK).unlink(missing_ok=True)
            if self.path != self.target:
                if self.target.exists():
                    _exchange(self.path, self.target)
                    _remove(self.path)
                else:
                    os.rename(self.path, self.target)
            os.close(self._lock)

    def abandon(self) -> None:
        """Delete what was written; what stood in the place before stays untouched."""
        _remove(self.path)
        os.close(self._lock)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _refuse_if_locked(path: Path) -> None:
    """Raise if a living process writes `path` in place: replacing it would pull the rug away."""
    try:
        descriptor = os.open(path / _LOCK, os.O_RDWR)
    except OSError:
        return
    try:
        if not _try_lock(descriptor):
            raise _busy(path)
    finally:
        os.close(descriptor)


def _busy(path: Path) -> DiscoError:
    return DiscoError(
        "another process is writing here",
        file=path,
        hint="wait for it, or write elsewhere with -o",
    )


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and all(entry.name == _LOCK for entry in path.iterdir())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _exchange(a: Path, b: Path) -> None:
    """Swap two directories in one step where the kernel can, else in two renames."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        renameat2 = None
    if renameat2 is not None and not renameat2(
        _AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE
    ):
        return
    aside = b.with_name(f".{b.name}.old")
    _remove(aside)
    os.rename(b, aside)
    os.rename(a, b)
    os.rename(aside, a)
