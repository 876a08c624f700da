"""Ports of two machines on one subnet, driven by hand: what hostile drivers can and cannot do."""

from __future__ import annotations

import random

import numpy as np
import pytest

from disco_trace.boot import memory_of
from disco_trace.machine import layout
from disco_trace.memory.pages import PAGE_BREAK, PAGE_MAP, PAGE_SHARE, PAGE_SWAP_IN
from disco_trace.monitor.layout import shown_pages
from tests.machine.rings import NEXT, STORE, WRITE
from tests.monitor.ports import HEADER, RAM, RECEIVE, TRANSMIT, Pair, mac, own_mac
from tests.monitor.test_lending import assert_accounted

HEAD, PAGES, TAKE_HEAD, TAKE = 0x250000, 0x260000, 0x280000, 0x290000
POWER = 0xBF001000
SECRET = 0x5EC2E7A5


def ethernet(target: bytes, source: bytes) -> bytes:
    """Return virtio header, addresses and type, padded to 32 bytes."""
    return HEADER + target + source + b"\x88\xb5" + bytes(6)


def page_of(seed: int) -> bytes:
    return random.Random(seed).randbytes(4096)


def offer(pair: Pair, vm: int, *, at: int = TAKE, pages: int = 2, number: int = 0) -> None:
    """Give a machine's first port a buffer: a head, then whole pages (or others, by `at`)."""
    head = (TAKE_HEAD + 64 * number, 32, WRITE)
    pair.ports[vm][0].chain(4 * number, [head, (at, 4096 * pages, WRITE)], RECEIVE)


def send_pages(pair: Pair, count: int = 2, *, at: int = PAGES, extra: int = 0) -> bytes:
    """Send pages from the first machine to the second; return what they hold."""
    port = pair.ports[0][0]
    data = b"".join(page_of(number) for number in range(count)) + page_of(99)[:extra]
    port.write(HEAD, ethernet(mac(1), mac(0)))
    port.write(at, data)
    port.send([(HEAD, 32), (at, len(data))])
    return data


def names(pair: Pair, vm: int, at: int) -> int:
    return int(shown_pages(pair.m, vm)[at >> 12])


def test_addresses():
    pair = Pair()
    for vm in range(2):
        for port in range(2):
            driver = pair.ports[vm][port]
            found = driver.register(0x100).to_bytes(4, "little")
            found += (driver.register(0x104) & 0xFFFF).to_bytes(2, "little")
            assert found == mac(vm, port)
    pair = Pair("vm.subnet=false")
    assert pair.ports[1][1].register(0x100) == int.from_bytes(own_mac(1)[:4], "little")


def test_whole_pages_are_shown_to_both():
    pair = Pair()
    offer(pair, 1)
    data = send_pages(pair)
    assert pair.ports[1][0].returned(RECEIVE) == [(0, 32 + 8192)]
    assert pair.arrived() == [(1, 2, 1, 20 + 8192)]
    assert pair.ports[1][0].read(TAKE, 8192) == data
    contents = pair.m.p[layout.X_CONTENTS]
    for offset in (0, 4096):
        assert names(pair, 0, PAGES + offset) == names(pair, 1, TAKE + offset) >= contents
    assert pair.page_events == [PAGE_SHARE, PAGE_MAP] * 2
    # Whoever writes gets memory of its own, and the other keeps what was sent.
    sender, receiver = pair.ports[0][0], pair.ports[1][0]
    sender.script.append((STORE, 0x80000000 + PAGES + 8, 0x11111111))
    sender.go()
    receiver.script.append((STORE, 0x80000000 + TAKE + 4096, 0x22222222))
    receiver.go()
    pair.empty()
    assert pair.page_events[4:] == [PAGE_BREAK] * 2
    assert receiver.read(TAKE, 4096) == data[:4096]
    assert sender.read(PAGES, 12) == data[:8] + b"\x11" * 4
    assert sender.read(PAGES + 4096, 4096) == data[4096:]
    assert receiver.read(TAKE + 4096, 8) == b"\x22" * 4 + data[4100:4104]
    for vm, at in ((0, PAGES), (1, TAKE + 4096)):
        assert names(pair, vm, at) == vm * (RAM >> 12) + (at >> 12)


