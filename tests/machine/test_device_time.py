"""When devices act: exactly at their time, however a run is cut, and with what rows."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from disco_trace.machine import kernel, layout, slots
from disco_trace.memory.events import BY_DEVICE, DMA, INTERRUPTS, WAIT_END, WAITS
from disco_trace.trace.schema import DMA_OPS, INTERRUPT_EVENTS
from tests.machine.board import Board
from tests.machine.rings import WRITE, Driver, park
from tests.machine.test_block import BUFFER, HEADER, IN, OUT, STATUS_AT, content, request
from tests.machine.test_slices import drive

# The notice is the store; Count advances every second cycle.
WAITING = """
    li   $s0, 0xbf010000
    mtc0 $zero, count
    sw   $zero, 0x50($s0)
    wait
    mfc0 $s1, count
end: b end
"""
SPINNING = """
    li   $s0, 0xbf010000
    mtc0 $zero, count
    sw   $zero, 0x50($s0)
x:  lw   $t0, 0x60($s0)
    beq  $t0, $zero, x
    mfc0 $s1, count
end: b end
"""


def ready(*sets: str, cpus: int = 1) -> Driver:
    board = Board(*sets, disks=[(content(), False)], cpus=cpus)
    driver = Driver(board, 0)
    driver.start()
    assert driver.run() == layout.EXIT_STOP
    return driver


@pytest.mark.parametrize("latency", [0, 1, 10, 199, 200, 5000, 16384, 100_000])
@pytest.mark.parametrize("cpus", [1, 3])
def test_a_request_takes_its_time(latency, cpus):
    """Latency + 8 × bits ÷ bandwidth: 4096 bytes at 4 MB/s of a clock of 1 GHz are 1,024,000."""
    sets = (f"machine.disk_latency_ns={latency}", "machine.disk_mbytes_per_s=4",
            "machine.clock_mhz=1000")  # fmt: skip
    driver = ready(*sets, cpus=cpus)
    driver.board.program(WAITING)
    driver.board.set(status=1 << 12)
    for cpu in range(1, cpus):
        park(driver.board, cpu)
    request(driver, IN, 3, [(BUFFER, 4096)])
    driver.board.run(10_000_000, stop=0x80001018)
    # The store ends a cycle after mtc0 set Count to 0; mfc0 takes one when WAIT is over.
    assert driver.board.get("s1") == (latency + 1_024_000 + 2) // 2


def test_a_page_of_data_moves_when_its_time_has_come():
    """The device is seen to move page by page."""
    driver = ready("machine.disk_latency_ns=1000", "machine.disk_mbytes_per_s=1000",
                   "machine.clock_mhz=1000")  # fmt: skip
    driver.board.program(SPINNING)
    request(driver, IN, 0, [(BUFFER, 3 * 4096)])
    seen = []
    for _ in range(40):
        driver.board.step(500)
        pages = driver.read(BUFFER, 3 * 4096)
        seen.append(sum(any(pages[4096 * n : 4096 * n + 4096]) for n in range(3)))
    assert sorted(set(seen)) == [0, 1, 2, 3]
    assert seen == sorted(seen)
    # 1000 cycles before the first, 4096 between two.
    assert seen.index(1) == 2
    assert seen.index(2) == 10
    assert seen.index(3) == 18


@pytest.mark.parametrize("target", [0, 1, 2])
def test_the_interrupt_goes_to_one_cpu_at_its_time(target):
    """Three CPUs watch their Cause: the one that the line leads to sees it, and at its time."""
    driver = ready("machine.disk_latency_ns=33333", "machine.clock_mhz=1000", cpus=3)
    driver.board.program("""
        li   $s0, 0xbf010000
        bne  $a0, $zero, x
        lui  $t0, 0xbf00
        sw   $a1, 0x2020($t0)
        lw   $s3, 0x2020($t0)
        sw   $zero, 0x50($s0)
    x:  mfc0 $t0, cause
        andi $t0, $t0, 0x1000
        beq  $t0, $zero, x
        mfc0 $s1, count
        li   $s2, 1
    end: b end
        nop
    """)
    for cpu in range(3):
        driver.board.jump(0x80001000, cpu)
        driver.board.set(cpu, a0=cpu, a1=target)
    request(driver, 4, 0, [])
    driver.board.run(2_000_000)
    assert driver.board.get("s3") == target
    assert [driver.board.get("s2", cpu) for cpu in range(3)] == [cpu == target for cpu in range(3)]
    # Count is half the clock; a round of the loop takes 4 cycles, of which Cause is read in the
    # first and Count in the last.
    raised = int(driver.board.m.g[layout.G_LINE_CLOCK])
    assert (raised + 3) // 2 <= driver.board.get("s1", target) <= (raised + 3 + 3) // 2


@pytest.mark.parametrize("to", [1, 2])
def test_the_line_takes_its_level_along(to):
    """An interrupt that waits follows the line to another CPU; one that is not there is ignored."""
    driver = ready(cpus=3)
    request(driver, IN, 3, [(BUFFER, 4096)])
    driver.board.run(10_000_000, stop=0x80001000)
    board = driver.board
    board.program("""
        li   $s0, 0xbf010000
        bne  $a0, $zero, end
        lui  $t0, 0xbf00
        sw   $zero, 0x50($s0)
    x:  lw   $t1, 0x60($s0)
        beq  $t1, $zero, x
        mfc0 $s1, cause
        sw   $a1, 0x2020($t0)
        mfc0 $s2, cause
        li   $t1, 3
        sw   $t1, 0x2020($t0)
        lw   $s3, 0x2020($t0)
    end: b end
        mfc0 $s4, cause
    """)
    for cpu in range(3):
        board.jump(0x80001000, cpu)
        board.set(cpu, a0=cpu, a1=to)
    board.run(10_000_000)
    assert board.get("s1") & 0x1000
    assert not board.get("s2") & 0x1000
    assert board.get("s3") == to
    assert [bool(board.get("s4", cpu) & 0x1000) for cpu in range(3)] == [
        cpu == to for cpu in range(3)
    ]


BUSY = """
    li   $s0, 0xbf010000
    li   $s1, 0x80304000        # the available ring
    li   $s2, 0x80320000        # the buffer
    li   $s3, 0x80330000        # shared
    mfc0 $t9, ebase
    andi $t9, $t9, 0x3ff
    bne  $t9, $zero, other
    addiu $t0, $zero, 0x1000
    mtc0 $t0, status
