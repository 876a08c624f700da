"""Say how the monitor's TLBs are built: what a table's `[structure]` asks for, or the capture had.

Unlike prices, structure changes which traps there are. A capture builds it; a replay under another
simulates the monitor's TLBs again (`replay.structure`), which is approximate.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from disco_trace.config.spec import AS_CAPTURED, Spec
from disco_trace.errors import DiscoError

ROOT: Final = "costs.structure."


@dataclass(frozen=True)
class Structure:
    """Hold what is left when `captured` has been replaced by what that was."""

    tlb: str
    software_tlb: int
    kernel: str
    walk: str

    def paths(self) -> dict[str, Any]:
        """Return the values by path."""
        return {ROOT + field.name: getattr(self, field.name) for field in fields(self)}


def structure_of(wanted: Spec, captured: Spec | None = None) -> Structure:
    """Return the structure that a run has; `captured` is its trace's, None for a capture itself.

    What a capture's own table leaves out is Disco's, with the software TLB of `monitor`.
    """
    asked = wanted.costs.structure
    if captured is not None:
        base = structure_of(captured)
    else:
        base = Structure("flush", wanted.monitor.stlb_entries, "mapped", "software")
    return Structure(
        base.tlb if asked.tlb == AS_CAPTURED else asked.tlb,
        base.software_tlb if asked.software_tlb < 0 else asked.software_tlb,
        base.kernel if asked.kernel == AS_CAPTURED else asked.kernel,
        base.walk if asked.walk == AS_CAPTURED else asked.walk,
    )


def restructured(captured: Spec, wanted: Spec) -> bool:
    """Tell whether a replay has to simulate the monitor's TLBs again."""
    if captured.monitor.kind == "none":
        return False
    return structure_of(captured) != structure_of(wanted, captured)


def check_captured(spec: Spec) -> None:
    """Raise DiscoError for a structure that only a replay can ask for."""
    if spec.monitor.kind != "none" and structure_of(spec).walk == "nested":
        raise DiscoError(
            "a capture cannot walk guest page tables",
            expected=f"{ROOT}walk = software",
            found="nested",
            hint="capture with --costs disco and replay with this table,"
            f" or add --set {ROOT}walk=software",
        )
