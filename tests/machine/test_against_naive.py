"""Random programs in every mode, through random TLBs, agree with the naive processor.

What oracles cannot give: user and supervisor mode, code that runs from mapped pages of all sizes,
address spaces that change, entries rewritten under the code, software interrupts, branches in slots
and nested exceptions, all mixed. Compared are all registers, the TLB and all memory, after runs of
one to eighty instructions.
"""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from disco_trace.machine import kernel, layout
from tests.machine.assemble import assemble, encode
from tests.machine.board import Board
from tests.machine.naive_cpu import EBASE, ENTRYHI, INT, STATUS, WRITABLE, Fault, Naive, Unknown

NAMES = {
    "plain": "addu subu and or xor nor slt sltu movz movn sllv srlv srav rotrv mult multu div divu "
    "mul madd maddu msub msubu clz clo mfhi mflo mthi mtlo wsbh seb seh add sub",
    "shift": "sll srl sra rotr",
    "immediate": "addiu addiu addiu slti sltiu andi ori xori lui addi",
    "load": "lb lbu lh lhu lw lw lw lwl lwr ll",
    "store": "sb sh sw sw sw swl swr sc",
    "branch": "beq bne beql bnel blez bgtz blezl bgtzl bltz bgez bltzl bgezl bltzal bgezal bltzall "
    "bgezall",
    "trap": "teq tne tge tlt tgeu tltu",
    "moved": "index entrylo0 entrylo1 context pagemask wired hwrena entryhi epc errorepc userlocal "
    "cause",
    "read": "status badvaddr prid ebase config config1 config2 config3 srsctl lladdr watchlo",
}
MIX = {kind: names.split(" ") for kind, names in NAMES.items()}
SYSTEM = [
    *(assemble(f"{move} $t0, {name}")[0] for name in MIX["moved"] for move in ("mfc0", "mtc0")),
    *(assemble(f"mfc0 $t0, {name}")[0] for name in MIX["read"]),
    *assemble("tlbwi\n tlbp\n tlbr\n" * 6 + "eret\n di $t0\n ei $t0\n ei $t0\n syscall\n"
              "break\n sync\n sdbbp\n rdhwr $t0, $29\n rdhwr $t0, $1\n synci 0($t0)\n"
              "cache 0x15, 0($t0)\n cache 0x10, 0($t0)\n cache 0, 0($t0)\n pref 0, 0($t0)\n"
              "mtc0 $t0, status"),
]  # fmt: skip

HANDLER = """
    mfc0 $k1, cause
    ins  $k1, $zero, 8, 2      # the software interrupts
    mtc0 $k1, cause
    mfc0 $k0, epc
    mfc0 $k1, badvaddr
    bne  $k0, $k1, on
    addiu $k0, $k0, 4          # slot
    lui  $k1, 0x8000           # a fetch has failed: go on somewhere else
    lw   $k0, 0x7ffc($k1)
    addiu $k0, $k0, 4
    sw   $k0, 0x7ffc($k1)
    andi $k0, $k0, 0xfc
    addu $k1, $k1, $k0
    lw   $k0, 0x7e00($k1)
on: mtc0 $k0, epc
    eret
"""
CODE, CODE_WORDS, DATA = 0x10000, 2048, 0x20000
# Virtual pairs of pages, by the size of a page; frames are of the code or the data.
PLACES = [(0x00400000, 0), (0x00402000, 0), (0x7FFFE000, 0), (0x00808000, 1), (0x00840000, 2),
          (0x00900000, 2), (0xC0000000, 0), (0xC0008000, 1), (0xDFFFE000, 0), (0xE0000000, 0),
          (0xFFFFE000, 0), (0x10000000, 4)]  # fmt: skip


# What the machine remembers must not show: page filters and caches of several sizes, stalls.
SHAPES = [
    [],
    ["machine.page_filter_entries=1", "machine.l1d.size_bytes=1KiB", "time.feedback=full"],
    ["machine.l1i.size_bytes=1KiB", "machine.l1d.ways=1"],
    ["machine.page_filter_entries=64"],
]


