"""Define what a capture and a replay are asked for, and what they answer: plain data only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from disco_trace.config import Spec


class ProgressCallback(Protocol):
    """Take the state of long work: done, in all (None if unknown), words on the present step."""

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None:
        """Show the state."""


class ExitReason(StrEnum):
    """Say why a capture ended."""

    POWER_OFF = "power-off"  # the guest stored its exit status to the power device
    STOP_AT = "stop-at"  # a CPU reached the address of --stop-at
    INSTRUCTION_LIMIT = "instruction-limit"  # --max-instructions, over all CPUs
    BYTE_LIMIT = "byte-limit"  # --max-bytes of trace on disk
    DEADLOCK = "deadlock"  # every CPU waits, and no timer or device will wake one
    LOCKUP = "lockup"  # the same, where a CPU faults for ever without finishing an instruction
    INTERRUPTED = "interrupted"  # Ctrl-C: the trace is closed, readable and incomplete


@dataclass(frozen=True)
class Dump:
    """Name a stretch of a machine's memory: physical address, length in bytes; and its file."""

    address: int
    length: int
    path: Path
    vm: int = 0


@dataclass(frozen=True, kw_only=True)
class CaptureRequest:
    """Ask for a capture.

    guest: a name, or the path of an ELF or raw image. args: the guest's arguments; none means its
    own defaults. out: the trace folder. console: hand what the guest prints to `on_console` while
    it runs. load: files and the physical addresses they are copied to before the start. entry:
    virtual address in place of the image's. stop_at: virtual address that ends the run.
    max_instructions: over all CPUs. max_bytes: of trace parts on disk. dump: what of which
    machine's memory goes into which file after the end. no_events: keep results but no event rows.
    save_at: number of the phase at whose first opening a checkpoint is saved. resume: folder of the
    checkpoint to go on from; args, load and entry are the checkpoint's then, and max_instructions
    counts from there.
    """

    guest: str
    args: list[str]
    spec: Spec
    out: Path
    force: bool = False
    console: bool = False
    load: list[tuple[Path, int]] = field(default_factory=list)
    entry: int | None = None
    stop_at: int | None = None
    max_instructions: int | None = None
    max_bytes: int | None = None
    dump: list[Dump] = field(default_factory=list)
    no_events: bool = False
    save_at: int | None = None
    resume: Path | None = None
    progress: ProgressCallback | None = None
    on_console: Callable[[bytes], None] | None = None


@dataclass(frozen=True, kw_only=True)
class CaptureResult:
    """Answer a capture: where the trace is and what happened.

    seconds: wall time of the whole run to the closed trace, without compile_seconds.
    registers, cp0: one dictionary a CPU. totals, per_cpu: the counters of `runs/captured`.
    checkpoint: the folder of the one that was saved. disks: sectors that changed of each persistent
    disk, by its file.
    """

    path: Path
    exit_reason: ExitReason
    guest_exit_status: int | None
    console: bytes
    seconds: float
    instructions_per_second: float
    compile_seconds: float
    totals: dict[str, int]
    per_cpu: list[dict[str, int]]
    registers: list[dict[str, int]]
    cp0: list[dict[str, int]]
    checkpoint: Path | None = None
    disks: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Tell whether the guest did what was asked: status 0, or the address of --stop-at."""
        if self.exit_reason is ExitReason.POWER_OFF:
            return self.guest_exit_status == 0
        return self.exit_reason is ExitReason.STOP_AT


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """Answer a replay: where the run is and what it counted.

    recorded_references: rows of the trace replayed; original_references: references that the
    guest made above the first level. references_per_second: recorded ones over `seconds`, which
    runs from opening the trace to the closed results. fidelity: by changed path, see
    `config.replayable`. reused: the run was there already, nothing was computed.
    """

    path: Path
    totals: dict[str, int]
    per_cpu: list[dict[str, int]]
    seconds: float
    compile_seconds: float
    recorded_references: int
    references_per_second: float
    original_references: int
    reused: bool
    fidelity: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
