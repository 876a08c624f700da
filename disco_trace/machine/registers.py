"""The bits of CP0 registers that software can write, and the registers that are plain storage.

Source: MIPS32 Architecture for Programmers, volume III, chapter 9.
"""

from __future__ import annotations

import numpy as np

from disco_trace.machine.layout import (
    CAUSE,
    COMPARE,
    CONFIG,
    CONFIG7,
    CONTEXT,
    COUNT,
    CP0_WORDS,
    DTAGHI,
    DTAGLO,
    EBASE,
    ENTRYHI,
    ENTRYLO0,
    ENTRYLO1,
    EPC,
    ERRCTL,
    ERROREPC,
    HWRENA,
    INDEX,
    LLADDR,
    PAGEMASK,
    RANDOM,
    STATUS,
    STATUS_CU1,
    STATUS_FR,
    TAGHI,
    TAGLO,
    USERLOCAL,
    WIRED,
)

# Registers that are absent here read as zero or are read-only. ErrCtl: its parity enables (bits 31
# and 23 of the 24K's) stay zero, which says that no cache has parity.
WRITABLE = np.zeros(CP0_WORDS, np.int64)
for _register, _mask in (
    (INDEX, 0x3F), (ENTRYLO0, 0x3FFFFFFF), (ENTRYLO1, 0x3FFFFFFF), (CONTEXT, 0xFF800000),
    (USERLOCAL, 0xFFFFFFFF), (PAGEMASK, 0x1FFFE000), (WIRED, 0x3F), (HWRENA, 0x2000000F),
    (ENTRYHI, 0xFFFFE0FF), (COMPARE, 0xFFFFFFFF), (STATUS, 0x1840FF1F), (CAUSE, 0x08800300),
    (EPC, 0xFFFFFFFF), (EBASE, 0x3FFFF000), (CONFIG, 0x7), (CONFIG7, 0xFFFFFFFF),
    (ERRCTL, 0x7F7FFFFF), (ERROREPC, 0xFFFFFFFF), (TAGLO, 0xFFFFFFFF), (DTAGLO, 0xFFFFFFFF),
    (TAGHI, 0xFFFFFFFF), (DTAGHI, 0xFFFFFFFF),
):  # fmt: skip
    WRITABLE[_register] = _mask

# Of Status, if there is an FPU.
FPU_STATUS = STATUS_CU1 | STATUS_FR

# The hot loop reads and writes registers that are storage and no more; a change of the others
# (time, interrupts, modes, address space) is looked at by the slow part.
PLAIN_READ = np.ones(CP0_WORDS, np.bool_)
PLAIN_READ[[COUNT, RANDOM, LLADDR]] = False
PLAIN_WRITE = WRITABLE.astype(np.uint64)
PLAIN_WRITE[[COUNT, COMPARE, STATUS, CAUSE, ENTRYHI, WIRED, CONFIG]] = 0
