"""Options of `evaluate`, `ablate` and `train`: the model and its cross-validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from histoboost.cli.config import did_you_mean
from histoboost.cli.options import CommaList, in_order, jobs_option, names_option, scheduler_option

F = TypeVar("F", bound=Callable[..., Any])

MODELS = ("stack", "lightgbm", "ridge", "kernel", "coords", "mean", "mean-rank")


class NumberOption(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """``NAME=NUMBER``, a hyperparameter of the model."""

    name = "NAME=NUMBER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Parse the number; integers stay integers."""
        if isinstance(value, tuple):
            return value
        name, _, number = str(value).partition("=")
        try:
            parsed = float(number)
        except ValueError:
            parsed = math.nan
        if not math.isfinite(parsed):
            self.fail(f"{value!r} is not NAME=NUMBER, such as n_estimators=200", param, ctx)
        name = name.strip()
        from histoboost.regress.setup import OPTIONS

        if name not in OPTIONS:
            remedy = did_you_mean(name, OPTIONS) or f"; choose one of {', '.join(OPTIONS)}"
            self.fail(f"unknown parameter {name}{remedy}", param, ctx)
        return name, int(parsed) if parsed.is_integer() and "." not in number else parsed


def _choice(flag: str, choices: Sequence[str], help: str) -> Callable[[F], F]:
    """An option whose first choice is the default."""
    return click.option(flag, type=click.Choice(choices), default=choices[0], help=help)


#: Options that define a model.
setup_options = in_order(
    [
        _choice(
            "--model",
            MODELS,
            "Model: stack (kernel ridge, then one LightGBM per cell type on top of it), lightgbm, "
            "ridge, kernel (kernel ridge), coords (position only), mean or mean-rank (constant "
            "profiles).",
        ),
        _choice(
            "--target",
            ("joint", "rank", "log", "raw", "share"),
            "What the model is trained on: joint (ranks within the spot, ranks over the slide and "
            "shares at once), rank (within the spot), log (of abundances), raw (abundances) or "
            "share.",
        ),
        _choice(
            "--group-by",
            ("auto", "slide", "group"),
            "Hold out whole slides or whole groups (patients); auto uses groups if known.",
        ),
        _choice(
            "--standardize",
            ("slide", "training", "none"),
            "Standardise embeddings to mean 0 and variance 1 within each slide or over all "
            "training spots, or not at all.",
        ),
        _choice(
            "--balance",
            ("slide", "none"),
            "Give equal weight to each training slide, or (none) to each spot.",
        ),
        click.option(
            "--smooth",
            type=click.FloatRange(0, 1),
            default=0.0,
            metavar="FRACTION",
            help="Fraction of each prediction taken from the neighbouring spots.",
        ),
        click.option(
            "--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Random seed."
        ),
        click.option(
            "--set",
            "options",
            type=NumberOption(),
            multiple=True,
            help="LightGBM parameter, such as n_estimators=200, or alpha, the ridge penalty; "
            "repeatable.",
        ),
        click.option(
            "--trees",
            type=CommaList(),
            default=None,
            metavar="none|TYPES",
            help="Comma-separated cell types for which stack grows trees, or none; all by default. "
            "The others are predicted by the kernel ridge alone.",
        ),
        names_option("--slides", "Labelled slides to use; all by default."),
        jobs_option,
        scheduler_option,
    ]
)

#: Options of the cross-validation.
fold_options = in_order(
    [
        click.option(
            "--seeds",
            type=click.IntRange(min=1),
            default=1,
            metavar="N",
            help="Number of seeds to average over.",
        ),
        names_option("--held-out", "Score only the folds that hold out these slides."),
    ]
)

features_option = click.option(
    "--features",
    metavar="SPEC",
    help="Feature set: NAME, NAME:ring1 (mean over neighbours), NAME:area10 (mean over the nearest "
    "10 % of the slide), pca:64(NAME), coords or default, joined by +.",
)


def setup_fields(options: tuple[tuple[str, float], ...], **given: Any) -> dict[str, Any]:
    """Collect the fields of a `Setup`; options not given keep their defaults."""
    fields = {key: value for key, value in given.items() if value is not None}
    if fields.get("trees") == ["none"]:
        fields["trees"] = ()
    return {**fields, "options": dict(options)}
