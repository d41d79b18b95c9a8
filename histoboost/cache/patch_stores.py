"""Read Zarr stores of patch embeddings: raw2features, and SpatialData of LazySlide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from histoboost.cache.patch_matching import Patches
from histoboost.errors import BadInput, HistoboostError, require

#: Bytes before the points of a one-ring polygon in well-known binary: byte order, type, number of
#: rings, number of points.
WKB_HEADER = 13


def read_zarr(path: Path, name: str) -> Patches:
    """Read an embedding of another program from a Zarr store.

    `name` selects one of several: a model, ``model@grid`` of raw2features, or a table. Refused if
    the store is damaged or of another kind, or if the choice is ambiguous.
    """
    try:
        root = zarr.open_group(path, mode="r")
        if "grids" in root:
            return _raw2features(path, root, name)
        if "tables" in root and "shapes" in root:
            return _lazyslide(path, root, name)
    except HistoboostError:
        raise
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise BadInput(f"{path}: cannot be read as Zarr ({reason})") from error
    raise BadInput(f"{path}: no embeddings of raw2features ('grids') or LazySlide ('tables')")


def _select(path: Path, found: dict[str, Any], names: Sequence[str]) -> Any:
    """Return the item with one of `names`, or the only one."""
    named = [name for name in names if name in found]
    if named or len(found) == 1:
        return found[named[0] if named else next(iter(found))]
    raise BadInput(
        f"{path}: contains {', '.join(sorted(found)) or 'no embeddings'}; import one by its name"
    )


def _raw2features(path: Path, root: zarr.Group, name: str) -> Patches:
    """``grids/<key>/features/<model>`` (M, D) with ``grids/<key>/coords`` (M, 2).

    ``coords`` are upper left corners in level-0 pixels; the patch side is ``patching.level0_patch``
    in the attribute ``raw2features`` of the grid. See ``docs/SPEC.md`` of CraigMyles/raw2features.
    """
    grids: Any = root["grids"]
    models = [(key, model) for key in grids for model in grids[key]["features"]]
    grids_of = Counter(model for _, model in models)
    found = {
        model if grids_of[model] == 1 else f"{model}@{key}": (key, model) for key, model in models
    }
    if len(models) > 1:
        found |= {f"{model}@{key}": (key, model) for key, model in models}
    key, model = _select(path, found, [name])
    side = grids[key].attrs.get("raw2features", {}).get("patching", {}).get("level0_patch")
    features, coords = grids[key]["features"][model][:], grids[key]["coords"][:]
    return Patches(path, features, coords, None if side is None else float(side))


def _lazyslide(path: Path, root: zarr.Group, name: str) -> Patches:
    """``tables/<model>_<tiles>``, an AnnData with X (M, D), annotating ``shapes/<tiles>``.

    The table's ``uns/spatialdata_attrs`` names its region (the shapes) and the column of ``obs``
    with the tile of each row (``tile_id``). Tiles are squares in level-0 pixels, in GeoParquet.
    See ``add_tiles`` and ``add_features`` in ``wsidata/io/_elems.py`` of rendeirolab/wsidata, used
    by LazySlide, and ``src/spatialdata/_io/io_shapes.py`` of scverse/spatialdata.
    """
    import pandas as pd
    from anndata.io import read_elem

    tables: Any = root["tables"]
    found = {
        key: tables[key]
        for key in tables
        if "uns/spatialdata_attrs" in tables[key] and _width(tables[key])
    }
    regions = {key: _region(table, read_elem) for key, table in found.items()}
    names = [name, *(f"{name}_{region}" for region, _ in regions.values())]
    key = _select(path, {key: key for key in found}, names)
    region, instance = regions[key]
    require(str(path), "pyarrow", "parquet")
    tiles = pd.read_parquet(path / "shapes" / region / "shapes.parquet")
    obs, features = read_elem(found[key]["obs"]), np.asarray(read_elem(found[key]["X"]))
    rows = np.arange(len(features))
    if instance in tiles and instance in obs:
        rows = pd.Index(tiles[instance]).get_indexer(obs[instance])
    if len(obs) != len(features) or len(rows) > len(tiles) or (rows < 0).any():
        raise BadInput(f"{path}: table {key} has rows without a tile in shapes/{region}")
    boxes = np.array([_bounds(geometry) for geometry in tiles["geometry"].iloc[rows]])
    sides = boxes[:, 2:] - boxes[:, :2]
    return Patches(path, features, boxes[:, :2] + (sides - sides.mean()) / 2, float(sides.mean()))


def _width(table: Any) -> int:
    shape = table["X"].shape if "X" in table and isinstance(table["X"], zarr.Array) else ()
    return int(shape[1]) if len(shape) == 2 else 0


def _region(table: Any, read_elem: Any) -> tuple[str, str]:
    """Names of the shapes that a table annotates and of the column that links to them."""
    attributes = read_elem(table["uns/spatialdata_attrs"])
    region = np.ravel(attributes["region"])
    if len(region) != 1:
        raise BadInput(f"{table.path}: annotates several shapes ({', '.join(map(str, region))})")
    return str(region[0]), str(attributes["instance_key"])


def _bounds(geometry: bytes) -> NDArray[np.float64]:
    """Minimum x, y and maximum x, y of a polygon in well-known binary."""
    order = "<" if geometry[0] == 1 else ">"
    kind = int(np.frombuffer(geometry, f"{order}u4", 1, 1)[0])
    if kind != 3:
        raise BadInput("its shapes are not polygons; tile the slide with LazySlide")
    points = np.frombuffer(geometry, f"{order}f8", -1, WKB_HEADER).reshape(-1, 2)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
