"""`histoboost predict`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from histoboost.cli.command import Command
from histoboost.cli.options import CommaList, format_option
from histoboost.errors import BadInput, require

if TYPE_CHECKING:
    from histoboost.regress.predictions import Prediction
    from histoboost.spots import SpotTable

    Predicted = tuple[tuple[str, ...], Sequence[Prediction], Callable[[str], SpotTable]]


@click.command(cls=Command)
@click.argument("store", type=click.Path())
@click.argument("model_path", metavar="MODEL", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    help="File to write: .csv (the challenge's layout), .parquet, .h5ad or .zarr (AnnData).",
)
@click.option(
    "--slides",
    type=CommaList(),
    metavar="A,B",
    help="Slides to predict; by default all unlabelled ones.",
)
@click.option(
    "--units",
    "--normalize",
    "units",
    type=click.Choice(["rank", "rank-slide", "softmax", "minmax", "abundance", "none"]),
    default="rank",
    show_default=True,
    help="Units of predictions: rank (of the cell type within the spot, in (0, 1], 1 is highest), "
    "rank-slide (of the spot within the slide), softmax (shares that sum to 1), minmax (0 to 1 "
    "within the spot), abundance (as in the labels) or none (as the model predicts).",
)
@click.option(
    "--interval",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="LEVEL",
    help="Level of prediction intervals to add, such as 0.9; needs train --intervals.",
)
@click.option(
    "--backbones",
    type=CommaList(),
    metavar="A,B",
    help="Custom or hub networks of a fine-tuned MODEL; required, because a model must not name "
    "code to run.",
)
@format_option
def predict(
    store: str,
    model_path: str,
    output: str,
    slides: list[str] | None,
    units: str,
    interval: float | None,
    backbones: list[str] | None,
    format: str | None,
) -> None:
    """Predict slides of STORE with MODEL and write a table or AnnData.

    For a MODEL trained with finetune, give DATA in place of STORE.

    \b
    Example:  histoboost predict store.zarr model -o submission.csv --slides S_7
              histoboost predict slides.h5 cnn -o submission.csv --slides S_7
              histoboost predict store.zarr model -o predicted.h5ad
    """
    from histoboost.finetune.folder import is_ensemble
    from histoboost.outputs.predictions import check_prediction_output, write_predictions

    check_prediction_output(Path(output))
    if is_ensemble(model_path):
        found = _predict_images(store, model_path, slides, units, interval, backbones, format)
    elif backbones:
        raise BadInput(
            f"backbones {','.join(backbones)}: {model_path} is not an end-to-end model; omit "
            "--backbones"
        )
    else:
        found = _predict_embeddings(store, model_path, slides, units, interval, format)
    cell_types, predictions, spots = found
    write_predictions(Path(output), cell_types, predictions, spots)
    first = 0
    for prediction in predictions:
        last = first + len(prediction.values) - 1
        click.echo(f"IDs {first} to {last}: {prediction.slide}")
        first = last + 1
    if units == "rank":
        units = "rank within the spot in (0, 1], 1 = highest (or --units abundance)"
    click.echo(f"Wrote {output}: {first} rows, {len(cell_types)} types, {units}.")


def _predict_embeddings(
    store: str,
    model_path: str,
    slides: list[str] | None,
    units: str,
    interval: float | None,
    format: str | None,
) -> Predicted:
    from histoboost.cache.store import EmbeddingStore
    from histoboost.names import check_cell_type_names
    from histoboost.regress.model import CompositionRegressor

    if format is not None:
        raise BadInput(
            f"format {format}: {model_path} is not an end-to-end model and needs an embedding "
            "store; omit --format"
        )
    model = CompositionRegressor.load(model_path)
    check_cell_type_names(model.cell_types_, model_path)
    opened = EmbeddingStore(store, mode="r")
    predictions = model.predict(opened, slides, units=units, interval=interval)
    return model.cell_types_, predictions, opened.spots


def _predict_images(
    data: str,
    model_path: str,
    slides: list[str] | None,
    units: str,
    interval: float | None,
    backbones: list[str] | None,
    format: str | None,
) -> Predicted:
    require(f"{model_path}: a fine-tuned model", "torch", "torch")
    from histoboost.featurize.engines.pick import pick_device
    from histoboost.finetune.ensemble import Ensemble
    from histoboost.slides.readers import open_dataset
    from histoboost.slides.thumbnail import thumbnail

    if interval is not None:
        raise BadInput(f"interval: {model_path} is an end-to-end model, which has no intervals")
    dataset = open_dataset(data, format)
    model = Ensemble.load(model_path, backbones or ())
    device = pick_device("auto")
    predictions = model.predict(dataset, slides, units=units, device=device)

    def table(name: str) -> SpotTable:
        slide = dataset[name]
        return slide.spot_table(thumbnail(slide.image))

    return model.cell_types, predictions, table
