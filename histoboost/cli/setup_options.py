"""Options that define a model and its scoring, for `evaluate`, `ablate` and `train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from histoboost.cli.options import CommaList, jobs_option, scheduler_option

F = TypeVar("F", bound=Callable[..., Any])

MODELS = ("stack", "lightgbm", "ridge", "kernel", "coords", "mean", "mean-rank")


class NumberOption(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """``NAME=NUMBER``, a parameter of LightGBM."""

    name = "NAME=NUMBER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Whole numbers stay whole."""
        if isinstance(value, tuple):
            return value
        name, sign, number = str(value).partition("=")
        try:
            parsed = float(number)
        except ValueError:
            self.fail(f"{value!r} is not NAME=NUMBER, such as n_estimators=200", param, ctx)
        if not sign or parsed != parsed or abs(parsed) == float("inf"):
            self.fail(f"{value!r} is not NAME=NUMBER, such as n_estimators=200", param, ctx)
        return name.strip(), int(parsed) if parsed.is_integer() and "." not in number else parsed


def setup_options(command: F) -> F:
    """Options that define a model, for evaluate, ablate and train."""
    options = [
        click.option(
            "--model",
            type=click.Choice(MODELS),
            show_default="stack",
            help="Model: stack (kernel ridge, then one LightGBM per cell type on its predictions), "
            "lightgbm, ridge, kernel (kernel ridge), coords (position alone), mean or "
            "mean-rank (constant profiles).",
        ),
        click.option(
            "--target",
            type=click.Choice(["rank", "log", "raw"]),
            show_default="rank",
            help="What the model learns: ranks within each spot, logarithms, or raw abundances.",
        ),
        click.option(
            "--group-by",
            type=click.Choice(["auto", "slide", "group"]),
            show_default="auto",
            help="Hold out whole slides, or whole groups (patients); auto: groups where known.",
        ),
        click.option(
            "--standardize",
            type=click.Choice(["slide", "none"]),
            show_default="slide",
            help="Standardise embeddings to mean 0 and variance 1 within each slide.",
        ),
        click.option(
            "--balance",
            type=click.Choice(["slide", "none"]),
            show_default="slide",
            help="Equal weight for every training slide, or (none) for every spot.",
        ),
        click.option(
            "--smooth",
            type=click.FloatRange(0, 1),
            metavar="FRACTION",
            show_default="0.0",
            help="Smoothing: fraction of each prediction taken from the neighbouring spots.",
        ),
        click.option(
            "--seed", type=click.IntRange(min=0), metavar="N", show_default="0", help="Random seed."
        ),
        click.option(
            "--set",
            "options",
            type=NumberOption(),
            multiple=True,
            help="LightGBM parameter, such as n_estimators=200; repeatable.",
        ),
        click.option(
            "--slides",
            type=CommaList(),
            metavar="A,B",
            help="Labelled slides to use; all by default.",
        ),
        jobs_option(),
        scheduler_option(),
    ]
    return _take(command, options)


def fold_options(command: F) -> F:
    """Options of the cross-validation, for evaluate and ablate."""
    options = [
        click.option(
            "--seeds",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            metavar="N",
            help="Number of seeds to average over.",
        ),
        click.option(
            "--held-out",
            type=CommaList(),
            metavar="A,B",
            help="Score only the folds of these slides.",
        ),
    ]
    return _take(command, options)


def _take(command: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):  # as decorators written in this order
        command = option(command)
    return command


def setup_fields(options: tuple[tuple[str, float], ...], **given: Any) -> dict[str, Any]:
    """Fields given on the command line; all others keep the defaults of `Setup`."""
    fields = {key: value for key, value in given.items() if value is not None}
    return {**fields, "options": dict(options)} if options else fields
