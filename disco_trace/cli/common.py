"""Share what every verb needs: output, errors, file names, the next command.

A verb is a module `disco_trace/cli/<verb>.py` that defines a function of the verb's name (a typer
command), or `app`, a `typer.Typer`, where the verb has verbs of its own. Its body runs in `verb`:

    def info(path: PathArgument, json: Json = False, quiet: Quiet = False) -> None:
        \"\"\"Print what a trace holds.

        Example:

            disco-trace info traces/radix-8cpu
        \"\"\"
        with common.verb("info", json=json, quiet=quiet) as out:
            from disco_trace.trace.reader import TraceReader  # heavy modules: inside only

            out.say("for people: not printed with --json or --quiet")
            out.set(path=path, totals=...)  # keys of the JSON object
            out.next("report", path)

`DiscoError` and everything else raised inside becomes one clear line, the JSON error envelope and
the exit code; `out.exit_code = 1` says no without an error.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from disco_trace.cli.failure import failure_of, keep_traceback
from disco_trace.cli.progress import Progress
from disco_trace.errors import EXIT_DONE, DiscoError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
# For verbs where -q means something else (`sql -q QUERY`).
QuietLong = Annotated[bool, typer.Option("--quiet", help="Print results and errors only.")]
Force = Annotated[
    bool, typer.Option("--force", help="Recompute, and replace what exists atomically.")
]
Out = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="PATH", help="Where the result goes.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Change one value, as machine.cpus=4; repeatable."
    ),
]
PathArgument = Annotated[
    Path, typer.Argument(metavar="PATH", help="The folder of a trace, run or checkpoint.")
]
PathsArgument = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Traces or runs.")]


class Output:
    """Collect what a verb says: lines for people, or keys for one JSON object."""

    def __init__(self, verb: str, *, json: bool = False, quiet: bool = False) -> None:
        self.verb = verb
        self.json = json
        self.quiet = quiet
        self.exit_code = EXIT_DONE
        self.warnings: list[str] = []
        self._keys: dict[str, Any] = {"path": None}
        self._next: str | None = None

    def say(self, text: str = "") -> None:
        """Print a line for people on standard output; not with `--json` or `--quiet`."""
        if not (self.json or self.quiet):
            print(text)

    def print(self, text: str) -> None:
        """Print the product itself (rows, a document): also with `--quiet`, not with `--json`."""
        if not self.json:
            print(text)

    def show(self, renderable: Any) -> None:
        """Print a rich table or text as the product; not with `--json`."""
        if not self.json:
            from rich.console import Console

            # A pipe has no width: tables there must not be cut at 80 columns. Rendered first and
            # printed by us, since rich ends the program with code 1 where a pipe is closed.
            console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
            with console.capture() as rendered:
                console.print(renderable)
            print(rendered.get(), end="")

    def warn(self, text: str) -> None:
        """Keep a warning for the JSON object and print it on standard error."""
        self.warnings.append(text)
        print(f"warning: {text}", file=sys.stderr)

    def note(self, text: str) -> None:
        """Print a remark on standard error, on a terminal only; not with `--json` or `--quiet`."""
        if not (self.json or self.quiet) and sys.stderr.isatty():
            print(text, file=sys.stderr)

    def set(self, **keys: Any) -> None:
        """Add keys to the JSON object (paths, dataclasses and numpy values are converted)."""
        self._keys.update(keys)

    def next(self, *words: object) -> None:
        """Name the command to type next, without the program's name."""
        self._next = command_line(*words)

    def progress(
        self, what: str, total: int | None = None, unit: str = "", *, hidden: bool = False
    ) -> Progress:
        """Return a context manager that shows progress on standard error; see `Progress`."""
        return Progress(what, total=total, unit=unit, hidden=hidden or self.quiet)

    def close(self, error: DiscoError | None = None) -> None:
        """Print the closing line or the JSON object."""
        if error is not None:
            self.exit_code = error.exit_code
            print(f"error: {error}", file=sys.stderr)
            if error.hint:
                print(f"hint: {error.hint}", file=sys.stderr)
        if self.json:
            print(self._envelope(error))
        elif error is None and self._next:
            self.say(f"next: {self._next}")
        sys.stdout.flush()

    def _envelope(self, error: DiscoError | None) -> str:
        from disco_trace.cli.envelope import dumps

        body: dict[str, Any] = {
            "schema": f"disco-trace/{self.verb.replace(' ', '-')}@1",
            "ok": error is None and self.exit_code == EXIT_DONE,
            "exit_code": self.exit_code,
            **self._keys,
            "warnings": self.warnings,
            "next": self._next,
        }
        if error is not None:
            body["error"] = error.as_dict()
        return dumps(body)


