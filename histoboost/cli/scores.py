"""The table of scores that `evaluate` and `finetune` print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from histoboost.cli.console import echo, print_table

if TYPE_CHECKING:
    from histoboost.regress.scores import CrossValidation


def print_scores(scores: CrossValidation, result: dict[str, Any]) -> None:
    """Print folds, means and constant baselines as a table."""
    echo(f"features  {result['features']}")
    echo(f"model     {result['model']}, target {result['target']}")
    rows: list[list[str] | None] = []
    for fold in scores.folds:
        name = fold.name + (f" (seed {fold.seed})" if len(scores.seeds) > 1 else "")
        values = (fold.spot_spearman, fold.type_spearman, *fold.baselines.values())
        rows.append([name, f"{fold.n_spots:,}", *(f"{value:.3f}" for value in values)])
    mean = result["mean"]
    constants = [entry["spot_spearman"] for entry in result["baselines"].values()]
    values = (mean["spot_spearman"], mean["type_spearman"], *constants)
    rows += [None, ["mean", "", *(f"{value:.3f}" for value in values)]]
    print_table(["held out", "spots", "per-spot", "per-type", "mean", "mean-rank"], rows)
    gain = mean["spot_spearman"] - max(constants)
    echo(
        f"Spearman correlations. {gain:+.3f} per spot against the better constant profile (columns "
        "mean and mean-rank); constant profiles score 0 per type."
    )
    if "interval" in result:
        held = result["interval"]
        echo(f"Prediction intervals of {held['level']:.0%} cover {held['coverage']['mean']:.1%}.")
