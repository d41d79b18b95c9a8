"""The challenge's HDF5: ``images/<split>/<slide>`` and ``spots/<split>/<slide>``.

An image is (H, W, 3), float in 0..1 or uint8. A spot table is a structured array with the fields
``x`` (column) and ``y`` (row) in pixels; every other numeric field is the abundance of a cell
type, except ``Test_Set``, which is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from histoboost.errors import BadInput, warn
from histoboost.hdf5_file import open_hdf5
from histoboost.slides.images.array import hdf5_image
from histoboost.slides.images.base import reading
from histoboost.slides.readers.abundances import checked_abundances, with_abundances
from histoboost.slides.slide import Dataset, Slide


def detect(path: Path) -> bool:
    """Whether `path` is an HDF5 file of any kind."""
    return path.is_file() and bool(h5py.is_hdf5(path))


def read(path: Path) -> Dataset:
    """Read the spot tables; images are read later.

    Train slides come first; within a split the names are in natural order (S_2 before S_10).
    """
    remedy = "check that it is complete and readable"
    with reading(path, "HDF5", remedy), open_hdf5(path) as file:
        for group in ("spots", "images"):
            if not isinstance(file.get(group), h5py.Group):
                raise BadInput(
                    f"{path}: no {group!r} group; expected {group}/Train/<slide> and the like"
                )
        slides = tuple(_slide(path, file, split, name) for split, name in _tables(file["spots"]))
        known = {slide.name for slide in slides}
        for _, name in _tables(file["images"]):
            if name not in known:
                warn(f"{path}: image {name} has no spot table and is left out")
    return Dataset(path, slides)


def _tables(group: h5py.Group) -> Iterator[tuple[str | None, str]]:
    """Pairs of split (or None) and slide name."""
    for split in sorted(group, key=lambda name: (name.lower() != "train", _natural(name))):
        if isinstance(group[split], h5py.Dataset):
            yield None, split
        else:
            yield from ((split, name) for name in sorted(group[split], key=_natural))


def _natural(name: str) -> list[tuple[str, int]]:
    return [(text, int(digits or -1)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _slide(path: Path, file: h5py.File, split: str | None, name: str) -> Slide:
    where = f"{split}/{name}" if split else name
    spots = file[f"spots/{where}"]
    fields = getattr(spots.dtype, "names", None) if isinstance(spots, h5py.Dataset) else None
    missing = [axis for axis in ("x", "y") if axis not in (fields or ())]
    if missing:
        raise BadInput(
            f"{path}: spots/{where}: the spot table has no column {missing[0]!r}; "
            "it must be a structured array with x and y in pixels"
        )
    if spots.ndim != 1:
        raise BadInput(f"{path}: spots/{where} has shape {spots.shape}; store one row per spot")
    for field in fields or ():
        if spots.dtype[field].kind not in "iufb" or spots.dtype[field].shape:
            raise BadInput(
                f"{path}: spots/{where}: column {field!r} is not numeric; "
                "remove it or store numbers"
            )
    rows = spots[()]
    table = pd.DataFrame({field: rows[field] for field in fields or ()})
    image = file.get(f"images/{where}")
    if not isinstance(image, h5py.Dataset):
        raise BadInput(
            f"{path}: spots/{where} has no image; add images/{where} or remove the spot table"
        )
    slide = Slide(
        name=name,
        image=hdf5_image(path, image),
        xy=table[["x", "y"]].to_numpy(np.float64),
        spot_ids=tuple(table.index.astype(str)),
        split=split,
    )
    labels = table.drop(columns=["x", "y", "Test_Set"], errors="ignore")
    if labels.empty:
        return slide
    where = f"{path}: spots/{where}"
    return with_abundances(slide, checked_abundances(labels, where), where)
