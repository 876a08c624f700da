"""A machine with nonsense in its rings beside a pair on one subnet: the pair does not notice."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest

from disco_trace.boot import memory_of
from disco_trace.machine.slots import FIRST_PORT, SLOTS, V_REQUEST
from tests.machine.assemble import assemble
from tests.machine.rings import DONE, NEXT, PROGRAM, SCRIPT, STORE, WRITE, Driver
from tests.monitor.ports import HEADER, RECEIVE, TRANSMIT, mac
from tests.monitor.test_sharing import run_to_the_end
from tests.replay.runs import spec_at

RAM = 8 << 20
HEAD, PAGES, POWER = 0x250000, 0x260000, 0xBF001000
START = 0x80000000
PAIR = ("subnet:1 role=server rounds=3", "subnet:1 role=client rounds=3")


class Scripted(Driver):
    """Drive a port by a script in an image: what a driver writes to memory is stored as it goes."""

    def __init__(self, script: list[tuple[int, int, int]], slot: int, rings: int) -> None:
        super().__init__(None, slot, rings, 64)
        self.script = script

    def write(self, at: int, data: bytes) -> None:
        """Store whole words."""
        for place in range(0, len(data), 4):
            value = int.from_bytes(data[place : place + 4], "little")
            self.script.append((STORE, START + at + place, value))

    def set_available(self, heads: list[int], queue: int) -> None:
        """Offer chains to a queue that was just made ready."""
        ring = struct.pack("<HH", 0, len(heads)) + struct.pack(f"<{len(heads)}H", *heads)
        self.write(self.places(queue)[1], ring + bytes(-len(ring) % 4))


def wild(path: Path, rng: random.Random, rounds: int) -> Path:
    """Make a guest whose ports' rings are nonsense; its frames are for its own other port."""
    script: list[tuple[int, int, int]] = []
    sender, receiver = Scripted(script, 4, 0x300000), Scripted(script, 5, 0x310000)
    sender.write(HEAD, HEADER + mac(2, 1) + mac(2, 0) + b"\x88\xb5" + bytes(6))
    for _ in range(rounds):
        for driver in (sender, receiver):
            driver.start((RECEIVE, TRANSMIT))
            for queue in (RECEIVE, TRANSMIT):
                for index in range(6):
                    anywhere = rng.choice([rng.randrange(PAGES, RAM), rng.getrandbits(64)])
                    place = rng.choice([PAGES, PAGES + 1, 0x1000, RAM - 4096, RAM, anywhere])
                    length = rng.choice(
                        [1, 32, 4096, 8192, rng.randrange(9000), rng.getrandbits(32)]
                    )
                    flags = rng.choice([0, NEXT, NEXT, WRITE, WRITE | NEXT, rng.getrandbits(16)])
                    if queue == RECEIVE and rng.random() < 0.8:
                        flags |= WRITE
                    driver.describe(index, place, length, flags, rng.randrange(7), queue=queue)
        sender.describe(0, HEAD, 32, NEXT, 1, queue=TRANSMIT)
        # Nothing but frames with a head of its own: a frame of nonsense may be for anybody.
        sender.set_available([0] * rng.randint(1, 4), TRANSMIT)
        receiver.set_available([rng.randrange(8) for _ in range(6)], RECEIVE)
        sender.notify(TRANSMIT)
        for _ in range(rng.randrange(10, 60)):
            sender.load(0x70)
    script += [(STORE, POWER, 0), (DONE, 0, 0)]
    assert len(script) * 12 < HEAD - (SCRIPT & 0x1FFFFFFF)
    memory = np.zeros(RAM // 4, np.uint32)
    for at, words in ((START, assemble(PROGRAM, START)), (SCRIPT, [w for e in script for w in e])):
        first = (at & 0x1FFFFFFF) >> 2
        memory[first : first + len(words)] = words
    path.write_bytes(memory[: 0x300000 >> 2].tobytes())
    return path


@pytest.mark.parametrize("pool", ["0", "3MiB"], ids=["room", "pool"])
@pytest.mark.parametrize("seed", range(3))
def test_nonsense_beside_a_pair(tmp_path, seed, pool):
    """Each machine has a CPU, and without feedback time of its own: the pair ends the same."""
    ends = []
    for rounds in (0, 80):
        image = wild(tmp_path / f"wild{rounds}", random.Random(seed), rounds)
        spec = spec_at(
            3, 1, monitor__kind="disco", machine__kseg0="mapped", machine__ram_bytes=RAM,
            vm__count=3, vm__guests=(*PAIR, f"{image}:1"), vm__pool_bytes=pool,
            time__feedback="none", machine__network_latency_ns=1000,
        )  # fmt: skip
        m, _ = run_to_the_end(spec, "subnet", ())
        frames = m.virtio[2 * SLOTS + FIRST_PORT, V_REQUEST]
        assert frames >= rounds // 2
        ends.append([memory_of(m, vm).tobytes() for vm in range(2)])
    assert ends[0] == ends[1]
