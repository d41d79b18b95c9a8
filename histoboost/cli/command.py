"""Behaviour shared by all commands: one-line errors and warnings, Ctrl-C and `--config`."""

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
from histoboost.cli.config import did_you_mean, read_config
from histoboost.cli.console import echo
from histoboost.errors import HistoboostError, warn

#: Lines printed after Ctrl-C.
NOTHING_WRITTEN = "nothing was written; run the same command again"
RESUMES = "finished work is kept; run the same command again to resume"
PARTLY_DONE = "part of the work may be done; run the same command again to complete it"
#: Options that take one value or comma-separated list, but look as if repeating them adds to it.
NOT_REPEATABLE = ("slides", "held_out", "output")
#: Exit code of a process stopped by Ctrl-C.
INTERRUPTED = 128 + signal.SIGINT


class Command(click.Command):
    """A command with `--config FILE.toml` that reports what Ctrl-C leaves behind.

    `interrupted` is that report, or a function that takes the option values and returns it.
    """

    def __init__(
        self,
        *args: Any,
        interrupted: str | Callable[[Mapping[str, Any]], str] = NOTHING_WRITTEN,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.interrupted = interrupted
        for param in self.params:
            if isinstance(param, click.Option) and param.show_default is None:
                param.show_default = True
        self.params.append(
            click.Option(
                ["--config"],
                type=click.Path(exists=True, dir_okay=False),
                is_eager=True,
                expose_value=False,
                callback=read_config,
                help="TOML file with default option values.",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; see `click.Command.parse_args`."""
        try:
            self._check_repeated(ctx, args)
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click leaves it out where a value is missing
            raise

    def _check_repeated(self, ctx: click.Context, args: list[str]) -> None:
        """Refuse or warn about repeated options, of which click silently keeps the last."""
        *_, given = self.make_parser(ctx).parse_args(list(args))
        for param, times in Counter(given).items():
            if isinstance(param, click.Option) and times > 1:
                repeated = f"{_display_name(param)} is given {times} times"
                if param.name in NOT_REPEATABLE:
                    raise click.UsageError(f"{repeated}; give it once", ctx)
                if not (param.multiple or param.is_flag):
                    warn(f"{repeated}; only the last one is used")

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it with one line and exit code 130."""
        check_arguments(ctx)
        left = self.interrupted
        line = f"Interrupted: {left if isinstance(left, str) else left(ctx.params)}"
        try:
            with _workers_stopped_by_interrupt(line):
                return super().invoke(ctx)
        except KeyboardInterrupt:
            _print_interrupted(line)
            ctx.exit(INTERRUPTED)


@contextmanager
def _workers_stopped_by_interrupt(line: str) -> Iterator[None]:
    """Make Ctrl-C also kill the worker processes, and a second Ctrl-C exit at once.

    A pool would wait for its workers' tasks first. Outputs are written atomically, so a process may
    be killed at any time.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, exit_at_once)
        for child in multiprocessing.active_children():
            child.kill()
        raise KeyboardInterrupt

    def exit_at_once(*_: object) -> None:
        _print_interrupted(line)
        os._exit(INTERRUPTED)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is interrupt:
            signal.signal(signal.SIGINT, before)


def _print_interrupted(line: str) -> None:
    echo(err=True)
    echo(line, err=True)


class Group(click.Group):
    """A group whose commands report bad input in one line on stderr, with exit code 2."""

    command_class = Command
    group_class = type

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; see `click.Command.main`."""
        warnings.showwarning = _print_warning
        _make_streams_safe()
        try:
            sys.exit(super().main(*args, **{**kwargs, "standalone_mode": False}))
        except click.UsageError as error:
            # A group without a command prints its help. click 8.1 does so itself, without an error.
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
        """Find the command; if there is none, suggest the most similar one."""
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            known = f"; choose one of {', '.join(self.commands)}"
            ctx.fail(f"no such command {name}{did_you_mean(name, self.commands) or known}")
        return super().resolve_command(ctx, args)


def _make_streams_safe() -> None:
    """Make printing work even if stdout or stderr is closed or has a limited encoding."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _usage_line(error: click.UsageError) -> str:
    """Describe an error of the command line in one line; click would print four."""
    command = error.ctx.command if error.ctx else click.Command(None)
    if isinstance(error, click.NoSuchOption) and error.ctx:
        options = [p for p in command.get_params(error.ctx) if isinstance(p, click.Option)]
        known = [flag for param in options for flag in param.opts if flag.startswith("--")]
        return f"no such option {error.option_name}{did_you_mean(error.option_name, known)}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        choices = ", ".join(_choices(error.param))
        missing = f"missing {error.param.param_type_name} {_display_name(error.param)}"
        if error.ctx and isinstance(error.param, click.Argument):
            order = " ".join(command.collect_usage_pieces(error.ctx)[1:])
            return f"{missing}; expected {error.ctx.command_path} {order}"
        return f"{missing}; choose one of {choices}" if choices else missing
    if isinstance(error, click.BadParameter) and error.param is not None:
        given = error.message.split("'")[1] if error.message.startswith("'") else ""
        message = error.message.rstrip(".") + did_you_mean(given, _choices(error.param))
        return f"{_display_name(error.param)}: {message}"
    message = error.format_message()
    return message[:1].lower() + message[1:]


def _choices(param: click.Parameter) -> list[str]:
    return list(param.type.choices) if isinstance(param.type, click.Choice) else []


def _display_name(param: click.Parameter) -> str:
    """The first long flag of an option, or the name of an argument in capitals."""
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
