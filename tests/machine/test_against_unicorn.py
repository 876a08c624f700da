"""Random blocks give what Unicorn's MIPS32 gives: all registers and memory."""

from __future__ import annotations

import numpy as np
import pytest

from disco_trace.machine import layout
from disco_trace.machine.layout import EXIT_STOP
from tests.machine.blocks import DRIVER, generate
from tests.machine.board import Board
from tests.machine.differ import first_difference
from tests.machine.fpu.blocks import Floats

unicorn = pytest.importorskip("unicorn")

BLOCKS = 2000


def on_unicorn(image: np.ndarray, end: int) -> np.ndarray:
    """Run an image of physical memory from the driver to `end`; return the memory."""
    size = (4 * len(image) + 0xFFFF) & ~0xFFFF
    engine = unicorn.Uc(
        unicorn.UC_ARCH_MIPS, unicorn.UC_MODE_MIPS32 | unicorn.UC_MODE_LITTLE_ENDIAN
    )
    engine.ctl_set_cpu_model(unicorn.mips_const.UC_CPU_MIPS32_24KF)
    engine.mem_map(0, size)
    engine.mem_write(0, image.astype("<u4").tobytes())
    engine.emu_start(0x80000000 + DRIVER, end)
    return np.frombuffer(bytes(engine.mem_read(0, 4 * len(image))), "<u4")


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_random_blocks(seed):
    compare(generate(seed, BLOCKS, exceptions=False))


@pytest.mark.parametrize("fr", [False, True])
@pytest.mark.parametrize("seed", [21, 22])
def test_random_blocks_of_floating_point(seed, fr):
    kind = Floats(fr, exceptions=False)
    compare(generate(seed, BLOCKS, exceptions=False, kind=kind))


def compare(batch):
    """Run a batch on both: at least 90,000 instructions of the blocks themselves."""
    board = Board()
    board.words(0, batch.image)
    board.jump(0x80000000 + DRIVER)
    assert board.run(1 << 22, stop=batch.end) == EXIT_STOP
    retired = board.m.g[layout.G_INSTRUCTIONS] - batch.overhead * BLOCKS
    assert retired > 45 * BLOCKS
    found = batch.result(board.m.ram[: len(batch.image)])
    expected = batch.result(on_unicorn(batch.image, batch.end))
    assert not (text := first_difference(batch, found, expected)), text
