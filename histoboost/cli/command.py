"""What every command shares: errors in one line, warnings in one line, and `--config`."""

from __future__ import annotations

import signal
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from histoboost.errors import HistoboostError


def _read_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Take defaults from a TOML file: command line over file over built-in."""
    if value is None:
        return
    try:
        tables = tomllib.loads(Path(value).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise HistoboostError(f"{value}: not valid TOML ({error})") from error
    # A file may serve several commands: `[featurize]` for one of them, bare keys for all.
    bare = {key: item for key, item in tables.items() if not isinstance(item, dict)}
    commands = dict(_commands(ctx.find_root().command))
    for table in tables.keys() - bare.keys():
        if table not in commands:
            raise HistoboostError(
                f"{value}: [{table}] is no command; there are {', '.join(sorted(commands))}"
            )
    known = _settable(ctx.command)
    own = tables.get(ctx.info_name or "", {})
    for key in own:
        if _as_flag(key) not in known:
            raise HistoboostError(
                f"{value}: [{ctx.info_name}] has no option {key!r}; it takes "
                f"{', '.join(sorted(known))}"
            )
    anywhere = {flag for command in commands.values() for flag in _settable(command)}
    for key in bare:
        if _as_flag(key) not in anywhere:
            raise HistoboostError(f"{value}: no command has an option {key!r}; correct its name")
    given = {_as_flag(key): item for key, item in {**bare, **own}.items()}
    defaults = {known[flag]: item for flag, item in given.items() if flag in known}
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _commands(group: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Every command below `group` that does something itself, by its own name."""
    for name, command in getattr(group, "commands", {}).items():
        if isinstance(command, click.Group):
            yield from _commands(command)
        else:
            yield name, command


def _settable(command: click.Command) -> dict[str, str]:
    """What a file may set: an option as it is written, without its dashes, to its parameter."""
    found = {}
    for parameter in command.params:
        flags = [flag[2:] for flag in parameter.opts if flag.startswith("--")]
        for flag in flags or [parameter.name or ""]:
            found[_as_flag(flag)] = parameter.name or ""
    found.pop("config", None)
    return found


def _as_flag(key: str) -> str:
    return key.replace("_", "-")


class Command(click.Command):
    """A command that takes `--config FILE.toml`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--config"],
                type=click.Path(exists=True, dir_okay=False),
                is_eager=True,
                expose_value=False,
                callback=_read_config,
                help="TOML file with defaults for the options of this command.",
            )
        )


class Group(click.Group):
    """A group whose commands end bad input with one line on stderr and exit code 2."""

    command_class = Command
    group_class = type

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; see `click.BaseCommand.main`."""
        warnings.showwarning = _print_warning
        try:
            return super().main(*args, **kwargs)
        except HistoboostError as error:
            _fail(str(error))
        except OSError as error:
            _fail(_os_error_line(error))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; Ctrl-C ends it with one line and the shell's exit code for it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(
                "\nInterrupted: what was complete is kept; run the same command again to go on",
                err=True,
            )
            ctx.exit(128 + signal.SIGINT)


def _print_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


def _os_error_line(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _fail(line: str) -> None:
    click.echo(f"Error: {' '.join(line.split())}", err=True)
    sys.exit(2)
