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
    dask_client,
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
    help="Backbone, see `histoboost backbones`; none stores only spots and abundances.",
)
@click.option(
    "--patch",
    type=CommaList(),
    default=(),
    show_default=False,
    metavar="SIDE[,SIDE...]",
    help="Side lengths of the patches in pixels or micrometres, such as 64,128 or 55um,110um.",
)
@click.option(
    "--layers",
    default="deep",
    metavar="default|deep|NAME,...",
    help="default: the last layer; deep: also earlier layers, each as a separate embedding from "
    "the same forward pass; or names of layers, such as features.13:mean,features.3:std.",
)
@click.option(
    "--weights",
    default="pretrained",
    metavar="pretrained|random|PATH",
    help="Weights of the backbone; random is for tests.",
)
@groups_option
@alignment_option
@click.option(
    "--stain",
    default="none",
    metavar="none|macenko|reinhard",
    help="Stain normalisation of each slide.",
)
@click.option(
    "--views",
    type=int,
    default=1,
    metavar="1|8",
    help="Average over this many views of each patch; 8: all flips and rotations by 90 degrees.",
)
@click.option(
    "--turned",
    metavar="90|180|270|mirrored|...",
    help="Rotate all slides counterclockwise first, or mirror them, or both (90-mirrored); use a "
    "separate STORE, for evaluate --turned.",
)
@click.option(
    "--mounted-like",
    metavar="MODEL",
    type=click.Path(),
    help="Rotate the patches of slides mounted in another orientation than the training slides of "
    "MODEL.",
)
@device_option
@click.option(
    "--precision",
    default="fp32",
    metavar="fp32|bf16",
    help="Precision of the network; bf16 is faster on a GPU, but gives a different embedding.",
)
@click.option(
    "--engine",
    default="auto",
    metavar="auto|torch|openvino",
    help="Inference engine; auto uses OpenVINO on a CPU if installed, with the same results.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), metavar="N", help="Patches per forward pass."
)
@in_order(lattice_options)
@click.option("--name", metavar="NAME", help="Name of the embedding; <backbone>@<side> by default.")
@click.option(
    "--check-sources",
    is_flag=True,
    help="Read every image again, even if its path, size and modification time are unchanged.",
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
    """Embed the patch around each spot in DATA and save the embeddings in STORE.

    Images without spots, one or a folder of them, get a lattice of spots on tissue, see --pitch.

    Run the same command again to resume; what is in STORE is not computed again.

    \b
    Example:  histoboost featurize slides.h5 store.zarr --backbone resnet50 --patch 64,128
              histoboost featurize sample/outs store.zarr --backbone resnet50 --patch 55um,110um
              histoboost featurize a.svs store.zarr --backbone resnet50 --patch 55um --pitch 100um
    """
    from histoboost.cache.store import EmbeddingStore
    from histoboost.featurize import featurize as embed
    from histoboost.slides.readers import open_dataset

    # Workers of a cluster have a different working directory.
    dataset = open_dataset(Path(data).absolute() if scheduler else data, format)
    mount = None
    if mounted_like is not None:
        from histoboost.featurize.like_model import as_trained
        from histoboost.mounting import Mounting
        from histoboost.regress.model import CompositionRegressor

        model = CompositionRegressor.load(mounted_like)
        if not model.guard_.knows_mounting(model.setup_):
            raise BadInput(
                f"--mounted-like: {mounted_like} cannot recognise the orientation of a slide (it "
                "uses coords, or has no statistics of its training spots); omit it"
            )
        todo = as_trained(model.recipes_, [options["weights"]], store, dataset.names)
        mount = Mounting(model, todo, EmbeddingStore(store), options["device"])
    with dask_client(scheduler) as client:
        done = embed(dataset, store, patch=patch, client=client, mount=mount, **options)
    if mount is not None:
        mount.remember()
    echo(str(done))
