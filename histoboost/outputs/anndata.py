"""Convert slides and predictions to AnnData, in the layout that scanpy and squidpy expect."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.spot_files import scale_factors
from histoboost.io import write_whole
from histoboost.outputs.colours import dominant_types, type_colours
from histoboost.spots import SpotTable

if TYPE_CHECKING:
    from anndata import AnnData

    from histoboost.regress.predictions import Prediction


def spots_anndata(
    tables: Sequence[SpotTable],
    obsm: Mapping[str, NDArray[Any]],
    frames: Any = None,
    **variables: Any,
) -> AnnData:
    """Convert one or more slides, with N spots in all, to one AnnData.

    `obsm` maps keys to arrays (N, D), `frames` maps keys to (column names, array (N, T)), stored as
    data frames with ``_`` for a slash in a name; both become float32. `variables` are ``X`` and
    ``var``.

    ``obs`` has slide, spot, split, group and library_id; its index is the spot id, or
    ``<slide>:<spot>`` for several slides. ``obsm`` also has spatial (x, y in pixels of the source
    image) and abundance (NaN on slides without labels). ``uns["spatial"][<slide>]`` holds a
    thumbnail and its scale.
    """
    import anndata
    import pandas as pd

    several = len(tables) > 1
    index = [f"{t.slide}:{spot}" if several else spot for t in tables for spot in t.spot_ids]
    obs = pd.DataFrame(index=pd.Index(index, dtype=object))
    for column in ("slide", "split", "group"):
        values = [getattr(table, column) for table in tables for _ in table.spot_ids]
        if any(value is not None for value in values):
            obs[column] = pd.Categorical(values)
    obs["library_id"] = obs["slide"]  # where squidpy looks
    obs["spot"] = [spot for table in tables for spot in table.spot_ids]
    adata = anndata.AnnData(
        obs=obs, uns={"spatial": {t.slide: _library(t) for t in tables}}, **variables
    )
    adata.obsm["spatial"] = np.concatenate([table.xy for table in tables])
    named = dict(frames or {})
    types = next((table.cell_types for table in tables if table.labelled), None)
    if types is not None:
        named["abundance"] = (types, np.concatenate([_labels(t, len(types)) for t in tables]))
    for key, (columns, values) in named.items():
        # HDF5 and Zarr would take a slash for a folder. No two names differ only in that.
        columns = [name.replace("/", "_") for name in columns]
        adata.obsm[key] = pd.DataFrame(values.astype(np.float32), index=obs.index, columns=columns)
    for key, rows in obsm.items():
        adata.obsm[key] = rows.astype(np.float32)
    return adata


def prediction_anndata(predictions: Sequence[Prediction]) -> AnnData:
    """Convert predictions of one model, for one or more slides, to AnnData; see `spots_anndata`.

    ``X`` and ``obsm["prediction"]`` are the predictions and ``var`` the cell types, so that scanpy,
    squidpy and spatialdata-plot can plot a type by name. Intervals are in
    ``obsm["prediction_lower"]`` and ``obsm["prediction_upper"]``. ``obs`` has novelty, if known,
    and the dominant type (not in units "rank-slide"), with colours in ``uns["dominant_colors"]``.
    ``uns["units"]`` is the units.
    """
    import pandas as pd

    types = predictions[0].cell_types
    values = np.concatenate([each.values for each in predictions])
    frames = {"prediction": (types, values)}
    for name, bounds in (
        ("prediction_lower", [each.low for each in predictions if each.low is not None]),
        ("prediction_upper", [each.high for each in predictions if each.high is not None]),
    ):
        if bounds:
            frames[name] = (types, np.concatenate(bounds))
    variables = pd.DataFrame(index=pd.Index(types, dtype=object))
    tables = [each.spots for each in predictions]
    adata = spots_anndata(tables, {}, frames, X=values.astype(np.float32), var=variables)
    adata.uns["units"] = predictions[0].units
    novelty = [each.novelty for each in predictions if each.novelty is not None]
    if novelty:
        adata.obs["novelty"] = np.concatenate(novelty)
    dominant = [dominant_types(each) for each in predictions]
    codes = [code for each in dominant if each is not None for code in each]
    if codes:
        shown = [types[code] for code in sorted(set(codes))]
        adata.obs["dominant"] = pd.Categorical([types[code] for code in codes], shown)
        adata.uns["dominant_colors"] = np.array(
            ["#" + bytes(type_colours(types)[name]).hex() for name in shown], dtype=object
        )
    return adata


def write_anndata(adata: AnnData, path: Path) -> None:
    """Write ``.h5ad`` or ``.zarr`` (zarr format 3) atomically."""
    import anndata

    def write_zarr(target: Path) -> None:
        with anndata.settings.override(zarr_write_format=3):
            adata.write_zarr(target)

    write = write_zarr if path.suffix == ".zarr" else adata.write_h5ad
    write_whole(path, without_warnings(write))


def without_warnings(write: Callable[[Path], object]) -> Callable[[Path], None]:
    """Silence the warnings of other libraries, such as deprecations, in `write`."""

    def quiet(target: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write(target)

    return quiet


def _library(table: SpotTable) -> dict[str, Any]:
    """Thumbnail and scale factors of a slide, where plotting functions look for them."""
    factors = scale_factors(table)
    if table.thumbnail is None or table.image_shape is None:
        return {"images": {}, "scalefactors": factors}
    factors["tissue_hires_scalef"] = table.thumbnail.shape[1] / table.image_shape[1]
    return {"images": {"hires": table.thumbnail}, "scalefactors": factors}


def _labels(table: SpotTable, types: int) -> NDArray[np.float32]:
    if table.abundance is None:
        return np.full((len(table), types), np.nan, np.float32)
    return table.abundance
