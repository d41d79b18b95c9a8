"""Export embeddings in the file format of TRIDENT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from histoboost.cache.recipe import Recipe
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, warn
from histoboost.io import check_output, plain_errors, write_whole
from histoboost.spots import SpotTable, spot_pitch, window_starts

#: Product of magnification and micrometres per pixel.
MAGNIFICATION = 10.0


def export_trident(store: EmbeddingStore, folder: str | Path) -> list[str]:
    """Write each embedding to ``folder/<embedding>/<slide>.h5`` and return their names.

    A file holds ``features``, (N, D) float32, and ``coords``, (N, 2) int64: the upper left corners
    of the patches, (x, y) in pixels of the slide, with TRIDENT's attributes. Patches are taken at
    full resolution, so the target magnification is that of level 0; both are omitted if the
    resolution is unknown. Imported embeddings, whose patch size is unknown, are omitted with a
    warning. The folder must be new.

    See ``coords_to_h5`` in ``trident/IO.py`` and ``extract_patch_features`` in
    ``trident/wsi_objects/WSI.py`` of mahmoodlab/TRIDENT.
    """
    folder = Path(folder)
    check_output(folder)
    tables = [store.spots(slide) for slide in store.slides()]
    work = [
        (table, name, recipe)
        for table in tables
        for name, recipe in store.embeddings(table.slide).items()
    ]
    names = sorted({name for _, name, recipe in work if _side(recipe) is not None})
    if unknown := sorted({name for _, name, recipe in work if _side(recipe) is None}):
        warn(f"{', '.join(unknown)} left out: imported, so their patch sizes are unknown")
    if not names:
        raise BadInput(f"{store.location}: no embedding to export; run histoboost featurize first")

    def write(made: Path) -> None:
        for table, name, recipe in work:
            side = _side(recipe)
            if side is not None:
                (made / name).mkdir(parents=True, exist_ok=True)
                path = made / name / f"{table.slide}.h5"
                _write(path, store.read(table.slide, name), table, side, folder / name)

    with plain_errors(folder):
        write_whole(folder, write)
    return names


def _side(recipe: Recipe) -> int | None:
    """Side of the patches in pixels of the slide; None if unknown."""
    fields: dict[str, Any] = recipe.fields
    side = fields.get("patch_px", fields.get("slide_scale", {}).get("patch_px"))
    return None if side is None else int(side)


def _write(path: Path, features: Any, table: SpotTable, side: int, folder: Path) -> None:
    attributes: dict[str, Any] = {
        "patch_size": side,
        "patch_size_level0": side,
        "overlap": max(side - round(spot_pitch(table.xy) or side), 0),
        "name": table.slide,
        "savetodir": str(folder),
    }
    if table.um_per_px is not None:
        magnification = MAGNIFICATION / table.um_per_px
        attributes |= {"level0_magnification": magnification, "target_magnification": magnification}
    if table.image_shape is not None:
        attributes["level0_height"], attributes["level0_width"] = table.image_shape
    with h5py.File(path, "w") as file:
        file["features"] = np.asarray(features, np.float32)
        file["features"].attrs.update({"name": table.slide, "savetodir": str(folder)})
        file["coords"] = window_starts(table.xy, side)
        file["coords"].attrs.update(attributes)
