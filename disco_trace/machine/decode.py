"""Decode one instruction word to its dense opcode id."""

from __future__ import annotations

from disco_trace.jit import helper
from disco_trace.machine.isa import (
    DECODE_DESTINATION,
    DECODE_ID,
    DECODE_MASK,
    DECODE_MATCH,
    DECODE_START,
    ID,
    NOP,
    PHASE,
    RESERVED,
    RESERVED_FLOAT,
)

_ADDIU = ID["addiu"]


@helper
def decode(word):
    """Return the opcode id of a word; RESERVED if the architecture defines no instruction.

    Instructions whose only effect is on register 0 become NOP, and `addiu $0, $0, n` a phase
    mark. Undefined encodings of coprocessor 1 have an id of their own, because an unusable
    coprocessor is reported before a reserved encoding.
    """
    major = (word >> 26) & 63
    for row in range(DECODE_START[major], DECODE_START[major + 1]):
        if word & DECODE_MASK[row] == DECODE_MATCH[row]:
            op = DECODE_ID[row]
            where = DECODE_DESTINATION[row]
            if where != 0 and (word >> where) & 31 == 0:
                if op == _ADDIU and (word >> 21) & 31 == 0 and word & 0xFFFF != 0:
                    return PHASE
                return NOP
            return op
    if major == 17 or major == 19:
        return RESERVED_FLOAT
    return RESERVED
