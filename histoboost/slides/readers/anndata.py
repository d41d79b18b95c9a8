"""AnnData, ``.h5ad`` or ``.zarr``, as squidpy and scanpy lay out Visium slides.

::

    obs                      spot ids; in_tissue and library_id where there are any
    obsm/spatial             (N, 2): x = column, y = row, in full-resolution pixels
    uns/spatial/<library>    images/hires, scalefactors: one library is one slide
    obsm/<key> or obs        abundances, see `anndata_abundances`

Counts (``X``, ``layers``) are never read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from histoboost.errors import BadInput, HistoboostError
from histoboost.hdf5_file import open_hdf5
from histoboost.slides.images.array import hdf5_image, zarr_image
from histoboost.slides.readers.abundances import with_abundances
from histoboost.slides.readers.anndata_abundances import PREFERRED, find_abundances
from histoboost.slides.scale import um_per_px
from histoboost.slides.slide import Dataset, Slide, SlideImage

if TYPE_CHECKING:
    import pandas as pd

#: What a damaged file makes anndata, h5py and zarr raise.
READ_ERRORS = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError)


def detect(path: Path) -> bool:
    """Whether `path` is an AnnData file or store."""
    if path.is_dir():
        return zarr_kind(path) == "anndata"
    if path.suffix == ".h5ad":
        return True
    if not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("encoding-type") == "anndata")
    except OSError:
        return False


def read(path: Path) -> Dataset:
    """Read spots and abundances; one slide for each library in ``uns['spatial']``.

    Parameters
    ----------
    path : Path
        ``.h5ad`` file or ``.zarr`` folder.

    Returns
    -------
    Dataset

    Raises
    ------
    HistoboostError
        If there are no coordinates or no image, or the abundances are ambiguous.
    """
    return Dataset(path, tuple(read_slides(path)))


def read_slides(path: Path, abundances: str | None = None) -> list[Slide]:
    """Read the slides of one AnnData.

    Parameters
    ----------
    path : Path
        ``.h5ad`` file or ``.zarr`` folder.
    abundances : str, optional
        Where they are, see `anndata_abundances.find_abundances`.
    """
    from anndata.io import read_elem

    try:
        with _opened(path) as root:
            obs = read_elem(root["obs"])
            obs.index = obs.index.astype(str)
            xy = _coordinates(path, root)
            table = find_abundances(obs, _candidates(root), _names(root), str(path), abundances)
            return [
                _slide(path, root, library, obs, xy, table, rows)
                for library, rows in _libraries(path, root, obs)
            ]
    except HistoboostError:
        raise
    except READ_ERRORS as error:
        reason = str(error).split("\n")[0]
        raise BadInput(
            f"{path}: cannot be read as AnnData ({reason}); write it again with anndata"
        ) from error


def zarr_kind(path: Path) -> str | None:
    """Encoding type of the zarr group at `path`; ``"spatialdata"`` for a SpatialData store."""
    if not any((path / name).is_file() for name in ("zarr.json", ".zgroup")):
        return None
    import zarr

    try:
        attributes = dict(zarr.open_group(path, mode="r").attrs)
    except READ_ERRORS:
        return None
    if "spatialdata_attrs" in attributes:
        return "spatialdata"
    return str(attributes.get("encoding-type", "")) or None


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

    xy = np.asarray(read_elem(root["obsm/spatial"])) if "spatial" in root["obsm"] else None
    if xy is None or xy.ndim != 2 or xy.shape[1] < 2 or xy.dtype.kind not in "iuf":
        raise BadInput(
            f"{path}: no coordinates; expected obsm['spatial'] of shape (N, 2) in pixels"
        )
    return xy[:, :2].astype(np.float64)


def _candidates(root: Any) -> dict[str, Any]:
    """Elements of obsm that may be abundances; a PCA is left unread."""
    from anndata.io import read_elem

    obsm = root["obsm"]
    return {
        key: read_elem(obsm[key])
        for key in obsm
        if key in PREFERRED or obsm[key].attrs.get("encoding-type") == "dataframe"
    }


def _names(root: Any) -> list[str] | None:
    """Names of cell types in uns, where histoboost or cell2location keeps them."""
    from anndata.io import read_elem

    for key in ("uns/cell_types", "uns/mod/factor_names"):
        if key in root:
            return [str(name) for name in np.atleast_1d(read_elem(root[key]))]
    return None


def _libraries(path: Path, root: Any, obs: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Name and rows of every slide."""
    libraries = list(root["uns/spatial"]) if "uns/spatial" in root else []
    if not libraries:
        raise BadInput(
            f"{path}: no image; expected uns['spatial'][<library>]['images']['hires'], or name "
            "the image in a manifest"
        )
    on_tissue = np.ones(len(obs), bool)
    if "in_tissue" in obs:
        on_tissue = obs["in_tissue"].astype(int).to_numpy() == 1
    if len(libraries) == 1:
        yield libraries[0], on_tissue
        return
    # squidpy calls the column library_id, but lets the user choose.
    columns = sorted(obs.columns, key=lambda name: name != "library_id")
    column = next((name for name in columns if set(obs[name].unique()) == set(libraries)), None)
    if column is None:
        raise BadInput(
            f"{path}: holds images of {', '.join(libraries)} but no column of obs says which spot "
            "is on which; add obs['library_id']"
        )
    for library in libraries:
        yield library, on_tissue & (obs[column] == library).to_numpy()


def _slide(
    path: Path,
    root: Any,
    library: str,
    obs: pd.DataFrame,
    xy: NDArray[np.float64],
    table: pd.DataFrame | None,
    rows: NDArray[np.bool_],
) -> Slide:
    where = f"{path}: {library}"
    image, scale, factors = _image(path, root[f"uns/spatial/{library}"], where)
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
        split=_of_all(obs[rows], "split"),
        group=_of_all(obs[rows], "group"),
        um_per_px=None if um is None else um / scale,
    )
    return with_abundances(slide, None if table is None else table[rows], where)


def _of_all(obs: pd.DataFrame, column: str) -> str | None:
    """What a column says of a whole slide; None where it is missing or differs between spots."""
    values = set(obs[column].dropna()) if column in obs else set()
    return str(values.pop()) if len(values) == 1 else None


def _image(path: Path, library: Any, where: str) -> tuple[SlideImage, float, dict[str, float]]:
    """The best image of a library, the scale of its pixels, and all scale factors."""
    from anndata.io import read_elem

    images = library.get("images", {})
    factors = library.get("scalefactors", {})
    factors = {key: float(np.asarray(read_elem(factors[key]))) for key in factors}
    for name, key in (("fullres", None), ("hires", "tissue_hires_scalef")):
        if name not in images:
            continue
        scale = 1.0 if key is None else factors.get(key, 0.0)
        if not scale > 0:
            raise BadInput(
                f"{where}: no positive {key} in its scalefactors, so the spots cannot be laid "
                f"on the {name} image; add it"
            )
        if path.is_dir():
            stored = images[name].path
            return zarr_image(path, stored), scale, factors
        return hdf5_image(path, images[name]), scale, factors
    found = ", ".join(images) or "none"
    raise BadInput(
        f"{where}: no hires image (there are: {found}); add it, or name the image in a manifest"
    )