@pytest.mark.parametrize(
    ("source", "target", "extra", "remapped"),
    [
        (PAGES, TAKE, 0, 2),
        (PAGES, TAKE, 5, 2),
        (PAGES + 4, TAKE, 0, 0),
        (PAGES, TAKE + 4, 0, 0),
        (PAGES + 4, TAKE + 4, 0, 1),
        (PAGES + 1, TAKE + 3, 1000, 0),
    ],
)
@pytest.mark.parametrize("sets", [(), ("vm.share=false",)], ids=["shared", "apart"])
def test_only_whole_pages(source, target, extra, remapped, sets):
    pair = Pair(*sets)
    offer(pair, 1, at=target, pages=3)
    data = send_pages(pair, at=source, extra=extra)
    [(peer, shown, copied, length)] = pair.arrived()
    assert (peer, length) == (1, 20 + len(data))
    assert shown == (0 if sets else remapped)
    assert copied >= 1
    assert pair.ports[1][0].read(target, len(data)) == data


def test_pages_within_a_machine_are_copied():
    pair = Pair()
    pair.ports[0][1].chain(0, [(TAKE_HEAD, 32, WRITE), (TAKE, 8192, WRITE)], RECEIVE)
    port = pair.ports[0][0]
    port.write(HEAD, ethernet(mac(0, 1), mac(0)))
    port.write(PAGES, page_of(1))
    port.send([(HEAD, 32), (PAGES, 4096)])
    assert pair.arrived() == [(0, 0, 2, 20 + 4096)]
    assert port.read(TAKE, 4096) == page_of(1)


def test_what_was_sent_arrives_though_its_page_has_changed():
    """The second page takes its time on the wire, in which the driver writes to the first."""
    pair = Pair("machine.network_mbits_per_s=100")
    offer(pair, 1)
    port = pair.ports[0][0]
    data = page_of(0) + page_of(1)
    port.write(HEAD, ethernet(mac(1), mac(0)))
    port.write(PAGES, data)
    port.chain(0, [(HEAD, 32, 0), (PAGES, 8192, 0)], TRANSMIT)
    port.notify(TRANSMIT)
    for _ in range(60):
        port.load(0x70)
    port.script.append((STORE, 0x80000000 + PAGES, 0x33333333))
    port.wait_used(1, TRANSMIT)
    port.go()
    assert pair.arrived() == [(1, 1, 2, 20 + 8192)]
    assert port.read(PAGES, 4) == b"\x33" * 4
    assert pair.ports[1][0].read(TAKE, 8192) == data


def test_a_page_that_is_sent_again_is_the_same_content():
    pair = Pair()
    offer(pair, 1)
    offer(pair, 1, number=1, at=TAKE + 0x8000)
    send_pages(pair, 1)
    port = pair.ports[0][0]
    port.send([(HEAD, 32), (PAGES, 4096)])
    assert [row[1] for row in pair.arrived()] == [1, 1]
    assert pair.page_events == [PAGE_SHARE, PAGE_MAP, PAGE_MAP]
    assert names(pair, 1, TAKE) == names(pair, 1, TAKE + 0x8000) == names(pair, 0, PAGES)


def test_one_page_twice_in_a_message_and_twice_in_a_buffer():
    """Descriptors may name a page again: the last one counts, as with copies."""
    seen = []
    for sets in ((), ("vm.share=false",)):
        pair = Pair(*sets)
        pair.ports[1][0].chain(
            0, [(TAKE_HEAD, 32, WRITE), (TAKE, 4096, WRITE), (TAKE, 8192, WRITE)], RECEIVE
        )
        port = pair.ports[0][0]
        port.write(HEAD, ethernet(mac(1), mac(0)))
        port.write(PAGES, page_of(0) + page_of(1))
        port.send([(HEAD, 32), (PAGES, 4096), (PAGES + 4096, 4096), (PAGES, 4096)])
        assert len(pair.arrived()) == 1
        seen.append([memory_of(pair.m, vm).tobytes() for vm in range(2)])
    assert seen[0] == seen[1]


def test_nobody_gets_what_is_for_anothers_address():
    pair = Pair()
    thief = pair.ports[1][1]
    thief.write(HEAD, ethernet(b"\xff" * 6, mac(0)))
    thief.send([(HEAD, 32)])
    pair.arrived()
    for port in (*pair.ports[0], *pair.ports[1]):
        port.chain(4, [(TAKE_HEAD, 64, WRITE)], RECEIVE)
    sender = pair.ports[1][0]
    sender.write(HEAD, ethernet(mac(0), mac(1)))
    sender.send([(HEAD, 32)])
    assert [row[0] for row in pair.arrived()] == [0]
    assert thief.returned(RECEIVE) == []


