"""Write the table of a guest's symbols: one part, in a trace and in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from disco_trace.errors import EXIT_BUG, DiscoError
from disco_trace.trace.digest import sha256_of
from disco_trace.trace.encoding import SCHEMAS, encode
from disco_trace.trace.manifest import SymbolsPart
from disco_trace.trace.storage import disk_errors


def write_symbols(path: Path, symbols: Mapping[str, Any]) -> SymbolsPart:
    """Write columns as `schema.SYMBOL_COLUMNS` names them to a file; return its description."""
    schema = SCHEMAS["symbols"]
    try:
        part = encode("symbols", schema, symbols)
    except (KeyError, pa.ArrowException) as error:
        raise DiscoError(
            "the symbol table does not fit", file=path, found=str(error), exit_code=EXIT_BUG
        ) from error
    with disk_errors(path):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(part.data)
    content = sha256_of({f.name: pa.array(symbols[f.name]).to_pylist() for f in schema})
    return SymbolsPart(rows=part.rows, bytes=part.data.nbytes, sha256=part.sha256, content=content)
