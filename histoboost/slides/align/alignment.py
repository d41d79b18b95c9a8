"""Do the spots lie on the tissue? Estimate a shift and a scale for each slide, and apply them."""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from histoboost.errors import BadInput, HistoboostWarning
from histoboost.io import write_text
from histoboost.slides.align.registration import Transform, contrast, on_tissue, place
from histoboost.slides.slide import Dataset, Slide
from histoboost.slides.tissue import stain_density
from histoboost.spots import spot_pitch

#: Columns of the table, in order.
COLUMNS = ("slide", "dx", "dy", "scale", "tissue_before", "tissue_after", "confident")

#: Corrections below this many pitches are within the method's error: the table is left as it is.
WORTH_MOVING = 0.25

#: From this many pitches on, `inspect` and `featurize` call a slide misaligned.
MISALIGNED = 0.5

#: With more than this share of spots on tissue `featurize` looks no further for misalignment.
SURELY_PLACED = 0.97

#: What an answer must show before it is trusted (see `placement.Placement`).
MIN_SPOTS = 20
MIN_CONTRAST = 2.0
MAX_SPREAD = 0.75
MAX_DISAGREEMENT = 0.75
MIN_SPOTS_ON_TISSUE = 0.75
MIN_EMPTY_ON_GLASS = 0.6


@dataclass(frozen=True)
class Alignment:
    """How the spots of a slide are to be moved.

    A spot at (x, y) belongs at ``x' = scale * (x - cx) + cx + dx``, ``y' = scale * (y - cy) + cy
    + dy``, where (cx, cy) = (width / 2, height / 2) is the centre of the image and everything is
    in pixels of the image.

    Attributes
    ----------
    slide : str
        Name of the slide.
    dx, dy : float
        Shift in pixels; 0 where nothing is to be changed.
    scale : float
        1 where nothing is to be changed.
    tissue_before, tissue_after : float
        Share of the spots on tissue, before and after; NaN where it was not looked at.
    confident : bool
        Whether the image settles where the spots belong. If not, nothing is changed.
    reason : str
        Why nothing is changed, or what speaks for the change.
    estimate : Transform or None
        Best transform found, whether or not it is used.
    spread : float or None
        95 of 100 resamplings of the slide's regions put the spots within this many pitches of
        the best transform.
    """

    slide: str
    dx: float = 0.0
    dy: float = 0.0
    scale: float = 1.0
    tissue_before: float = math.nan
    tissue_after: float = math.nan
    confident: bool = False
    reason: str = ""
    estimate: Transform | None = None
    spread: float | None = None

    @property
    def transform(self) -> Transform:
        """The shift and the scale."""
        return Transform(self.dx, self.dy, self.scale)

    @property
    def changes(self) -> bool:
        """Whether any spot moves."""
        return self.transform != Transform()


#: What is asked about one slide: ``"none"``, ``"auto"`` or an alignment that was read.
AskedAlignment = str | Alignment


