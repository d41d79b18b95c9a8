"""What every command shares: errors in one line, warnings in one line, and `--config`."""

from __future__ import annotations

import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import click

from histoboost.errors import HistoboostError


def _read_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Take defaults from a TOML file: command line over file over built-in."""
    if value is None:
        return
    try:
        table = tomllib.loads(Path(value).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise HistoboostError(f"{value}: not valid TOML ({error})") from error
    # A file may serve several commands: `[featurize]` for one of them, bare keys for all.
    own = table.get(ctx.info_name or "", {})
    bare = {key: item for key, item in table.items() if not isinstance(item, dict)}
    known = {p.name: p for p in ctx.command.params if p.name}
    unknown = sorted(key for key in own if key.replace("-", "_") not in known)
    if unknown:
        options = ", ".join(sorted(name.replace("_", "-") for name in known if name != "config"))
        raise HistoboostError(
            f"{value}: [{ctx.info_name}] has no option {unknown[0]!r}; it takes {options}"
        )
    defaults = {key.replace("-", "_"): item for key, item in {**bare, **own}.items()}
    ctx.default_map = {
        **(ctx.default_map or {}),
        **{key: item for key, item in defaults.items() if key in known},
    }


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


def _print_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


def _os_error_line(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _fail(line: str) -> None:
    click.echo(f"Error: {' '.join(line.split())}", err=True)
    sys.exit(2)
