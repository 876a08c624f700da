"""Show the configuration that other verbs would use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from disco_trace.cli import common
from disco_trace.errors import DiscoError

app = typer.Typer(add_completion=False)


@app.callback()
def config() -> None:
    """Print the resolved configuration and where each value comes from.

    Example:

    \b
        disco-trace config show --machine flash8
    """


@app.command()
def show(
    root: Annotated[
        str | None, typer.Argument(metavar="PATH", help="Only this part, as memory or memory.l2.")
    ] = None,
    machine: Annotated[
        str | None, typer.Option("--machine", metavar="NAME|FILE", help="A preset or TOML file.")
    ] = None,
    spec: Annotated[
        Path | None, typer.Option("--spec", metavar="FILE", help="A TOML file on top of it.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="NAME", help="Page placement policy.")
    ] = None,
    costs: Annotated[
        str | None, typer.Option("--costs", metavar="NAME|FILE", help="Cost table.")
    ] = None,
    sets: common.Sets = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Print every value with its meaning and where it comes from, as TOML that can be read back.

    Examples:

    \b
        disco-trace config show
        disco-trace config show memory --machine uma8
        disco-trace config show --machine flash8 --set memory.l2.size_bytes=256KiB > mine.toml
    """
    with common.verb("config show", json=json, quiet=quiet) as out:
        from disco_trace.config import (
            latency_cycles,
            machine_names,
            price_cycles,
            resolve_with_origins,
            spec_id,
        )
        from disco_trace.config.identity import flat_dict
        from disco_trace.config.leaves import leaves
        from disco_trace.config.toml_text import toml_text

        resolved = resolve_with_origins(
            machine=machine, file=spec, policy=policy, costs=costs, sets=sets or ()
        )
        prefix = f"{root.rstrip('.')}." if root else ""
        paths = [path for path in leaves() if f"{path}.".startswith(prefix)]
        if not paths:
            raise DiscoError(
                f"no part of the configuration is called {root!r}",
                expected="machine, memory, placement, monitor, vm, costs or time",
            )
        out.print(toml_text(resolved, paths).rstrip())
        values = flat_dict(resolved.spec)
        # To people on a terminal only: what is printed shall be a file that can be read back.
        out.note(f"machines: {', '.join(machine_names())}")
        out.set(
            config={path: values[path] for path in paths},
            origins={path: resolved.origins[path] for path in paths},
            id=spec_id(resolved.spec),
            latency_cycles=latency_cycles(resolved.spec),
            price_cycles=price_cycles(resolved.spec),
            machines=machine_names(),
        )
