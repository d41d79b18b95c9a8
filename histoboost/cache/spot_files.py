"""A slide's spot table as the files of an AnnData group, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.cache.layout import ROOT_DOCUMENT, Damaged
from histoboost.errors import BadInput
from histoboost.spots import SpotTable, spot_diameter

if TYPE_CHECKING:
    from anndata import AnnData
    from zarr.abc.buffer import Buffer

# What zarr and anndata raise on files that are not as we write them.
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    BadInput,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def encode_table(table: SpotTable) -> dict[str, bytes]:
    """The files of a slide's AnnData group, without any embedding, by their path in it.

    Every array chunk ends in a crc32c.
    """
    import anndata
    import pandas as pd
    import zarr
    from zarr.codecs import Crc32cCodec
    from zarr.storage import MemoryStore

    obsm: dict[str, NDArray[Any]] = {"spatial": table.xy}
    if table.abundance is not None:
        obsm["abundance"] = table.abundance
    known = {
        "image_shape": None if table.image_shape is None else np.array(table.image_shape),
        "um_per_px": table.um_per_px,
        "split": table.split,
        "group": table.group,
        "cell_types": np.array(table.cell_types, dtype=object) if table.cell_types else None,
        "spatial": _spatial(table),
        "lattice": None if table.lattice is None else dict(table.lattice),
    }
    adata = anndata.AnnData(
        obs=pd.DataFrame(index=pd.Index(table.spot_ids, dtype=object, name="spot")),
        obsm=obsm,
        uns={key: value for key, value in known.items() if value is not None},
    )
    written: dict[str, Buffer] = {}
    memory = MemoryStore(written)
    group = zarr.open_group(memory, mode="a", zarr_format=3)
    settings: dict[str, Any] = {"zarr_write_format": 3}
    if hasattr(anndata.settings, "auto_shard_zarr_v3"):  # the first of 0.12 never shard
        # Our tables are far below the size for it; an open question would be warned of.
        settings["auto_shard_zarr_v3"] = False
    with anndata.settings.override(**settings):
        anndata.io.write_elem(group, "/", adata, dataset_kwargs={"compressors": [Crc32cCodec()]})
    return {key: value.to_bytes() for key, value in written.items()}


def decode_table(slide: str, files: Mapping[str, bytes]) -> SpotTable:
    """The table that `encode_table` wrote."""
    import anndata
    import zarr
    from zarr.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    check_shapes(files)
    buffer = default_buffer_prototype().buffer
    memory = MemoryStore({key: buffer.from_bytes(data) for key, data in files.items()})
    try:
        adata = anndata.io.read_elem(zarr.open_group(memory, mode="r"))
        return _from_anndata(slide, adata)
    except _UNREADABLE as error:
        raise Damaged(f"spot table cannot be read ({type(error).__name__})") from error


def check_shapes(files: Mapping[str, bytes]) -> None:
    """`Damaged` where an array tells of more values than there are bytes, and would fill memory."""
    stored = sum(map(len, files.values()))
    for path, data in files.items():
        if path.endswith(ROOT_DOCUMENT):
            try:
                size = math.prod(json.loads(data).get("shape", ()))
            except (*_UNREADABLE, RecursionError) as error:
                raise Damaged(f"{path} is damaged") from error
            if not 0 <= size <= stored:
                raise Damaged(f"{path} tells of {size:.3g} values in {stored} bytes")


def _from_anndata(slide: str, adata: AnnData) -> SpotTable:
    uns = adata.uns
    shape = uns.get("image_shape")
    return SpotTable(
        slide=slide,
        xy=np.asarray(adata.obsm["spatial"]),
        spot_ids=tuple(adata.obs_names),
        abundance=adata.obsm.get("abundance"),
        cell_types=tuple(map(str, uns.get("cell_types", ()))),
        split=_text(uns.get("split")),
        group=_text(uns.get("group")),
        um_per_px=None if "um_per_px" not in uns else float(uns["um_per_px"]),
        image_shape=None if shape is None else (int(shape[0]), int(shape[1])),
        thumbnail=uns["spatial"][slide]["images"]["lowres"] if "spatial" in uns else None,
        lattice={key: _plain(value) for key, value in uns["lattice"].items()}
        if "lattice" in uns
        else None,
    )


def _spatial(table: SpotTable) -> dict[str, Any] | None:
    """The thumbnail where scanpy and squidpy look for one, so that their plots find it."""
    if table.thumbnail is None or table.image_shape is None:
        return None
    scalefactors = {
        "tissue_lowres_scalef": table.thumbnail.shape[1] / table.image_shape[1],
        **scale_factors(table),
    }
    return {table.slide: {"images": {"lowres": table.thumbnail}, "scalefactors": scalefactors}}


def scale_factors(table: SpotTable) -> dict[str, float]:
    """Diameter of the spots as drawn, and the scale: NaN where it is unknown.

    Without the NaN, readers take the scale from the diameter, which is only a share of the pitch.
    """
    return {
        "spot_diameter_fullres": spot_diameter(table.xy),
        "microns_per_pixel": float("nan") if table.um_per_px is None else table.um_per_px,
    }


def _plain(value: Any) -> Any:
    """A number or text as Python has it."""
    return value.item() if isinstance(value, np.generic | np.ndarray) else value


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