@contextmanager
def verb(name: str, *, json: bool = False, quiet: bool = False) -> Iterator[Output]:
    """Run a verb's body; turn what it raises into a line, an envelope and an exit code."""
    out = Output(name, json=json, quiet=quiet)
    try:
        error: DiscoError | None = None
        try:
            yield out
        except (typer.Exit, BrokenPipeError, SystemExit, GeneratorExit):
            raise
        except BaseException as raised:
            error = failure_of(raised) or keep_traceback(raised)
        out.close(error)
    except BrokenPipeError:
        stop_printing()  # the reader (`| head`) has enough: what was asked for is done
    if out.exit_code != EXIT_DONE:
        raise typer.Exit(out.exit_code)


def compile_kernels(out: Output) -> float:
    """Compile the kernels where this version has not yet; return the seconds that it took.

    To be called before any kernel is imported: it also says where Numba's cache lies.
    """
    from disco_trace import compile as kernels

    kernels.prepare()
    if kernels.is_warm():
        return 0.0
    out.say("compiling the simulator, once for this version")
    with out.progress("compiling") as progress:
        return kernels.warm(progress.fraction)


def stop_printing() -> None:
    """Give a closed standard output a sink, so that Python does not complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def program() -> list[str]:
    """Return the words with which this program was started, as they were typed."""
    first = sys.argv[0] or "disco-trace"
    if Path(first).name == "__main__.py":
        python = getattr(sys, "orig_argv", [sys.executable])[0]
        return [python, "-m", "disco_trace"]
    # A shell passes the full path of what it found on PATH: what was typed is the bare name.
    found = shutil.which(Path(first).name)
    if found and Path(first).is_absolute() and Path(found) == Path(first):
        return [Path(first).name]
    return [first]


def command_line(*words: object) -> str:
    """Return a command of this program, quoted for a shell: `command_line("info", path)`."""
    return shlex.join([*program(), *(str(word) for word in words)])


def trace_path(guest: str, cpus: int, vms: int = 0) -> Path:
    """Return where the capture of a guest goes: `traces/<guest>[-disco<N>]-<cpus>cpu`."""
    monitor = f"-disco{vms}" if vms else ""
    return Path("traces") / f"{Path(guest).stem}{monitor}-{cpus}cpu"


def report_path(trace: Path) -> Path:
    """Return where the report of a trace goes: `<name>.html` beside it."""
    resolved = trace if trace.name not in ("", "..") else trace.resolve()
    return resolved.with_name(f"{resolved.name}.html")


def check_free(path: Path, *, force: bool, what: str) -> None:
    """Raise `DiscoError` if `path` exists and `--force` was not given, or if it is a device.

    What is written replaces its target as a whole: a device or a pipe would be lost.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DiscoError(
            "not a file", file=path, expected=f"a place for a {what}", found="a device or pipe"
        )
    if path.is_dir() and what != "trace":
        raise DiscoError("this is a folder", file=path, expected=f"a place for a {what}")
    if path.exists() and not force:
        raise DiscoError(
            f"this {what} exists already",
            file=path,
            hint="use --force to replace it, or -o PATH to write elsewhere",
        )


def check_exists(path: Path, *, what: str) -> None:
    """Raise `DiscoError` if there is nothing at `path`."""
    if not path.exists():
        raise DiscoError("no such file or folder", file=path, expected=what, found="nothing")


# Promised by the documentation, not part of this version.
_LATER_POLICIES = ("best-static", "origin")


def check_policy(policy: str) -> None:
    """Raise `DiscoError` for a placement policy that this version does not have."""
    if policy in _LATER_POLICIES:
        raise DiscoError(f"the policy {policy!r} comes with a later version")
    from disco_trace.config.spec import POLICIES

    present = [name for name in POLICIES if name not in _LATER_POLICIES]
    if policy not in present:
        raise DiscoError("unknown policy", expected=f"one of {', '.join(present)}", found=policy)


def check_trace(path: Path) -> None:
    """Raise `DiscoError` unless `path` is the folder of a trace; it is not read further."""
    check_exists(path, what="a trace folder")
    if (path / "run.json").is_file():
        raise DiscoError(
            "this is a run, not a trace",
            file=path,
            expected="the folder of a trace",
            hint=f"its trace is {path.parent.parent}" if path.parent.name == "runs" else None,
        )
    if not (path / "manifest.json").is_file():
        found = "a folder without one" if path.is_dir() else "a file"
        raise DiscoError(
            "no trace here", file=path, expected="a folder with manifest.json", found=found
        )


def folder_of(path: Path) -> Path:
    """Return the folder of a trace, run or checkpoint, which may be named by its JSON file.

    Raises `DiscoError` if there is none.
    """
    names = ("manifest.json", "run.json", "checkpoint.json")
    check_exists(path, what="a trace, run or checkpoint folder")
    folder = path.parent if path.name in names else path
    if not any((folder / name).is_file() for name in names):
        raise DiscoError(
            "no trace, run or checkpoint",
            file=path,
            expected=f"a folder with {', '.join(names[:-1])} or {names[-1]}",
            found="a folder without them" if path.is_dir() else "a file",
        )
    return folder
