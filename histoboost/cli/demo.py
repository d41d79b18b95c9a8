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
    metavar="DIR",
    help="Folder to write to.",
)
@click.option(
    "--backbone",
    default="stain-texture",
    metavar="NAME",
    help="Backbone, see `histoboost backbones`; the default has no weights.",
)
@click.option(
    "--weights",
    default="pretrained",
    metavar="pretrained|PATH",
    help="Weights of the backbone, if it has any.",
)
@click.option(
    "--spots",
    type=click.IntRange(min=20),
    default=250,
    metavar="N",
    help="Approximate number of spots per slide.",
)
def demo(out: str, backbone: str, weights: str, spots: int) -> None:
    """Run the whole pipeline on synthetic slides: no download, about a minute.

    Simulates slides, embeds them, cross-validates, trains, predicts the unlabelled slide, writes a
    report, maps a slide without spots, and prints scores next to those of constant profiles.

    \b
    Example:  histoboost demo
              histoboost demo --backbone mobilenet_v2 --weights mobilenet_v2.pth
    """
    from histoboost.demo import run

    run(out, backbone=backbone, weights=weights, spots=spots, say=echo)
