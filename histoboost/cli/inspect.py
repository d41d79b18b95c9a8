"""`histoboost inspect`."""

from __future__ import annotations

import sys
from typing import Any

import click

from histoboost.cli.command import Command
from histoboost.cli.json_output import json_option, write_json
from histoboost.cli.options import format_option


@click.command(cls=Command)
@click.argument("data", type=click.Path())
@format_option()
@json_option()
def inspect(data: str, format: str | None, json_path: str | None) -> None:
    """Show the slides, spots and cell types in DATA, and what is wrong with them.

    \b
    Example:  histoboost inspect slides.h5
    """
    from histoboost.featurize.inspect import inspect as inspect_dataset
    from histoboost.featurize.readers import open_dataset

    found = inspect_dataset(open_dataset(data, format))
    write_json(json_path, found)
    _print_slides(found["slides"])
    types = found["cell_types"]
    click.echo(f"{len(types)} cell types: {', '.join(types)}" if types else "No labelled slide.")
    for problem in found["problems"]:
        click.secho(f"Problem: {problem['slide']}: {problem['message']}", fg="yellow")
    if not found["problems"]:
        click.echo("No problems found.")


def _print_slides(slides: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("slide", "split", "spots", "labelled", "image", "type", "pitch px", "abundance")
    for slide in slides:
        height, width, _ = slide["image_shape"]
        low_high = slide["abundance_range"]
        table.add_row(
            slide["slide"],
            slide["split"] or "-",
            f"{slide['spots']:,}",
            "yes" if slide["labelled"] else "no",
            f"{width:,} x {height:,}",
            slide["image_dtype"],
            "-" if slide["pitch_px"] is None else f"{slide['pitch_px']:.2f}",
            f"{low_high[0]:.3g} to {low_high[1]:.3g}" if low_high else "-",
        )
    # Off a terminal rich assumes 80 columns and would break the lines.
    Console(width=None if sys.stdout.isatty() else 120).print(table)
