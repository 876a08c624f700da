"""The decorators of compiled code; everything hot carries one of them.

`kernel` is entered from Python. `helper` is a function of its own: for paths that would only swell
their callers; it takes the machine's and the memory system's state as one pointer each (see
`places`). `inline` is expanded into its caller by LLVM, `expand` by Numba.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from disco_trace.compile import prepare

prepare()

from numba import njit, types  # noqa: E402
from numba.core import event  # noqa: E402
from numba.extending import intrinsic  # noqa: E402

from disco_trace.linking import PartCompiler, WholeCompiler  # noqa: E402
from disco_trace.places import anchor, at, is_state, spot  # noqa: E402

_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}
_PART = {**_OPTIONS, "no_cpython_wrapper": True, "pipeline_class": PartCompiler}
# Every function that a kernel may need. Four in five are compiled, which takes four fifths of the
# time (measured); in the rest the largest kernel is optimised as a whole.
_functions: list[Callable[..., Any]] = []
# Parameters of these names are the state tuples of machine/layout.py and memory/layout.py.
_STATES = ("mc", "m")


class Kernel:
    """A compiled function that Python calls: it anchors the state tuples among its arguments."""

    def __init__(self, function: Callable[..., Any]) -> None:
        # Only kernels are cached: each holds all that it calls.
        self.dispatcher = njit(cache=True, pipeline_class=WholeCompiler, **_OPTIONS)(function)
        self.__doc__ = function.__doc__

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel."""
        for argument in arguments:
            if is_state(argument):
                anchor(argument)
        return self.dispatcher(*arguments)


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
        _functions.append(function)
        dispatcher = decorate(function)
        resolve = dispatcher.get_call_template
        dispatcher.get_call_template = lambda args, kws: resolve(
            [_plain(kind) for kind in args], {name: _plain(kind) for name, kind in kws.items()}
        )
        return dispatcher

    return decorated


def kernel(function: Callable[..., Any]) -> Kernel:
    """Compile a function that Python enters; state tuples go to the helpers it calls by place."""
    return Kernel(function)


inline = _once(njit(forceinline=True, **_PART))
expand = njit(inline="always", **_PART)
_apart = _once(njit(**_PART))


def helper(function: Callable[..., Any]) -> Any:
    """Compile a function that is called, not expanded; its state tuples travel as pointers."""
    names = list(inspect.signature(function).parameters)
    states = [name for name in names if name in _STATES]
    if not states:
        return _apart(function)
    callee = _apart(_loading(function, states))
    pointed = ", ".join(f"_spot({name})" if name in states else name for name in names)
    scope: dict[str, Any] = {"_callee": callee, "_spot": spot}
    exec(f"def call({', '.join(names)}):\n    return _callee({pointed})\n", scope)
    return _once(expand)(scope["call"])


def _loading(function: Callable[..., Any], states: list[str]) -> Callable[..., Any]:
    """Return the function with pointers for its state tuples, which it loads first of all."""
    file = inspect.getsourcefile(function) or "<helper>"
    lines, start = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    for argument in definition.args.args:
        if argument.arg in states:
            argument.arg = f"{argument.arg}_place"
    loads = "\n".join(f"{name} = _at({name}_place)" for name in states)
    definition.body[:0] = ast.parse(loads).body
    ast.increment_lineno(ast.fix_missing_locations(tree), start - 1)
    scope: dict[str, Any] = {}
    exec(compile(tree, file, "exec"), scope)
    # In the function's own module, whose later names it may use.
    function.__globals__["_at"] = at
    return FunctionType(scope[function.__name__].__code__, function.__globals__)


MOST_INDEX = 0x7FFFFFFFFFFFFFFF


@inline
def index(value):  # type: ignore[no-untyped-def]
    """Return an index that is known to be non-negative, telling the compiler so.

    Numba adds a test and an addition to every signed index, to wrap negative ones; a cleared sign
    bit lets LLVM drop them. Measured in the replay of `database`: see docs/performance.md.
    """
    return value & MOST_INDEX


@intrinsic
def fused(typingctx, a, b, c):  # type: ignore[no-untyped-def]
    """Return a × b + c, rounded once: an instruction of the host, or a call of its C library."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


class _Count(event.Listener):
    """Tell what part of all functions has been compiled."""

    def __init__(self, progress: Callable[[float], None]) -> None:
        self.progress = progress

    def on_start(self, event: Any) -> None:
        """Do nothing: functions begin long before those that they call end."""

    def on_end(self, event: Any) -> None:
        """Count the function."""
        _compiled.add(event.data["dispatcher"].py_func)
        self.progress(len(_compiled) / max(len(_functions), len(_compiled)))


_compiled: set[Callable[..., Any]] = set()


@contextmanager
def watched(progress: Callable[[float], None] | None) -> Iterator[None]:
    """Call `progress(part)` with the part of the work that is done, while kernels are compiled."""
    if progress is None:
        yield
        return
    count = _Count(progress)
    progress(len(_compiled) / max(len(_functions), len(_compiled), 1))
    event.register("numba:compile", count)
    try:
        yield
    finally:
        event.unregister("numba:compile", count)
