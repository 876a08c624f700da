"""Run nonsense: random words in random states, with devices in reach, and look at what is left.

As a program (`python -m tests.machine.robust SEED INSTRUCTIONS`) for runs under
NUMBA_BOUNDSCHECK=1, which must be set before the kernels are imported.
"""

from __future__ import annotations

import random
import sys

import numpy as np

from disco_trace.machine import isa, kernel, layout, slots
from disco_trace.machine.cop0 import WRITABLE
from disco_trace.machine.fpu.execute import FCSR_WRITABLE
from disco_trace.memory.layout import C_CLOCK, CPU_WORDS
from tests.machine.assemble import assemble
from tests.machine.board import Board
from tests.machine.fpu.operands import D, S, random_float

# Small and odd machines first of all: their indices are nearest to their bounds.
MACHINES = (
    (),
    ("machine.tlb_entries=8", "machine.page_filter_entries=1", "machine.turn_cycles=1"),
    ("machine.tlb_entries=9", "machine.page_filter_entries=2", "machine.turn_cycles=7"),
    ("machine.l1i.size_bytes=1KiB", "machine.l1d.size_bytes=1KiB", "time.feedback=full"),
    ("machine.l1d.ways=1", "machine.l1i.ways=4", "memory.l2.size_bytes=64KiB"),
    ("machine.ram_bytes=256MiB", "time.feedback=full"),
)
DEVICES = ("machine.disk_latency_ns=500", "machine.network_latency_ns=100",
           "machine.disk_mbytes_per_s=10000", "machine.network_mbits_per_s=100000",
           "machine.network_ports=3")  # fmt: skip
POINTERS = (
    0x00000000, 0x00400000, 0x7FFFFFF0, 0x80000000, 0x80000180, 0x80010000, 0x80FFFFF0,
    0x81000000, 0x8FFFFFFC, 0xA0010000, 0xBF000000, 0xBF001000, 0xBF002000, 0xBF003000,
    0xBF010000, 0xBF010040, 0xBF010050, 0xBF010200, 0xBF010840, 0xBF010A50, 0xBF01FFFC,
    0xBFFFFFFC, 0xC0000000, 0xDFFFFFF0, 0xE0000000, 0xFFFFF000, 0xFFFFFFFC,
)  # fmt: skip


# What software can write of Status.
STATUS_BITS = 0x3C40FF1F
ROWS = [
    (row.match, ~row.mask & 0xFFFFFFFF, "i" * 16 in row.encoding and "s" in row.encoding)
    for row in isa.TABLE
]


def random_word(rng: random.Random) -> int:
    """Return an instruction word: mostly a row of the table, or any bits at all."""
    if rng.random() < 0.15:
        return rng.getrandbits(32)
    match, free, offset = rng.choice(ROWS)
    word = match | rng.getrandbits(32) & free
    if offset and rng.random() < 0.7:
        word = word & 0xFFFF0000 | rng.randrange(0, 64, 4) | (rng.random() < 0.2) * 0xFFC0
    return word


# Goes on at the next of 64 addresses, in the mode that Status gives.
HANDLER = """
    lui  $k1, 0x8000
    lw   $k0, 0x7ffc($k1)
    addiu $k0, $k0, 4
    sw   $k0, 0x7ffc($k1)
    andi $k0, $k0, 0xfc
    addu $k1, $k1, $k0
    lw   $k0, 0x7e00($k1)
    mtc0 $k0, epc
    eret
"""
HANDLER_WORDS = assemble(HANDLER)
CODE_WORDS = 1 << 12
CODE_AT = (0, 0x10000)


