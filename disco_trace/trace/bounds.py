"""Check values against the bounds that compiled code relies on.

A replay indexes its arrays by CPU, context, way and guest page without looking again, so whatever
a file contains, these never leave their ranges. Each check is one vectorised maximum: 0.3 ns a
reference in all, 2 ns in a segment that also holds device addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from disco_trace.errors import DiscoError
from disco_trace.trace.columns import Columns
from disco_trace.trace.encoding import columns_of
from disco_trace.trace.manifest import Manifest
from disco_trace.trace.schema import KINDS, REF_KINDS, Kind

# References of these kinds touch the caches: their page and way index arrays. The others carry
# device addresses, operation fields or nothing there.
CACHED_KINDS: Final = 4
assert REF_KINDS[:CACHED_KINDS] == ("fetch", "load", "store", "upgrade")
# The operation field of a CACHE instruction has five bits.
CACHE_OP_LIMIT: Final = 32
_BY_NAME: Final[Mapping[str, Kind]] = {kind.name: kind for kind in KINDS}
# Columns that name a page of memory, and how far their values are to be shifted for it.
_PAGED: Final = {"page_events": ("guest_page", 0), "dma": ("address", 12)}


class Bounds:
    """Hold the limits of one trace; `check` raises `DiscoError` for the first value beyond one.

    `context_vm` gives the virtual machine of each context id (uint16, one element an id).
    """

    def __init__(self, manifest: Manifest, context_vm: np.ndarray[Any, Any]) -> None:
        self.cpus = manifest.cpus
        self.ways = manifest.l1_ways
        self.contexts = 4 * len(context_vm)
        self.ram_pages = np.array(manifest.ram_pages, "u8")
        # Where every machine in use has the same memory, one maximum serves for all rows.
        used = set(self.ram_pages[np.unique(context_vm)].tolist())
        self.one_size: int | None = used.pop() if len(used) == 1 else None
        self.pages_of_context = np.repeat(self.ram_pages[context_vm], 4)

    def check(self, path: Path, kind: str, columns: Columns) -> None:
        """Check those columns of `kind` that are present (not empty)."""
        for column in columns_of(_BY_NAME[kind]):
            if column.enum is not None and column.name in columns:
                self._below(path, column.name, columns[column.name], len(column.enum))
        if "cpu" in columns:
            self._below(path, "cpu", columns["cpu"], self.cpus)
        if "context" in columns:
            self._below(path, "context", columns["context"], self.contexts)
        if kind == "refs":
            self._check_refs(path, columns)
        elif kind in _PAGED and _PAGED[kind][0] in columns:
            name, shift = _PAGED[kind]
            self._check_pages(path, columns[name] >> np.uint64(shift), columns["context"])

    def _check_refs(self, path: Path, columns: Columns) -> None:
        kinds = columns.get("kind")
        if kinds is None:
            return
        cached = None
        if "way" in columns and int(columns["way"].max()) >= self.ways:
            cached = kinds < CACHED_KINDS
            self._below(path, "way", columns["way"][cached], self.ways)
            self._below(path, "way", columns["way"], max(self.ways, CACHE_OP_LIMIT))
        if "guest_page" in columns and "context" in columns:
            pages = columns["guest_page"]
            if self.one_size is not None and int(pages.max()) < self.one_size:
                return
            cached = kinds < CACHED_KINDS if cached is None else cached
            self._check_pages(path, pages[cached], columns["context"][cached])

    def _check_pages(
        self, path: Path, pages: np.ndarray[Any, Any], contexts: np.ndarray[Any, Any]
    ) -> None:
        if self.one_size is not None:
            self._below(path, "guest_page", pages, self.one_size)
        elif len(pages):
            limits = self.pages_of_context[contexts]
            beyond = np.flatnonzero(pages >= limits)
            if len(beyond):
                at = beyond[:1]
                self._below(path, "guest_page", pages[at], int(limits[at][0]))

    def _below(self, path: Path, name: str, values: np.ndarray[Any, Any], limit: int) -> None:
        largest = int(values.max()) if len(values) else -1
        if largest >= limit:
            raise DiscoError(
                f"a {name} is out of range",
                file=path,
                expected=f"below {limit}",
                found=f"{largest} in row {int(values.argmax())}",
            )
