"""Drive virtio devices from a test: rings laid out in RAM, registers reached by a guest program.

The program interprets a list of (operation, address, value) in RAM, so that every access to a
device is one that a guest made.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from disco_trace.machine import layout
from disco_trace.machine.virtio import (
    DRIVER_FEATURES,
    DRIVER_FEATURES_SEL,
    INTERRUPT_ACK,
    QUEUE_AVAIL,
    QUEUE_DESC,
    QUEUE_NOTIFY,
    QUEUE_NUM,
    QUEUE_READY,
    QUEUE_SELECT,
    QUEUE_USED,
    STATUS,
)
from tests.machine.assemble import assemble
from tests.machine.board import CODE, Board

SLOT = 0xBF010000
SCRIPT = 0x80200000
DONE, STORE, LOAD, WAIT, SPIN = range(5)
NEXT, WRITE, INDIRECT = 1, 2, 4
INDIRECT_FEATURE = 1 << 28

PROGRAM = """
      li   $s0, 0x80200000
next: lw   $t0, 0($s0)
      lw   $t1, 4($s0)
      lw   $t2, 8($s0)
      addiu $s0, $s0, 12
      beq  $t0, $zero, done
      addiu $t3, $zero, 1
      beq  $t0, $t3, store
      addiu $t3, $zero, 2
      beq  $t0, $t3, load
      addiu $t3, $zero, 3
      beq  $t0, $t3, sleep
      nop
spin: lhu  $t4, 0($t1)
      bne  $t4, $t2, spin
      nop
      b    next
      nop
store: sw  $t2, 0($t1)
      b    next
      nop
load: lw   $t4, 0($t1)
      sw   $t4, -4($s0)
      b    next
      nop
sleep: wait
      b    next
      nop
done: b    done
      nop
