"""Start the command line: find the verb, load its module, map what goes wrong to an exit code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from disco_trace.cli.common import Output, command_line, stop_printing
from disco_trace.cli.failure import failure_of, keep_traceback
from disco_trace.errors import EXIT_DONE, EXIT_MISTAKE, DiscoError

# The verbs in the order in which a newcomer meets them, each with its line in `--help`, so that
# the help of the program loads no verb. A verb `x` lives in `disco_trace/cli/x.py`.
VERBS: Final = {
    "demo": "Capture a small guest, try placement policies on it, write a report.",
    "capture": "Run a guest on the simulated machine and keep its trace.",
    "replay": "Ask what if: run a trace through another memory system.",
    "sql": "Query traces and runs with SQL.",
    "compare": "Say how two runs differ, and what the difference is due to.",
    "report": "Write one HTML file with the charts of traces and runs.",
    "reproduce": "Set a figure of the literature beside our own run of it.",
    "info": "Print what a trace holds.",
    "check": "Verify every invariant of a trace.",
    "guests": "List the guests, or build your own.",
    "config": "Print the resolved configuration and where each value comes from.",
    "doctor": "Look whether this installation can do its work.",
}

# Promised by the documentation, not part of this version.
LATER: Final = ("sweep", "curve", "fidelity", "import", "export")


class Verbs(TyperGroup):
    """Load a verb's module only when the verb is typed."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the verbs in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a verb, or None where there is no such verb."""
        if cmd_name not in VERBS:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = load(cmd_name)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb; say so where it comes with a later version, or is misspelt."""
        name = args[0]
        if name in LATER:
            raise DiscoError(
                f"the verb {name!r} comes with a later version",
                hint=f"this version has: {', '.join(VERBS)}",
            )
        if name not in VERBS and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, VERBS, n=1)
            raise DiscoError(
                f"no verb {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"verbs: {', '.join(VERBS)}",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table of verbs without loading one."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


def load(verb: str) -> Any:
    """Import a verb's module; return its command with the short help of the table."""
    module = importlib.import_module(f"disco_trace.cli.{verb}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(verb, short_help=VERBS[verb])(getattr(module, verb))
    else:
        app.rich_markup_mode = None
        app.info.no_args_is_help = True
    command = typer.main.get_command(app)
    command.name = verb
    return command


app = typer.Typer(cls=Verbs, add_completion=False, rich_markup_mode=None, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from disco_trace import __version__

        print(f"disco-trace {__version__}")
        raise typer.Exit()


@app.callback(epilog="Every verb has --help with examples, --json and --quiet.")
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Run guests on a simulated NUMA multiprocessor once; then ask what-if, with SQL and pictures.

    First minutes:

    \b
        disco-trace demo
        disco-trace capture radix --machine flash8
        disco-trace replay traces/radix-8cpu --policy first-touch
        disco-trace report traces/radix-8cpu
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code (the console script passes it to the shell)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = app(args=words, prog_name=command_line(), standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else EXIT_DONE
    except BrokenPipeError:
        stop_printing()  # the reader (`| head`) has enough
        return EXIT_DONE
    except typer.TyperException as raised:
        if type(raised).__name__ == "NoArgsIsHelpError":
            print(raised.format_message())  # typing the bare name asks for help
            return EXIT_DONE
        return _close(words, _usage_error(raised))
    except (Exception, KeyboardInterrupt) as raised:
        return _close(words, failure_of(raised) or keep_traceback(raised))


def _usage_error(raised: typer.TyperException) -> DiscoError:
    """Return a mistyped command line as the one error class, naming the verb's help."""
    context = getattr(raised, "ctx", None)
    path = context.command_path if context is not None else command_line()
    message = raised.format_message().replace("\n", " ").strip()
    return DiscoError(
        message or "wrong usage", hint=f"{path} --help", exit_code=raised.exit_code or EXIT_MISTAKE
    )


def _close(words: list[str], error: DiscoError) -> int:
    """Report what was raised before the verb could: the verb's envelope, where --json was typed."""
    own = words[: words.index("--")] if "--" in words else words
    verb = next((word for word in own if word in VERBS or word in LATER), "usage")
    out = Output(verb, json="--json" in own)
    try:
        out.close(error)
    except OSError:
        stop_printing()  # a full disk takes no last word; the exit code still goes out
    return error.exit_code
