"""`histoboost train`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

import click

from histoboost.cli.command import Command
from histoboost.cli.console import echo
from histoboost.cli.options import dask_client
from histoboost.cli.scores import brief, brief_importances
from histoboost.cli.setup_options import features_option, setup_fields, setup_options
from histoboost.names import some


@click.command(cls=Command)
@click.argument("store", type=click.Path())
@click.argument("model_path", metavar="MODEL", type=click.Path())
@features_option
@setup_options
@click.option(
    "--intervals", is_flag=True, help="Also cross-validate, which `predict --interval` needs."
)
def train(
    store: str,
    model_path: str,
    slides: list[str] | None,
    jobs: int | None,
    scheduler: str | None,
    intervals: bool,
    **given: Any,
) -> None:
    """Train a model on the labelled slides in STORE and save it as the folder MODEL.

    \b
    Example:  histoboost train store.zarr model --slides S_1,S_2,S_3
    """
    from histoboost.cache.store import EmbeddingStore
    from histoboost.regress.bundle import check_target
    from histoboost.regress.heads import find_model
    from histoboost.regress.model import CompositionRegressor

    replaced = check_target(Path(model_path))
    model = CompositionRegressor(**setup_fields(**given))
    with dask_client(scheduler) as client:
        opened = EmbeddingStore(store, mode="r")
        model.fit(opened, slides, jobs=jobs, intervals=intervals, client=client)
    model.save(model_path)
    complete = f"histoboost show {quote(model_path)} --json -"
    echo(f"features  {brief(model.setup_.features, complete)}")
    if importances := model.importances():
        measure = find_model(model.setup_.model).importance
        echo(f"relies on (share of {measure}, over all cell types)")
        for line in brief_importances(importances):
            echo(f"  {line}")
    if without_trees := model.setup_.without_trees(model.cell_types_):
        echo(f"trees     {without_trees}")
    types, names = len(model.cell_types_), some(model.training_slides_)
    if replaced:
        echo(f"Replaced the existing model in {model_path}.")
    echo(f"Wrote {model_path}: {model.setup_.model} for {types} types, from {names}.")
