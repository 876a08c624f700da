"""At every instant a machine's state passes its own checks, and a copy of it goes on alike."""

from __future__ import annotations

import random

import numpy as np
import pytest

from disco_trace.errors import DiscoError
from disco_trace.machine import kernel, layout, slots
from disco_trace.machine import state as machine_state
from disco_trace.machine.slots import V_CHAIN, V_PEER_CHAIN
from disco_trace.memory import state as memory_state
from tests.machine import test_hostile_rings as hostile_rings
from tests.machine.blocks import DRIVER, generate
from tests.machine.board import Board
from tests.machine.rings import DONE_AT, Driver
from tests.machine.test_block import IN, OUT, content, request
from tests.machine.test_network import ALL, SEND, Net, frame, mac
from tests.machine.test_slices import contention

RAM = "machine.ram_bytes=8MiB"


def script(driver: Driver) -> Board:
    """Return a driver's board at the start of its script."""
    driver.run(instructions=1)
    return driver.board


def disk_traffic() -> Board:
    """Write to a disk in pieces and read another, while the CPU looks for the answer."""
    disks = [(content(), False), (content(), True)]
    board = Board(RAM, "machine.disk_latency_ns=3000", disks=disks)
    drivers = [Driver(board, n, 0x300000 + 0x20000 * n) for n in range(2)]
    for driver in drivers:
        driver.start()
        assert driver.run() == layout.EXIT_STOP
    first, second = drivers
    request(first, OUT, 3, [(0x340000, 2048), (0x341F00, 512), (0x342FFE, 4096)])
    second.write(0x350000, bytes([IN, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]))
    second.chain(0, [(0x350000, 16, 0), (0x360001, 1536, 2), (0x370000, 1, 2)])
    first.notify()
    first.script.append((1, second.base + 0x50, 0))
    first.wait_used(1)
    return script(first)


def network_traffic() -> Board:
    """Send frames to several ports, which do not have room for all."""
    net = Net(3, RAM)
    for port in (1, 2, 2):
        net.buffer(port)
    sender = net.ports[0]
    for number, target in enumerate((mac(1), ALL, mac(2))):
        at = SEND + 0x1000 * number
        sender.write(at, bytes(12) + frame(target, mac(0), bytes(range(200)) * (3 + number)))
        sender.chain(2 * number, [(at, 100, 0), (at + 100, 526 + 200 * number, 0)], 1)
    sender.notify(1)
    sender.wait_used(3, 1)
    return script(sender)


def broken_rings(seed: int) -> Board:
    """Let a disk work on rings of random bytes."""
    rng = random.Random(seed)
    board = Board(RAM, "machine.disk_latency_ns=0", disks=[(content(), False)])
    driver = Driver(board, 0, hostile_rings.AREA)
    driver.start()
    assert driver.run() == layout.EXIT_STOP
    driver.write(hostile_rings.AREA, rng.randbytes(0x7000))
    for first in range(4):
        hostile_rings.well_formed(rng, driver, first)
    for _ in range(6):
        driver.notify()
        driver.script += [(1, 0x80000010, 0)] * 40
    return script(driver)


def exceptions_and_timer() -> Board:
    """Run random blocks with exceptions, a timer and TLB operations."""
    batch = generate(5, 50, exceptions=True)
    board = Board(RAM, "time.feedback=full")
    board.words(0, batch.image)
    board.jump(0x80000000 + DRIVER)
    return board


SCENES = {
    "disk": disk_traffic,
    "network": network_traffic,
    "rings 1": lambda: broken_rings(1),
    "rings 2": lambda: broken_rings(2),
    "rings 3": lambda: broken_rings(3),
    "exceptions": exceptions_and_timer,
    "contention": lambda: contention(20_000, RAM, "time.feedback=full"),
    "moving": lambda: contention(
        20_000, RAM, "machine.nodes=4", "memory.l2.size_bytes=1KiB", "memory.l2.ways=4",
        "memory.l2.replacement=random", "placement.policy=migrate-replicate",
        "placement.trigger_misses=2", "placement.sharing_misses=1", "placement.write_misses=9999",
    ),
}  # fmt: skip


def check(board: Board, cold: Board) -> None:
    """Apply all checks to the state as it would be saved."""
    memory = board.memory._replace(**memory_state.saved_arrays(board.memory))
    machine = board.m._replace(**machine_state.saved_arrays(board.m))
    memory_state.check_memory(memory, 4 * int(machine.g[layout.G_CONTEXTS]))
    machine_state.check_machine(machine, memory, cold.m)


def copy_of(board: Board, cold: Board) -> Board:
    """Bring a cold machine into the saved state."""
    for name, array in machine_state.saved_arrays(board.m).items():
        getattr(cold.m, name)[:] = array
    for name, array in memory_state.saved_arrays(board.memory).items():
        getattr(cold.memory, name)[:] = array
    kernel.decode_again(cold.m)
    cold.m.p[:] = board.m.p
    cold.started = True
    return cold


def ready(board: Board) -> Board:
    """Let a board run on, to its script's end if it has one."""
    board.m.p[layout.X_STOP] = DONE_AT
    board.m.g[layout.G_EXIT] = 0
    board.m.p[layout.X_MAX_INSTRUCTIONS] = 1 << 40
    if not board.started:
        kernel.start(board.m, board.memory)
        board.started = True
    board.empty()
    return board


def go(board: Board, budget: int) -> bool:
    """Run for some cycles; tell whether there is more to do."""
    code = int(kernel.run(board.m, board.memory, np.int64(budget)))
    board.empty()
    return code in (layout.EXIT_NONE, layout.EXIT_FULL)


