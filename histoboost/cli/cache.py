"""`histoboost cache`: manage an embedding store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from histoboost.cli.command import PARTLY_DONE, RESUMES, Group
from histoboost.cli.console import echo, print_table
from histoboost.cli.json_output import json_option, write_json
from histoboost.cli.options import format_option, groups_option
from histoboost.names import some

if TYPE_CHECKING:
    from histoboost.cache.listing import EmbeddingRow

_STORE = click.argument("store")


@click.group(cls=Group)
def cache() -> None:
    """Manage an embedding store: list, verify, remove, relabel, import and export."""


@cache.command("list")
@_STORE
@json_option()
def list_(store: str, json_path: str | None) -> None:
    """List the embeddings in STORE: slides, shape, size, backbone, weights, completeness.

    \b
    Example:  histoboost cache list store.zarr
    """
    from histoboost.cache.store import EmbeddingStore

    opened = EmbeddingStore(store, mode="r+")  # "r+", because large stores are indexed
    rows = opened.summary()
    awaited, old = opened.pending_slides(), opened.pending_labels()
    columns = ["embedding", "slides", "shape", "size", "backbone", "weights", "complete"]
    cells = []
    for row in rows:
        shape = "-" if row.width is None else f"{row.spots:,} x {row.width:,}"
        state = "yes" if row.complete else f"no: {_lacking(row)}"
        weights = (row.weights or "-")[:12]
        numbers = [str(len(row.slides)), shape, _size(row.bytes)]
        cells.append([row.name, *numbers, row.backbone or "-", weights, state])
    if rows:
        print_table(columns, cells, wrap={"embedding": 12, "complete": 12})
    else:
        echo(f"{store}: no embeddings yet")
    if awaited:
        echo(f"Missing slides: {some(awaited)}. Run the same featurize command again.")
    if old:
        echo(f"Outdated labels: {some(old)}. Run the same cache relabel command again.")
    found = [row.to_json() for row in rows]
    write_json(json_path, {"embeddings": found, "awaited": awaited, "old_labels": old})


def _lacking(row: EmbeddingRow) -> str:
    parts = []
    for slide in row.lacking:
        staged = row.staged.get(slide)
        parts.append(slide if staged is None else f"{slide} ({staged[0]}/{staged[1]} chunks)")
    return some(parts)


@cache.command()
@_STORE
@json_option()
@click.pass_context
def verify(ctx: click.Context, store: str, json_path: str | None) -> None:
    """Check all data in STORE against their checksums; exit with 1 if any are damaged.

    To repair damaged embeddings, run the same `featurize` command again.

    \b
    Example:  histoboost cache verify store.zarr
    """
    from histoboost.cache.store import EmbeddingStore

    found = EmbeddingStore(store, mode="r").verify()
    for damage in found.damaged:
        where = [f"slide {damage.slide}"] if damage.slide else []
        where += [f"embedding {damage.embedding}"] if damage.embedding else []
        echo(f"{', '.join(where) or store}: {damage.reason}")
    state = f"{len(found.damaged)} problems" if found.damaged else "all intact"
    echo(f"{store}: {found.checked} embeddings and spot tables checked, {state}")
    write_json(json_path, found.to_json())
    if found.damaged:
        ctx.exit(1)


@cache.command(interrupted=PARTLY_DONE)
@_STORE
@click.argument("name", required=False)
@click.option(
    "--slide", metavar="S", help="Remove NAME from this slide only; without NAME, the whole slide."
)
def remove(store: str, name: str | None, slide: str | None) -> None:
    """Remove the embedding NAME or a slide from STORE.

    \b
    Example:  histoboost cache remove store.zarr resnet50@64
              histoboost cache remove store.zarr resnet50@64 --slide S_1
    """
    from histoboost.cache.store import EmbeddingStore

    slides = EmbeddingStore(store, mode="r+").remove(name, slide)
    echo(f"{store}: removed {name or 'everything'} from {', '.join(slides)}")


@cache.command(interrupted=PARTLY_DONE)
@_STORE
@click.argument("data", type=click.Path())
@groups_option
@format_option
def relabel(store: str, data: str, groups: str | None, format: str | None) -> None:
    """Update abundances, split and group of the slides in STORE from DATA.

    Embeddings are kept, so this takes seconds. DATA must have the same spots as STORE. A group is
    kept if neither DATA nor --groups has one.

    \b
    Example:  histoboost cache relabel store.zarr slides.h5
              histoboost cache relabel store.zarr slides.h5 --groups patients.csv
    """
    from histoboost.cache.store import EmbeddingStore
    from histoboost.featurize.relabel import relabel as write
    from histoboost.slides.readers import open_dataset

    opened = EmbeddingStore(store, mode="r+")
    changes = write(open_dataset(data, format), opened, groups)
    for slide, changed in changes.items():
        echo(f"{slide}: {', '.join(changed)}")
    if not changes:
        echo(f"{store}: already has these labels")


@cache.command("import", interrupted=RESUMES)
@_STORE
@click.argument("name")
@click.argument("directory")
def import_(store: str, name: str, directory: str) -> None:
    """Import embeddings computed by other software into STORE as embedding NAME.

    DIRECTORY contains one file per slide: <slide>.npy of shape (spots, features), in the order of
    STORE, or patch embeddings, which are matched to spots by barcode or coordinates: <slide>.h5
    from TRIDENT or HEST, <slide>.pt from slide2vec, <slide>.embeddings.zarr from raw2features or
    <slide>.zarr from LazySlide. If a file holds several embeddings, NAME selects one.

    \b
    Example:  histoboost cache import store.zarr uni2 embeddings/
    """
    from histoboost.cache.store import EmbeddingStore

    slides = EmbeddingStore(store, mode="r+").import_arrays(name, directory)
    done = f"imported for {', '.join(slides)}" if slides else "already imported"
    echo(f"{store}: {name} {done}")


@cache.command()
@_STORE
@click.argument("output", type=click.Path())
@click.option("--spatialdata", is_flag=True, help="Write SpatialData instead of AnnData.")
@click.option("--trident", is_flag=True, help="Write patch embeddings as TRIDENT does.")
def export(store: str, output: str, spatialdata: bool, trident: bool) -> None:
    """Export all slides in STORE, with spots and embeddings, to OUTPUT (.h5ad or .zarr).

    With --trident, OUTPUT is a new folder with files <embedding>/<slide>.h5.

    \b
    Example:  histoboost cache export store.zarr slides.h5ad
              histoboost cache export store.zarr slides.zarr --spatialdata
              histoboost cache export store.zarr features --trident
    """
    from histoboost.cache.store import EmbeddingStore
    from histoboost.outputs.export import export as write
    from histoboost.outputs.trident import export_trident

    if trident and spatialdata:
        raise click.UsageError("--trident and --spatialdata: choose one")
    opened = EmbeddingStore(store, mode="r")
    if trident:
        names = export_trident(opened, output)
    else:
        names = write(opened, output, spatialdata=spatialdata)
    echo(f"Wrote {output}: {', '.join(names) or 'spots and abundances, no embeddings'}.")


@cache.command(interrupted=PARTLY_DONE)
@_STORE
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=24.0,
    metavar="HOURS",
    help="Minimum age of what is removed if files cannot be locked, as in object storage.",
)
def gc(store: str, older_than: float) -> None:
    """Remove leftovers of interrupted runs from STORE; running jobs are not affected.

    \b
    Example:  histoboost cache gc store.zarr
    """
    from histoboost.cache.store import EmbeddingStore

    found = EmbeddingStore(store, mode="r+").gc(older_than * 3600)
    echo(
        f"{store}: removed {found.removed} staging folders ({_size(found.removed_bytes)}), "
        f"kept {found.kept} possibly in use"
    )


def _size(n: int) -> str:
    size = float(n)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
