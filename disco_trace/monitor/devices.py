"""The board as a virtual machine sees it: every device access traps and is emulated.

A machine has a console, a power switch, a block of its own virtual CPUs and a place for marks, at
the addresses of the bare board. Nothing here can name another machine's.
"""

from __future__ import annotations

import numpy as np

from disco_trace.jit import helper, inline
from disco_trace.machine.cop0 import turn_clock
from disco_trace.machine.devices import (
    clear_interrupt,
    cpu_block_read,
    post,
    uart_read,
    uart_write,
)
from disco_trace.machine.emit import emit
from disco_trace.machine.fpu.memory import float_place
from disco_trace.machine.hot import O_SC, U, loaded, rt_of
from disco_trace.machine.isa import IS_FLOAT
from disco_trace.machine.layout import (
    CPU_BLOCK,
    IP_IPI,
    MARKS,
    POWER,
    S_DATA,
    S_IPI_AT,
    S_IPI_LAST,
    S_LL,
    S_VM,
    S_WAIT_BASE,
    S_WAKER,
    SLOT_SHIFT,
    UART,
    VIRTIO,
    X_O_VM,
)
from disco_trace.machine.marks import mark
from disco_trace.machine.slots import SLOTS
from disco_trace.machine.translate import A_LOAD
from disco_trace.machine.virtio import device_store, lead_virtual_line, virtio_read
from disco_trace.memory.events import (
    INTERRUPTS,
    RAISED,
    TRAPS,
)
from disco_trace.monitor.layout import (
    NOBODY,
    V_CPU,
    V_HOME,
    V_S,
    VM_FIRST,
    VM_LINE,
    VM_UART,
    VM_VCPUS,
    VM_WORDS,
)
from disco_trace.monitor.schedule import end_machine
from disco_trace.monitor.special import give_page, offered, pull
from disco_trace.monitor.vcpu import record
from disco_trace.trace.schema import MONITOR_CAUSES

EMULATE_LOAD = MONITOR_CAUSES.index("emulate_load")
EMULATE_STORE = MONITOR_CAUSES.index("emulate_store")
MONITOR_CALL = MONITOR_CAUSES.index("monitor_call")
CAUSE_IPI = MONITOR_CAUSES.index("ipi")


@helper
def guest_device(mc, m, cpu, op, w, va, physical, access, pc, work):
    """Emulate a load or store at a device; return 1 if the CPU's turn must end.

    The row of the trap consumes `work`. A store of any width gives the device the register, like
    the bare board's.
    """
    r = mc.gpr[cpu]
    rt = rt_of(w)
    pull(mc, cpu)
    mc.s[cpu, S_DATA] += 1
    if access == A_LOAD:
        emit(mc, m, cpu, TRAPS, work, EMULATE_LOAD, pc, np.int64(va), 0, 0, 0)
        if IS_FLOAT[op]:
            _, at, halves = float_place(mc, cpu, op, w)
            for half in range(halves):
                word = guest_read(mc, cpu, physical + 4 * half) & 0xFFFFFFFF
                mc.fpr[cpu].view(np.uint32)[at + half] = word
            return 0
        word = U(guest_read(mc, cpu, physical)) & U(0xFFFFFFFF)
        r[rt] = loaded(op, va, word, U(r[rt]))
        r[0] = 0
        return 0
    value = np.int64(r[rt])
    if IS_FLOAT[op]:
        return float_store(mc, m, cpu, op, w, physical, pc, work)
    # Another CPU is interrupted, or a page zeroed by the monitor itself: part of the row's work.
    work_done = 0
    cause = EMULATE_STORE
    if physical & 0xFFFFF000 == MARKS:
        cause = MONITOR_CALL
        if physical & 0xFFC == 8:
            work_done = 1
    elif physical & 0xFFFFFFFC == CPU_BLOCK + 0x10 and interrupts_another(mc, cpu, value):
        cause = CAUSE_IPI
        work_done = 1 << 32
    emit(mc, m, cpu, TRAPS, work, cause, pc, np.int64(va), 0, work_done, 0)
    done = guest_write(mc, m, cpu, physical, value)
    if op == O_SC:
        r[rt] = 1
        r[0] = 0
        mc.s[cpu, S_LL] = 0
    return done


