"""Set up Numba, and compile the kernels once with something to look at meanwhile.

`prepare()` must run before Numba is first imported: the cache directory is read at import. The
directory is keyed by this package's version, Numba's version and the kernels' own sources, so that
an edited kernel never meets a stale caller (Numba itself checks only the file of the function).
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

KERNEL_FOLDERS = ("memory", "machine", "monitor")
# What of them holds no compiled code, nor numbers that it uses: a change needs no compiling.
PLAIN_FILES = ("arguments.py", "final.py", "slot_state.py", "state.py")
COMPILER_SETTINGS = (
    "NUMBA_BOUNDSCHECK",
    "NUMBA_OPT",
    "NUMBA_LOOP_VECTORIZE",
    "NUMBA_SLP_VECTORIZE",
)
# The files of what Python enters; Numba keeps compiled code by them.
KERNEL_FILES = ("machine/kernel.py", "replay/kernel.py")


def simulator_id() -> str:
    """Return sixteen digits that change with the sources of the machine, and so with its traces."""
    return _sources().hexdigest()[:16]


def _sources() -> Any:
    """Return a hash over the sources of all kernels."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for folder in KERNEL_FOLDERS:
        for file in sorted((package / folder).rglob("*.py")):
            if file.name not in PLAIN_FILES:
                digest.update(file.name.encode())
                digest.update(file.read_bytes())
    digest.update((package / "trace" / "schema.py").read_bytes())
    parts = ("compile.py", "jit.py", "linking.py", "places.py", "state.py", "replay/kernel.py")
    for file in (package / part for part in parts):
        digest.update(file.read_bytes())
    return digest


def cache_folder() -> Path:
    """Return the folder of compiled kernels, below the user's cache directory."""
    digest = _sources()
    for name in COMPILER_SETTINGS:
        digest.update(os.environ.get(name, "").encode())
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = f"py{sys.version_info[0]}{sys.version_info[1]}"
    return root / "disco-trace" / f"{python}-{digest.hexdigest()[:16]}"


def prepare() -> Path:
    """Point Numba's cache at `cache_folder()`; return it. Call before any kernel is imported.

    A folder that cannot be made (a read-only home) falls back to a folder in the temporary
    directory, so that compiling still happens once a machine rather than once a run.
    """
    if "numba" in sys.modules:
        return Path(os.environ.get("NUMBA_CACHE_DIR", "."))
    # LLVM's first level of optimisation: a seventh less to wait for than its third (58 s of 69),
    # and kernels that are no slower (six captures and replays, each within the noise).
    os.environ.setdefault("NUMBA_OPT", "1")
    # Nothing in them is worth a vector: another seventh (72 s of processor time, 62), same speeds.
    os.environ.setdefault("NUMBA_LOOP_VECTORIZE", "0")
    os.environ.setdefault("NUMBA_SLP_VECTORIZE", "0")
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError
    except OSError:
        import tempfile

        folder = Path(tempfile.gettempdir()) / f"disco-trace-{os.getuid()}" / folder.name
        folder.mkdir(parents=True, exist_ok=True)
    # A process that one of ours started has that one's folder, whose settings may be others.
    inherited = os.environ.get("NUMBA_CACHE_DIR")
    if inherited is None or Path(inherited).parent == folder.parent:
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
    return folder


def load(compile_kernels: Callable[[], None]) -> float:
    """Load one stage's kernels from the cache (or compile them); return the seconds it took.

    Without the garbage collector, which would walk the half million objects of Numba's types
    again and again (measured: a quarter of the loading time).
    """
    import gc
    import time

    begin = time.perf_counter()
    enabled = gc.isenabled()
    gc.disable()
    try:
        compile_kernels()
    finally:
        if enabled:
            gc.enable()
    return time.perf_counter() - begin


def is_warm() -> bool:
    """Tell whether the kernels of this installation have been compiled here before."""
    return _mark(prepare()).exists()


def _mark(folder: Path) -> Path:
    """Return the file that says so.

    Numba finds a compiled kernel by its source file's place, time and size: the kernels of a
    second checkout or environment, or of files written anew, compile again, and must say so.
    """
    package = Path(__file__).resolve().parent
    digest = hashlib.sha256(os.fsencode(package))
    for file in (package / part for part in KERNEL_FILES):
        known = file.stat()
        digest.update(f"{known.st_mtime_ns} {known.st_size}".encode())
    return folder / f"warm-{digest.hexdigest()[:16]}"


def warm(progress: Callable[[str, float], None] | None = None) -> float:
    """Compile every kernel, calling `progress(what, fraction)`; return the seconds it took.

    Returns 0.0 at once where they are in the cache already.
    """
    import time

    folder = prepare()
    if is_warm():
        return 0.0
    start = time.perf_counter()
    from disco_trace import jit
    from disco_trace.machine import kernel as machine_kernel
    from disco_trace.replay import kernel as replay_kernel

    steps = (
        ("memory system and replay", replay_kernel.compile_kernels),
        ("the machine", machine_kernel.compile_kernels),
    )
    for what, compile_step in steps:
        with jit.watched(functools.partial(progress, what) if progress else None):
            compile_step()
    if progress:
        progress("done", 1.0)
    _mark(folder).touch()
    return time.perf_counter() - start
