"""Capture guests on a simulated NUMA multiprocessor; replay and query the traces.

`disco_trace.open(path)` returns a `Trace` or a `Run`; `Trace.capture(guest)` makes a trace.
Importing the package costs nothing: everything is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from disco_trace.api import Run as Run
    from disco_trace.api import Trace as Trace
    from disco_trace.api import open as open
    from disco_trace.errors import DiscoError as DiscoError

__version__ = "0.1.0"

__all__ = ["DiscoError", "Run", "Trace", "__version__", "open"]


def __getattr__(name: str) -> Any:
    if name == "DiscoError":
        from disco_trace.errors import DiscoError

        return DiscoError
    if name in ("Run", "Trace", "open"):
        from disco_trace import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
