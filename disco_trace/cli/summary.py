"""Say in a few lines what counters mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from disco_trace.cli.progress import readable


def local_fraction(totals: Mapping[str, int]) -> float | None:
    """Return second-level misses served by the own node over all; None where there were none."""
    local = totals.get("local_misses", 0)
    misses = local + totals.get("remote_misses", 0) + totals.get("dirty_misses", 0)
    return local / misses if misses else None


def elapsed_cycles(per_cpu: Sequence[Mapping[str, int]]) -> int:
    """Return the clock of the CPU that ended last, in cycles: the run's length."""
    return max((cpu.get("cycles", 0) for cpu in per_cpu), default=0)


def totals_lines(totals: Mapping[str, int], per_cpu: Sequence[Mapping[str, int]]) -> list[str]:
    """Return the lines that follow a capture or replay."""
    misses = totals.get("l2_misses", 0)
    lines = [
        f"{readable(totals.get('instructions'))} instructions on {len(per_cpu)} CPU"
        f"{'' if len(per_cpu) == 1 else 's'}, {readable(elapsed_cycles(per_cpu))} cycles",
        f"{readable(misses)} second-level misses" + _sources(totals, misses),
    ]
    if totals.get("traps", 0):
        share = totals.get("monitor_cycles", 0) / max(totals.get("cycles", 0), 1)
        lines.append(
            f"{readable(totals['traps'])} traps to the monitor, {100 * share:.1f} % of all cycles"
        )
    moves = {
        name: totals.get(name, 0) for name in ("migrations", "replications") if totals.get(name, 0)
    }
    if moves:
        lines.append(", ".join(f"{readable(count)} {name}" for name, count in moves.items()))
    return lines


def _sources(totals: Mapping[str, int], misses: int) -> str:
    if not misses:
        return ""
    parts = [
        f"{100 * totals.get(f'{source}_misses', 0) / misses:.0f} % {source}"
        for source in ("local", "remote", "dirty")
    ]
    return ": " + ", ".join(parts)
