"""The features of one slide as a head sees them: in memory, or read some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Rows = NDArray[np.int64]

#: Rows that are worked on at once.
ROWS = 1024


class Rowwise(Protocol):
    """Features (n, F) of a slide too large to be held; see `pieces_of`."""

    @property
    def shape(self) -> tuple[int, int]:
        """Spots and features."""
        ...

    def pieces(self) -> Iterator[tuple[slice, Matrix]]:
        """All features of all spots, some rows (a slice) in turn."""
        ...

    def rows(self, rows: Rows) -> Matrix:
        """All features (m, F) of some spots, ascending."""
        ...


#: Features (n, F) of one slide.
Block = Matrix | Rowwise


def pieces_of(block: Block) -> Iterator[tuple[slice, Matrix]]:
    """Pieces of at most `ROWS` rows, and which they are, in order; one empty piece of none."""
    if not isinstance(block, np.ndarray):
        return block.pieces()
    known = block
    return ((rows, known[rows]) for rows in row_pieces(len(known)))


def rows_of(block: Block, rows: Rows | slice) -> Matrix:
    """Some rows (m, F), ascending; a view where the features are in memory and it is a slice."""
    if isinstance(block, np.ndarray):
        return block[rows]
    return block.rows(np.arange(block.shape[0])[rows])


def row_pieces(count: int) -> list[slice]:
    """All of `count` rows, `ROWS` at once; one empty piece of none."""
    return [slice(start, min(start + ROWS, count)) for start in range(0, max(count, 1), ROWS)]


def draw(weights: Sequence[NDArray[np.float64]], count: int, seed: int) -> list[NDArray[np.int64]]:
    """Some spots of every slide, `count` in all or all there are, drawn without replacement.

    A slide gives as many as its share of the weights says, so that a small slide that counts as
    much as a large one is as well described; one that has fewer gives all, and the others more.

    Parameters
    ----------
    weights : sequence of ndarray of shape (n,)
        Weights of the spots, slide by slide.
    count : int
        Spots in all.
    seed : int
        Decides which.

    Returns
    -------
    list of ndarray of int
        Row numbers within each slide, ascending.
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
