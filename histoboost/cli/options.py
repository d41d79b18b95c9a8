"""Options and parameter types shared by several commands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
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
        # A --config file may have ``patch = 32`` or ``patch = [32, 64]``.
        listed = value if isinstance(value, list | tuple) else str(value).split(",")
        parts = [str(part).strip() for part in listed]
        if not all(parts):
            self.fail(f"{value!r} has an empty entry", param, ctx)
        return parts


def names_option(flag: str, help: str) -> Callable[[F], F]:
    """An option that takes comma-separated names."""
    return click.option(flag, type=CommaList(), metavar="A,B", help=help)


def format_option(command: F) -> F:
    """`--format NAME` and `--bin SIZE`, combined into the `format` of `open_dataset`."""

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
        help="Format of DATA: hdf5, spaceranger, spatialdata, anndata, manifest or images; "
        "recognised from the path by default.",
    )
    return cast("F", only_format(bin_option(with_bin)))


alignment_option = click.option(
    "--alignment",
    default="none",
    metavar="none|auto|FILE.csv",
    help="Correct spot positions: from the image (auto), or from a table written by `histoboost "
    "align`.",
)
groups_option = click.option(
    "--groups",
    type=click.Path(),
    metavar="FILE.csv",
    help="Table with columns slide and group (patient); slides of one group are held out together.",
)
device_option = click.option(
    "--device",
    default="auto",
    metavar="auto|cpu|cuda|cuda:N",
    help="Device to run the network on; auto uses all GPUs, or else the CPU.",
)
lattice_options = (
    click.option(
        "--pitch",
        metavar="SIDE",
        help="Distance between spots on a slide that has none, such as 100um or 25px.",
    ),
    click.option(
        "--tissue",
        type=click.Path(),
        default="auto",
        metavar="auto|all|FILE.geojson",
        help="Where to put these spots: on tissue that is in focus and free of artefacts, "
        "everywhere, or on tissue inside regions drawn in QuPath.",
    ),
    click.option(
        "--um-per-px",
        type=click.FloatRange(min=0, min_open=True),
        metavar="X",
        help="Micrometres per pixel of the slides, if missing or wrong in their metadata.",
    ),
)
jobs_option = click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of parallel processes, at most one per available core, which is the default.",
)
scheduler_option = click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Run on the Dask cluster at this address, such as tcp://head:8786.",
)


UNITS = ("rank", "share", "abundance", "rank-slide", "minmax", "softmax", "none")


def units_option(default: str | None) -> Callable[[F], F]:
    """`--units`; without a default, the output's suffix decides."""
    return click.option(
        "--units",
        "--normalize",  # its name in 0.1.0
        "units",
        type=click.Choice(UNITS),
        default=default,
        show_default=None if default else "rank for .csv, else share",
        help="Units of the predictions: rank (of the cell type within the spot, in (0, 1], 1 = "
        "most abundant), share (sums to 1 in each spot), abundance (as in the labels), rank-slide "
        "(of the spot within the slide), minmax (scaled to 0 to 1 within the spot), softmax, or "
        "none (raw model output).",
    )


def page_option(default: str) -> Callable[[F], F]:
    """`-o FILE` of a command that writes a web page."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(),
        default=default,
        metavar="FILE",
        help="HTML file to write; it opens offline.",
    )


def in_order(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Combine several option decorators into one, in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def dask_client(scheduler: str | None) -> AbstractContextManager[Client | None]:
    """Connect to the Dask scheduler at this address; a context of None without one."""
    if scheduler is None:
        return nullcontext()
    from histoboost.cluster import connect

    return connect(scheduler)
