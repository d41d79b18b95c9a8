"""A slide: its image, its spots, their abundances and its scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.names import nfc
from histoboost.slides.images.base import SlideImage
from histoboost.spots import SpotTable

#: Spots of a dataset to keep in memory, and the cost of each slide in addition to its spots.
MOST_SPOTS, LEAST_SPOTS = 1_000_000, 1000


@dataclass(frozen=True, eq=False)
class Cells:
    """Single cells of a slide: coordinates (C, 2) in image pixels, and cell types (C,)."""

    xy: NDArray[np.float64]
    types: NDArray[np.object_]


@dataclass(frozen=True)
class Slide:
    """One slide: an image, read lazily, and N spots on it with abundances of T cell types."""

    #: Unique within a dataset.
    name: str
    image: SlideImage
    #: Spot centres (N, 2), x = column and y = row, in pixels of `image`; in the source's order.
    xy: NDArray[np.float64]
    #: Unique within the slide (``"0"``, ``"1"``, ... if the source has none).
    spot_ids: tuple[str, ...]
    #: (N, T); None on a slide without labels, which has no cell types.
    abundance: NDArray[np.float32] | None = None
    cell_types: tuple[str, ...] = ()
    #: ``"Train"`` or ``"Test"``, if given by the source.
    split: str | None = None
    #: Patient or animal, if known; slides of one group are held out together.
    group: str | None = None
    um_per_px: float | None = None
    #: Whether the slide is an image without spots.
    plain: bool = False
    #: Settings of the lattice that `histoboost.slides.lattice` laid, if it did.
    lattice: Mapping[str, Any] | None = None
    #: Single cells to count once there are spots.
    cells: Cells | None = None
    #: The original slide, if this one is resampled or turned.
    source: Slide | None = None
    #: How `source` was turned, a key of `histoboost.slides.turned_slide.TURNS`.
    turn: str | None = None
    _opened: tuple[int, int] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_opened", self._stamp())

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        now = self._stamp()
        if now and self._opened and now[1] == self._opened[1]:
            # Another machine may have its own copy with another modification time.
            object.__setattr__(self, "_opened", now)

    def check_unchanged(self) -> None:
        """Raise an error if the image file has changed since the spots were read."""
        if self._stamp() != self._opened:
            raise BadInput(
                f"slide {self.name}: its file has changed since its spots were read; run the same "
                "command again"
            )

    def _stamp(self) -> tuple[int, int] | None:
        path = getattr(self.image, "path", None)  # pixels in memory have none
        if path is None or not path.is_file():
            return None
        status = path.stat()
        return status.st_mtime_ns, status.st_size

    @property
    def labelled(self) -> bool:
        """Whether the slide has abundances."""
        return self.abundance is not None

    def only(self, keep: NDArray[np.bool_]) -> Slide:
        """Select spots by a mask (N,)."""
        return replace(
            self,
            xy=self.xy[keep],
            spot_ids=tuple(compress(self.spot_ids, keep)),
            abundance=None if self.abundance is None else self.abundance[keep],
        )

    def spot_table(self, thumbnail: NDArray[np.uint8] | None = None) -> SpotTable:
        """Everything but the image, in pixels of the source; `thumbnail` is (h, w, 3) uint8."""
        original = self.source or self
        return SpotTable(
            slide=self.name,
            xy=original.xy,
            spot_ids=self.spot_ids,
            abundance=self.abundance,
            cell_types=self.cell_types,
            split=self.split,
            group=self.group,
            um_per_px=original.um_per_px,
            image_shape=original.image.shape,
            thumbnail=thumbnail,
            lattice=self.lattice,
        )


Read = Callable[[], Slide]
Step = Callable[[Slide], Slide]


class LazySlides(Sequence[Slide]):
    """Slides loaded on access; as many as have `MOST_SPOTS` spots are kept in memory.

    `reads` holds one picklable callable per slide; `load`, if given, loads the slide of an index
    in this process at less cost.
    """

    def __init__(
        self,
        names: Sequence[str],
        reads: Sequence[Read],
        load: Callable[[int], Slide] | None = None,
    ) -> None:
        self.names, self.reads, self._load = list(map(nfc, names)), list(reads), load
        self._held: dict[int, Slide] = {}
        self._budget = MOST_SPOTS

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Slide: ...
    @overload
    def __getitem__(self, index: slice) -> list[Slide]: ...
    def __getitem__(self, index: int | slice) -> Slide | list[Slide]:
        if isinstance(index, slice):
            return [self[one] for one in range(len(self))[index]]
        index = range(len(self))[index]
        if index in self._held:
            return self._held[index]
        slide = self.reads[index]() if self._load is None else self._load(index)
        self._budget -= len(slide.xy) + LEAST_SPOTS
        if self._budget >= 0:
            self._held[index] = slide
        return slide

    def read_ahead(self) -> None:
        """Read as many slides as are kept in memory."""
        for index in range(len(self)):
            self[index]
            if self._budget < 0:
                return

    def picklable_reads(self) -> list[Read]:
        """Callables that give each slide in another process: the slide itself if in memory."""
        return [
            partial(_return, self._held[index]) if index in self._held else read
            for index, read in enumerate(self.reads)
        ]

    def each(self, steps: Sequence[Step]) -> LazySlides:
        """Apply one step to each slide after it is read."""
        reads = [
            partial(_read_and_apply, read, step)
            for read, step in zip(self.reads, steps, strict=True)
        ]
        return LazySlides(self.names, reads, lambda index: steps[index](self[index]))


def _return(slide: Slide) -> Slide:
    return slide


def _read_and_apply(read: Read, step: Step) -> Slide:
    return step(read())


@dataclass(frozen=True)
class Dataset:
    """The slides of one source, in its order, and its path.

    `names` and `each` read no slide of a `LazySlides`.
    """

    path: Path
    slides: Sequence[Slide]

    @property
    def names(self) -> list[str]:
        """Names of the slides."""
        if isinstance(self.slides, LazySlides):
            return self.slides.names
        return [slide.name for slide in self.slides]

    @property
    def cell_types(self) -> tuple[str, ...]:
        """Cell types of the labelled slides; empty if there are none."""
        return next((slide.cell_types for slide in self.slides if slide.labelled), ())

    def each(self, step: Callable[[str], Step]) -> Dataset:
        """Apply ``step(name)``, picklable for lazy slides, to every slide."""
        if isinstance(self.slides, LazySlides):
            return replace(self, slides=self.slides.each([step(name) for name in self.names]))
        return replace(self, slides=[step(slide.name)(slide) for slide in self.slides])

    def reads(self) -> list[Read]:
        """One picklable callable per slide that gives it."""
        if isinstance(self.slides, LazySlides):
            return self.slides.picklable_reads()
        return [partial(_return, slide) for slide in self.slides]

    def __getitem__(self, name: str) -> Slide:
        """The slide with this name; an error lists the available names."""
        names = self.names
        if nfc(name) in names:
            return self.slides[names.index(nfc(name))]
        raise BadInput(f"{self.path}: no slide {name!r}; there are {', '.join(names)}")
