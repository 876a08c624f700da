"""A bare-metal image that writes, probes and reads random TLB entries and accesses through them.

Each record in memory gives one entry to write, one to read, an address to probe, an address space
and eight accesses; what came of them is hashed into the record, exceptions with their vector,
Cause, EPC, BadVAddr, Context and EntryHi. Frames lie in the upper half of 64 MB, away from the
image, so that stores do no harm. No two entries match the same address: which one translates then
is nowhere said (ours is the lowest; QEMU's is at times the one that it used before).
"""

from __future__ import annotations

import random

import numpy as np

from tests.machine.assemble import assemble
from tests.machine.blocks import DRIVER, VARIABLES, Batch

RECORD = 32  # words: entry 0-4, probe 5, read 6, address space 7, accesses 8-23, hash 31
ACCESSES = ("lw", "sw", "lb", "sb", "lhu", "sh", "lwl", "swr")
BLOCKS = 0x4000


def _hash(register: str) -> str:
    return f"rotr $s7, $s7, 27\n xor $s7, $s7, {register}\n mul $s7, $s7, $s6\n"


def _handler(vector: int) -> str:
    parts = [f"addiu $k0, $zero, {vector}\n" + _hash("$k0")]
    for name in ("cause", "epc", "badvaddr", "context", "entryhi"):
        mask = "andi $k0, $k0, 0x7c\n" if name == "cause" else ""
        parts.append(f"mfc0 $k0, {name}\n" + mask + _hash("$k0"))
    return "".join(parts) + "mfc0 $k0, epc\n addiu $k0, $k0, 4\n mtc0 $k0, epc\n nop\n eret\n"


STUBS = "".join(
    f"stub{n}: {name} $t3, 0($t2)\n b after\n nop\n nop\n" for n, name in enumerate(ACCESSES)
)
PROGRAM = f"""
    mtc0 $zero, status
    li   $k0, 0x80000000
    mtc0 $k0, ebase
    li   $s0, 0x80000000 + {BLOCKS}
    li   $s6, 0x9e3779b1
    li   $s5, 0x80000000
    lw   $s1, {VARIABLES}($s5)
record:
    addiu $s7, $zero, 0
    lw   $t0, 0($s0)
    mtc0 $t0, index
    lw   $t0, 4($s0)
    mtc0 $t0, entryhi
    lw   $t0, 8($s0)
    mtc0 $t0, entrylo0
    lw   $t0, 12($s0)
    mtc0 $t0, entrylo1
    lw   $t0, 16($s0)
    mtc0 $t0, pagemask
    nop
    tlbwi
    lw   $t0, 20($s0)
    mtc0 $t0, entryhi
    nop
    tlbp
    nop
    mfc0 $t0, index
    sra  $t1, $t0, 31           # a failed probe leaves only bit 31 to compare
    movn $t0, $t1, $t1
    {_hash("$t0")}
    lw   $t0, 24($s0)
    mtc0 $t0, index
    nop
    tlbr
    nop
    mfc0 $t0, entryhi
    {_hash("$t0")}
    mfc0 $t0, entrylo0
    {_hash("$t0")}
    mfc0 $t0, entrylo1
    {_hash("$t0")}
    mfc0 $t0, pagemask
    {_hash("$t0")}
    lw   $t0, 28($s0)
    mtc0 $t0, entryhi
    addiu $s2, $s0, 32
    addiu $s3, $s0, 96
access:
    lw   $t0, 0($s2)
    lw   $t2, 4($s2)
    addu $t3, $s7, $t2          # a value to store
    sll  $t0, $t0, 4
    li   $t1, stub0
    addu $t0, $t0, $t1
    jr   $t0
    nop
{STUBS}
after:
    {_hash("$t3")}
    addiu $s2, $s2, 8
    bne  $s2, $s3, access
    nop
    sw   $s7, 124($s0)
    addiu $s0, $s0, 128
    addiu $s1, $s1, -1
    bne  $s1, $zero, record
    nop
    li   $k1, 0x600d
    sw   $k1, {VARIABLES + 12}($s5)
end:
    b    end
    nop
"""


