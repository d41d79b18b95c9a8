"""What a slide is: its image, its spots, their abundances and its scale."""

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

#: Spots of a source that are held in memory, and what a slide without any counts for.
MOST_SPOTS, LEAST_SPOTS = 1_000_000, 1000


@dataclass(frozen=True, eq=False)
class Cells:
    """Single cells of a slide: places (C, 2) in pixels of the image, and types' names (C,)."""

    xy: NDArray[np.float64]
    types: NDArray[np.object_]


@dataclass(frozen=True)
class Slide:
    """One slide: an image and the spots on it.

    Attributes
    ----------
    name : str
        Unique within a dataset, for example ``"S_1"``.
    image : SlideImage
        The pixels, read lazily.
    xy : ndarray of shape (N, 2), float64
        Spot centres, x = column and y = row, in pixels of `image`; in the source's order.
    spot_ids : tuple of str
        N ids, unique within the slide (``"0"``, ``"1"``, ... where the source has none).
    abundance : ndarray of shape (N, T), float32, or None
        Abundance of every cell type; None on a slide without labels.
    cell_types : tuple of str
        T names; empty on a slide without labels.
    split : str or None
        ``"Train"`` or ``"Test"`` where the source says so.
    group : str or None
        Patient or animal, where known; slides of one group are held out together.
    um_per_px : float or None
        Micrometres per pixel, where known.
    plain : bool
        Whether it is an image that has no spots yet.
    lattice : dict or None
        How the spots were laid, where `histoboost.slides.lattice` did it.
    cells : Cells or None
        Single cells that are to be counted once there are spots.
    source : Slide or None
        The slide as it came, where this one is at another resolution or turned.
    turn : str or None
        How it was turned from `source`, see `histoboost.slides.turned_slide`.
    """

    name: str
    image: SlideImage
    xy: NDArray[np.float64]
    spot_ids: tuple[str, ...]
    abundance: NDArray[np.float32] | None = None
    cell_types: tuple[str, ...] = ()
    split: str | None = None
    group: str | None = None
    um_per_px: float | None = None
    plain: bool = False
    lattice: Mapping[str, Any] | None = None
    cells: Cells | None = None
    source: Slide | None = None
    turn: str | None = None
    _opened: tuple[int, int] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_opened", self._stamp())

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        now = self._stamp()
        if now and self._opened and now[1] == self._opened[1]:
            # Another machine may have a copy of its own, of another age.
            object.__setattr__(self, "_opened", now)

    def check_unchanged(self) -> None:
        """Refuse pixels from another file than the one that was there with the spots."""
        if self._stamp() != self._opened:
            raise BadInput(
                f"slide {self.name}: its file has changed since its spots were read; run the same "
                "command again"
            )

    def _stamp(self) -> tuple[int, int] | None:
        path = getattr(self.image, "path", None)  # no pixels in memory change
        if path is None or not path.is_file():
            return None
        status = path.stat()
        return status.st_mtime_ns, status.st_size

    @property
    def labelled(self) -> bool:
        """Whether the slide carries abundances."""
        return self.abundance is not None

    def only(self, keep: NDArray[np.bool_]) -> Slide:
        """The same slide with some of its spots."""
        return replace(
            self,
            xy=self.xy[keep],
            spot_ids=tuple(compress(self.spot_ids, keep)),
            abundance=None if self.abundance is None else self.abundance[keep],
        )

    def spot_table(self, thumbnail: NDArray[np.uint8] | None = None) -> SpotTable:
        """All but the pixels, in those of the source; `thumbnail`, (h, w, 3) uint8, in small."""
        came = self.source or self
        return SpotTable(
            slide=self.name,
            xy=came.xy,
            spot_ids=self.spot_ids,
            abundance=self.abundance,
            cell_types=self.cell_types,
            split=self.split,
            group=self.group,
            um_per_px=came.um_per_px,
            image_shape=came.image.shape,
            thumbnail=thumbnail,
            lattice=self.lattice,
        )


Read = Callable[[], Slide]
Step = Callable[[Slide], Slide]


class LazySlides(Sequence[Slide]):
    """Slides that are read when they are asked for: each time anew beyond the first `MOST_SPOTS`.

    Parameters
    ----------
    names : sequence of str
        What the slides are called.
    reads : sequence of callable
        What reads each of them; picklable, so that another process can.
    load : callable, optional
        Gives the slide of an index in this process, where that is less work.
    """

    def __init__(
        self,
        names: Sequence[str],
        reads: Sequence[Read],
        load: Callable[[int], Slide] | None = None,
    ) -> None:
        self.names, self.reads, self._load = list(map(nfc, names)), list(reads), load
        self._kept: dict[int, Slide] = {}
        self._left = MOST_SPOTS

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
        if index in self._kept:
            return self._kept[index]
        slide = self.reads[index]() if self._load is None else self._load(index)
        self._left -= len(slide.xy) + LEAST_SPOTS
        if self._left >= 0:
            self._kept[index] = slide
        return slide

    def read_ahead(self) -> None:
        """Read as many slides as are held."""
        for index in range(len(self)):
            self[index]
            if self._left < 0:
                return

    def read_of(self, index: int) -> Read:
        """What gives a slide in another process: the slide itself where it is held here."""
        return partial(_given, self._kept[index]) if index in self._kept else self.reads[index]

    def each(self, steps: Sequence[Step]) -> LazySlides:
        """The same slides, each changed by its step once it is read."""
        reads = [partial(_then, read, step) for read, step in zip(self.reads, steps, strict=True)]
        return LazySlides(self.names, reads, lambda index: steps[index](self[index]))


def _given(slide: Slide) -> Slide:
    return slide


def _then(read: Read, step: Step) -> Slide:
    return step(read())


@dataclass(frozen=True)
class Dataset:
    """The slides of one source, in its order, and the path that they were read from.

    Those of a large source are read when their turn comes: `names` and `each` read none.
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
        """Names of the cell types of the labelled slides; empty where none is labelled."""
        return next((slide.cell_types for slide in self.slides if slide.labelled), ())

    def each(self, step: Callable[[str], Step]) -> Dataset:
        """The same with every slide changed as ``step(name)`` says, picklable where slides are."""
        if isinstance(self.slides, LazySlides):
            return replace(self, slides=self.slides.each([step(name) for name in self.names]))
        return replace(self, slides=[step(slide.name)(slide) for slide in self.slides])

    def reads(self) -> list[Read]:
        """What gives each slide once its turn has come, also in another process."""
        if isinstance(self.slides, LazySlides):
            return [self.slides.read_of(index) for index in range(len(self.slides))]
        return [partial(_given, slide) for slide in self.slides]

    def __getitem__(self, name: str) -> Slide:
        """The slide called `name`; where there is none, the error lists those there are."""
        names = self.names
        if nfc(name) in names:
            return self.slides[names.index(nfc(name))]
        raise BadInput(f"{self.path}: no slide {name!r}; there are {', '.join(names)}")