"""
DONE_AT = CODE + 4 * (len([line for line in PROGRAM.splitlines() if line.strip()]) - 1)  # li is two


def park(board: Board, cpu: int) -> None:
    """Let a CPU go round in a loop, out of the way."""
    board.words(0x80005000, assemble("x: b x\n nop", 0x80005000))
    board.jump(0x80005000, cpu)


class Driver:
    """Hold the driver of one device: a list of what it does, and its rings.

    Rings of queue q lie at `rings + 0x8000 q`: descriptors, then available, then used.
    """

    def __init__(self, board: Board, slot: int, rings: int = 0x300000, size: int = 8) -> None:
        self.board, self.slot, self.rings, self.size = board, slot, rings, size
        self.base = SLOT + 0x200 * slot
        self.script: list[tuple[int, int, int]] = []
        self.available = [0, 0]
        self.used = [0, 0]

    def places(self, queue: int) -> tuple[int, int, int]:
        """Return the physical addresses of descriptors, available and used ring."""
        at = self.rings + 0x8000 * queue
        return at, at + 0x4000, at + 0x6000

    def store(self, register: int, value: int) -> None:
        """Let the program store a register."""
        self.script.append((STORE, self.base + register, value))

    def load(self, register: int) -> int:
        """Let the program load a register; return the script's index, for `answer`."""
        self.script.append((LOAD, self.base + register, 0))
        return len(self.script) - 1

    def start(self, queues: Sequence[int] = (0,), features: int = INDIRECT_FEATURE) -> None:
        """Reset the device, negotiate, and make queues ready."""
        for value in (0, 1, 3):
            self.store(STATUS, value)
        for word, bits in ((0, features), (1, 1)):
            self.store(DRIVER_FEATURES_SEL, word)
            self.store(DRIVER_FEATURES, bits)
        self.store(STATUS, 11)
        for queue in queues:
            self.queue(queue)
        self.store(STATUS, 15)

    def queue(self, queue: int) -> None:
        """Make a queue ready."""
        self.store(QUEUE_SELECT, queue)
        self.store(QUEUE_NUM, self.size)
        for register, place in zip(
            (QUEUE_DESC, QUEUE_AVAIL, QUEUE_USED), self.places(queue), strict=True
        ):
            self.store(register, place)
            self.store(register + 4, 0)
        self.store(QUEUE_READY, 1)

    def describe(self, index: int, address: int, length: int, flags: int, following: int = 0,
                 *, queue: int = 0, table: int | None = None) -> None:  # fmt: skip
        """Fill a descriptor of a queue, or of an indirect table."""
        at = (self.places(queue)[0] if table is None else table) + 16 * index
        self.write(at, struct.pack("<QIHH", address, length, flags, following))

    def chain(self, first: int, buffers: Sequence[tuple[int, int, int]], queue: int = 0) -> None:
        """Link descriptors with (address, length, flags), from `first` on, and offer them."""
        for place, (address, length, flags) in enumerate(buffers):
            last = place == len(buffers) - 1
            self.describe(
                first + place, address, length, flags | (0 if last else NEXT), first + place + 1,
                queue=queue,
            )  # fmt: skip
        self.offer(first, queue)

    def offer(self, head: int, queue: int = 0) -> None:
        """Put a chain on the available ring (at once, as if stored before the program runs)."""
        at = self.places(queue)[1]
        self.write(at + 4 + 2 * (self.available[queue] % self.size), struct.pack("<H", head))
        self.available[queue] += 1
        self.write(at + 2, struct.pack("<H", self.available[queue] & 0xFFFF))

    def notify(self, queue: int = 0) -> None:
        """Notify the device."""
        self.store(QUEUE_NOTIFY, queue)

    def acknowledge(self) -> None:
        """Clear the interrupt."""
        self.store(INTERRUPT_ACK, 3)

    def wait(self) -> None:
        """Let the program wait for an interrupt."""
        self.script.append((WAIT, 0, 0))

    def wait_used(self, count: int, queue: int = 0) -> None:
        """Let the program spin until so many chains came back in all."""
        self.script.append((SPIN, 0x80000000 + self.places(queue)[2] + 2, count & 0xFFFF))

    def run(self, instructions: int = 5_000_000, cpu_status: int = 1 << 12) -> int:
        """Run the script on CPU 0 (interrupts pending, not taken) to its end; forget it."""
        words = [word for entry in [*self.script, (DONE, 0, 0)] for word in entry]
        self.board.words(SCRIPT, words)
        self.board.program(PROGRAM)
        self.board.set(status=cpu_status)
        for cpu in range(1, len(self.board.m.gpr)):
            park(self.board, cpu)
        self.script_done, self.script = self.script, []
        return self.board.run(instructions, stop=DONE_AT)

    def answer(self, index: int) -> int:
        """Return what a load of the last script found."""
        return self.board.word(SCRIPT + 12 * index + 8)

    def register(self, register: int) -> int:
        """Load a register by a program of its own."""
        index = self.load(register)
        assert self.run() == layout.EXIT_STOP
        return self.answer(index)

    def returned(self, queue: int = 0) -> list[tuple[int, int]]:
        """Return (head, bytes written) of the chains that came back since the last call."""
        at = self.places(queue)[2]
        (count,) = struct.unpack("<H", self.read(at + 2, 2))
        found = []
        while self.used[queue] != count:
            entry = at + 4 + 8 * (self.used[queue] % self.size)
            found.append(struct.unpack("<II", self.read(entry, 8)))
            self.used[queue] = (self.used[queue] + 1) & 0xFFFF
        return found

    def write(self, at: int, data: bytes) -> None:
        """Store bytes at a physical address."""
        self.board.m.ram.view(np.uint8)[at : at + len(data)] = np.frombuffer(data, np.uint8)

    def read(self, at: int, length: int) -> bytes:
        """Return bytes at a physical address."""
        return self.board.m.ram.view(np.uint8)[at : at + length].tobytes()
