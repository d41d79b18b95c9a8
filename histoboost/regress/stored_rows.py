"""Read rows of one slide's embedding, and averages over neighbourhoods."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput
from histoboost.regress.heads.blocks import Matrix, Rows, row_pieces
from histoboost.regress.neighbors import Mean


class StoredRows:
    """An embedding (N, D) of one slide, read in pieces as needed.

    Each of `means` is the averaging operator of one term; None: the embedding itself.
    """

    def __init__(
        self,
        store: EmbeddingStore,
        slide: str,
        name: str,
        shape: tuple[int, int],
        means: Sequence[Mean | None],
    ) -> None:
        self._slide, self._name, self._shape, self._means = slide, name, shape, means
        self._read, self._pieces = store.reading(slide, name), row_pieces(shape[0])
        self._held: dict[int, NDArray[np.float16]] = {}
        self._cells = [None if m is None or m.pool is None else self._pooled(m.pool) for m in means]

    def write(self, rows: Rows, parts: Sequence[Matrix], more: bool) -> None:
        """Write rows (m,), ascending, of each term into its part (m, D).

        If `more` rows follow, the pieces read are cached for them.
        """
        spreads = [None if mean is None else mean.spread[rows] for mean in self._means]
        seen = [rows if spread is None else spread.indices for spread in spreads]
        seen = [own for own, cells in zip(seen, self._cells, strict=True) if cells is None]
        needed = np.unique(np.concatenate([rows[:0], *seen])) if any(self._means) else rows
        values = self._take(needed, more)
        for part, spread, cells in zip(parts, spreads, self._cells, strict=True):
            if spread is None:
                part[...] = values if needed is rows else values[np.searchsorted(needed, rows)]
            elif cells is not None:
                part[...] = spread @ cells
            else:
                at = np.searchsorted(needed, spread.indices)
                shape = len(rows), len(needed)
                part[...] = sp.csr_array((spread.data, at, spread.indptr), shape=shape) @ values

    def _take(self, rows: Rows, more: bool) -> Matrix:
        values, used = np.empty((len(rows), self._shape[1]), np.float32), {}
        owner = rows // self._pieces[0].stop
        for at in np.unique(owner).tolist():
            stored = self._held[at] if at in self._held else self._stored(at)
            own = slice(*np.searchsorted(owner, (at, at + 1)))
            values[own] = stored[rows[own] - self._pieces[at].start]
            if more:
                used[at] = stored
        self._held = used
        if not np.isfinite(values).all():
            raise BadInput(
                f"embedding {self._name}: not finite on slide {self._slide}; remove it with "
                "histoboost cache remove and featurize again"
            )
        return values

    def _stored(self, at: int) -> NDArray[np.float16]:
        stored = self._read(self._pieces[at])
        if stored.shape[1] != self._shape[1]:
            raise BadInput(
                f"embedding {self._name}: {stored.shape[1]} columns on slide {self._slide}, "
                f"expected {self._shape[1]}; run histoboost cache verify"
            )
        return stored

    def _pooled(self, pool: sp.csr_array) -> Matrix:
        cells = np.zeros((pool.shape[0], self._shape[1]), np.float32)
        for own in self._pieces:
            cells += pool[:, own] @ self._take(np.arange(own.start, own.stop), more=False)
        return cells