def word(rng: random.Random) -> int:
    """Return an instruction of the mix, now and then none at all."""
    kind = rng.random()
    # Pointers are in registers 16 to 25, and mostly stay there.
    d, t = (rng.randrange(16 if rng.random() < 0.97 else 26) for _ in "dt")
    s = rng.randrange(26)
    if kind < 0.25:
        return encode(rng.choice(MIX["plain"]), d=d, s=s, t=t)
    if kind < 0.30:
        return encode(rng.choice(MIX["shift"]), d=d, t=t, a=rng.randrange(32))
    if kind < 0.38:
        return encode(rng.choice(MIX["immediate"]), t=t, s=s, i=rng.getrandbits(16))
    if kind < 0.50:
        return _access(rng, rng.choice(MIX["load"]), t)
    if kind < 0.60:
        return _access(rng, rng.choice(MIX["store"]), t)
    if kind < 0.73:
        return _branch(rng, s, t)
    if kind < 0.745:
        return encode(rng.choice(["jr", "jalr"]), s=rng.randrange(24, 26), d=rng.choice((31, 5)))
    if kind < 0.755:
        return encode(rng.choice(["j", "jal"])) | CODE + 4 * rng.randrange(CODE_WORDS) >> 2
    if kind < 0.77:
        return encode(rng.choice(MIX["trap"]), s=s, t=t)
    if kind < 0.80:
        return encode(
            rng.choice(["ext", "ins"]), s=s, t=t, d=rng.randrange(32), a=rng.randrange(32)
        )
    if kind < 0.99:
        chosen = rng.choice(SYSTEM)
        # T0 in the place of rt or, for addresses, of rs.
        if chosen >> 26 == 16 and chosen >> 21 & 31 < 16:
            chosen = chosen & ~(31 << 16) | t << 16
        return chosen
    return rng.getrandbits(32)


def _access(rng: random.Random, name: str, t: int) -> int:
    """Return a load or store, aligned in most cases."""
    align = {"lh": 2, "lhu": 2, "sh": 2, "lw": 4, "ll": 4, "sw": 4, "sc": 4}.get(name, 1)
    offset = rng.randrange(-64, 64) & (-align if rng.random() < 0.95 else -1)
    return encode(name, t=t, s=rng.randrange(16, 24), i=offset)


def _branch(rng: random.Random, s: int, t: int) -> int:
    name = rng.choice(MIX["branch"])
    fields = {"s": s, "i": rng.randrange(-24, 40)}
    if name in ("beq", "bne", "beql", "bnel"):
        fields["t"] = t
    return encode(name, **fields)


def pointer(rng: random.Random) -> int:
    """Return an address near the end or the start of a page that may be mapped, or of memory."""
    base, size = rng.choice([*PLACES, (0x80020000, 0), (0xA0020000, 0), (0x80010000, 0)])
    near = rng.choice((0, 0x1000 << 2 * size, 0x2000 << 2 * size, rng.randrange(0x2000)))
    return (base + near + 4 * rng.randrange(-8, 8) + (rng.random() < 0.03)) & 0xFFFFFFFF


def entry(rng: random.Random) -> tuple[int, int, int, int]:
    base, size = rng.choice(PLACES)
    mask = ((1 << 2 * size) - 1) << 13
    both = rng.random() < 0.4
    lo = []
    for _ in range(2):
        frame = rng.choice((CODE, CODE + 0x1000, DATA, DATA + 0x3000, rng.randrange(1 << 21))) >> 12
        flags = rng.choice((2, 3)) << 3 | (rng.random() < 0.7) << 2 | (rng.random() < 0.85) << 1
        lo.append(frame << 6 | flags | (both or rng.random() < 0.2))
    both = lo[0] & lo[1] & 1
    return base & ~mask | rng.randrange(3), mask, lo[0] & ~1 | both, lo[1] & ~1 | both


def start_address(rng: random.Random, status: int) -> int:
    offset = 4 * rng.randrange(1024)
    if status & 6 or not status & 0x18:
        return rng.choice((0x80010000, 0xA0010000, 0x00400000, 0xC0000000)) + offset
    return rng.choice((0x00400000, 0x00402000, 0x00808000)) + offset


