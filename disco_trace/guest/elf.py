"""Load an ELF or raw image: what goes where in RAM, where to begin, and what the symbols are.

An image may come from anybody. Everything in it is checked before it is used, and what does not
fit is reported with the file, what was expected and what was found.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from disco_trace.errors import DiscoError

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

ELF_MAGIC: Final = b"\x7fELF"
EM_MIPS: Final = 8
# The largest RAM of the board is 256 MiB; files beyond that cannot be images of it.
MAX_FILE_BYTES: Final = 256 << 20
MAX_SEGMENTS: Final = 64
MAX_SYMBOLS: Final = 200_000
_KSEG0: Final = 0x8000_0000
_KSEG2: Final = 0xC000_0000
_TYPES: Final = {"STT_FUNC": "func", "STT_OBJECT": "data", "STT_NOTYPE": "func"}
# What broken headers make pyelftools raise, beside its own errors.
_BROKEN: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True)
class Segment:
    """Hold a piece of RAM: physical address, the bytes, and the size (zeros fill the rest)."""

    paddr: int
    data: bytes
    size: int
    vaddr: int

    @property
    def end(self) -> int:
        """Return the physical address behind the segment."""
        return self.paddr + self.size


@dataclass(frozen=True)
class Symbol:
    """Name a stretch of virtual addresses; size 0 where the image does not say."""

    name: str
    address: int
    size: int
    type: str  # func, data or section


@dataclass(frozen=True)
class Image:
    """Hold a bootable image: segments by ascending physical address, entry, symbols, SHA-256."""

    name: str
    path: Path
    segments: tuple[Segment, ...]
    entry: int
    symbols: tuple[Symbol, ...]
    sha256: str


def load_image(
    path: Path, ram_bytes: int, *, name: str | None = None, entry: int | None = None
) -> Image:
    """Load an image, ELF by its magic number, otherwise raw bytes at physical 0.

    ram_bytes: what its segments must fit into; the last 4 KiB are the arguments'. entry replaces
    the image's own; a raw image begins at KSEG0's first address. Raises DiscoError.
    """
    data = _read(path)
    sha256 = hashlib.sha256(data).hexdigest()
    name = name or path.stem
    if data[:4] == ELF_MAGIC:
        segments, own_entry, symbols = _parse(path, data)
    else:
        segments, own_entry, symbols = [Segment(0, data, len(data), _KSEG0)], _KSEG0, []
    _check_places(path, segments, ram_bytes)
    begin = own_entry if entry is None else entry
    _check_entry(path, begin)
    ordered = tuple(sorted(segments, key=lambda segment: segment.paddr))
    return Image(name, path, ordered, begin, tuple(symbols), sha256)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DiscoError(
                "too large for an image",
                file=path,
                expected=f"at most {MAX_FILE_BYTES} bytes",
                found=f"{size} bytes",
            )
        data = path.read_bytes()
    except OSError as raised:
        reason = (raised.strerror or "cannot be read").lower()
        raise DiscoError(reason, file=path, expected="an ELF file or raw image") from raised
    if not data:
        raise DiscoError("empty", file=path, expected="an ELF file or raw image", found="0 bytes")
    return data


def _parse(path: Path, data: bytes) -> tuple[list[Segment], int, list[Symbol]]:
    from io import BytesIO

    from elftools.common.exceptions import ELFError
    from elftools.construct import ConstructError
    from elftools.elf.elffile import ELFFile

    # Class, byte order and machine come first: a clear line for a file that is merely another's.
    if len(data) < 52:
        raise _broken(path, "a header of 52 bytes", f"{len(data)} bytes")
    kinds = {1: "32-bit", 2: "64-bit"}
    orders = {1: "little-endian", 2: "big-endian"}
    (machine,) = struct.unpack_from("<H" if data[5] == 1 else ">H", data, 18)
    if (data[4], data[5], machine) != (1, 1, EM_MIPS):
        kind = f"{kinds.get(data[4], 'unknown class')} {orders.get(data[5], 'unknown byte order')}"
        raise DiscoError(
            "an ELF file for another machine",
            file=path,
            expected="32-bit little-endian MIPS (machine 8)",
            found=f"{kind} machine {machine}",
        )
    try:
        elf = ELFFile(BytesIO(data))
        if elf["e_type"] != "ET_EXEC":
            raise DiscoError(
                "not a linked program",
                file=path,
                expected="ELF type ET_EXEC",
                found=str(elf["e_type"]),
                hint="link with fixed addresses: no -r, no -pie, no -shared",
            )
        return _segments(path, elf, data), int(elf["e_entry"]), _symbols(elf)
    except (ELFError, ConstructError, *_BROKEN) as raised:
        what = " ".join(str(raised).split())[:100] or type(raised).__name__
        raise _broken(path, "well-formed headers", what) from raised


def _broken(path: Path, expected: str, found: str) -> DiscoError:
    return DiscoError("a broken ELF file", file=path, expected=expected, found=found)


def _segments(path: Path, elf: ELFFile, data: bytes) -> list[Segment]:
    count = elf.num_segments()
    if count > MAX_SEGMENTS:
        raise _broken(path, f"at most {MAX_SEGMENTS} program headers", str(count))
    found = []
    for header in elf.iter_segments():
        if header["p_type"] == "PT_DYNAMIC" or header["p_type"] == "PT_INTERP":
            raise DiscoError(
                "needs a dynamic linker",
                file=path,
                expected="a statically linked program",
                found=str(header["p_type"]),
            )
        if header["p_type"] != "PT_LOAD" or header["p_memsz"] == 0:
            continue
        offset, size, full = header["p_offset"], header["p_filesz"], header["p_memsz"]
        if offset + size > len(data):
            raise _broken(path, f"segments within {len(data)} bytes", f"one to {offset + size}")
        if size > full:
            raise _broken(path, "file size of a segment at most its memory size", f"{size}>{full}")
        vaddr = header["p_vaddr"]
        # KSEG0 and KSEG1 are windows on the first 512 MiB; elsewhere the file says where to load.
        unmapped = _KSEG0 <= vaddr < _KSEG2
        paddr = vaddr & 0x1FFF_FFFF if unmapped else header["p_paddr"]
        found.append(Segment(paddr, data[offset : offset + size], full, vaddr))
    if not found:
        raise _broken(path, "at least one PT_LOAD segment", "none")
    return found


def _check_places(path: Path, segments: Iterable[Segment], ram_bytes: int) -> None:
    # The board keeps the arguments in the last page.
    limit = ram_bytes - 4096
    before: Segment | None = None
    for segment in sorted(segments, key=lambda segment: segment.paddr):
        if segment.end > limit:
            raise DiscoError(
                "a segment does not fit into RAM",
                file=path,
                expected=f"physical addresses below 0x{limit:08x}",
                found=f"0x{segment.paddr:08x} to 0x{segment.end:08x}",
                hint="set machine.ram_bytes larger, or link the image lower",
            )
        if before is not None and segment.paddr < before.end:
            raise DiscoError(
                "segments overlap in RAM",
                file=path,
                expected=f"nothing below 0x{before.end:08x} twice",
                found=f"a segment at 0x{segment.paddr:08x}",
            )
        before = segment


def _check_entry(path: Path, entry: int) -> None:
    if entry % 4 or not 0 <= entry < 1 << 32:
        raise DiscoError(
            "the entry is no address of an instruction",
            file=path,
            expected="a multiple of 4 below 2^32",
            found=f"0x{entry:x}",
        )


def _symbols(elf: ELFFile) -> list[Symbol]:
    """Return named functions and data, by address; at most MAX_SYMBOLS, of real sections."""
    from elftools.elf.sections import SymbolTableSection

    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        return []
    executable = {
        index for index, section in enumerate(elf.iter_sections()) if section["sh_flags"] & 4
    }
    found: dict[tuple[int, str], Symbol] = {}
    for index, entry in enumerate(table.iter_symbols()):
        if index >= MAX_SYMBOLS:
            break
        section = entry["st_shndx"]
        kind = _TYPES.get(entry["st_info"]["type"])
        # Labels without type are code (assembly) in executable sections; others are marks of the
        # linker script. Names with $ or . in front are the assembler's own.
        if kind is None or not isinstance(section, int) or entry.name[:1] in ("", "$", "."):
            continue
        if entry["st_info"]["type"] == "STT_NOTYPE" and section not in executable:
            continue
        symbol = Symbol(entry.name, int(entry["st_value"]), int(entry["st_size"]), kind)
        found.setdefault((symbol.address, symbol.name), symbol)
    return [found[key] for key in sorted(found)]
