"""`histoboost evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from histoboost.cli.command import NOTHING_WRITTEN, RESUMES, Command
from histoboost.cli.console import echo
from histoboost.cli.json_output import json_option, write_json
from histoboost.cli.options import dask_client, units_option
from histoboost.cli.scores import print_scores
from histoboost.cli.setup_options import features_option, fold_options, setup_fields, setup_options


def _resumes(options: Mapping[str, Any]) -> bool:
    """Whether folds of an interrupted run are reused: on a cluster, if only scores are needed."""
    needs_predictions = options["interval"] or options["predictions"] or options["target"] == "raw"
    return options["scheduler"] is not None and not needs_predictions


@click.command(
    cls=Command, interrupted=lambda options: RESUMES if _resumes(options) else NOTHING_WRITTEN
)
@click.argument("store", type=click.Path())
@features_option
@setup_options
@fold_options
@click.option(
    "--interval",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="LEVEL",
    help="Also report the coverage of prediction intervals at this level, in --units.",
)
@click.option(
    "--predictions",
    type=click.Path(),
    metavar="FILE",
    help="Also write the held-out predictions of all folds, in --units, to a .csv or .parquet "
    "file; with several seeds, those of the first seed.",
)
@click.option(
    "--turned",
    multiple=True,
    type=click.Path(),
    metavar="STORE",
    help="Also score the held-out slides rotated or mirrored, from this store written by featurize "
    "--turned; repeatable.",
)
@units_option("rank")
@click.option(
    "--verbose", is_flag=True, help="Also print the number of processes and the run time."
)
@json_option()
def evaluate(
    store: str,
    slides: list[str] | None,
    jobs: int | None,
    scheduler: str | None,
    seeds: int,
    held_out: list[str] | None,
    interval: float | None,
    predictions: str | None,
    turned: tuple[str, ...],
    units: str,
    verbose: bool,
    json_path: str | None,
    **given: Any,
) -> None:
    """Cross-validate a model: hold out each labelled slide in STORE, train on the others.

    \b
    Example:  histoboost evaluate store.zarr --features "resnet50@*+resnet50@64:ring1"
    """
    from histoboost.cache.store import EmbeddingStore
    from histoboost.outputs.table import check_table, write_table
    from histoboost.regress.budget import processes
    from histoboost.regress.crossval import run_folds
    from histoboost.regress.fold_cache import FoldCache, default_folder
    from histoboost.regress.held_out import (
        abundance_pearson,
        check_columns,
        held_out_frame,
        warn_where_nothing_was_learned,
    )
    from histoboost.regress.setup import Setup
    from histoboost.regress.slides import labelled_slides
    from histoboost.regress.turned import cross_validate_turned

    context = click.get_current_context()
    source = context.get_parameter_source("units")
    if source is ParameterSource.COMMANDLINE and interval is None and predictions is None:
        raise click.UsageError(
            "--units: has no effect on the scores; add --predictions or --interval, or omit it"
        )
    setup = Setup(**setup_fields(**given))
    opened = EmbeddingStore(store, mode="r")
    spots = labelled_slides(opened, slides)
    setup.tree_types(spots[0].cell_types)
    if predictions is not None:
        check_table(Path(predictions))
        check_columns(spots[0].cell_types, store)
    cache = FoldCache(default_folder()) if _resumes(context.params) else None
    with dask_client(scheduler) as client:
        scores = run_folds(
            opened,
            setup,
            spots,
            seeds=seeds,
            held_out=held_out,
            jobs=jobs,
            cache=cache,
            client=client,
        )
    warn_where_nothing_was_learned(scores)
    result = scores.to_json()
    if interval is not None:
        coverage = scores.coverage(interval, units)
        result["interval"] = {"level": interval, "units": units, "coverage": coverage}
    if setup.target == "raw":
        result["abundance_pearson"] = abundance_pearson(scores)
    print_scores(scores, result)
    if without_trees := setup.without_trees(spots[0].cell_types):
        echo(f"trees {without_trees}.")
    for path in turned:
        other = EmbeddingStore(path, mode="r")
        rescored = cross_validate_turned(opened, other, setup, spots, held_out=held_out, jobs=jobs)
        means = {name: rescored.mean(name) for name in result["mean"]}
        result.setdefault("turned", {})[path] = means
        parts = [
            f"{means[score]:.3f} ({means[score] - scores.mean(score):+.3f}) {what}"
            for score, what in (("spot_spearman", "per spot"), ("type_spearman", "per type"))
        ]
        echo(f"Held-out slides turned as in {path}: {', '.join(parts)}.")
    if verbose:
        echo(f"used      {processes(len(spots[0].cell_types), jobs)} processes of one thread")
        times = ", ".join(f"{name} {value:.1f} s" for name, value in result["seconds"].items())
        echo(f"seconds   {times}")
    if predictions is not None:
        table = held_out_frame(scores, units)
        write_table(Path(predictions), table)
        echo(f"Wrote {predictions}: {len(table):,} held-out spots, units {units}.")
    write_json(json_path, result)
