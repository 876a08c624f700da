"""Run a block again under QEMU's rule for NaNs, to tell what comes of it from an error.

The manual lets a quiet NaN pass from an operand to the result (volume I, table 5-7), and QEMU up to
5.0 did so, as Unicorn does. Later it gives the default NaN whenever a result is a NaN. Such a NaN
gets about, by stores, moves, branches: so the rule is put into our machine, one instruction at a
time, and all else must still be equal to the last bit.
"""

from __future__ import annotations

import numpy as np

from disco_trace.machine.isa import TABLE, Row
from disco_trace.machine.layout import EXIT_STOP
from tests.machine.blocks import CODE_WORDS, DRIVER, Batch
from tests.machine.board import Board
from tests.machine.fpu.operands import BITS, D, S, is_nan

DEFAULT = {S: 0x7FBFFFFF, D: 0x7FF7FFFFFFFFFFFF}
_NAMES = {"add", "sub", "mul", "div", "sqrt", "recip", "rsqrt", "madd", "msub", "nmadd", "nmsub"}
FR, VECTORS = 1 << 26, range(0x80000000, 0x80000400)


def _result_format(row: Row) -> int | None:
    """Return the format of an arithmetic instruction's result, None for others."""
    name, *formats = row.name.split(".")
    if row.name in ("cvt.s.d", "cvt.d.s") or (name in _NAMES and formats):
        return D if formats[0] == "d" else S
    return None


# Row's match and mask, format of the result, whether its sign is turned round at the end.
RULED = [
    (row.match, row.mask, fmt, row.name.startswith("nm"))
    for row in TABLE
    if (fmt := _result_format(row)) is not None
]


def apply(board: Board, word: int) -> None:
    """Make the NaN that an instruction has just put into its register the default one."""
    rule = next((rule for rule in RULED if word & rule[1] == rule[0]), None)
    if rule is None:
        return
    _, _, fmt, negated = rule
    number = word >> 6 & 31
    words = board.m.fpr[0].view(np.uint32)
    at = 2 * number if board.get("status") & FR else number
    value = int(words[at]) | (int(words[at | 1]) << 32 if fmt == D else 0)
    if is_nan(fmt, value):
        value = DEFAULT[fmt] | (1 << BITS[fmt] - 1 if negated else 0)
        words[at] = value & 0xFFFFFFFF
        if fmt == D:
            words[at | 1] = value >> 32


def run_again(batch: Batch, blocks: np.ndarray) -> np.ndarray:
    """Return the states that some blocks end in under QEMU's rule: uint32 [blocks, state_words].

    The whole batch is run, because BadVAddr stays from one block to the next.
    """
    board = Board("machine.ram_bytes=64MiB")
    board.words(0, batch.image)
    board.jump(0x80000000 + DRIVER)
    for block in map(int, blocks):
        code = batch.code + 4 * block * CODE_WORDS
        inside = range(code, code + 4 * CODE_WORDS)
        assert board.run(1 << 30, stop=code) == EXIT_STOP
        while (pc := board.get("pc")) in inside or pc in VECTORS:
            word = board.word(pc)
            board.step()
            if pc in inside and board.get("pc") not in VECTORS:
                apply(board, word)
    assert board.run(1 << 30, stop=batch.end) == EXIT_STOP
    return batch.result(board.m.ram[: len(batch.image)])[blocks]
