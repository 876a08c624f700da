"""What the manual's opcode tables reserve raises the same exception under QEMU."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from disco_trace.machine import layout
from tests.machine.assemble import assemble, encode
from tests.machine.blocks import DRIVER, VARIABLES, elf
from tests.machine.board import Board
from tests.machine.opcodes import RESERVED, Encoding, encodings
from tests.machine.test_against_qemu import Qemu

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("qemu-system-mipsel"), reason="needs qemu-system-mipsel"),
]

RI, CPU = 10, 11
CU1, FR = 1 << 29, 1 << 26
PATCH, WORDS = 0x8000 >> 2, 0x10000
# Not given to QEMU 7.2's 24Kf, which would call a monitor there, enter MIPS16, go on silently
# (MDMX), or calls coprocessor 2 reserved.
LEFT_OUT = {"special 0x05", "opcode 0x1d", "opcode 0x1e", "opcode 0x12"}
# Of modules that it has not, and carries out all the same: TLBINV, MFTR, MTTR, MIPS-3D.
RUN_THERE = {"co 0x03", "co 0x04", "cop0 0x08", "cop0 0x0c"} | {
    f"format {fmt:#x} {f:#x}" for fmt in (0x10, 0x11) for f in range(0x1C, 0x20)
}
NO_EXCEPTION = 0xFFFFFFFF

# All that the loop needs lies in memory: QEMU may change a register where it should fault.
PROGRAM = f"""
    li    $k0, 0x80000000
    mtc0  $k0, ebase
loop:
    li    $k0, 0x80000000
    lw    $s2, {VARIABLES}($k0)
    mtc0  $s2, status
    lw    $s0, {VARIABLES + 8}($k0)
    lw    $t0, 0($s0)
    li    $s3, 0x80008000       # a page of its own: QEMU is slow if code changes its own page
    sw    $t0, 0($s3)
    synci 0($s3)
    addiu $v0, $zero, -1
    jr    $s3
    nop
after:
    li    $k0, 0x80000000
    lw    $s0, {VARIABLES + 8}($k0)
    lw    $s1, {VARIABLES + 4}($k0)
    sw    $v0, 0($s0)
    addiu $s0, $s0, 4
    sw    $s0, {VARIABLES + 8}($k0)
    bne   $s0, $s1, loop
    nop
    li    $k1, 0x600d
    sw    $k1, {VARIABLES + 12}($k0)
end: b    end
    nop
"""
HANDLER = "mfc0 $v0, cause\n li $k0, after\n mtc0 $k0, epc\n nop\n eret"


def expected(entry: Encoding, status: int) -> int | None:
    """Return the Cause bits that the manual asks for, None if it runs, or might."""
    if entry.unit == 2 or (entry.unit == 1 and not status & CU1):
        return CPU << 2 | entry.unit << 28
    return RI << 2 if entry.state == RESERVED else None


@pytest.mark.parametrize("status", [0, CU1 | FR])
def test_reserved_encodings(tmp_path, status):
    """Some thousand words, all fields at random that a table does not look at."""
    rows = [
        (word, want, entry.where)
        for entry in encodings()
        if entry.where not in LEFT_OUT and (want := expected(entry, status)) is not None
        for word in entry.words(status, 16)
    ]
    start = 0x80000000 + WORDS
    driver = assemble(PROGRAM, 0x80000000 + DRIVER)
    after = 0x80000000 + DRIVER + 4 * driver.index(encode("jr", s=19)) + 8
    image = np.zeros((WORDS >> 2) + len(rows), np.uint32)
    variables = [status, start + 4 * len(rows), start]
    image[VARIABLES >> 2 : (VARIABLES >> 2) + 3] = variables
    handler = assemble(HANDLER, after=after)
    image[0x180 >> 2 : (0x180 >> 2) + len(handler)] = handler
    image[PATCH : PATCH + 2] = 0, assemble("j out", 0x80008004, out=after)[0]
    image[DRIVER >> 2 : (DRIVER >> 2) + len(driver)] = driver
    image[WORDS >> 2 :] = [word for word, _, _ in rows]
    end = 0x80000000 + DRIVER + 4 * (len(driver) - 2)

    board = Board()
    board.words(0, image)
    board.jump(0x80000000 + DRIVER)
    assert board.run(1 << 22, stop=end) == layout.EXIT_STOP
    ours = board.m.ram[WORDS >> 2 :][: len(rows)].copy()

    (tmp_path / "image.elf").write_bytes(elf(SimpleNamespace(image=image)))
    qemu = Qemu(tmp_path / "image.elf")
    try:
        memory = qemu.memory(VARIABLES + 12, 4 * len(image), tmp_path / "memory")
    finally:
        qemu.close()
    theirs = memory[WORDS >> 2 :][: len(rows)]

    assert len(rows) > 4000
    compared = 0
    for (word, want, where), mine, other in zip(rows, ours, theirs, strict=True):
        # Cause.CE is unpredictable but for Coprocessor Unusable.
        bits = 0x3000007C if want & 0x7C == CPU << 2 else 0x7C
        assert int(mine) & bits == want, f"{where}: {word:08x}"
        if where in RUN_THERE:
            continue
        if where.startswith("cop1 ") and not status & CU1 and int(other) & 0x7C == RI << 2:
            continue  # the order of these two is open
        if word >> 26 == 0x1F and word >> 11 & 31 == 0 and other == NO_EXCEPTION:
            continue  # of the DSP module or no instruction at all, with register 0 to write
        assert int(other) & bits == want, f"{where}: {word:08x} in QEMU"
        compared += 1
    assert compared > 3000
