"""Find a compiler for MIPS32 release 2, little-endian: Debian's cross GCC, or PyPI's ziglang."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from disco_trace.errors import EXIT_MISSING, DiscoError

GCC: Final = "mipsel-linux-gnu-gcc"
LD: Final = "mipsel-linux-gnu-ld"
_TIMEOUT_SECONDS: Final = 300

# No position independence, no calls into a C library; floating point in instructions alone, and
# each rounded as the source says, so that results do not depend on the compiler.
_COMMON: Final = (
    "-std=gnu11",
    "-O2",
    "-g0",
    "-Wall",
    "-Wextra",
    "-fno-math-errno",
    "-ffp-contract=off",
    "-mno-abicalls",
    "-fno-pic",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
)


@dataclass(frozen=True)
class Compiler:
    """Name a compiler and how to call it.

    `compile` and `link` are the leading words; `kernel` follows where a kernel is compiled, which
    must leave the floating-point registers to programs.
    """

    name: str
    compile: tuple[str, ...]
    link: tuple[str, ...]
    kernel: tuple[str, ...] = ()

    def run(self, words: list[str], folder: Path) -> None:
        """Run one command in a folder; DiscoError carries the first lines of what it says."""
        try:
            done = subprocess.run(
                words, cwd=folder, capture_output=True, text=True, errors="replace",
                timeout=_TIMEOUT_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as raised:
            raise DiscoError(f"{words[0]} takes longer than {_TIMEOUT_SECONDS} s") from raised
        if done.returncode == 0:
            if done.stderr.strip():
                print(done.stderr.strip(), file=sys.stderr)  # warnings are the user's to read
            return
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        wrong = [line for line in lines if "error" in line.lower() or "undefined" in line.lower()]
        raise DiscoError(
            "the guest does not compile",
            found=(wrong or lines or [f"exit status {done.returncode}"])[0],
            hint="\n".join(lines[:20]) if len(lines) > 1 else None,
        )


def find_compiler(wanted: str | None = None) -> Compiler:
    """Return a compiler, `wanted` one ("gcc" or "zig") or the first there is: gcc, then zig.

    Raises DiscoError with exit code 3 if there is none.
    """
    for name, find in (("gcc", _gcc), ("zig", _zig)):
        if wanted in (None, name) and (found := find()) is not None:
            return found
    raise DiscoError(
        "no compiler for MIPS",
        expected=f"{GCC}, or the Python package ziglang",
        found="neither" if wanted is None else f"no {wanted}",
        hint="apt install gcc-mipsel-linux-gnu, or: pip install 'disco-trace[guests]'",
        exit_code=EXIT_MISSING,
    )


def _gcc() -> Compiler | None:
    gcc, ld = shutil.which(GCC), shutil.which(LD)
    if gcc is None or ld is None:
        return None
    version = _first_line([gcc, "-dumpfullversion"])
    flags = (
        "-EL",
        "-G0",
        "-march=mips32r2",
        "-mabi=32",
        "-mhard-float",
        "-mfp32",
        "-fno-tree-loop-distribute-patterns",
        *_COMMON,
    )
    # GCC may keep integers in them otherwise; -msoft-float would be another ABI to the linker.
    kernel = tuple(f"-ffixed-$f{number}" for number in range(32))
    return Compiler(f"gcc {version}", (gcc, *flags), (ld, "-EL"), kernel)


def _zig() -> Compiler | None:
    if importlib.util.find_spec("ziglang") is None:
        return None
    zig = (sys.executable, "-m", "ziglang")
    version = _first_line([*zig, "version"])
    target = ("-target", "mipsel-linux-musleabihf", "-fno-sanitize=all", "-fno-builtin")
    return Compiler(
        f"zig {version}",
        (*zig, "cc", *target, "-mcpu=mips32r2+noabicalls", "-mno-gpopt", *_COMMON),
        (*zig, "ld.lld", "-m", "elf32ltsmip"),
    )


def _first_line(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0].strip()
