"""Keep the list of committed segments, `segments.jsonl`: what has no line here does not exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from disco_trace.errors import DiscoError
from disco_trace.trace.schema import KINDS

SEGMENTS: Final = "segments.jsonl"
_NAMES: Final = frozenset(kind.name for kind in KINDS)


class PartEntry(msgspec.Struct, frozen=True):
    """Describe one part: its rows, the bytes of its file, and the file's SHA-256 (hex)."""

    rows: int
    bytes: int
    sha256: str


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one segment.

    `first_seq` to `last_seq` are the sequence numbers of its references and control rows, all of
    them; `last_seq` is `first_seq - 1` if it has none. `parts` maps kinds to their part. `rows`,
    `content` (content digests, see `digest`) and `counters` (the machine's) are cumulative from
    the beginning of the trace.
    """

    segment: int
    first_seq: int
    last_seq: int
    parts: dict[str, PartEntry]
    rows: dict[str, int]
    content: dict[str, str]
    counters: dict[str, Any]


def part_name(kind: str, segment: int) -> str:
    """Return the path of a part below the directory of its trace."""
    return f"{kind}/part-{segment:05d}.parquet"


def read_segments(directory: Path) -> list[Segment]:
    """Read the committed segments of a trace, in order.

    A last line without its line feed was being written when the capture was killed: it does not
    count. Raises `DiscoError` for any other damage.
    """
    path = directory / SEGMENTS
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DiscoError(
            "the trace's list of segments is missing", file=path, expected="the file", found="none"
        ) from None
    except OSError as error:
        raise DiscoError(f"cannot read: {error.strerror}", file=path) from error
    segments: list[Segment] = []
    for number, line in enumerate(data.split(b"\n")[:-1]):
        try:
            segment = msgspec.json.decode(line, type=Segment)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DiscoError(
                f"damaged line {number + 1}",
                file=path,
                expected="the JSON object of a segment",
                found=str(error),
            ) from None
        _follows(path, segments[-1] if segments else None, segment)
        segments.append(segment)
    return segments


def _follows(path: Path, previous: Segment | None, segment: Segment) -> None:
    number = previous.segment + 1 if previous else 0
    first = previous.last_seq + 1 if previous else segment.first_seq
    control = sum(p.rows for k, p in segment.parts.items() if k != "pages")
    wrong = [
        ("segment", number, segment.segment),
        ("first_seq", first, segment.first_seq),
        ("rows with a sequence number", segment.last_seq - segment.first_seq + 1, control),
        ("unknown kinds", [], sorted(set(segment.parts) - _NAMES)),
        ("parts without rows", 0, sum(p.rows <= 0 for p in segment.parts.values())),
        ("sequence numbers out of range", False, not 0 <= segment.first_seq < 1 << 62),
    ]
    for what, expected, found in wrong:
        if expected != found:
            raise DiscoError(
                f"damaged line {number + 1}: {what}",
                file=path,
                expected=str(expected),
                found=str(found),
            )
