"""Features of one slide: in memory, or read in pieces of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Rows = NDArray[np.int64]

#: Rows per piece.
ROWS = 1024


class Rowwise(Protocol):
    """Features (n, F) of a slide, read from the store in pieces."""

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of spots and features."""
        ...

    def pieces(self) -> Iterator[tuple[slice, Matrix]]:
        """Yield rows (a slice) and their features, see `pieces_of`."""
        ...

    def rows(self, rows: Rows) -> Matrix:
        """Features (m, F) of some spots, ascending."""
        ...


#: Features (n, F) of one slide.
Block = Matrix | Rowwise


def pieces_of(block: Block) -> Iterator[tuple[slice, Matrix]]:
    """Yield rows (a slice) and their features, at most `ROWS` at a time, in order."""
    if not isinstance(block, np.ndarray):
        return block.pieces()
    return ((rows, block[rows]) for rows in row_pieces(len(block)))


def rows_of(block: Block, rows: Rows | slice = slice(None)) -> Matrix:
    """Features (m, F) of some rows, ascending; a view if in memory and `rows` is a slice."""
    if isinstance(block, np.ndarray):
        return block[rows]
    return block.rows(np.arange(block.shape[0])[rows])


def row_pieces(count: int) -> list[slice]:
    """Split `count` rows into slices of `ROWS`; one empty slice if there are none."""
    return [slice(start, min(start + ROWS, count)) for start in range(0, max(count, 1), ROWS)]


def draw(weights: Sequence[NDArray[np.float64]], count: int, seed: int) -> list[NDArray[np.int64]]:
    """Draw `count` spots (or all) without replacement; ascending row numbers of each slide.

    Slides contribute in proportion to their sum of `weights`, so that a small slide weighted like a
    large one is represented as well; a slide with too few spots gives all, the others more.
    """
    sizes = np.array([len(each) for each in weights])
    if sizes.sum() <= count:
        return [np.arange(size) for size in sizes]
    shares, quota = np.array([each.sum() for each in weights]), np.zeros(len(sizes))
    full = np.zeros(len(sizes), bool)
    while True:
        left = count - sizes[full].sum()
        quota = np.where(full, sizes, left * shares / shares[~full].sum())
        if not (over := ~full & (quota > sizes)).any():
            break
        full |= over
    whole = np.floor(quota + 1e-9).astype(int)
    missing = np.argsort(whole - quota, kind="stable")[: count - whole.sum()]
    whole[missing] += 1
    rng = np.random.default_rng(seed)
    return [
        np.sort(rng.choice(size, number, replace=False))
        for size, number in zip(sizes, whole, strict=True)
    ]
