"""Spots where an alignment puts them, before any patch is cut."""

from __future__ import annotations

from histoboost.slides.align.alignment import move_spots, resolve_alignment
from histoboost.slides.inspect import check_spots
from histoboost.slides.slide import Dataset


def aligned(dataset: Dataset, alignment: str) -> Dataset:
    """The same slides with their spots moved.

    Parameters
    ----------
    dataset : Dataset
        Slides with the source's coordinates.
    alignment : str
        ``"none"``, ``"auto"`` or the path of a table, as in `featurize`.

    Raises
    ------
    HistoboostError
        If the table cannot be used, or spots lie where no patch can be cut.
    """
    where = resolve_alignment(dataset, alignment)
    moved = [move_spots(slide, where[slide.name]) for slide in dataset.slides]
    result = Dataset(dataset.path, moved)
    check_spots(result)
    return result
