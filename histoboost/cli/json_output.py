"""`--json FILE`: machine-readable results."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from histoboost.io import check_output, write_text

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction

F = TypeVar("F", bound=Callable[..., Any])

_STDOUT = "histoboost.stdout"


def json_option(help: str = "Also write the result as JSON") -> Callable[[F], F]:
    """`--json FILE`; an unwritable FILE is refused before the work."""
    return click.option(
        "--json",
        "json_path",
        type=click.Path(),
        metavar="FILE",
        callback=_prepare,
        help=f"{help}; - writes it to stdout, and everything else to stderr.",
    )


def _prepare(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value == "-":
        ctx.meta[_STDOUT] = sys.stdout
        ctx.with_resource(redirect_stdout(sys.stderr))
    elif value is not None:
        check_output(Path(value))
    return value


def write_json(path: str | None, result: object) -> None:
    """Write `result` as JSON to `path`, ``-`` for stdout; do nothing if `path` is None."""
    if path is None:
        return
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    if path == "-":
        click.get_current_context().meta[_STDOUT].write(text)
    else:
        write_text(Path(path), text)


def slide_result(prediction: Prediction, outputs: Sequence[str]) -> dict[str, Any]:
    """Summarise one slide for `predict --json` and `map --json`.

    `novel_share`, and `novelty`, its older name, is the fraction of spots with a novelty above 1,
    or None if the model cannot judge it; `turn` is how patches were turned.
    """
    return {
        "slide": prediction.slide,
        "spots": len(prediction.spots),
        "unlike": prediction.unlike,
        "novelty": prediction.novel_share,
        "novel_share": prediction.novel_share,
        "turn": prediction.turn,
        "warnings": list(prediction.warnings),
        "outputs": list(outputs),
    }
