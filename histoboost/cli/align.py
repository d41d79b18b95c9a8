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
    metavar="FILE",
    help="CSV table to write, one shift and scale per slide, for `featurize --alignment FILE`.",
)
@click.option(
    "--overlays",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Folder for images of the spots before and after  [default: next to FILE]",
)
@format_option
@json_option("Also write the result as JSON, with all estimates and reasons")
def align(
    data: str, output: str, overlays: str | None, format: str | None, json_path: str | None
) -> None:
    """Check that spots lie on tissue; estimate shift and scale if they do not.

    Visium tables list the spots under tissue, so spots can be registered to the image without
    fiducials. A slide whose estimate is not confident is left as is (dx = 0, dy = 0, scale = 1).

    Spots move to x' = scale * (x - cx) + cx + dx and y' = scale * (y - cy) + cy + dy, in pixels,
    where (cx, cy) is the centre of the image.

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
    echo(f"Wrote {output}, images in {folder}.")
    write_json(json_path, found.to_json())
