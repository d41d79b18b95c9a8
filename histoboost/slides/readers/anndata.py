"""AnnData, ``.h5ad`` or ``.zarr``, in the Visium layout of squidpy and scanpy.

::

    obs                      spot ids; optionally in_tissue and library_id
    obsm/spatial             (N, 2): x = column, y = row, in full-resolution pixels
    uns/spatial/<library>    images/hires, scalefactors: one library is one slide
    obsm/<key> or obs        abundances, see `abundances.find_abundances`

Counts (``X``, ``layers``) are never read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput
from histoboost.hdf5_file import open_hdf5
from histoboost.slides.images import open_image
from histoboost.slides.images.array import hdf5_image, zarr_image
from histoboost.slides.images.base import SlideImage, reading
from histoboost.slides.readers.abundances import PREFERRED, find_abundances, with_abundances
from histoboost.slides.scale import um_per_px
from histoboost.slides.slide import Dataset, Slide

if TYPE_CHECKING:
    import pandas as pd

#: Columns of `obs` that commonly hold the sample of merged data.
SAMPLE_COLUMNS = ("sample", "sample_id", "library", "slide", "slide_id", "batch", "orig.ident")

#: Images of a library, the best first: full resolution, HEST's, 10x Genomics'.
IMAGES = ("fullres", "downscaled_fullres", "hires")

#: The manifest needed for an AnnData without an image.
MANIFEST = "a .csv with the columns slide,image,spots"


def detect(path: Path) -> bool:
    """Whether `path` is an AnnData file or store."""
    if path.is_dir():
        return zarr_kind(path) == "anndata"
    if path.suffix == ".h5ad":
        return True
    if not h5py.is_hdf5(path):
        return False
    try:
        with open_hdf5(path) as file:
            return bool(file.attrs.get("encoding-type") == "anndata")
    except (OSError, KeyError, ValueError, TypeError, RuntimeError):  # damaged
        return False


def read(path: Path) -> Dataset:
    """Read one slide for each library in ``uns['spatial']`` of an ``.h5ad`` or ``.zarr``."""
    return Dataset(path, tuple(read_slides(path)))


def read_slides(
    path: Path, abundances: str | None = None, image: str | None = None, slide: str | None = None
) -> list[Slide]:
    """Read the slides of one AnnData, or only the library or sample named `slide`.

    For `abundances` see `find_abundances`; `image` is a full-resolution image to use instead of
    those in the file, and needs `slide`.
    """
    from anndata.io import read_elem

    with reading(path, "AnnData", "write it again with anndata"), _opened(path) as root:
        obs = read_elem(root["obs"])
        obs.index = obs.index.astype(str)
        xy = _coordinates(path, root)
        found = _candidates(root, abundances)
        table = find_abundances(obs, found, _names(root), str(path), abundances)
        spatial = root.get("uns/spatial", {})
        # There are also notes, such as CELLxGENE's is_single.
        libraries = [key for key in spatial if hasattr(spatial[key], "keys")]
        slides = []
        for name, rows in _samples(path, obs, libraries, image is not None):
            if slide in (None, name) or (image is not None and len(libraries) < 2):
                slides.append(
                    _slide(path, spatial.get(name, {}), name, obs, xy, table, rows, image)
                )
        return slides


def zarr_kind(path: Path) -> str | None:
    """Kind of a zarr group: ``"anndata"``, ``"spatialdata"``, ``"histoboost"`` or None."""
    for name in ("zarr.json", ".zattrs"):
        try:
            found = json.loads((path / name).read_text("utf-8"))
            attributes = found.get("attributes", {}) if name == "zarr.json" else found
            for key, kind in (("spatialdata_attrs", "spatialdata"), ("histoboost", "histoboost")):
                if key in attributes:
                    return kind
            return str(attributes.get("encoding-type", "")) or None
        except (OSError, ValueError, RecursionError, TypeError, AttributeError):
            continue
    return None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if path.is_dir():
        import zarr

        yield zarr.open_group(path, mode="r")
    else:
        with open_hdf5(path) as file:
            yield file


def _coordinates(path: Path, root: Any) -> NDArray[np.float64]:
    from anndata.io import read_elem

    found: Any = read_elem(root["obsm/spatial"]) if "spatial" in root["obsm"] else None
    if hasattr(found, "columns") and {"x", "y"} <= set(found):
        found = found[["x", "y"]]
    xy = np.asarray(found)
    if xy.ndim != 2 or xy.shape[1] < 2 or xy.dtype.kind not in "iuf":
        raise BadInput(
            f"{path}: no coordinates; expected obsm['spatial'] of shape (N, 2) in pixels"
        )
    return xy[:, :2].astype(np.float64)


def _candidates(root: Any, wanted: str | None) -> dict[str, Any]:
    """Elements of obsm that may be abundances, which excludes a PCA."""
    from anndata.io import read_elem

    obsm = root["obsm"]
    return {
        key: read_elem(obsm[key])
        for key in obsm
        if key in PREFERRED
        or f"obsm/{key}" == wanted
        or obsm[key].attrs.get("encoding-type") == "dataframe"
    }


def _names(root: Any) -> list[str] | None:
    """Cell types in uns, as histoboost or cell2location stores them."""
    from anndata.io import read_elem

    for key in ("uns/cell_types", "uns/mod/factor_names"):
        if key in root:
            return [str(name) for name in np.atleast_1d(read_elem(root[key]))]
    return None


def _samples(
    path: Path, obs: pd.DataFrame, libraries: list[str], has_image: bool
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Name and rows of every slide; only `obs` assigns spots to images."""
    if not libraries and not has_image:
        raise BadInput(
            f"{path}: no image; expected uns['spatial'][<library>]['images']['hires'], or name "
            f"the image in a manifest: {MANIFEST}"
        )
    on_tissue = np.ones(len(obs), bool)
    if "in_tissue" in obs:
        on_tissue = obs["in_tissue"].astype(int).to_numpy() == 1
    rows = obs[on_tissue]
    column = _sample_column(path, rows, libraries)
    if column is None:
        yield (libraries or [path.stem])[0], on_tissue
        return
    if rows[column].isna().any():
        raise BadInput(
            f"{path}: spot {rows.index[rows[column].isna()][0]} has no obs[{column!r}]; fill it in"
        )
    values = obs[column].astype(str)
    names = sorted(set(values[on_tissue]))
    if len(names) == len(libraries) == 1:
        names, values = libraries, values.replace(names[0], libraries[0])
    without = [name for name in names if name not in libraries]
    if without and not has_image:
        raise BadInput(
            f"{path}: obs[{column!r}] names the samples {', '.join(names)}, but there is no image "
            f"of {without[0]} (there are: {', '.join(libraries)}); name each image in a "
            f"manifest: {MANIFEST}; or set obs['library_id'] to the image of the spots"
        )
    for name in names:
        yield name, on_tissue & (values == name).to_numpy()


