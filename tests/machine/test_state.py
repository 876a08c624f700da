"""What a machine's state is: every field of both tuples, but those that are named here."""

from __future__ import annotations

import types

import numpy as np
import pytest

from disco_trace.config import resolve
from disco_trace.errors import DiscoError
from disco_trace.machine import layout as machine_layout
from disco_trace.machine import state as machine_state
from disco_trace.machine.layout import Machine
from disco_trace.memory import layout as memory_layout
from disco_trace.memory import state as memory_state
from disco_trace.memory.layout import Memory


def test_no_field_is_forgotten():
    """A new field is saved; to leave it out, or to leave its values unchecked, say so here."""
    left_out = {"p", "here"}
    assert set(Machine._fields) - set(machine_state.SAVED) == left_out | {
        "actions", "console", "refs", "pages", "events",
    }  # fmt: skip
    assert set(Memory._fields) - set(memory_state.SAVED) == left_out | {
        "heat", "accounts", "interval_base", "misses", "moves", "intervals",
    }  # fmt: skip
    assert set(machine_state.CHECKS) == set(machine_state.SAVED)
    assert set(memory_state.CHECKS) == set(memory_state.SAVED)
    unchecked = {n for n, f in machine_state.CHECKS.items() if f is machine_state._any_value}
    assert unchecked == {"ram", "ops", "fpr", "hint", "names", "frames", "disk"}


def test_every_field_can_be_saved():
    """Arrays on disk are of integers; their shapes follow from the specification."""
    spec = resolve(machine="flash4", sets=["machine.ram_bytes=1MiB"])
    one, other = (machine_layout.build(spec, 200) for _ in range(2))
    first, second = (memory_layout.build(spec, contexts=4) for _ in range(2))
    for names, a, b in (
        (machine_state.SAVED, one, other),
        (memory_state.SAVED, first, second),
    ):
        for name in names:
            array, again = getattr(a, name), getattr(b, name)
            assert array.dtype.kind in "iu", name
            assert (array.shape, array.dtype) == (again.shape, again.dtype), name


@pytest.mark.parametrize("preset", ["uniprocessor", "flash4", "flash16", "uma8"])
def test_a_cold_machine_is_possible(preset):
    spec = resolve(machine=preset, sets=["machine.ram_bytes=2MiB"])
    machine = machine_layout.build(spec, 1000)
    memory = memory_layout.build(spec, contexts=4 * len(machine.contexts))
    machine.g[machine_layout.G_CONTEXTS] = 1
    memory_state.check_memory(memory, 4)
    machine_state.check_machine(machine, memory, machine_layout.build(spec, 1))


def test_the_layout_is_named_by_what_the_words_mean():
    def module(**numbers):
        made = types.ModuleType("layout")
        vars(made).update(numbers)
        return made

    def name(*fields, **numbers):
        return memory_state.layout_id(module(**numbers), fields=fields)

    base = name("a", "b", S_PC=0, S_NPC=1)
    assert base == name("a", "b", S_NPC=1, S_PC=0, small=3, X_CPUS=9)
    assert base != name("b", "a", S_PC=0, S_NPC=1)
    assert base != name("a", "b", S_PC=1, S_NPC=0)
    assert base != name("a", "b", S_PC=0, S_NPC=1, S_SLOT=2)
    assert base != name("a", "b", "c", S_PC=0, S_NPC=1)


@pytest.mark.parametrize("ways", [1, 2, 4, 16])
def test_sets(ways):
    """The order of a set's ways is a permutation, sixteen of them with the sign bit."""
    lines = np.arange(ways)[None, :]
    order = np.array([memory_layout.identity_order(ways)])
    memory_state.check_sets("x", lines, order, ways)
    memory_state.check_sets("x", np.full_like(lines, -1), order, ways)
    with pytest.raises(DiscoError, match="order of the ways"):
        memory_state.check_sets("x", lines, order ^ 1 if ways > 1 else order + 1, ways)
    if ways > 1:
        lines[0, 1] = lines[0, 0]
        with pytest.raises(DiscoError, match="two ways"):
            memory_state.check_sets("x", lines, order, ways)


def test_masks_of_sixty_four_cpus():
    keys, mask = memory_state.masks(np.array([5, 5, 3, 3]), np.array([63, 0, 1, 1]))
    assert keys.tolist() == [3, 5]
    assert mask.tolist() == [2, 1 - 2**63]
