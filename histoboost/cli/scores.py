"""Print scores and importances as tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from histoboost.cli.console import echo, print_table

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction
    from histoboost.regress.scores import CrossValidation
#: Column headings of the five scores.
HEADINGS = ("per-spot", "per-type", "Pearson", "RMSE", "JSD")
#: Names of the baselines in tables, where "mean" alone could be the mean of the folds.
BASELINES = {"mean": "mean profile", "mean-rank": "mean-rank profile", "coords": "coords"}
LEGEND = (
    "per-spot and per-type: Spearman correlation; Pearson, RMSE and JSD (Jensen-Shannon "
    "divergence, bits) are of shares; lower RMSE and JSD are better. Spot totals are not scored."
)
#: Maximum number of terms to print.
MOST_TERMS = 12


def brief(features: str, complete: str = "--json") -> str:
    """Shorten a feature-set expression with many terms; `complete` has all of them."""
    terms = features.split("+")
    if len(terms) <= MOST_TERMS:
        return features
    return f"{'+'.join(terms[:3])}+... ({len(terms)} terms; {complete} has all)"


def print_scores(scores: CrossValidation, result: dict[str, Any]) -> None:
    """Print the scores of all folds, their mean and the baselines."""
    echo(f"features  {brief(result['features'])}")
    echo(f"model     {result['model']}, target {result['target']}")
    rows: list[list[str] | None] = []
    for fold in scores.folds:
        name = fold.name + (f" (seed {fold.seed})" if len(scores.seeds) > 1 else "")
        values = (getattr(fold, score) for score in result["mean"])
        rows.append([name, f"{fold.n_spots:,}", *map(_number, values)])
    rows += [None, ["all folds, averaged", "", *map(_number, result["mean"].values())], None]
    for name, baseline in result["baselines"].items():
        rows.append([BASELINES.get(name, name), "", *map(_number, baseline.values())])
    print_table(["held out", "spots", *HEADINGS], rows)
    echo(LEGEND)
    echo(_against_baselines(result))
    if "abundance_pearson" in result:
        value = _number(result["abundance_pearson"]["mean"])
        echo(f"Pearson correlation of abundances over a fold's spots, as in HEST-Bench: {value}.")
    if "interval" in result:
        interval = result["interval"]
        mean, folds = interval["coverage"]["mean"], interval["coverage"]["folds"]
        echo(
            f"{interval['level']:.0%} prediction intervals cover {mean:.1%} of the values (units: "
            f"{interval['units']}), {min(folds):.1%} to {max(folds):.1%} by fold."
        )


def _against_baselines(result: dict[str, Any]) -> str:
    """Compare the model with the best baseline, per spot and per type."""
    others = {k: scores for k, scores in result["baselines"].items() if k != result["model"]}
    parts = []
    for score, what in (("spot_spearman", "per spot"), ("type_spearman", "per type")):
        best = max(others, key=lambda name: float(others[name][score]))
        parts.append(f"{result['mean'][score] - others[best][score]:+.3f} {what} ({best})")
    line = f"Against the best baseline: {', '.join(parts)}; coords knows only position."
    coords = others.get("coords")
    if coords and any(coords[k] >= result["mean"][k] for k in ("spot_spearman", "type_spearman")):
        line += " Where coords scores as high, nothing shows that the images are informative."
    return line


def brief_importances(shares: Mapping[str, float]) -> list[str]:
    """List the largest importances, and the sum of the others."""
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    lines = [f"{share:6.1%}  {name}" for name, share in ranked[:MOST_TERMS]]
    rest = ranked[MOST_TERMS:]
    if rest:
        lines.append(f"{sum(share for _, share in rest):6.1%}  {len(rest)} other terms")
    return lines


def print_slide_scores(predictions: Iterable[Prediction], trained_on: Collection[str]) -> None:
    """Print the scores of labelled slides, if any, and mark training slides."""
    rows = []
    for prediction in predictions:
        slide = prediction.slide
        if prediction.scores is not None:
            note = "trained on" if slide in trained_on else ""
            rows.append([slide, *map(_number, prediction.scores.values()), note])
        elif prediction.spots.labelled:
            echo(f"{slide}: not scored, because its labels have other cell types.")
    if rows:
        print_table(["slide", *HEADINGS, ""], rows)
        echo(LEGEND)


def _number(value: float) -> str:
    """Format a score with three decimals, or four if small."""
    return f"{value:.4f}" if 0 < abs(value) < 0.1 else f"{value:.3f}"
