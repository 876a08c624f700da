"""Batches of random blocks in one bare-metal image, for two simulators to agree on.

A driver in the image gives each block its registers and 256 bytes of scratch memory from the
block's *state*, runs its 64 instructions, and stores the registers back, so that the states in
memory at the end are the whole result. A block ends for certain: branches go forward, but for
those that count a reserved register down.

Results that the architecture leaves unpredictable are kept out by invariants on reserved
registers, which hold wherever a branch lands: s5 and s6 stay within ±2^30 (their sum does not
overflow), fp is odd (a divisor), gp is a negative pointer, s7 the counter, t8 the exit.
`fpu/blocks.py` adds floating point, with larger states.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

import numpy as np

from disco_trace.machine.isa import TABLE, Row
from tests.machine.assemble import assemble, encode

LENGTH = 64
CODE_WORDS = LENGTH + 8  # the block, its way out, nops
STATE_WORDS = 128
HI, LO, HASH, SCRATCH = 32, 33, 34, 48  # words of a state; 0 to 31 are the registers
VARIABLES, DRIVER, BLOCKS = 0x800, 0x1000, 0x4000
CORNERS = (0, 1, 2, 31, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF,
           0x80000000, 0x80000001, 0xFFFF8000, 0xFFFFFFFE, 0xFFFFFFFF)  # fmt: skip

S5, S6, S7, T8, K0, GP, SP, FP, RA = 21, 22, 23, 24, 26, 28, 29, 30, 31
FREE = (*range(21), 25, 31)  # what a block may write
READ = (*range(26), 28, 29, 30, 31)
NOT_RA = tuple(r for r in READ if r != RA)

RRR = [
    "addu",
    "subu",
    "and",
    "or",
    "xor",
    "nor",
    "slt",
    "sltu",
    "movz",
    "movn",
    "mul",
    "sllv",
    "srlv",
    "srav",
    "rotrv",
]
SHIFTS = ["sll", "srl", "sra", "rotr"]
IMMEDIATES = ["addiu", "slti", "sltiu", "andi", "ori", "xori"]
LOADS = {"lb": 1, "lbu": 1, "lh": 2, "lhu": 2, "lw": 4, "lwl": 1, "lwr": 1}
STORES = {"sb": 1, "sh": 2, "sw": 4, "swl": 1, "swr": 1}
PAIRS = ["beq", "bne", "beql", "bnel"]
SINGLES = ["blez", "bgtz", "blezl", "bgtzl", "bltz", "bgez", "bltzl", "bgezl"]
LINKS = ["bltzal", "bgezal", "bltzall", "bgezall"]
TRAPS = ["tge", "tgeu", "tlt", "tltu", "teq", "tne"]
TRAPS_I = ["tgei", "tgeiu", "tlti", "tltiu", "teqi", "tnei"]
# Not taken whatever the free registers hold: s > t holds for none, gp < 0, sp above all immediates.
QUIET_TRAPS = (
    lambda r, i: encode("tne", s=r, t=r), lambda r, i: encode("tlt", s=r, t=r),
    lambda r, i: encode("tltu", s=r, t=r), lambda r, i: encode("teq", s=SP, t=0),
    lambda r, i: encode("tge", s=GP, t=0), lambda r, i: encode("tgeu", s=0, t=GP),
    lambda r, i: encode("tgei", s=GP, i=i), lambda r, i: encode("tlti", s=0, i=-abs(i)),
    lambda r, i: encode("tgeiu", s=0, i=i | 1), lambda r, i: encode("tltiu", s=r, i=0),
    lambda r, i: encode("teqi", s=GP, i=i), lambda r, i: encode("tnei", s=0, i=0),
)  # fmt: skip
# Exceptions for certain: reserved encodings, coprocessors that are absent, system calls.
LOUD = (
    0x0000000C, 0x0000000D, 0x0000002D, 0x7000003E & ~1, 0xDC000000, 0x44001000,
    0xC7A00000, 0x4C000000, 0xCBA00000,
)  # fmt: skip

PROGRAM = """
    li   $k0, status_bits
    mtc0 $k0, status
    li   $k0, 0x80000000
    mtc0 $k0, ebase
loop:
    li   $k0, 0x80000000
    lw   $k1, 0x800($k0)        # blocks that remain
    beq  $k1, $zero, done
    nop
    addiu $k1, $k1, -1
    sw   $k1, 0x800($k0)
    lw   $k1, 0x804($k0)        # the block's code
    lw   $sp, 0x808($k0)        # its state
    addiu $t0, $k1, code_bytes
    sw   $t0, 0x804($k0)
    addiu $t0, $sp, state_bytes
    sw   $t0, 0x808($k0)
    lw   $t0, 128($sp)
    mthi $t0
    lw   $t0, 132($sp)
    mtlo $t0
    LOAD
    jr   $k1
    ll   $k0, 124($gp)          # slot
