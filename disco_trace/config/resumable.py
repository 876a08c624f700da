"""Say what may change when a machine goes on from a saved state, and what is lost with it.

The state below the first level was made by the specification that it was saved with. Latencies and
prices leave no mark in it; another second level or another page map makes it useless.
"""

from __future__ import annotations

from typing import Final, Literal

from disco_trace.config.identity import diff, flat_dict
from disco_trace.config.replayable import matters
from disco_trace.config.spec import MOVING_POLICIES, Spec
from disco_trace.config.structure import ROOT, structure_of
from disco_trace.errors import DiscoError

# What a change makes useless in a saved state, from the least to the most: the page counters of a
# policy; the second level and its directory; the map of pages to frames and all that is above.
Loss = Literal["counters", "second level", "page map"]

_SECOND_LEVEL: Final = ("memory.l2.", "memory.protocol")
_PAGE_MAP: Final = (
    "machine.nodes",
    "placement.policy",
    "placement.initial",
    "placement.node",
    "placement.node_frames",
    "placement.retouch_phase",
)
_COUNTERS: Final = ("placement.reset_ms",)
# Thresholds, latencies and prices are looked at anew by every event.
_RESUMABLE: Final = (
    "costs.",
    "time.interval_us",
    "placement.trigger_misses",
    "placement.sharing_misses",
    "placement.write_misses",
    "placement.migrate_limit",
    "placement.max_moves_per_page",
)
_TLBS: Final = (ROOT + "tlb", ROOT + "software_tlb")


def check_resumable(saved: Spec, wanted: Spec) -> None:
    """Raise DiscoError (exit code 2) for values that a resumed capture cannot change."""
    fixed = [path for path in diff(saved, wanted) if not _is_resumable(path)]
    old, new = flat_dict(saved), flat_dict(wanted)
    if saved.monitor.kind != "none":
        # What `captured` stands for: the state holds these TLBs, as large and with these tags.
        built, asked = structure_of(saved).paths(), structure_of(wanted).paths()
        fixed = fixed or [path for path in _TLBS if built[path] != asked[path]]
        old, new = old | built, new | asked
    if fixed:
        raise DiscoError(
            f"a checkpoint cannot change {', '.join(fixed)}",
            expected=", ".join(f"{path} = {old[path]}" for path in fixed),
            found=", ".join(str(new[path]) for path in fixed),
            hint="capture the guest from its start with this value",
        )


def _is_resumable(path: str) -> bool:
    latency = path.startswith("memory.") and path.endswith("_ns")
    return latency or path.startswith(_RESUMABLE)


def losses(saved: Spec, wanted: Spec) -> dict[str, Loss]:
    """Return, for each changed path that makes part of a saved state useless, which part."""
    found: dict[str, Loss] = {}
    moves = wanted.placement.policy in MOVING_POLICIES
    for path in diff(saved, wanted):
        name = path.removeprefix("placement.")
        if path != "placement.policy" and name != path and not matters(name, wanted):
            continue
        if path.startswith(_SECOND_LEVEL):
            found[path] = "second level"
        elif path in _PAGE_MAP:
            found[path] = "page map"
        elif path in _COUNTERS and moves:
            found[path] = "counters"
    return found