def scramble(board: Board, rng: random.Random, pool: np.ndarray) -> None:
    """Put the whole machine into a random state."""
    m = board.m
    for start in CODE_AT:
        at = rng.randrange(len(pool) - CODE_WORDS)
        board.words(start, np.roll(pool[at : at + CODE_WORDS], rng.randrange(CODE_WORDS)))
    if rng.random() < 0.9:
        for base in (0, 0x1000, 0x10000):
            for vector in (0, 0x180, 0x200):
                board.words(base + vector, HANDLER_WORDS)
    board.words(0x7E00, [_code_address(rng) for _ in range(64)])
    for cpu in range(len(m.gpr)):
        m.gpr[cpu, :34] = [
            rng.choice(POINTERS) if rng.random() < 0.7 else rng.getrandbits(32) for _ in range(34)
        ]
        m.gpr[cpu, 0] = 0
        m.fpr[cpu, :32] = [
            rng.choice((rng.getrandbits(64), random_float(rng, rng.choice((S, D)))))
            for _ in range(32)
        ]
        m.fpr[cpu, layout.FCSR] = rng.choice((0, rng.getrandbits(32))) & FCSR_WRITABLE
        for register in np.flatnonzero(WRITABLE):
            mask = int(WRITABLE[register])
            m.cp0[cpu, register] = int(m.cp0[cpu, register]) & ~mask | rng.getrandbits(32) & mask
        status = rng.getrandbits(32) & STATUS_BITS & ~4
        if rng.random() < 0.8:
            status &= ~(1 << 22 | 2)  # BEV has no memory; EXL hides the mode
        m.cp0[cpu, layout.STATUS] = status
        m.cp0[cpu, layout.WIRED] = rng.randrange(m.p[layout.X_TLB])
        if rng.random() < 0.8:
            m.cp0[cpu, layout.EBASE] = 0x80000000 | rng.choice((0, 0x1000, 0x10000)) | cpu
        for entry in range(int(m.p[layout.X_TLB])):
            size = rng.choice((0, 0, 0, 1, 2, 5, 8))
            frames = [rng.choice((rng.getrandbits(12), rng.getrandbits(24), 0x1F000 + entry))
                      for _ in "ab"]  # fmt: skip
            if entry == 1:  # code for user mode
                board.tlb(1, 0x00400000, 0x10 << 6 | 0x1F, 0x11 << 6 | 0x1F, 0, cpu)
                continue
            board.tlb(
                entry,
                rng.choice(POINTERS) & 0xFFFFE000 | rng.getrandbits(2),
                frames[0] << 6 | rng.getrandbits(6) | 2 * (rng.random() < 0.8),
                frames[1] << 6 | rng.getrandbits(6) | 2 * (rng.random() < 0.8),
                ((1 << 2 * size) - 1) << 13,
                cpu,
            )
        m.filter[cpu] = 0
        board.jump(_code_address(rng), cpu)
        m.s[cpu, layout.S_WAITING] = 0
        m.s[cpu, layout.S_FRUITLESS] = 0
        m.s[cpu, layout.S_LL] = 0
    if rng.random() < 0.5:
        arm(board, rng)
    kernel.start(m, board.memory)


