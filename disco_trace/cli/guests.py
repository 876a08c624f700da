"""List the guests that come with disco-trace, and build one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from disco_trace.cli import common

app = typer.Typer(add_completion=False)


@app.callback()
def guests() -> None:
    """List the guests, or build your own.

    Example:

    \b
        disco-trace guests list
    """


@app.command("list")
def list_guests(json: common.Json = False, quiet: common.Quiet = False) -> None:
    """Print the prebuilt guests with their default arguments.

    Example:

    \b
        disco-trace guests list
    """
    with common.verb("guests list", json=json, quiet=quiet) as out:
        from rich.table import Table

        from disco_trace.guest.resolve import find_guest, guest_names

        table = Table(box=None, pad_edge=False)
        for title in ("guest", "arguments", "machine", "what it is"):
            table.add_column(title, no_wrap=title == "guest")
        rows = []
        for name in guest_names():
            guest = find_guest(name)
            table.add_row(name, " ".join(guest.arguments), guest.machine or "", guest.description)
            rows.append(
                {
                    "name": name,
                    "image": guest.image,
                    "description": guest.description,
                    "machine": guest.machine,
                    "arguments": list(guest.arguments),
                    "phases": {str(number): text for number, text in guest.phases.items()},
                }
            )
        out.show(table)
        out.set(guests=rows)
        out.next("capture", "radix")


@app.command()
def build(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with guest.toml, *.c and *.S.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="PATH", help="Folder for the images [default: .]"),
    ] = None,
    force: common.Force = False,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Compile a guest and link it with the library OS, into ./NAME.elf and NAME.toml beside it.

    Needs Debian's gcc-mipsel-linux-gnu, or the Python package ziglang.

    Examples:

    \b
        disco-trace guests build my-guest
        disco-trace guests build my-guest -o images --force
    """
    with common.verb("guests build", json=json, quiet=quiet) as out:
        from disco_trace.guest.build import build_guest

        built = build_guest(folder, output, force=force)
        for each in built:
            out.say(f"{each.path}: {each.locked.bytes} bytes, {each.locked.compiler}")
        path = built[0].path
        out.set(
            path=path,
            images=[
                {"path": each.path, "sha256": each.locked.sha256, "segment": each.locked.segment,
                 "compiler": each.locked.compiler}
                for each in built
            ],
        )  # fmt: skip
        out.next("capture", path if len(path.parts) > 1 else f"./{path}", "--console")
