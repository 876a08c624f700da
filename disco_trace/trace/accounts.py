"""Turn an accounts array into rows, totals and back.

`accounts[cpu, context, metric]` (uint64) is what a run amounts to: every cycle and every event of
every CPU, charged once. All sums that people see are sums over it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from disco_trace.trace.columns import Columns
from disco_trace.trace.schema import METRIC_NAMES, METRICS, N_METRICS

_INDEX: Final = {name: i for i, name in enumerate(METRIC_NAMES)}
_CYCLES: Final = [i for i, name in enumerate(METRIC_NAMES) if name.endswith("_cycles")]
_MONITOR: Final = list(range(len(METRICS), N_METRICS))
_L2_MISSES: Final = [_INDEX[name] for name in ("local_misses", "remote_misses", "dirty_misses")]


def to_columns(accounts: np.ndarray[Any, Any]) -> Columns:
    """Return the entries that are not 0 as columns cpu, context, metric (index) and value.

    `accounts` has shape (cpus, contexts, N_METRICS). Raises `ValueError` for another shape.
    """
    if accounts.ndim != 3 or accounts.shape[2] != N_METRICS:
        raise ValueError(f"accounts have shape {accounts.shape}, not (cpus, contexts, {N_METRICS})")
    cpu, context, metric = np.nonzero(accounts)
    return {
        "cpu": cpu.astype("u1"),
        "context": context.astype("u4"),
        "metric": metric.astype("u1"),
        "value": accounts[cpu, context, metric].astype("u8"),
    }


def per_cpu(accounts: np.ndarray[Any, Any]) -> list[dict[str, int]]:
    """Return one dict for each CPU: `cpu`, every metric, and the sums `cycles`, `monitor_cycles`,
    `l2_misses`.

    `cycles` is the CPU's clock: all metrics in cycles add up to it exactly.
    """  # fmt: skip
    sums = accounts.sum(axis=1, dtype=np.uint64)
    return [{"cpu": cpu, **_named(row.tolist())} for cpu, row in enumerate(sums)]


def totals(accounts: np.ndarray[Any, Any]) -> dict[str, int]:
    """Return the same metrics summed over all CPUs, and `elapsed_cycles`, the largest clock."""
    rows = per_cpu(accounts)
    sums = _named(accounts.sum(axis=(0, 1), dtype=np.uint64).tolist())
    return {**sums, "elapsed_cycles": max((row["cycles"] for row in rows), default=0)}


def _named(values: list[int]) -> dict[str, int]:
    first = {
        "instructions": values[_INDEX["instructions"]],
        "cycles": sum(values[i] for i in _CYCLES),
    }
    out = {**first, **{name: values[_INDEX[name]] for name in METRICS}}
    out["l2_misses"] = sum(values[i] for i in _L2_MISSES)
    out["monitor_cycles"] = sum(values[i] for i in _MONITOR)
    # The causes that occurred; a list of thirty zeros would hide them.
    out.update({METRIC_NAMES[i]: values[i] for i in _MONITOR if values[i]})
    return out


def from_columns(columns: Columns, cpus: int, contexts: int) -> np.ndarray[Any, Any]:
    """Return the accounts array of the rows of `to_columns` (uint64, zero where no row is).

    Raises `IndexError` for a row beyond `cpus` or `contexts`.
    """
    accounts = np.zeros((cpus, contexts, N_METRICS), np.uint64)
    accounts[columns["cpu"], columns["context"], columns["metric"]] = columns["value"]
    return accounts
