"""`histoboost backbones`."""

from __future__ import annotations

import click

from histoboost.cli.command import Command


@click.command(cls=Command)
def backbones() -> None:
    """List the backbones that `featurize` knows, and the pathology models it can fetch.

    \b
    Example:  histoboost backbones
    """
    from histoboost.featurize.backbones.base import describe_backbones
    from histoboost.featurize.backbones.pathology import MODELS

    for name, line in describe_backbones().items():
        click.echo(f"{name:<24}{line}")
    click.echo(
        f"{'timm:<name>':<24}Any network of timm, with its own input size and normalisation."
    )
    click.echo(f"{'hf-hub:<repository>':<24}Any network of timm's kind on huggingface.co.")
    click.echo(f"{'<module>:<function>':<24}Your own: the function returns an Architecture.")
    click.echo("\nPathology foundation models (fetched only when asked for, mind the licence):")
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
