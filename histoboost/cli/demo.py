"""`histoboost demo`."""

from __future__ import annotations

import click

from histoboost.cli.command import Command


@click.command(cls=Command)
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    default="histoboost-demo",
    show_default=True,
    metavar="DIR",
    help="Where everything is written.",
)
@click.option(
    "--backbone",
    default="stain-texture",
    show_default=True,
    metavar="NAME",
    help="A name that `histoboost backbones` lists; the default needs no weights.",
)
@click.option(
    "--weights",
    default="pretrained",
    show_default=True,
    metavar="pretrained|PATH",
    help="Weights of the backbone; the default backbone has none.",
)
@click.option(
    "--spots",
    type=click.IntRange(min=20),
    default=250,
    show_default=True,
    metavar="N",
    help="Spots per slide, about.",
)
def demo(out: str, backbone: str, weights: str, spots: int) -> None:
    """Run the main job on made-up slides: no download, about a minute.

    Writes phantom slides, embeds them, cross-validates, trains, predicts the slide without labels,
    writes a report and ends with scores beside those of a constant guess.

    \b
    Example:  histoboost demo
              histoboost demo --backbone mobilenet_v2 --weights mobilenet_v2.pth
    """
    from histoboost.demo import run

    run(out, backbone=backbone, weights=weights, spots=spots, say=click.echo)
