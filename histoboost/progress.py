"""Progress bar with rate and remaining time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Task

#: Seconds between two plain lines.
PLAIN_INTERVAL_S = 10.0


class Advance(Protocol):
    """Reports completed units."""

    def __call__(self, n: int, *, kept: bool = False) -> None:
        """Report `n` completed units; `kept` ones were completed by an earlier run."""
        ...


class Pace:
    """Rate of computed units; kept ones, and the time to find them, do not count."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = self._computed = 0
        self._busy_s = 0.0
        self._last = time.monotonic()

    def advance(self, n: int, *, kept: bool = False) -> None:
        """See `Advance`."""
        now = time.monotonic()
        self.done += n
        if not kept:
            self._computed += n
            self._busy_s += now - self._last
        self._last = now

    @property
    def rate(self) -> float | None:
        """Units per second; None before the first."""
        return self._computed / max(self._busy_s, 1e-9) if self._computed else None

    @property
    def left_s(self) -> float | None:
        """Remaining seconds, if no more units are kept; None before the first."""
        return None if self.rate is None else (self.total - self.done) / self.rate

    def rate_in_words(self, unit: str) -> str:
        """Format `rate` with `unit`, below 1/s as seconds per unit."""
        if self.rate is None:
            return ""
        if self.rate < 1:
            return f"{1 / self.rate:,.1f} s each"
        return f"{self.rate:,.{0 if self.rate >= 100 else 1}f} {unit}/s"


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Advance]:
    """Show progress of `total` units on stderr; nothing if `total` is 0.

    Yields ``advance(n)``, which reports completed units. `unit` is a plural such as ``"patches"``.
    """
    if total == 0:
        yield Pace(0).advance
    elif sys.stderr.isatty():
        with _bar(description, total, unit) as advance:
            yield advance
    else:
        yield _plain_lines(description, total, unit)


@contextmanager
def _bar(description: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    pace = Pace(total)

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(pace.rate_in_words(unit))

    class Left(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if pace.left_s is None else clock(pace.left_s))

    columns = (TextColumn("{task.description}"), BarColumn(), "{task.completed:,}/{task.total:,}")
    with Progress(*columns, Rate(), Left(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)

        def advance(n: int, *, kept: bool = False) -> None:
            pace.advance(n, kept=kept)
            bar.update(task, completed=pace.done)

        yield advance


def clock(seconds: float) -> str:
    """Format as hours, minutes and seconds, such as ``0:02:05``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _plain_lines(description: str, total: int, unit: str) -> Advance:
    pace = Pace(total)
    last = time.monotonic()

    def advance(n: int, *, kept: bool = False) -> None:
        nonlocal last
        before = pace.done
        pace.advance(n, kept=kept)
        now = time.monotonic()
        if now - last >= PLAIN_INTERVAL_S or pace.done >= total > before:
            last = now
            line = f"{description}: {pace.done:,}/{total:,} {unit}"
            if pace.left_s is not None:
                line += f", {pace.rate_in_words(unit)}, {pace.left_s:,.0f} s left"
            print(line, file=sys.stderr, flush=True)

    return advance
