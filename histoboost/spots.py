"""The spots of a slide: where they lie and how much of each cell type is under them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.digests import digest_array, digest_bytes
from histoboost.errors import BadInput
from histoboost.names import check_slide_name

#: Spots closer than this many pitches are neighbours: 4 of a square, 6 of a hexagonal lattice
#: (whose next spots lie at 1.41 and 1.73 pitches), with room for jitter.
REACH = 1.25

#: Diameter of a spot, as a share of the distance to the next: 55 of 100 um on Visium.
SPOT_SHARE = 0.55


@dataclass(frozen=True, eq=False, repr=False)
class SpotTable:
    """All that is known about a slide's spots besides their embeddings.

    Attributes
    ----------
    slide : str
        Name of the slide.
    xy : ndarray of shape (N, 2), float64
        x = column and y = row, in pixels of the source image, in the source's order.
    spot_ids : tuple of str
        N ids, unique within the slide.
    abundance : ndarray of shape (N, T), float32, or None
        None on a slide without labels.
    cell_types : tuple of str
        T names.
    split, group : str or None
        Part of the data set; patient or animal.
    um_per_px : float or None
        Micrometres per pixel.
    image_shape : tuple of int, or None
        Height and width of the source image in pixels.
    thumbnail : ndarray of shape (h, w, 3), uint8, or None
        The slide in small, for maps. Two tables that differ in it alone are the same table.
    lattice : mapping or None
        How the spots were laid where the slide had none: ``kind``, ``pitch_px``, ``tissue`` (where
        it was looked for), ``least_share`` (of a spot's disc on tissue) ``found`` (how much
        tissue, in words) and ``places`` (how many); of several shifted copies also ``copies``.

    Raises
    ------
    HistoboostError
        If shapes disagree, a number is not finite, or an id or cell type occurs twice.
    """

    slide: str
    xy: NDArray[np.float64]
    spot_ids: tuple[str, ...]
    abundance: NDArray[np.float32] | None = None
    cell_types: tuple[str, ...] = ()
    split: str | None = None
    group: str | None = None
    um_per_px: float | None = None
    image_shape: tuple[int, int] | None = None
    thumbnail: NDArray[np.uint8] | None = field(default=None, compare=False)
    lattice: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_slide_name(self.slide)
        put = object.__setattr__  # the only way into a frozen dataclass
        put(self, "xy", np.ascontiguousarray(self.xy, dtype=np.float64))
        put(self, "spot_ids", tuple(map(str, self.spot_ids)))
        put(self, "cell_types", tuple(map(str, self.cell_types)))
        if self.abundance is not None:
            put(self, "abundance", np.ascontiguousarray(self.abundance, dtype=np.float32))
        if self.image_shape is not None:
            put(self, "image_shape", (int(self.image_shape[0]), int(self.image_shape[1])))
        fault = self._fault()
        if fault is not None:
            raise BadInput(f"slide {self.slide}: {fault}; correct the source")

    @property
    def labelled(self) -> bool:
        """Whether the slide carries abundances."""
        return self.abundance is not None

    def __repr__(self) -> str:
        types = f"{len(self.cell_types)} cell types" if self.labelled else "no labels"
        return f"SpotTable({self.slide!r}, {len(self)} spots, {types})"

    def __len__(self) -> int:
        return len(self.xy)

    def differences(self, other: SpotTable) -> list[str]:
        """Names of the attributes in which two tables differ, a few words each.

        Of two lattices how these were laid, from which all else follows.
        """
        laid = _laid_otherwise(self.lattice, other.lattice)
        return laid or [
            _difference(part.name, getattr(self, part.name), getattr(other, part.name))
            for part in fields(self)
            if part.compare and not _same(getattr(self, part.name), getattr(other, part.name))
        ]

    def with_labels(self, other: SpotTable | None) -> SpotTable:
        """The same spots with abundances, cell types, split and group of `other`; None: without."""
        return replace(
            self,
            abundance=None if other is None else other.abundance,
            cell_types=() if other is None else other.cell_types,
            split=None if other is None else other.split,
            group=None if other is None else other.group,
        )

    def with_group_of(self, stored: SpotTable) -> SpotTable:
        """The same, in the group that is known already where this table tells of none."""
        return self if self.group is not None else replace(self, group=stored.group)

    @property
    def digest(self) -> str:
        """SHA-256 over everything that `differences` compares."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.compare}
        if self.lattice is None:
            del values["lattice"]  # as tables were before there were lattices
        plain = {k: digest_array(v) if isinstance(v, np.ndarray) else v for k, v in values.items()}
        return digest_bytes(json.dumps(plain, sort_keys=True).encode())

    def _fault(self) -> str | None:
        n = len(self.xy)
        if self.xy.ndim != 2 or self.xy.shape[1] != 2:
            return f"coordinates have shape {self.xy.shape}, not (N, 2)"
        if n == 0:
            return "has no spots"
        if not np.isfinite(self.xy).all():
            return "coordinates are not all finite"
        if len(self.spot_ids) != n:
            return f"{n} spots but {len(self.spot_ids)} ids"
        if len(set(self.spot_ids)) != n:
            return "spot ids are not unique"
        if len(set(self.cell_types)) != len(self.cell_types):
            return "cell types are not unique"
        if self.thumbnail is not None and (
            self.thumbnail.dtype != np.uint8 or self.thumbnail.shape[2:] != (3,)
        ):
            return f"thumbnail is {self.thumbnail.dtype} {self.thumbnail.shape}, not uint8 RGB"
        if self.abundance is None:
            return None
        if self.abundance.shape != (n, len(self.cell_types)) or not self.cell_types:
            return f"abundances have shape {self.abundance.shape}, not {(n, len(self.cell_types))}"
        if not np.isfinite(self.abundance).all():
            return "abundances are not all finite"
        return None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return bool(np.array_equal(a, b))
    return type(a) is type(b) and bool(a == b)


