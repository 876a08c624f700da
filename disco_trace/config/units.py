"""Convert times to whole cycles of the simulated clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from disco_trace.config.spec import Spec


def cycles(ns: float, clock_mhz: int) -> int:
    """Return `ns` nanoseconds in cycles at `clock_mhz`, rounded to nearest, halves up."""
    if isinstance(ns, int):
        return (ns * clock_mhz + 500) // 1000
    return int(ns * clock_mhz / 1000 + 0.5)


def latency_cycles(spec: Spec) -> dict[str, int]:
    """Return every `memory.*_ns` in cycles, keyed as `local_cycles`."""
    names = [name for name in spec.memory.__struct_fields__ if name.endswith("_ns")]
    return {
        name.removesuffix("_ns") + "_cycles": cycles(
            getattr(spec.memory, name), spec.machine.clock_mhz
        )
        for name in names
    }


def price_cycles(spec: Spec) -> dict[str, int]:
    """Return every price in cycles, keyed as `migrate_cycles`, `shootdown_cycles_per_cpu`."""
    prices = spec.costs.prices
    return {
        name.replace("_us", "_cycles"): cycles(prices[name] * 1000, spec.machine.clock_mhz)
        for name in prices.__struct_fields__
    }
