"""`histoboost show`."""

from __future__ import annotations

import json

import click

from histoboost.cli.command import Command
from histoboost.cli.console import echo, echo_fact, print_table
from histoboost.cli.json_output import json_option, write_json
from histoboost.cli.scores import brief, brief_importances
from histoboost.names import some


@click.command(cls=Command)
@click.argument("model", type=click.Path())
@json_option()
def show(model: str, json_path: str | None) -> None:
    """Show what MODEL predicts, what it was trained on, and how to use it.

    \b
    Example:  histoboost show model
    """
    from histoboost.report.describe import describe_model

    found = describe_model(model)
    types, slides, scores = found["cell_types"], found["training_slides"], found["scores"]
    for name, value in (
        ("model", f"{found['model']}, target {found['target']}"),
        ("features", brief(found["features"])),
        ("settings", ", ".join(f"{key} {value}" for key, value in found["settings"].items())),
        (f"{len(types)} cell types", some(types)),
        (f"{len(slides)} training slides", some(slides)),
        ("units", ", ".join(found["units"])),
        ("um per px", _length(found["um_per_px"])),
        ("spot pitch", f"{_length(found['pitch_px'], ' px')}, {_length(found['pitch_um'], ' um')}"),
        ("novelty", "estimated" if found["novelty"] else "not estimated"),
        (
            "mounting",
            "orientation recognised by map and by featurize --mounted-like"
            if found["mounting"]
            else "orientation not recognised; slides are used as they are",
        ),
        ("intervals", "yes" if found["intervals"] else "no (train --intervals)"),
        (
            "scores",
            f"per-spot {scores['spot_spearman']:.3f}, per-type {scores['type_spearman']:.3f} "
            "(Spearman, held-out slides)"
            if scores
            else "not stored; run histoboost evaluate",
        ),
    ):
        echo_fact(name, value)
    for line in brief_importances(found["importances"]):
        echo_fact("relies on", line.strip())
    if found["recipes"]:
        echo()
        rows = [
            [name, ", ".join(f"{key} {_plain(value)}" for key, value in fields.items())]
            for name, fields in found["recipes"].items()
        ]
        print_table(["embedding", "recipe"], rows, wrap={"embedding": 12, "recipe": 20})
    echo()
    for command in found["use"]:
        echo(f"To predict:  {command}")
    write_json(json_path, found)


def _length(value: float | None, unit: str = "") -> str:
    return "unknown" if value is None else f"{value:.4g}{unit}"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
