"""Write the reference page of the command line from what `--help` says: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from disco_trace.cli.main import VERBS, load

HEAD = """# The command line

Written by `make docs` from what `--help` says; a test holds it current.

Exit codes: 0 done · 1 the answer is no · 2 the user's mistake · 3 an extra, a system package or
disk space is missing · 4 the guest failed or met a limit (the trace is valid) · 70 a bug of ours ·
130 interrupted.
"""


def page() -> str:
    """Return the page in Markdown."""
    parts = [HEAD]
    for verb in VERBS:
        command = load(verb)
        below = getattr(command, "commands", None)
        if below is None:
            parts.append(_section((verb,), command))
        else:
            parts += [_section((verb, name), sub) for name, sub in below.items()]
    return "\n".join(parts)


def _section(words: tuple[str, ...], command: Any) -> str:
    import typer

    name = " ".join(("disco-trace", *words))
    # A fixed width: the page must not depend on the terminal of who writes it.
    context = typer.Context(command, info_name=name, max_content_width=90, terminal_width=90)
    lines = [line.rstrip() for line in command.get_help(context).rstrip().splitlines()]
    text = "\n".join(lines)
    return f"## {' '.join(words)}\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
