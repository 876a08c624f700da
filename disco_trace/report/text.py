"""Write numbers for people: thousands apart, and no more digits than help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from disco_trace.report.pages import CellFormat

_DASH: Final = "–"
HASH_CHARACTERS: Final = 12


def integer(value: Any) -> str:
    """Return `1,234,567`."""
    return _DASH if value is None else f"{round(value):,}"


def percent(value: Any) -> str:
    """Return a fraction of one as `12.3 %`."""
    return _DASH if value is None else f"{100 * value:.1f} %"


def ratio(value: Any) -> str:
    """Return `1.32×`."""
    return _DASH if value is None else f"{value:.2f}×"


def decimal(value: Any) -> str:
    """Return three significant digits or more, thousands apart."""
    if value is None:
        return _DASH
    if value and abs(value) < 0.1:
        return f"{value:.3g}"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text and value == int(value) else text


def short_hash(value: Any) -> str:
    """Return the beginning of a hash."""
    return str(value)[:HASH_CHARACTERS] if value else _DASH


def plain(value: Any) -> str:
    """Return a text as it is, a dash for nothing."""
    return _DASH if value is None or value == "" else str(value)


FORMATS: Final[Mapping[CellFormat, Any]] = {
    "text": plain,
    "integer": integer,
    "percent": percent,
    "ratio": ratio,
    "decimal": decimal,
    "hash": short_hash,
}
NUMERIC: Final[tuple[CellFormat, ...]] = ("integer", "percent", "ratio", "decimal")
