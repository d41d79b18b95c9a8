"""One file per input format, and `open_dataset` in front of them all."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from histoboost.errors import BadInput, warn
from histoboost.names import check_cell_type_names, check_slide_name, nfc
from histoboost.slides.readers import spaceranger
from histoboost.slides.readers.anndata import zarr_kind
from histoboost.slides.slide import Dataset, LazySlides, Slide


class Reader(Protocol):
    """What the module of a format offers."""

    def detect(self, path: Path) -> bool:
        """Whether `path`, which exists, looks like this format; never raises on other formats."""
        ...

    def read(self, path: Path) -> Dataset:
        """The slides of `path`; their images are read later."""
        ...


#: Format name -> module. Formats are tried in this order and the first that says yes reads the
#: file; ``hdf5`` says yes to any HDF5 file, so it stays last.
FORMATS = {
    "spaceranger": "histoboost.slides.readers.spaceranger",
    "spatialdata": "histoboost.slides.readers.spatialdata",
    "anndata": "histoboost.slides.readers.anndata",
    "manifest": "histoboost.slides.readers.manifest",
    "images": "histoboost.slides.readers.images",
    "hdf5": "histoboost.slides.readers.hdf5",
}


def open_dataset(path: str | Path, format: str | None = None) -> Dataset:
    """Open slides of any known format; images are read later, when they are needed.

    Parameters
    ----------
    path : str or Path
        File or folder.
    format : str, optional
        One of the names in `FORMATS`; by default the file itself is looked at.
        ``spaceranger:8um`` names the bin size of Visium HD as well.

    Returns
    -------
    Dataset

    Raises
    ------
    HistoboostError
        If `path` does not exist, is of no known format, or is not what its format promises.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path}: no such file; check the path")
    name, _, bin = (format or "").partition(":")
    if bin and name != "spaceranger":
        raise BadInput(f"format {format!r}: only spaceranger has bins; give spaceranger:{bin}")
    reader = _reader(path, name or None)
    dataset = spaceranger.read(path, bin) if bin else reader.read(path)
    # macOS writes the same name in other bytes.
    dataset = dataset.each(lambda name: partial(_called, nfc(name)))
    slides = dataset.slides
    if not slides:
        raise BadInput(f"{path}: holds no slides; check that it is complete")
    twice = next((name for name, times in Counter(dataset.names).items() if times > 1), None)
    if twice is not None:
        raise BadInput(f"{path}: two slides are called {twice!r}; give each its own name")
    agree = _Agreement(path)
    if isinstance(slides, LazySlides):
        # As many as are held at once; the others once they are read for the first time.
        slides = LazySlides(slides.names, slides.reads, partial(_agreeing, slides, agree))
        slides.read_ahead()
    else:
        for slide in slides:
            agree.check(slide)
    return replace(dataset, slides=slides)


def _called(name: str, slide: Slide) -> Slide:
    return slide if slide.name == name else replace(slide, name=name)


def _reader(path: Path, format: str | None) -> Reader:
    if format is not None and format not in FORMATS:
        raise BadInput(f"format {format!r}: unknown; known are {', '.join(FORMATS)}")
    for name, module in FORMATS.items():
        reader = cast(Reader, import_module(module))
        if format == name or (format is None and reader.detect(path)):
            return reader
    if path.is_dir() and zarr_kind(path) == "histoboost":
        raise BadInput(
            f"{path}: is an embedding store, no slides; give the data that it was made of"
        )
    kind = "a folder" if path.is_dir() else "a file"
    raise BadInput(
        f"{path}: {kind} in none of the formats that histoboost reads ({', '.join(FORMATS)}); for "
        "pictures with tables give the manifest, a .csv; else check that it is complete"
    )


def _agreeing(slides: LazySlides, agree: _Agreement, index: int) -> Slide:
    slide = slides.reads[index]()
    agree.check(slide)
    return slide


class _Agreement:
    """What the slides of one source must have in common, checked one by one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._on_image: dict[object, tuple[str, str | None]] = {}
        self._cell_types: tuple[str, ...] | None = None

    def check(self, slide: Slide) -> None:
        """Refuse a slide that does not fit to those before it."""
        check_slide_name(slide.name)
        source = getattr(slide.image, "path", None), getattr(slide.image, "arrays", None)
        name, group = self._on_image.setdefault(source, (slide.name, slide.group))
        if source[0] is not None and name != slide.name and None in (group, slide.group):
            warn(
                f"{self._path}: slides {name} and {slide.name} lie on one image; put them "
                "in one group (column group, or --groups): neither may be predicted from the other"
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
