"""One progress bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds between two plain lines where stderr is not a terminal.
PLAIN_INTERVAL_S = 10.0

Advance = Callable[[int], None]


@contextmanager
def progress(description: str, total: int, unit: str) -> Iterator[Advance]:
    """Show how far `total` units of work have come, on stderr.

    Parameters
    ----------
    description : str
        What is being done, in a few words.
    total : int
        Number of units of work; 0 shows nothing.
    unit : str
        Plural name of a unit, such as ``"patches"``.

    Yields
    ------
    callable
        ``advance(n)`` says that `n` more units are done.
    """
    if total == 0:
        yield lambda n: None
    elif sys.stderr.isatty():
        with _bar(description, total, unit) as advance:
            yield advance
    else:
        yield _plain_lines(description, total, unit)


@contextmanager
def _bar(description: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.progress import TimeRemainingColumn as Eta
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} {unit}/s" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), "{task.completed:,}/{task.total:,}")
    with Progress(*columns, Rate(), Eta(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda n: bar.advance(task, n)


def _plain_lines(description: str, total: int, unit: str) -> Advance:
    start = last = time.monotonic()
    done = 0

    def advance(n: int) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last >= PLAIN_INTERVAL_S or done >= total > done - n:
            last = now
            rate = done / max(now - start, 1e-9)
            left = (total - done) / max(rate, 1e-9)
            line = f"{description}: {done:,}/{total:,} {unit}"
            line += f", {rate:,.1f} {unit}/s, {left:,.0f} s left"
            print(line, file=sys.stderr, flush=True)

    return advance
