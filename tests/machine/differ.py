"""Say in words where two results of a batch differ."""

from __future__ import annotations

import numpy as np

from tests.machine.blocks import HASH, HI, LENGTH, LO, SCRATCH, Batch
from tests.machine.fpu.blocks import FCSR, FLOATS


def first_difference(batch: Batch, found: np.ndarray, expected: np.ndarray) -> str:
    """Describe the first block whose states differ, with its code and input; "" if none."""
    differing = np.flatnonzero((found != expected).any(axis=1))
    if not len(differing):
        return ""
    block = int(differing[0])
    before = batch.result(batch.image)[block]
    lines = [f"{len(differing)} of {batch.blocks} blocks differ, first block {block}:"]
    for word in np.flatnonzero(found[block] != expected[block]):
        lines.append(
            f"  {_name(int(word))}: was {before[word]:08x}, "
            f"expected {expected[block, word]:08x}, found {found[block, word]:08x}"
        )
    lines.append("  before: " + " ".join(f"{value:08x}" for value in before[:34]))
    lines += _listing(batch.words(block), batch.code + block * 4 * (LENGTH + 8))
    return "\n".join(lines)


def _name(word: int) -> str:
    if word < 32:
        return f"${word}"
    if word == FCSR:
        return "fcsr"
    if word >= FLOATS:
        return f"32 bits {word - FLOATS} of the FPU"
    return {HI: "hi", LO: "lo", HASH: "hash of exceptions"}.get(
        word, f"scratch gp{4 * (word - SCRATCH) - 128:+}"
    )


def _listing(words: list[int], at: int) -> list[str]:
    try:
        import capstone
    except ImportError:
        return [f"  {at + 4 * n:08x} {word:08x}" for n, word in enumerate(words)]
    engine = capstone.Cs(capstone.CS_ARCH_MIPS, capstone.CS_MODE_MIPS32)
    lines = []
    for n, word in enumerate(words):
        text = [f"{i.mnemonic} {i.op_str}" for i in engine.disasm(word.to_bytes(4, "little"), 0)]
        lines.append(f"  {at + 4 * n:08x} {word:08x} {text[0] if text else '?'}")
    return lines