next: lhu  $t0, 2($s1)
    addiu $t0, $t0, 1
    sh   $t0, 2($s1)
    sw   $zero, 0x50($s0)
    lw   $t1, 0($s2)
    xor  $t2, $t2, $t1
    andi $t1, $t0, 3
    beq  $t1, $zero, spin
    nop
    wait
spin: lw $t1, 0x60($s0)
    beq  $t1, $zero, spin
    nop
    sw   $t1, 0x64($s0)
    sw   $t0, 0($s3)
    b    next
    nop
other: ll $t0, 0($s3)
    addiu $t0, $t0, 1
    sc   $t0, 0($s3)
    lw   $t1, 0x80($s2)
    sw   $t0, 0x84($s2)
    xor  $t2, $t2, $t1
    ll   $t3, 0x100($s2)        # a device takes reservations, too
    addiu $t3, $t3, 1
    sc   $t3, 0x100($s2)
    addu $t4, $t4, $t3
    b    other
    nop
"""


def busy(rows: int = 20_000, *sets: str, cpus: int) -> Board:
    """Return CPUs that use a disk's buffer while the disk reads into it, again and again."""
    sets = ("machine.disk_latency_ns=700", "machine.disk_mbytes_per_s=3000", *sets)
    board = Board(*sets, disks=[(content(), False)], cpus=cpus, rows=rows)
    driver = Driver(board, 0)
    driver.start()
    assert driver.run() == layout.EXIT_STOP
    driver.write(HEADER, struct.pack("<IIQ", IN, 0, 0))
    driver.chain(0, [(HEADER, 16, 0), (BUFFER + 20, 8192, WRITE), (STATUS_AT, 1, WRITE)])
    driver.write(driver.places(0)[1] + 2, b"\0\0")  # the program offers it
    board.program(BUSY)
    for cpu in range(cpus):
        board.jump(0x80001000, cpu)
    board.m.g[layout.G_EXIT] = 0
    board.m.p[layout.X_STOP] = -1
    return board


def state(board: Board) -> list[bytes]:
    """Return what a run of devices leaves, beyond what `drive` returns."""
    m = board.m
    return [m.virtio.tobytes(), m.disk.tobytes(), m.ram.tobytes(), m.g[layout.G_DUE :].tobytes()]


@pytest.mark.parametrize("feedback", ["none", "full"])
@pytest.mark.parametrize("cpus", [1, 4])
def test_length_of_calls_and_size_of_buffers(cpus, feedback):
    sets = f"time.feedback={feedback}"
    board = busy(200_000, sets, cpus=cpus)
    whole = drive(board, 1 << 40, 60_000) + state(board)
    events = np.frombuffer(whole[2], board.m.events.dtype)
    assert (events["kind"] == DMA).sum() > 200
    ends = events[(events["kind"] == WAITS) & (events["a0"] == WAIT_END)]
    assert (ends["a1"] == BY_DEVICE).sum() > 10
    for rows, budget in ((700, 1 << 40), (200_000, 1), (1000, 333)):
        board = busy(rows, sets, cpus=cpus)
        assert drive(board, budget, 60_000) + state(board) == whole


def test_longest_turns_do_not_show():
    """One CPU's turns are long, those of several short: a device cuts both."""
    ends = []
    for cpus in (1, 2):
        board = busy(200_000, cpus=cpus)
        for cpu in range(1, cpus):
            board.m.s[cpu, layout.S_WAITING] = 1
        drive(board, 1 << 40, 60_000)
        ends.append((board.m.gpr[0].copy(), board.m.virtio[:, : slots.V_CHAIN].copy()))
    for one, other in zip(*ends, strict=True):
        assert np.array_equal(one, other)


