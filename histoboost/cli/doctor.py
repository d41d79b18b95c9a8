"""`histoboost doctor`."""

from __future__ import annotations

import click

from histoboost.cli.command import Command
from histoboost.cli.console import echo


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
            echo(section, bold=True)
        echo(f"  {finding.name:<30}{finding.value}")
        if finding.remedy:
            echo(f"  {'':<30}{finding.remedy}", fg="yellow")
