"""`histoboost explore` and `histoboost report`."""

from __future__ import annotations

import click

from histoboost.cli.command import Command, jobs_option


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


@click.command(cls=Command)
@click.argument("store", type=click.Path())
@click.argument("model", type=click.Path())
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="The page: one HTML file that works offline.",
)
@jobs_option()
def report(store: str, model: str, output: str, jobs: int | None) -> None:
    """Show what MODEL can do on the slides of STORE, and where it fails.

    The slides that the model was trained on are held out in turn, and predicted by models that
    were trained on the others with the same settings.

    \b
    Example:  histoboost report store.zarr model -o report.html
    """
    from histoboost.report.model_report import report as write

    size = write(store, model, output, jobs=jobs)
    click.echo(f"{output}: {size / 1e6:.1f} MB, open it in a browser")
