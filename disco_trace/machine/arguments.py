"""Place a guest's arguments in its memory, as docs/architecture.md says of entry."""

from __future__ import annotations

from typing import Any

import numpy as np

from disco_trace.errors import DiscoError

ARGUMENT_BYTES = 4096
KSEG0 = 0x80000000


def place_arguments(memory: np.ndarray[Any, Any], words: list[str]) -> int:
    """Write argv and its strings into the last page of RAM; return argv's KSEG0 address."""
    strings = [word.encode() + b"\0" for word in words]
    table = 4 * (len(words) + 1)
    if table + sum(map(len, strings)) > ARGUMENT_BYTES:
        raise DiscoError(
            "the guest's arguments are too long",
            expected=f"at most {ARGUMENT_BYTES} bytes in all",
            found=str(table + sum(map(len, strings))),
        )
    base = len(memory) - ARGUMENT_BYTES
    at = base + table
    pointers = []
    for text in strings:
        memory[at : at + len(text)] = np.frombuffer(text, np.uint8)
        pointers.append(KSEG0 + at)
        at += len(text)
    memory[base : base + table] = np.array([*pointers, 0], "<u4").view(np.uint8)
    return KSEG0 + base