def _page(rng: random.Random) -> tuple[int, int, int, int]:
    """Return EntryHi, EntryLo0, EntryLo1 and PageMask of an entry, aligned to its page size."""
    pairs = rng.choice((0, 0, 0, 1, 2, 3, 6))  # 4 KB to 16 MB
    mask = ((1 << 2 * pairs) - 1) << 13
    size = 0x1000 << 2 * pairs
    hi = (_address(rng) & ~(mask | 0x1FFF)) | rng.randrange(4)
    lo = []
    both = rng.random() < 0.3
    for _ in range(2):
        frame = (0x2000 | rng.choice((0, 1, 2, rng.getrandbits(13)))) & ~((size >> 12) - 1)
        flags = rng.choice((2, 3)) << 3 | (rng.random() < 0.7) << 2 | (rng.random() < 0.8) << 1
        lo.append(frame << 6 | flags | (1 if both else rng.random() < 0.2))
    return hi, lo[0], lo[1], mask


def _overlap(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Tell whether there is an address that both entries match, in some address space."""
    common = ~(one[3] | other[3] | 0x1FFF) & 0xFFFFFFFF
    everywhere = (one[1] & one[2] | other[1] & other[2]) & 1
    return not (one[0] ^ other[0]) & common and bool(everywhere or not (one[0] ^ other[0]) & 255)


def _address(rng: random.Random, low: bool = True) -> int:
    """Return an address of a mapped segment, one of few pages mostly; page 0 only if `low`."""
    bases = (0, 0x400000, 0x7FFF0000, 0xC0000000, 0xE0000000, 0xFFFF0000)
    base = rng.choice(bases if low else bases[1:])
    return base + rng.choice((rng.getrandbits(15), rng.getrandbits(15), rng.getrandbits(16)))


def generate(seed: int, records: int) -> Batch:
    """Make an image of that many records; `Batch.result` is not for it, see `hashes`."""
    rng = random.Random(seed)
    text = PROGRAM.replace(f"0x80000000 + {BLOCKS}", hex(0x80000000 + BLOCKS))
    driver = assemble(text, 0x80000000 + DRIVER)
    image = np.zeros((BLOCKS >> 2) + RECORD * records, np.uint32)
    image[VARIABLES >> 2] = records
    for vector in (0, 0x180):
        words = assemble(_handler(vector), 0x80000000 + vector)
        assert len(words) <= 96
        image[vector >> 2 : (vector >> 2) + len(words)] = words
    image[DRIVER >> 2 : (DRIVER >> 2) + len(driver)] = driver
    held: dict[int, tuple[int, ...]] = {}
    for record in range(records):
        row = image[(BLOCKS >> 2) + RECORD * record :][:RECORD]
        # Every entry is written in turn at first: QEMU's, when new, all match address 0.
        filled = record >= 16
        entry = rng.randrange(16) if filled else record
        held.pop(entry, None)
        page = _page(rng)
        while any(_overlap(page, other) for other in held.values()):
            page = _page(rng)
        row[0], row[1:5], held[entry] = entry, page, page
        row[5] = (_address(rng, filled) & ~0x1FFF) | rng.randrange(4)
        row[6] = rng.randrange(min(record + 1, 16))
        row[7] = rng.randrange(4)
        for access in range(8):
            kind = rng.randrange(8)
            align = {0: 3, 1: 3, 4: 1, 5: 1}.get(kind, 0)
            wild = rng.random() < 0.1
            row[8 + 2 * access] = kind
            row[9 + 2 * access] = _address(rng, filled) & (0xFFFFFFFF if wild else ~align)
    end = 0x80000000 + DRIVER + 4 * (len(driver) - 2)
    return Batch(image, records, RECORD, 0, 0, end, 0)


def hashes(ram: np.ndarray, records: int) -> np.ndarray:
    """Return the records' hashes in a memory image."""
    at = BLOCKS >> 2
    return ram[at : at + RECORD * records].reshape(records, RECORD)[:, 31]
