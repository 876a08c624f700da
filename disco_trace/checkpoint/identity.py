"""Tell what a checkpoint is of, and whether a capture may go on from it as it is asked to."""

from __future__ import annotations

import hashlib
from pathlib import Path

from disco_trace.config import Spec, from_dict
from disco_trace.config.machines import deprivileged
from disco_trace.errors import DiscoError
from disco_trace.guest.resolve import guest_to_run
from disco_trace.trace.checkpoint import CHECKPOINT, Checkpoint


def saved_spec(checkpoint: Checkpoint, path: Path) -> Spec:
    """Return the specification that a checkpoint's machine was built from."""
    return from_dict(checkpoint.config, file=path / CHECKPOINT)


def check_guest(word: str, checkpoint: Checkpoint) -> None:
    """Raise DiscoError if `word` names another guest than the checkpoint's.

    Its image is needed no more; one that is still there must be the one that was saved.
    """
    named = Path(word).stem if "/" in word or word.endswith(".elf") else word
    if named != checkpoint.guest.name:
        raise DiscoError(
            "the checkpoint is of another guest", expected=checkpoint.guest.name, found=named
        )
    try:
        spec = from_dict(checkpoint.config)
        image = guest_to_run(word, deprivileged=deprivileged(spec)).image
        found = hashlib.sha256(image.read_bytes()).hexdigest()
    except (DiscoError, OSError):
        return
    if found != checkpoint.image:
        raise DiscoError(
            "the guest was built anew since the checkpoint was saved",
            file=image,
            expected=f"sha256 {checkpoint.image[:16]}…",
            found=f"{found[:16]}…",
            hint="capture it from its start, or give the image that was saved",
        )