@helper
def float_store(mc, m, cpu, op, w, physical, pc, work):
    """Emulate a store of an FPU register to a device, a word at a time."""
    emit(mc, m, cpu, TRAPS, work, EMULATE_STORE, pc, physical, 0, 0, 0)
    _, at, halves = float_place(mc, cpu, op, w)
    done = 0
    for half in range(halves):
        value = np.int64(mc.fpr[cpu].view(np.uint32)[at + half])
        done |= guest_write(mc, m, cpu, physical + 4 * half, value)
    return done


@helper
def interrupts_another(mc, cpu, value):
    """Tell whether raising the interrupt of a virtual CPU interrupts another CPU."""
    vm = mc.p[X_O_VM] + mc.s[cpu, S_VM] * VM_WORDS
    if value >= mc.mon[vm + VM_VCPUS]:
        return False
    return mc.mon[record(mc, mc.mon[vm + VM_FIRST] + value) + V_HOME] != cpu


@helper
def guest_read(mc, cpu, physical):
    """Return the 32-bit word that a device of the machine answers with."""
    block = physical & 0xFFFFF000
    offset = physical & 0xFFC
    vm = mc.p[X_O_VM] + mc.s[cpu, S_VM] * VM_WORDS
    if block == UART:
        return uart_read(mc.mon[vm + VM_UART : vm + VM_UART + 16], (offset >> 2) & 7)
    if block == CPU_BLOCK:
        if offset == 0x20:
            return mc.mon[vm + VM_LINE]
        if offset == 0x24:
            return offered(mc)
        return cpu_block_read(mc, cpu, offset, mc.mon[vm + VM_VCPUS])
    if block == VIRTIO:
        return virtio_read(mc.virtio[slot_of(mc, cpu, physical)], physical & 0x1FC)
    return 0


@helper
def guest_write(mc, m, cpu, physical, value):
    """Store a word to a device of the machine; return 1 if the CPU's turn must end."""
    block = physical & 0xFFFFF000
    offset = physical & 0xFFC
    number = mc.s[cpu, S_VM]
    vm = mc.p[X_O_VM] + number * VM_WORDS
    if block == UART:
        uart = mc.mon[vm + VM_UART : vm + VM_UART + 16]
        uart_write(mc, uart, (offset >> 2) & 7, value, number)
    elif block == POWER:
        if offset == 0:
            end_machine(mc, m, cpu, value)
            return 1
    elif block == CPU_BLOCK:
        if offset == 0x10 and value < mc.mon[vm + VM_VCPUS]:
            raise_interrupt(mc, m, cpu, mc.mon[vm + VM_FIRST] + value)
            return 1
        if offset == 0x14:
            clear_interrupt(mc, m, cpu, 0)
        if offset == 0x20 and value < mc.mon[vm + VM_VCPUS]:
            lead_virtual_line(mc, number, value)
        if offset == 0x24:
            give_page(mc, cpu, value)
    elif block == VIRTIO:
        device_store(mc, m, cpu, slot_of(mc, cpu, physical), physical & 0x1FC, value, 0)
    elif block == MARKS:
        mark(mc, m, cpu, offset, value, 0)
    return 0


@inline
def slot_of(mc, cpu, physical):
    """Return the number among all machines' slots of the one at an address."""
    return mc.s[cpu, S_VM] * SLOTS + ((physical >> SLOT_SHIFT) & (SLOTS - 1))


@helper
def raise_interrupt(mc, m, cpu, which):
    """Post an inter-processor interrupt to a virtual CPU of the same machine."""
    at = record(mc, which)
    home = mc.mon[at + V_HOME]
    now = turn_clock(mc, m, cpu)
    emit(mc, m, cpu, INTERRUPTS, 0, RAISED, IP_IPI, home, 0, 0, 0)
    if mc.mon[at + V_CPU] != NOBODY:
        post(mc, home, cpu, now)
    else:
        mc.mon[at + V_S + S_IPI_AT] = min(mc.mon[at + V_S + S_IPI_AT], now)
        mc.mon[at + V_S + S_IPI_LAST] = max(mc.mon[at + V_S + S_IPI_LAST], now)
        mc.s[home, S_WAIT_BASE] = now
        mc.s[home, S_WAKER] = cpu