def scramble(board: Board, rng: random.Random) -> Naive:
    """Put the machine into a random state; return a naive processor in the same one."""
    m = board.m
    m.ram[:] = 0
    m.ops[:] = 0
    board.words(CODE, [word(rng) for _ in range(CODE_WORDS)])
    board.words(DATA, [rng.getrandbits(32) for _ in range(0x4000 // 4)])
    for vector in (0, 0x180, 0x200):
        board.words(vector, assemble(HANDLER, 0x80000000 + vector))
    status = rng.choice((0, 0, 0x08, 0x10, 0x10)) | rng.choice((0, 1)) | rng.choice((0, 0x300))
    status |= rng.choice((0, 0, 0, 2, 4)) | (rng.random() < 0.1) << 28
    board.words(0x7E00, [start_address(rng, status) for _ in range(64)])
    for register in range(1, 34):
        known = 16 <= register < 24 or rng.random() < 0.4
        m.gpr[0, register] = pointer(rng) if known else rng.getrandbits(32)
    m.gpr[0, 24:26] = [start_address(rng, status) for _ in "ab"]
    for register, mask in WRITABLE.items():
        m.cp0[0, register] = int(m.cp0[0, register]) & ~mask | rng.getrandbits(32) & mask
    m.cp0[0, layout.CAUSE] = rng.choice((0, 0, 1 << 23)) | rng.choice((0, 0x100, 0x200))
    m.cp0[0, STATUS], m.cp0[0, EBASE] = status, 0x80000000
    m.cp0[0, ENTRYHI] = int(m.cp0[0, ENTRYHI]) & 0xFFFFE000 | rng.randrange(3)
    m.cp0[0, layout.WIRED] = 0
    m.cp0[0, layout.INDEX] = rng.randrange(16)
    m.cp0[0, layout.PAGEMASK] = rng.choice((0, 0, 0x6000, 0x1E000))
    for number in range(16):
        hi, mask, lo0, lo1 = entry(rng)
        board.tlb(number, hi, lo0, lo1, mask)
    m.filter[:] = 0
    m.hint[:] = 0
    m.s[0, [layout.S_LL, layout.S_LLADDR, layout.S_WAITING, layout.S_FRUITLESS]] = 0
    board.jump(start_address(rng, status))
    kernel.start(m, board.memory)
    board.started = True
    board.empty()

    naive = Naive(m.ram.copy(), 16)
    naive.r = [int(value) for value in m.gpr[0, :32]]
    naive.hi, naive.lo = int(m.gpr[0, layout.HI]), int(m.gpr[0, layout.LO])
    naive.k = [int(value) for value in m.cp0[0]]
    table = m.tlb[0].reshape(layout.MAX_TLB, layout.TLB_WORDS)
    for number in range(16):
        row = table[number]
        naive.tlb[number] = tuple(
            int(row[at]) for at in (layout.T_HI, layout.T_MASK, layout.T_LO0, layout.T_LO1)
        )
    naive.jump(board.get("pc"))
    return naive


def compare(board: Board, naive: Naive, memory: bool) -> None:
    m = board.m
    pc = (board.get("pc"), int(m.s[0, layout.S_NPC]), bool(m.s[0, layout.S_SLOT]))
    assert pc == (naive.pc, naive.npc, naive.slot), [hex(n) for n in (*pc, naive.pc)]
    assert [int(value) for value in m.gpr[0, :32]] == naive.r
    assert (board.get("hi"), board.get("lo")) == (naive.hi, naive.lo)
    found = [int(value) for value in m.cp0[0]]
    for register, value in enumerate(naive.k):
        if register not in (layout.RANDOM, layout.COUNT, layout.LLADDR, layout.COMPARE):
            assert found[register] == value, (register // 8, register % 8)
    assert bool(m.s[0, layout.S_LL]) == naive.reserved
    table = m.tlb[0].reshape(layout.MAX_TLB, layout.TLB_WORDS)[:16]
    assert [tuple(int(row[at]) for at in (layout.T_HI, layout.T_MASK, layout.T_LO0, layout.T_LO1))
            for row in table] == naive.tlb  # fmt: skip
    if memory:
        different = np.flatnonzero(m.ram != naive.memory)
        assert not len(different), [hex(4 * at) for at in different[:4]]


def agree(seed: int, instructions: int) -> dict[str, int]:
    """Compare that many instructions; return what they met."""
    rng = random.Random(seed)
    board = Board("machine.tlb_entries=16", "machine.ram_bytes=1MiB", *SHAPES[seed % len(SHAPES)])
    done, met = 0, {"user": 0, "supervisor": 0, "mapped": 0, "exceptions": 0, "rounds": 0}
    while done < instructions:
        naive = scramble(board, rng)
        met["rounds"] += 1
        for _ in range(8):
            count, known = 0, True
            for _ in range(rng.choice((1, 2, 7, 20, 80))):
                try:
                    naive.retire()
                except Unknown:
                    known = False
                    break
                count += 1
                met["user"] += naive.mode() == 2
                met["supervisor"] += naive.mode() == 1
                met["mapped"] += not 4 <= naive.pc >> 29 <= 5
                met["exceptions"] += naive.pc in (0x80000004, 0x80000184, 0x80000204)
            if count:
                board.step(count)
                if naive.interrupted():  # the machine takes it before it stops
                    naive.enter(Fault(INT))
                compare(board, naive, memory=True)
            done += count
            if not known:
                break
    met["instructions"] = done
    return met


def test_random_programs():
    total: Counter[str] = Counter()
    for seed in range(2 * len(SHAPES)):
        total.update(agree(seed, 20_000))
    assert total["instructions"] >= 160_000
    assert total["user"] > 5_000
    assert total["supervisor"] > 2_000
    assert total["mapped"] > 10_000
    assert total["exceptions"] > 5_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_more_random_programs(seed):
    """Four million instructions."""
    assert agree(seed, 200_000)["instructions"] >= 200_000
