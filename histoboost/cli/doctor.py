"""`histoboost doctor` and `histoboost completion`."""

from __future__ import annotations

import click

from histoboost.cli.command import Command


@click.command(cls=Command)
def doctor() -> None:
    """Show versions, devices, threads, the weights cache, and what is missing.

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


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands and options in SHELL.

    \b
    Example:  histoboost completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    from histoboost.cli import main

    script = get_completion_class(shell)
    assert script is not None  # click knows the three shells above
    click.echo(script(main, {}, "histoboost", "_HISTOBOOST_COMPLETE").source())
