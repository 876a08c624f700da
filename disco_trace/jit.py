"""The two decorators of compiled code; everything hot carries one of them.

`kernel` is entered from Python; `inline` is always expanded into its caller, because passing a
named tuple of arrays costs seven words an array (measured: 30 ns a call for fifteen arrays).
`helper` is a function of its own: for rare paths that would only swell their callers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from disco_trace.compile import prepare

prepare()

from numba import njit, types  # noqa: E402

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}


def _plain(kind: Any) -> Any:
    """Return the type that stands for an argument's type: constants and narrow integers widen."""
    kind = types.unliteral(kind)
    if isinstance(kind, types.Integer) and kind.bitwidth < 64:
        return types.int64
    return kind


def _once(decorate: Any) -> Callable[[Callable[..., Any]], Any]:
    """Let one compiled version serve callers with constants and with integers of any width.

    Numba compiles a function anew for each literal argument: emitting a row cost nineteen versions
    of 0.4 s each (cold compile, measured: 61 s with them, 46 s without).
    """

    def decorated(function: Callable[..., Any]) -> Any:
        dispatcher = decorate(function)
        resolve = dispatcher.get_call_template
        dispatcher.get_call_template = lambda args, kws: resolve(
            [_plain(kind) for kind in args], {name: _plain(kind) for name, kind in kws.items()}
        )
        return dispatcher

    return decorated


kernel = njit(**_OPTIONS)
helper = _once(njit(**_OPTIONS))
inline = _once(njit(forceinline=True, **_OPTIONS))
expand = njit(inline="always", **_OPTIONS)

MOST_INDEX = 0x7FFFFFFFFFFFFFFF


@inline
def index(value):  # type: ignore[no-untyped-def]
    """Return an index that is known to be non-negative, telling the compiler so.

    Numba adds a test and an addition to every signed index, to wrap negative ones; a cleared sign
    bit lets LLVM drop them. Measured in the replay of `database`: see docs/performance.md.
    """
    return value & MOST_INDEX
