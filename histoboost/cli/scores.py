"""The table of scores that `evaluate` and `finetune` print."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from histoboost.cli.console import echo, print_table

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction
    from histoboost.regress.scores import CrossValidation


#: Headings of the five scores.
HEADINGS = ("per-spot", "per-type", "Pearson", "RMSE", "JSD")
#: What the baselines are called in tables: the mean of the folds stands beside them.
BASELINES = {"mean": "mean profile", "mean-rank": "mean-rank profile", "coords": "coords"}
LEGEND = (
    "per-spot, per-type: Spearman; Pearson, RMSE and JSD (Jensen-Shannon divergence, bits): of "
    "shares; of the last two, less is better. Totals of spots are not scored."
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
    rows += [None, ["all folds, averaged", "", *map(_number, result["mean"].values())], None]
    for name, baseline in result["baselines"].items():
        rows.append([BASELINES.get(name, name), "", *map(_number, baseline.values())])
    print_table(["held out", "spots", *HEADINGS], rows)
    echo(LEGEND)
    echo(_against_baselines(result))
    if "abundance_pearson" in result:
        value = _number(result["abundance_pearson"]["mean"])
        echo(f"Pearson of abundances over all spots of a fold, as HEST-Bench has it: {value}.")
    if "interval" in result:
        held = result["interval"]
        folds = held["coverage"]["folds"]
        echo(
            f"Prediction intervals of {held['level']:.0%} cover {held['coverage']['mean']:.1%} in "
            f"units {held['units']}, {min(folds):.1%} to {max(folds):.1%} by fold."
        )


def _against_baselines(result: dict[str, Any]) -> str:
    """How much better than the best of the baselines, per spot and per type."""
    others = {k: scores for k, scores in result["baselines"].items() if k != result["model"]}
    parts = []
    for score, what in (("spot_spearman", "per spot"), ("type_spearman", "per type")):
        best = max(others, key=lambda name: float(others[name][score]))
        parts.append(f"{result['mean'][score] - others[best][score]:+.3f} {what} ({best})")
    line = f"Against the best baseline: {', '.join(parts)}; coords is position alone."
    coords = others.get("coords")
    if coords and any(coords[k] >= result["mean"][k] for k in ("spot_spearman", "type_spearman")):
        line += " Where position does as well, nothing shows that the images tell anything."
    return line


def brief_importances(shares: Mapping[str, float]) -> list[str]:
    """Lines of the largest shares, and one for all the others."""
    ranked = sorted(shares.items(), key=lambda item: -item[1])
    lines = [f"{share:6.1%}  {name}" for name, share in ranked[:MOST_TERMS]]
    rest = ranked[MOST_TERMS:]
    if rest:
        lines.append(f"{sum(share for _, share in rest):6.1%}  {len(rest)} other terms")
    return lines


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
