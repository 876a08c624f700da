"""Two virtual machines in this process, each with a driver of network ports."""

from __future__ import annotations

import numpy as np

from disco_trace.boot import memory_of
from disco_trace.machine import layout
from disco_trace.memory.events import PACKETS, PAGE_EVENT
from disco_trace.monitor.layout import shown_pages
from tests.machine.assemble import assemble
from tests.machine.board import CODE
from tests.machine.rings import DONE, DONE_AT, PROGRAM, SCRIPT, Driver
from tests.monitor.guest import Guest

RECEIVE, TRANSMIT = 0, 1
HEADER = bytes(12)
RAM = 4 << 20
PARKED = 0x80005000


def mac(vm: int, port: int = 0) -> bytes:
    """Return the address of a port on the subnet."""
    return b"\x02\0\0\1" + (1 + 4 * vm + port).to_bytes(2, "big")


def own_mac(port: int = 0) -> bytes:
    """Return the address of a port on a network of one machine."""
    return b"\x02\0\0\0\0" + bytes([port + 1])


class Port(Driver):
    """Drive one port from the CPU of its machine, while the other machine's goes in a circle."""

    def __init__(self, board: Guest, vm: int, port: int = 0, size: int = 64) -> None:
        super().__init__(board, 4 + port, 0x300000 + 0x10000 * port, size)
        self.vm = vm

    def write(self, at: int, data: bytes) -> None:
        m, done = self.board.m, 0
        names = shown_pages(m, self.vm)
        while done < len(data):
            part = min(len(data) - done, 4096 - (at + done) % 4096)
            name = int(names[(at + done) >> 12])
            away = name >= m.p[layout.X_SWAP] > 0
            own = name - m.p[layout.X_SWAP] * away < m.p[layout.X_CONTENTS]
            assert own, "others may show this page"
            place = (name << 12) + (at + done) % 4096
            m.ram.view(np.uint8)[place : place + part] = np.frombuffer(
                data[done : done + part], np.uint8
            )
            m.ops[place >> 2 : (place + part + 3) >> 2] = 0
            done += part

    def read(self, at: int, length: int) -> bytes:
        return memory_of(self.board.m, self.vm)[at : at + length].tobytes()

    def run(self, instructions: int = 5_000_000, cpu_status: int = 1 << 12) -> int:
        board = self.board
        script = [word for entry in [*self.script, (DONE, 0, 0)] for word in entry]
        self.script_done, self.script = self.script, []
        self.write(SCRIPT & 0x1FFFFFFF, np.array(script, np.uint32).tobytes())
        self.write(CODE & 0x1FFFFFFF, np.array(assemble(PROGRAM, CODE), np.uint32).tobytes())
        board.jump(CODE, self.vm)
        board.set(self.vm, status=cpu_status)
        other = board.ports[1 - self.vm][0]
        loop = np.array(assemble("x: b x\n nop", PARKED), np.uint32)
        other.write(PARKED & 0x1FFFFFFF, loop.tobytes())
        board.jump(PARKED, 1 - self.vm)
        board.set(1 - self.vm, status=0)
        return board.run(instructions, stop=DONE_AT)

    def answer(self, index: int) -> int:
        at = (SCRIPT & 0x1FFFFFFF) + 12 * index + 8
        return int.from_bytes(self.read(at, 4), "little")

    def go(self) -> None:
        """Run the script to its end."""
        assert self.run() == layout.EXIT_STOP

    def send(self, pieces: list[tuple[int, int]]) -> None:
        """Send what lies in pieces of memory, and wait until they come back."""
        self.chain(0, [(at, length, 0) for at, length in pieces], TRANSMIT)
        self.notify(TRANSMIT)
        self.wait_used(self.available[TRANSMIT], TRANSMIT)
        self.acknowledge()
        self.go()


class Pair(Guest):
    """Two machines with two ports each, all started."""

    def __init__(self, *sets: str) -> None:
        super().__init__(
            "vm.count=2", "vm.vcpus=1", f"machine.ram_bytes={RAM >> 20}MiB",
            "machine.network_ports=2", "machine.network_latency_ns=100", *sets, cpus=2, rows=4000,
        )  # fmt: skip
        self.packets: list[tuple[int, int, int, int]] = []
        self.page_events: list[int] = []
        self.ports = [[Port(self, vm, port) for port in range(2)] for vm in range(2)]
        for ports in self.ports:
            for port in ports:
                port.start((RECEIVE, TRANSMIT))
                port.go()

    def empty(self) -> None:
        """Keep the rows of packets and pages, throw away all others."""
        events = self.m.events[: self.m.g[layout.G_EVENTS]]
        for row in events[events["kind"] == PACKETS] if hasattr(self, "packets") else ():
            self.packets.append(tuple(int(row[name]) for name in ("a0", "a1", "a2", "a3")))
        if hasattr(self, "page_events"):
            self.page_events += events["a0"][events["kind"] == PAGE_EVENT].tolist()
        super().empty()

    def arrived(self) -> list[tuple[int, int, int, int]]:
        """Return receiver, pages shown, pages copied and length of the packets since last time."""
        self.empty()
        found, self.packets = self.packets, []
        return found
