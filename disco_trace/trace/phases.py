"""Tell which phases of a guest lie inside which.

A row's context knows the innermost open phase only. Who asks for an outer phase means everything
between its opening and its close, so the phases that lie inside it belong to it.
"""

from __future__ import annotations

from collections import defaultdict

from disco_trace.trace.reader import TraceReader


def inner_phases(reader: TraceReader) -> dict[int, set[int]]:
    """Return, for each phase number, the phases that were only ever opened inside it, and itself.

    A phase that was also opened elsewhere is not counted: its rows cannot be told apart.
    """
    table = reader.dataset("phases").to_table(columns=["seq", "cpu", "event", "phase"])
    columns = table.sort_by("seq").to_pydict()
    stacks: dict[int, list[int]] = defaultdict(list)
    if reader.start is not None:
        stacks.update({n: list(cpu.phases) for n, cpu in enumerate(reader.start.state.cpus)})
    around: dict[int, set[int]] = {}
    for stack in stacks.values():
        for depth, phase in enumerate(stack):
            outer = set(stack[:depth])
            around[phase] = around[phase] & outer if phase in around else outer
    for cpu, event, phase in zip(columns["cpu"], columns["event"], columns["phase"], strict=True):
        stack = stacks[cpu]
        if event == 0:
            outer = set(stack)
            around[phase] = around[phase] & outer if phase in around else outer
            stack.append(phase)
        elif phase in stack:
            # Phases that the guest forgot to close inside this one end with it.
            del stack[len(stack) - 1 - stack[::-1].index(phase) :]
    inside: dict[int, set[int]] = {phase: {phase} for phase in around}
    for inner, outers in around.items():
        for each in outers:
            inside[each].add(inner)
    return inside
