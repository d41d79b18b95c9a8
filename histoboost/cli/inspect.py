"""`histoboost inspect`."""

from __future__ import annotations

from typing import Any

import click

from histoboost.cli.command import Command
from histoboost.cli.console import echo, print_table
from histoboost.cli.json_output import json_option, write_json
from histoboost.cli.options import format_option

#: Columns that may wrap between words, and their minimum widths.
_WRAPS = {"group": 7, "width x height": 7, "abundance": 9}


@click.command(cls=Command)
@click.argument("data", type=click.Path())
@format_option
@json_option()
def inspect(data: str, format: str | None, json_path: str | None) -> None:
    """Show the slides, spots and cell types in DATA, and any problems with them.

    \b
    Example:  histoboost inspect slides.h5
    """
    from histoboost.slides.inspect import inspect as inspect_dataset
    from histoboost.slides.readers import open_dataset

    found = inspect_dataset(open_dataset(data, format))
    print_slides(found["slides"])
    for slide in found["slides"]:
        if slide["tissue"]:
            cells = f" and counts its {slide['cells']:,} cells" if slide["cells"] else ""
            echo(
                f"{slide['slide']}: no spots; featurize --pitch SIDE puts a lattice of spots on "
                f"its tissue ({slide['tissue']}){cells}."
            )
    types = found["cell_types"]
    if types:
        echo(f"{len(types)} cell types: {', '.join(types)}")
    elif any(slide["cells"] for slide in found["slides"]):
        echo("No slide has abundances; featurize counts cells instead.")
    else:
        echo("No labelled slide.")
    for problem in found["problems"]:
        echo(f"Problem: {problem['slide']}: {problem['message']}", fg="yellow")
    if not found["problems"]:
        echo("No problems found.")
    write_json(json_path, found)


def print_slides(slides: list[dict[str, Any]]) -> None:
    """Print the slides found by `histoboost.slides.inspect` as a table."""
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
    for name in ("group", "um/px"):  # unknown in most data sets
        if not any(columns[name]):
            del columns[name]
    rows = [[cell or "-" for cell in row] for row in zip(*columns.values(), strict=True)]
    print_table(list(columns), rows, wrap=_WRAPS)


def _size(shape: list[int]) -> str:
    height, width, _ = shape
    return f"{width} x {height}"


def _number(value: float | None, digits: str) -> str | None:
    return None if value is None else format(value, digits)


def _range(low_high: list[float] | None) -> str | None:
    return f"{low_high[0]:.3g} to {low_high[1]:.3g}" if low_high else None
