"""Embeddings in two dimensions: PCA, and t-SNE on top of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: t-SNE of more spots takes minutes, and a page that shows more dots shows no more.
MAX_SPOTS = 3000

#: Components that t-SNE starts from, as its authors do: noise out, neighbours kept.
COMPONENTS = 50


def sample(sizes: list[int], limit: int = MAX_SPOTS) -> list[NDArray[np.intp]]:
    """Rows to show of every slide, in order, at most `limit` in all; slides keep their share."""
    rng = np.random.default_rng(0)
    share = min(1.0, limit / max(1, sum(sizes)))
    return [np.sort(rng.choice(n, int(n * share) or min(n, 1), replace=False)) for n in sizes]


def project(embedding: NDArray[np.floating[Any]]) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Views of an embedding (N, D), (N, 2) each, and the variance shares of two components.

    Every column is standardised first; constant columns drop out. t-SNE needs 10 spots at least.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    x = embedding.astype(np.float32)
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    n = len(x)
    if n < 3 or x.shape[1] < 2:
        return {"PCA": np.zeros((n, 2))}, np.zeros(2)
    pca = PCA(min(COMPONENTS, n, x.shape[1]), random_state=0)
    components = pca.fit_transform(x)
    views = {"PCA": components[:, :2]}
    if n >= 10:
        tsne = TSNE(perplexity=min(30.0, (n - 1) / 3), init="pca", random_state=0)
        views["t-SNE"] = tsne.fit_transform(components)
    return views, pca.explained_variance_ratio_[:2]
