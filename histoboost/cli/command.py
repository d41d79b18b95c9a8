"""Shared by all commands: one-line errors and warnings, and `--config`."""

from __future__ import annotations

import json
import signal
import sys
import tomllib
import warnings
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from histoboost.errors import BadInput, HistoboostError

GOES_ON = "finished work is kept; run the same command again to resume"
NOTHING_WRITTEN = "nothing was written; run the same command again"
PARTLY_DONE = "part of the work may be done; run the same command again to complete it"

#: Line printed after Ctrl-C, by command; `NOTHING_WRITTEN` for all others. Where it depends on the
#: options, the command calls `after_interrupt`.
LEFT_BEHIND = {
    "featurize": GOES_ON,
    "finetune": GOES_ON,
    "demo": GOES_ON,
    "import": GOES_ON,
    "relabel": PARTLY_DONE,
    "remove": PARTLY_DONE,
    "gc": PARTLY_DONE,
    "align": "the table was not written; run the same command again",
}
_INTERRUPTED = "histoboost.interrupted"


def after_interrupt(line: str) -> None:
    """Have Ctrl-C end the running command with this line instead of that of `LEFT_BEHIND`."""
    click.get_current_context().meta[_INTERRUPTED] = line


def _read_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Take defaults from a TOML file: command line over file over built-in."""
    if value is None:
        return
    try:
        tables = tomllib.loads(Path(value).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{value}: not valid TOML ({error})") from error
    # A file may serve several commands: `[featurize]` for one of them, bare keys for all.
    bare = {key: item for key, item in tables.items() if not isinstance(item, dict)}
    root = ctx.find_root().command
    commands = dict(_commands(root))
    for table in tables.keys() - bare.keys():
        group = getattr(root, "commands", {}).get(table)
        if isinstance(group, click.Group):
            below = ", ".join(f"[{name}]" for name, _ in sorted(_commands(group)))
            raise BadInput(f"{value}: [{table}] is a group of commands; write {below}")
        if table not in commands:
            raise BadInput(
                f"{value}: [{table}] is not a command{_meant(table, commands)}; choose one of "
                f"{', '.join(sorted(commands))}"
            )
    known = _settable(ctx.command)
    own = tables.get(ctx.info_name or "", {})
    for key in own:
        if _as_flag(key) not in known:
            raise BadInput(
                f"{value}: [{ctx.info_name}] has no option {key!r}{_meant(_as_flag(key), known)}; "
                f"options are {', '.join(sorted(known))}"
            )
    anywhere = {flag for command in commands.values() for flag in _settable(command)}
    for key in bare:
        if _as_flag(key) not in anywhere:
            meant = _meant(_as_flag(key), anywhere) or "; correct its name"
            raise BadInput(f"{value}: no command has an option {key!r}{meant}")
    given = {_as_flag(key): item for key, item in {**bare, **own}.items()}
    lists = {param.name for param in ctx.command.params if getattr(param, "multiple", False)}
    for flag, item in given.items():
        if known.get(flag) in lists and not isinstance(item, list):
            raise BadInput(f"{value}: {flag} must be a list; write {flag} = {_as_list(item)}")
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


def _as_list(item: Any) -> str:
    """One value as a list of TOML; a table as a list of ``NAME=VALUE``."""
    pairs = item.items() if isinstance(item, dict) else ()
    return json.dumps([f"{key}={each}" for key, each in pairs] or [str(item)], ensure_ascii=False)


def _meant(name: str, known: Iterable[str]) -> str:
    """The known name that `name` is most like, as the end of a line; empty where none is."""
    return "".join(f"; did you mean {like}?" for like in get_close_matches(name, known, n=1))


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
                help="TOML file with default values of options.",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; see `click.BaseCommand.parse_args`."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click leaves it out where a value is missing
            raise


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

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the group's own options; see `click.BaseCommand.make_context`."""
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise _in_one_line(error) from error

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command that is named first; a slip is told the command that it is most like."""
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            known = f"; choose one of {', '.join(self.commands)}"
            ctx.fail(f"no such command {name}{_meant(name, self.commands) or known}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; Ctrl-C ends it with one line and the shell's exit code for it."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _in_one_line(error) from error
        except KeyboardInterrupt:
            left = LEFT_BEHIND.get(ctx.invoked_subcommand or "", NOTHING_WRITTEN)
            click.echo(f"\nInterrupted: {ctx.meta.get(_INTERRUPTED, left)}", err=True)
            ctx.exit(128 + signal.SIGINT)


def _in_one_line(error: click.UsageError) -> Exception:
    """What was wrong with a command line, and where its help is; click would print four lines."""
    # click 8.1 has no such error: it prints the help and exits.
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        return error  # a group without a command: its help is what was asked for
    line = _usage_line(error).rstrip(".")
    return BadInput(line + (f" ({error.ctx.command_path} --help)" if error.ctx else ""))


def _usage_line(error: click.UsageError) -> str:
    command = error.ctx.command if error.ctx else click.Command(None)
    if isinstance(error, click.NoSuchOption) and error.ctx:
        known = [flag for param in command.get_params(error.ctx) for flag in param.opts]
        return f"no such option {error.option_name}{_meant(error.option_name, known)}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        choices = ", ".join(_choices(error.param))
        missing = f"missing {error.param.param_type_name} {_written(error.param)}"
        return f"{missing}; choose one of {choices}" if choices else missing
    if isinstance(error, click.BadParameter) and error.param is not None:
        given = error.message.split("'")[1] if error.message.startswith("'") else ""
        message = error.message.rstrip(".") + _meant(given, _choices(error.param))
        return f"{_written(error.param)}: {message}"
    message = error.format_message()
    return message[:1].lower() + message[1:]


def _choices(param: click.Parameter) -> list[str]:
    return list(param.type.choices) if isinstance(param.type, click.Choice) else []


def _written(param: click.Parameter) -> str:
    """A parameter as one writes it: its longest flag, or an argument's name in capitals."""
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    return param.metavar or (param.name or "").upper()


def _print_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


def _os_error_line(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _fail(line: str) -> None:
    click.echo(f"Error: {' '.join(line.split())}", err=True)
    sys.exit(2)
