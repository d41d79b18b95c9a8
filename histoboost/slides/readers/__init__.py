"""Readers of datasets, one module per format; `open_dataset` picks the module."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

from histoboost.errors import BadInput, HistoboostError, warn
from histoboost.names import check_cell_type_names, check_slide_name, nfc
from histoboost.slides.readers import spaceranger
from histoboost.slides.readers.anndata import zarr_kind
from histoboost.slides.slide import Dataset, LazySlides, Slide

#: Format name -> module with ``detect(path)``, which never raises on other formats, and
#: ``read(path)``. The first format that detects its own reads the file; ``hdf5`` accepts any HDF5
#: file, so it stays last.
FORMATS = {
    "spaceranger": "histoboost.slides.readers.spaceranger",
    "spatialdata": "histoboost.slides.readers.spatialdata",
    "anndata": "histoboost.slides.readers.anndata",
    "manifest": "histoboost.slides.readers.manifest",
    "images": "histoboost.slides.readers.images",
    "hdf5": "histoboost.slides.readers.hdf5",
}


def open_dataset(path: str | Path, format: str | None = None) -> Dataset:
    """Open slides of any known format; images are read lazily.

    Parameters
    ----------
    path : str or Path
        File or folder.
    format : str, optional
        One of `FORMATS`, by default detected; ``spaceranger:8um`` also gives the bin size of
        Visium HD.

    Raises
    ------
    HistoboostError
        If `path` does not exist, or is of no known or another format.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path}: no such file; check the path")
    name, _, bin = (format or "").partition(":")
    if bin and name != "spaceranger":
        raise BadInput(f"format {format!r}: only spaceranger has bins; give spaceranger:{bin}")
    if path.is_dir() and not any(path.iterdir()):
        raise BadInput(f"{path}: is an empty folder; give one with slides")
    if bin and path.is_file():
        raise BadInput(f"--bin {bin}: is for Visium HD folders, and {path} is a file; omit it")
    dataset = spaceranger.read(path, bin) if bin else _read(path, name or None)
    # macOS encodes the same name in other bytes.
    dataset = dataset.each(lambda name: partial(_rename, nfc(name)))
    slides = dataset.slides
    if not slides:
        raise BadInput(f"{path}: holds no slides; check that it is complete")
    twice = next((name for name, times in Counter(dataset.names).items() if times > 1), None)
    if twice is not None:
        raise BadInput(f"{path}: two slides are called {twice!r}; give each its own name")
    consistency = _Consistency(path)
    if isinstance(slides, LazySlides):
        # Checks those that fit into memory now, the others when they are first read.
        slides = LazySlides(slides.names, slides.reads, partial(_read_checked, slides, consistency))
        slides.read_ahead()
    else:
        for slide in slides:
            consistency.check(slide)
    return replace(dataset, slides=slides)


def _rename(name: str, slide: Slide) -> Slide:
    return slide if slide.name == name else replace(slide, name=name)


def _read(path: Path, format: str | None) -> Dataset:
    """Read slides; a file that is of another format than the requested one is refused."""
    reader = _reader(path, format)
    try:
        dataset: Dataset = reader.read(path)
    except HistoboostError as error:
        _check_format(path, format, error)
        raise
    if not dataset.slides:
        _check_format(path, format)
    return dataset


def _check_format(path: Path, format: str | None, cause: HistoboostError | None = None) -> None:
    if format is None or not path.is_file():
        return
    found = _detected(path) or format
    if found != format:
        raise BadInput(f"{path}: its format is {found}, not {format}; omit --format") from cause


def _detected(path: Path) -> str | None:
    return next((name for name, each in FORMATS.items() if import_module(each).detect(path)), None)


def _reader(path: Path, format: str | None) -> ModuleType:
    if format is not None and format not in FORMATS:
        raise BadInput(f"format {format!r}: unknown; known are {', '.join(FORMATS)}")
    if name := format or _detected(path):
        return import_module(FORMATS[name])
    if path.is_dir() and zarr_kind(path) == "histoboost":
        raise BadInput(
            f"{path}: is an embedding store, not slides; give the data that it was made from"
        )
    kind = "a folder" if path.is_dir() else "a file"
    raise BadInput(
        f"{path}: {kind} in none of the formats that histoboost reads ({', '.join(FORMATS)}); for "
        "images with tables give a manifest, a .csv; else check that it is complete"
    )


def _read_checked(slides: LazySlides, consistency: _Consistency, index: int) -> Slide:
    slide = slides.reads[index]()
    consistency.check(slide)
    return slide


class _Consistency:
    """Consistency checks across the slides of one source."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._on_image: dict[object, tuple[str, str | None]] = {}
        self._cell_types: tuple[str, ...] | None = None

    def check(self, slide: Slide) -> None:
        """Refuse a slide that is inconsistent with those before it."""
        check_slide_name(slide.name)
        source = getattr(slide.image, "path", None), getattr(slide.image, "arrays", None)
        name, group = self._on_image.setdefault(source, (slide.name, slide.group))
        if source[0] is not None and name != slide.name and None in (group, slide.group):
            warn(
                f"{self._path}: slides {name} and {slide.name} share one image; put them in one "
                "group (column group, or --groups), so that neither is predicted from the other"
            )
        unclear = next((spot for spot in slide.spot_ids if not spot.isprintable()), None)
        if unclear is not None:
            raise BadInput(
                f"{self._path}: slide {slide.name}: spot {unclear!r} has unprintable characters; "
                "rename it"
            )
        if not slide.labelled:
            return
        if self._cell_types is None:
            self._cell_types = slide.cell_types
            check_cell_type_names(slide.cell_types, self._path)
        if slide.cell_types != self._cell_types:
            odd = sorted(set(slide.cell_types) ^ set(self._cell_types))
            what = f"{odd[0]!r} is in one only" if odd else "their order differs"
            raise BadInput(
                f"{self._path}: slide {slide.name} has other cell types than the first labelled "
                f"slide ({what}); give all labelled slides the same columns"
            )
