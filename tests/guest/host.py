"""Compile a guest program for the host and run it there: a second opinion on its results."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from disco_trace.paths import data_folder

CC = shutil.which("gcc") or shutil.which("cc")


def host_console(guest: str, *args: str, cpus: int = 1, folder: Path) -> str:
    """Return what the program prints on the host; skip the test where there is no compiler."""
    if CC is None:
        pytest.skip("no compiler for the host")
    capture = data_folder("capture")
    lib = capture / "lib"
    sources = sorted((capture / "guests" / guest).glob("*.c"))
    sources += [lib / "user" / "text.c", Path(__file__).with_suffix(".c")]
    program = folder / guest
    flags = ["-std=gnu11", "-O2", "-fno-builtin", "-ffp-contract=off", "-fno-math-errno", "-w"]
    words = [CC, *flags, f"-I{lib / 'include'}", *map(str, sources), "-lpthread", "-o", program]
    subprocess.run(words, check=True, timeout=60)
    done = subprocess.run(
        [program, *args], env={"CPUS": str(cpus)}, capture_output=True, timeout=60, check=True
    )
    return done.stdout.decode()
