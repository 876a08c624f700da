"""Define the one error class that users meet: a clear line, a hint, an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Final

EXIT_DONE: Final = 0
EXIT_NO: Final = 1  # the answer is no: a check failed, a limit was passed
EXIT_MISTAKE: Final = 2  # the user's mistake
EXIT_MISSING: Final = 3  # an extra, a system package or disk space is missing
EXIT_GUEST: Final = 4  # the guest failed or met a limit; the trace is valid
EXIT_BUG: Final = 70
EXIT_INTERRUPTED: Final = 130


class DiscoError(Exception):
    """Report what a user can mend, in one line naming file, expected and found.

    `message` says what is wrong; `file`, `expected` and `found` complete the line where they are
    known; `hint` is a second line that says what to do; `exit_code` is the process's.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        exit_code: int = EXIT_MISTAKE,
        file: str | Path | None = None,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
        self.file = None if file is None else str(file)
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        """Return the one line (the hint is not part of it)."""
        line = self.message
        if self.file is not None and self.file not in line:
            line = f"{self.file}: {line}"
        details = [
            f"{name} {' '.join(str(text).split())}"
            for name, text in (("expected", self.expected), ("found", self.found))
            if text is not None
        ]
        if details:
            line = f"{line} ({', '.join(details)})"
        return " ".join(line.split())

    def as_dict(self) -> dict[str, str | None]:
        """Return the `error` object of the JSON envelope."""
        return {
            "message": self.message,
            "file": self.file,
            "expected": self.expected,
            "found": self.found,
            "hint": self.hint,
        }