def rows_of(driver: Driver, kind: int) -> np.ndarray:
    """Notify CPU 0's device, wait, and return the rows of a kind."""
    driver.notify()
    driver.wait()
    m = driver.board.m
    driver.board.empty = lambda: None
    assert driver.run() == layout.EXIT_STOP
    events = m.events[: m.g[layout.G_EVENTS]]
    return events[events["kind"] == kind]


def test_every_access_to_memory_is_a_row():
    driver = ready()
    request(driver, OUT, 7, [(BUFFER + 4000, 512)])
    rows = rows_of(driver, DMA)
    desc, avail, used = driver.places(0)
    names = [(DMA_OPS[int(row["a2"])], int(row["a3"]), int(row["a5"])) for row in rows]
    assert names == [
        ("ring_read", avail + 2, 2),
        ("ring_read", avail + 4, 2),
        ("ring_read", desc, 16),
        ("ring_read", desc + 16, 16),
        ("ring_read", desc + 32, 16),
        ("read", HEADER, 16),
        ("read", BUFFER + 4000, 96),
        ("read", BUFFER + 4096, 416),
        ("write", STATUS_AT, 1),
        ("ring_write", used + 4, 8),
        ("ring_write", used + 2, 2),
        ("ring_read", avail, 2),
        ("ring_read", avail + 2, 2),
    ]
    assert set(rows["a0"]) == {0}
    assert set(rows["a1"]) == {1}
    assert [int(row["a4"]) for row in rows[6:8]] == [7, 7]


def test_steps_of_an_interrupt_are_rows():
    driver = ready()
    request(driver, 4, 0, [])
    rows = rows_of(driver, INTERRUPTS)
    latency = 2_000_000 * 300 // 1000
    names = [
        (INTERRUPT_EVENTS[int(r["a0"])], int(r["a1"]), int(r["a2"]), int(r["a3"])) for r in rows
    ]
    assert names == [("device_started", 4, 0, latency), ("raised", 4, 0, latency)]


def test_a_write_by_a_device_takes_reservations():
    """An LL, a device's write into its granule, then an SC that must fail; beside it, succeed."""
    for offset, succeeds in ((0, 0), (511, 0), (512, 1), (-4, 1)):
        driver = ready("machine.disk_latency_ns=1000")
        request(driver, IN, 0, [(BUFFER, 512)])
        driver.board.program("""
            li   $s0, 0xbf010000
            sw   $zero, 0x50($s0)
            ll   $t0, 0($a0)
            wait
            addiu $t1, $zero, 1
            sc   $t1, 0($a0)
        end: b end
        """)
        driver.board.set(status=1 << 12, a0=0x80000000 + BUFFER + offset & ~3)
        driver.board.run(100_000, stop=0x8000101C)
        assert driver.board.get("t1") == succeeds, offset


def test_code_that_a_device_writes_is_decoded_anew():
    driver = ready("machine.disk_latency_ns=0")
    code = 0x321000
    driver.board.words(code, [0x24020001, 0x03E00008, 0])  # addiu v0, zero, 1; jr ra
    driver.board.m.disk[:3] = [0x24020002, 0x03E00008, 0]
    request(driver, IN, 0, [(code, 512)])
    driver.board.program("""
        li   $s0, 0xbf010000
        li   $s1, 0x80321000
        jalr $ra, $s1
        nop
        move $s2, $v0
        sw   $zero, 0x50($s0)
        wait
        jalr $ra, $s1
        nop
    end: b end
    """)
    driver.board.set(status=1 << 12)
    driver.board.run(100_000, stop=0x8000102C)
    assert (driver.board.get("s2"), driver.board.get("v0")) == (1, 2)


def test_a_disk_may_end_a_deadlock():
    """All CPUs wait and only a device will wake one: no deadlock; afterwards it is one."""
    driver = ready(cpus=2)
    request(driver, 4, 0, [])
    driver.board.program("""
        li   $s0, 0xbf010000
        sw   $zero, 0x50($s0)
        wait
        addiu $t0, $zero, 3
        sw   $t0, 0x64($s0)
        wait
        nop
    """)
    driver.board.set(status=1 << 12)
    driver.board.jump(0x80001018, 1)
    assert driver.board.run(10_000_000) == layout.EXIT_DEADLOCK
    assert driver.board.get("pc") == 0x8000101C


def test_count_register_is_untouched_by_devices():
    """A device's rows close CPU 0's work early; its clocks must not notice."""
    counts = []
    for latency in (100, 1_000_000):
        driver = ready(f"machine.disk_latency_ns={latency}")
        request(driver, 4, 0, [])
        driver.notify()
        assert driver.run() == layout.EXIT_STOP
        driver.board.jump(0x80001000 + 4 * 29)
        driver.board.step(7777)
        counts.append(int(kernel.count_register(driver.board.m, driver.board.memory, 0)))
    assert counts[0] == counts[1]
