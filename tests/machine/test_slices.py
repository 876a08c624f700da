"""How a run is cut into calls, and how large its buffers are, changes nothing in it."""

from __future__ import annotations

import numpy as np
import pytest

from disco_trace.machine import kernel, layout
from tests.machine.blocks import DRIVER, generate
from tests.machine.board import Board

CONTENTION = """
    li   $s1, 0x80006000
    addu $s2, $s1, $a0          # own word, in the others' granule
x:  ll   $t0, 0($s1)
    addiu $t0, $t0, 1
    sc   $t0, 0($s1)
    beq  $t0, $zero, x
    addiu $t1, $t1, 1
    lw   $t2, 0x80($s1)
    sw   $t1, 0x80($s1)
    sw   $t2, 4($s2)
    xor  $t3, $t3, $t2
    rotr $t3, $t3, 3
    b    x
    nop
"""


def contention(rows: int = 20_000, *sets: str) -> Board:
    """Return CPUs that fight for two granules; what each saw is in t3."""
    board = Board(*sets, cpus=4, rows=rows)
    board.program(CONTENTION)
    for cpu in range(4):
        board.jump(0x80001000, cpu)
        board.set(cpu, a0=4 * cpu)
    kernel.start(board.m, board.memory)
    return board


def drive(board: Board, budget: int, instructions: int) -> list[bytes]:
    """Run in calls of `budget` cycles; return all rows as bytes, and the final state."""
    m = board.m
    parts: list[list[bytes]] = [[], [], []]

    def keep() -> None:
        for index, (at, rows) in enumerate(
            ((layout.G_REFS, m.refs), (layout.G_PAGE_ROWS, m.pages), (layout.G_EVENTS, m.events))
        ):
            parts[index].append(rows[: m.g[at]].tobytes())
        board.empty()

    m.p[layout.X_MAX_INSTRUCTIONS] = instructions
    code = layout.EXIT_NONE
    while code in (layout.EXIT_NONE, layout.EXIT_FULL):
        code = int(kernel.run(m, board.memory, budget))
        keep()
    assert code in (layout.EXIT_INSTRUCTIONS, layout.EXIT_STOP)
    state = [array.tobytes() for array in (m.gpr, m.cp0, m.s, m.tlb, m.ram[:0x10000])]
    return [b"".join(part) for part in parts] + state


@pytest.mark.parametrize("feedback", ["none", "full"])
def test_length_of_calls(feedback):
    sets = f"time.feedback={feedback}"
    whole = drive(contention(20_000, sets), 1 << 40, 60_000)
    assert len(whole[0]) > 1000
    for budget in (1, 199, 5000):
        assert drive(contention(20_000, sets), budget, 60_000) == whole


def test_length_of_calls_with_exceptions_and_timer():
    def board() -> Board:
        batch = generate(5, 50, exceptions=True)
        made = Board("time.feedback=full")
        made.words(0, batch.image)
        made.jump(0x80000000 + DRIVER)
        kernel.start(made.m, made.memory)
        return made

    whole = drive(board(), 1 << 40, 7_000)
    assert drive(board(), 1, 7_000) == whole


@pytest.mark.parametrize("rows", [700, 1000])
def test_size_of_buffers(rows):
    whole = drive(contention(200_000), 1 << 40, 60_000)
    small = drive(contention(rows), 1 << 40, 60_000)
    assert small[0] == whole[0]
    assert small == whole


def test_without_events():
    """A capture without events counts and ends as one with them does."""
    states = []
    for events in (0, 1):
        board = contention(2000)
        board.m.p[layout.X_EVENTS] = events
        drive(board, 1 << 40, 60_000)
        states.append((board.m.gpr.copy(), board.memory.cpu.copy(), board.memory.accounts.copy()))
    for without, having in zip(*states, strict=True):
        assert np.array_equal(without, having)
