"""`histoboost ablate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from histoboost.cli.command import NOTHING_WRITTEN, RESUMES, Command
from histoboost.cli.console import echo, print_table
from histoboost.cli.json_output import json_option, write_json
from histoboost.cli.options import dask_client
from histoboost.cli.scores import BASELINES, brief
from histoboost.cli.setup_options import fold_options, setup_fields, setup_options

if TYPE_CHECKING:
    from histoboost.regress.ablate import Ablation, Difference


@click.command(
    cls=Command, interrupted=lambda options: NOTHING_WRITTEN if options["fresh"] else RESUMES
)
@click.argument("store", type=click.Path())
@click.option(
    "--features",
    multiple=True,
    metavar="SPEC",
    help="Feature set, see `evaluate --features`; repeatable, the first one is the reference.",
)
@click.option(
    "--leave-one-out",
    is_flag=True,
    help="Also drop each term of the first set in turn or, if there are many, each backbone, patch "
    "size, layer and neighbourhood.",
)
@setup_options
@fold_options
@click.option(
    "--keep",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Folder that keeps the results of finished folds; ~/.cache/histoboost/folds by default.",
)
@click.option("--fresh", is_flag=True, help="Neither use nor keep results of finished folds.")
@json_option()
def ablate(
    store: str,
    features: tuple[str, ...],
    leave_one_out: bool,
    slides: list[str] | None,
    jobs: int | None,
    scheduler: str | None,
    seeds: int,
    held_out: list[str] | None,
    keep: str | None,
    fresh: bool,
    json_path: str | None,
    **given: Any,
) -> None:
    """Compare feature sets on the same folds; an interrupted run can be resumed.

    \b
    Example:  histoboost ablate store.zarr --features "resnet50@*+coords" --leave-one-out
    """
    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.ablate import ablate as compare
    from histoboost.regress.expression import DEFAULT_FEATURES
    from histoboost.regress.fold_cache import FoldCache, default_folder
    from histoboost.regress.setup import Setup

    fields = setup_fields(**given)
    with dask_client(scheduler) as client:
        table = compare(
            EmbeddingStore(store, mode="r"),
            features or (DEFAULT_FEATURES,),
            leave_one_out=leave_one_out,
            seeds=seeds,
            slides=slides,
            held_out=held_out,
            jobs=jobs,
            cache=None if fresh else FoldCache(Path(keep) if keep else default_folder()),
            client=client,
            **fields,
        )
    without_trees = Setup(**fields).without_trees(table.rows[0].spots[0].cell_types)
    _print_ablation(table, features, without_trees)
    write_json(json_path, table.to_json())


#: Scores by which feature sets are compared.
COMPARED = ("spot_spearman", "type_spearman")


def _print_ablation(ablation: Ablation, given: Sequence[str], without_trees: str) -> None:
    first = ablation.rows[0]
    echo(f"model {first.setup.model}, target {first.setup.target}")
    if without_trees:
        echo(f"trees {without_trees}")
    rows: list[list[str] | None] = []
    for index, row in enumerate(ablation.rows):
        cells = [str(index + 1)]
        for score in COMPARED:
            cells.append(f"{row.mean(score):.3f}")
            cells.append(_difference(ablation.difference(index, score)) if index else "")
        rows.append(cells)
    rows.append(None)
    for name in first.folds[0].baselines:
        spot, by_type = (f"{first.baseline(name, score):.3f}" for score in COMPARED)
        rows.append([BASELINES.get(name, name), spot, "", by_type, ""])
    print_table(["", "per-spot", "difference (95 %)", "per-type", "difference (95 %)"], rows)
    for index, row in enumerate(ablation.rows):
        name = brief(row.setup.features)
        if index in ablation.left_out:
            name = f"without {ablation.left_out[index]}"
        elif given and name != row.setup.features:
            name = given[index]
        echo(f"{index + 1:>3}  {name}")
        if index:
            echo(f"     {_by_fold(ablation, index)}")
    echo(ablation.caution)


def _by_fold(ablation: Ablation, index: int) -> str:
    """List the differences of a row, per spot / per type, fold by fold."""
    per_spot, per_type = (ablation.difference(index, score).folds for score in COMPARED)
    names = [fold.name for fold in ablation.rows[0].folds[: len(per_spot)]]  # of the first seed
    folds = zip(names, per_spot, per_type, strict=True)
    return "by fold: " + ", ".join(f"{name} {one:+.3f}/{two:+.3f}" for name, one, two in folds)


def _difference(difference: Difference) -> str:
    if difference.interval is None:
        return f"{difference.mean:+.3f}"
    low, high = difference.interval
    return f"{difference.mean:+.3f} ({low:+.3f} to {high:+.3f})"
