"""What a device or the monitor asks to be recorded when its present step is done."""

from __future__ import annotations

from disco_trace.jit import helper


@helper
def ask(actions, what, first, second, third, fourth, fifth):
    """Ask for something to be recorded when the step is done; see `slots.A_DMA` for what."""
    count = actions[0, 0] + 1
    actions[0, 0] = count
    row = actions[count]
    row[0] = what
    row[1] = first
    row[2] = second
    row[3] = third
    row[4] = fourth
    row[5] = fifth
