"""The network devices and their switch, by VIRTIO 1.2 section 5.1."""

from __future__ import annotations

import random

import numpy as np
import pytest

from disco_trace.machine import layout
from disco_trace.memory.events import PACKETS
from tests.machine.board import Board
from tests.machine.rings import NEXT, WRITE, Driver
from tests.machine.test_slices import drive

RECEIVE, TRANSMIT = 0, 1
HEADER = bytes(12)
ONE_BUFFER = bytes([0] * 10 + [1, 0])  # the header of a received frame
SEND, TAKE = 0x400000, 0x500000
NOBODY = b"\x02\xff\xff\xff\xff\xff"
ALL = b"\xff" * 6


def mac(port: int) -> bytes:
    return b"\x02\0\0\0\0" + bytes([port + 1])


def frame(target: bytes, source: bytes, data: bytes = b"data") -> bytes:
    return target + source + b"\x88\xb5" + data


class Net:
    """Hold a board with ports, each with its driver started."""

    def __init__(self, ports: int = 2, *sets: str, size: int = 8) -> None:
        self.board = Board(
            f"machine.network_ports={ports}", "machine.network_latency_ns=100", *sets
        )
        self.ports = [Driver(self.board, 4 + n, 0x300000 + 0x20000 * n, size) for n in range(ports)]
        for port in self.ports:
            port.start((RECEIVE, TRANSMIT))
            assert port.run() == layout.EXIT_STOP
        self.taken = [0] * ports

    def buffer(self, port: int, length: int = 2048) -> None:
        """Give a port one buffer to receive into."""
        at = TAKE + 0x20000 * port + 0x4000 * self.taken[port]
        self.ports[port].chain(self.taken[port], [(at, length, WRITE)], RECEIVE)
        self.taken[port] += 1

    def send(self, port: int, data: bytes, *, wait: bool = True) -> None:
        """Send a frame, and wait until the sender has its buffer back."""
        driver = self.ports[port]
        at = SEND + 0x20000 * port
        driver.write(at, HEADER + data)
        driver.chain(0, [(at, 12 + len(data), 0)], TRANSMIT)
        driver.notify(TRANSMIT)
        if wait:
            driver.wait_used(driver.available[TRANSMIT], TRANSMIT)
            driver.acknowledge()
            assert driver.run() == layout.EXIT_STOP
            assert driver.returned(TRANSMIT) == [(0, 0)]

    def received(self, port: int) -> list[bytes]:
        """Return the frames that a port received since the last call."""
        driver, found = self.ports[port], []
        for head, length in driver.returned(RECEIVE):
            data = driver.read(TAKE + 0x20000 * port + 0x4000 * head, length)
            assert data[:12] == ONE_BUFFER
            found.append(data[12:])
        return found


def test_registers():
    net = Net()
    for number, driver in enumerate(net.ports):
        assert driver.register(0x08) == 1
        assert driver.register(0x100) == int.from_bytes(mac(number)[:4], "little")
        assert driver.register(0x104) == int.from_bytes(mac(number)[4:] + b"\1\0", "little")
        driver.store(0x14, 0)
        assert driver.register(0x10) == 1 << 5 | 1 << 16 | 1 << 28
        for queue, most in ((0, 256), (1, 256), (2, 0), (2**32 - 1, 0)):
            driver.store(0x30, queue)
            assert driver.register(0x34) == most
    assert Driver(net.board, 6).register(0x08) == 0


def test_a_frame_goes_to_the_other_port():
    net = Net()
    net.buffer(0)
    net.buffer(1)
    net.send(0, frame(mac(1), mac(0)))
    assert net.received(1) == [frame(mac(1), mac(0))]
    assert net.received(0) == []
    assert net.ports[1].register(0x60) == 1
    net.ports[1].acknowledge()
    net.send(1, frame(mac(0), mac(1), b"back"))
    assert net.received(0) == [frame(mac(0), mac(1), b"back")]


@pytest.mark.parametrize("target", [ALL, b"\x33\x33\0\0\0\1", NOBODY])
def test_groups_and_unknown_addresses_go_to_all_others(target):
    net = Net(4)
    for port in range(4):
        net.buffer(port)
    net.send(1, frame(target, mac(1)))
    assert [len(net.received(port)) for port in range(4)] == [1, 0, 1, 1]


