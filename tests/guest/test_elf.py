"""Load images, well-formed and hostile."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disco_trace.errors import DiscoError
from disco_trace.guest.elf import load_image
from disco_trace.paths import data_folder

RAM = 64 << 20
HELLO = data_folder("capture") / "images" / "hello.elf"


def elf(segments, *, entry=0x80001000, kind=2, machine=8, ident=b"\x7fELF\1\1\1"):
    """Return an ELF file made by hand: (vaddr, paddr, data, memsz) for each segment."""
    header = struct.pack(
        "<16sHHIIIIIHHHHHH",
        ident, kind, machine, 1, entry, 52, 0, 0x70001001, 52, 32, len(segments), 40, 0, 0,
    )  # fmt: skip
    offset = 52 + 32 * len(segments)
    table, body = b"", b""
    for vaddr, paddr, data, memsz in segments:
        where = offset + len(body)
        table += struct.pack("<8I", 1, where, vaddr, paddr, len(data), memsz, 5, 4)
        body += data
    return header + table + body


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "image.elf"
    path.write_bytes(data)
    return path


def test_segments_lie_where_the_architecture_says(tmp_path):
    path = write(
        tmp_path,
        elf(
            [
                (0x00400000, 0x00200000, b"user", 4),  # mapped: p_paddr
                (0x80001000, 0x7777, b"kseg0", 16),  # KSEG0: address without its top bits
                (0xA0003000, 0, b"kseg1", 5),  # KSEG1: likewise
                (0xC0000000, 0x5000, b"sseg", 4),  # mapped: p_paddr
            ]
        ),
    )
    image = load_image(path, RAM)
    assert [(s.paddr, s.data, s.size) for s in image.segments] == [
        (0x1000, b"kseg0", 16),
        (0x3000, b"kseg1", 5),
        (0x5000, b"sseg", 4),
        (0x200000, b"user", 4),
    ]
    assert image.entry == 0x80001000
    assert image.name == "image"
    assert load_image(path, RAM, entry=0x80002000).entry == 0x80002000


def test_raw_image_begins_at_physical_zero(tmp_path):
    image = load_image(write(tmp_path, b"\0\0\0\0rest"), RAM)
    assert image.segments[0].paddr == 0
    assert image.segments[0].data == b"\0\0\0\0rest"
    assert image.entry == 0x80000000
    assert image.symbols == ()


def test_symbols_of_a_real_image():
    image = load_image(HELLO, RAM)
    by_name = {symbol.name: symbol for symbol in image.symbols}
    assert by_name["tlb_refill"].address == 0x80000000
    assert by_name["tlb_refill"].size == 22 * 4
    assert by_name["special_vectors"].address == 0x80001000
    assert by_name["_start"].address == 0x80001190
    assert by_name["main"].type == "func"
    assert 0x00400000 <= by_name["main"].address < 0x00800000
    assert by_name["kernel_root"].type == "data"
    assert "kernel_end" not in by_name  # a mark of the linker script, not a thing
    addresses = [symbol.address for symbol in image.symbols]
    assert addresses == sorted(addresses)


ONE = (0x80001000, 0, b"\0" * 8, 8)


@pytest.mark.parametrize(
    ("data", "expected", "found"),
    [
        (elf([ONE], machine=62), "little-endian MIPS", "machine 62"),
        (elf([ONE], ident=b"\x7fELF\2\1\1"), "32-bit", "64-bit"),
        (elf([ONE], ident=b"\x7fELF\1\2\1"), "little-endian", "big-endian"),
        (elf([ONE], kind=1), "ET_EXEC", "ET_REL"),
        (elf([ONE], kind=3), "ET_EXEC", "ET_DYN"),
        (elf([ONE], entry=0x80001002), "multiple of 4", "0x80001002"),
        (elf([]), "PT_LOAD", "none"),
        (elf([(0x80001000, 0, b"12345678", 4)]), "file size", "8>4"),
        (elf([ONE, (0x80001004, 0, b"12", 2)]), "nothing below 0x00001008 twice", "0x00001004"),
        (elf([(0x83FFF000, 0, b"x", 1)]), "below 0x03fff000", "0x03fff000 to 0x03fff001"),
        (elf([(0x80001000, 0, b"x", 0xFFFFFFFF)]), "below 0x03fff000", "to 0x100000fff"),
        (elf([(0x00400000, 0xFFFFFFFF, b"xx", 2)]), "below", "0xffffffff to 0x100000001"),
        (elf([ONE])[:-4], "within", "one to"),
        (b"\x7fELF\1\1", "52 bytes", "6 bytes"),
        (b"", "ELF file or raw image", "0 bytes"),
        (b"x" * RAM, "below 0x03fff000", "0x04000000"),
    ],
)
def test_bad_images_get_a_clear_line(tmp_path, data, expected, found):
    path = write(tmp_path, data)
    with pytest.raises(DiscoError) as raised:
        load_image(path, RAM)
    error = raised.value
    assert error.file == str(path)
    assert expected in (error.expected or "")
    assert found in (error.found or "")
    assert "\n" not in str(error)
    assert error.exit_code == 2


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.elf", tmp_path):
        with pytest.raises(DiscoError):
            load_image(path, RAM)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_damage_is_an_image_or_a_clear_error(tmp_path, data):
    damaged = bytearray(HELLO.read_bytes())
    # Headers of file, program and sections; the section headers stand at the end.
    tables = st.one_of(st.integers(0, 250), st.integers(len(damaged) - 2200, len(damaged) - 1))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(tables)] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]))
    cut = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    path = write(tmp_path, bytes(damaged[:cut]))
    try:
        image = load_image(path, RAM)
    except DiscoError as raised:
        named = raised.file
    else:
        named = str(image.path)
        assert all(s.paddr >= 0 and s.end <= RAM - 4096 for s in image.segments)
    assert named == str(path)
