"""Which phases lie inside which."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from disco_trace.trace.phases import inner_phases

OPEN, CLOSE = 0, 1


def reader(*marks: tuple[int, int, int], begun: Sequence[Sequence[int]] | None = None) -> Any:
    """Return a stand-in for a trace's reader with (virtual CPU, event, phase) rows.

    Context 4 n belongs to virtual CPU n of machine 0, but 4 x 9 to the first of machine 1.

    begun: the phases of each CPU that were open before the trace, from the outermost.
    """
    columns = {
        "seq": pa.array(range(len(marks)), pa.uint64()),
        **{
            name: pa.array([mark[i] << 2 * (i == 0) for mark in marks], pa.uint32())
            for i, name in enumerate(("context", "event", "phase"))
        },
    }
    start = None
    if begun is not None:
        open_ = {(0, n): list(phases) for n, phases in enumerate(begun)}
        start = SimpleNamespace(state=SimpleNamespace(open_phases=lambda: open_))
    contexts = {"vm": np.array([0] * 9 + [1]), "vcpu": np.array([*range(9), 0])}
    return SimpleNamespace(
        dataset=lambda kind: ds.dataset(pa.table(columns)), start=start, contexts=lambda: contexts
    )


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ((), {}),
        (((0, OPEN, 1), (0, CLOSE, 1), (0, OPEN, 2)), {1: {1}, 2: {2}}),
        (
            ((0, OPEN, 1), (0, OPEN, 2), (0, OPEN, 3), (0, CLOSE, 3), (0, CLOSE, 2)),
            {1: {1, 2, 3}, 2: {2, 3}, 3: {3}},
        ),
        # Opened on another CPU, or again after its close: not inside.
        (((0, OPEN, 1), (1, OPEN, 2)), {1: {1}, 2: {2}}),
        (
            ((0, OPEN, 1), (0, OPEN, 2), (0, CLOSE, 2), (0, CLOSE, 1), (0, OPEN, 2)),
            {1: {1}, 2: {2}},
        ),
        # Never closed by itself: it ends with the phase around it.
        (
            ((0, OPEN, 1), (0, OPEN, 2), (0, CLOSE, 1), (0, OPEN, 3)),
            {1: {1, 2}, 2: {2}, 3: {3}},
        ),
        # A close without an opening.
        (((0, CLOSE, 4), (0, OPEN, 1)), {1: {1}}),
    ],
)
def test_inner_phases(marks: Any, expected: Any) -> None:
    assert inner_phases(reader(*marks)) == {(0, n): inner for n, inner in expected.items()}


def test_phases_of_machines_are_apart() -> None:
    marks = ((0, OPEN, 1), (9, OPEN, 2), (9, OPEN, 1), (0, OPEN, 2))
    assert inner_phases(reader(*marks)) == {
        (0, 1): {1, 2}, (0, 2): {2}, (1, 2): {1, 2}, (1, 1): {1},
    }  # fmt: skip


def test_phases_that_a_resumed_trace_starts_in() -> None:
    marks = ((0, CLOSE, 2), (0, OPEN, 3), (1, OPEN, 3), (1, OPEN, 4))
    assert inner_phases(reader(*marks, begun=[(1, 2), (1,)])) == {
        (0, 1): {1, 2, 3, 4}, (0, 2): {2}, (0, 3): {3, 4}, (0, 4): {4},
    }  # fmt: skip
