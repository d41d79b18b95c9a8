"""`histoboost completion`."""

from __future__ import annotations

import click

from histoboost.cli.command import Command


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script for SHELL.

    \b
    Example:  histoboost completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None  # click knows the three shells above
    main = ctx.find_root().command
    click.echo(script(main, {}, "histoboost", "_HISTOBOOST_COMPLETE").source())
