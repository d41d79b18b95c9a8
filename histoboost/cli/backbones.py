"""`histoboost backbones`."""

from __future__ import annotations

import click

from histoboost.cli.command import Command
from histoboost.cli.console import echo, print_table
from histoboost.errors import require

MORE = {
    "timm:<name>": "Any timm network, with its own input size and normalisation.",
    "hf-hub:<repository>": "Any timm network on huggingface.co.",
    "<module>:<function>": "Your own function that returns an Architecture.",
}


@click.command(cls=Command)
def backbones() -> None:
    """List the backbones of `featurize`, and the pathology models it can download.

    \b
    Example:  histoboost backbones
    """
    require("backbones", "torch", "torch")
    from histoboost.featurize.backbones.factory import describe_backbones
    from histoboost.featurize.backbones.pathology import MODELS

    for name, line in {**describe_backbones(), **MORE}.items():
        echo(f"{name:<24}{line}")
    echo()
    echo("Pathology foundation models (downloaded only on request; read the licence):")
    rows = [
        [
            model.title,
            model.backbone,
            model.licence,
            str(model.input_px),
            str(model.width),
            f"{model.um_per_px:g} (20x)",
            "gated: accept the licence first" if model.gated else "open",
        ]
        for model in MODELS
    ]
    print_table(
        ["model", "--backbone", "licence", "input", "width", "um per px", "access"],
        rows,
        wrap={"licence": 12, "access": 12},
    )
