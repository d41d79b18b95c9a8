"""`histoboost demo`."""

from __future__ import annotations

import click

from histoboost.cli.command import RESUMES, Command
from histoboost.cli.console import echo


@click.command(cls=Command, interrupted=RESUMES)
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    default="histoboost-demo",
    show_default=True,
    metavar="DIR",
    help="Folder to write to.",
)
@click.option(
    "--backbone",
    default="stain-texture",
    show_default=True,
    metavar="NAME",
    help="Backbone, see `histoboost backbones`; the default needs no weights.",
)
@click.option(
    "--weights",
    default="pretrained",
    show_default=True,
    metavar="pretrained|PATH",
    help="Weights of the backbone, if it needs any.",
)
@click.option(
    "--spots",
    type=click.IntRange(min=20),
    default=250,
    show_default=True,
    metavar="N",
    help="Approximate number of spots per slide.",
)
def demo(out: str, backbone: str, weights: str, spots: int) -> None:
    """Run the full pipeline on synthetic slides: no download, about a minute.

    Writes synthetic slides, embeds them, cross-validates, trains, predicts the unlabelled slide,
    writes a report, maps a plain slide and prints scores beside those of constant profiles.

    \b
    Example:  histoboost demo
              histoboost demo --backbone mobilenet_v2 --weights mobilenet_v2.pth
    """
    from histoboost.demo import run

    run(out, backbone=backbone, weights=weights, spots=spots, say=echo)
