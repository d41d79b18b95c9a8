"""Spots for a slide that has none: a hexagonal lattice, where there is tissue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.progress import progress
from histoboost.slides.cells import count_cells
from histoboost.slides.checks import MIN_PITCH
from histoboost.slides.fit_tissue import FitTissue, everywhere, find_tissue
from histoboost.slides.length import Length, parse_length
from histoboost.slides.regions import check_on_slide, read_regions
from histoboost.slides.slide import Dataset, Slide
from histoboost.spots import SPOT_SHARE

#: Share of a spot's disc that must lie on fit tissue.
LEAST_SHARE = 0.5

#: More places than this on one slide are a slip in the pitch.
MAX_PLACES = 5_000_000


#: Lays a lattice on a slide at a pitch, on tissue looked for there: `lay_lattice`, or from memory.
Lay = Callable[[Slide, Length | str | float, str | Path], list[Slide]]


@dataclass(frozen=True, eq=False)
class Lattice:
    """Places of a hexagonal lattice, row by row.

    Attributes
    ----------
    xy : ndarray of shape (N, 2), float64
        In pixels.
    row, column : ndarray of shape (N,), int64
        Every other row is shifted by half a pitch.
    copy : ndarray of shape (N,), int64
        Which of the ``finer ** 2`` shifted copies of the coarse lattice a place belongs to; copy 0
        is that lattice itself.
    """

    xy: NDArray[np.float64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    copy: NDArray[np.int64]

    def __getitem__(self, part: NDArray[np.bool_]) -> Lattice:
        return Lattice(self.xy[part], self.row[part], self.column[part], self.copy[part])

    @property
    def ids(self) -> tuple[str, ...]:
        """Such as ``r012c034``."""
        pairs = zip(self.row.tolist(), self.column.tolist(), strict=True)
        return tuple(f"r{row:03}c{column:03}" for row, column in pairs)


def hexagonal(shape: tuple[int, int], pitch_px: float, finer: int = 1) -> Lattice:
    """A hexagonal lattice over an image.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the image in pixels.
    pitch_px : float
        Distance of neighbours.
    finer : int
        K: the lattice of ``pitch_px / K``, which is K x K copies of that of `pitch_px`.
    """
    height, width = shape
    step, high = pitch_px / finer, pitch_px / finer * np.sqrt(3) / 2
    first, left = -int(pitch_px / 2 // high), -int(pitch_px // step)
    rows = np.arange(first, int((height - pitch_px / 2) // high) + 1)
    columns = np.arange(left, int(width // step) + 1)
    row, column = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
    xy = np.stack([pitch_px / 2 + (column + row % 2 / 2) * step, pitch_px / 2 + row * high], axis=1)
    inside = (xy[:, 0] >= 0) & (xy[:, 0] < width) & (xy[:, 1] >= 0) & (xy[:, 1] < height)
    along = column - row // 2  # in the directions of two sides of a triangle
    copy = along % finer * finer + row % finer
    return Lattice(xy, row - first, column - left, copy)[inside]


def lay_lattices(
    dataset: Dataset,
    pitch: Length | str | float | None,
    tissue: str | Path = "auto",
    lay: Lay | None = None,
) -> Dataset:
    """Give every slide without spots a lattice, by `lay_lattice`; the others stay as they are.

    Raises
    ------
    HistoboostError
        As `lay_lattice`, or if there is such a slide and no pitch.
    """
    plain = [slide.name for slide in dataset.slides if slide.plain]
    if not plain:
        if pitch is not None or str(tissue) != "auto":
            raise BadInput(
                f"{dataset.path}: all slides have spots, so no lattice is laid; omit --pitch and "
                "--tissue"
            )
        return dataset
    if pitch is None:
        raise BadInput(
            f"slide {plain[0]}: has no spots; give --pitch, the distance of the spots to lay "
            "on its tissue, such as --pitch 100um"
        )
    step = partial(_laid, pitch=pitch, tissue=tissue, lay=lay or lay_lattice)
    laid, waiting = dataset.each(lambda _: step), set(plain)
    with progress("finding tissue", len(plain) if len(plain) > 1 else 0, "slides") as advance:
        for slide in laid.slides:
            if slide.name in waiting:
                advance(1)
    return laid


def _laid(slide: Slide, pitch: Length | str | float, tissue: str | Path, lay: Lay) -> Slide:
    return lay(slide, pitch, tissue)[0] if slide.plain else slide


def lay_lattice(
    slide: Slide, pitch: Length | str | float, tissue: str | Path = "auto", finer: int = 1
) -> list[Slide]:
    """Lay a hexagonal lattice on the tissue of a slide.

    A place is kept where `LEAST_SHARE` of its disc, `SPOT_SHARE` of the pitch wide, lies on tissue
    that is fit to be read, see `find_tissue`. The same slide, pitch and tissue give the same
    places.

    Parameters
    ----------
    slide : Slide
        Its own spots are replaced; its single cells, if any, are counted.
    pitch : Length, str or float
        Distance of neighbours, such as ``"100um"`` or 25.5 (pixels).
    tissue : str or path
        ``"auto"``; ``"all"``, the whole image unseen; or a GeoJSON file of regions as QuPath
        exports them, in which tissue is looked for; ``{slide}`` stands for the slide's name.
    finer : int
        K x K shifted copies of the lattice, each with its own neighbours.

    Returns
    -------
    list of Slide
        One for every copy that has a place; called like the slide where there is one copy, else
        ``<slide>.1of4`` and on.

    Raises
    ------
    HistoboostError
        If no place lies on tissue, or the pitch has no size on the slide or is too fine for it.
    """
    facts = lattice_facts(slide, pitch, tissue, finer)
    px = facts["pitch_px"]
    found = tissue_of(slide, px, tissue)
    lattice = hexagonal(slide.image.shape, px, finer)
    kept = lattice[found.share_under(lattice.xy, SPOT_SHARE * px) >= LEAST_SHARE]
    if not len(kept.xy):
        remedy = "give a smaller --pitch, or --tissue all"
        if str(tissue) not in ("auto", "all"):
            remedy = f"were the regions of {tissue} drawn on it?"
        raise BadInput(
            f"slide {slide.name}: no place of a lattice of {px:.3g} px lies on its tissue ({found})"
            f"; {remedy}"
        )
    facts |= {"found": str(found), "places": len(kept.xy)}
    slides, names = [], copy_names(slide.name, finer)
    for copy in np.unique(kept.copy).tolist():
        part = kept[kept.copy == copy]
        name = names[copy]
        own = replace(slide, name=name, xy=part.xy, spot_ids=part.ids, abundance=None, plain=False)
        types = slide.cell_types if slide.cells else ()
        slides.append(count_cells(replace(own, lattice=facts, cell_types=types), px))
    return slides


def copy_names(name: str, finer: int) -> list[str]:
    """What the K x K copies of a lattice on the slide `name` are called; one as the slide."""
    count = finer**2
    return [name] if count == 1 else [f"{name}.{copy + 1}of{count}" for copy in range(count)]


def whole_name(slide: Slide) -> str:
    """Name of the slide of which this may be one of several copies."""
    copies = (slide.lattice or {}).get("copies", 1)
    return slide.name if copies == 1 else slide.name.rpartition(".")[0]


def lattice_facts(
    slide: Slide, pitch: Length | str | float, tissue: str | Path, finer: int
) -> dict[str, Any]:
    """What makes a lattice on a slide what it is, before its tissue was looked at.

    Raises
    ------
    HistoboostError
        If the pitch is no length, has no size on the slide or is too fine for it.
    """
    length = pitch if isinstance(pitch, Length) else parse_length(pitch)
    if length is None:
        raise BadInput(f"--pitch: {pitch} is no length; give pixels such as 25.5, or 100um")
    px = float(length.on(slide, "--pitch"))
    height, width = slide.image.shape
    if px < MIN_PITCH or px / finer < 1:
        what = f"--pitch {length}" + (f" --finer {finer}" if finer > 1 else "")
        raise BadInput(
            f"slide {slide.name}: {what} puts spots {px / finer:.2g} px apart; give a pitch of at "
            f"least {MIN_PITCH:g} px, or the image at full resolution"
        )
    if height * width > MAX_PLACES * (px / finer) ** 2 * np.sqrt(3) / 2:
        raise BadInput(
            f"slide {slide.name}: --pitch {length} gives more than {MAX_PLACES:,} places on "
            f"{width} x {height} px; give a larger one"
        )
    facts: dict[str, Any] = {
        "kind": "hexagonal",
        "pitch_px": px,
        "tissue": str(tissue) if str(tissue) in ("auto", "all") else Path(tissue).name,
        "least_share": LEAST_SHARE,
    }
    return facts if finer == 1 else {**facts, "copies": finer**2}


def tissue_of(slide: Slide, pitch_px: float, tissue: str | Path = "auto") -> FitTissue:
    """Where a lattice is to lie; see `lay_lattice`."""
    if str(tissue) == "all":
        return everywhere(slide.image, pitch_px)
    found = find_tissue(slide.image, pitch_px, slide.name)
    if str(tissue) == "auto":
        return found
    path = Path(str(tissue).replace("{slide}", slide.name))
    if not path.is_file():
        raise BadInput(f"--tissue: {path} is neither auto, all nor a file; draw regions in QuPath")
    regions = read_regions(path)
    check_on_slide(path, regions, slide)
    return found.within(_raster([region.rings for region in regions], found))


def _raster(regions: Sequence[Sequence[NDArray[np.float64]]], grid: FitTissue) -> NDArray[np.bool_]:
    """Which cells of a grid lie in a region; holes are rings, too."""
    from PIL import Image, ImageDraw

    height, width = grid.fit.shape
    covered = np.zeros((height, width), bool)
    for rings in regions:
        inside = np.zeros((height, width), bool)
        for ring in rings:
            picture = Image.new("1", (width, height))
            corners = (ring / grid.cell - 0.5).ravel().tolist()
            ImageDraw.Draw(picture).polygon(corners, fill=1)
            inside ^= np.asarray(picture)
        covered |= inside
    return covered
