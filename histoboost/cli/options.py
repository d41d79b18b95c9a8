"""Options and values that several commands take, so that they read the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from distributed import Client

F = TypeVar("F", bound=Callable[..., Any])


class CommaList(click.ParamType[list[str]]):
    """A comma-separated list, such as ``S_1,S_2``."""

    name = "list"

    def convert(
        self, value: str | Sequence[Any], param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        """Split at commas; empty entries are an error."""
        # A --config file may say ``patch = 32`` or ``patch = [32, 64]``.
        listed = value if isinstance(value, list | tuple) else str(value).split(",")
        parts = [str(part).strip() for part in listed]
        if not all(parts):
            self.fail(f"{value!r} has an empty entry", param, ctx)
        return parts


def format_option() -> Callable[[F], F]:
    """`--format NAME` of a command that reads DATA, the same everywhere."""
    return click.option(
        "--format",
        metavar="NAME",
        help="Format of DATA (hdf5, spaceranger, spatialdata, anndata, manifest) instead of what "
        "the path looks like.",
    )


def alignment_option() -> Callable[[F], F]:
    """`--alignment` of a command that cuts patches, the same everywhere."""
    return click.option(
        "--alignment",
        default="none",
        show_default=True,
        metavar="none|auto|FILE.csv",
        help="Move the spots: as the image says, or as a table of `histoboost align` says.",
    )


def groups_option() -> Callable[[F], F]:
    """`--groups FILE.csv`, the same everywhere."""
    return click.option(
        "--groups",
        type=click.Path(),
        metavar="FILE.csv",
        help="Columns slide and group: slides of one patient are held out together.",
    )


def device_option() -> Callable[[F], F]:
    """`--device` of a command that runs a network, the same everywhere."""
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda|cuda:N",
        help="Where the network runs; auto takes the GPUs where there are some.",
    )


def page_option(default: str) -> Callable[[F], F]:
    """`-o FILE` of a command that writes a page."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(),
        default=default,
        show_default=True,
        metavar="FILE",
        help="The page: one HTML file that works offline.",
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
