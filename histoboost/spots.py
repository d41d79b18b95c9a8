"""Spots of a slide: coordinates and abundances of cell types."""

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

#: Neighbours are at most this many pitches apart: 4 in a square, 6 in a hexagonal lattice, where
#: the next are at 1.41 and 1.73, with tolerance for jitter.
REACH = 1.25

#: Diameter of a spot as a share of the pitch: 55 of 100 um on Visium.
SPOT_SHARE = 0.55


@dataclass(frozen=True, eq=False, repr=False)
class SpotTable:
    """Spots of a slide and all metadata but their embeddings.

    Attributes
    ----------
    slide : str
        Name of the slide.
    xy : ndarray of shape (N, 2), float64
        x = column and y = row, in pixels of the source image, in the source's order.
    spot_ids : tuple of str
        N ids, unique within the slide.
    abundance : ndarray of shape (N, T), float32, or None
        None for unlabelled slides.
    cell_types : tuple of str
        T names.
    split, group : str or None
        Part of the data set; patient or animal.
    um_per_px : float or None
        Micrometres per pixel.
    image_shape : tuple of int, or None
        Height and width of the source image in pixels.
    thumbnail : ndarray of shape (h, w, 3), uint8, or None
        Reduced image for maps; ignored when tables are compared.
    lattice : mapping or None
        For a slide without spots of its own, how they were placed: ``kind``, ``pitch_px``,
        ``tissue`` (how it was found), ``least_share`` (of a spot's disc on tissue), ``found``
        (amount of tissue, in words), ``places`` (number of spots) and, if there are several
        shifted copies, ``copies``.

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
        put = object.__setattr__  # the class is frozen
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
        """Whether the slide has abundances."""
        return self.abundance is not None

    def __repr__(self) -> str:
        types = f"{len(self.cell_types)} cell types" if self.labelled else "no labels"
        return f"SpotTable({self.slide!r}, {len(self)} spots, {types})"

    def __len__(self) -> int:
        return len(self.xy)

    def differences(self, other: SpotTable) -> list[str]:
        """Differing attributes of two tables, a few words each.

        If lattices were placed differently, only their settings, from which all else follows.
        """
        return _lattice_differences(self.lattice, other.lattice) or [
            _difference(part.name, getattr(self, part.name), getattr(other, part.name))
            for part in fields(self)
            if part.compare and not _same(getattr(self, part.name), getattr(other, part.name))
        ]

    def with_labels(self, other: SpotTable | None) -> SpotTable:
        """Copy with abundances, cell types, split and group of `other`, or without if None."""
        return replace(
            self,
            abundance=None if other is None else other.abundance,
            cell_types=() if other is None else other.cell_types,
            split=None if other is None else other.split,
            group=None if other is None else other.group,
        )

    def with_group_of(self, stored: SpotTable) -> SpotTable:
        """Copy with the group of `stored` if this table has none."""
        return self if self.group is not None else replace(self, group=stored.group)

    @property
    def digest(self) -> str:
        """SHA-256 of everything that `differences` compares."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.compare}
        if self.lattice is None:
            del values["lattice"]  # as in tables of older versions
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


#: Settings of a lattice, in words.
_LATTICE = {"pitch_px": "pitch in px", "tissue": "tissue", "copies": "copies (--finer)"}


def _lattice_differences(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> list[str]:
    if a is None or b is None:
        return []
    found = []
    for key, words in _LATTICE.items():
        own, other = a.get(key, 1), b.get(key, 1)
        if own == other:
            continue
        here, there = (f"{v:.4g}" if isinstance(v, float) else f"{v}" for v in (own, other))
        if here == there:  # to 4 digits
            here, there = f"{own}", f"{other}"
        found.append(f"its lattice's {words} is {here} in the store, {there} in the data")
    return found


def _difference(name: str, a: Any, b: Any) -> str:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape != b.shape:
        return f"{name} has shape {a.shape} in the store, {b.shape} in the data"
    if a is None or b is None or isinstance(a, str | float):
        return f"{name} is {_brief(a)} in the store, {_brief(b)} in the data"
    return f"{name} differ{'' if name.endswith('s') else 's'}"


def _brief(value: Any) -> str:
    if value is None:
        return "absent"
    return "given" if isinstance(value, np.ndarray) else repr(value)


def check_cell_types(labelled: Sequence[SpotTable], location: str, remedy: str) -> None:
    """Refuse labelled slides of the store at `location` with different cell types.

    `remedy` continues the message, which ends in the command that removes one of the slides.
    """
    for table in labelled:
        if table.cell_types != labelled[0].cell_types:
            raise BadInput(
                f"slide {table.slide}: cell types differ from {labelled[0].slide}'s{remedy} with "
                f"histoboost cache remove {location} --slide {table.slide}"
            )


def spot_pitch(xy: NDArray[np.float64]) -> float | None:
    """Distance of neighbouring spots, in the unit of `xy` (N, 2); None for a single position.

    The median distance to the nearest spot underestimates the pitch of a jittered lattice, so it is
    refined once by the median over pairs within `REACH`. Ignores non-finite and duplicate spots.
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
    """Diameter of the spots at `xy`, (N, 2), on maps; arbitrary for a single spot."""
    return SPOT_SHARE * (spot_pitch(xy) or 1.0)


def window_starts(xy: NDArray[np.float64], px: int) -> NDArray[np.int64]:
    """First column and row of each spot's patch with side `px`, (N, 2) int64.

    `xy` are spot centres, x = column and y = row, in pixels. Exact for odd and even sides; negative
    if the patch extends beyond the border.
    """
    return np.floor(xy - px / 2 + 0.5).astype(np.int64)
