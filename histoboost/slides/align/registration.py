"""Registration of a spot table with its image: the transform under which spots lie on tissue.

A Visium table lists the spots under tissue. In the right position its spots lie on tissue, and the
empty positions between and around them on glass. Every spot and every such empty position votes
with the log probability that it falls on tissue, or on glass; the score of a transform is the sum.
A bootstrap over regions of the slide tells whether the best transform can be trusted: it cannot if
it moves about, or jumps to another one nearly as good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from histoboost.slides.align.tissue_grid import CERTAINTY, TissueGrid, estimate_tissue
from histoboost.slides.align.votes import REGIONS, Votes, collect_votes, straight_sides
from histoboost.slides.tissue import look_up

Array = NDArray[np.float64]

#: Search range of shifts, in pitches each way, and of scales.
MAX_SHIFT = 8.0
SCALES = np.linspace(0.93, 1.07, 15)

#: Grid cells per pitch for the search over all shifts, and for the refinement.
COARSE, FINE = 3, 6

#: Candidate thresholds between glass (0) and tissue (1), in log density.
BORDERS = (0.35, 0.5, 0.65)

#: Probability of glass outside the image, which is hardly known.
GLASS_BEYOND = 0.7

#: Bootstrap samples of the regions of a slide.
RESAMPLES = 200

#: Neighbouring votes are not independent: exponent that flattens the likelihood.
TEMPER = 0.3

#: Standard deviation of the prior on scales.
SCALE_SPREAD = 0.03


@dataclass(frozen=True)
class Transform:
    """``x' = scale * (x - cx) + cx + dx``, likewise y; (cx, cy) is the centre of the image."""

    dx: float = 0.0
    dy: float = 0.0
    scale: float = 1.0

    def apply(self, xy: Array, shape: tuple[int, int]) -> Array:
        """Move spots (N, 2) on an image of `shape` (height, width)."""
        centre = np.array([shape[1] / 2, shape[0] / 2])
        return cast(Array, self.scale * (xy - centre) + centre + np.array([self.dx, self.dy]))


@dataclass(frozen=True)
class Registration:
    """The best transform and its evidence.

    95 % of bootstrap samples put the spots within `spread` pitches of it, and all thresholds for
    tissue within `agreement`. `at_edge`: it lies at the edge of the search range. `framed`: the
    spots end in straight rows on all sides, so that the edge of the tissue is unknown.
    `empty_on_glass`: share of the empty positions on the image that lie on glass.
    """

    transform: Transform
    spread: float
    agreement: float
    at_edge: bool
    framed: bool
    empty_on_glass: float


def register(
    xy: Array, shape: tuple[int, int], pitch: float, density: NDArray[np.float32], block: int
) -> Registration:
    """Register the spots `xy`, (N, 2) in pixels, with the `stain_density` of an image."""
    votes = collect_votes(xy, pitch)
    answers = []
    for border in BORDERS:
        coarse = estimate_tissue(density, block, pitch, border, COARSE)
        answers.append((*_search(votes, coarse, xy, shape, pitch), border))
    _, start, spread, at_edge, border = max(answers, key=lambda answer: answer[0])
    fine = estimate_tissue(density, block, pitch, border, FINE)
    best = _refine(votes, fine, start, shape, pitch)
    distances = [distance(answer[1], start, xy, shape) / pitch for answer in answers]
    return Registration(
        transform=best,
        spread=spread,
        agreement=max(distances),
        at_edge=at_edge,
        framed=len(straight_sides(xy, pitch)) == 4,
        empty_on_glass=_empty_on_glass(votes, fine, best, shape),
    )


