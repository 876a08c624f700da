"""What the execute loop must know of each FPU instruction, by opcode id, from the names of rows.

Source of the restrictions: MIPS32 Architecture for Programmers, volume I, chapter 5, and
volume II. An odd register for a 64-bit value, or format L, with Status.FR = 0 is unpredictable
there; as in QEMU it is a reserved instruction, but for LDC1 and SDC1, which take the pair.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from disco_trace.machine.isa import NAMES, TABLE

S, D, W, L = range(4)
_FORMAT: Final = {"s": S, "d": D, "w": W, "l": L}

# What `execute` dispatches on; ELSEWHERE are those that the hot loop always does itself.
(
    ELSEWHERE, ADD, SUB, MUL, DIV, SQRT, ABS, NEG, RECIP, RSQRT, MADD, MSUB, NMADD, NMSUB,
    ROUND, TRUNC, CEIL, FLOOR, CVT, COMPARE, CFC1, CTC1,
) = range(22)  # fmt: skip
KINDS: Final = {
    "add": ADD, "sub": SUB, "mul": MUL, "div": DIV, "sqrt": SQRT, "abs": ABS, "neg": NEG,
    "recip": RECIP, "rsqrt": RSQRT, "madd": MADD, "msub": MSUB, "nmadd": NMADD, "nmsub": NMSUB,
    "round": ROUND, "trunc": TRUNC, "ceil": CEIL, "floor": FLOOR, "cvt": CVT, "c": COMPARE,
    "cfc1": CFC1, "ctc1": CTC1,
}  # fmt: skip

# Which of the machine's FPU latencies an instruction costs.
COSTS: Final = ("add", "mul", "madd", "div_single", "div_double", "sqrt_single", "sqrt_double",
                "rsqrt_single", "rsqrt_double")  # fmt: skip
NO_COST: Final = len(COSTS)
_COST: Final = (
    dict.fromkeys(("add", "sub", "abs", "neg", "round", "trunc", "ceil", "floor", "cvt", "c"), 0)
    | {"mul": 1}
    | dict.fromkeys(("madd", "msub", "nmadd", "nmsub"), 2)
)
_COST_BY_FORMAT: Final = {"div": 3, "recip": 3, "sqrt": 5, "rsqrt": 7}

# Kinds that the hot loop can carry out (of these not the format L).
_HOT: Final = (ADD, SUB, MUL, DIV, SQRT, ABS, NEG, MADD, MSUB, NMADD, NMSUB, TRUNC, CVT, COMPARE)

# Of an instruction's word: the major opcode, some bit of which is set in all of coprocessor 1 but
# MOVF and MOVT.
MAJOR = 0xFC000000

# Lowest bit of the number of an FPU register, by its letter in an encoding.
_FIELD: Final = {"v": 21, "w": 16, "x": 11, "y": 6}
ANY_ODD = sum(1 << at for at in _FIELD.values())


def _tables() -> tuple[np.ndarray, ...]:
    """Return, by opcode id: kind, format from, format to, odd bits, needs FR = 1, cost."""
    count = len(NAMES)
    kind = np.full(count, ELSEWHERE, np.int64)
    source, target = np.zeros(count, np.int64), np.zeros(count, np.int64)
    odd, wide = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    cost = np.full(count, NO_COST, np.int64)
    for op, row in enumerate(TABLE, count - len(TABLE)):
        if "F" not in row.flags:
            continue
        name, *suffixes = row.name.split(".")
        formats = [_FORMAT[text] for text in suffixes if text in _FORMAT]
        if name in ("luxc1", "suxc1"):
            wide[op] = True
        if name in ("ldxc1", "sdxc1"):
            formats = [D]
        if name in ("cfc1", "ctc1") or formats:
            kind[op] = KINDS.get(name, ELSEWHERE)
        if not formats:
            continue
        source[op], target[op] = formats[-1], formats[0]
        wide[op] |= L in formats
        for letter, at in _FIELD.items():
            # The destination has the first format, all operands have the last.
            held = formats[0] if letter == "y" else formats[-1]
            if letter * 5 in row.encoding and held == D:
                odd[op] |= 1 << at
        if name in _COST:
            cost[op] = _COST[name]
        elif name in _COST_BY_FORMAT:
            cost[op] = _COST_BY_FORMAT[name] + (formats[0] == D)
    return kind, source, target, odd, wide, cost


KIND, SOURCE, TARGET, ODD, WIDE, COST = _tables()
HOT_KIND = np.where(np.isin(KIND, _HOT) & ~WIDE, KIND, ELSEWHERE)
# The bits of a word that can make an instruction leave the hot loop, for its masks to choose from.
LEAVES = (MAJOR | ODD).astype(np.uint64)
