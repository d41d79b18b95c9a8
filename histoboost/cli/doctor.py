"""`histoboost doctor`."""

from __future__ import annotations

import click

from histoboost.cli.command import Command


@click.command(cls=Command)
def doctor() -> None:
    """Show versions, devices, cores, cached weights and missing extras.

    \b
    Example:  histoboost doctor
    """
    from histoboost.doctor import examine

    section = None
    for finding in examine():
        if finding.section != section:
            section = finding.section
            click.secho(section, bold=True)
        click.echo(f"  {finding.name:<30}{finding.value}")
        if finding.remedy:
            click.secho(f"  {'':<30}{finding.remedy}", fg="yellow")
