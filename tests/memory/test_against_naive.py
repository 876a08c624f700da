"""Hold the compiled memory system against the slow oracle, to the unit."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.memory.compare import check

SEEDS = st.integers(0, 2**32 - 1)
LENGTHS = st.integers(1, 400)
FEW = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
MANY = settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))


@FEW
@given(SEEDS, LENGTHS)
def test_static_placement(seed: int, length: int) -> None:
    check(seed, length)


@FEW
@given(SEEDS, LENGTHS)
def test_other_second_level_lines(seed: int, length: int) -> None:
    check(seed, length, same_line=False)


@FEW
@given(SEEDS, LENGTHS)
def test_moving_pages(seed: int, length: int) -> None:
    check(seed, length, moving=True)


def test_second_level_lines_above_the_granule() -> None:
    for seed in range(60):
        check(seed, 400, same_line=False, longer=True)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"same_line": False}, {"moving": True}])
def test_many(options: dict[str, bool]) -> None:
    MANY(given(SEEDS, st.integers(1, 3000))(lambda s, n: check(s, n, **options)))()
