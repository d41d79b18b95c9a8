"""`histoboost completion`."""

from __future__ import annotations

import click

from histoboost.cli.command import Command


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script for SHELL.

    \b
    Example:  histoboost completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    from histoboost.cli import main

    script = get_completion_class(shell)
    assert script is not None  # click knows the three shells above
    click.echo(script(main, {}, "histoboost", "_HISTOBOOST_COMPLETE").source())