def test_networks_apart():
    pair = Pair("vm.subnet=false")
    for port in (*pair.ports[0], *pair.ports[1]):
        port.chain(4, [(TAKE_HEAD, 64, WRITE)], RECEIVE)
    port = pair.ports[0][0]
    port.write(HEAD, ethernet(b"\xff" * 6, own_mac()))
    port.send([(HEAD, 32)])
    assert [row[0] for row in pair.arrived()] == [0]
    assert [len(port.returned(RECEIVE)) for ports in pair.ports for port in ports] == [0, 1, 0, 0]


@pytest.mark.parametrize("sets", [(), ("vm.pool_bytes=1MiB",)], ids=["room", "pool"])
def test_a_machine_that_was_switched_off_gets_nothing(sets):
    pair = Pair(*sets)
    offer(pair, 1)
    dead = pair.ports[1][0]
    dead.script.append((STORE, POWER, 0))
    dead.run(200)
    before = memory_of(pair.m, 1).tobytes()
    send_pages(pair)
    assert pair.arrived() == [(1, 0, 0, 20 + 8192)]
    assert memory_of(pair.m, 1).tobytes() == before
    assert pair.page_events.count(PAGE_MAP) == pair.page_events.count(PAGE_SHARE) == 0


def test_what_a_machine_sent_as_it_was_switched_off_goes_nowhere():
    pair = Pair("machine.network_mbits_per_s=1")
    pair.ports[0][0].chain(0, [(TAKE_HEAD, 32, WRITE), (TAKE, 8192, WRITE)], RECEIVE)
    sender = pair.ports[1][0]
    sender.write(HEAD, ethernet(mac(0), mac(1)))
    sender.chain(0, [(HEAD, 32, 0), (PAGES, 8192, 0)], TRANSMIT)
    sender.notify(TRANSMIT)
    sender.script.append((STORE, POWER, 0))
    sender.run(30_000_000)
    assert pair.arrived() == []
    assert pair.ports[0][0].returned(RECEIVE) == []


def test_full_queues():
    """What there is no buffer for is lost; the sender goes on, and later ones arrive."""
    pair = Pair()
    offer(pair, 1)
    for number in range(3):
        send_pages(pair, 1, at=PAGES + 0x4000 * number)
    offer(pair, 1, number=1, at=TAKE + 0x8000)
    send_pages(pair, 1, at=PAGES + 0xC000)
    assert [row[1:3] for row in pair.arrived()] == [(1, 1), (0, 0), (0, 0), (1, 1)]
    assert len(pair.ports[1][0].returned(RECEIVE)) == 2


def touch(port, start: int, pages: int) -> None:
    """Let a driver's program store to as many pages, so that others must leave."""
    port.script += [(STORE, 0x80000000 + start + 4096 * page, page) for page in range(pages)]
    port.go()


SMALL = ("vm.pool_bytes=640KiB", "vm.lending=false")  # 80 frames for each machine


@pytest.mark.parametrize("shift", [0, 4], ids=["shown", "copied"])
def test_pages_that_are_away_come_back_first(shift):
    """What is to be sent, and what is to be overwritten in part, comes from the swap disk."""
    ends = []
    for sets in ((), SMALL):
        pair = Pair(*sets)
        offer(pair, 1, at=TAKE + shift)
        sender, receiver = pair.ports[0][0], pair.ports[1][0]
        data = page_of(1) + page_of(2)
        sender.write(HEAD, ethernet(mac(1), mac(0)))
        sender.write(PAGES, data)
        # A store to each, of what is there, gives it a frame.
        for port, at in ((sender, PAGES), (receiver, TAKE)):
            words = [int.from_bytes(port.read(at + page, 4), "little") for page in (0, 4096, 8192)]
            port.script += [
                (STORE, 0x80000000 + at + 4096 * page, word) for page, word in enumerate(words)
            ]
            touch(port, 0x100000, 160)
        pair.empty()
        before = len(pair.page_events)
        sender.send([(HEAD, 32), (PAGES, 8192)])
        assert [row[1] for row in pair.arrived()] == [2 if shift == 0 else 0]
        if sets:
            came = [event for event in pair.page_events[before:] if event == PAGE_SWAP_IN]
            assert len(came) >= (2 if shift == 0 else 5)
            assert_accounted(pair.m, False)
        assert receiver.read(TAKE + shift, 8192) == data
        ends.append([memory_of(pair.m, vm).tobytes() for vm in range(2)])
    assert ends[0] == ends[1]


