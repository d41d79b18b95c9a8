"""Update the labels in a store without embedding anything again."""

from __future__ import annotations

from pathlib import Path

from histoboost.cache.store import EmbeddingStore
from histoboost.slides.groups import with_groups
from histoboost.slides.readers import open_dataset
from histoboost.slides.slide import Dataset


def relabel(
    data: str | Path | Dataset, store: str | Path | EmbeddingStore, groups: str | Path | None = None
) -> dict[str, list[str]]:
    """Replace abundances, cell types, split and group of stored slides by those in `data`.

    Slides that are not in `data` keep their labels, and a slide keeps its group if neither `data`
    nor `groups` names one. No image is read.

    Parameters
    ----------
    data : path or Dataset
        Slides with the spots that were embedded.
    store : path or EmbeddingStore
        Store that holds them.
    groups : path, optional
        CSV with the columns slide and group.

    Returns
    -------
    dict of str to list of str
        Slides whose labels have changed, with a short list of the changes.

    Raises
    ------
    HistoboostError
        If a slide is not in the store, or has other spots there; nothing is changed then.
    """
    dataset = data if isinstance(data, Dataset) else open_dataset(Path(data))
    if groups is not None:
        dataset = with_groups(dataset, groups)
    target = store if isinstance(store, EmbeddingStore) else EmbeddingStore(store)
    return target.relabel([slide.spot_table() for slide in dataset.slides])
