"""Supply the chart library as one piece of JavaScript, made once and kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
from importlib.metadata import version
from pathlib import Path

from disco_trace.errors import EXIT_MISSING, DiscoError


def vega_bundle() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script that needs no network.

    To bundle them takes a second; the result is kept in the user's cache folder under the version
    of the package that carries them. Raises `DiscoError` (exit code 3) if that is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise DiscoError(
            "the chart library is missing",
            exit_code=EXIT_MISSING,
            hint="install the Python package vl-convert-python",
        ) from error
    file = _cache_folder() / f"vega-{version('vl-convert-python')}.js"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        checksum, _, script = file.read_text(encoding="utf-8").partition("\n")
        if checksum == _checksum(script):
            return script
    script = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub lacks the default
    # An HTML parser ends a script at this text, wherever it stands.
    script = script.replace("</script", "<\\/script")
    _keep(file, f"{_checksum(script)}\n{script}")
    return script


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "disco-trace"


def _checksum(script: str) -> str:
    return f"// sha256 {hashlib.sha256(script.encode()).hexdigest()}"


def _keep(file: Path, text: str) -> None:
    """Write the cache file whole or not at all; a folder that cannot be written does not matter."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        hidden = file.with_name(f".{file.name}.{os.getpid()}")
        hidden.write_text(text, encoding="utf-8")
        hidden.replace(file)
