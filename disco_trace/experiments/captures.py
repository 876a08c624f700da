"""Read an experiment's description; take its captures where they are there, or make them now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from disco_trace.config import Spec, diff, from_dict
from disco_trace.config.machines import virtual_machines
from disco_trace.errors import EXIT_BUG, EXIT_GUEST, EXIT_INTERRUPTED, DiscoError
from disco_trace.paths import data_folder
from disco_trace.requests import CaptureRequest, CaptureResult, ExitReason, ProgressCallback

Description = TypeVar("Description", bound=msgspec.Struct)


def read_description(name: str, kind: type[Description]) -> Description:
    """Read a file of `reports/experiments`. Raises DiscoError (our bug) if it does not fit."""
    file = data_folder("reports") / "experiments" / f"{name}.toml"
    try:
        return msgspec.toml.decode(file.read_bytes(), type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise DiscoError(
            f"the experiment does not fit: {error}", file=file, exit_code=EXIT_BUG
        ) from error


def captured_before(
    path: Path, guest: str, args: Sequence[str], spec: Spec, *, whose: str, hint: str
) -> bool:
    """Tell whether the trace at `path` is complete and the one that would be made.

    Raises DiscoError, with `hint`, if it is of another guest: then it is not ours (`whose`) to
    replace.
    """
    from disco_trace.compile import simulator_id
    from disco_trace.trace.manifest import read_manifest, read_provenance

    manifest = read_manifest(path)
    if manifest.guest.name != guest:
        raise DiscoError(
            f"this is not {whose} trace",
            file=path,
            expected=f"guest {guest}",
            found=manifest.guest.name,
            hint=hint,
        )
    same = list(manifest.guest.args) == list(args) and not diff(from_dict(manifest.config), spec)
    if not (manifest.complete and same and (path / "runs" / "captured" / "run.json").is_file()):
        return False
    if read_provenance(path).get("simulator") != simulator_id():
        return False  # of another version: figures of both do not compare
    # An image may have been built anew since, or a disk.
    from disco_trace.boot import disks_of, starts_of

    request = CaptureRequest(guest=guest, args=list(args), spec=spec, out=path)
    starts = starts_of(request)
    disks = [disk.sha256 for disk in disks_of(request, starts)]
    return disks == [disk.sha256 for disk in manifest.guest.disks] and all(
        start.image.sha256 == manifest.guest.sha256 for start in starts
    )


def capture_now(
    path: Path,
    guest: str,
    args: Sequence[str],
    spec: Spec,
    progress: ProgressCallback | None = None,
    *,
    whose: str,
) -> CaptureResult:
    """Capture a guest into `path`, replacing a trace that is there; DiscoError if it fails."""
    from disco_trace.capture import capture

    result = capture(
        CaptureRequest(
            guest=guest,
            args=list(args),
            spec=spec,
            out=path,
            force=path.exists(),
            progress=progress,
        )
    )
    if result.exit_reason is ExitReason.INTERRUPTED:
        raise DiscoError(
            "interrupted: what was captured before is used again", exit_code=EXIT_INTERRUPTED
        )
    if not result.succeeded:
        raise DiscoError(
            f"{whose} guest failed",
            file=path,
            expected="exit status 0",
            found=f"{result.exit_reason}, status {result.guest_exit_status}",
            exit_code=EXIT_GUEST,
        )
    return result


def all_near(spec: Spec) -> tuple[str, ...]:
    """Return, as words of `--set`, what makes all memory as near as a CPU's own."""
    near = spec.memory.local_ns
    names = ("remote_ns", "dirty_ns", "upgrade_remote_ns", "uncached_remote_ns")
    return tuple(f"memory.{name}={near}" for name in names)


def capture_once(
    guest: str,
    arguments: Sequence[str],
    spec: Spec,
    folder: Path,
    progress: ProgressCallback | None = None,
    *,
    name: str | None = None,
) -> tuple[Path, bool]:
    """Return the trace of a guest below `folder` and whether it was there; else it is made now.

    Without `arguments` the guest gets its own, without a `name` the trace is named after guest
    and machines. Raises DiscoError as `capture_of`.
    """
    from disco_trace.cli.common import trace_path
    from disco_trace.guest.resolve import find_guest

    machines = len(virtual_machines(spec))
    args = tuple(arguments) or tuple(find_guest(guest).arguments)
    path = folder / (name or f"reproduce-{trace_path(guest, spec.machine.cpus, machines).name}")
    whose = "the experiment's"
    hint = "use --traces DIR to work elsewhere"
    if path.exists() and captured_before(path, guest, args, spec, whose=whose, hint=hint):
        return path, True
    capture_now(path, guest, args, spec, progress, whose=whose)
    return path, False
