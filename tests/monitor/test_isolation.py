"""One machine of nonsense beside one that works: neither sees, changes nor stops the other."""

from __future__ import annotations

import random

import numpy as np
import pytest

from disco_trace.boot import memory_of
from disco_trace.machine import kernel, layout
from disco_trace.monitor.layout import AWAY, R_WORDS, vm_record
from tests.machine.assemble import assemble
from tests.machine.board import CODE
from tests.machine.robust import random_word, scramble
from tests.monitor.guest import Guest

SECRET = 0x5EC2E7A5
AREA, AREA_WORDS = 0x80200000, 4096
# Turns a secret area over again and again through its kernel's TLB and caches, then stays.
PROGRAM = """
    lui   $s0, 0x0020
    addiu $s1, $zero, 60
again:
    lui   $t0, 0x8020
    addiu $t1, $zero, 4096
next:
    lw    $t2, 0($t0)
    xor   $t3, $t2, $s1
    sw    $t3, 0($t0)
    xor   $t3, $t3, $s1
    sw    $t3, 0($t0)
    addiu $t0, $t0, 4
    addiu $t1, $t1, -1
    bne   $t1, $zero, next
    nop
    addiu $s1, $s1, -1
    bne   $s1, $zero, again
    nop
done:
    beq   $zero, $zero, done
    nop
"""


def neighbours(*sets: str) -> tuple[Guest, np.ndarray]:
    """Return two machines, the second with the program, and the second's memory as a view."""
    guest = Guest("vm.count=2", "vm.vcpus=1", "machine.ram_bytes=16MiB", *sets, cpus=2, rows=4000)
    memory = guest.m.ram[guest.m.p[layout.X_RAM] // 4 :]
    words = assemble(PROGRAM, CODE)
    at = (CODE & 0x1FFFFFFF) >> 2
    memory[at : at + len(words)] = words
    at = (AREA & 0x1FFFFFFF) >> 2
    memory[at : at + AREA_WORDS] = SECRET
    guest.jump(CODE, 1)
    guest.set(1, status=0)
    return guest, memory


def finish(guest: Guest, check=None) -> None:
    """Run until the second machine has done its work."""
    m = guest.m
    m.p[layout.X_MAX_INSTRUCTIONS] = np.iinfo(np.int64).max
    m.p[layout.X_EVENTS] = 0  # rows would only fill their buffers
    for _ in range(4000):
        code = int(kernel.run(m, guest.memory, 1 << 16))
        assert code in (layout.EXIT_NONE, layout.EXIT_FULL), layout.EXIT_REASONS.get(code)
        guest.empty()
        if check is not None:
            check()
        if m.gpr[1, 17] == 0:  # $s1
            return
    raise AssertionError("the second machine makes no progress")


@pytest.fixture(scope="module")
def undisturbed() -> tuple[np.ndarray, np.ndarray]:
    """What the second machine leaves beside an idle neighbour."""
    guest, memory = neighbours()
    guest.words(0x80000000, assemble("again: beq $zero, $zero, again\n nop", 0x80000000))
    guest.jump(0x80000000, 0)
    finish(guest)
    return memory.copy(), guest.m.gpr[1].copy()


def disturb(seed: int, undisturbed: tuple[np.ndarray, np.ndarray], *sets: str) -> None:
    rng = random.Random(seed)
    guest, _ = neighbours(*sets)
    m = guest.m
    own = [array[1].copy() for array in (m.gpr, m.cp0, m.fpr, m.s, m.tlb)]
    scramble(guest, rng, [random_word(rng) for _ in range(20_000)])
    for array, row in zip((m.gpr, m.cp0, m.fpr, m.s, m.tlb), own, strict=True):
        array[1] = row
    # Another place for code: nothing of the neighbour may be named by what the first one tries.
    guest.forget()

    def blind() -> None:
        assert not (m.gpr[0] == SECRET).any()

    finish(guest, blind)
    assert not (memory_of(m, 0).view(np.uint32) == SECRET).any()
    memory = memory_of(m, 1).view(np.uint32)
    assert (memory == undisturbed[0][: len(memory)]).all()
    assert (m.gpr[1, :34] == undisturbed[1][:34]).all()
    assert vm_record(m, 1)[4] == 0  # not switched off


@pytest.mark.parametrize("seed", range(8))
def test_a_wild_neighbour(seed, undisturbed):
    disturb(seed, undisturbed)


@pytest.mark.parametrize("lending", ["true", "false"])
@pytest.mark.parametrize("seed", range(8, 12))
def test_a_wild_neighbour_that_shares_a_pool(seed, undisturbed, lending):
    """It may send the other's pages to the swap disk, no more."""
    disturb(seed, undisturbed, "vm.pool_bytes=640KiB", f"vm.lending={lending}")


# Writes its own number to every word in the middle of a page, all over its memory, for ever.
GREEDY = """
again:
    lui   $t0, 0x8000
    lui   $t1, 0x8100
    lui   $t3, 0x0001
    addu  $t0, $t0, $t3
next:
    lw    $t2, 2048($t0)
    sw    $t0, 2048($t0)
    addiu $t0, $t0, 4096
    bne   $t0, $t1, next
    nop
    beq   $zero, $zero, again
    nop
"""


@pytest.mark.parametrize("lending", ["true", "false"])
def test_a_greedy_neighbour(undisturbed, lending):
    """It wants 16 MiB of 640 KiB: its pages come and go, the other keeps its share."""
    guest, _ = neighbours("vm.pool_bytes=640KiB", f"vm.lending={lending}")
    m = guest.m
    guest.words(0x80000000, assemble(GREEDY, 0x80000000))
    guest.jump(0x80000000, 0)
    finish(guest)
    states = m.mon[int(m.p[layout.X_O_RESIDENT]) + 1 :: R_WORDS][: m.p[layout.X_SWAP]]
    assert (states[:4096] == AWAY).sum() > 1000
    own = memory_of(m, 0).view(np.uint32).reshape(-1, 1024)
    written = own[:, 512] != 0
    assert written.sum() > 3000
    at = 0x80000000 + 4096 * np.flatnonzero(written)
    assert (own[written, 512] == at).all()
    memory = memory_of(m, 1).view(np.uint32)
    assert (memory == undisturbed[0][: len(memory)]).all()
    assert not (states[4096:8192] == AWAY).any()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_many_wild_neighbours(seed, undisturbed):
    disturb(seed, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 260))
def test_many_wild_neighbours_that_share_a_pool(seed, undisturbed):
    disturb(seed, undisturbed, "vm.pool_bytes=640KiB")


def test_a_user_program_never_reads_its_kernel():
    """Every segment above useg is an address error from user mode, whatever the TLBs hold."""
    for address in (0x80001000, 0xA0001000, 0xC0001000, 0xE0001000, 0xFFFFF000):
        guest = Guest()
        guest.tlb(1, 0x00400000, 0x10 << 6 | 0x1F, 0x11 << 6 | 0x1F)
        guest.tlb(2, address & 0xFFFFE000, 1 << 6 | 0x1F, 2 << 6 | 0x1F)
        # The kernel reads the address first, so that hardware holds its translation.
        guest.program("lw $t1, 0($t0)\n lw $t1, 0($t0)\n eret")
        guest.words(0x80010000, assemble("lw $t2, 0($t0)\n nop"))
        guest.set(status=0x10 | 2, epc=0x00400000, t0=address)
        guest.run(4)
        assert guest.get("cause") >> 2 & 31 == 4, hex(address)  # AdEL
        assert guest.get("badvaddr") == address
        assert guest.get("epc") == 0x00400000
        assert guest.get("t2") == 0