def test_the_switch_learns_where_an_address_is():
    net = Net(3)
    mine = b"\x02\xaa\0\0\0\7"
    for _ in range(2):
        for port in range(3):
            net.buffer(port)
    net.send(2, frame(ALL, mine))
    assert [len(net.received(port)) for port in range(3)] == [1, 1, 0]
    net.send(0, frame(mine, mac(0)))
    assert [len(net.received(port)) for port in range(3)] == [0, 0, 1]
    # The port's own address stays known; a reset forgets what was learned.
    net.send(0, frame(mac(2), mac(0)))
    assert [len(net.received(port)) for port in range(3)] == [0, 0, 1]
    net.ports[2].store(0x70, 0)
    assert net.ports[2].run() == layout.EXIT_STOP
    net.send(0, frame(mine, mac(0)))
    assert [len(net.received(port)) for port in range(3)] == [0, 1, 0]


def test_a_frame_to_oneself_goes_nowhere():
    net = Net()
    net.buffer(0)
    net.buffer(1)
    net.send(0, frame(mac(0), mac(0)))
    assert net.received(0) + net.received(1) == []


@pytest.mark.parametrize(("length", "arrives"), [(13, False), (14, True), (1514, True),
                                                 (65536, True), (65537, False)])  # fmt: skip
def test_lengths(length, arrives):
    net = Net()
    net.taken[1] = 3
    net.buffer(1, 0x11000)
    data = frame(mac(1), mac(0), random.Random(length).randbytes(length))[:length]
    net.send(0, data)
    assert net.received(1) == ([data] if arrives else [])