@pytest.mark.parametrize("scene", SCENES)
def test_every_instant_passes(scene):
    board = ready(SCENES[scene]())
    cold = board.fresh()
    check(board, cold)
    budget = 700 if scene == "contention" else 1
    states, copied, since, steps = set(), copy_of(board, board.fresh()), 0, 0
    while steps < 60 and go(board, budget):
        steps += 1
        check(board, cold)
        states |= set(board.m.virtio[:, slots.V_STATE].tolist())
        if steps in (1, 20):
            copied, since = copy_of(board, board.fresh()), steps
    if scene == "disk":
        assert {slots.FETCH, slots.GATHER, slots.MOVE, slots.FINISH} <= states
    if scene == "network":
        assert set(range(slots.IDLE, slots.MOVE_PEER + 1)) <= states | {slots.POLL}
    # The copy goes on for as long, and ends in the same state.
    for _ in range(steps - since + (steps < 60)):
        go(copied, budget)
    for name in machine_state.SAVED:
        assert np.array_equal(getattr(board.m, name), getattr(copied.m, name)), name
    one, other = (memory_state.saved_arrays(b.memory) for b in (board, copied))
    for name in memory_state.SAVED:
        assert np.array_equal(one[name], other[name]), name


def spoilt(board: Board, cold: Board, slot: int, word: int, value: int) -> None:
    """Assert that a slot's word cannot be another."""
    before = int(board.m.virtio[slot, word])
    assert value != before
    board.m.virtio[slot, word] = value
    try:
        with pytest.raises(DiscoError, match="impossible state"):
            check(board, cold)
    finally:
        board.m.virtio[slot, word] = before
    check(board, cold)


def test_what_a_slot_cannot_hold():
    """Spoil the words of a disk at work, one by one: each is noticed."""
    board = ready(disk_traffic())
    cold = board.fresh()
    seen = set()
    for _ in range(400):
        state = int(board.m.virtio[0, slots.V_STATE])
        words = {
            slots.V_KIND: 0, slots.V_SECTORS: 1 << 30, slots.V_DISK_AT: 1, slots.V_STATE: 6,
            slots.V_CPU: 1, slots.V_DUE: -1, slots.V_ISR: 4, slots.V_RATE: 0,
            slots.V_QUEUES + slots.Q_NUM: 7, slots.V_QUEUES + slots.Q_DESC: 8 << 20,
            slots.V_QUEUES + slots.Q_AVAIL: -1, slots.V_QUEUES + slots.Q_USED: (8 << 20) - 8,
            slots.V_QUEUES + slots.Q_READY: 2, slots.V_QUEUES + slots.Q_LAST: 1 << 16,
        }  # fmt: skip
        chain = {}
        if state >= slots.GATHER:
            chain = {
                slots.C_OWNER: 1, slots.C_QUEUE: 1, slots.C_COUNT: 257, slots.C_WRITABLE: 300,
                slots.C_READ: 1 << 40, slots.C_WRITE: 99, slots.C_AT: 300,
                slots.C_OFFSET: 1 << 20, slots.C_INDIRECT: 2, slots.C_HEAD: 1 << 20,
            }  # fmt: skip
        if state == slots.GATHER:
            chain |= {slots.C_TABLE: 8 << 20, slots.C_ENTRIES: 0, slots.C_NEXT: 256}
        if state == slots.MOVE:
            chain |= {slots.C_LIST: 8 << 20, slots.C_LIST + 1: 1 << 30}
            words |= {slots.V_LEFT: 0, slots.V_SECTOR: 60, slots.V_TYPE: 9, slots.V_RESULT: 3}
        if state not in seen:
            seen.add(state)
            for word, value in words.items():
                spoilt(board, cold, 0, word, value)
            for word, value in chain.items():
                spoilt(board, cold, 0, V_CHAIN + word, value)
        if not go(board, 1):
            break
    board.m.g[layout.G_EXIT] = 0
    assert {slots.FETCH, slots.GATHER, slots.MOVE, slots.FINISH} <= seen
    spoilt(board, cold, 5, slots.V_STATE, 1)
    spoilt(board, cold, 2, slots.V_STATUS, 1)


def test_what_a_port_cannot_hold():
    board = ready(network_traffic())
    cold = board.fresh()
    seen = set()
    for _ in range(400):
        state = int(board.m.virtio[4, slots.V_STATE])
        words = {slots.V_LEARNED: 1 << 48, slots.V_STATE: 9}
        if state == slots.MOVE:
            words |= {slots.V_LENGTH: 1 << 17, slots.V_LEFT: 0}
        if state >= slots.FORWARD:
            words |= {slots.V_LENGTH: 3, slots.V_PEER: 9}
        if state in (slots.GATHER_PEER, slots.MOVE_PEER):
            words |= {
                slots.V_PEER: 4, V_PEER_CHAIN + slots.C_OWNER: 4, V_PEER_CHAIN + slots.C_QUEUE: 1,
            }  # fmt: skip
        if state == slots.MOVE_PEER:
            words |= {slots.V_SENT: 1 << 16}
        if state not in seen:
            seen.add(state)
            for word, value in words.items():
                spoilt(board, cold, 4, word, value)
        if not go(board, 1):
            break
    board.m.g[layout.G_EXIT] = 0
    assert {slots.MOVE, slots.FORWARD, slots.GATHER_PEER, slots.MOVE_PEER} <= seen
