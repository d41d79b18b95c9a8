"""`histoboost inspect`, `histoboost featurize` and `histoboost backbones`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from histoboost.cli.command import (
    CommaList,
    Command,
    client_of,
    format_option,
    json_option,
    scheduler_option,
    write_json,
)


@click.command(cls=Command)
@click.argument("data", type=click.Path())
@format_option()
@json_option()
def inspect(data: str, format: str | None, json_path: str | None) -> None:
    """Show the slides, spots and cell types in DATA, and what is wrong with them.

    \b
    Example:  histoboost inspect slides.h5
    """
    from histoboost.featurize.inspect import inspect as inspect_dataset
    from histoboost.featurize.readers import open_dataset

    found = inspect_dataset(open_dataset(data, format))
    write_json(json_path, found)
    _print_slides(found["slides"])
    types = found["cell_types"]
    click.echo(f"{len(types)} cell types: {', '.join(types)}" if types else "No labelled slide.")
    for problem in found["problems"]:
        click.secho(f"Problem: {problem['slide']}: {problem['message']}", fg="yellow")
    if not found["problems"]:
        click.echo("No problems found.")


def _print_slides(slides: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("slide", "split", "spots", "labelled", "image", "type", "pitch px", "abundance")
    for slide in slides:
        height, width, _ = slide["image_shape"]
        low_high = slide["abundance_range"]
        table.add_row(
            slide["slide"],
            slide["split"] or "-",
            f"{slide['spots']:,}",
            "yes" if slide["labelled"] else "no",
            f"{width:,} x {height:,}",
            slide["image_dtype"],
            "-" if slide["pitch_px"] is None else f"{slide['pitch_px']:.2f}",
            f"{low_high[0]:.3g} to {low_high[1]:.3g}" if low_high else "-",
        )
    # Off a terminal rich assumes 80 columns and would break the lines.
    Console(width=None if sys.stdout.isatty() else 120).print(table)


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
@click.option(
    "--groups",
    type=click.Path(),
    metavar="FILE.csv",
    help="Columns slide and group: slides of one patient are held out together.",
)
@click.option(
    "--alignment",
    default="none",
    show_default=True,
    metavar="none|auto|FILE.csv",
    help="Move the spots: as the image says, or as a table of `histoboost align` says.",
)
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
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:N",
    help="Where the backbone runs; auto takes the GPUs where there are some.",
)
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
    from histoboost.featurize.readers import open_dataset

    # Workers of a cluster have another working directory.
    dataset = open_dataset(Path(data).absolute() if scheduler else data, format)
    with client_of(scheduler) as client:
        done = embed(dataset, store, patch=patch, client=client, **options)
    click.echo(str(done))


@click.command(cls=Command)
def backbones() -> None:
    """List the backbones that `featurize` knows, and the pathology models it can fetch.

    \b
    Example:  histoboost backbones
    """
    from histoboost.featurize.backbones import describe_backbones
    from histoboost.featurize.foundation import MODELS

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
