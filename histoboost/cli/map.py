"""`histoboost map`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from histoboost.cli.arguments import check_outputs
from histoboost.cli.command import Command
from histoboost.cli.console import echo
from histoboost.cli.json_output import json_option, slide_result, write_json
from histoboost.cli.options import device_option, in_order, lattice_options, units_option
from histoboost.errors import BadInput, require

#: What a folder gets of every slide.
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
    help="What to write, by its suffix: .geojson (QuPath), .ome.tif, .png, .html, .h5ad, "
    ".zarr (SpatialData), .parquet or .csv; or a folder, which gets .geojson, .png and .h5ad. "
    "Repeatable; {slide} in the name writes one for each slide.",
)
@units_option("share")
@in_order(lattice_options)
@click.option(
    "--finer",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="K",
    help="Predict on K x K shifted copies of the lattice.",
)
@click.option(
    "--regions",
    type=click.Path(),
    metavar="FILE.geojson",
    help="Also write a table, OUT.regions.csv: the mean of every cell type in each region drawn "
    "in QuPath.",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="PATH",
    help="File of the backbone's weights, as in training; repeatable for several backbones.",
)
@click.option(
    "--store",
    type=click.Path(),
    metavar="STORE",
    help="Keep spots and embeddings there; a run that was interrupted resumes.",
)
@device_option
@json_option("Also write what is to be known of each slide as JSON")
def map(
    slides: tuple[str, ...],
    model: str,
    outputs: tuple[str, ...],
    units: str,
    pitch: str | None,
    tissue: str,
    um_per_px: float | None,
    finer: int,
    regions: str | None,
    weights: tuple[str, ...],
    store: str | None,
    device: str,
    json_path: str | None,
) -> None:
    """Map plain slides, which have no spots, with MODEL.

    Spots are laid on the tissue at the pitch of the model's training slides; a finer slide is
    brought to their resolution.

    \b
    Example:  histoboost map slide.svs model -o slide.geojson -o slide.ome.tif
              histoboost map slides/ model -o maps/ --finer 2 --store maps.zarr
    """
    require("map", "torch", "torch")
    from histoboost.finetune.folder import is_ensemble
    from histoboost.map import map_slide
    from histoboost.outputs.predictions import (
        check_prediction_output,
        file_of,
        write_predictions,
    )
    from histoboost.outputs.regions import (
        check_regions,
        regions_of,
        regions_path,
        write_regions,
    )
    from histoboost.slides.readers import open_dataset

    if is_ensemble(model):
        raise BadInput(f"{model}: is a fine-tuned model, which map does not take; use predict")
    found = [slide for path in slides for slide in open_dataset(path).slides]
    names = [slide.name for slide in found]
    files = _files(outputs)
    for file in files:
        check_prediction_output(file, names)
    table = regions_path(files[0])
    if regions is not None:
        check_regions(table, regions, found)
    images = [path for slide in found for path in slide.image.sources]
    to_write = [file for of in files for file in {file_of(of, name): None for name in names}]
    others = [path for path in (json_path, regions and table) if path]
    drawn = [regions_of(name, path) for path in (regions, tissue) if path for name in names]
    check_outputs([*to_write, *others], [*slides, *images, *drawn])
    predictions = map_slide(
        found,
        model,
        units=units,
        pitch=pitch,
        finer=finer,
        tissue=tissue,
        um_per_px=um_per_px,
        weights=weights,
        store=store,
        device=device,
    )
    written: list[list[str]] = [[] for _ in predictions]
    for file in files:
        for own, path in zip(written, write_predictions(file, predictions), strict=True):
            own.append(str(path))
    if regions is not None:
        write_regions(table, predictions, regions)
        for own in written:
            own.append(str(table))
    for prediction, own in zip(predictions, written, strict=True):
        laid = (prediction.spots.lattice or {}).get("found")
        novel = prediction.novel_share
        said = [
            f"{len(prediction.spots):,} spots",
            *([str(laid)] if laid else []),
            *([] if novel is None else [f"{novel:.0%} of them unlike the training spots"]),
        ]
        echo(f"{prediction.slide}: {'; '.join(said)}")
        echo(f"  wrote {', '.join(own)}")
    pairs = zip(predictions, written, strict=True)
    write_json(json_path, {"slides": [slide_result(each, own) for each, own in pairs]})


def _files(outputs: Sequence[str]) -> list[Path]:
    """Files to write, of a folder those that every slide gets."""
    files: list[Path] = []
    for output in outputs:
        path = Path(output)
        folder = output.endswith(("/", os.sep)) or (path.is_dir() and path.suffix != ".zarr")
        if folder and not path.is_dir():
            if not path.parent.is_dir():
                raise BadInput(f"{path}: no such directory {path.parent}; create it first")
            path.mkdir()
        files += [path / name for name in IN_FOLDER] if folder else [path]
    return files
