"""Say where and how a trace was made; nothing that identifies it depends on this."""

from __future__ import annotations

import datetime
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("disco-trace", "numba", "llvmlite", "numpy", "pyarrow", "duckdb", "polars", "altair")


def provenance() -> dict[str, Any]:
    """Return command line, versions, host and time (JSON types)."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "host": platform.node(),
        "versions": versions,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