def _scores(
    votes: Votes,
    grid: TissueGrid,
    start: Transform,
    scales: Array,
    steps: int,
    shape: tuple[int, int],
) -> NDArray[np.float32]:
    """Sum of the votes of every region, (regions, scales, 2 steps + 1, 2 steps + 1).

    The last two axes are shifts by whole grid cells around `start`, rows first.
    """
    size = 2 * steps + 1
    out = np.zeros((REGIONS, len(scales), size, size), np.float32)
    layers = {
        True: (grid.tissue, np.log(1 - CERTAINTY)),
        False: (grid.glass, np.log(GLASS_BEYOND)),
    }
    views = {}
    for kind, (layer, beyond) in layers.items():
        padded = np.pad(layer, size, constant_values=np.float32(beyond))
        views[kind] = np.lib.stride_tricks.sliding_window_view(padded, (size, size)), beyond
    for index, scale in enumerate(scales):
        transform = Transform(start.dx, start.dy, float(scale))
        for positions, kind, region, weight in votes:
            view, beyond = views[kind]
            moved = transform.apply(positions, shape)
            column, row = np.floor(moved / grid.cell).astype(np.intp).T + size - steps
            seen = (row >= 0) & (row < view.shape[0]) & (column >= 0) & (column < view.shape[1])
            total = view[row[seen], column[seen]].sum(axis=0)
            out[region, index] += weight * (total + beyond * np.count_nonzero(~seen))
    return out


def _shifts(cell: float, steps: int) -> tuple[Array, Array]:
    """Shift in x and in y of every entry of the last two axes of `_scores`, in pixels."""
    along = np.arange(-steps, steps + 1) * cell
    y, x = np.meshgrid(along, along, indexing="ij")
    return x, y


def _search(
    votes: Votes, grid: TissueGrid, xy: Array, shape: tuple[int, int], pitch: float
) -> tuple[float, Transform, float, bool]:
    """Score, best transform, its spread over the bootstrap and whether it is at the edge."""
    steps = int(np.ceil(MAX_SHIFT * pitch / grid.cell))
    scores = _scores(votes, grid, Transform(), SCALES, steps, shape)
    prior = -((SCALES - 1) ** 2) / 2 / SCALE_SPREAD**2 / TEMPER
    dx, dy = _shifts(grid.cell, steps)
    each = scores.reshape(REGIONS, -1)
    extra = np.broadcast_to(prior[:, None, None], scores.shape[1:]).reshape(-1)

    def transform(index: int) -> Transform:
        scale, shift = divmod(index, dx.size)
        return Transform(dx.flat[shift], dy.flat[shift], float(SCALES[scale]))

    total = each.sum(axis=0) + extra
    winner = int(total.argmax())
    best = transform(winner)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(len(each), np.full(len(each), 1 / len(each)), size=RESAMPLES)
    redrawn = (draws.astype(np.float32) @ each + extra).argmax(axis=1)
    moves = [distance(transform(int(index)), best, xy, shape) for index in redrawn]
    at_edge = max(abs(best.dx), abs(best.dy)) >= steps * grid.cell
    return float(total[winner]), best, float(np.quantile(moves, 0.95)) / pitch, at_edge


def _refine(
    votes: Votes, grid: TissueGrid, start: Transform, shape: tuple[int, int], pitch: float
) -> Transform:
    """Mean of the transforms around `start`, weighted by their probability."""
    steps = int(np.ceil(pitch / grid.cell))
    scales = start.scale + np.linspace(-0.03, 0.03, 13)
    scores = _scores(votes, grid, start, scales, steps, shape).sum(axis=0)
    prior = -((scales - 1) ** 2) / 2 / SCALE_SPREAD**2
    logs = TEMPER * scores.astype(np.float64) + prior[:, None, None]
    weight = np.exp(logs - logs.max())
    weight /= weight.sum()
    dx, dy = _shifts(grid.cell, steps)
    return Transform(
        dx=float(start.dx + (weight * dx).sum()),
        dy=float(start.dy + (weight * dy).sum()),
        scale=float((weight.sum(axis=(1, 2)) * scales).sum()),
    )


def distance(one: Transform, other: Transform, xy: Array, shape: tuple[int, int]) -> float:
    """Median distance in pixels of the spots under two transforms."""
    gap = one.apply(xy, shape) - other.apply(xy, shape)
    return float(np.median(np.hypot(gap[:, 0], gap[:, 1])))


def _empty_on_glass(
    votes: Votes, grid: TissueGrid, transform: Transform, shape: tuple[int, int]
) -> float:
    positions = [group[0] for group in votes if not group[1]]
    if not positions:
        return 0.0
    moved = transform.apply(np.concatenate(positions), shape)
    values = look_up(grid.glass, moved, grid.cell, np.nan)
    values = values[np.isfinite(values)]
    return float(np.mean(values > np.log(0.5))) if len(values) else 0.0
