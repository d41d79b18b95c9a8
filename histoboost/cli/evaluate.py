"""`histoboost evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from histoboost.cli.command import NOTHING_WRITTEN, RESUMES, Command
from histoboost.cli.console import echo
from histoboost.cli.json_output import json_option, write_json
from histoboost.cli.options import client_of, units_option
from histoboost.cli.scores import print_scores
from histoboost.cli.setup_options import features_option, fold_options, setup_fields, setup_options


def _interrupted(options: Mapping[str, Any]) -> str:
    # Results of a cluster are stored; coverage needs the predictions, which are not.
    return RESUMES if options["scheduler"] and options["interval"] is None else NOTHING_WRITTEN


@click.command(cls=Command, interrupted=_interrupted)
@click.argument("store", type=click.Path())
@features_option
@setup_options
@fold_options
@click.option(
    "--interval",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="LEVEL",
    help="Also report the coverage of prediction intervals of this level, in --units.",
)
@units_option("rank")
@click.option(
    "--verbose", is_flag=True, help="Also print numbers of jobs and threads, and run time."
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
    units: str,
    verbose: bool,
    json_path: str | None,
    **given: Any,
) -> None:
    """Score a model on every labelled slide in STORE, trained on the others.

    \b
    Example:  histoboost evaluate store.zarr --features "resnet50@*+resnet50@64:ring1"
    """
    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.crossval import run_folds
    from histoboost.regress.fold_cache import FoldCache, default_folder
    from histoboost.regress.setup import Setup
    from histoboost.regress.slides import labelled_slides

    setup = Setup(**setup_fields(**given))
    opened = EmbeddingStore(store, mode="r")
    cache = FoldCache(default_folder()) if scheduler and interval is None else None
    with client_of(scheduler) as client:
        scores = run_folds(
            opened,
            setup,
            labelled_slides(opened, slides),
            seeds=seeds,
            held_out=held_out,
            jobs=jobs,
            cache=cache,
            client=client,
        )
    result = scores.to_json()
    if interval is not None:
        coverage = scores.coverage(interval, units)
        result["interval"] = {"level": interval, "units": units, "coverage": coverage}
    print_scores(scores, result)
    if verbose:
        _print_resources(result, len(scores.spots[0].cell_types), jobs)
    write_json(json_path, result)


def _print_resources(result: dict[str, Any], types: int, jobs: int | None) -> None:
    from histoboost.regress.budget import processes

    echo(f"used      {processes(types, jobs)} processes of one thread")
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in result["seconds"].items())
    echo(f"seconds   {seconds}")