exit:
    STORE
    mfhi $t0
    sw   $t0, 128($sp)
    mflo $t0
    sw   $t0, 132($sp)
    b    loop
    nop
done:
    li   $k1, 0x600d
    sw   $k1, 0x80c($k0)
end:
    b    end
    nop
"""
# Mixes an exception into the block's hash and goes on behind it (behind the slot, in a slot).
HANDLER = """
    sw   $t0, 144($sp)
    lw   $k1, 136($sp)
    rotr $k1, $k1, 7
    mfc0 $t0, cause
    li   $k0, 0x8000007c        # BD and ExcCode
    and  $k0, $t0, $k0
    xor  $k1, $k1, $k0
    addiu $k0, $k0, -44         # of Coprocessor Unusable also CE, which others leave undefined
    ext  $t0, $t0, 28, 2
    sll  $k0, $k0, 1            # BD away
    movn $t0, $zero, $k0
    xor  $k1, $k1, $t0
    mfc0 $t0, cause
    mfc0 $k0, epc
    addu $k1, $k1, $k0
    srl  $t0, $t0, 31
    sll  $t0, $t0, 2
    addu $k0, $k0, $t0
    addiu $k0, $k0, 4
    mtc0 $k0, epc
    mfc0 $k0, badvaddr
    xor  $k1, $k1, $k0
    sw   $k1, 136($sp)
    lw   $t0, 144($sp)
    sll  $zero, $zero, 3        # ehb
    eret
"""


@dataclass(frozen=True)
class Batch:
    """An image and where its parts lie (KSEG0 addresses; `image` starts at physical 0)."""

    image: np.ndarray  # uint32
    blocks: int
    state_words: int
    code: int
    states: int
    end: int
    overhead: int  # instructions of the driver for each block

    def result(self, ram: np.ndarray) -> np.ndarray:
        """Return the states in a memory image: uint32 [blocks, state_words]."""
        at = (self.states & 0x1FFFFFFF) >> 2
        size = self.blocks * self.state_words
        return ram[at : at + size].reshape(self.blocks, self.state_words)

    def words(self, block: int) -> list[int]:
        """Return a block's instructions."""
        at = ((self.code & 0x1FFFFFFF) >> 2) + block * CODE_WORDS
        return [int(word) for word in self.image[at : at + LENGTH]]


class Integers:
    """What a batch is made of: this class has integer blocks, `fpu/blocks.py` another."""

    status = 0
    state_words = STATE_WORDS
    # Instructions that load and store what a state has beside the general registers.
    load = store = ""

    def prepare(self, rng: random.Random, state: np.ndarray) -> None:
        """Fill in the state of a block, whose general part is there."""

    def plain(self, rng: random.Random, exceptions: bool) -> int:
        """Return an instruction that is no branch."""
        return integer_word(rng, exceptions)

    def branch(self, rng: random.Random, ahead: int) -> int | None:
        """Return a branch of `ahead` words that takes none of the usual forms, or None."""
        return None


