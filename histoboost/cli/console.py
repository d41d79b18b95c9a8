"""Print lines and tables in which names from files stay plain text."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click

#: Characters that control a terminal, reverse text or break a line; names from files may have them.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

#: Columns of the names that `echo_fact` prints.
NAME_WIDTH = 20


def plain(text: str) -> str:
    """Put `text` on one line, with control characters as escape sequences."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def echo(line: str = "", *, err: bool = False, **style: Any) -> None:
    """Print one line; keep working if the reader of a pipe has exited."""
    _write(click.style(plain(line), **style) if style else plain(line), err)


def echo_fact(name: str, value: str) -> None:
    """Print a name and its value, wrapped on a narrow terminal."""
    lines = [value]
    if sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns - NAME_WIDTH, NAME_WIDTH)
        lines = textwrap.wrap(plain(value), width, break_on_hyphens=False) or [value]
    for at, line in enumerate(lines):
        echo(f"{'' if at else name:<{NAME_WIDTH}}{line}")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str] | None],
    *,
    wrap: Mapping[str, int] | None = None,
) -> None:
    """Print a table without truncating anything; None as a row draws a line.

    `wrap` maps the columns that may wrap on a narrow terminal to their minimum width.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    wrap = wrap or {}
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for name in columns:
        table.add_column(name, no_wrap=name not in wrap, min_width=wrap.get(name), overflow="fold")
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*(Text(plain(cell)) for cell in row))
    console = Console(file=io.StringIO(), width=10_000)
    size = Measurement.get(console, console.options, table)
    # A pipe has no width; a terminal narrower than the minimum wraps the lines itself.
    on_terminal = sys.stdout.isatty()
    width = max(shutil.get_terminal_size().columns, size.minimum) if on_terminal else size.maximum
    console = Console(file=io.StringIO(), width=width, force_terminal=on_terminal)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        _write(line.rstrip())


def _write(line: str, err: bool = False) -> None:
    try:
        click.echo(line, err=err)
    except BrokenPipeError:
        stream = sys.stderr if err else sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
