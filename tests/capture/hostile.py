"""Spoil checkpoints in every array, with every hash right, and see what becomes of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from disco_trace.errors import DiscoError
from disco_trace.trace.arrays import Array
from disco_trace.trace.checkpoint import read_checkpoint
from tests.capture.checkpoints import go_on, spoil
from tests.machine.robust import indices_are_checked
from tests.replay.runs import run_guest, spec_at

# Where sums wrap, signs turn, and tables end.
EDGES = [
    *(0, 1, 2, 3, 4, 7, 15, 16, 63, 64, 255, 256, 1023, 1024, 4096, 2**16, 2**20, 2**31 - 1),
    *(2**31, 2**32 - 1, 2**32, 2**53, 2**61, 2**62, 2**63 - 1, -1, -2, -(2**31), -(2**63)),
]
STEPS = 20_000
ROOT = Path(__file__).parents[2]
# Places and values: what to change in an array.
SPOILS = st.lists(
    st.tuples(st.integers(0, 1 << 30), st.sampled_from(EDGES)), min_size=1, max_size=3
)


def spoilt(array: Array, places: list[int], values: list[int]) -> Array:
    """Return a copy with some of its non-zero words (or any, where all are zero) changed."""
    out = array.copy()
    flat = out.reshape(-1)
    if not len(flat):
        return out  # what this machine has none of
    used = np.flatnonzero(flat)
    candidates = used if len(used) else np.arange(len(flat))
    limits = np.iinfo(flat.dtype)
    for place, value in zip(places, values, strict=True):
        at = candidates[place % len(candidates)] if place % 3 else place % len(flat)
        flat[at] = min(max(value, int(limits.min)), int(limits.max))
    return out


def outcome(checkpoint: Path, out: Path) -> str:
    """Go on for some thousand instructions; return "done", or the error's message."""
    refusal = None
    try:
        go_on(checkpoint, out, max_instructions=STEPS)
    except DiscoError as error:
        refusal = error
    if refusal is None:
        return "done"
    assert refusal.exit_code == 2
    assert refusal.message
    assert "\n" not in str(refusal)
    return refusal.message


def outcome_of(checkpoint: Path, folder: Path, name: str, spoils: list[tuple[int, int]]) -> str:
    """Go on from a checkpoint with one array spoilt; `folder` may have an earlier one's remains."""
    places, values = (list(each) for each in zip(*spoils, strict=True))
    for left in ("bad", "t"):
        shutil.rmtree(folder / left, ignore_errors=True)
    bad = spoil(checkpoint, folder / "bad", name, lambda a: spoilt(a, places, values))
    return outcome(bad, folder / "t")


def run(checkpoint: Path, seed: int, rounds: int) -> dict[str, int]:
    """Spoil and go on, again and again; return how often each message came."""
    rng = np.random.default_rng(seed)
    names = sorted(read_checkpoint(checkpoint).state.arrays)
    ends: dict[str, int] = {}
    for _ in range(rounds):
        name = str(rng.choice(names))
        count = int(rng.integers(1, 4))
        places = rng.integers(0, 1 << 30, count).tolist()
        values = [int(EDGES[i]) for i in rng.integers(0, len(EDGES), count)]
        with tempfile.TemporaryDirectory() as folder:

            def change(array: Array, at: list[int] = places, to: list[int] = values) -> Array:
                return spoilt(array, at, to)

            bad = spoil(checkpoint, Path(folder) / "bad", name, change)
            end = outcome(bad, Path(folder) / "t")
        ends[end] = ends.get(end, 0) + 1
    return ends


def main(seed: int, rounds: int, kind: str = "moving") -> None:
    """Make a checkpoint of a machine whose pages move, or of virtual ones, and spoil it."""
    with tempfile.TemporaryDirectory() as folder:
        made = (virtual if kind == "virtual" else moving)(Path(folder) / "t")
        print(run(made, seed, rounds))
        shutil.rmtree(folder, ignore_errors=True)


def moving(path: Path) -> Path:
    """Return a checkpoint of a small machine with every kind of state in use."""
    spec = spec_at(
        2, 2, machine__ram_bytes="4MiB", memory__l2__size_bytes="8KiB",
        placement__policy="migrate-replicate", placement__initial="first-touch",
        placement__trigger_misses=4, placement__sharing_misses=2, placement__write_misses=50,
    )  # fmt: skip
    result = run_guest("radix", spec, path, ["keys=2K", "bits=4"], save_at=6)
    assert result.checkpoint is not None
    return result.checkpoint


def virtual(path: Path) -> Path:
    """Return a checkpoint of crowded machines that share pages, and a pool that is too small."""
    guests = ("files:2 rounds=1 os.cache=48", "files:1 rounds=1 os.cache=48", "radix:1 keys=2K")
    spec = spec_at(
        2, 2, monitor__kind="disco", machine__ram_bytes="4MiB", monitor__slice_us=200,
        memory__l2__size_bytes="8KiB", vm__count=3, vm__guests=guests, vm__pool_bytes="1280KiB",
        placement__policy="migrate-replicate", placement__initial="first-touch",
        placement__trigger_misses=4, placement__sharing_misses=2,
    )  # fmt: skip
    result = run_guest("files", spec, path, (), save_at=4)
    assert result.checkpoint is not None
    return result.checkpoint


def assert_indices_stay(*words: str) -> None:
    """Spoil checkpoints in a process in which every index is checked (minutes to compile)."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.capture.hostile", *words],
        cwd=ROOT,
        env=os.environ | {"NUMBA_BOUNDSCHECK": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("checked")
    assert "'done'" in done.stdout


if __name__ == "__main__":
    print("checked" if indices_are_checked() else "unchecked", flush=True)
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
