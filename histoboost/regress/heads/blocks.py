"""The features of one slide as a head sees them: in memory, or read column by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

#: Columns and rows that are worked on at once.
COLUMNS = 512
ROWS = 1024


class Columnwise(Protocol):
    """Features (n, F) of a slide too large to be held; see `columns_of`."""

    @property
    def shape(self) -> tuple[int, int]:
        """Spots and features."""
        ...

    def columns(self, start: int, stop: int) -> Matrix:
        """Some columns (n, stop - start) of all spots."""
        ...

    def rows(self, rows: NDArray[np.int64]) -> Matrix:
        """All columns (m, F) of some spots."""
        ...

    def lengths(self, scale: Matrix) -> Matrix:
        """What `lengths_of` says, kept from the first time on."""
        ...


#: Features (n, F) of one slide.
Block = Matrix | Columnwise


def columns_of(block: Block) -> Iterator[tuple[slice, Matrix]]:
    """Pieces of at most `COLUMNS` columns, and which they are, in order."""
    width = block.shape[1]
    for start in range(0, width, COLUMNS):
        own = slice(start, min(start + COLUMNS, width))
        if isinstance(block, np.ndarray):
            yield own, block[:, own]
        else:
            yield own, block.columns(own.start, own.stop)


def rows_of(block: Block, rows: NDArray[np.int64] | slice) -> Matrix:
    """Some rows (m, F); a view where the features are in memory and `rows` is a slice."""
    if isinstance(block, np.ndarray):
        return block[rows]
    return block.rows(np.arange(block.shape[0])[rows])


def lengths_of(block: Block, scale: Matrix) -> Matrix:
    """Lengths (n,) of all rows, columns multiplied by `scale` (F,) or (1,)."""
    squares, scale = np.zeros(block.shape[0], np.float32), np.broadcast_to(scale, block.shape[1:])
    for own, part in columns_of(block):
        for rows in row_pieces(len(part)):
            scaled = part[rows] * scale[own]
            squares[rows] += np.einsum("ij,ij->i", scaled, scaled)
    return np.asarray(np.sqrt(squares))


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
