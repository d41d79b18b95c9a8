"""`histoboost explore`: an interactive page of slides, cell types and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histoboost.io import check_output
from histoboost.outputs.encode import floats, numbers
from histoboost.progress import progress
from histoboost.regress.neighbors import spot_graph
from histoboost.report import statistics
from histoboost.report.page import SUFFIXES, write_page
from histoboost.report.projection import project, sample
from histoboost.report.slide_data import slide_payload
from histoboost.report.source import Source, open_source
from histoboost.spots import SpotTable


def explore(data: str | Path, output: str | Path, format: str | None = None) -> Path:
    """Write an interactive page of the slides, their cell types and their embeddings.

    Parameters
    ----------
    data : str or Path
        A data set that `open_dataset` reads, or an embedding store.
    output : str or Path
        HTML file to write.
    format : str, optional
        Format of the data set; recognised from the path by default.

    Returns
    -------
    Path
        The HTML file.

    Raises
    ------
    HistoboostError
        If `data` cannot be opened or `output` cannot be written.
    """
    check_output(Path(output), SUFFIXES)
    source = open_source(data, format)
    slides = []
    for spots in source.slides:
        abundance = None if spots.abundance is None else floats(spots.abundance.T)
        slides.append({**slide_payload(spots), "abundance": abundance})
    labelled = [spots for spots in source.slides if spots.labelled]
    types = labelled[0].cell_types if labelled else ()
    kind = "embedding store" if source.store else "dataset"
    page = {
        "title": Path(data).name,
        "source": f"{kind} {data}",
        "types": list(types),
        "slides": slides,
        "problems": source.problems,
        "statistics": _statistics(labelled) if labelled else None,
        "correlation": _correlation(labelled) if labelled else None,
        "embeddings": _embeddings(source),
    }
    return write_page(output, "explore", page)


def _statistics(labelled: Sequence[SpotTable]) -> dict[str, Any]:
    """Summarise each type on each slide: quantiles, sparsity, zeros, Moran's I, mean rank."""
    each = [spots.abundance for spots in labelled if spots.abundance is not None]
    graphs = [spot_graph(spots.xy) for spots in labelled]
    quantiles = [statistics.boxes(a) for a in each]
    return {
        "boxes": numbers(quantiles, 4),
        "pooled": numbers(statistics.boxes(np.concatenate(each)), 4),
        "median": numbers([box[:, 2] for box in quantiles], 4),
        "little": statistics.LITTLE,
        "sparsity": numbers([statistics.sparsity(a) for a in each], 4),
        "zeros": numbers([(a == 0).mean(axis=0) for a in each], 4),
        "moran": numbers([statistics.moran(a, g) for a, g in zip(each, graphs, strict=True)], 4),
        "rank": numbers([statistics.mean_ranks(a) for a in each], 4),
    }


def _correlation(labelled: Sequence[SpotTable]) -> dict[str, Any]:
    """Average correlations over slides, which excludes differences between slides."""
    each = [statistics.spearman_matrix(s.abundance) for s in labelled if s.abundance is not None]
    known = np.isfinite(each).sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.where(known > 0, np.nansum(each, axis=0) / known, np.nan)
    order = statistics.similar_first(mean)
    return {"order": order, "values": numbers(mean[np.ix_(order, order)], 3)}


def _embeddings(source: Source) -> list[dict[str, Any]]:
    """Project each embedding to two dimensions, `net@64` before `net@128`."""
    store, out = source.store, []
    if store is None:
        return []
    embedded = [store.embeddings(spots.slide) for spots in source.slides]
    names = {name for own in embedded for name in own}
    with progress("Projecting embeddings", len(names), "embeddings") as advance:
        for name in sorted(names, key=lambda name: (name.rsplit("@", 1)[0], len(name), name)):
            slides = [i for i, own in enumerate(embedded) if name in own]
            matrices = [store.read(source.slides[i].slide, name) for i in slides]
            rows = sample([len(matrix) for matrix in matrices])
            shown = np.concatenate([m[part] for m, part in zip(matrices, rows, strict=True)])
            views, explained = project(shown)
            out.append(
                {
                    "name": name,
                    "width": int(shown.shape[1]),
                    "total": sum(map(len, matrices)),
                    "slide": np.repeat(slides, [len(part) for part in rows]).tolist(),
                    "row": [int(i) for part in rows for i in part],
                    "projections": {kind: floats(view.T) for kind, view in views.items()},
                    "explained": numbers(explained, 3),
                }
            )
            advance(1)
    return out
