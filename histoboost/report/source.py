"""Where the exploration page takes its slides from: a dataset, or a store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.errors import HistoboostError
from histoboost.report.slides import SlideView

if TYPE_CHECKING:
    from histoboost.cache.store import EmbeddingStore

#: Long side of the picture behind a map, in pixels.
PICTURE_PX = 1000


@dataclass(frozen=True)
class Source:
    """Slides to explore.

    Attributes
    ----------
    views : list of SlideView
    problems : list of dict
        What `inspect` found: slide, kind and message of each.
    store : EmbeddingStore or None
        Where the embeddings are, if anywhere.
    """

    views: list[SlideView]
    problems: list[dict[str, Any]] = field(default_factory=list)
    store: EmbeddingStore | None = None

    @property
    def is_store(self) -> bool:
        """Whether the slides come from a store."""
        return self.store is not None

    def embedding_names(self) -> list[str]:
        """Names of all embeddings, `net@64` before `net@128`."""
        if self.store is None:
            return []
        names = {name for view in self.views for name in self.store.embeddings(view.name)}
        return sorted(names, key=lambda name: (name.rsplit("@", 1)[0], len(name), name))

    def embedding(self, name: str) -> list[tuple[str, NDArray[np.float16]]]:
        """Slide and (N, D) matrix, for the slides that have this embedding."""
        if self.store is None:
            return []
        return [
            (view.name, self.store.read(view.name, name))
            for view in self.views
            if name in self.store.embeddings(view.name)
        ]


def open_source(path: str | Path, format: str | None = None) -> Source:
    """Open a dataset, or a store where no format of a dataset is given.

    Raises
    ------
    HistoboostError
        If `path` is neither.
    """
    if format is None and _is_store(path):
        return _from_store(path)
    return _from_dataset(path, format)


def _is_store(path: str | Path) -> bool:
    if str(path).startswith("s3://"):
        return True
    root = Path(path) / "zarr.json"
    return root.is_file() and '"histoboost"' in root.read_text(encoding="utf-8", errors="replace")


def store_views(store: EmbeddingStore) -> list[SlideView]:
    """The slides of a store, each with the small picture that it holds."""
    views = []
    for name in store.slides():
        spots = store.spots(name)
        views.append(
            SlideView(
                name=name,
                xy=spots.xy,
                spot_ids=spots.spot_ids,
                abundance=spots.abundance,
                cell_types=spots.cell_types,
                split=spots.split,
                group=spots.group,
                um_per_px=spots.um_per_px,
                shape=spots.image_shape or _around(spots.xy),
                picture=spots.thumbnail,
            )
        )
    return views


def _around(xy: NDArray[np.float64]) -> tuple[int, int]:
    """Height and width of an image, at least, that has spots there."""
    width, height = np.ceil(xy.max(axis=0)).astype(int)
    return max(1, int(height)), max(1, int(width))


def _from_store(path: str | Path) -> Source:
    from histoboost.cache.store import EmbeddingStore

    store = EmbeddingStore(path, mode="r")
    views = store_views(store)
    if not views:
        raise HistoboostError(f"{path}: the store holds no slides; featurize some first")
    return Source(views, store=store)


def _from_dataset(path: str | Path, format: str | None) -> Source:
    from histoboost.featurize.inspect import inspect
    from histoboost.featurize.readers import open_dataset
    from histoboost.featurize.thumbnail import thumbnail
    from histoboost.progress import progress

    dataset = open_dataset(path, format)
    views = []
    with progress("Reading slides", len(dataset.slides), "slides") as advance:
        for slide in dataset.slides:
            keep = _usable(slide.xy, slide.abundance)
            try:
                picture = thumbnail(slide.image, PICTURE_PX)
            except HistoboostError:
                picture = None  # `inspect` says what is wrong, at the top of the page
            if keep.any():
                abundance = None if slide.abundance is None else slide.abundance[keep]
                views.append(
                    SlideView(
                        name=slide.name,
                        xy=slide.xy[keep],
                        spot_ids=tuple(np.array(slide.spot_ids, dtype=object)[keep]),
                        abundance=abundance,
                        cell_types=slide.cell_types,
                        split=slide.split,
                        group=slide.group,
                        um_per_px=slide.um_per_px,
                        shape=slide.image.shape,
                        picture=picture,
                    )
                )
            advance(1)
    if not views:
        raise HistoboostError(f"{path}: no slide has a usable spot; see histoboost inspect {path}")
    return Source(views, inspect(dataset)["problems"])


def _usable(xy: NDArray[np.float64], abundance: NDArray[np.float32] | None) -> NDArray[np.bool_]:
    """Spots whose numbers are finite: the others cannot be drawn, and `inspect` lists them."""
    numbers = xy if abundance is None else np.hstack([xy, abundance])
    return np.asarray(np.isfinite(numbers).all(axis=1))
