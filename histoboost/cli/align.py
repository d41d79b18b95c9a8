"""`histoboost align`."""

from __future__ import annotations

from pathlib import Path

import click

from histoboost.cli.command import Command
from histoboost.cli.console import echo
from histoboost.cli.json_output import json_option, write_json
from histoboost.cli.options import format_option
from histoboost.io import check_output


@click.command(cls=Command, interrupted="the table was not written; run the same command again")
@click.argument("data", type=click.Path())
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    default="alignment.csv",
    show_default=True,
    metavar="FILE",
    help="Table of shifts and scales to write, for `featurize --alignment FILE`.",
)
@click.option(
    "--overlays",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Folder for pictures of the spots before and after  [default: beside FILE]",
)
@format_option
@json_option("Also write the result as JSON, with reasons and estimates")
def align(
    data: str, output: str, overlays: str | None, format: str | None, json_path: str | None
) -> None:
    """Check that the spots lie on the tissue; estimate shift and scale where they do not.

    The spots of a Visium table are those under tissue, so they can be aligned from the image
    alone. If the result is not confident, nothing is changed (dx = 0, dy = 0, scale = 1).

    A spot moves to x' = scale * (x - cx) + cx + dx and y' = scale * (y - cy) + cy + dy, in pixels;
    (cx, cy) is the centre of the image.

    \b
    Example:  histoboost align slides.h5 -o alignment.csv
              histoboost featurize slides.h5 store.zarr --alignment alignment.csv ...
    """
    from histoboost.progress import progress
    from histoboost.slides.align.estimate import align as align_slide
    from histoboost.slides.align.overlay import write_overlay
    from histoboost.slides.align.table import as_json, write_table
    from histoboost.slides.readers import open_dataset

    dataset = open_dataset(data, format)
    folder = Path(overlays) if overlays else Path(output).with_name(f"{Path(output).stem}_overlays")
    check_output(Path(output))
    found = []
    with progress("Aligning", len(dataset.slides), "slides") as advance:
        for slide in dataset.slides:
            found.append(align_slide(slide))
            write_overlay(slide, found[-1], folder)
            advance(1)
    write_table(Path(output), found)
    for one in found:
        echo(
            f"{one.slide}: dx {one.dx:+.1f}, dy {one.dy:+.1f} px, scale {one.scale:.4f}, "
            f"{'confident' if one.confident else 'not confident'}: {one.reason}"
        )
    echo(f"{output}, pictures in {folder}")
    write_json(json_path, as_json(found))
