"""Estimate the shift and scale that align the spots of a slide with its tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from histoboost.slides.align.registration import Transform, distance, register
from histoboost.slides.align.tissue_grid import contrast, covered_tissue, on_tissue
from histoboost.slides.checks import MIN_SPOTS, implausible_spots
from histoboost.slides.slide import Slide
from histoboost.slides.tissue import block_side, stain_density
from histoboost.spots import spot_pitch

#: Smaller corrections, in pitches, are within the error of the method and not applied.
WORTH_MOVING = 0.25

#: Shift in pitches from which `inspect` and `featurize` report a misaligned slide.
MISALIGNED = 0.5

#: Requirements for a confident estimate (see `Registration`).
MIN_CONTRAST = 2.0
MAX_SPREAD = 0.75
MAX_DISAGREEMENT = 0.75
MIN_SPOTS_ON_TISSUE = 0.75
MIN_EMPTY_ON_GLASS = 0.6

#: Spots that cover a smaller fraction of the tissue are implausible.
MIN_COVERED = 0.05


@dataclass(frozen=True)
class Alignment:
    """A shift and scale of the spots of a slide.

    A spot at (x, y) moves to ``x' = scale * (x - cx) + cx + dx``, ``y' = scale * (y - cy) + cy
    + dy``, where (cx, cy) = (width / 2, height / 2) is the centre of the image and everything is
    in pixels of the image.

    Attributes
    ----------
    slide : str
        Name of the slide.
    dx, dy : float
        Shift in pixels; 0 for no change.
    scale : float
        1 for no change.
    tissue_before, tissue_after : float
        Share of the spots on tissue; NaN if not computed.
    confident : bool
        Whether the image determines where the spots belong. If not, nothing changes.
    reason : str
        Why the spots move, or why they do not.
    estimate : Transform or None
        Best transform found, whether or not it is used.
    spread : float or None
        95 % of bootstrap samples of the slide's regions put the spots within this many pitches of
        the best transform.
    implausible : bool
        Whether the positions of the spots are implausible, for the `reason` given.
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
    implausible: bool = False

    @property
    def transform(self) -> Transform:
        """The shift and the scale."""
        return Transform(self.dx, self.dy, self.scale)

    @property
    def changes(self) -> bool:
        """Whether any spot moves."""
        return self.transform != Transform()


def align(slide: Slide, *, unless_on_tissue: float = 1.0) -> Alignment:
    """Estimate where the spots of a slide, those under tissue, belong from its image alone.

    Without confidence the alignment changes nothing and gives the reason. With more than
    `unless_on_tissue` of the spots on tissue there is no search.
    """
    for problem in implausible_spots(slide):
        if problem.kind != "same-place":
            return Alignment(slide.name, reason=problem.message)
    xy = slide.xy[np.isfinite(slide.xy).all(axis=1)]
    pitch = spot_pitch(xy)
    if len(xy) < MIN_SPOTS or not pitch:
        return Alignment(slide.name, reason=f"fewer than {MIN_SPOTS} spots with distinct positions")
    block = block_side(slide.image, max(1, int(pitch / 12)))
    density = stain_density(slide.image, block)
    before = float(on_tissue(xy, density, block, pitch).mean())
    unchanged = Alignment(slide.name, tissue_before=before, tissue_after=before)
    if contrast(density, block, pitch) < MIN_CONTRAST:
        return replace(unchanged, reason="the image does not show both tissue and glass")
    covered = covered_tissue(xy, density, block, pitch)
    if covered < MIN_COVERED:
        reason = (
            f"the spots cover only {covered:.1%} of the tissue; their coordinates may be "
            "pixels of another image"
        )
        return replace(unchanged, reason=reason, implausible=True)
    if before > unless_on_tissue:
        return replace(unchanged, reason="nearly all spots lie on tissue, so no search was made")
    found = register(xy, slide.image.shape, pitch, density, block)
    best = Transform(
        dx=round(found.transform.dx, 2),
        dy=round(found.transform.dy, 2),
        scale=round(found.transform.scale, 5),
    )
    moved = best.apply(xy, slide.image.shape)
    after = float(on_tissue(moved, density, block, pitch).mean())
    tried = replace(unchanged, estimate=best, spread=round(found.spread, 3))
    for doubtful, why in (
        (found.framed, "the spots fill a rectangle and do not outline the tissue"),
        (found.at_edge, "the best position lies at the edge of the search range"),
        (
            found.spread > MAX_SPREAD,
            "several positions fit about equally well "
            f"(they differ by {found.spread:.2g} spot pitches)",
        ),
        (
            found.agreement > MAX_DISAGREEMENT,
            "the estimate depends on the threshold for tissue",
        ),
        (
            after < MIN_SPOTS_ON_TISSUE,
            f"even in the best position {1 - after:.0%} of spots miss it",
        ),
        (
            found.empty_on_glass < MIN_EMPTY_ON_GLASS,
            "even in the best position much tissue has no spots",
        ),
    ):
        if doubtful:
            return replace(tried, reason=why)
    pitches = distance(best, Transform(), xy, slide.image.shape) / pitch
    if pitches < WORTH_MOVING:
        return replace(tried, confident=True, reason="the spots are aligned, nothing to change")
    return replace(
        tried,
        dx=best.dx,
        dy=best.dy,
        scale=best.scale,
        tissue_after=after,
        confident=True,
        reason=f"moves the spots by {pitches:.2g} spot pitches",
    )


def misalignment(slide: Slide, alignment: Alignment) -> str | None:
    """Describe a misalignment in one line; None if there is none."""
    if alignment.implausible:
        return alignment.reason
    pitch = spot_pitch(slide.xy)
    if not alignment.changes or pitch is None:
        return None
    xy = slide.xy[np.isfinite(slide.xy).all(axis=1)]
    pitches = distance(alignment.transform, Transform(), xy, slide.image.shape) / pitch
    if pitches < MISALIGNED:
        return None
    return (
        f"the spots look misaligned by {pitches:.1f} spot pitches (dx = {alignment.dx:+.0f}, "
        f"dy = {alignment.dy:+.0f} px, scale {alignment.scale:.3f}; {alignment.tissue_before:.0%} "
        "of the spots lie on tissue); look at it with `histoboost align`, "
        "apply it with `featurize --alignment auto`"
    )
