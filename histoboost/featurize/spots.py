"""What the store keeps of a slide beside its embeddings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.store import SpotTable
from histoboost.slides.slide import Slide
from histoboost.slides.thumbnail import thumbnail


def spot_table(slide: Slide, picture: NDArray[np.uint8] | None = None) -> SpotTable:
    """Spots, abundances and a small picture of a slide.

    Parameters
    ----------
    slide : Slide
        The source.
    picture : ndarray of shape (h, w, 3), uint8, optional
        The slide in small; by default the image is read to make it.
    """
    picture = thumbnail(slide.image) if picture is None else picture
    return replace(unpictured_table(slide), thumbnail=picture)


def unpictured_table(slide: Slide) -> SpotTable:
    """Spots and abundances of a slide; its image is not read."""
    return SpotTable(
        slide=slide.name,
        xy=slide.xy,
        spot_ids=slide.spot_ids,
        abundance=slide.abundance,
        cell_types=slide.cell_types,
        split=slide.split,
        group=slide.group,
        um_per_px=slide.um_per_px,
        image_shape=slide.image.shape,
    )
