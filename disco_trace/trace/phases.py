"""Tell which phases of a guest lie inside which.

A row's context knows the innermost open phase only. Who asks for an outer phase means everything
between its opening and its close, so the phases that lie inside it belong to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from disco_trace.trace.reader import TraceReader


def inner_phases(reader: TraceReader) -> dict[tuple[int, int], set[int]]:
    """Return, by (machine, phase), the phases that were only ever opened inside it, and itself.

    A phase that was also opened elsewhere is not counted: its rows cannot be told apart. Phases
    nest on a virtual CPU, wherever that runs.
    """
    table = reader.dataset("phases").to_table(columns=["seq", "context", "event", "phase"])
    columns = table.sort_by("seq").to_pydict()
    contexts = reader.contexts()
    owners = list(zip(contexts["vm"].tolist(), contexts["vcpu"].tolist(), strict=True))
    stacks: dict[tuple[int, int], list[int]] = defaultdict(list)
    if reader.start is not None:
        stacks.update(reader.start.state.open_phases())
    around: dict[tuple[int, int], set[int]] = {}
    for (vm, _), stack in stacks.items():
        for depth, phase in enumerate(stack):
            _narrow(around, (vm, phase), stack[:depth])
    rows = zip(columns["context"], columns["event"], columns["phase"], strict=True)
    for context, event, phase in rows:
        owner = owners[context >> 2]
        stack = stacks[owner]
        if event == 0:
            _narrow(around, (owner[0], phase), stack)
            stack.append(phase)
        elif phase in stack:
            # Phases that the guest forgot to close inside this one end with it.
            del stack[len(stack) - 1 - stack[::-1].index(phase) :]
    inside = {(vm, phase): {phase} for vm, phase in around}
    for (vm, inner), outers in around.items():
        for each in outers:
            inside[vm, each].add(inner)
    return inside


def _narrow(
    around: dict[tuple[int, int], set[int]], phase: tuple[int, int], stack: Sequence[int]
) -> None:
    """Keep of the phases around one those that are open now too."""
    outer = set(stack)
    around[phase] = around[phase] & outer if phase in around else outer
