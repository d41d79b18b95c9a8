"""Hexagonal lattices of spots on the tissue of slides without spots."""

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
from histoboost.slides.length import Length, parse_length
from histoboost.slides.regions import Region, check_on_slide, read_regions
from histoboost.slides.slide import Dataset, Slide
from histoboost.slides.usable_tissue import UsableTissue, find_tissue, whole_slide
from histoboost.spots import SPOT_SHARE

#: Fraction of a spot's disc that must lie on usable tissue.
LEAST_SHARE = 0.5

#: More lattice points on one slide suggest a wrong pitch.
MAX_PLACES = 5_000_000

#: Lays a lattice on a slide, given pitch and tissue: `lay_lattice`, or one that recalls it.
Lay = Callable[[Slide, Length | str | float, str | Path], list[Slide]]


@dataclass(frozen=True, eq=False)
class Lattice:
    """Points of a hexagonal lattice, row by row: `xy` (N, 2) in pixels, the rest (N,).

    `copy` numbers the ``finer ** 2`` shifted copies of the coarse lattice; copy 0 is the lattice
    itself.
    """

    xy: NDArray[np.float64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    copy: NDArray[np.int64]

    def __getitem__(self, part: NDArray[np.bool_]) -> Lattice:
        return Lattice(self.xy[part], self.row[part], self.column[part], self.copy[part])

    @property
    def ids(self) -> tuple[str, ...]:
        """Spot ids such as ``r012c034``."""
        pairs = zip(self.row.tolist(), self.column.tolist(), strict=True)
        return tuple(f"r{row:03}c{column:03}" for row, column in pairs)


def hexagonal(shape: tuple[int, int], pitch_px: float, finer: int = 1) -> Lattice:
    """Build a hexagonal lattice over an image of `shape` (height, width).

    With `finer` = K its pitch is ``pitch_px / K``: K x K shifted copies of that of `pitch_px`.
    """
    height, width = shape
    step, high = pitch_px / finer, pitch_px / finer * np.sqrt(3) / 2
    first, left = -int(pitch_px / 2 // high), -int(pitch_px // step)
    rows = np.arange(first, int((height - pitch_px / 2) // high) + 1)
    columns = np.arange(left, int(width // step) + 1)
    row, column = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
    xy = np.stack([pitch_px / 2 + (column + row % 2 / 2) * step, pitch_px / 2 + row * high], axis=1)
    inside = (xy[:, 0] >= 0) & (xy[:, 0] < width) & (xy[:, 1] >= 0) & (xy[:, 1] < height)
    along = column - row // 2  # along two sides of a triangle
    copy = along % finer * finer + row % finer
    return Lattice(xy, row - first, column - left, copy)[inside]


def lay_lattices(
    dataset: Dataset,
    pitch: Length | str | float | None,
    tissue: str | Path = "auto",
    lay: Lay | None = None,
) -> Dataset:
    """Lay a lattice on every slide without spots; refuse a missing or needless pitch."""
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
    step = partial(_lay_if_plain, pitch=pitch, tissue=tissue, lay=lay or lay_lattice)
    result = dataset.each(lambda _: step)
    with progress("finding tissue", len(plain) if len(plain) > 1 else 0, "slides") as advance:
        for slide in result.slides:
            if slide.lattice is not None:
                advance(1)
    return result


def _lay_if_plain(slide: Slide, pitch: Length | str | float, tissue: str | Path, lay: Lay) -> Slide:
    return lay(slide, pitch, tissue)[0] if slide.plain else slide


def lay_lattice(
    slide: Slide, pitch: Length | str | float, tissue: str | Path = "auto", finer: int = 1
) -> list[Slide]:
    """Lay a hexagonal lattice on the tissue of a slide.

    A lattice point becomes a spot if `LEAST_SHARE` of its disc, `SPOT_SHARE` of the pitch wide,
    lies on usable tissue, see `find_tissue`. The result is deterministic.

    Parameters
    ----------
    slide : Slide
        Its own spots are replaced; its single cells, if any, are counted.
    pitch : Length, str or float
        Distance between neighbours, such as ``"100um"`` or 25.5 (pixels).
    tissue : str or path
        ``"auto"``; ``"all"`` for the whole image; or a GeoJSON file of regions from QuPath within
        which to find tissue, where ``{slide}`` stands for the slide's name.
    finer : int
        K gives K x K shifted copies of the lattice, each with its own neighbours.

    Returns
    -------
    list of Slide
        One per copy with at least one spot, named like the slide if there is one copy, else
        ``<slide>.1of4`` etc.

    Raises
    ------
    HistoboostError
        If no lattice point lies on tissue, or the pitch is too small or of unknown size.
    """
    facts = lattice_facts(slide, pitch, tissue, finer)
    px = facts["pitch_px"]
    found = _usable_tissue(slide, px, tissue)
    lattice = hexagonal(slide.image.shape, px, finer)
    kept = lattice[found.share_under(lattice.xy, SPOT_SHARE * px) >= LEAST_SHARE]
    if not len(kept.xy):
        remedy = "give a smaller --pitch, or --tissue all"
        if str(tissue) not in ("auto", "all"):
            remedy = f"were the regions of {tissue} drawn on it?"
        raise BadInput(
            f"slide {slide.name}: no point of a lattice of {px:.3g} px lies on its tissue ({found})"
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
    """Names of the K x K copies of a lattice on the slide `name`."""
    count = finer**2
    return [name] if count == 1 else [f"{name}.{copy + 1}of{count}" for copy in range(count)]


def whole_name(slide: Slide) -> str:
    """Name of the slide without the suffix of a lattice copy."""
    copies = (slide.lattice or {}).get("copies", 1)
    return slide.name if copies == 1 else slide.name.rpartition(".")[0]


def lattice_facts(
    slide: Slide, pitch: Length | str | float, tissue: str | Path, finer: int
) -> dict[str, Any]:
    """Settings that define a lattice on a slide, before finding tissue; refuse a bad pitch."""
    length = pitch if isinstance(pitch, Length) else parse_length(pitch)
    if length is None:
        raise BadInput(f"--pitch: {pitch} is not a length; give pixels such as 25.5, or 100um")
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
            f"slide {slide.name}: --pitch {length} gives more than {MAX_PLACES:,} spots on "
            f"{width} x {height} px; give a larger one"
        )
    facts: dict[str, Any] = {
        "kind": "hexagonal",
        "pitch_px": px,
        "tissue": str(tissue) if str(tissue) in ("auto", "all") else Path(tissue).name,
        "least_share": LEAST_SHARE,
    }
    return facts if finer == 1 else {**facts, "copies": finer**2}


def _usable_tissue(slide: Slide, pitch_px: float, tissue: str | Path) -> UsableTissue:
    if str(tissue) == "all":
        return whole_slide(slide.image, pitch_px)
    found = find_tissue(slide.image, pitch_px, slide.name)
    if str(tissue) == "auto":
        return found
    path = Path(str(tissue).replace("{slide}", slide.name))
    if not path.is_file():
        raise BadInput(f"--tissue: {path} is neither auto, all nor a file; draw regions in QuPath")
    regions = read_regions(path)
    check_on_slide(path, regions, slide)
    return found.within(_rasterise(regions, found))


def _rasterise(regions: Sequence[Region], grid: UsableTissue) -> NDArray[np.bool_]:
    """Grid cells inside any region."""
    from PIL import Image, ImageDraw

    height, width = grid.usable.shape
    covered = np.zeros((height, width), bool)
    for region in regions:
        inside = np.zeros((height, width), bool)
        for ring in region.rings:
            picture = Image.new("1", (width, height))
            corners = (ring / grid.cell - 0.5).ravel().tolist()
            ImageDraw.Draw(picture).polygon(corners, fill=1)
            inside ^= np.asarray(picture)
        covered |= inside
    return covered
