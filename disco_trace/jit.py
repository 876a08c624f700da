"""The two decorators of compiled code; everything hot carries one of them.

`kernel` is entered from Python; `inline` is always expanded into its caller, because passing a
named tuple of arrays costs seven words an array (measured: 30 ns a call for fifteen arrays).
`helper` is a function of its own: for rare paths that would only swell their callers.
"""

from __future__ import annotations

from disco_trace.compile import prepare

prepare()

from numba import njit  # noqa: E402

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}

kernel = njit(**_OPTIONS)
helper = njit(**_OPTIONS)
inline = njit(forceinline=True, **_OPTIONS)
expand = njit(inline="always", **_OPTIONS)

MOST_INDEX = 0x7FFFFFFFFFFFFFFF


@inline
def index(value):  # type: ignore[no-untyped-def]
    """Return an index that is known to be non-negative, telling the compiler so.

    Numba adds a test and an addition to every signed index, to wrap negative ones; a cleared sign
    bit lets LLVM drop them. Measured in the replay of `database`: see docs/performance.md.
    """
    return value & MOST_INDEX
