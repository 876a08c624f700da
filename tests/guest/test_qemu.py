"""Run the library OS and its programs on QEMU's Malta board: a second opinion on our machine.

Malta has the CPU (one, with a TLB of 16 entries) but not our devices: the kernel is built with two
functions replaced, which bring console and power-off to Malta's own.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from disco_trace.guest import build
from disco_trace.guest.compiler import GCC, find_compiler
from disco_trace.guest.elf import load_image
from disco_trace.guest.resolve import find_guest
from disco_trace.paths import data_folder
from tests.guest.host import host_console

QEMU = "qemu-system-mipsel"
RAM = 64 << 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"no {QEMU}"),
]

# Malta's third UART lies at 0x1f000900 with registers 8 bytes apart, its reset at 0x1f000500.
MALTA = """
static inline uint32_t device_read(uint32_t physical) {
  if (physical == CPU_COUNT || physical == CPU_NODES) return 1;
  if (physical == UART_LINE_STATUS) return *(volatile uint32_t *)0xbf000928;
  return 0;
}
static inline void malta_put(uint32_t byte) { *(volatile uint32_t *)0xbf000900 = byte; }
static inline void device_write(uint32_t physical, uint32_t value) {
  if (physical == UART_DATA) malta_put(value);
  if (physical != POWER) return;
  malta_put('<');
  for (int shift = 4; shift >= 0; shift -= 4) malta_put("0123456789abcdef"[value >> shift & 15]);
  *(volatile uint32_t *)0xbf000500 = 0x42;
  for (;;) continue;
}

