"""Pass a state tuple between compiled functions as one pointer.

Numba passes a tuple of arrays as all its words: seven an array, some three hundred for the whole
machine, written to the stack by every caller. So a state tuple carries an array `here`, large
enough for its own words. `anchor` stores the tuple there when a kernel is entered; after that
`spot` gives the pointer, and `at` loads what the callee uses, usually two or three words.
"""

from __future__ import annotations

from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from disco_trace.state import HERE_WORDS

STATE = "here"


def is_state(value: Any) -> bool:
    """Tell whether an argument is a tuple that carries its own place."""
    return isinstance(value, tuple) and hasattr(value, STATE)


def _pointer(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return the address of a tuple's `here`, as a pointer to such a tuple."""
    words = context.get_abi_sizeof(context.get_data_type(kind)) // 8
    assert words <= HERE_WORDS, (kind, words)
    array = cgutils.create_struct_proxy(kind.types[kind.fields.index(STATE)])(
        context, builder, value=builder.extract_value(value, kind.fields.index(STATE))
    )
    return builder.bitcast(array.data, context.get_data_type(kind).as_pointer())


@intrinsic
def store(typing_context: Any, state: Any) -> Any:
    """Store a state tuple in its own `here`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, value = signature.args[0], arguments[0]
        where = _pointer(context, builder, kind, value)
        builder.store(context.data_model_manager[kind].as_data(builder, value), where)
        return context.get_dummy_value()

    return types.void(state), generate


@intrinsic
def spot(typing_context: Any, state: Any) -> Any:
    """Return the pointer to where a state tuple is stored."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _pointer(context, builder, signature.args[0], arguments[0])

    return types.CPointer(state)(state), generate


@intrinsic
def at(typing_context: Any, pointer: Any) -> Any:
    """Return the state tuple that a pointer from `spot` leads to."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        model = context.data_model_manager[signature.return_type]
        return model.from_data(builder, builder.load(arguments[0]))

    return pointer.dtype(pointer), generate


@njit(cache=True, nogil=True, _nrt=False)
def anchor(state):  # type: ignore[no-untyped-def]
    """Store a state tuple in its own `here`, before a kernel that uses it is entered."""
    store(state)
