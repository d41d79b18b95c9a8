"""The table of scores that `evaluate` and `finetune` print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from histoboost.regress.scores import CrossValidation


def print_scores(scores: CrossValidation, result: dict[str, Any]) -> None:
    """Print folds, means and constant baselines as a table."""
    from rich.console import Console
    from rich.table import Table

    click.echo(f"features  {result['features']}")
    click.echo(f"model     {result['model']}, target {result['target']}")
    table = Table("held out", "spots", "per-spot", "per-type", "mean", "mean-rank")
    for fold in scores.folds:
        name = fold.name + (f" (seed {fold.seed})" if len(scores.seeds) > 1 else "")
        values = (fold.spot_spearman, fold.type_spearman, *fold.baselines.values())
        table.add_row(name, f"{fold.n_spots:,}", *(f"{value:.3f}" for value in values))
    table.add_section()
    mean = result["mean"]
    constants = [entry["spot_spearman"] for entry in result["baselines"].values()]
    values = (mean["spot_spearman"], mean["type_spearman"], *constants)
    table.add_row("mean", "", *(f"{value:.3f}" for value in values))
    Console(width=100).print(table)
    gain = mean["spot_spearman"] - max(constants)
    click.echo(
        f"Spearman correlations. {gain:+.3f} per spot against the better constant profile (columns "
        "mean and mean-rank); constant profiles score 0 per type."
    )
    if "interval" in result:
        held = result["interval"]
        click.echo(
            f"Prediction intervals of {held['level']:.0%} cover {held['coverage']['mean']:.1%}."
        )
