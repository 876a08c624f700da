"""Know where the data folders lie: at the top of a checkout, inside an installed wheel."""

from __future__ import annotations

from pathlib import Path


def data_folder(name: str) -> Path:
    """Return the folder `capture`, `traces` or `reports`; FileNotFoundError where it is missing."""
    package = Path(__file__).parent
    checkout = package.parent
    if (checkout / "pyproject.toml").exists() and (checkout / name).is_dir():
        return checkout / name
    installed = package / "_data" / name
    if not installed.is_dir():
        raise FileNotFoundError(f"{installed}: the package's data folder is missing")
    return installed
