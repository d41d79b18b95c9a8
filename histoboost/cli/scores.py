"""The table of scores that `evaluate` and `finetune` print."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from histoboost.cli.console import echo, print_table

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction
    from histoboost.regress.scores import CrossValidation


#: Headings of the five scores.
HEADINGS = ("per-spot", "per-type", "Pearson", "RMSE", "JSD")
LEGEND = (
    "per-spot, per-type: Spearman; Pearson, RMSE and JSD: of shares (of the last two, less is "
    "better)."
)


#: Terms of a feature set that are printed; `--json` has all of them.
MOST_TERMS = 12


def brief(features: str) -> str:
    """A feature-set expression, or how it begins and how many terms it has."""
    terms = features.split("+")
    if len(terms) <= MOST_TERMS:
        return features
    return f"{'+'.join(terms[:3])}+... ({len(terms)} terms; --json has all)"


def print_scores(scores: CrossValidation, result: dict[str, Any]) -> None:
    """Print folds, their mean and the baselines as a table."""
    echo(f"features  {brief(result['features'])}")
    echo(f"model     {result['model']}, target {result['target']}")
    rows: list[list[str] | None] = []
    for fold in scores.folds:
        name = fold.name + (f" (seed {fold.seed})" if len(scores.seeds) > 1 else "")
        values = (getattr(fold, score) for score in result["mean"])
        rows.append([name, f"{fold.n_spots:,}", *map(_number, values)])
    rows += [None, ["mean", "", *map(_number, result["mean"].values())], None]
    for name, baseline in result["baselines"].items():
        rows.append([name, "", *map(_number, baseline.values())])
    print_table(["held out", "spots", *HEADINGS], rows)
    best, baseline = max(
        result["baselines"].items(), key=lambda item: float(item[1]["spot_spearman"])
    )
    gain = result["mean"]["spot_spearman"] - baseline["spot_spearman"]
    echo(LEGEND)
    echo(f"{gain:+.3f} per spot against the best baseline, {best} (coords: position alone).")
    if "interval" in result:
        held = result["interval"]
        echo(f"Prediction intervals of {held['level']:.0%} cover {held['coverage']['mean']:.1%}.")


def print_slide_scores(predictions: Iterable[Prediction], trained_on: Collection[str]) -> None:
    """Print the scores of slides with labels, if there are any, and which ones are no test."""
    rows = []
    for one in predictions:
        if one.scores is not None:
            known = "trained on" if one.slide in trained_on else ""
            rows.append([one.slide, *map(_number, one.scores.values()), known])
        elif one.spots.labelled:
            echo(f"{one.slide}: not scored, because its labels are of other cell types.")
    if rows:
        print_table(["slide", *HEADINGS, ""], rows)
        echo(LEGEND)


def _number(value: float) -> str:
    """Three decimals, four of small errors."""
    return f"{value:.4f}" if 0 < abs(value) < 0.1 else f"{value:.3f}"