"""


@pytest.fixture(scope="module", params=["gcc", "zig"])
def board(request, tmp_path_factory):
    """Return a function that runs a guest and returns (console, exit status)."""
    if request.param == "gcc" and shutil.which(GCC) is None:
        pytest.skip(f"no {GCC}")
    if request.param == "zig":
        pytest.importorskip("ziglang")
    compiler = find_compiler(request.param)
    folder = tmp_path_factory.mktemp("malta")
    shutil.copytree(data_folder("capture"), folder / "capture")
    header = folder / "capture" / "lib" / "kernel" / "kernel.h"
    text = header.read_text()
    begin = text.index("static inline uint32_t device_read")
    end = text.index("static inline void mark_class")
    header.write_text(text[:begin] + MALTA + text[end:])
    # Line IP2 is Malta's i8259, which raises it after a while whoever listens.
    registers = header.with_name("mips.h")
    text = registers.read_text()
    assert "#define STATUS_IPI 0x00000400" in text
    registers.write_text(text.replace("#define STATUS_IPI 0x00000400", "#define STATUS_IPI 0"))
    images: dict[str, list[build.Built]] = {}

    def run(name: str, *args: str, segment: str = "kseg0") -> tuple[str, int]:
        if name not in images:
            patch = pytest.MonkeyPatch()
            patch.setattr(build, "data_folder", lambda kind: folder / kind)
            images[name] = build.build_guest(
                folder / "capture" / "guests" / name, folder / "out", compiler=compiler
            )
            patch.undo()
        image = next(each.path for each in images[name] if each.locked.segment == segment)
        return start(folder, image, [name, *args])

    return run


def start(folder: Path, image: Path, args: list[str]) -> tuple[str, int]:
    at = RAM - 4096
    entry = load_image(image, RAM).entry
    pointers, strings = [], b""
    for arg in args:
        pointers.append(0x80000000 + at + 512 + len(strings))
        strings += arg.encode() + b"\0"
    (folder / "args").write_bytes(
        struct.pack(f"<{len(pointers)}I", *pointers).ljust(512, b"\0") + strings
    )
    words = [
        0x10000007,  # b 0x20: the board writes its revision to 0x10
        *[0] * 7,
        0x24040000 | len(args),  # addiu a0, zero, argc
        0x3C050000 | (0x80000000 + at) >> 16,  # lui a1, argv
        0x34A50000 | at & 0xFFFF,  # ori a1, a1, argv
        0x3C070000 | RAM >> 16,  # lui a3, RAM
        0x3C1A0000 | entry >> 16,  # lui k0, entry
        0x375A0000 | entry & 0xFFFF,  # ori k0, k0, entry
        0x03400008,  # jr k0
        0,
    ]
    # Malta's ROM is kept in big-endian order whatever the CPU.
    (folder / "bios").write_bytes(struct.pack(">16I", *words).ljust(4096, b"\0"))
    command = f"{QEMU} -M malta -cpu 24Kf -m 64 -bios bios -display none -monitor none -no-reboot"
    command += f" -serial null -serial null -serial file:console -device loader,file={image}"
    command += f" -device loader,file=args,addr={at},force-raw=on"
    subprocess.run(command.split(), cwd=folder, timeout=30, check=True, stdin=subprocess.DEVNULL)
    console, _, status = (folder / "console").read_text().rpartition("<")
    return console, int(status, 16)


@pytest.mark.parametrize("segment", ["kseg0", "supervisor"])
def test_programs_check_themselves(board, segment):
    console, status = board("hello", segment=segment)
    assert status == 0
    assert console.splitlines()[-1] == "goodbye"
    console, status = board("radix", "keys=20001", "bits=7", "key_bits=30", segment=segment)
    assert (console, status) == ("radix: 20001 keys sorted by 1 cpus, checked\n", 0)
    console, status = board(
        "database", "rows=5K", "products=777", "customers=99", "os.tick=20000", segment=segment
    )
    assert status == 0
    assert "99 groups, checked" in console


def test_exit_status(board):
    assert board("exit7") == ("", 7)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("load", "address not mapped: cpu 00000000 pc 004"),
        ("store", "vaddr 6ffff000"),
        ("text", "store to read-only memory"),
        ("kernel", "program exception"),
        ("instruction", "cause 00000028"),
        ("call", "vaddr 00001000"),
    ],
)
def test_a_program_that_breaks_the_rules_is_ended(board, kind, words):
    console, status = board("fault", f"kind={kind}")
    assert status == 125
    assert words in console


@pytest.mark.parametrize("segment", ["kseg0", "supervisor"])
def test_raytrace(board, segment, tmp_path):
    """Each pixel in double precision: the same picture as on the host, bit by bit."""
    words = ("image=40", "ground=16", "spheres=200", "grid=12", "samples=40", "os.tick=200000")
    console, status = board("raytrace", *words, segment=segment)
    assert status == 0, console
    assert console == host_console("raytrace", *words[:-1], folder=tmp_path)
    assert board("raytrace", *words, "wrong=1", segment=segment)[1] == 1


def test_engineering(board, tmp_path):
    words = find_guest("engineering").ci_args
    console, status = board("engineering", *(w for w in words if w[:3] != "os."), "os.tick=200000")
    assert status == 0, console
    host = host_console("engineering", *(w for w in words if w[:3] != "os."), folder=tmp_path)
    assert sorted(console.splitlines()) == sorted(host.splitlines())


@pytest.mark.parametrize("segment", ["kseg0", "supervisor"])
@pytest.mark.parametrize("options", [(), ("os.sched=any", "os.balance=0"), ("os.asids=16",)])
def test_processes(board, segment, options):
    """A TLB of 16 entries, and its own random numbers for replacing them."""
    words = ("children=5", "rounds=3", "work=30K", "os.tick=200000", "os.slice=1", *options)
    console, status = board("processes", *words, segment=segment)
    assert status == 0, console
    assert console.splitlines()[-1] == "processes: checked on 1 cpus"
    for wrong, found in ((1, 2), (2, 7)):
        console, status = board("processes", "children=2", "work=100", f"wrong={wrong}")
        assert (f"failed check {found}" in console, status) == (True, 1)


@pytest.mark.parametrize("argument", ["kind=no", "what", "kinds=load", "kind"])
def test_bad_arguments_are_explained(board, argument):
    console, status = board("fault", argument)
    assert status == 2
    assert f"bad argument '{argument}'" in console
    assert "kind=load|store" in console


@pytest.mark.parametrize("argument", ["keys=0", "keys=9M", "keys=", "keys=12x", "seed=99999999999"])
def test_bad_numbers_are_explained(board, argument):
    console, status = board("radix", argument)
    assert status == 2
    assert f"bad argument '{argument}'" in console


@pytest.mark.parametrize(
    "argument",
    [
        "os.tick=x",
        "os.tick=",
        "os.zero=no",
        "os.more=1",
        "os.sched=no",
        "os.slice=0",
        "os.asids=256",
    ],
)
def test_bad_os_arguments_are_explained(board, argument):
    console, status = board("hello", argument)
    assert status == 127
    assert "os.tick" in console
