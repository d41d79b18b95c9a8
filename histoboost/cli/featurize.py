"""`histoboost featurize`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from histoboost.cli.command import Command
from histoboost.cli.options import (
    CommaList,
    alignment_option,
    client_of,
    device_option,
    format_option,
    groups_option,
    scheduler_option,
)


@click.command(cls=Command)
@click.argument("data", type=click.Path())
@click.argument("store", type=click.Path())
@click.option(
    "--backbone",
    required=True,
    metavar="NAME",
    help="A name that `histoboost backbones` lists; none stores spots and abundances only.",
)
@click.option(
    "--patch",
    type=CommaList(),
    default=(),
    metavar="SIDE[,SIDE...]",
    help="Sides of the patches in pixels, or in micrometres: 64,128 or 55um,110um.",
)
@click.option(
    "--weights",
    default="pretrained",
    show_default=True,
    metavar="pretrained|random|PATH",
    help="Where the weights come from; random is for tests.",
)
@groups_option()
@alignment_option()
@click.option(
    "--stain",
    default="none",
    show_default=True,
    metavar="none|macenko|reinhard",
    help="Normalise the stains of each slide.",
)
@click.option(
    "--views",
    type=int,
    default=1,
    show_default=True,
    metavar="1|8",
    help="8: mean over the flips and quarter turns of each patch.",
)
@device_option()
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    metavar="fp32|bf16",
    help="bf16 is faster on a GPU, and another embedding.",
)
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    metavar="auto|torch|openvino",
    help="auto takes OpenVINO on a CPU where it is installed; same result.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), metavar="N", help="Patches per forward pass."
)
@click.option("--name", metavar="NAME", help="Instead of <backbone>@<side>.")
@format_option()
@scheduler_option()
def featurize(
    data: str,
    store: str,
    format: str | None,
    patch: list[str],
    scheduler: str | None,
    **options: Any,
) -> None:
    """Embed patches around every spot of DATA, once, into STORE.

    A run that was interrupted goes on where it stopped; a second run computes nothing.

    \b
    Example:  histoboost featurize slides.h5 store.zarr --backbone resnet50 --patch 64,128
              histoboost featurize sample/outs store.zarr --backbone resnet50 --patch 55um,110um
    """
    from histoboost.featurize.embed import featurize as embed
    from histoboost.slides.readers import open_dataset

    # Workers of a cluster have another working directory.
    dataset = open_dataset(Path(data).absolute() if scheduler else data, format)
    with client_of(scheduler) as client:
        done = embed(dataset, store, patch=patch, client=client, **options)
    click.echo(str(done))
