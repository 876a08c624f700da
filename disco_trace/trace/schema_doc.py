"""Write `traces/SCHEMA.md` from the schema: `python -m disco_trace.trace.schema_doc FILE`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from disco_trace.trace.encoding import columns_of
from disco_trace.trace.schema import (
    CONTROL,
    FORMAT_VERSION,
    KINDS,
    METRICS,
    MONITOR_CAUSES,
    PAGES,
    REFS,
    SYMBOL_COLUMNS,
    Column,
)

_HEAD: Final = f"""\
# The format of a trace, version {FORMAT_VERSION}

Generated from `disco_trace/trace/schema.py` by `python -m disco_trace.trace.schema_doc`; do not
edit. What changed between versions, and how to migrate, stands in `CHANGES.md`.

A trace is a directory:

| file | holds |
|---|---|
| `manifest.json` | format version, guest, configuration, seeds, totals, id, how it ended |
| `provenance.json` | command line, versions, host, times: no id depends on it |
| `segments.jsonl` | one line for each committed segment |
| `<kind>/part-NNNNN.parquet` | the rows of one kind in segment NNNNN, if it has any |
| `symbols/part-00000.parquet` | the guest's symbols |
| `state/` | the state record that a resumed trace begins with, see below |
| `checkpoints/<phase>/` | whole machines that the capture saved, see below |
| `runs/<name>/` | results: `runs/captured` of the capture itself, others of replays |

A segment exists when its line is complete (it ends in a line feed). The line gives `segment`,
`first_seq` and `last_seq` (inclusive), `parts` (kind to `rows`, `bytes`, `sha256` of the file),
and, cumulative since the beginning, `rows` by kind, `content` digests by kind, and the machine's
`counters`. While a capture runs, and after it was killed, the manifest says `"complete": false`
and has no `segments`; what is committed is a valid prefix.

References and control rows share one global sequence without gaps, so the numbers of the
references are those that no control row has. A page reference carries the number of the row that
follows it. `context` is 4 x id + mode (0 kernel, 1 supervisor, 2 user, 3 refill handler); the kind
`contexts` says what an id stands for, before the first row that uses it; ids count from 0.

The id of a trace (`trace_id`) is a SHA-256 over the manifest, without how the capture ended, and
the content digests. A content digest is a SHA-256 over the values of each column, little-endian,
from the first row to the last: neither segment sizes nor Parquet encodings enter it.

No column is nullable. Enumerations are stored as the index of the name, counted from 0.

## Where a trace starts

The manifest's `start` is "cold", or "state" for a trace that goes on from a checkpoint; `state` is
then the id of its state record. `state/state.json` gives the checkpoint's id, the phase that it
was saved at, and the `state`: `seq`, the number of the trace's first row; the `instructions` and
`rows` before it; clock, context and open phases (outermost first) of each of `cpus`; the `contexts`
(vm, vcpu, asid, phase, 1 + the number of the process's name) and `processes` (vm, asid, name) that
are known; `base`, what each CPU had counted; `layout`, digests of what the words of the arrays
mean; and `arrays`, each with type, shape, and `bytes` and `sha256` of its file `<name>.parquet`,
one column `value`. `content` is a SHA-256 over the values. The arrays are those of `Memory` and
`Machine` (`disco_trace/memory/layout.py`, `disco_trace/machine/layout.py`), but for the contents of
memory and disks.

`checkpoints/<phase>/checkpoint.json` holds guest, configuration and `state` of a whole machine in
the same way, with all contents; from it, the arrays and `symbols.parquet` beside it a capture goes
on (`capture --resume`), without the trace around it.
"""


def document() -> str:
    """Return the text of `traces/SCHEMA.md`."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    yield "## References"
    for kind in (REFS, PAGES):
        yield from _kind(kind.name, kind.doc, columns_of(kind))
    yield "\n## Control rows"
    yield "\nEvery kind below begins with the same columns:"
    yield ""
    common = columns_of(CONTROL[0])
    yield from _columns(common)
    for kind in CONTROL:
        yield from _kind(kind.name, kind.doc, kind.columns)
    yield from _kind("symbols", "One symbol of the guest.", SYMBOL_COLUMNS)
    yield "\n## Metrics of a run"
    yield ""
    yield "`accounts` charges every cycle and event to a CPU, a context and one of these metrics."
    yield "The metrics in cycles add up to the CPU's clock."
    yield ""
    yield _names(name for name in METRICS if name != "spare")
    yield ""
    yield "Monitor time by cause, as `monitor_<cause>_cycles`:"
    yield ""
    yield _names(name for name in MONITOR_CAUSES if not name.startswith("other"))


def _kind(name: str, doc: str, columns: Sequence[Column]) -> Iterator[str]:
    yield f"\n### {name}"
    yield ""
    yield doc
    if columns:
        yield ""
        yield from _columns(columns)


def _columns(columns: Sequence[Column]) -> Iterator[str]:
    yield "| column | type | unit | meaning |"
    yield "|---|---|---|---|"
    for column in columns:
        meaning = column.doc
        if column.enum is not None:
            named = ", ".join(f"{i} {name}" for i, name in enumerate(column.enum))
            meaning += f": {named}"
        yield f"| `{column.name}` | {column.type} | {column.unit} | {meaning} |"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main(arguments: Sequence[str]) -> None:
    """Write the document to the file named by the one argument, or print it."""
    if arguments:
        Path(arguments[0]).write_text(document())
    else:
        sys.stdout.write(document())


assert len({kind.name for kind in KINDS}) == len(KINDS)

if __name__ == "__main__":
    main(sys.argv[1:])
