"""`histoboost align`."""

from __future__ import annotations

from pathlib import Path

import click

from histoboost.cli.command import Command
from histoboost.cli.console import echo
from histoboost.cli.json_output import json_option, write_json
from histoboost.cli.options import format_option
from histoboost.io import check_name, check_output


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
    from histoboost.slides.align.run import align as align_dataset
    from histoboost.slides.readers import open_dataset

    table = Path(output)
    folder = Path(overlays) if overlays else table.with_name(f"{table.stem}_overlays")
    check_output(table)
    check_name(folder)
    found = align_dataset(open_dataset(data, format), overlays=folder)
    found.save(table)
    for one in found:
        echo(
            f"{one.slide}: dx {one.dx:+.1f}, dy {one.dy:+.1f} px, scale {one.scale:.4f}, "
            f"{'confident' if one.confident else 'not confident'}: {one.reason}"
        )
    echo(f"{output}, pictures in {folder}")
    write_json(json_path, found.to_json())