def arm(board: Board, rng: random.Random) -> None:
    """Make the devices live, with queues over whatever stands in memory."""
    for slot in range(slots.SLOTS):
        v = board.m.virtio[slot]
        if v[slots.V_KIND] == 0:
            continue
        v[slots.V_STATUS] = 15
        v[slots.V_DRIVER_LOW] = v[slots.V_OFFERED] & rng.getrandbits(32)
        for queue in range(2):
            at = slots.V_QUEUES + queue * slots.QUEUE_WORDS
            size = 1 << rng.randrange(9)
            limit = int(board.m.p[layout.X_RAM]) - 4096 - 16
            near = rng.choice((0x10000, 0x20000, limit))
            v[at + slots.Q_NUM], v[at + slots.Q_READY] = size, 1
            for word, align in ((slots.Q_DESC, 16), (slots.Q_AVAIL, 2), (slots.Q_USED, 4)):
                v[at + word] = rng.randrange(near) & -align
            avail = int(v[at + slots.Q_AVAIL])
            v[at + slots.Q_LAST] = rng.getrandbits(16)
            if rng.random() < 0.8:  # a few chains to take
                ahead = (int(v[at + slots.Q_LAST]) + rng.randint(1, size)) & 0xFFFF
                board.m.ram.view(np.uint16)[avail // 2 + 1] = ahead
                heads = [rng.randrange(size) for _ in range(size)]
                board.m.ram.view(np.uint16)[avail // 2 + 2 : avail // 2 + 2 + size] = heads
            for _ in range(rng.randrange(size)):
                index = (int(v[at + slots.Q_DESC]) >> 2) + 4 * rng.randrange(size)
                place, length = rng.randrange(limit), rng.choice((0, 1, 16, 512, 5000))
                flags = rng.choice((0, 1, 2, 3, 4))
                board.m.ram[index : index + 4] = [place, 0, length,
                                                  flags | rng.randrange(size) << 16]  # fmt: skip
        if rng.random() < 0.7:
            v[slots.V_STATE], v[slots.V_DUE], v[slots.V_STARTED] = slots.POLL, 0, 0
    board.m.g[layout.G_DUE] = board.m.virtio[:, slots.V_DUE].min()


def _code_address(rng: random.Random) -> int:
    if rng.random() < 0.1:
        return rng.choice(POINTERS) + rng.randrange(4096) & 0xFFFFFFFF
    return rng.choice((0x80000000, 0x80010000, 0xA0010000, 0x00400000)) + 4 * rng.randrange(1024)


def check(board: Board) -> None:
    """Assert that every word of state is in its range."""
    m = board.m
    p, g, s = m.p, m.g, m.s
    cpus, entries = int(p[layout.X_CPUS]), int(p[layout.X_TLB])
    assert (m.gpr[:, 0] == 0).all()
    for at in (layout.S_PC, layout.S_NPC):
        assert ((s[:, at] >= 0) & (s[:, at] < 1 << 32)).all(), hex(int(s[:, at].max()))
    assert ((s[:, layout.S_SLOT] | s[:, layout.S_LL]) & ~1 == 0).all()
    assert ((s[:, layout.S_WAITING] >= 0) & (s[:, layout.S_WAITING] <= layout.LOCKED)).all()
    assert (s[:, layout.S_RETIRED] >= 0).all()
    assert ((s[:, layout.S_PHASE_DEPTH] >= 0)
            & (s[:, layout.S_PHASE_DEPTH] <= layout.PHASE_DEPTH)).all()  # fmt: skip
    assert ((s[:, layout.S_LLADDR] >= 0) & (s[:, layout.S_LLADDR] < p[layout.X_RAM])).all()
    assert (m.cp0[:, layout.WIRED] < entries).all()
    assert (m.cp0[:, layout.STATUS] & ~np.uint32(STATUS_BITS) == 0).all()
    assert (m.fpr[:, layout.FCSR] & ~np.uint64(FCSR_WRITABLE) == 0).all()
    assert (m.cp0[:, layout.EBASE] & np.uint32(0xC0000FFF) == 0x80000000 + np.arange(cpus)).all()
    assert (m.cp0[:, layout.HWRENA] & ~np.uint32(0x2000000F) == 0).all()
    contexts = s[:, layout.S_CONTEXT] >> 2
    assert ((contexts >= 0) & (contexts < len(m.contexts))).all()
    tlb = m.tlb.reshape(cpus, layout.MAX_TLB, layout.TLB_WORDS)
    assert (tlb[:, :, layout.T_HI] & 0x1F00 == 0).all()
    assert (tlb[:, :, layout.T_MASK] & ~np.uint32(0x1FFFE000) == 0).all()
    for at, buffer in ((layout.G_REFS, m.refs), (layout.G_PAGE_ROWS, m.pages),
                       (layout.G_EVENTS, m.events), (layout.G_CONSOLE, m.console)):  # fmt: skip
        assert 0 <= g[at] <= len(buffer)
    assert (board.memory.cpu[C_CLOCK::CPU_WORDS] >= 0).all()
    v = m.virtio
    assert ((v[:, slots.V_STATE] >= 0) & (v[:, slots.V_STATE] <= slots.MOVE_PEER)).all()
    assert ((v[:, slots.V_STATE] == slots.IDLE) == (v[:, slots.V_DUE] == slots.NEVER)).all()
    assert g[layout.G_DUE] == v[:, slots.V_DUE].min()
    assert (v[:, slots.V_ISR] & ~3 == 0).all()
    assert (v[:, slots.V_STATUS] & ~(15 | 64 | 128) == 0).all()
    line = np.flatnonzero(m.cp0[:, layout.CAUSE] >> 12 & 1)
    assert line.tolist() == [g[layout.G_LINE_CPU]] * bool(v[:, slots.V_ISR].any())


def run(seed: int, instructions: int) -> dict[str, int]:
    """Run about that many instructions of nonsense; return how often what ended a stretch."""
    rng = random.Random(seed)
    ends: dict[str, int] = {}
    disk = np.arange(128 * 40, dtype=np.uint32)
    board = Board(
        *MACHINES[seed % len(MACHINES)],
        *DEVICES,
        cpus=rng.choice((1, 2, 4)),
        rows=4000,
        disks=[(disk, False), (disk[:128], True)],
    )
    done = rounds = 0
    while done < instructions:
        if rounds % 100 == 0:
            pool = np.array([random_word(rng) for _ in range(50_000)], np.uint32)
        rounds += 1
        scramble(board, rng, pool)
        board.m.g[[layout.G_EXIT, layout.G_RESUME]] = 0
        board.m.p[layout.X_MAX_INSTRUCTIONS] = board.m.g[layout.G_INSTRUCTIONS] + rng.choice(
            (4_000, 40_000)
        )
        if rng.random() < 0.1:
            board.m.p[layout.X_STOP] = rng.choice(POINTERS)
        before = int(board.m.g[layout.G_INSTRUCTIONS])
        for _ in range(40):
            code = int(kernel.run(board.m, board.memory, 1 << 20))
            check(board)
            if code not in (layout.EXIT_NONE, layout.EXIT_FULL):
                break
            board.empty()
        if rounds % 50 == 0:
            assert len(isa.NAMES) > board.m.ops.max()
        board.m.p[layout.X_STOP] = -1
        board.empty()
        name = layout.EXIT_REASONS.get(code, "rows").split(":")[0]
        ends[name] = ends.get(name, 0) + 1
        done += int(board.m.g[layout.G_INSTRUCTIONS]) - before
    ends["instructions"] = done
    ends["requests"] = int(board.m.virtio[:, slots.V_REQUEST].sum())
    return ends


def indices_are_checked() -> bool:
    """Tell whether these kernels notice an index beyond its array, in helpers of both kinds.

    A TLB of too many entries, which a helper of a helper reads past its end, and a page filter of
    too many, past which one that gets the machine as a pointer writes (into the next CPU's).
    """
    noticed = []
    for text, size, value in (
        ("lw $t0, 0($zero)", layout.X_TLB, layout.MAX_TLB + 1),
        ("tlbwi", layout.X_FILTER, 128),
    ):
        board = Board(cpus=4)
        board.program(text)
        board.m.p[size] = value
        try:
            board.run(1)
        except IndexError:
            noticed.append(text)
    return len(noticed) == 2


if __name__ == "__main__":
    print("checked" if indices_are_checked() else "unchecked", flush=True)
    for number in range(int(sys.argv[1]), int(sys.argv[1]) + len(MACHINES)):
        print(number, run(number, int(sys.argv[2])), flush=True)
