"""`histoboost report`."""

from __future__ import annotations

import click

from histoboost.cli.command import Command
from histoboost.cli.console import echo
from histoboost.cli.options import jobs_option, page_option


@click.command(cls=Command)
@click.argument("store", type=click.Path())
@click.argument("model", type=click.Path())
@page_option("report.html")
@jobs_option
def report(store: str, model: str, output: str, jobs: int | None) -> None:
    """Write a web page of the scores, maps and failures of MODEL on the slides in STORE.

    Each training slide is held out in turn and predicted by a model trained on the others with the
    same settings.

    \b
    Example:  histoboost report store.zarr model -o report.html
    """
    from histoboost.report.model_report import report as write

    page = write(store, model, output, jobs=jobs)
    echo(f"Wrote {page}, {page.stat().st_size / 1e6:.1f} MB; open it in a browser.")