def generate(
    seed: int,
    blocks: int,
    *,
    exceptions: bool,
    gentle: bool = False,
    kind: Integers | None = None,
) -> Batch:
    """Make a batch; with `exceptions`, blocks also fault on purpose, in and out of slots.

    `gentle` leaves out what GXemul does otherwise than the architecture says, see `_soften`.
    """
    rng = random.Random(seed)
    kind = kind or Integers()
    words = kind.state_words
    registers = [f"{{}} ${n}, {4 * n}($sp)" for n in range(1, 32) if n not in (26, 27, 29)]
    text = PROGRAM.replace("LOAD", kind.load + "\n".join(r.format("lw") for r in registers))
    text = text.replace("STORE", "\n".join(r.format("sw") for r in registers) + kind.store)
    driver = assemble(
        text, 0x80000000 + DRIVER, code_bytes=4 * CODE_WORDS, state_bytes=4 * words,
        status_bits=kind.status,
    )  # fmt: skip
    exit_address = 0x80000000 + DRIVER + 4 * driver.index(encode("jr", s=27)) + 8
    code = 0x80000000 + BLOCKS
    states = code + 4 * CODE_WORDS * blocks
    image = np.zeros((states - 0x80000000) // 4 + words * blocks, np.uint32)
    image[VARIABLES // 4 : VARIABLES // 4 + 3] = blocks, code, states
    handler = assemble(HANDLER)
    image[0x180 // 4 : 0x180 // 4 + len(handler)] = handler
    image[DRIVER // 4 : DRIVER // 4 + len(driver)] = driver
    way_out = assemble("j out\nnop", code, out=exit_address)
    for block in range(blocks):
        at = BLOCKS // 4 + block * CODE_WORDS
        body = _block(kind, rng, code + 4 * CODE_WORDS * block, exceptions)
        image[at : at + LENGTH] = _soften(body) if gentle else body
        image[at + LENGTH : at + LENGTH + 2] = way_out
        at = (states - 0x80000000) // 4 + block * words
        image[at : at + 32] = [_value(rng) for _ in range(32)]
        image[at + S5], image[at + S6] = (
            rng.randrange(-(1 << 30), 1 << 30) & 0xFFFFFFFF for _ in "ab"
        )
        image[at + S7], image[at + T8] = rng.randrange(4), exit_address
        image[at + FP] |= 1
        image[at + GP] = states + 4 * (block * words + SCRATCH) + 128
        image[at + HI], image[at + LO] = _value(rng), _value(rng)
        image[at + SCRATCH : at + SCRATCH + 64] = [_value(rng) for _ in range(64)]
        kind.prepare(rng, image[at : at + words])
    end = 0x80000000 + DRIVER + 4 * (len(driver) - 2)
    # All of the driver is run for each block but its first six words and its last five.
    overhead = len(driver) - 11 + len(way_out)
    return Batch(image, blocks, words, code, states, end, overhead)


def elf(batch: Batch, image: np.ndarray | None = None) -> bytes:
    """Wrap a batch's image (or a changed one) into an ELF file with one segment at 0x80000000."""
    data = (batch.image if image is None else image).astype("<u4").tobytes()
    entry = 0x80000000 + DRIVER
    head = struct.pack(
        "<16sHHIIIIIHHHHHH",
        b"\x7fELF\1\1\1", 2, 8, 1, entry, 52, 0, 0x70001000, 52, 32, 1, 40, 0, 0,
    )  # fmt: skip
    segment = struct.pack("<8I", 1, 4096, 0x80000000, 0, len(data), len(data), 7, 4096)
    return (head + segment).ljust(4096, b"\0") + data


def _value(rng: random.Random) -> int:
    return rng.choice(CORNERS) if rng.random() < 0.3 else rng.getrandbits(32)


def _block(kind: Integers, rng: random.Random, base: int, exceptions: bool) -> list[int]:
    words: list[int] = []
    while len(words) < LENGTH:
        room = LENGTH - len(words)
        if rng.random() < 0.16 and room >= 2:
            words += _branch(kind, rng, base, len(words), exceptions)
        elif rng.random() < 0.02 and room >= 2:
            # A second SC without an LL between may do anything: every SC is followed by an LL.
            words.append(encode("sc", t=rng.choice(FREE), s=GP, i=124))
            words.append(encode("ll", t=K0, s=GP, i=124))
        else:
            words.append(kind.plain(rng, exceptions))
    return words


NO_ROW = Row("reserved", "n" * 32)
BY_MAJOR = [[(row.mask, row.match, row) for row in TABLE if row.match >> 26 == major]
            for major in range(64)]  # fmt: skip


def _row(word: int) -> Row:
    rows = BY_MAJOR[word >> 26]
    return next((row for mask, match, row in rows if word & mask == match), NO_ROW)


WRITES_RT = {*LOADS, "ll", "sc", "addi"}
WRITES_RD = {"add", "sub", "jalr"}
GXEMUL_LACKS = {"lwc2", "ldc2", "swc2", "sdc2"}


def _soften(words: list[int]) -> list[int]:
    """Put nops where GXemul 0.7 departs: what it lacks, and what would change its register 0."""
    soft = []
    for word in words:
        row = _row(word)
        zero = (
            (("D" in row.flags or row.name in WRITES_RD) and word >> 11 & 31 == 0)
            or (("T" in row.flags or row.name in WRITES_RT) and word >> 16 & 31 == 0)
        )  # fmt: skip
        soft.append(0 if zero or row.name in GXEMUL_LACKS else word)
    return soft


def _branch(kind: Integers, rng: random.Random, base: int, at: int, exceptions: bool) -> list[int]:
    """Return a branch and its slot, for the words `at` and `at + 1` of a block."""
    if at > 8 and rng.random() < 0.1:
        back = -rng.randrange(2, 8)
        name = rng.choice(["bgtz", "bgtzl"])
        return [encode(name, s=S7, i=back), encode("addiu", t=S7, s=S7, i=-1)]
    slot = kind.plain(rng, exceptions)
    # Counted from the slot; at most to the way out behind the block.
    ahead = min(rng.randrange(1, 9), LENGTH - at - 1)
    other = kind.branch(rng, ahead)
    if other is not None:
        return [other, slot]
    form = rng.random()
    if form < 0.35:
        s, t = rng.choice(READ), rng.choice(READ)
        if exceptions and s == t:
            t = (s + 1) % 20  # QEMU loses BD for a faulting slot of a branch never taken
        return [encode(rng.choice(PAIRS), s=s, t=t, i=ahead), slot]
    if form < 0.7:
        s = rng.choice(READ[1:] if exceptions else READ)
        return [encode(rng.choice(SINGLES), s=s, i=ahead), slot]
    if form < 0.85:
        s = rng.choice(NOT_RA[1:] if exceptions else NOT_RA)
        return [encode(rng.choice(LINKS), s=s, i=ahead), slot]
    if form < 0.98:
        target = base + 4 * (at + 1 + ahead)
        name = rng.choice(["j", "jal"])
        return [encode(name) | (target >> 2) & 0x3FFFFFF, slot]
    if rng.random() < 0.5:
        return [encode("jr", s=T8), slot]
    return [encode("jalr", d=rng.choice(FREE), s=T8), slot]


def integer_word(rng: random.Random, exceptions: bool) -> int:
    """Return an instruction that is no branch."""
    a, b, d = rng.choice(READ), rng.choice(READ), rng.choice(FREE)
    kind = rng.random()
    immediate = rng.choice(CORNERS) if rng.random() < 0.3 else rng.getrandbits(16)
    if exceptions and kind < 0.03:
        return _fault(rng, a, b, d, immediate)
    if kind < 0.22:
        return encode(rng.choice(RRR), d=d, s=a, t=b)
    if kind < 0.32:
        return encode(rng.choice(SHIFTS), d=d, t=b, a=rng.randrange(32))
    if kind < 0.42:
        return encode(rng.choice(IMMEDIATES), t=d, s=a, i=immediate)
    if kind < 0.44:
        return encode("lui", t=d, i=immediate)
    if kind < 0.54:
        name = rng.choice(list(LOADS))
        return encode(name, t=d, s=GP, i=rng.randrange(-128, 128) & -LOADS[name])
    if kind < 0.64:
        name = rng.choice(list(STORES))
        return encode(name, t=a, s=GP, i=rng.randrange(-128, 124) & -STORES[name])
    if kind < 0.67:
        return encode("ll", t=d or K0, s=GP, i=124)  # GXemul has no LL to register 0
    if kind < 0.73:
        return encode(rng.choice(["mult", "multu", "madd", "maddu", "msub", "msubu"]), s=a, t=b)
    if kind < 0.75:
        return encode(rng.choice(["div", "divu"]), s=a, t=FP)
    if kind < 0.80:
        name = rng.choice(["mfhi", "mflo", "mthi", "mtlo"])
        return encode(name, d=d) if name[1] == "f" else encode(name, s=a)
    if kind < 0.84:
        low = rng.randrange(32)
        size = rng.randrange(1, 33 - low)
        if rng.random() < 0.5:
            return encode("ext", t=d, s=a, a=low, d=size - 1)
        return encode("ins", t=d, s=a, a=low, d=low + size - 1)
    if kind < 0.88:
        return encode(rng.choice(["wsbh", "seb", "seh"]), d=d, t=a)
    if kind < 0.90:
        return encode(rng.choice(["clz", "clo"]), d=d, t=d, s=a)
    if kind < 0.94:
        s, t = rng.choice([S5, S6]), rng.choice([S5, S6])
        if rng.random() < 0.3:
            return encode("addi", t=d, s=s, i=immediate)
        return encode(rng.choice(["add", "sub"]), d=d, s=s, t=t)
    if kind < 0.96:
        return encode("sra", d=rng.choice([S5, S6]), t=a, a=rng.randrange(1, 32))
    if kind < 0.97:
        return encode("ori", t=FP, s=a, i=immediate | 1)
    if kind < 0.99:
        return rng.choice(QUIET_TRAPS)(a, immediate & 0x7FFF)
    return rng.choice([encode("sync"), encode("pref", s=GP), 0, 0x40, 0xC0])


def _fault(rng: random.Random, a: int, b: int, d: int, immediate: int) -> int:
    """Return an instruction that may well fault."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.choice(LOUD)
    if kind == 1:
        return encode(rng.choice(["add", "sub"]), d=d, s=a, t=b)
    if kind == 2:
        return encode(rng.choice(TRAPS), s=a, t=b)
    if kind == 3:
        return encode(rng.choice(TRAPS_I), s=a, i=immediate)
    name = rng.choice(["lh", "lhu", "lw", "ll", "sh", "sw"])
    return encode(name, t=d, s=GP, i=rng.randrange(-64, 60) | 1)
