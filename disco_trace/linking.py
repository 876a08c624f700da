"""Optimise and translate a kernel and all it calls once, as one piece.

Numba makes every compiled function ready to be called from Python: it links the function with all
that it calls, directly or not, optimises the whole and writes machine code. Our helpers are called
by kernels only, which then do all of that again. So the code of helpers is kept as it was lowered
(`Part`), and a kernel links every part once (`Whole`). Measured, one after the other: a cold
compile takes 39 s for 61 s and 436 MB for 698.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


@ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
def _uncallable(*_: Any) -> Any:
    raise TypeError("a helper has no machine code of its own: call it from a kernel")


class Part(JITCodeLibrary):
    """The code of one helper, for kernels to link."""

    def add_linking_library(self, library: Any) -> None:
        """Remember a library whose functions are called."""
        self._linking_libraries.append(library)

    def finalize(self) -> None:
        """Take the code as it is."""
        for library in self._linking_libraries:
            self._reload_init.update(library._reload_init)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return what Python would call: a function that raises."""
        return ctypes.cast(_uncallable, ctypes.c_void_p).value or 0

    @property
    def codegen(self) -> Any:
        """Return what Numba tells the function's environment to, which needs machine code."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Leave the environment unset, as in kernels that come from the cache."""


class Whole(JITCodeLibrary):
    """The code of a kernel with that of all helpers below it."""

    def add_linking_library(self, library: Any) -> None:
        """Link a library, and all below it, once each."""
        known = set(self._linking_libraries)
        for part in _with_all_below(library):
            if part not in known:
                super().add_linking_library(part)
                known.add(part)


def _with_all_below(library: Any) -> Iterator[Any]:
    """Yield a part and the libraries that it calls, directly or not; other libraries are whole."""
    known = {library}
    waiting = [library]
    while waiting:
        each = waiting.pop()
        yield each
        if isinstance(each, Part):
            new = [below for below in each._linking_libraries if below not in known]
            known.update(new)
            waiting += dict.fromkeys(new)


class _Compiler(Compiler):
    """Numba's compiler, writing into a library of our choice."""

    library: type[JITCodeLibrary]

    def define_pipelines(self) -> Any:
        """Return Numba's own passes, after choosing the library."""
        state = self.state
        state.library = self.library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().define_pipelines()


class PartCompiler(_Compiler):
    """Compiles helpers."""

    library = Part


class WholeCompiler(_Compiler):
    """Compiles kernels."""

    library = Whole
