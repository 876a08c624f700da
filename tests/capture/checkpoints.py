"""Save machines while guests run, go on from them, and compare with the runs that were not cut."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from disco_trace.capture import capture
from disco_trace.checkpoint.identity import saved_spec
from disco_trace.config import Spec
from disco_trace.requests import CaptureRequest, CaptureResult
from disco_trace.trace.arrays import Array, write_array
from disco_trace.trace.checkpoint import CHECKPOINT, read_checkpoint
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.schema import KINDS
from disco_trace.trace.state import FAMILIES


def numbers(folder: Path) -> dict[str, int]:
    """Return the numbers of a checkpoint's guest's phases by name."""
    return {name: number for number, name in read_checkpoint(folder).guest.phases.items()}


def go_on(checkpoint: Path, out: Path, **options: Any) -> CaptureResult:
    """Resume a checkpoint with its own specification; the guest must succeed."""
    found = read_checkpoint(checkpoint)
    spec: Spec = options.pop("spec", None) or saved_spec(found, checkpoint)
    result = capture(
        CaptureRequest(
            guest=found.guest.name, args=[], spec=spec, out=out, resume=checkpoint, **options
        )
    )
    limited = {"max_instructions", "stop_at"} & set(options)
    assert limited or result.succeeded, (result.exit_reason, result.console)
    return result


@dataclass
class Rows:
    """Hold all rows of a trace by kind, as columns."""

    kinds: dict[str, dict[str, Array]]

    @classmethod
    def of(cls, trace: Path) -> Rows:
        """Read a whole trace."""
        reader = TraceReader(trace)
        kinds: dict[str, dict[str, Array]] = {}
        for kind in KINDS:
            tables = [reader.read(kind.name, segment.segment) for segment in reader.segments]
            tables = [table for table in tables if table]
            if tables:
                kinds[kind.name] = {
                    name: np.concatenate([table[name] for table in tables]) for name in tables[0]
                }
        return cls(kinds)

    def after(self, seq: int, pages: int) -> Rows:
        """Return the rows from sequence number `seq` on; of pages, those after the first `pages`.

        (A page reference carries the number of the row that follows it.)
        """
        out = {}
        for name, columns in self.kinds.items():
            keep = columns["seq"] >= seq
            if name == "pages":
                keep = np.arange(len(columns["seq"])) >= pages
            if keep.any():
                out[name] = {column: values[keep] for column, values in columns.items()}
        return Rows(out)

    def assert_same(self, other: Rows) -> None:
        """Compare every value of every row."""
        assert set(self.kinds) == set(other.kinds)
        for kind, columns in self.kinds.items():
            for name, values in columns.items():
                assert np.array_equal(values, other.kinds[kind][name]), f"{kind}.{name}"


def assert_goes_on(full: Path, checkpoint: Path, part: Path) -> Rows:
    """Assert that a resumed trace holds exactly what the whole one has after the checkpoint."""
    state = read_checkpoint(checkpoint).state
    rows = Rows.of(part)
    rows.assert_same(Rows.of(full).after(state.seq, state.rows["pages"]))
    for name in FAMILIES:
        assert state.rows[name] > 0
    return rows


def spoil(checkpoint: Path, out: Path, name: str, change: Any) -> Path:
    """Copy a checkpoint with one array changed, and every hash right again."""
    shutil.copytree(checkpoint, out)
    file = out / CHECKPOINT
    document = json.loads(file.read_text())
    array = load(out, name)
    array = change(array) if callable(change) else array
    entry = write_array(out, name, array)
    document["state"]["arrays"][name] = msgspec.to_builtins(entry)
    file.write_text(json.dumps(document))
    return out


def load(checkpoint: Path, name: str) -> Array:
    """Return an array of a checkpoint."""
    from disco_trace.trace.arrays import read_array

    entry = read_checkpoint(checkpoint).state.arrays[name]
    array = np.zeros(entry.shape, entry.dtype)
    read_array(checkpoint, name, entry, array)
    return array


def main(words: list[str]) -> None:
    """Resume each pair of words (a checkpoint and a trace's place); print the final registers."""
    results = {}
    for checkpoint, out in zip(words[::2], words[1::2], strict=True):
        result = go_on(Path(checkpoint), Path(out))
        results[out] = {
            "registers": result.registers,
            "cp0": result.cp0,
            "console": result.console.decode(),
            "per_cpu": result.per_cpu,
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1:])
