"""Show how far a long verb is: a bar on a terminal, sparse lines elsewhere; standard error only."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Final

# Seconds until the first line where there is no terminal, and between the later ones.
FIRST_LINE_SECONDS: Final = 5.0
LINE_SECONDS: Final = 15.0
# Less than this part done says nothing about the rest.
LEAST_PART: Final = 0.02
# A bar is redrawn by rich at its own pace; updates nearer than this are dropped before that.
UPDATE_SECONDS: Final = 0.05


class Progress:
    """Count towards a total; use as a context manager and call it with the state.

    `progress(done, total, note)`: work done and in all (`None` keeps the known total), in the
    unit of the constructor, and a few words on the present step.
    """

    def __init__(
        self, what: str, *, total: int | None = None, unit: str = "", hidden: bool = False
    ) -> None:
        self.what = what
        self.total = total
        self.unit = unit
        self._hidden = hidden
        self._start = self._last = time.monotonic()
        self._next_line = self._start + FIRST_LINE_SECONDS
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        self._start = time.monotonic()
        self._next_line = self._start + FIRST_LINE_SECONDS
        if not self._hidden and sys.stderr.isatty():
            self._open_bar()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None:
        """Take the state: work done, work in all where it is known, words on the present step."""
        if self._hidden:
            return
        now = time.monotonic()
        if total:
            self.total = int(total)
        finished = bool(self.total) and done >= (self.total or 0)
        if now - self._last < UPDATE_SECONDS and not finished:
            return
        self._last = now
        if self._bar is not None:
            rate = done / max(now - self._start, 1e-9)
            self._bar.update(
                self._task, completed=done, total=self.total, note=note, speed=self._amount(rate)
            )
        elif now >= self._next_line and not finished:
            self._next_line = now + LINE_SECONDS
            print(self._line(done, now, note), file=sys.stderr, flush=True)

    def fraction(self, note: str, part: float) -> None:
        """Take a fraction between 0 and 1, for work without a unit (compiling)."""
        self(round(part * 1000), 1000, note)

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
        from rich.text import Text

        class Remaining(TimeRemainingColumn):
            """The time left, once enough is done to tell."""

            def render(self, task: Task) -> Text:
                told = task.total and task.completed >= LEAST_PART * task.total
                return super().render(task) if told else Text("--:--")

        speed = [TextColumn("{task.fields[speed]}")] if self.unit else []
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            Remaining(compact=True),
            *speed,
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(self.what, total=self.total, note="", speed="")
        self._bar.start()

    def _amount(self, rate: float) -> str:
        return f"{readable(rate)} {self.unit}/s"

    def _line(self, done: float, now: float, note: str) -> str:
        elapsed = now - self._start
        parts = [f"{self.what}:"]
        if self.unit:
            of = f" of {readable(self.total)}" if self.total else ""
            parts.append(f"{readable(done)}{of} {self.unit},")
        if self.total and done >= LEAST_PART * self.total:
            left = elapsed * (self.total - done) / done
            parts.append(f"{100 * done / self.total:.0f} %, about {max(left, 0):.0f} s left")
        else:
            parts.append(f"{elapsed:.0f} s so far")
        return " ".join([*parts, f"({note})"] if note else parts)


def readable(number: float | int | None) -> str:
    """Return a count in a few characters: 950, 12.3 k, 118 M, 4.20 G."""
    value = float(number or 0)
    for scale, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= scale:
            scaled = value / scale
            digits = 2 if abs(scaled) < 10 else 1 if abs(scaled) < 100 else 0
            return f"{scaled:.{digits}f}{suffix}"
    return f"{value:.0f}"
