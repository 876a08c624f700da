"""Tell the C library to keep the memory that segments come and go in."""

from __future__ import annotations

import ctypes


def keep_freed_memory() -> None:
    """Let freed buffers be used again, for segment after segment, instead of returned to the host.

    Otherwise each segment's columns are fresh pages that the host has to clear (measured: a sixth
    of a replay's time). Only glibc has the calls; elsewhere nothing is done.
    """
    import pyarrow as pa

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, 1 << 30)
    pa.set_memory_pool(pa.system_memory_pool())
