"""`--json FILE`: results for programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from histoboost.errors import HistoboostError

F = TypeVar("F", bound=Callable[..., Any])


def json_option(help: str = "Also write the result as JSON.") -> Callable[[F], F]:
    """`--json FILE`, the same everywhere."""
    return click.option("--json", "json_path", type=click.Path(), metavar="FILE", help=help)


def write_json(path: str | None, result: object) -> None:
    """Write `result` as JSON to `path`; do nothing where no path was given.

    Raises
    ------
    HistoboostError
        If `path` is a directory.
    """
    import json

    if path is None:
        return
    if Path(path).is_dir():
        raise HistoboostError(f"{path}: is a directory; give the name of a file")
    Path(path).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
