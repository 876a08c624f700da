"""Write a specification as TOML that can be read back, each value with where it came from."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import tomlkit

from disco_trace.config.identity import flat_dict
from disco_trace.config.leaves import leaves, size_text
from disco_trace.config.resolve import Resolved


def toml_text(resolved: Resolved, paths: Collection[str] | None = None) -> str:
    """Return the TOML text of the values at `paths`; of all where it is None."""
    document = tomlkit.document()
    values = flat_dict(resolved.spec)
    known = leaves()
    width = 34  # of `name = value`, where the comments begin
    for path, value in values.items():
        if paths is not None and path not in paths:
            continue
        *groups, name = path.split(".")
        table: Any = document
        for group in groups:
            if group not in table:
                table[group] = tomlkit.table()
            table = table[group]
        shown = size_text(value) if name.endswith("_bytes") and value >= 1024 else value
        item = tomlkit.item(shown)
        written = f"{name} = {item.as_string()}"
        item.comment(f"{known[path].doc} [{resolved.origins[path]}]")
        item.trivia.comment_ws = " " * max(2, width - len(written))
        table.append(name, item)
    return tomlkit.dumps(document)
