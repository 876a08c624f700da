"""What a guest tells about itself through the board's marks: processes and phases."""

from __future__ import annotations

import pytest

from disco_trace.machine import layout
from disco_trace.machine.emit import KERNEL
from disco_trace.memory.events import CONTEXTS, PHASES, PROCESSES, TICKS
from tests.machine.board import Board

RECORD = 0x00004000
PROCESS, PHASE = 0xBF003010, 0xBF003014


def started(cpus: int = 1) -> Board:
    """Return a board whose CPUs have announced their first contexts."""
    board = Board(cpus=cpus)
    board.program("b 0x80001000\n nop")
    for cpu in range(cpus):
        board.jump(0x80001000, cpu)
    board.step(1)
    return board


def record(board: Board, asid: int, name: bytes, at: int = RECORD) -> None:
    text = asid.to_bytes(4, "little") + name.ljust(layout.NAME_BYTES, b"\0")
    board.words(at, [int.from_bytes(text[i : i + 4], "little") for i in range(0, len(text), 4)])


def mark(board: Board, register: int, value: int) -> list[tuple[int, ...]]:
    """Store a value to a mark; return (kind, cpu, a0 … a4) of the rows that this wrote."""
    board.program("sw $t1, 0($t0)\n nop")
    board.set(t0=register, t1=value)
    board.empty()
    board.step(1)
    rows = board.m.events[: board.m.g[layout.G_EVENTS]]
    return [(int(r["kind"]), int(r["cpu"]), *(int(r[f"a{n}"]) for n in range(5))) for r in rows]


def process(board: Board, asid: int, name: bytes) -> list[tuple[int, ...]]:
    record(board, asid, name)
    return mark(board, PROCESS, RECORD)


def names(board: Board) -> list[bytes]:
    known = int(board.m.g[layout.G_NAMES])
    return [bytes(row).rstrip(b"\0") for row in board.m.names[:known]]


def context(board: Board, cpu: int = 0) -> int:
    return int(board.m.s[cpu, layout.S_CONTEXT])


def test_an_address_space_gets_a_name_and_another_one_later():
    board = started()
    board.set(entryhi=9)
    first = [(PROCESSES, 0, 0, 7, 0, 0, 0)]
    assert process(board, 7, b"sh") == first
    assert process(board, 7, b"cat")[0] == (PROCESSES, 0, 0, 7, 1, 0, 0)
    assert process(board, 8, b"sh")[0] == (PROCESSES, 0, 0, 8, 0, 0, 0)
    assert names(board) == [b"sh", b"cat"]


def test_another_name_is_another_context_and_the_old_name_the_old_one():
    board = started()
    board.set(entryhi=7)
    bare = context(board)
    rows = process(board, 7, b"one")
    assert [row[0] for row in rows] == [PROCESSES, CONTEXTS]
    assert rows[1][5:7] == (7, 0)  # asid, phase
    one = context(board)
    process(board, 7, b"two")
    two = context(board)
    assert len({bare, one, two}) == 3
    # Announced already: no second row.
    assert [row[0] for row in process(board, 7, b"one")] == [PROCESSES]
    assert context(board) == one


def test_cpus_that_run_in_the_address_space_change_too():
    board = started(cpus=3)
    board.set(2, entryhi=5)
    board.set(0, entryhi=6)
    # Let the others work a little, so that there is work to close.
    board.step(1000)
    before = [context(board, cpu) for cpu in range(3)]
    rows = process(board, 5, b"worker")
    after = [context(board, cpu) for cpu in range(3)]
    assert [row[:2] for row in rows if row[0] == TICKS] == [(TICKS, 2)]
    kinds = [row[:2] for row in rows if row[0] in (PROCESSES, CONTEXTS)]
    assert kinds == [(PROCESSES, 0), (CONTEXTS, 2)]
    assert before[:2] == after[:2]
    assert before[2] != after[2]
    assert after[2] & 3 == KERNEL


@pytest.mark.parametrize("name", [b"", b"x" * 28, "é".encode(), b"a\0hidden"])
def test_names_of_any_bytes(name):
    board = started()
    process(board, 3, name)
    assert names(board) == [name.split(b"\0")[0]]
    # The record's end is the name's end: nothing of what lies behind belongs to it.
    board.words(RECORD + 32, [0x41414141])
    process(board, 3, name)
    assert len(names(board)) == 1


@pytest.mark.parametrize("address", [16 << 20, (16 << 20) - 28, 0xFFFFFFFF, 0xFFFFFFE0])
def test_a_record_outside_memory_is_ignored(address):
    board = started()
    assert mark(board, PROCESS, address) == []
    assert names(board) == []


def test_an_address_space_that_cannot_be_is_ignored():
    board = started()
    assert process(board, 256, b"far") == []
    assert process(board, 0x80000001, b"far") == []


def test_more_names_than_there_is_room_for_share_the_last():
    board = started()
    board.m.g[layout.G_NAMES] = layout.MAX_NAMES - 1
    process(board, 1, b"last")
    (row,) = process(board, 2, b"more")
    assert row[4] == layout.MAX_NAMES
    (row,) = process(board, 3, b"and more")
    assert row[4] == layout.MAX_NAMES
    (row,) = process(board, 4, b"last")
    assert row[4] == layout.MAX_NAMES - 1
    assert board.m.g[layout.G_NAMES] == layout.MAX_NAMES


def test_a_phase_by_number():
    board = started()
    (opened, announced) = mark(board, PHASE, 300)
    assert opened[:4] == (PHASES, 0, 0, 300)
    assert announced[0] == CONTEXTS
    assert board.m.s[0, layout.S_PHASES] == 300
    (closed,) = mark(board, PHASE, -300 & 0xFFFFFFFF)
    assert closed[:4] == (PHASES, 0, 1, 300)
    assert board.m.s[0, layout.S_PHASE_DEPTH] == 0
    assert mark(board, PHASE, -300 & 0xFFFFFFFF) == []
    assert mark(board, PHASE, 0) == []
    assert board.m.g[layout.G_PHASE_LOST] == 2