def align(slide: Slide, *, unless_on_tissue: float = 1.0) -> Alignment:
    """Estimate where the spots of a slide belong, from its image alone.

    Parameters
    ----------
    slide : Slide
        Its spots are those under tissue, as in a Visium table.
    unless_on_tissue : float
        Save the search where more than this share of the spots lie on tissue as they are.

    Returns
    -------
    Alignment
        Without confidence it changes nothing and says why.
    """
    xy = slide.xy[np.isfinite(slide.xy).all(axis=1)]
    pitch = spot_pitch(xy)
    if len(xy) < MIN_SPOTS or not pitch:
        return Alignment(slide.name, reason=f"fewer than {MIN_SPOTS} spots with distinct places")
    block = max(1, int(pitch / 12))
    density = stain_density(slide.image, block)
    before = float(on_tissue(xy, density, block, pitch).mean())
    unchanged = Alignment(slide.name, tissue_before=before, tissue_after=before)
    if contrast(density, block, pitch) < MIN_CONTRAST:
        return replace(unchanged, reason="the image does not show tissue beside glass")
    if before > unless_on_tissue:
        return replace(unchanged, reason="nearly all spots lie on tissue, not looked at further")
    found = place(xy, slide.image.shape, pitch, density, block)
    best = Transform(
        dx=round(found.transform.dx, 2),
        dy=round(found.transform.dy, 2),
        scale=round(found.transform.scale, 5),
    )
    moved = best.apply(xy, slide.image.shape)
    after = float(on_tissue(moved, density, block, pitch).mean())
    tried = replace(unchanged, estimate=best, spread=round(found.spread, 3))
    for doubtful, why in (
        (found.framed, "the spots fill a rectangle and show no edge of the tissue"),
        (found.at_edge, "the best place lies at the edge of what was searched"),
        (
            found.spread > MAX_SPREAD,
            "several places fit about equally well "
            f"(they differ by {found.spread:.2g} spot pitches)",
        ),
        (
            found.agreement > MAX_DISAGREEMENT,
            "the answer depends on where the tissue is taken to end",
        ),
        (after < MIN_SPOTS_ON_TISSUE, f"even in the best place {1 - after:.0%} of spots miss it"),
        (
            found.empty_on_glass < MIN_EMPTY_ON_GLASS,
            "even in the best place much tissue has no spots",
        ),
    ):
        if doubtful:
            return replace(tried, reason=why)
    distance = float(np.median(np.hypot(*(moved - xy).T))) / pitch
    if distance < WORTH_MOVING:
        return replace(
            tried, confident=True, reason="the spots lie where they belong, nothing to change"
        )
    return replace(
        tried,
        dx=best.dx,
        dy=best.dy,
        scale=best.scale,
        tissue_after=after,
        confident=True,
        reason=f"moves the spots by {distance:.2g} spot pitches",
    )


def misalignment(slide: Slide, alignment: Alignment) -> str | None:
    """One line where the image says that the spots are somewhere else, else None.

    Parameters
    ----------
    slide : Slide
        The slide that was looked at.
    alignment : Alignment
        What `align` found.
    """
    pitch = spot_pitch(slide.xy)
    if not alignment.changes or pitch is None:
        return None
    xy = slide.xy[np.isfinite(slide.xy).all(axis=1)]
    gap = alignment.transform.apply(xy, slide.image.shape) - xy
    pitches = float(np.median(np.hypot(gap[:, 0], gap[:, 1]))) / pitch
    if pitches < MISALIGNED:
        return None
    return (
        f"the spots look misaligned by {pitches:.1f} spot pitches (dx = {alignment.dx:+.0f}, "
        f"dy = {alignment.dy:+.0f} px, scale {alignment.scale:.3f}; {alignment.tissue_before:.0%} "
        "of the spots lie on tissue); look at it with `histoboost align`, "
        "apply it with `featurize --alignment auto`"
    )


def move_spots(slide: Slide, alignment: Alignment) -> Slide:
    """The same slide with its spots where the alignment puts them."""
    if not alignment.changes:
        return slide  # to the last bit
    return replace(slide, xy=alignment.transform.apply(slide.xy, slide.image.shape))


def asked_alignments(dataset: Dataset, alignment: str | Path) -> dict[str, AskedAlignment]:
    """What ``featurize --alignment`` asks for, for every slide; looks at no pixels.

    Parameters
    ----------
    dataset : Dataset
        The slides.
    alignment : str or Path
        ``"none"``, ``"auto"`` or the path of a table that `write_table` wrote or a person did.

    Returns
    -------
    dict
        Slide name to what `alignment_of` takes.

    Raises
    ------
    HistoboostError
        If the table cannot be read or has no row for a slide.
    """
    if alignment in ("none", "auto"):
        return {slide.name: str(alignment) for slide in dataset.slides}
    table = read_table(alignment)
    for slide in dataset.slides:
        if slide.name not in table:
            raise BadInput(
                f"{alignment}: no row for slide {slide.name}; "
                "add one (dx = 0, dy = 0, scale = 1 leaves it as it is)"
            )
    return {slide.name: table[slide.name] for slide in dataset.slides}


