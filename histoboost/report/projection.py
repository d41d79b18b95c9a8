"""Project embeddings to two dimensions by PCA and t-SNE."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: t-SNE of more spots takes minutes, and more dots show no more.
MAX_SPOTS = 3000

#: Principal components given to t-SNE, as its authors recommend.
COMPONENTS = 50


def sample(sizes: list[int], limit: int = MAX_SPOTS) -> list[NDArray[np.intp]]:
    """Sample rows of all slides in proportion to their sizes, at most about `limit` in all."""
    rng = np.random.default_rng(0)
    share = min(1.0, limit / max(1, sum(sizes)))
    return [np.sort(rng.choice(n, int(n * share) or min(n, 1), replace=False)) for n in sizes]


def project(embedding: NDArray[np.floating[Any]]) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Project an embedding (N, D) to (N, 2); also return the variance explained by two components.

    Columns are standardised first, without constant ones. t-SNE needs at least 10 spots.
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
