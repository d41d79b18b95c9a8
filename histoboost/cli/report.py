"""`histoboost explore` and `histoboost report`."""

from __future__ import annotations

import click

from histoboost.cli.command import Command


@click.command(cls=Command)
@click.argument("data", type=click.Path())
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    default="explore.html",
    show_default=True,
    metavar="FILE",
    help="The page: one HTML file that works offline.",
)
def explore(data: str, output: str) -> None:
    """Show slides, cell types and embeddings of DATA on one page.

    DATA is anything that featurize reads, or an embedding store.

    \b
    Example:  histoboost explore slides.h5 -o explore.html
              histoboost explore store.zarr -o embeddings.html
    """
    from histoboost.report.explore import explore as write

    size = write(data, output)
    click.echo(f"{output}: {size / 1e6:.1f} MB, open it in a browser")