def test_a_head_in_twelve_pages_that_all_are_away():
    """Each byte of a header brings a page back and breaks a share: the most that one step does."""
    pair = Pair(*SMALL)
    sender, receiver = pair.ports[0][0], pair.ports[1][0]
    offer(pair, 1, pages=12)
    data = send_pages(pair, 12)
    assert [row[1] for row in pair.arrived()] == [12]
    for port in (sender, receiver):
        touch(port, 0x100000, 160)
    bytes_apart = [(TAKE + 4096 * page, 1, WRITE) for page in range(12)]
    receiver.chain(20, [*bytes_apart, (TAKE_HEAD, 64, WRITE)], RECEIVE)
    pair.empty()
    before = len(pair.page_events)
    sender.write(HEAD + 64, ethernet(mac(1), mac(0)))
    sender.send([(HEAD + 64, 32)])
    assert [row[1:] for row in pair.arrived()] == [(0, 1, 20)]
    events = pair.page_events[before:]
    assert events.count(PAGE_BREAK) == 12
    assert events.count(PAGE_SWAP_IN) >= 12
    assert pair.m.actions[48:78, 0].any()
    assert not pair.m.actions[78:].any()
    for page in range(12):
        expected = bytes([page == 10]) + data[4096 * page + 1 : 4096 * page + 4096]
        assert receiver.read(TAKE + 4096 * page, 4096) == expected
        assert sender.read(PAGES + 4096 * page, 4096) == data[4096 * page : 4096 * page + 4096]


HOSTILE = {
    "index": lambda d: d.write(d.places(0)[1] + 2, b"\x50"),
    "head": lambda d: d.offer(64),
    "circle": lambda d: (d.describe(0, TAKE, 1, WRITE | NEXT, 0), d.offer(0)),
    "the neighbour's memory": lambda d: (d.describe(0, RAM, 8292, WRITE), d.offer(0)),
    "the last page": lambda d: (d.describe(0, RAM - 4096, 8292, WRITE), d.offer(0)),
    "below": lambda d: (d.describe(0, 2**64 - 4096, 8292, WRITE), d.offer(0)),
    "nothing to write to": lambda d: (d.describe(0, TAKE, 8292, 0), d.offer(0)),
}


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_broken_receiver_harms_itself(case, victim):
    pair = Pair()
    receiver, sender = pair.ports[1 - victim][0], pair.ports[victim][0]
    HOSTILE[case](receiver)
    sender.write(HEAD, ethernet(mac(1 - victim), mac(victim)))
    sender.write(PAGES, page_of(1) + page_of(2))
    rest = [memory_of(pair.m, vm).copy() for vm in range(2)]
    sender.send([(HEAD, 32), (PAGES, 8192)])
    assert receiver.register(0x70) == 15 | 64
    assert sender.register(0x70) == 15
    assert [row[1:3] for row in pair.arrived()] == [(0, 0)]
    for vm in range(2):
        now = memory_of(pair.m, vm)
        assert (now[HEAD : HEAD + 0x50000] == rest[vm][HEAD : HEAD + 0x50000]).all()
        assert (now[-4096:] == rest[vm][-4096:]).all()


@pytest.mark.parametrize("at", [RAM, RAM - 4096, 2 * RAM - 8192, 2**64 - 4096, 2**63])
def test_nothing_is_sent_from_beyond_memory(at):
    pair = Pair()
    offer(pair, 1)
    port = pair.ports[0][0]
    port.write(HEAD, ethernet(mac(1), mac(0)))
    port.chain(0, [(HEAD, 32, 0), (at, 8192, 0)], TRANSMIT)
    port.notify(TRANSMIT)
    port.wait()
    port.go()
    assert port.register(0x70) == 15 | 64
    assert pair.arrived() == []
    assert not any(pair.ports[1][0].read(TAKE, 8192))


def cut(rng: random.Random, total: int, place: int, flags: int) -> list[tuple[int, int, int]]:
    """Cut so many bytes into pieces from a place on; now and then whole pages."""
    pieces = []
    while total:
        if rng.random() < 0.5:
            place, length = (place + 4095) & -4096, 4096 * rng.randint(1, 3)
        else:
            place, length = place + rng.choice([0, 1, 64]), rng.choice([1, 20, 64, 700, 4076])
        length = min(total, length) if len(pieces) < 30 else total
        pieces.append((place, length, flags))
        place, total = place + length, total - length
    return pieces


