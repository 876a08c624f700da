"""Find the traces and runs behind the paths of a query, and give each a name of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from disco_trace.errors import DiscoError
from disco_trace.trace.manifest import MANIFEST
from disco_trace.trace.reader import TraceReader
from disco_trace.trace.run import Run, list_runs
from disco_trace.trace.run_writer import RUN

_NEITHER: Final = f"a folder with {MANIFEST} or {RUN}"


@dataclass(frozen=True)
class RunSource:
    """Hold one run and its name in SQL."""

    run: Run
    name: str


@dataclass(frozen=True)
class TraceSource:
    """Hold one trace: its reader, the name in SQL, and the runs over it that were asked for."""

    reader: TraceReader
    name: str
    runs: tuple[RunSource, ...]

    @property
    def path(self) -> Path:
        """Return the folder of the trace."""
        return self.reader.path


def find_sources(paths: Sequence[Path]) -> list[TraceSource]:
    """Return the traces behind `paths`, in the order given, each with its runs.

    A trace's folder brings all its complete or interrupted runs, `captured` first; a run's folder
    brings that run alone and the trace above it (`<trace>/runs/<name>`), or the trace among
    `paths` that it was made from. Raises `DiscoError` for any other path.
    """
    folders = [_folder(path) for path in dict.fromkeys(paths)]
    chosen: dict[Path, list[Path] | None] = {
        folder: None for folder in folders if (folder / MANIFEST).is_file()
    }
    readers = {folder: TraceReader(folder) for folder in chosen}
    for run in folders:
        if run in chosen:
            continue
        trace = _trace_of(run, readers)
        if trace not in readers:
            readers[trace] = TraceReader(trace)
        runs = chosen.setdefault(trace, [])
        inside = runs is None and run.parent == trace / "runs"
        if runs is None and not inside:
            runs = chosen[trace] = list_runs(trace)
        if runs is not None and run not in runs:
            runs.append(run)
    names = _unique_names(list(chosen))
    return [
        TraceSource(
            readers[folder],
            names[folder],
            tuple(_read_runs(list_runs(folder) if runs is None else runs)),
        )
        for folder, runs in chosen.items()
    ]


def _folder(path: Path) -> Path:
    """Return the resolved folder of a trace or run; raise `DiscoError` for anything else."""
    resolved = path.resolve()
    if not resolved.exists():
        raise DiscoError(
            "no such file or folder", file=path, expected="a trace or run", found="nothing"
        )
    if resolved.name in (MANIFEST, RUN):
        resolved = resolved.parent
    if (resolved / MANIFEST).is_file() or (resolved / RUN).is_file():
        return resolved
    raise DiscoError(
        "neither a trace nor a run",
        file=path,
        expected=_NEITHER,
        found="a file" if resolved.is_file() else "a folder without them",
    )


def _trace_of(run: Path, readers: dict[Path, TraceReader]) -> Path:
    """Return the folder of the trace that a run was made over."""
    above = run.parent.parent
    if (above / MANIFEST).is_file():
        return above
    wanted = Run.open(run).trace_id
    for folder, reader in readers.items():
        if wanted and reader.trace_id == wanted:
            return folder
    raise DiscoError(
        "the trace of this run is not known",
        file=run,
        expected="the run inside its trace, or its trace among the paths",
        found="neither",
    )


def _read_runs(runs: list[Path]) -> list[RunSource]:
    names = _unique_names(runs)
    return [RunSource(Run.open(run), names[run]) for run in runs]


def _unique_names(folders: list[Path]) -> dict[Path, str]:
    """Name each folder by its last part, or by as many of its last parts as tell it apart."""
    names = {folder: folder.name or "trace" for folder in folders}
    depth = 1
    while depth < max((len(f.parts) for f in folders), default=0):
        twice = {name for name, count in Counter(names.values()).items() if count > 1}
        if not twice:
            break
        depth += 1
        for folder, name in names.items():
            if name in twice:
                names[folder] = "/".join(folder.parts[-depth:])
    return names
