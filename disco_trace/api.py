"""Offer traces and runs to Python programs and notebooks: the same work as the command line's."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disco_trace.config import Spec, from_dict, resolve
from disco_trace.config.resolve import Sets
from disco_trace.errors import DiscoError

if TYPE_CHECKING:
    import polars as pl

    from disco_trace.trace.manifest import Manifest


def open(path: str | Path) -> Trace | Run:
    """Open a trace or a run folder.

    Raises DiscoError if the folder is neither.
    """
    folder = Path(path)
    if (folder / "run.json").exists():
        return Run(folder)
    return Trace(folder)


class Trace:
    """Hold a trace folder; `Trace.capture(...)` makes one."""

    def __init__(self, path: str | Path) -> None:
        from disco_trace.trace.manifest import read_manifest

        self.path = Path(path)
        self.manifest: Manifest = read_manifest(self.path)
        self.spec: Spec = from_dict(self.manifest.config, file=self.path / "manifest.json")

    @classmethod
    def capture(
        cls,
        guest: str,
        *,
        args: Sequence[str] = (),
        machine: str | Path | None = None,
        policy: str | None = None,
        costs: str | Path | None = None,
        monitor: str | None = None,
        vms: int | str | Path | None = None,
        set: Sets = (),
        out: str | Path | None = None,
        force: bool = False,
        max_instructions: int | None = None,
        save_at: str | int | None = None,
        resume: str | Path | None = None,
    ) -> Trace:
        """Run a guest and return its trace; `set` holds `PATH=VALUE` words or values by path.

        `monitor` is "disco" for virtual machines; `vms`, how many, or the TOML file that says what
        each runs.
        `save_at` names the phase (or its number) at whose beginning a checkpoint is saved below
        the trace's `checkpoints`; `resume` is the checkpoint to go on from, with the machine and
        the arguments that it has.
        Raises DiscoError, also (exit code 4) if the guest fails: its trace is kept all the same.
        """
        from disco_trace import compile as kernels

        kernels.prepare()
        from disco_trace.capture import capture
        from disco_trace.cli import origin
        from disco_trace.requests import CaptureRequest

        options: dict[str, Any] = {
            "policy": policy,
            "costs": costs,
            "monitor": monitor,
            "sets": set,
        }
        if resume is None:
            options["vms"] = Path(vms) if isinstance(vms, str) else vms
            begin = origin.at_start(guest, machine, options, args)
        else:
            given = {"machine": machine, "args": args, "vms": vms}
            begin = origin.at_checkpoint(guest, Path(resume), options, given)
        phase = None if save_at is None else str(save_at)
        result = capture(
            CaptureRequest(
                guest=guest,
                args=list(args),
                spec=begin.spec,
                out=Path(out) if out else begin.path,
                force=force,
                max_instructions=max_instructions,
                save_at=origin.phase_number(phase, begin.phases),
                resume=begin.checkpoint,
            )
        )
        if not result.succeeded and max_instructions is None:
            raise DiscoError(
                "the guest failed",
                file=result.path,
                expected="exit status 0",
                found=f"{result.exit_reason}, status {result.guest_exit_status}",
                exit_code=4,
            )
        return cls(result.path)

    def replay(
        self,
        *,
        policy: str | None = None,
        costs: str | Path | None = None,
        set: Sets = (),
        phase: str | None = None,
        record_misses: bool = False,
        force: bool = False,
        runs: str | Path | None = None,
    ) -> Run:
        """Run this trace through another memory system; what is not named stays as captured."""
        from disco_trace import compile as kernels

        kernels.prepare()
        from disco_trace.replay.engine import replay

        result = replay(
            self.path,
            resolve(base=self.spec, policy=policy, costs=costs, sets=set),
            out=None,
            runs=None if runs is None else Path(runs),
            force=force,
            phase=phase,
            record_misses=record_misses,
            progress=None,
        )
        return Run(result.path)

    @property
    def captured(self) -> Run:
        """Return the run that the capture itself made."""
        return Run(self.path / "runs" / "captured")

    @property
    def runs(self) -> list[Run]:
        """Return every finished run of this trace, the captured one first."""
        from disco_trace.trace.run import list_runs

        return [Run(path) for path in list_runs(self.path)]

    @property
    def totals(self) -> dict[str, int]:
        """Return the counters of the captured run."""
        return self.captured.totals

    def sql(self, query: str) -> pl.DataFrame:
        """Return the rows of a query over this trace and all its runs."""
        return _sql(self.path, query)

    def report(self, path: str | Path | None = None, *, force: bool = True) -> Path:
        """Write the HTML report; return its path (beside the trace by default)."""
        return _report(self.path, path, force)

    def __repr__(self) -> str:
        return f"Trace({str(self.path)!r})"

    def _repr_html_(self) -> str:
        guest = self.manifest.guest
        words = " ".join([guest.name, *guest.args])
        state = "" if self.manifest.complete else ", incomplete"
        title = f"trace of {words} on {self.manifest.cpus} CPUs{state}"
        rows = {run.path.name: run.totals for run in self.runs}
        return _table(title, rows)


class Run:
    """Hold the results of one run over a trace."""

    def __init__(self, path: str | Path) -> None:
        from disco_trace.trace.run import Run as Stored

        self.path = Path(path)
        self._stored = Stored.open(self.path)
        self.spec: Spec = from_dict(self._stored.spec, file=self.path / "run.json")
        self.fidelity: dict[str, str] = self._stored.fidelity
        self.fingerprint: str = self._stored.fingerprint

    @property
    def totals(self) -> dict[str, int]:
        """Return the counters over all CPUs."""
        return dict(self._stored.totals)

    @property
    def per_cpu(self) -> list[dict[str, int]]:
        """Return the counters of each CPU."""
        return [dict(counters) for counters in self._stored.per_cpu]

    def sql(self, query: str) -> pl.DataFrame:
        """Return the rows of a query over this run (and the trace below it)."""
        return _sql(self.path, query)

    def report(self, path: str | Path | None = None, *, force: bool = True) -> Path:
        """Write the HTML report; return its path (beside the run by default)."""
        return _report(self.path, path, force)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        return _table(f"run {self.path.name}", {self.path.name: self.totals})


def _sql(path: Path, query: str) -> pl.DataFrame:
    from disco_trace.report.database import query as run_query

    return run_query([path], query)


def _report(source: Path, path: str | Path | None, force: bool) -> Path:
    from disco_trace.cli.common import check_free, report_path
    from disco_trace.report.html import write_report

    target = Path(path) if path else report_path(source)
    check_free(target, force=force, what="report")
    write_report([source], target)
    return target


# What a notebook shows of a run.
_SHOWN = (
    "instructions",
    "cycles",
    "l2_misses",
    "local_misses",
    "remote_misses",
    "dirty_misses",
    "migrations",
    "replications",
)


def _table(title: str, rows: dict[str, dict[str, int]]) -> str:
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in ("run", *_SHOWN))
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td style='text-align:right'>{totals.get(key, 0):,}</td>" for key in _SHOWN)
        + "</tr>"
        for name, totals in rows.items()
    )
    return (
        f"<table><caption>{html.escape(title)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
