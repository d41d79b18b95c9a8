"""The challenge's HDF5: ``images/<split>/<slide>`` and ``spots/<split>/<slide>``.

An image is (H, W, 3), float in 0..1 or uint8. A spot table is a structured array with the fields
``x`` (column) and ``y`` (row) in pixels; every other numeric field is the abundance of a cell
type, except ``Test_Set``, which is ignored.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.featurize.slide import Dataset, Slide

#: Fields of a spot table that are no cell types.
NOT_CELL_TYPES = ("x", "y", "Test_Set")

#: Decoded bytes of a band, or one row of chunks where that is more.
BAND_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Hdf5Image:
    """An image dataset of an HDF5 file, read in bands of whole chunk rows."""

    path: Path
    dataset: str
    shape: tuple[int, int]
    source_dtype: str
    band_rows: int

    def read_rows(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows `start` to `stop` (exclusive) as (stop - start, W, 3) uint8.

        Raises
        ------
        HistoboostError
            If the file cannot be read, or float pixels lie outside 0..1.
        """
        out = np.empty((stop - start, self.shape[1], 3), np.uint8)
        with _open(self.path) as file:
            # Band by band: the floats of a whole slide are four times its uint8 pixels.
            row = start
            while row < stop:
                end = min(stop, (row // self.band_rows + 1) * self.band_rows)
                try:
                    pixels = file[self.dataset][row:end]
                except (OSError, KeyError) as error:
                    raise HistoboostError(
                        f"{self.path}: {self.dataset}: pixels cannot be read ({error}); "
                        "the file is damaged, fetch it again"
                    ) from error
                out[row - start : end - start] = self._to_uint8(pixels)
                row = end
        return out

    def _to_uint8(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        if pixels.dtype == np.uint8:
            return pixels
        low, high = float(np.min(pixels)), float(np.max(pixels))
        if not (low >= 0.0 and high <= 1.0):  # true for NaN as well
            raise HistoboostError(
                f"{self.path}: {self.dataset}: float pixels must lie in 0..1 but reach from "
                f"{low:g} to {high:g}; divide them by their maximum, or store uint8"
            )
        scaled = np.rint(pixels.astype(np.float32, copy=False) * np.float32(255))
        return cast(NDArray[np.uint8], scaled.astype(np.uint8))


def detect(path: Path) -> bool:
    """Whether `path` is an HDF5 file of any kind."""
    return path.is_file() and bool(h5py.is_hdf5(path))


def read(path: Path) -> Dataset:
    """Read the spot tables; images are read later.

    Parameters
    ----------
    path : Path
        HDF5 file.

    Returns
    -------
    Dataset
        Train slides first, then the others; within a split in the natural order of the names
        (S_2 before S_10).

    Raises
    ------
    HistoboostError
        If there is no ``spots`` group, a spot table lacks ``x`` or ``y``, or an image is missing
        or not (H, W, 3).
    """
    with _open(path) as file:
        for group in ("spots", "images"):
            if not isinstance(file.get(group), h5py.Group):
                raise HistoboostError(
                    f"{path}: no {group!r} group; expected {group}/Train/<slide> and the like"
                )
        slides = tuple(_slide(path, file, split, name) for split, name in _tables(file["spots"]))
        known = {slide.name for slide in slides}
        for _, name in _tables(file["images"]):
            if name not in known:
                warnings.warn(
                    f"{path}: image {name} has no spot table and is left out",
                    HistoboostWarning,
                    stacklevel=2,
                )
    return Dataset(path, slides)


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise HistoboostError(
            f"{path}: cannot be opened as HDF5 ({error}); check that it is complete and readable"
        ) from error


def _tables(group: h5py.Group) -> Iterator[tuple[str | None, str]]:
    """Pairs of split and slide name; split is None for slides that lie in no split."""
    for split in sorted(group, key=lambda name: (name.lower() != "train", _natural(name))):
        if isinstance(group[split], h5py.Dataset):
            yield None, split
        else:
            yield from ((split, name) for name in sorted(group[split], key=_natural))


def _natural(name: str) -> list[tuple[str, int]]:
    return [(text, int(digits or -1)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _slide(path: Path, file: h5py.File, split: str | None, name: str) -> Slide:
    place = f"{split}/{name}" if split else name
    spots = file[f"spots/{place}"]
    fields = getattr(spots.dtype, "names", None) if isinstance(spots, h5py.Dataset) else None
    missing = [axis for axis in ("x", "y") if axis not in (fields or ())]
    if missing:
        raise HistoboostError(
            f"{path}: spots/{place}: the spot table has no column {missing[0]!r}; "
            "it must be a structured array with x and y in pixels"
        )
    table = spots[()]
    types = tuple(field for field in fields or () if field not in NOT_CELL_TYPES)
    for field in ("x", "y", *types):
        if table.dtype[field].kind not in "iufb" or table.dtype[field].shape:
            raise HistoboostError(
                f"{path}: spots/{place}: column {field!r} is not numeric; "
                "remove it or store numbers"
            )
    return Slide(
        name=name,
        image=_image(path, file, place),
        xy=np.stack([table["x"], table["y"]], axis=1).astype(np.float64),
        spot_ids=tuple(str(i) for i in range(len(table))),
        abundance=np.stack([table[t] for t in types], axis=1).astype(np.float32) if types else None,
        cell_types=types,
        split=split,
    )


def _image(path: Path, file: h5py.File, place: str) -> Hdf5Image:
    image = file.get(f"images/{place}")
    if not isinstance(image, h5py.Dataset):
        raise HistoboostError(
            f"{path}: spots/{place} has no image; add images/{place} or remove the spot table"
        )
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise HistoboostError(
            f"{path}: images/{place} has shape {image.shape}; an image must be (H, W, 3)"
        )
    if image.dtype != np.uint8 and image.dtype.kind != "f":
        raise HistoboostError(
            f"{path}: images/{place} has type {image.dtype}; store uint8, or floats in 0..1"
        )
    row_bytes = image.shape[1] * 3 * image.dtype.itemsize
    chunk = image.chunks[0] if image.chunks else 1
    rows = chunk * max(1, BAND_BYTES // (row_bytes * chunk))
    return Hdf5Image(
        path=path.resolve(),
        dataset=f"images/{place}",
        shape=(int(image.shape[0]), int(image.shape[1])),
        source_dtype=str(image.dtype),
        band_rows=min(rows, image.shape[0]),
    )
