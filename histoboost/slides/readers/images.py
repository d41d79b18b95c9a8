"""Images without spots, one file or a folder of them; each is a slide named after its file."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from histoboost.errors import HistoboostError, warn
from histoboost.names import some
from histoboost.slides.images import IMAGE_SUFFIXES, open_image
from histoboost.slides.images.ome_zarr import is_ome_zarr
from histoboost.slides.slide import Dataset, LazySlides, Slide

#: Suffixes of other data in a folder of images that may be meant instead.
TABLES = (".csv", ".tsv", ".parquet", ".h5", ".hdf5", ".h5ad", ".zarr")


def detect(path: Path) -> bool:
    """Whether `path` is an image file or a folder with one."""
    return bool(_files(path))


def read(path: Path) -> Dataset:
    """Open one image, or those of a folder sorted by name."""
    files = _files(path)
    if path.is_dir() and files != [path]:
        rest = sorted(set(path.iterdir()) - set(files))
        other = [one.name for one in rest if one.suffix.lower() in TABLES or _files(one)]
        if other:
            warn(
                f"{path}: read as plain images ({len(files)}), without {some(other)}; if you mean "
                "one of these, give its path"
            )
    reads = [partial(plain_slide, file) for file in files]
    return Dataset(path, LazySlides([_name(file) for file in files], reads))


def plain_slide(path: Path, name: str | None = None) -> Slide:
    """A slide without spots from an image, named after the file by default."""
    image, xy = open_image(path), np.empty((0, 2))
    return Slide(name or _name(path), image, xy, (), um_per_px=image.um_per_px, plain=True)


def _name(path: Path) -> str:
    return path.stem.removesuffix(".ome")


def _files(path: Path) -> list[Path]:
    if _is_image(path):
        return [path]
    return [one for one in sorted(path.iterdir()) if _is_image(one)] if path.is_dir() else []


def _is_image(path: Path) -> bool:
    if path.is_dir():
        with suppress(HistoboostError):  # other or damaged folders
            return any(path.glob("*.dcm")) or is_ome_zarr(path)
        return False
    return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES
