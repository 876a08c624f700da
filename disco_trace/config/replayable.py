"""Say what a replay may change, and how far each change can be trusted.

`exact`: equals a fresh capture there, for the recorded stream in the recorded order.
`approximate`: the recorded stream itself would have differed. `no feedback`: exact for the
recorded stream, but guest-visible time would have differed, and with it what the guest did.
"""

from __future__ import annotations

from typing import Final, Literal

from disco_trace.config.identity import diff, flat_dict
from disco_trace.config.spec import MOVING_POLICIES, Spec
from disco_trace.config.structure import ROOT, structure_of
from disco_trace.costs.prices import MOVE_PRICES
from disco_trace.errors import DiscoError

Fidelity = Literal["exact", "approximate", "no feedback"]

# The order from most to least trusted, for a run that changes several values.
ORDER: Final[tuple[Fidelity, ...]] = ("exact", "no feedback", "approximate")

# Roots and paths that shape the recorded stream itself.
_FIXED: Final = ("machine.", "monitor.", "vm.", "time.feedback")
_CHANGEABLE_MACHINE: Final = ("machine.nodes",)
# Results only: no simulated time depends on them.
_RESULTS_ONLY: Final = ("time.interval_us", "costs.table")


def replayable(captured: Spec, wanted: Spec) -> dict[str, Fidelity]:
    """Return for each changed path how far a replay can be trusted.

    Raises DiscoError (exit code 2) for a path that a replay cannot change.
    """
    changed = diff(captured, wanted)
    fixed = [p for p in changed if p.startswith(_FIXED) and p not in _CHANGEABLE_MACHINE]
    if fixed:
        old, new = flat_dict(captured), flat_dict(wanted)
        raise DiscoError(
            f"a replay cannot change {', '.join(fixed)}",
            expected=", ".join(f"{path} = {old[path]}" for path in fixed),
            found=", ".join(str(new[path]) for path in fixed),
            hint="make a new capture with this value",
        )
    return {path: _fidelity(path, captured, wanted) for path in changed}


def overall(fidelities: dict[str, Fidelity]) -> Fidelity:
    """Return the least trusted of several changes; `exact` where nothing changed."""
    return max(fidelities.values(), key=ORDER.index, default="exact")


def _fidelity(path: str, captured: Spec, wanted: Spec) -> Fidelity:
    if path in _RESULTS_ONLY:
        return "exact"
    if path == "memory.l2.line_bytes" and captured.machine.cpus > 1:
        # Coherence was recorded at the granule: lines that another CPU took differ.
        return "approximate"
    if path.startswith(ROOT):
        if captured.monitor.kind == "none":
            return "exact"  # there is no monitor to build otherwise
        old, new = structure_of(captured).paths(), structure_of(wanted, captured).paths()
        return "exact" if old[path] == new[path] else "approximate"
    moves = wanted.placement.policy in MOVING_POLICIES
    if path.startswith("costs.prices."):
        of_moves = path.removeprefix("costs.prices.") in MOVE_PRICES
        if not (moves if of_moves else captured.monitor.kind != "none"):
            return "exact"  # what it prices does not happen
    if path.startswith("placement.") and path != "placement.policy":
        if not matters(path.removeprefix("placement."), wanted):
            return "exact"
    if captured.time.feedback == "full":
        return "no feedback"
    # A shootdown is noticed at the page's next recorded reference, a live CPU notices at once.
    return "approximate" if moves and path.startswith("placement.") else "exact"


def matters(name: str, wanted: Spec) -> bool:
    """Tell whether the wanted policy looks at a parameter of placement."""
    policy = wanted.placement.policy
    moves = policy in MOVING_POLICIES
    deals = wanted.placement.initial if moves else policy
    if name == "node":
        return deals == "single-node"
    if name == "retouch_phase":
        return deals == "first-touch"
    if name == "node_frames":
        return policy != "guest"
    return moves
