"""`histoboost predict`."""

from __future__ import annotations

from pathlib import Path

import click

from histoboost.cli.arguments import check_outputs
from histoboost.cli.command import Command
from histoboost.cli.console import echo
from histoboost.cli.json_output import json_option, slide_result, write_json
from histoboost.cli.options import format_option, names_option, units_option
from histoboost.cli.scores import print_slide_scores
from histoboost.errors import BadInput, require


@click.command(cls=Command)
@click.argument("source", metavar="STORE", type=click.Path())
@click.argument("model", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    help="File to write; its suffix sets the format: .csv (as for the challenge), .parquet, .h5ad, "
    ".zarr (SpatialData), .geojson (QuPath), .ome.tif, .png or .html. With {slide} in its name, "
    "one file per slide.",
)
@click.option(
    "--with-spots",
    is_flag=True,
    help="Add the columns slide, spot, x and y to a .csv; other tables always have them.",
)
@names_option("--slides", "Slides to predict; all unlabelled slides by default.")
@units_option(None)
@click.option(
    "--interval",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="LEVEL",
    help="Add prediction intervals at this level, such as 0.9; needs train --intervals.",
)
@names_option(
    "--backbones",
    "Custom or hub backbones of a fine-tuned MODEL; name them here, because a model file is not "
    "trusted to name code to run.",
)
@format_option
@json_option("Also write a JSON summary of each slide")
def predict(
    source: str,
    model: str,
    output: str,
    with_spots: bool,
    slides: list[str] | None,
    units: str | None,
    interval: float | None,
    backbones: list[str] | None,
    format: str | None,
    json_path: str | None,
) -> None:
    """Predict slides in STORE with MODEL and write a table, AnnData or a map.

    Labelled slides are also scored.

    If MODEL was trained with finetune, give DATA instead of STORE.

    \b
    Example:  histoboost predict store.zarr model -o submission.csv --slides S_7
              histoboost predict slides.h5 cnn -o submission.csv --slides S_7
              histoboost predict store.zarr model -o predicted.h5ad
    """
    from histoboost.finetune.folder import is_ensemble
    from histoboost.outputs.predictions import (
        WITHOUT_BOUNDS,
        check_prediction_output,
        slide_file,
        write_predictions,
    )

    check_prediction_output(Path(output), slides or ())
    if interval is not None and output.endswith(WITHOUT_BOUNDS):
        raise BadInput(
            f"--interval: {output} cannot hold intervals; write a table, or omit --interval"
        )
    units = units or ("rank" if output.endswith(".csv") else "share")
    end_to_end = is_ensemble(model)
    for flag, given, supported in (
        ("--backbones", backbones, end_to_end),
        ("--format", format, end_to_end),
        ("--interval", interval, not end_to_end),
    ):
        if given and not supported:
            kind = "a fine-tuned model" if end_to_end else "not a fine-tuned model"
            raise BadInput(f"{flag}: {model} is {kind}; omit {flag}")
    if end_to_end:
        require(f"{model}: a fine-tuned model", "torch", "torch")
        from histoboost.featurize.engines.pick import pick_device
        from histoboost.finetune.ensemble import Ensemble
        from histoboost.slides.readers import open_dataset

        dataset = open_dataset(source, format)
        images = [path for slide in dataset.slides for path in slide.image.sources]
        check_outputs({slide_file(Path(output), slide.name) for slide in dataset.slides}, images)
        ensemble = Ensemble.load(model, backbones or ())
        predictions = ensemble.predict(dataset, slides, units=units, device=pick_device("auto"))
        trained_on = ensemble.training_slides
    else:
        from histoboost.names import check_cell_type_names
        from histoboost.regress.intervals import NO_INTERVALS
        from histoboost.regress.model import CompositionRegressor
        from histoboost.regress.scale import compared_in
        from histoboost.regress.slides import open_store, unlabelled_slides

        regressor = CompositionRegressor.load(model)
        if interval is not None and regressor.residuals_ is None:
            raise BadInput(f"{model}: {NO_INTERVALS}")
        check_cell_type_names(regressor.cell_types_, model)
        opened = open_store(source)
        slides = slides or unlabelled_slides(opened)
        check_prediction_output(Path(output), slides)
        predictions = regressor.predict(opened, slides, units=units, interval=interval)
        if note := compared_in(regressor.guard_.scale, [each.spots for each in predictions]):
            echo(note)
        trained_on = regressor.training_slides_
    files = write_predictions(Path(output), predictions, submission=not with_spots)
    print_slide_scores(predictions, trained_on)
    first = 0
    for prediction, file in zip(predictions, files, strict=True):
        rows = len(prediction.values)
        if file.suffix == ".csv" and not with_spots and file == Path(output):
            echo(f"IDs {first} to {first + rows - 1}: {prediction.slide}")
        else:
            echo(f"{prediction.slide}: {rows} spots")
        first += rows
    if units == "rank":
        units = "rank (within the spot, 1 = most abundant; see --units)"
    pairs = zip(predictions, map(str, files), strict=True)
    write_json(json_path, {"slides": [slide_result(each, [file]) for each, file in pairs]})
    echo(f"Wrote {output}: {first} spots, {len(predictions[0].cell_types)} types, units {units}.")