def alignment_of(slide: Slide, asked: AskedAlignment) -> Alignment:
    """How the spots of a slide are to be moved.

    Parameters
    ----------
    slide : Slide
        Its image is read, unless `asked` is an `Alignment`.
    asked : {"none", "auto"} or Alignment
        ``"none"``: nothing moves, but a slide that looks misaligned is warned about;
        ``"auto"``: what `align` is confident of, with a warning where it is not; otherwise this.
    """
    if isinstance(asked, Alignment):
        return asked
    if asked == "auto":
        found = align(slide)
        if not found.confident:
            _warn(f"slide {slide.name}: alignment leaves the spots as they are: {found.reason}")
        return found
    message = misalignment(slide, align(slide, unless_on_tissue=SURELY_PLACED))
    if message:
        _warn(f"slide {slide.name}: {message}")
    return Alignment(slide.name)


def resolve_alignment(dataset: Dataset, alignment: str | Path) -> dict[str, Alignment]:
    """`alignment_of` every slide: reads every image, unless a table is given.

    Raises
    ------
    HistoboostError
        If the table cannot be read or has no row for a slide.
    """
    asked = asked_alignments(dataset, alignment)
    return {slide.name: alignment_of(slide, asked[slide.name]) for slide in dataset.slides}


def _warn(message: str) -> None:
    warnings.warn(message, HistoboostWarning, stacklevel=3)


def write_table(path: str | Path, alignments: Iterable[Alignment]) -> None:
    """Write alignments as CSV with the columns `COLUMNS`.

    Raises
    ------
    HistoboostError
        If `path` is a directory.
    """
    if Path(path).is_dir():
        raise BadInput(f"{path}: is a directory; give the name of a file")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for one in alignments:
        shares = [
            "" if math.isnan(share) else f"{share:.4f}"
            for share in (one.tissue_before, one.tissue_after)
        ]
        confident = str(one.confident).lower()
        writer.writerow([one.slide, one.dx, one.dy, one.scale, *shares, confident])
    write_text(Path(path), text.getvalue())


def read_table(path: str | Path) -> dict[str, Alignment]:
    """Read a table of alignments; the columns slide, dx, dy and scale are enough.

    Returns
    -------
    dict
        Slide name to `Alignment`; every row counts, whatever its ``confident`` says.

    Raises
    ------
    HistoboostError
        If the file is missing, lacks a column, names a slide twice or holds no usable number.
    """
    if not Path(path).is_file():
        raise BadInput(
            f"{path}: no such alignment table; make one with `histoboost align DATA -o {path}`, "
            "or give none or auto"
        )
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            rows = list(csv.DictReader(file))
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: not a CSV table ({error})") from error
    found: dict[str, Alignment] = {}
    for line, row in enumerate(rows, start=2):
        dx, dy, scale = (_number(path, line, row, column) for column in ("dx", "dy", "scale"))
        name = row.get("slide") or ""
        if not name or name in found:
            what = f"slide {name!r} twice" if name else "no slide name"
            raise BadInput(f"{path}: line {line}: {what}; give one row per slide")
        if scale <= 0:
            raise BadInput(f"{path}: line {line}: scale must be above 0; 1 changes nothing")
        found[name] = Alignment(name, dx, dy, scale, reason=f"given in {path}")
    return found


def _number(path: str | Path, line: int, row: Mapping[str, str | None], column: str) -> float:
    text = row.get(column)
    if text is None:
        raise BadInput(
            f"{path}: line {line}: no column {column!r}; the table needs slide, dx, dy, scale"
        )
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"{path}: line {line}: column {column!r} holds {text!r}, no number")
    return value


def as_json(alignments: Iterable[Alignment]) -> dict[str, object]:
    """``{"convention", "slides": [..]}``: the table's columns, reasons and estimates."""
    slides = []
    for one in alignments:
        row = asdict(one)
        for share in ("tissue_before", "tissue_after"):
            if math.isnan(row[share]):
                row[share] = None
        slides.append(row)
    return {
        "convention": "x' = scale * (x - cx) + cx + dx, y likewise; pixels; "
        "(cx, cy) = (width / 2, height / 2) of the image",
        "slides": slides,
    }
