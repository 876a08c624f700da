"""Describe a run completely: machine, memory, placement, monitor, costs, time.

`resolve(...)` makes a `Spec` from a preset, files and `--set`; a `Spec` that exists is valid, so
compiled code may trust its ranges.
"""

from disco_trace.config.identity import diff, from_dict, spec_id, to_dict
from disco_trace.config.replayable import replayable
from disco_trace.config.resolve import Resolved, machine_names, resolve, resolve_with_origins
from disco_trace.config.spec import (
    MOVING_POLICIES,
    STATIC_POLICIES,
    Cache,
    Costs,
    L2Cache,
    Machine,
    Memory,
    Monitor,
    Placement,
    Spec,
    Time,
    Vm,
)
from disco_trace.config.units import cycles, latency_cycles, price_cycles

__all__ = [
    "MOVING_POLICIES",
    "STATIC_POLICIES",
    "Cache",
    "Costs",
    "L2Cache",
    "Machine",
    "Memory",
    "Monitor",
    "Placement",
    "Resolved",
    "Spec",
    "Time",
    "Vm",
    "cycles",
    "diff",
    "from_dict",
    "latency_cycles",
    "machine_names",
    "price_cycles",
    "replayable",
    "resolve",
    "resolve_with_origins",
    "spec_id",
    "to_dict",
]
