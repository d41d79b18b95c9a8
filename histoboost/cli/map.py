"""`histoboost map`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from histoboost.cli.arguments import check_outputs
from histoboost.cli.command import Command
from histoboost.cli.console import echo
from histoboost.cli.json_output import json_option, slide_result, write_json
from histoboost.cli.options import device_option, in_order, lattice_options, units_option
from histoboost.errors import BadInput, require

#: Files written into a folder for each slide.
IN_FOLDER = ("{slide}.geojson", "{slide}.png", "{slide}.h5ad")


def _interrupted(options: dict[str, object]) -> str:
    kept = "finished work is kept" if options["store"] else "nothing is kept without --store"
    return f"{kept}; run the same command again"


@click.command(cls=Command, interrupted=_interrupted)
@click.argument("slides", metavar="SLIDE...", nargs=-1, required=True, type=click.Path())
@click.argument("model", type=click.Path())
@click.option(
    "-o",
    "--output",
    "outputs",
    required=True,
    multiple=True,
    type=click.Path(),
    metavar="OUT",
    help="File to write; its suffix sets the format: .geojson (QuPath), .ome.tif, .png, .html, "
    ".h5ad, .zarr (SpatialData), .parquet or .csv. Or a folder for .geojson, .png and .h5ad. "
    "Repeatable; with {slide} in its name, one file per slide.",
)
@units_option("share")
@in_order(lattice_options)
@click.option(
    "--finer",
    type=click.IntRange(min=1),
    default=1,
    metavar="K",
    help="Predict on K x K shifted copies of the lattice, for a finer map.",
)
@click.option(
    "--regions",
    type=click.Path(),
    metavar="FILE.geojson",
    help="Also write OUT.regions.csv, the mean of each cell type in each region drawn in QuPath.",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="PATH",
    help="Weights file of the backbone, the same as in training; repeatable for several backbones.",
)
@click.option(
    "--store",
    type=click.Path(),
    metavar="STORE",
    help="Keep spots and embeddings in this store, so that an interrupted run can be resumed.",
)
@device_option
@json_option("Also write a JSON summary of each slide")
def map(
    slides: tuple[str, ...],
    model: str,
    outputs: tuple[str, ...],
    tissue: str,
    regions: str | None,
    json_path: str | None,
    **options: Any,
) -> None:
    """Predict a cell-type map of H&E slides without spots.

    A lattice of spots is placed on the tissue, with the spot pitch of the training slides of MODEL;
    slides of higher resolution are downsampled to that of the training slides.

    \b
    Example:  histoboost map slide.svs model -o slide.geojson -o slide.ome.tif
              histoboost map slides/ model -o maps/ --finer 2 --store maps.zarr
    """
    require("map", "torch", "torch")
    from histoboost.finetune.folder import is_ensemble
    from histoboost.map import map_slide
    from histoboost.outputs.predictions import (
        check_prediction_output,
        slide_file,
        write_predictions,
    )
    from histoboost.outputs.regions import check_regions, region_means, regions_file, regions_path
    from histoboost.outputs.table import write_table
    from histoboost.slides.readers import open_dataset

    if is_ensemble(model):
        raise BadInput(f"{model}: is a fine-tuned model, which map does not support; use predict")
    found = [slide for path in slides for slide in open_dataset(path).slides]
    names = [slide.name for slide in found]
    files = _files(outputs)
    for file in files:
        check_prediction_output(file, names)
    table = regions_path(files[0])
    if regions is not None:
        check_regions(table, regions, found)
    images = [path for slide in found for path in slide.image.sources]
    to_write = [path for file in files for path in {slide_file(file, name): None for name in names}]
    others = [path for path in (json_path, regions and table) if path]
    drawn = [regions_file(name, path) for path in (regions, tissue) if path for name in names]
    check_outputs([*to_write, *others], [*slides, *images, *drawn])
    predictions = map_slide(found, model, tissue=tissue, **options)
    columns = [[str(path) for path in write_predictions(file, predictions)] for file in files]
    if regions is not None:
        write_table(table, region_means(predictions, regions))
        columns.append([str(table)] * len(names))
    summaries = []
    for prediction, *written in zip(predictions, *columns, strict=True):
        facts = [f"{len(prediction.spots):,} spots"]
        if lattice := (prediction.spots.lattice or {}).get("found"):
            facts.append(str(lattice))
        if prediction.novel_share is not None:
            facts.append(f"{prediction.novel_share:.0%} of spots are novel")
        echo(f"{prediction.slide}: {'; '.join(facts)}")
        echo(f"  wrote {', '.join(written)}")
        summaries.append(slide_result(prediction, written))
    write_json(json_path, {"slides": summaries})


def _files(outputs: Sequence[str]) -> list[Path]:
    """List the files to write; a folder stands for `IN_FOLDER`."""
    files: list[Path] = []
    for output in outputs:
        path = Path(output)
        folder = output.endswith(("/", os.sep)) or (path.is_dir() and path.suffix != ".zarr")
        if folder and not path.is_dir():
            if not path.parent.is_dir():
                raise BadInput(f"{path}: no such folder {path.parent}; create it first")
            path.mkdir()
        files += [path / name for name in IN_FOLDER] if folder else [path]
    return files
