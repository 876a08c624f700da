"""Whatever a guest contains, the simulator survives it with its state in range."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import robust

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", range(len(robust.MACHINES)))
def test_nonsense(seed):
    ends = robust.run(seed, 1_000_000)
    assert ends["instructions"] >= 1_000_000
    assert ends["max-instructions"] >= 10
    assert ends["requests"] >= 30


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 100 + 4 * len(robust.MACHINES)))
def test_more_nonsense(seed):
    """240 million instructions in all."""
    assert robust.run(seed, 10_000_000)["instructions"] >= 10_000_000


@pytest.mark.slow
def test_no_index_leaves_its_array():
    """The same with every index checked, in kernels of their own (minutes to compile).

    180 million instructions; an index beyond its array is an IndexError there, also in helpers,
    where `robust.indices_are_checked` provokes one.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.machine.robust", "200", "30000000"],
        cwd=ROOT,
        env=os.environ | {"NUMBA_BOUNDSCHECK": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("checked")
    assert done.stdout.count("'instructions'") == len(robust.MACHINES)