def exchange(seed: int, *sets: str) -> tuple[list[bytes], int]:
    """Send a few messages of any shape both ways; return the memories, and the pages shown."""
    rng = random.Random(seed)
    pair = Pair(*sets)
    shown = 0
    for number in range(8):
        vm = rng.randrange(2)
        sender, receiver = pair.ports[vm][0], pair.ports[1 - vm][0]
        length = 32 + rng.choice([4096, 8192, 12288, 16384, rng.randrange(20000)])
        data = ethernet(mac(1 - vm), mac(vm)) + rng.randbytes(length - 32)
        out = [(HEAD, 32, 0), *cut(rng, length - 32, 0x100000 + 0x10000 * number, 0)]
        into = [(TAKE_HEAD, 32, WRITE), *cut(rng, length - 32, 0x80000 + 4096 * rng.randrange(4),
                                             WRITE)]  # fmt: skip
        at = 0
        for place, size, _ in out:
            sender.write(place, data[at : at + size])
            at += size
        receiver.chain(0, into, RECEIVE)
        sender.chain(0, out, TRANSMIT)
        sender.notify(TRANSMIT)
        sender.wait_used(sender.available[TRANSMIT], TRANSMIT)
        sender.acknowledge()
        sender.go()
        got = b"".join(receiver.read(place, size) for place, size, _ in into)
        assert got[12:] == data[12:]
        [(_, pages, _, _)] = pair.arrived()
        shown += pages
    if "vm.pool_bytes=1MiB" in sets:
        assert_accounted(pair.m, "vm.lending=false" not in sets)
    return [memory_of(pair.m, vm).tobytes() for vm in range(2)], shown


@pytest.mark.parametrize("seed", range(10))
def test_messages_of_any_shape(seed):
    """Shown or copied, with room for all or on few frames: nobody sees a difference."""
    expected, none = exchange(seed, "vm.share=false")
    assert none == 0
    pool = "vm.pool_bytes=1MiB"
    for sets in ((), (pool,), (pool, "vm.lending=false"), (pool, "vm.share=false")):
        found, shown = exchange(seed, *sets)
        assert found == expected, sets
        assert shown > 0 or "vm.share=false" in sets or seed != 0


@pytest.mark.parametrize("seed", range(8))
def test_rings_of_random_bytes(seed):
    """Whatever a driver tells its port, the other machine has changes in what it offered only."""
    rng = random.Random(seed)
    pair = Pair(*rng.choice([(), ("vm.pool_bytes=1MiB",)]))
    for number in range(8):
        offer(pair, 1, number=number, at=TAKE + 0x4000 * number, pages=4)
    honest = pair.ports[1][0]
    memory = memory_of(pair.m, 1).copy()
    honest.write(0x100000, np.full(1024 * 16, SECRET, np.uint32).tobytes())
    memory = memory_of(pair.m, 1).copy()
    wild = pair.ports[0][0]
    for _ in range(30):
        wild.start((RECEIVE, TRANSMIT))
        wild.available = [0, 0]
        wild.write(wild.places(TRANSMIT)[1], bytes(4))
        for index in range(4):
            flags = rng.choice([0, 0, NEXT, NEXT, WRITE, rng.getrandbits(16)])
            place = rng.choice([HEAD, PAGES, PAGES + 1, RAM - 4096, RAM, 0, rng.getrandbits(32),
                                rng.getrandbits(64)])  # fmt: skip
            length = rng.choice([32, 4096, 8192, 14, rng.randrange(9000), rng.getrandbits(32)])
            wild.describe(index, place, length, flags, rng.randrange(5), queue=TRANSMIT)
        target = rng.choice([mac(1), mac(1), b"\xff" * 6, rng.randbytes(6)])
        wild.describe(0, HEAD, 32, NEXT, 1, queue=TRANSMIT)
        wild.script.append((STORE, 0x80000000 + HEAD + 12, int.from_bytes(target[:4], "little")))
        wild.script.append((STORE, 0x80000000 + HEAD + 16, int.from_bytes(target[4:], "little")))
        wild.offer(0 if rng.random() < 0.9 else rng.randrange(70), TRANSMIT)
        wild.notify(TRANSMIT)
        for _ in range(20):
            wild.load(0x70)
        wild.go()
    now = memory_of(pair.m, 1)
    allowed = np.zeros(len(now), bool)
    for start, length in ((TAKE_HEAD, 0x1000), (TAKE, 0x20000), (0x300000, 0x20000),
                          (0x1000, 0x5000), (0x200000, 0x10000)):  # fmt: skip
        allowed[start : start + length] = True
    assert (now == memory)[~allowed].all()
    assert not (memory_of(pair.m, 0).view(np.uint32) == SECRET).any()
