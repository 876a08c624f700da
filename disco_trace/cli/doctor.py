"""Look whether this installation can do its work."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from disco_trace.cli import common
from disco_trace.errors import EXIT_MISSING

PACKAGES: Final = (
    "altair",
    "duckdb",
    "jinja2",
    "msgspec",
    "numba",
    "numpy",
    "polars",
    "pyarrow",
    "pyelftools",
    "rich",
    "tomlkit",
    "typer",
    "vl-convert-python",
)
# A demo's trace and compiled kernels take less than this.
NEEDED_BYTES: Final = 500 << 20


@dataclass(frozen=True)
class Finding:
    """Hold one line of the doctor's list; `ok` is None for what is optional and absent."""

    what: str
    ok: bool | None
    detail: str


def doctor(
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the kernels now, ahead of their first use.")
    ] = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Look whether this installation can do its work; exit code 3 if something is missing.

    Examples:

    \b
        disco-trace doctor
        disco-trace doctor --compile
    """
    with common.verb("doctor", json=json, quiet=quiet) as out:
        from disco_trace import compile as kernels

        seconds = 0.0
        if compile:
            with out.progress("compiling") as progress:
                seconds = kernels.warm(progress.fraction)
            out.say(
                f"compiled in {seconds:.1f} s" if seconds else "the kernels were compiled before"
            )
        findings = look()
        marks = {True: "ok     ", False: "MISSING", None: "absent "}
        for finding in findings:
            out.say(f"{marks[finding.ok]}  {finding.what}: {finding.detail}")
        out.set(
            findings=findings,
            compile_seconds=seconds,
            compiled=kernels.is_warm(),
            cache=kernels.prepare(),
        )
        if any(finding.ok is False for finding in findings):
            out.exit_code = EXIT_MISSING
        elif not kernels.is_warm():
            out.next("doctor", "--compile")
        else:
            out.next("demo")


def look() -> list[Finding]:
    """Return what was found, in the order in which things are needed. Imports nothing heavy."""
    from disco_trace import __version__
    from disco_trace import compile as kernels

    version = ".".join(str(part) for part in sys.version_info[:3])
    found = [
        Finding("disco-trace", True, __version__),
        Finding("Python", sys.version_info >= (3, 11), f"{version} (3.11 or later is needed)"),
        *(_package(name) for name in PACKAGES),
        *(_data(name) for name in ("capture", "reports")),
        _images(),
        _disk(Path.cwd()),
        _writable("kernel cache", kernels.prepare()),
        Finding(
            "kernels",
            True,
            "compiled" if kernels.is_warm() else "compiled at first use (about a minute)",
        ),
        _compiler(),
    ]
    return found


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "not installed: install disco-trace again")


def _data(name: str) -> Finding:
    from disco_trace.paths import data_folder

    try:
        folder = data_folder(name)
    except OSError as error:
        return Finding(f"data folder {name}", False, str(error))
    return Finding(f"data folder {name}", True, str(folder))


def _images() -> Finding:
    from disco_trace.paths import data_folder

    images = sorted(path.stem for path in (data_folder("capture") / "images").glob("*.elf"))
    detail = ", ".join(images) or "none: no guest is built"
    return Finding("prebuilt guests", bool(images), detail)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    detail = f"{free / 2**30:.1f} GiB free here (a demo needs {NEEDED_BYTES / 2**30:.1f})"
    return Finding("disk space", free >= NEEDED_BYTES, detail)


def _writable(what: str, folder: Path) -> Finding:
    return Finding(what, os.access(folder, os.W_OK), str(folder))


def _compiler() -> Finding:
    """Say whether own guests can be built; without, the prebuilt ones still run."""
    what = "compiler for own guests"
    if gcc := shutil.which("mipsel-linux-gnu-gcc"):
        return Finding(what, True, gcc)
    if importlib.util.find_spec("ziglang") is not None:
        return Finding(what, True, "ziglang")
    hint = "install gcc-mipsel-linux-gnu (apt) or the extra disco-trace[guests]"
    return Finding(what, None, hint)
