"""Whether held-out slides are recognised as they lie, from stores of `featurize --turned`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from histoboost.cache.store import EmbeddingStore
from histoboost.mounting import SPOTS, nearest_way
from histoboost.regress.layout import describe
from histoboost.regress.novelty import fit_novelty
from histoboost.regress.slides import labelled_slides


def main(arguments: Sequence[str] | None = None) -> None:
    """Print for every held-out slide which store is nearest to the others, as it lies in each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("turned", nargs="+", help="stores of the same slides")
    given = parser.parse_args(arguments)
    stores = [EmbeddingStore(path, mode="r") for path in (given.store, *given.turned)]
    spots = labelled_slides(stores[0])
    names = list(describe(stores[0], spots, "default").recipes)
    for table in spots:
        others = [each for each in spots if each.slide != table.slide]
        novelty = fit_novelty(stores[0], others, names, 0)
        assert novelty is not None
        some = np.sort(np.random.default_rng(0).permutation(len(table))[:SPOTS])
        there = [store for store in stores if table.slide in store.slides()]
        there = [store for store in there if not set(names) - set(store.embeddings(table.slide))]
        apart = []
        for store in there:
            parts = [store.read(table.slide, name)[some].astype(np.float32) for name in names]
            apart.append(novelty.of_parts(parts)[1])
        turned_back = 0
        for at in range(len(there)):
            order = [at, *(k for k in range(len(there)) if k != at)]
            turned_back += order[nearest_way(np.stack([apart[k] for k in order]))] == 0
        means = ", ".join(
            f"{store.location} {np.mean(each):.3f}"
            for store, each in zip(there, apart, strict=True)
        )
        print(f"{table.slide}: laid upright from {turned_back} of {len(there)} ways ({means})")


if __name__ == "__main__":
    main()
