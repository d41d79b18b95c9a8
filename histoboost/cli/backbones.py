"""`histoboost backbones`."""

from __future__ import annotations

import click

from histoboost.cli.command import Command
from histoboost.errors import require


@click.command(cls=Command)
def backbones() -> None:
    """List the backbones of `featurize`, and the pathology models it can download.

    \b
    Example:  histoboost backbones
    """
    require("backbones", "torch", "torch")
    from histoboost.featurize.backbones.base import describe_backbones
    from histoboost.featurize.backbones.pathology import MODELS

    for name, line in describe_backbones().items():
        click.echo(f"{name:<24}{line}")
    click.echo(f"{'timm:<name>':<24}Any timm network, with its own input size and normalisation.")
    click.echo(f"{'hf-hub:<repository>':<24}Any timm network on huggingface.co.")
    click.echo(f"{'<module>:<function>':<24}Your own function that returns an Architecture.")
    click.echo("\nPathology foundation models (downloaded only on request; read the licence):")
    row = "{:<12}  {:<51}  {:<20}  {:>5}  {:>5}  {:>9}  {}"
    click.echo(
        row.format("model", "--backbone", "licence", "input", "width", "um per px", "access")
    )
    for model in MODELS:
        access = "gated: accept the licence first" if model.gated else "open"
        click.echo(
            row.format(
                model.title,
                model.backbone,
                model.licence,
                model.input_px,
                model.width,
                f"{model.um_per_px:g} (20x)",
                access,
            )
        )
