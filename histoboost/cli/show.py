"""`histoboost show`."""

from __future__ import annotations

import json
from typing import Any

import click

from histoboost.cli.command import Command
from histoboost.cli.console import echo, echo_fact, print_table
from histoboost.cli.json_output import json_option, write_json
from histoboost.cli.scores import brief, brief_importances
from histoboost.names import some

#: What `show` tells of a fine-tuned model instead of the facts that it does not store.
_FINE_TUNED = [
    ("intervals", "not available for fine-tuned models"),
    ("scores", "not stored; run histoboost finetune with --cross-validate"),
]


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
    types, slides = found["cell_types"], found["training_slides"]
    settings = [f"{key} {_setting(value)}" for key, value in found["settings"].items()]
    facts = [
        ("model", f"{found['model']}, target {found['target']}"),
        ("features", brief(found["features"])),
        ("settings", ", ".join(settings)),
        (f"{len(types)} cell types", some(types)),
        (f"{len(slides)} training slides", some(slides)),
        ("units", ", ".join(found["units"])),
    ]
    facts += _FINE_TUNED if found["model"] == "end-to-end" else _of_a_regressor(found)
    for name, value in facts:
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


def _of_a_regressor(found: dict[str, Any]) -> list[tuple[str, str]]:
    """What a model of `train` tells and a fine-tuned model does not."""
    scores = found["scores"]
    return [
        ("um per px", _length(found["um_per_px"])),
        ("spot pitch", _pitch(found["pitch_px"], found["pitch_um"])),
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
    ]


def _setting(value: object) -> str:
    """Write a setting as on the command line."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    return "default" if value is None else str(value)


def _pitch(px: float | None, um: float | None) -> str:
    if px is None and um is None:
        return "unknown"
    return f"{_length(px, ' px')}, {_length(um, ' um')}"


def _length(value: float | None, unit: str = "") -> str:
    return "unknown" if value is None else f"{value:.4g}{unit}"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
