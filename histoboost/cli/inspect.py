"""`histoboost inspect`."""

from __future__ import annotations

import sys
from typing import Any

import click

from histoboost.cli.command import Command
from histoboost.cli.json_output import json_option, write_json
from histoboost.cli.options import format_option

#: Columns that may wrap between words, and the widest word they are meant for.
_WRAPS = {"group": 7, "width x height": 7, "abundance": 9}


@click.command(cls=Command)
@click.argument("data", type=click.Path())
@format_option()
@json_option()
def inspect(data: str, format: str | None, json_path: str | None) -> None:
    """Show the slides, spots and cell types in DATA, and problems with them.

    \b
    Example:  histoboost inspect slides.h5
    """
    from histoboost.slides.inspect import inspect as inspect_dataset
    from histoboost.slides.readers import open_dataset

    found = inspect_dataset(open_dataset(data, format))
    print_slides(found["slides"])
    types = found["cell_types"]
    click.echo(f"{len(types)} cell types: {', '.join(types)}" if types else "No labelled slide.")
    for problem in found["problems"]:
        click.secho(f"Problem: {problem['slide']}: {problem['message']}", fg="yellow")
    if not found["problems"]:
        click.echo("No problems found.")
    write_json(json_path, found)


def print_slides(slides: list[dict[str, Any]]) -> None:
    """Print a table of slides as `histoboost.slides.inspect` describes them."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    columns = {
        "slide": [slide["slide"] for slide in slides],
        "split": [slide["split"] for slide in slides],
        "group": [slide["group"] for slide in slides],
        "spots": [f"{slide['spots']:,}" for slide in slides],
        "labels": ["yes" if slide["labelled"] else "no" for slide in slides],
        "width x height": [_size(slide["image_shape"]) for slide in slides],
        "type": [slide["image_dtype"] for slide in slides],
        "pitch\npx": [_number(slide["pitch_px"], ".2f") for slide in slides],
        "um/px": [_number(slide["um_per_px"], ".3g") for slide in slides],
        "abundance": [_range(slide["abundance_range"]) for slide in slides],
    }
    for name in ("group", "um/px"):  # most data say nothing of them
        if not any(columns[name]):
            del columns[name]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for name in columns:  # on 80 columns some wrap, and nothing is cut off
        table.add_column(
            name, no_wrap=name not in _WRAPS, min_width=_WRAPS.get(name), overflow="fold"
        )
    for row in zip(*columns.values(), strict=True):
        table.add_row(*(cell or "-" for cell in row))
    # Off a terminal rich assumes 80 columns and would break the lines.
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _size(shape: list[int]) -> str:
    height, width, _ = shape
    return f"{width} x {height}"


def _number(value: float | None, digits: str) -> str | None:
    return None if value is None else format(value, digits)


def _range(low_high: list[float] | None) -> str | None:
    return f"{low_high[0]:.3g} to {low_high[1]:.3g}" if low_high else None
