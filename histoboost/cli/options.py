"""Options and value types shared by several commands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from histoboost.errors import BadInput

if TYPE_CHECKING:
    from distributed import Client

F = TypeVar("F", bound=Callable[..., Any])


class CommaList(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
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


def format_option(command: F) -> F:
    """`--format NAME` and `--bin SIZE`: one `format`, as `open_dataset` takes it."""

    @functools.wraps(command)
    def with_bin(*args: Any, format: str | None, bin: str | None, **options: Any) -> Any:
        if bin is not None and format not in (None, "spaceranger"):
            raise BadInput(f"--bin {bin}: only Visium HD has bins; omit it for {format}")
        format = format if bin is None else f"spaceranger:{bin}"
        return command(*args, format=format, **options)

    bin_option = click.option(
        "--bin", metavar="SIZE", help="Bin size of Visium HD data, such as 8um."
    )
    only_format = click.option(
        "--format",
        metavar="NAME",
        help="Format of DATA: hdf5, spaceranger, spatialdata, anndata or manifest; by default "
        "recognised from the path.",
    )
    return cast("F", only_format(bin_option(with_bin)))


alignment_option = click.option(
    "--alignment",
    default="none",
    show_default=True,
    metavar="none|auto|FILE.csv",
    help="Correction of spot positions: from the image, or from a table of `histoboost align`.",
)
groups_option = click.option(
    "--groups",
    type=click.Path(),
    metavar="FILE.csv",
    help="Table with columns slide and group (patient), to hold out groups together.",
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:N",
    help="Device of the network; auto uses all GPUs, if any.",
)
lattice_options = (
    click.option(
        "--pitch",
        metavar="SIDE",
        help="Distance of the spots that are laid on slides without any, such as 100um or 25px.",
    ),
    click.option(
        "--tissue",
        type=click.Path(),
        default="auto",
        show_default=True,
        metavar="auto|all|FILE.geojson",
        help="Where they are laid: on tissue fit to be read, everywhere, or on tissue in regions "
        "drawn in QuPath.",
    ),
    click.option(
        "--um-per-px",
        type=click.FloatRange(min=0, min_open=True),
        metavar="X",
        help="Micrometres per pixel of the slides, where their files do not say, or wrongly.",
    ),
)
jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of parallel processes; by default, and at most, the available cores.",
)
scheduler_option = click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Run on the Dask cluster at this address, such as tcp://head:8786.",
)


UNITS = ("rank", "share", "abundance", "rank-slide", "minmax", "softmax", "none")


def units_option(default: str | None) -> Callable[[F], F]:
    """`--units`; without a default, ``rank`` for a ``.csv`` and ``share`` for other files."""
    return click.option(
        "--units",
        "--normalize",  # its name in 0.1.0
        "units",
        type=click.Choice(UNITS),
        default=default,
        show_default=default or "rank for .csv, else share",
        help="Units of predictions: rank (of the cell type within the spot, in (0, 1], 1 is "
        "highest), share (sums to 1 in each spot), abundance (as in the labels), rank-slide (of "
        "the spot within the slide), minmax (0 to 1 within the spot), softmax or none (as the "
        "model predicts).",
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
        help="HTML file to write; it works offline.",
    )


def in_order(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """One decorator of several, as if they were written in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@contextmanager
def client_of(scheduler: str | None) -> Iterator[Client | None]:
    """A client of the Dask scheduler at this address; None where none was given."""
    if scheduler is None:
        yield None
        return
    from histoboost.cluster import connect

    with connect(scheduler) as client:
        yield client
