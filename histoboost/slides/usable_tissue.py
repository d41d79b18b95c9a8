"""Find the usable tissue of a slide: without glass, pen marks, folds and blur."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from histoboost.errors import BadInput
from histoboost.slides.images.base import SlideImage
from histoboost.slides.tissue import CELLS_PER_PITCH, Grid, look_up, otsu, read_grid

Mask = NDArray[np.bool_]
Array = NDArray[np.float64]

#: Bounds of the tissue threshold, as density above glass.
FAINT, PLAIN = 0.05, 0.15

#: A slide whose densest part is less dense than this, above glass, has no tissue.
LEAST_DENSITY = 0.08

#: Least median brightness, 0..255, of a bright-field slide.
DARK = 60

#: Ink absorbs more red or blue than green by these factors; no mixture of H and E does.
INK_RED, INK_BLUE = 1.15, 1.15
#: Least density above glass of ink, and of black ink.
INK, BLACK_INK = 0.2, 0.9

#: Least density of a fold, relative to the median of the tissue and absolute.
FOLD, LEAST_FOLD = 2.0, 0.8

#: Tissue with less than this fraction of the slide's median sharpness is out of focus.
BLURRED = 0.15
#: Sharpness cannot be judged with fewer pixels per pitch.
FOCUS_PX = 16

#: Points at which the disc of a spot is sampled.
DISC_POINTS = 64


@dataclass(frozen=True, eq=False)
class UsableTissue:
    """Usable tissue `usable` (h, w) on a grid with cells of `cell` full-resolution pixels.

    `left_out` holds the masks (h, w) of unusable tissue: ``"pen"``, ``"fold"`` and ``"blurred"``.
    """

    cell: float
    usable: Mask
    left_out: dict[str, Mask]

    def share_under(self, xy: Array, diameter: float) -> Array:
        """Fraction of the disc around every point (N, 2), in pixels, on usable tissue."""
        turn = np.pi * (3 - np.sqrt(5)) * np.arange(DISC_POINTS)  # evenly spread, as in a sunflower
        radius = diameter / 2 * np.sqrt((np.arange(DISC_POINTS) + 0.5) / DISC_POINTS)
        total = np.zeros(len(xy))
        for x, y in zip(radius * np.cos(turn), radius * np.sin(turn), strict=True):
            total += look_up(self.usable, xy + [x, y], self.cell, 0.0)
        return total / DISC_POINTS

    def within(self, mask: Mask) -> UsableTissue:
        """Restrict to `mask` (h, w)."""
        left_out = {reason: cells & mask for reason, cells in self.left_out.items()}
        return replace(self, usable=self.usable & mask, left_out=left_out)

    def __str__(self) -> str:
        found = self.usable.sum() + sum(cells.sum() for cells in self.left_out.values())
        text = f"tissue on {found / self.usable.size:.0%} of the slide"
        parts = [
            f"{cells.sum() / found:.1%} {reason}"
            for reason, cells in self.left_out.items()
            if cells.sum() > 0.0005 * found
        ]
        return text + (f"; of it left out: {', '.join(parts)}" if parts else "")


def find_tissue(image: SlideImage, pitch_px: float, name: str) -> UsableTissue:
    """Find the tissue of a slide and the parts of it that are unusable.

    Otsu's threshold of the log stain density, blurred over a spot, separates tissue from glass.
    Ink has a colour that no mixture of haematoxylin and eosin has; folds are far denser than the
    tissue; blurred tissue has less energy of the Laplacian per variance than the median.
    `pitch_px`, the pitch of the spots to lay, sets the scale in pixels; `name` of the slide is for
    messages. Refuses a blank or dark slide.
    """
    grid = read_grid(image, pitch_px)
    per_pitch = pitch_px / grid.cell
    _refuse_dark(grid, name)
    spread = np.sqrt(np.maximum(grid.square - grid.density[..., 1] ** 2, 0))
    stain = _blur(grid.density[..., 1] + spread, 0.14 * per_pitch)
    logs = np.log(stain + 0.01)
    glass, darkest = map(float, np.quantile(stain, (0.01, 0.999)))
    plain = float(np.exp(otsu(logs)[0])) - 0.01
    # Pale tissue lies between glass and what Otsu's method takes for stained.
    threshold = glass + 0.8 * (plain - glass)
    if darkest - glass < LEAST_DENSITY:
        raise BadInput(
            f"slide {name}: no tissue found, the image is blank; give the image of the slide, "
            "--tissue all, or regions drawn in QuPath"
        )
    tissue = stain > np.clip(threshold, glass + FAINT, glass + PLAIN)
    tissue = _clean(tissue, per_pitch)
    bare = grid.density[stain <= max(threshold, glass + FAINT)]
    above = grid.density - (np.median(bare, axis=0) if len(bare) else 0)
    pen = tissue & _marks(_ink(above), per_pitch)
    fold = tissue & ~pen & _marks(_folded(above, tissue & ~pen), per_pitch)
    blurred = tissue & ~pen & ~fold
    blurred &= _blurred(grid, blurred, per_pitch, pitch_px / grid.look_px)
    left_out = {"pen": pen, "fold": fold, "blurred": blurred}
    return UsableTissue(grid.cell, tissue & ~pen & ~fold & ~blurred, left_out)


def whole_slide(image: SlideImage, pitch_px: float) -> UsableTissue:
    """Take the whole slide as usable tissue, without reading it."""
    cell = max(pitch_px / CELLS_PER_PITCH, 1.0)
    height, width = image.shape
    return UsableTissue(cell, np.ones((int(height / cell) + 1, int(width / cell) + 1), bool), {})


def _refuse_dark(grid: Grid, name: str) -> None:
    seen = grid.black < 0.5
    density = grid.density if seen.all() else grid.density[seen]
    bright = 255 * 10 ** -float(np.median(density)) if seen.any() else 0.0
    if bright < DARK or seen.mean() < 0.05:
        raise BadInput(
            f"slide {name}: is dark ({bright:.0f} of 255 in the median), as fluorescence is; give "
            "an H&E image in bright field"
        )


def _clean(tissue: Mask, per_pitch: float) -> Mask:
    """Remove specks, and fill holes smaller than a spot and its rim."""
    tissue, box = tissue.copy(), _bounding_box(tissue)
    closed = ndimage.binary_closing(np.pad(tissue[box], 8), _disc(0.2 * per_pitch))
    tissue[box] = closed[8:-8, 8:-8]
    small = ~_large_components(~tissue, per_pitch**2)
    return _large_components(tissue | small, 0.5 * per_pitch**2)


def _ink(above: NDArray[np.float32]) -> Mask:
    red, green, blue = np.moveaxis(above, 2, 0)
    coloured = (red > INK_RED * green + INK / 2) | (blue > INK_BLUE * green + INK / 2)
    dense = np.maximum(red, blue) > INK
    black = (np.minimum(red, blue) > 0.75 * green) & (green > BLACK_INK)
    return np.asarray((coloured & dense) | black)


def _folded(above: NDArray[np.float32], tissue: Mask) -> Mask:
    total = above.mean(axis=2)
    usual = float(np.median(total[tissue])) if tissue.any() else 0.0
    return np.asarray(total > max(FOLD * usual, LEAST_FOLD))


def _blurred(grid: Grid, tissue: Mask, per_pitch: float, seen_px: float) -> Mask:
    found = np.zeros(tissue.shape, bool)
    if seen_px < FOCUS_PX or not tissue.any():
        return found
    spread = 0.35 * per_pitch
    box = _bounding_box(tissue, int(4 * spread) + 1)  # all that the filter sees
    tissue = tissue[box]
    weight = _blur(tissue.astype(np.float32), spread) + 1e-6

    def around(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(_blur(np.where(tissue, values[box], 0), spread) / weight, np.float32)

    variance = np.maximum(around(grid.square) - around(grid.density[..., 1]) ** 2, 1e-6)
    sharp = around(grid.curvature) / variance
    low = tissue & (sharp < BLURRED * float(np.median(sharp[tissue])))
    found[box] = low & _large_components(low, per_pitch**2)
    return found


def _marks(cells: Mask, per_pitch: float) -> Mask:
    """Marks at least a quarter of a pitch wide, dilated by a rim."""
    found, rim = np.zeros_like(cells), _disc(0.2 * per_pitch)
    box = _bounding_box(cells, len(rim))
    core = ndimage.binary_opening(cells[box], _disc(0.12 * per_pitch))
    found[box] = ndimage.binary_dilation(_large_components(core, 0.1 * per_pitch**2), rim)
    return found


def _large_components(mask: Mask, cells: float) -> Mask:
    """Keep connected components of at least `cells` cells."""
    found, box = np.zeros_like(mask), _bounding_box(mask)
    labels, _ = ndimage.label(mask[box])
    kept = np.bincount(labels.ravel(), minlength=1) >= max(cells, 1)
    kept[0] = False
    found[box] = kept[labels]
    return found


def _bounding_box(mask: Mask, reach: int = 0) -> tuple[slice, ...]:
    """Bounding box of a mask, extended by `reach` cells."""
    spans = ndimage.find_objects(mask.view(np.uint8)) or [(slice(0, 0),) * 2]
    return tuple(slice(max(0, span.start - reach), span.stop + reach) for span in spans[0])


def _blur(values: NDArray[np.float32], cells: float) -> NDArray[np.float32]:
    return np.asarray(ndimage.gaussian_filter(values, cells, mode="nearest"), np.float32)


def _disc(radius: float) -> Mask:
    reach = max(1, round(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.asarray(x**2 + y**2 <= reach**2 + 0.5)
