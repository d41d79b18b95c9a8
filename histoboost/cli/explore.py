"""`histoboost explore`."""

from __future__ import annotations

import click

from histoboost.cli.command import Command
from histoboost.cli.console import echo
from histoboost.cli.options import format_option, page_option


@click.command(cls=Command)
@click.argument("source", metavar="DATA", type=click.Path())
@page_option("explore.html")
@format_option
def explore(source: str, output: str, format: str | None) -> None:
    """Write an interactive web page of the slides, cell types and embeddings in DATA.

    DATA is anything that featurize reads, or an embedding store.

    \b
    Example:  histoboost explore slides.h5 -o explore.html
              histoboost explore store.zarr -o embeddings.html
    """
    from histoboost.report.explore import explore as write

    page = write(source, output, format)
    echo(f"Wrote {page}, {page.stat().st_size / 1e6:.1f} MB; open it in a browser.")
