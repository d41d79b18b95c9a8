"""What all commands share: one-line errors and warnings, Ctrl-C, and `--config`."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from histoboost.cli.arguments import check_arguments
from histoboost.cli.config import meant, read_config
from histoboost.cli.console import echo
from histoboost.errors import HistoboostError, warn

#: Lines printed after Ctrl-C.
NOTHING_WRITTEN = "nothing was written; run the same command again"
RESUMES = "finished work is kept; run the same command again to resume"
PARTLY_DONE = "part of the work may be done; run the same command again to complete it"
#: Options that take one value or list, but read as if they added up where they are repeated.
ADDED_UP = ("slides", "held_out", "output")
#: Exit code of the shell for a process that Ctrl-C ended.
INTERRUPTED = 128 + signal.SIGINT


class Command(click.Command):
    """A command that takes `--config FILE.toml` and says what Ctrl-C leaves behind.

    Where that depends on the options, `interrupted` is a function of their values.
    """

    def __init__(
        self,
        *args: Any,
        interrupted: str | Callable[[Mapping[str, Any]], str] = NOTHING_WRITTEN,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.interrupted = interrupted
        self.params.append(
            click.Option(
                ["--config"],
                type=click.Path(exists=True, dir_okay=False),
                is_eager=True,
                expose_value=False,
                callback=read_config,
                help="TOML file with default values of options.",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; see `click.BaseCommand.parse_args`."""
        try:
            self._name_repeated(ctx, args)
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click leaves it out where a value is missing
            raise

    def _name_repeated(self, ctx: click.Context, args: list[str]) -> None:
        """Of an option that takes one value, click would keep the last without a word."""
        *_, given = self.make_parser(ctx).parse_args(list(args))
        for param, times in Counter(given).items():
            if isinstance(param, click.Option) and times > 1:
                if param.name in ADDED_UP:
                    twice = f"{_written(param)} is given {times} times; give it once"
                    raise click.UsageError(twice, ctx)
                if not (param.multiple or param.is_flag):
                    warn(f"{_written(param)} is given {times} times; the last one counts")

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it with one line and the shell's exit code for it."""
        check_arguments(ctx)
        left = self.interrupted
        line = f"Interrupted: {left if isinstance(left, str) else left(ctx.params)}"
        try:
            with _ending_workers(line):
                return super().invoke(ctx)
        except KeyboardInterrupt:
            _say_interrupted(line)
            ctx.exit(INTERRUPTED)


@contextmanager
def _ending_workers(line: str) -> Iterator[None]:
    """Have Ctrl-C end the worker processes with this one, and a second one not wait for anything.

    A pool waits for the tasks of its workers before it lets an interrupt through; every output is
    written in one step, so that a process may end at any moment.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, give_up)
        for child in multiprocessing.active_children():
            child.kill()
        raise KeyboardInterrupt

    def give_up(*_: object) -> None:
        _say_interrupted(line)
        os._exit(INTERRUPTED)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, before)


def _say_interrupted(line: str) -> None:
    echo(err=True)
    echo(line, err=True)


class Group(click.Group):
    """A group whose commands end bad input with one line on stderr and exit code 2."""

    command_class = Command
    group_class = type

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; see `click.BaseCommand.main`."""
        warnings.showwarning = _print_warning
        _make_streams_safe()
        try:
            sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}))
        except click.UsageError as error:
            # A group without a command: its help is what was asked for. click 8.1 has no such
            # error: it prints the help and exits.
            if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
                error.show()
                sys.exit(error.exit_code)
            help = f" ({error.ctx.command_path} --help)" if error.ctx else ""
            _fail(_usage_line(error).rstrip(".") + help)
        except click.Abort:
            sys.exit(INTERRUPTED)
        except HistoboostError as error:
            _fail(str(error))
        except OSError as error:
            _fail(_os_error_line(error))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command that is named first; a slip is told the command that it is most like."""
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            known = f"; choose one of {', '.join(self.commands)}"
            ctx.fail(f"no such command {name}{meant(name, self.commands) or known}")
        return super().resolve_command(ctx, args)


def _make_streams_safe() -> None:
    """Have stdout and stderr take every line, closed or not, in whatever encoding."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _usage_line(error: click.UsageError) -> str:
    """What was wrong with a command line; click would print four lines."""
    command = error.ctx.command if error.ctx else click.Command(None)
    if isinstance(error, click.NoSuchOption) and error.ctx:
        known = [flag for param in command.get_params(error.ctx) for flag in param.opts]
        return f"no such option {error.option_name}{meant(error.option_name, known)}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        choices = ", ".join(_choices(error.param))
        missing = f"missing {error.param.param_type_name} {_written(error.param)}"
        if error.ctx and isinstance(error.param, click.Argument):
            order = " ".join(command.collect_usage_pieces(error.ctx)[1:])
            return f"{missing}; expected {error.ctx.command_path} {order}"
        return f"{missing}; choose one of {choices}" if choices else missing
    if isinstance(error, click.BadParameter) and error.param is not None:
        given = error.message.split("'")[1] if error.message.startswith("'") else ""
        message = error.message.rstrip(".") + meant(given, _choices(error.param))
        return f"{_written(error.param)}: {message}"
    message = error.format_message()
    return message[:1].lower() + message[1:]


def _choices(param: click.Parameter) -> list[str]:
    return list(param.type.choices) if isinstance(param.type, click.Choice) else []


def _written(param: click.Parameter) -> str:
    """A parameter as one writes it: its first long flag, or an argument's name in capitals."""
    if isinstance(param, click.Option):
        return next((flag for flag in param.opts if flag.startswith("--")), param.opts[0])
    return param.metavar or (param.name or "").upper()


def _print_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    echo(f"Warning: {' '.join(str(message).split())}", err=True)


def _os_error_line(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _fail(line: str) -> None:
    echo(f"Error: {' '.join(line.split())}", err=True)
    sys.exit(2)
