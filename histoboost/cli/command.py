"""What every command shares: errors in one line, `--config`, and the way numbers are listed."""

from __future__ import annotations

import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from histoboost.errors import HistoboostError

if TYPE_CHECKING:
    from distributed import Client

F = TypeVar("F", bound=Callable[..., Any])


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


def write_json(path: str | None, result: object) -> None:
    """Write `result` as JSON to `path`; do nothing where no path was given.

    Raises
    ------
    HistoboostError
        If `path` is a directory.
    """
    import json

    if path is None:
        return
    if Path(path).is_dir():
        raise HistoboostError(f"{path}: is a directory; give the name of a file")
    Path(path).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")


class CommaList(click.ParamType[list[str]]):
    """A comma-separated list, such as ``S_1,S_2``."""

    name = "list"

    def convert(
        self, value: str | Sequence[Any], param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        """Split at commas; empty entries are an error."""
        parts = [
            str(part).strip() for part in (value.split(",") if isinstance(value, str) else value)
        ]
        if not all(parts):
            self.fail(f"{value!r} has an empty entry", param, ctx)
        return parts


def json_option(help: str = "Also write the result as JSON.") -> Callable[[F], F]:
    """`--json FILE`, the same everywhere."""
    return click.option("--json", "json_path", type=click.Path(), metavar="FILE", help=help)


def format_option() -> Callable[[F], F]:
    """`--format NAME` of a command that reads DATA, the same everywhere."""
    return click.option(
        "--format",
        metavar="NAME",
        help="Format of DATA (hdf5, spaceranger, spatialdata, anndata, manifest) instead of what "
        "the path looks like.",
    )


def jobs_option() -> Callable[[F], F]:
    """`--jobs N`, the same everywhere."""
    return click.option(
        "--jobs",
        type=click.IntRange(min=1),
        metavar="N",
        help="Processes side by side; never more threads in all than this process may use.",
    )


def scheduler_option() -> Callable[[F], F]:
    """`--scheduler ADDRESS`, the same everywhere."""
    return click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Run on the Dask cluster at this address, such as tcp://head:8786.",
    )


@contextmanager
def client_of(scheduler: str | None) -> Iterator[Client | None]:
    """A client of the Dask scheduler at this address; None where none was given."""
    if scheduler is None:
        yield None
        return
    from histoboost.cluster import connect

    with connect(scheduler) as client:
        yield client
