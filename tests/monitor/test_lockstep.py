"""A virtual machine is the bare machine, instruction for instruction.

Without a software TLB a guest sees exactly the TLB it wrote; without feedback traps take no time.
Then the virtual machine and the bare machine must agree on every register, TLB entry and byte of
memory after every step, whatever the guest does: here nonsense that is mostly instructions.
"""

from __future__ import annotations

import random

import pytest

from disco_trace.machine import kernel, layout
from tests.machine.board import Board
from tests.machine.robust import MACHINES, random_word, scramble
from tests.monitor.guest import Guest, assert_equal_state

STEP = 16
STUCK = -1


def run(board: Board, instructions: int) -> int:
    m = board.m
    m.g[layout.G_EXIT] = 0
    m.p[layout.X_MAX_INSTRUCTIONS] = m.g[layout.G_INSTRUCTIONS] + instructions
    for _ in range(4):
        code = int(kernel.run(m, board.memory, 1 << 12))
        if code not in (layout.EXIT_NONE, layout.EXIT_FULL):
            return code
        board.empty()
    return STUCK  # in exceptions at a vector where no memory is


def nonsense(seed: int, stretches: int) -> int:
    """Run so many stretches on both machines; return the instructions that were compared."""
    rng = random.Random(seed)
    sets = [s for s in MACHINES[seed % len(MACHINES)] if "feedback" not in s and "256" not in s]
    cpus = rng.choice((1, 1, 2, 4))

    def pair() -> tuple[Board, Guest]:
        guest = Guest(
            "monitor.stlb_entries=0",
            "machine.network_ports=0",
            "monitor.special_page=false",
            *sets,
            cpus=cpus,
            rows=4000,
        )
        return Board("machine.network_ports=0", *sets, cpus=cpus, rows=4000), guest

    bare, guest = pair()
    pool = [random_word(rng) for _ in range(20_000)]
    compared = 0
    for stretch in range(stretches):
        state = rng.getstate()
        for board in (bare, guest):
            rng.setstate(state)
            scramble(board, rng, pool)
            board.m.g[[layout.G_EXIT, layout.G_RESUME]] = 0
        guest.forget()
        for step in range(100):
            label = f"seed {seed} stretch {stretch} step {step}"
            before = int(bare.m.g[layout.G_INSTRUCTIONS])
            ends = run(bare, STEP), run(guest, STEP)
            if ends == (STUCK, STUCK):
                bare, guest = pair()
                break
            assert ends[0] == ends[1], label
            assert_equal_state(bare, guest, label)
            compared += int(bare.m.g[layout.G_INSTRUCTIONS]) - before
            if ends[0] != layout.EXIT_INSTRUCTIONS:
                bare, guest = pair()
                break
        for board in (bare, guest):
            board.empty()
    return compared


@pytest.mark.parametrize("seed", range(6))
def test_nonsense_runs_alike(seed: int) -> None:
    assert nonsense(seed, 6) > 300
