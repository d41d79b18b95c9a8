"""`histoboost featurize`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from histoboost.cli.command import RESUMES, Command
from histoboost.cli.console import echo
from histoboost.cli.options import (
    CommaList,
    alignment_option,
    client_of,
    device_option,
    format_option,
    groups_option,
    in_order,
    lattice_options,
    scheduler_option,
)
from histoboost.errors import BadInput


@click.command(cls=Command, interrupted=RESUMES)
@click.argument("data", type=click.Path())
@click.argument("store", type=click.Path())
@click.option(
    "--backbone",
    required=True,
    metavar="NAME",
    help="Backbone, see `histoboost backbones`; none stores spots and abundances only.",
)
@click.option(
    "--patch",
    type=CommaList(),
    default=(),
    metavar="SIDE[,SIDE...]",
    help="Sides of the patches, in pixels or micrometres: 64,128 or 55um,110um.",
)
@click.option(
    "--layers",
    default="deep",
    show_default=True,
    metavar="default|deep|NAME,...",
    help="default: the last layer; deep: earlier layers too, from the same pass, each an embedding "
    "of its own; or layers by name, as in features.13:mean,features.3:std.",
)
@click.option(
    "--weights",
    default="pretrained",
    show_default=True,
    metavar="pretrained|random|PATH",
    help="Weights of the backbone; random is for tests.",
)
@groups_option
@alignment_option
@click.option(
    "--stain",
    default="none",
    show_default=True,
    metavar="none|macenko|reinhard",
    help="Stain normalisation, per slide.",
)
@click.option(
    "--views",
    type=int,
    default=1,
    show_default=True,
    metavar="1|8",
    help="8 averages over flips and rotations by 90 degrees of each patch.",
)
@click.option(
    "--turned",
    metavar="90|180|270|mirrored|...",
    help="Turn all slides first, against the clock; 90-mirrored also mirrors them. Into a store of "
    "its own, for evaluate --turned.",
)
@click.option(
    "--mounted-like",
    metavar="MODEL",
    type=click.Path(),
    help="Turn the patches of slides that lie otherwise than the training slides of MODEL.",
)
@device_option
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    metavar="fp32|bf16",
    help="Precision of the network; bf16 is faster on a GPU and gives a different embedding.",
)
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    metavar="auto|torch|openvino",
    help="Inference engine; auto uses OpenVINO on a CPU if installed, with the same result.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), metavar="N", help="Patches per forward pass."
)
@in_order(lattice_options)
@click.option("--name", metavar="NAME", help="Name of the embedding instead of <backbone>@<side>.")
@click.option(
    "--check-sources",
    is_flag=True,
    help="Read every image again, also those that are as they were by path, size and time.",
)
@format_option
@scheduler_option
def featurize(
    data: str,
    store: str,
    format: str | None,
    patch: list[str],
    scheduler: str | None,
    mounted_like: str | None,
    **options: Any,
) -> None:
    """Embed patches around every spot of DATA into STORE.

    Plain images, one or a folder of them, get spots on their tissue: see --pitch.

    An interrupted run resumes; a second run computes and reads nothing.

    \b
    Example:  histoboost featurize slides.h5 store.zarr --backbone resnet50 --patch 64,128
              histoboost featurize sample/outs store.zarr --backbone resnet50 --patch 55um,110um
              histoboost featurize a.svs store.zarr --backbone resnet50 --patch 55um --pitch 100um
    """
    from histoboost.cache.store import EmbeddingStore
    from histoboost.featurize import featurize as embed
    from histoboost.slides.readers import open_dataset

    # Workers of a cluster have another working directory.
    dataset = open_dataset(Path(data).absolute() if scheduler else data, format)
    mount = None
    if mounted_like is not None:
        from histoboost.featurize.like_model import as_trained
        from histoboost.mounting import Mounting
        from histoboost.regress.model import CompositionRegressor

        model = CompositionRegressor.load(mounted_like)
        if not model.guard_.knows_mounting(model.setup_):
            raise BadInput(
                f"--mounted-like: {mounted_like} cannot tell how a slide lies (it looks at coords, "
                "or knows nothing of its training spots); omit it"
            )
        todo = as_trained(model.recipes_, [options["weights"]], store, dataset.names)
        mount = Mounting(model, todo, EmbeddingStore(store), options["device"])
    with client_of(scheduler) as client:
        done = embed(dataset, store, patch=patch, client=client, mount=mount, **options)
    if mount is not None:
        mount.remember()
    echo(str(done))
