"""Say where a capture begins: at the start of a guest, or at a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disco_trace.cli import common
from disco_trace.errors import DiscoError

if TYPE_CHECKING:
    from disco_trace.config import Spec

# Phases of guests that mark by a store have numbers of 31 bits.
MOST_PHASE = 2**31 - 1


@dataclass(frozen=True)
class Origin:
    """Hold what is captured: the guest's image or a checkpoint, the machine, its phases.

    path: where the trace goes unless told otherwise.
    """

    spec: Spec
    phases: dict[int, str]
    path: Path
    image: Path | None = None
    checkpoint: Path | None = None


def at_start(
    guest: str,
    machine: str | Path | None,
    options: Mapping[str, Any],
    args: Sequence[str] = (),
) -> Origin:
    """Return the origin of a guest that begins.

    `options` are those of `config.resolve`; `vms` may also be the file that says what each virtual
    machine runs, where `args` are the guest's.
    """
    from disco_trace.config import resolve
    from disco_trace.config.machines import read_machines, virtual_machines
    from disco_trace.guest.resolve import find_guest

    found = find_guest(guest)
    vms = options.get("vms")
    if isinstance(vms, Path):
        # Who shares the CPUs must be known before their number is asked for.
        cpus = resolve(machine=machine or found.machine, **{**options, "vms": None}).machine.cpus
        options = {**options, "vms": read_machines(vms, guest, args, cpus)}
    spec = resolve(machine=machine or found.machine, **options)
    machines = len(virtual_machines(spec))
    path = common.trace_path(found.name, spec.machine.cpus, machines)
    return Origin(spec, dict(found.phases), path, image=found.image)


def at_checkpoint(
    guest: str, place: Path, options: Mapping[str, Any], given: Mapping[str, object]
) -> Origin:
    """Return the origin of a guest that goes on.

    given: what was typed of the options that say how a guest begins; any of them is an error.
    """
    from disco_trace.checkpoint.identity import check_guest, saved_spec
    from disco_trace.config import resolve
    from disco_trace.config.machines import virtual_machines
    from disco_trace.config.resumable import check_resumable
    from disco_trace.trace.checkpoint import checkpoint_folder, folder_name, read_checkpoint

    for option, value in given.items():
        if value:
            raise DiscoError(
                f"{option} cannot be given with --resume",
                expected="guest, machine and memory as the checkpoint has them",
                found=option,
            )
    folder = checkpoint_folder(place)
    checkpoint = read_checkpoint(folder)
    check_guest(guest, checkpoint)
    saved = saved_spec(checkpoint, folder)
    spec = resolve(base=saved, **options)
    check_resumable(saved, spec)
    machines = len(virtual_machines(spec))
    path = common.trace_path(checkpoint.guest.name, spec.machine.cpus, machines)
    path = path.with_name(f"{path.name}-{folder_name(checkpoint.phase)}")
    return Origin(spec, dict(checkpoint.guest.phases), path, checkpoint=folder)


def phase_number(text: str | None, phases: Mapping[int, str]) -> int | None:
    """Return the number of the phase that --save-at names, by name or number."""
    if text is None:
        return None
    for number, name in phases.items():
        if text == name:
            return number
    if text.isascii() and text.isdigit() and 0 < int(text) <= MOST_PHASE:
        return int(text)
    known = ", ".join(f"{name} ({number})" for number, name in phases.items())
    raise DiscoError(
        f"no phase {text!r} in this guest",
        expected=f"{known}, or a number" if known else "a number: the guest names no phases",
        found=text,
    )
