"""Turn whatever was raised into the one error class, so that nobody meets a traceback."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback

from disco_trace.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_MISSING,
    DiscoError,
)

_DISK = (errno.ENOSPC, errno.EDQUOT)


def failure_of(raised: BaseException) -> DiscoError | None:
    """Return the `DiscoError` that says what was raised, or None if it is our bug."""
    if isinstance(raised, DiscoError):
        return raised
    if isinstance(raised, KeyboardInterrupt):
        return DiscoError("interrupted", exit_code=EXIT_INTERRUPTED)
    if isinstance(raised, ModuleNotFoundError) and not (raised.name or "").startswith("disco_"):
        return DiscoError(
            f"the Python package {raised.name!r} is missing",
            exit_code=EXIT_MISSING,
            hint="install disco-trace again with the extra that this verb needs",
        )
    if isinstance(raised, MemoryError):
        return DiscoError(
            "memory ran out",
            exit_code=EXIT_MISSING,
            hint="a smaller machine (fewer nodes, less RAM, longer lines) needs less",
        )
    if isinstance(raised, OSError) and raised.filename is not None:
        code = EXIT_MISSING if raised.errno in _DISK else 2
        reason = (raised.strerror or type(raised).__name__).lower()
        return DiscoError(reason, file=os.fsdecode(raised.filename), exit_code=code)
    if isinstance(raised, OSError) and raised.errno in _DISK:
        return DiscoError("no space left on the disk", exit_code=EXIT_MISSING)
    return None


def keep_traceback(raised: BaseException) -> DiscoError:
    """Write the traceback to a file (or show it with DISCO_TRACE_DEBUG=1); return the error."""
    text = "".join(traceback.format_exception(raised))
    brief = " ".join(str(raised).split())[:200]
    line = f"a bug in disco-trace: {type(raised).__name__}: {brief}"
    if os.environ.get("DISCO_TRACE_DEBUG") == "1":
        print(text, file=sys.stderr)
        return DiscoError(line, exit_code=EXIT_BUG)
    try:
        handle, name = tempfile.mkstemp(prefix="disco-trace-", suffix=".traceback.txt", text=True)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"{sys.argv!r}\n{text}")
    except OSError:
        return DiscoError(line, exit_code=EXIT_BUG, hint="DISCO_TRACE_DEBUG=1 shows the traceback")
    return DiscoError(
        f"{line}; traceback kept in {name}",
        exit_code=EXIT_BUG,
        hint="DISCO_TRACE_DEBUG=1 shows it on the terminal",
    )
