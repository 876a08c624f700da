"""The board's devices: UART, power, CPU block, page marks; virtio (docs/architecture.md)."""

from __future__ import annotations

from disco_trace.jit import helper, inline
from disco_trace.machine.cop0 import turn_clock
from disco_trace.machine.emit import emit
from disco_trace.machine.layout import (
    CAUSE,
    CPU_BLOCK,
    EXIT_POWER,
    G_CONSOLE,
    G_EXIT,
    G_LINE_CPU,
    G_STATUS,
    IP_IPI,
    MARKS,
    POWER,
    S_IPI_AT,
    S_IPI_LAST,
    S_VCPU,
    S_WAIT_BASE,
    S_WAKER,
    SLOT_SHIFT,
    UART,
    VIRTIO,
    X_CPUS,
    X_NODES,
    X_RAM,
)
from disco_trace.machine.marks import mark
from disco_trace.machine.slots import NEVER, SLOTS
from disco_trace.machine.virtio import device_store, lead_line, virtio_read
from disco_trace.memory.events import (
    CLEARED,
    INTERRUPTS,
    RAISED,
)

IPI_BIT = 1 << (8 + IP_IPI)


@inline
def uart_read(uart, register):
    """Read a 16550A register: the transmitter is always empty, nothing is ever received."""
    if register == 0:
        return uart[8] if uart[3] & 128 else 0
    if register == 1:
        return uart[9] if uart[3] & 128 else uart[1]
    if register == 2:
        return 1
    if register == 5:
        return 0x60
    if register == 6:
        return 0xB0
    return uart[register]


@inline
def uart_write(mc, uart, register, value, number):
    """Store to a 16550A register; what is sent goes to the console, as of machine `number`."""
    if uart[3] & 128 and register < 2:
        uart[8 + register] = value & 255
    elif register == 0:
        mc.console[mc.g[G_CONSOLE]] = number << 8 | (value & 255)
        mc.g[G_CONSOLE] += 1
    elif register != 5 and register != 6:
        uart[register] = value & 255


@inline
def post(mc, target, sender, now):
    """Send an inter-processor interrupt: it arrives when the target's clock is the sender's."""
    s = mc.s[target]
    s[S_IPI_AT] = min(s[S_IPI_AT], now)
    s[S_IPI_LAST] = max(s[S_IPI_LAST], now)
    s[S_WAIT_BASE] = now
    s[S_WAKER] = sender


@inline
def arrive(mc, cpu, now):
    """Raise the line for the inter-processor interrupts that have arrived; others stay due."""
    s = mc.s[cpu]
    mc.cp0[cpu, CAUSE] |= IPI_BIT
    s[S_IPI_AT] = s[S_IPI_LAST] if s[S_IPI_LAST] > now else NEVER


@inline
def clear_interrupt(mc, m, cpu, work):
    """Clear the inter-processor line, with what has come by now, also if nothing has looked."""
    emit(mc, m, cpu, INTERRUPTS, work, CLEARED, IP_IPI, cpu, 0, 0, 0)
    now = turn_clock(mc, m, cpu)
    if mc.s[cpu, S_IPI_AT] <= now:
        arrive(mc, cpu, now)
    mc.cp0[cpu, CAUSE] &= ~IPI_BIT


@inline
def cpu_block_read(mc, cpu, offset, cpus):
    """Return a word of the CPU block of a machine that has so many CPUs."""
    if offset == 0x00:
        return mc.s[cpu, S_VCPU]
    if offset == 0x04:
        return cpus
    if offset == 0x08:
        return mc.p[X_NODES]
    if offset == 0x0C:
        return cpu * mc.p[X_NODES] // mc.p[X_CPUS]
    if offset == 0x18:
        return (mc.cp0[cpu, CAUSE] >> (8 + IP_IPI)) & 1
    if offset == 0x1C:
        return mc.p[X_RAM]
    if offset == 0x20:
        return mc.g[G_LINE_CPU]
    return 0


@helper
def device_read(mc, cpu, physical):
    """Return the 32-bit word that a device answers with."""
    block = physical & 0xFFFFF000
    offset = physical & 0xFFC
    if block == UART:
        return uart_read(mc.uart, (offset >> 2) & 7)
    if block == VIRTIO:
        return virtio_read(mc.virtio[(physical >> SLOT_SHIFT) & (SLOTS - 1)], physical & 0x1FC)
    if block == CPU_BLOCK:
        return cpu_block_read(mc, cpu, offset, mc.p[X_CPUS])
    return 0


@helper
def device_write(mc, m, cpu, physical, value, work):
    """Store a word (or the low byte of one) to a device; return 1 if the CPU's turn must end.

    `work` is what the control row of an action closes; it is consumed if a row was written
    (returned as bit 1).
    """
    block = physical & 0xFFFFF000
    offset = physical & 0xFFC
    if block == UART:
        uart_write(mc, mc.uart, (offset >> 2) & 7, value, 0)
        return 0
    if block == POWER:
        if offset == 0:
            mc.g[G_EXIT] = EXIT_POWER
            mc.g[G_STATUS] = value
            return 1
        return 0
    if block == CPU_BLOCK:
        if offset == 0x10 and value < mc.p[X_CPUS]:
            emit(mc, m, cpu, INTERRUPTS, work, RAISED, IP_IPI, value, 0, 0, 0)
            post(mc, value, cpu, turn_clock(mc, m, cpu))
            return 3
        if offset == 0x14:
            clear_interrupt(mc, m, cpu, work)
            return 2
        if offset == 0x20 and value < mc.p[X_CPUS]:
            lead_line(mc, value)
        return 0
    if block == VIRTIO:
        slot = (physical >> SLOT_SHIFT) & (SLOTS - 1)
        return device_store(mc, m, cpu, slot, physical & 0x1FC, value, work)
    if block == MARKS:
        return 2 * mark(mc, m, cpu, offset, value, work)
    return 0
