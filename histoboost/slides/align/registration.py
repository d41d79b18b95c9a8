"""Where a spot table belongs on its image: the transform under which spots lie on tissue.

The spots of a Visium table are those under tissue. So in the right place of the table its spots
lie on tissue, and the places amid and around them that hold no spot lie on glass. Every spot and
every such empty place votes with the logarithm of how likely the place it falls on is tissue, or
glass; a transform's score is the sum. Whether the best one can be trusted is asked of the votes
themselves: regions of the slide are drawn with replacement, and where the best transform then
moves about, or jumps to another that is nearly as good, it cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from histoboost.slides.tissue import block_mean, otsu

Array = NDArray[np.float64]

#: Shifts are looked for up to this many pitches each way, scales in this range.
MAX_SHIFT = 8.0
SCALES = np.linspace(0.93, 1.07, 15)

#: Cells per pitch of the grid for the search over all shifts, and of the grid for the last digits.
COARSE, FINE = 3, 6

#: Where between glass (0) and tissue (1) the border may lie, in log density, and its softness.
BORDERS = (0.35, 0.5, 0.65)
SOFTNESS = 0.12

#: No place is tissue, or glass, with more certainty: dirt, folds and fat exist.
CERTAINTY = 0.95

#: A place beyond the image holds no spot; whether it would be glass is little known.
GLASS_BEYOND = 0.7

#: Empty places lie this far from the nearest spot (pitches), one per `EMPTY_STEP` squared.
EMPTY_FROM, EMPTY_TO, EMPTY_STEP = 0.95, 3.0, 1 / 3

#: More spots, or empty places, than this add time and no certainty.
MAX_VOTES = 5000

#: Neighbouring votes are no independent witnesses: the likelihood is flattened by this power.
TEMPER = 0.3

#: Standard deviation of scales before anything is seen.
SCALE_SPREAD = 0.03

#: Regions across a slide that are drawn with replacement, and how often.
REGIONS_ACROSS = 6
RESAMPLES = 200


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
class Placement:
    """The best transform and what speaks for it.

    Attributes
    ----------
    transform : Transform
    spread : float
        95 of 100 resamplings put the spots within this many pitches of the best transform.
    agreement : float
        Largest distance (pitches) between the answers for the different borders of tissue.
    at_edge : bool
        Whether the best transform lies at the edge of what was searched.
    framed : bool
        Whether the spots end at a straight side all around, so that the tissue's edge is not seen.
    empty_on_glass : float
        Share of the empty places that lie on glass after the transform, of those on the image.
    """

    transform: Transform
    spread: float
    agreement: float
    at_edge: bool
    framed: bool
    empty_on_glass: float


@dataclass(frozen=True)
class Votes:
    """Places that speak for or against a transform, in groups of one kind and one region.

    Attributes
    ----------
    groups : list of tuple
        (places (n, 2) in pixels, whether they are spots, region, weight of one place)
    regions : int
    """

    groups: list[tuple[Array, bool, int, float]]
    regions: int


@dataclass(frozen=True)
class Belief:
    """What a grid says about tissue: log probability of tissue and of glass, per cell.

    Attributes
    ----------
    cell : float
        Side of a grid cell in pixels.
    tissue, glass : ndarray of shape (h, w)
    """

    cell: float
    tissue: NDArray[np.float32]
    glass: NDArray[np.float32]


def place(
    xy: Array, shape: tuple[int, int], pitch: float, density: NDArray[np.float32], block: int
) -> Placement:
    """Find where the spots belong.

    Parameters
    ----------
    xy : ndarray of shape (N, 2)
        Spots, in pixels.
    shape : tuple of int
        Height and width of the image.
    pitch : float
        Distance between neighbouring spots, in pixels.
    density : ndarray
        `stain_density` in blocks of `block` pixels.
    block : int
        Side of a block in pixels.

    Returns
    -------
    Placement
    """
    votes = collect_votes(xy, pitch)
    answers = []
    for border in BORDERS:
        coarse = believe(density, block, pitch, border, COARSE)
        answers.append((*_search(votes, coarse, xy, shape, pitch), border))
    _, start, spread, at_edge, border = max(answers, key=lambda answer: answer[0])
    fine = believe(density, block, pitch, border, FINE)
    best = _refine(votes, fine, start, shape, pitch)
    distances = [_distance(answer[1], start, xy, shape) / pitch for answer in answers]
    return Placement(
        transform=best,
        spread=spread,
        agreement=max(distances),
        at_edge=at_edge,
        framed=len(_straight_sides(xy, pitch)) == 4,
        empty_on_glass=_empty_on_glass(votes, fine, best, shape),
    )


def collect_votes(xy: Array, pitch: float) -> Votes:
    """The spots, and the empty places amid and around them that could have held one."""
    grid = _grid_near(xy, EMPTY_TO * pitch, round(EMPTY_TO / EMPTY_STEP))
    distance, _ = cKDTree(xy).query(grid, distance_upper_bound=EMPTY_TO * pitch)
    empty = grid[(distance > EMPTY_FROM * pitch) & np.isfinite(distance)]
    empty = empty[~_beyond_the_frame(empty, xy, pitch)]
    spots, spot_weight = _thin(xy)
    empty, empty_weight = _thin(empty)
    places = np.concatenate([spots, empty])
    region = _regions(places)
    is_spot = np.arange(len(places)) < len(spots)
    groups = []
    for index in range(REGIONS_ACROSS**2):
        for kind, weight in ((True, spot_weight), (False, EMPTY_STEP**2 * empty_weight)):
            members = places[(region == index) & (is_spot == kind)]
            if len(members):
                groups.append((members, kind, index, weight))
    return Votes(groups, REGIONS_ACROSS**2)


def _grid_near(xy: Array, reach: float, per_reach: int) -> Array:
    """Points of a square grid, `per_reach` to a `reach`, wherever a spot is within reach.

    In blocks around the spots, so that one spot far away does not span a grid over the void.
    """
    offsets = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 2), axis=-1).reshape(-1, 2)
    blocks = np.unique(np.floor(xy / reach), axis=0)
    blocks = np.unique((blocks[:, None] + offsets).reshape(-1, 2), axis=0)
    inner = np.stack(np.meshgrid(*[np.arange(per_reach) / per_reach] * 2), axis=-1).reshape(-1, 2)
    return cast(Array, ((blocks[:, None] + inner) * reach).reshape(-1, 2))


def _thin(places: Array) -> tuple[Array, float]:
    """At most `MAX_VOTES` of the places, drawn at random, and the weight that makes up for it."""
    if len(places) <= MAX_VOTES:
        return places, 1.0
    chosen = np.random.default_rng(0).choice(len(places), MAX_VOTES, replace=False)
    return places[np.sort(chosen)], len(places) / MAX_VOTES


def believe(
    density: NDArray[np.float32], block: int, pitch: float, border: float, per_pitch: int
) -> Belief:
    """Probability of tissue and glass on a grid of about `per_pitch` cells per pitch."""
    logs = _log_density(density, block, pitch)
    _, glass, tissue = otsu(logs)
    gap = max(tissue - glass, 1e-6)
    middle = glass + border * gap
    likely = 1 / (1 + np.exp(-np.clip((logs - middle) / (SOFTNESS * gap), -30, 30)))
    likely = np.clip(likely, 1 - CERTAINTY, CERTAINTY)
    blocks = max(1, round(pitch / max(per_pitch, 1) / block))  # spots may lie less than a px apart
    return Belief(
        cell=float(blocks * block),
        tissue=block_mean(np.log(likely), blocks),
        glass=block_mean(np.log(1 - likely), blocks),
    )


def contrast(density: NDArray[np.float32], block: int, pitch: float) -> float:
    """How many times denser than glass tissue is; 1 where there are no two classes."""
    _, glass, tissue = otsu(_log_density(density, block, pitch))
    return float(np.exp(tissue - glass))


def on_tissue(
    xy: Array, density: NDArray[np.float32], block: int, pitch: float
) -> NDArray[np.bool_]:
    """Whether each spot (N, 2) lies on tissue; spots beyond the image do not."""
    belief = believe(density, block, pitch, 0.5, int(pitch / block))
    return np.asarray(_look_up(belief.tissue, xy, belief.cell, -np.inf) > np.log(0.5))


def _log_density(density: NDArray[np.float32], block: int, pitch: float) -> Array:
    # A spot of Visium is 0.55 pitches wide: blurred over about that, a spot's worth of tissue.
    blurred = gaussian_filter(density, 0.14 * pitch / block)
    return cast(Array, np.log(blurred + 0.01))


def _look_up(grid: NDArray[np.float32], xy: Array, cell: float, beyond: float) -> Array:
    column, row = np.floor(xy / cell).astype(np.intp).T
    inside = (row >= 0) & (row < grid.shape[0]) & (column >= 0) & (column < grid.shape[1])
    values = np.full(len(xy), beyond)
    values[inside] = grid[row[inside], column[inside]]
    return values


def _regions(places: Array) -> NDArray[np.intp]:
    """Columns of equally many places, each cut into rows of equally many."""

    def bins(values: Array) -> NDArray[np.intp]:
        order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
        return order * REGIONS_ACROSS // max(len(values), 1)

    column = bins(places[:, 0])
    region = np.zeros(len(places), np.intp)
    for index in range(REGIONS_ACROSS):
        inside = column == index
        region[inside] = index * REGIONS_ACROSS + bins(places[inside, 1])
    return region


def _straight_sides(xy: Array, pitch: float) -> list[tuple[int, int, float]]:
    """Sides where the spots end in a long straight row: axis, direction, coordinate.

    There the capture area ends, not the tissue.
    """
    sides = []
    for axis in (0, 1):
        along = xy[:, 1 - axis]
        for sign, side in ((-1, xy[:, axis].min()), (1, xy[:, axis].max())):
            rim = np.abs(xy[:, axis] - side) < 0.6 * pitch
            filled = len(np.unique(np.round(along[rim] / pitch)))
            if filled > 0.6 * (np.ptp(along) / pitch + 1):
                sides.append((axis, sign, float(side)))
    return sides


def _beyond_the_frame(places: Array, xy: Array, pitch: float) -> NDArray[np.bool_]:
    """Places past a straight side of the spots."""
    beyond = np.zeros(len(places), bool)
    for axis, sign, side in _straight_sides(xy, pitch):
        beyond |= sign * (places[:, axis] - side) > 0
    return beyond


def _scores(
    votes: Votes,
    belief: Belief,
    start: Transform,
    scales: Array,
    steps: int,
    shape: tuple[int, int],
) -> NDArray[np.float32]:
    """Sum of votes of every region, (regions, scales, 2 steps + 1, 2 steps + 1).

    The last two axes are shifts by whole grid cells around `start`, rows first.
    """
    size = 2 * steps + 1
    out = np.zeros((votes.regions, len(scales), size, size), np.float32)
    layers = {
        True: (belief.tissue, np.log(1 - CERTAINTY)),
        False: (belief.glass, np.log(GLASS_BEYOND)),
    }
    views = {}
    for kind, (grid, beyond) in layers.items():
        padded = np.pad(grid, size, constant_values=np.float32(beyond))
        views[kind] = np.lib.stride_tricks.sliding_window_view(padded, (size, size)), beyond
    for index, scale in enumerate(scales):
        transform = Transform(start.dx, start.dy, float(scale))
        for places, kind, region, weight in votes.groups:
            view, beyond = views[kind]
            moved = transform.apply(places, shape)
            column, row = np.floor(moved / belief.cell).astype(np.intp).T + size - steps
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
    votes: Votes, belief: Belief, xy: Array, shape: tuple[int, int], pitch: float
) -> tuple[float, Transform, float, bool]:
    """Score, best transform, its spread over resamplings and whether it is at the edge."""
    steps = int(np.ceil(MAX_SHIFT * pitch / belief.cell))
    scores = _scores(votes, belief, Transform(), SCALES, steps, shape)
    prior = -((SCALES - 1) ** 2) / 2 / SCALE_SPREAD**2 / TEMPER
    dx, dy = _shifts(belief.cell, steps)
    each = scores.reshape(votes.regions, -1)
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
    moves = [_distance(transform(int(index)), best, xy, shape) for index in redrawn]
    at_edge = max(abs(best.dx), abs(best.dy)) >= steps * belief.cell
    return float(total[winner]), best, float(np.quantile(moves, 0.95)) / pitch, at_edge


def _refine(
    votes: Votes, belief: Belief, start: Transform, shape: tuple[int, int], pitch: float
) -> Transform:
    """Mean over the transforms around `start`, weighted by their probability."""
    steps = int(np.ceil(pitch / belief.cell))
    scales = start.scale + np.linspace(-0.03, 0.03, 13)
    scores = _scores(votes, belief, start, scales, steps, shape).sum(axis=0)
    prior = -((scales - 1) ** 2) / 2 / SCALE_SPREAD**2
    logs = TEMPER * scores.astype(np.float64) + prior[:, None, None]
    weight = np.exp(logs - logs.max())
    weight /= weight.sum()
    dx, dy = _shifts(belief.cell, steps)
    return Transform(
        dx=float(start.dx + (weight * dx).sum()),
        dy=float(start.dy + (weight * dy).sum()),
        scale=float((weight.sum(axis=(1, 2)) * scales).sum()),
    )


def _distance(one: Transform, other: Transform, xy: Array, shape: tuple[int, int]) -> float:
    """Median distance in pixels between where two transforms put the spots."""
    gap = one.apply(xy, shape) - other.apply(xy, shape)
    return float(np.median(np.hypot(gap[:, 0], gap[:, 1])))


def _empty_on_glass(
    votes: Votes, belief: Belief, transform: Transform, shape: tuple[int, int]
) -> float:
    places = [group[0] for group in votes.groups if not group[1]]
    if not places:
        return 0.0
    moved = transform.apply(np.concatenate(places), shape)
    values = _look_up(belief.glass, moved, belief.cell, np.nan)
    values = values[np.isfinite(values)]
    return float(np.mean(values > np.log(0.5))) if len(values) else 0.0
