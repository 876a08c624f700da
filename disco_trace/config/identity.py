"""Turn specifications into dictionaries and ids; tell two apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from disco_trace.config.leaves import leaf, leaves
from disco_trace.config.spec import Spec
from disco_trace.errors import DiscoError


def to_dict(spec: Spec) -> dict[str, Any]:
    """Return a specification as nested dictionaries of plain values."""
    return dict(msgspec.to_builtins(spec))


def from_dict(values: Mapping[str, Any], *, file: str | Path | None = None) -> Spec:
    """Return the specification of nested dictionaries; what is missing has its default.

    Raises DiscoError, naming `file`, for an unknown path or a bad value.
    """
    try:
        return from_flat(flatten(values))
    except DiscoError as error:
        if file is not None and error.file is None:
            error.file = str(file)
        raise


def from_flat(flat: Mapping[str, Any]) -> Spec:
    """Return the specification of values by path (each checked), others at their default."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        parsed = leaf(path).parse(value)
        at = nested
        *groups, name = path.split(".")
        for group in groups:
            at = at.setdefault(group, {})
        at[name] = parsed
    # Defaults of a group depend on where it stands (l1i and l1d differ): fill them in by path.
    for path, known in leaves().items():
        at = nested
        *groups, name = path.split(".")
        for group in groups:
            at = at.setdefault(group, {})
        at.setdefault(name, known.default)
    return msgspec.convert(nested, Spec)


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as values by dotted path; unknown groups raise DiscoError."""
    if not isinstance(values, Mapping):
        where = prefix.rstrip(".") or "the whole"
        raise DiscoError(
            f"{where} is not a table", expected="a table of values", found=type(values).__name__
        )
    known = leaves()
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if path in known:
            flat[path] = value
        elif any(name.startswith(path + ".") for name in known):
            flat.update(flatten(value, path + "."))
        else:
            leaf(path)  # raises, with the nearest path
    return flat


def flat_dict(spec: Spec) -> dict[str, Any]:
    """Return a specification as values by dotted path, in the order of the definition."""
    return flatten(to_dict(spec))


def spec_id(spec: Spec) -> str:
    """Return eight hexadecimal digits that name a specification: same values, same digits."""
    text = json.dumps(flat_dict(spec), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def diff(one: Spec, other: Spec) -> list[str]:
    """Return the paths whose values differ, in the order of the definition."""
    first, second = flat_dict(one), flat_dict(other)
    return [path for path in first if first[path] != second[path]]