def test_without_a_buffer_a_frame_is_lost_and_recorded():
    net = Net()
    net.board.empty = lambda: None
    net.send(0, frame(mac(1), mac(0)))
    net.buffer(1, 12 + 17)  # too small by one byte
    net.send(0, frame(mac(1), mac(0)))
    assert net.received(1) == []
    net.send(0, frame(mac(1), mac(0), b"dat"))
    assert net.received(1) == [frame(mac(1), mac(0), b"dat")]
    net.ports[1].store(0x70, 0)
    assert net.ports[1].run() == layout.EXIT_STOP
    net.send(0, frame(mac(1), mac(0)))
    events = net.board.m.events[: net.board.m.g[layout.G_EVENTS]]
    rows = events[events["kind"] == PACKETS]
    assert [(int(r["a0"]), int(r["a1"]), int(r["a2"]), int(r["a3"])) for r in rows] == [
        (5, 0, 0, 18), (5, 0, 0, 18), (5, 0, 1, 17), (5, 0, 0, 18),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_frames_cut_anywhere(seed):
    rng = random.Random(seed)
    net = Net(size=64)
    sender, receiver = net.ports
    data = frame(mac(1), mac(0), rng.randbytes(rng.choice([30, 3000, 9000])))

    def cut(total: int, place: int) -> list[tuple[int, int]]:
        pieces = []
        while total:
            length = min(total, rng.choice([0, 1, 5, 64, 700, 5000]))
            length = total if len(pieces) > 50 else length
            place += rng.choice([0, 1, 3, 64])
            pieces.append((place, length))
            place, total = place + length, total - length
        return pieces

    out, at = cut(12 + len(data), SEND), 0
    for place, length in out:
        sender.write(place, (HEADER + data)[at : at + length])
        at += length
    into = cut(12 + len(data) + rng.choice([0, 100]), TAKE)
    receiver.chain(0, [(p, n, WRITE) for p, n in into], RECEIVE)
    sender.chain(0, [(p, n, 0) for p, n in out], TRANSMIT)
    sender.notify(TRANSMIT)
    sender.wait_used(1, TRANSMIT)
    assert sender.run() == layout.EXIT_STOP
    assert receiver.returned(RECEIVE) == [(0, 12 + len(data))]
    got = b"".join(receiver.read(p, n) for p, n in into)
    assert got[: 12 + len(data)] == ONE_BUFFER + data


HOSTILE = {
    "index": lambda d: d.write(d.places(0)[1] + 2, b"\x0a"),
    "head": lambda d: d.offer(8),
    "circle": lambda d: (d.describe(0, TAKE, 1, WRITE | NEXT, 0), d.offer(0)),
    "beyond memory": lambda d: (d.describe(0, 1 << 24, 2048, WRITE), d.offer(0)),
    "nothing to write to": lambda d: (d.describe(0, TAKE, 2048, 0), d.offer(0)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_broken_receiver_is_not_the_senders_fault(case):
    net = Net()
    HOSTILE[case](net.ports[1])
    net.send(0, frame(mac(1), mac(0)))
    assert net.ports[1].register(0x70) == 15 | 64
    assert net.ports[1].register(0x60) == 2
    assert net.ports[0].register(0x70) == 15
    assert not any(net.ports[1].read(TAKE, 4096))
    net.send(0, frame(mac(1), mac(0)))


def test_a_broken_sender():
    net = Net()
    net.buffer(1)
    net.ports[0].chain(0, [(SEND, 11, 0)], TRANSMIT)  # shorter than the header
    net.ports[0].notify(TRANSMIT)
    net.ports[0].wait()
    assert net.ports[0].run() == layout.EXIT_STOP
    assert net.ports[0].register(0x70) == 15 | 64
    assert net.received(1) == []


def flood(rows: int, cpus: int, *sets: str) -> Board:
    """Return two ports that send to each other for ever, one driven by each of two CPUs."""
    net = Net(2, "machine.cpus=2", "machine.network_mbits_per_s=3000", *sets)
    for number, driver in enumerate(net.ports):
        at = SEND + 0x20000 * number
        driver.write(at, HEADER + frame(mac(1 - number), mac(number), bytes(3000)))
        driver.describe(0, at, 3026, 0, queue=TRANSMIT)
        driver.describe(0, TAKE + 0x20000 * number, 3100, WRITE, queue=RECEIVE)
    net.board.program("""
        lui  $t9, 0xbf01
        mfc0 $t8, ebase
        andi $t8, $t8, 0x3ff
        sll  $t0, $t8, 9
        addu $t9, $t9, $t0
        lui  $s1, 0x8030
        sll  $t0, $t8, 17
        addu $s1, $s1, $t0          # receive rings; transmit rings at + 0x8000
        addiu $s2, $zero, 0x1000
        mtc0 $s2, status
        lui  $t2, 1
        addu $t2, $t2, $s1
    x:  lhu  $t0, 0x6002($s1)       # one buffer more than have come back
        addiu $t0, $t0, 1
        sh   $t0, 0x4002($s1)
        lhu  $t0, -0x3ffe($t2)
        addiu $t0, $t0, 1
        sh   $t0, -0x3ffe($t2)
        addiu $t1, $zero, 1
        sw   $t1, 0x850($t9)
    y:  lhu  $t1, -0x1ffe($t2)
        bne  $t1, $t0, y
        lw   $t1, 0x860($t9)
        sw   $t1, 0x864($t9)
        xor  $t3, $t3, $t1
        b    x
        addiu $t4, $t4, 1
    """)
    board = net.board
    board.m = board.m._replace(refs=np.zeros(rows, board.m.refs.dtype),
                               events=np.zeros(rows, board.m.events.dtype))  # fmt: skip
    for cpu in range(cpus):
        board.jump(0x80001000, cpu)
    board.m.g[layout.G_EXIT] = 0
    board.m.p[layout.X_STOP] = -1
    return board


@pytest.mark.parametrize("feedback", ["none", "full"])
def test_length_of_calls_and_size_of_buffers(feedback):
    board = flood(200_000, 2, f"time.feedback={feedback}")
    whole = [*drive(board, 1 << 40, 40_000), board.m.virtio.tobytes(), board.m.frames.tobytes()]
    events = np.frombuffer(whole[2], board.m.events.dtype)
    sent = events[events["kind"] == PACKETS]
    assert len(sent) > 4
    assert set(sent["a0"]) == {4, 5}
    assert (sent["a2"] > 0).any()
    for rows, budget in ((700, 1 << 40), (200_000, 1)):
        board = flood(rows, 2, f"time.feedback={feedback}")
        again = [*drive(board, budget, 40_000), board.m.virtio.tobytes(), board.m.frames.tobytes()]
        assert again == whole