def _sample_column(path: Path, obs: pd.DataFrame, libraries: list[str]) -> str | None:
    """The column of `obs` with the sample of each spot; None if there is only one."""
    if "library_id" in obs:
        return "library_id"
    texts = [name for name in obs if obs[name].dtype.kind not in "fb"]
    several = {str(name): set(obs[name].dropna().astype(str)) for name in texts}
    # squidpy calls the column library_id, but lets the user choose.
    linked = [name for name, values in several.items() if values == set(libraries)]
    if linked and (len(libraries) == 1 or len({tuple(obs[name]) for name in linked}) == 1):
        return linked[0]
    if len(libraries) > 1:
        raise BadInput(
            f"{path}: has images of {', '.join(libraries)} but no column of obs assigns spots to "
            "them; add obs['library_id']"
        )
    return next((name for name in SAMPLE_COLUMNS if len(several.get(name, ())) > 1), None)


def _slide(
    path: Path,
    stored: Any,
    library: str,
    obs: pd.DataFrame,
    xy: NDArray[np.float64],
    table: pd.DataFrame | None,
    rows: NDArray[np.bool_],
    file: str | None,
) -> Slide:
    where = f"{path}: {library}"
    factors = _scale_factors(stored)
    image, scale = (open_image(Path(file)), 1.0) if file else _image(path, stored, factors, where)
    ids = obs.index[rows]
    if ids.has_duplicates:
        raise BadInput(
            f"{where}: spot {ids[ids.duplicated()][0]} comes more than once; "
            "call obs_names_make_unique() before writing"
        )
    um = um_per_px(factors, xy[rows], where, visium=False)
    slide = Slide(
        name=library,
        image=image,
        xy=xy[rows] * scale,
        spot_ids=tuple(ids),
        split=_common_value(obs[rows], "split"),
        group=_common_value(obs[rows], "group"),
        um_per_px=None if um is None else um / scale,
    )
    return with_abundances(slide, None if table is None else table[rows], where)


def _common_value(obs: pd.DataFrame, column: str) -> str | None:
    """The value of a column if all spots share it, else None."""
    values = set(obs[column].dropna()) if column in obs else set()
    return str(values.pop()) if len(values) == 1 else None


def _scale_factors(library: Any) -> dict[str, float]:
    """Numeric scale factors of a library; some writers add text."""
    from anndata.io import read_elem

    factors = library.get("scalefactors", {})
    values = {key: np.asarray(read_elem(factors[key])) for key in factors}
    return {key: float(v) for key, v in values.items() if v.size == 1 and v.dtype.kind in "iuf"}


def _image(
    path: Path, library: Any, factors: dict[str, float], where: str
) -> tuple[SlideImage, float]:
    """The best image of a library and its scale factor."""
    images = library.get("images", {})
    for name in IMAGES:
        stored = next((images[key] for key in (name, f"{name}_image") if key in images), None)
        if stored is None:
            continue
        scale = 1.0 if name == "fullres" else factors.get(f"tissue_{name}_scalef", 0.0)
        if not 0 < scale < np.inf:
            raise BadInput(
                f"{where}: no positive tissue_{name}_scalef in its scalefactors to scale the spots "
                f"to the {name} image; add it"
            )
        if path.is_dir():
            return zarr_image(path, stored.path), scale
        return hdf5_image(path, stored), scale
    found = ", ".join(images) or "none"
    raise BadInput(
        f"{where}: no hires image (there are: {found}); add it, or name the image in a manifest: "
        f"{MANIFEST}"
    )
