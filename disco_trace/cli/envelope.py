"""Write the JSON object of a verb: plain values only, whatever the verb put in."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import PurePath
from typing import Any


def dumps(body: dict[str, Any]) -> str:
    """Return `body` as one line of strict JSON (no NaN)."""
    return json.dumps(plain(body), allow_nan=False, ensure_ascii=False)


def plain(value: Any) -> Any:
    """Convert paths, dataclasses, structs and numpy values to what JSON has; NaN to null."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "__struct_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if hasattr(value, "tolist"):  # numpy arrays and scalars, without importing numpy
        return plain(value.tolist())
    return str(value)
