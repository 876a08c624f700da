"""Build a guest: compile a folder of C and assembly, link it with the library OS."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from disco_trace.errors import DiscoError
from disco_trace.guest.compiler import Compiler, find_compiler
from disco_trace.guest.description import Description, Segment, read_description
from disco_trace.guest.disk import DISK_SUFFIX, guest_disk, needs_folder
from disco_trace.guest.lock import LOCK_NAME, Locked, file_sha256, source_sha256, write_lock
from disco_trace.guest.resolve import SUPERVISOR_SUFFIX
from disco_trace.paths import data_folder

# Where the kernel is linked, where it finds devices, and the linker script that says so.
_LINKS: Final = {
    "kseg0": ("0x80000000", "0xa0000000", "kseg0.ld"),
    "supervisor": ("0xc0000000", "0xc0000000", "sseg.ld"),
}


@dataclass(frozen=True)
class Built:
    """Name an image that was built, and what the lock file says of it."""

    path: Path
    locked: Locked


def build_guest(
    folder: Path, out: Path | None = None, *, compiler: Compiler | None = None, force: bool = True
) -> list[Built]:
    """Build every image of a guest folder into `out` and describe each beside it.

    folder: holds `guest.toml` and at least one `.c` or `.S`. out: a folder, made if missing; where
    it has a lock file (our own images), that is brought up to date. Images replace older ones
    atomically; with `force` false they must not exist. A disk with files of the folder is written
    beside each image, as NAME.disk. Raises DiscoError.
    """
    description, sources = _sources(folder)
    compiler = compiler or find_compiler()
    name = folder.resolve().name
    out = out or Path(".")
    targets = [(segment, out / f"{image_name(name, description, segment)}.elf")
               for segment in description.segments]  # fmt: skip
    for _, target in targets:
        if target.exists() and not force:
            raise DiscoError("this image exists already", file=target, hint="use --force")
    out.mkdir(parents=True, exist_ok=True)
    lib = data_folder("capture") / "lib"
    locked_folder = (out / LOCK_NAME).exists()
    built = []
    disk = None
    if needs_folder(description.disk, description.files):
        disk = guest_disk(description.disk, description.files, folder)
    for segment, target in targets:
        with tempfile.TemporaryDirectory(prefix="disco-trace-build-") as scratch:
            made = _link(Path(scratch), lib, folder, sources, segment, compiler)
            _replace(target, made.read_bytes())
        if disk is not None:
            _replace(target.with_suffix(DISK_SUFFIX), disk.words.tobytes())
        if not locked_folder:
            shutil.copyfile(folder / "guest.toml", target.with_suffix(".toml"))
        locked = Locked(
            sha256=file_sha256(target),
            bytes=target.stat().st_size,
            source_sha256=source_sha256([lib, folder.resolve()]),
            compiler=compiler.name,
            segment=segment,
        )
        built.append(Built(target, locked))
    if locked_folder:
        write_lock(out, {each.path.name: each.locked for each in built})
    return built


def _replace(target: Path, data: bytes) -> None:
    """Write a file by a rename, which is atomic within one folder: nobody sees half of it."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    part.write_bytes(data)
    os.replace(part, target)


def image_name(name: str, description: Description, segment: Segment) -> str:
    """Return the name of the image for a segment: the first segment has the guest's own."""
    own = segment == description.segments[0] or segment == "kseg0"
    return name if own else f"{name}{SUPERVISOR_SUFFIX}"


def _sources(folder: Path) -> tuple[Description, list[Path]]:
    if not folder.is_dir():
        raise DiscoError("no such folder", file=folder, expected="a guest's folder with guest.toml")
    toml = folder / "guest.toml"
    if not toml.is_file():
        raise DiscoError(
            "a guest's folder has a description",
            file=folder,
            expected="guest.toml, *.c and *.S",
            found="no guest.toml",
            hint='the least that guest.toml holds: description = "..."',
        )
    sources = sorted([*folder.glob("*.c"), *folder.glob("*.S")])
    if not sources:
        raise DiscoError("nothing to compile", file=folder, expected="*.c or *.S", found="none")
    return read_description(toml), sources


def _link(
    scratch: Path,
    lib: Path,
    folder: Path,
    sources: list[Path],
    segment: Segment,
    compiler: Compiler,
) -> Path:
    """Compile and link one image in a scratch folder; return its path.

    The sources are copied there, and every command names them relative to it: no path of this
    machine can get into an image.
    """
    base, devices, script = _LINKS[segment]
    shutil.copytree(lib, scratch / "lib")
    # Also headers, and whatever else the sources include.
    shutil.copytree(folder, scratch / "guest", ignore=shutil.ignore_patterns("*.elf", ".*"))
    defines = [f"-DKERNEL_BASE={base}", f"-DDEVICE_BASE={devices}", *compiler.kernel]
    kernel = sorted([*(lib / "kernel").glob("*.c"), *(lib / "kernel").glob("*.S")])
    library = sorted((lib / "user").glob("*.c"))
    jobs = [(f"lib/kernel/{path.name}", "kernel", path, defines) for path in kernel]
    jobs += [(f"lib/user/{path.name}", "library", path, ["-Ilib/include"]) for path in library]
    jobs += [(f"guest/{path.name}", "program", path, ["-Ilib/include"]) for path in sources]
    objects = []
    for source, group, path, extra in jobs:
        # The linker script tells the kernel from the program by the folder of the object.
        (scratch / group).mkdir(exist_ok=True)
        made = f"{group}/{path.name.replace('.', '_')}.o"
        compiler.run([*compiler.compile, *extra, "-c", source, "-o", made], scratch)
        objects.append(made)
    # A section that the script does not place would land where the OS knows nothing of it.
    layout = ["-nostdlib", "-static", "--build-id=none", "-z", "max-page-size=4096"]
    layout.append("--orphan-handling=error")
    script_words = ["-L", "lib", "-T", f"lib/{script}", "-o", "image.elf"]
    compiler.run([*compiler.link, *layout, *script_words, *objects], scratch)
    return scratch / "image.elf"
