"""Hold what the checker finds wrong with a trace."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from disco_trace.errors import DiscoError

# A broken rule tends to be broken by every row; the first few say all.
_MOST_PER_RULE: Final = 5


@dataclass(frozen=True)
class Problem:
    """Name a rule that a trace breaks, where, and what was expected there and found.

    An `error` makes the trace wrong; a `warning` is odd, but can happen to a rightful trace.
    """

    rule: str
    message: str
    severity: Literal["error", "warning"] = "error"
    file: str | None = None
    segment: int | None = None
    seq: int | None = None
    expected: str | None = None
    found: str | None = None

    def __str__(self) -> str:
        """Return one line."""
        parts = [f"{self.severity}: {self.rule}: {self.message}"]
        for name in ("segment", "seq", "expected", "found", "file"):
            value = getattr(self, name)
            if value is not None:
                parts.append(f"{name} {value}")
        return ", ".join(parts)


@dataclass
class Findings:
    """Gather problems, at most five of a rule, and count the rest."""

    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, rule: str, message: str, *, times: int = 1, **where: Any) -> None:
        """Add a problem that was met `times` times; `where` holds further fields of `Problem`."""
        self.counts[rule] += times
        if sum(p.rule == rule for p in self.problems) < _MOST_PER_RULE:
            more = f" ({times} rows)" if times > 1 else ""
            self.problems.append(Problem(rule, message + more, **where))

    def add_error(self, rule: str, error: DiscoError, segment: int | None = None) -> None:
        """Add what a reader refused."""
        self.add(
            rule,
            error.message,
            file=error.file,
            segment=segment,
            expected=error.expected,
            found=error.found,
        )