#: What a lattice is laid by, in words.
_LAID = {"pitch_px": "pitch in px", "tissue": "tissue", "copies": "copies (--finer)"}


def _laid_otherwise(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> list[str]:
    if a is None or b is None:
        return []
    both = {key: (a.get(key, 1), b.get(key, 1)) for key in _LAID}
    return [
        f"its lattice's {_LAID[key]} is {there} there, {here} here"
        for key, (there, here) in both.items()
        if there != here
    ]


def _difference(name: str, a: Any, b: Any) -> str:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape != b.shape:
        return f"{name} has shape {a.shape} there, {b.shape} here"
    if a is None or b is None or isinstance(a, str | float):
        return f"{name} is {_brief(a)} there, {_brief(b)} here"
    return f"{name} differ{'' if name.endswith('s') else 's'}"


def _brief(value: Any) -> str:
    if value is None:
        return "absent"
    return "given" if isinstance(value, np.ndarray) else repr(value)


def check_cell_types(labelled: Sequence[SpotTable], location: str, remedy: str) -> None:
    """Refuse labelled slides of the store at `location` that do not share their cell types.

    `remedy` follows on the two slides' names, up to the command that removes one of them.
    """
    for table in labelled:
        if table.cell_types != labelled[0].cell_types:
            raise BadInput(
                f"slide {table.slide}: has other cell types than {labelled[0].slide}{remedy} with "
                f"histoboost cache remove {location} --slide {table.slide}"
            )


def spot_pitch(xy: NDArray[np.float64]) -> float | None:
    """Distance of neighbouring spots, in the unit of `xy` (N, 2); None for a single place.

    The median distance to the nearest spot is too small on a jittered lattice (the nearest of
    several is nearer than the typical one), so it is refined once by the median over all pairs
    within reach. Spots that are not finite, or at one place twice, do not count.
    """
    from scipy.spatial import cKDTree

    sites = np.unique(xy[np.isfinite(xy).all(axis=1)], axis=0)
    if len(sites) < 2:
        return None
    tree = cKDTree(sites)
    nearest = float(np.median(tree.query(sites, k=2)[0][:, 1]))
    pairs = tree.query_pairs(REACH * nearest, output_type="ndarray")
    return float(np.median(np.hypot(*(sites[pairs[:, 0]] - sites[pairs[:, 1]]).T)))


def spot_diameter(xy: NDArray[np.float64]) -> float:
    """Diameter of the spots at `xy`, (N, 2), as drawn on maps; a guess for a single spot."""
    return SPOT_SHARE * (spot_pitch(xy) or 1.0)


def window_starts(xy: NDArray[np.float64], px: int) -> NDArray[np.int64]:
    """First column and first row of the patch of every spot, (N, 2) int64.

    `xy` holds the spot centres, x = column and y = row, in pixels. Odd and even sides are both
    exact; a start is negative where the patch reaches beyond the border.
    """
    return np.floor(xy - px / 2 + 0.5).astype(np.int64)
