"""A slide's spot table as the files of an AnnData group, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoboost.spots import SpotTable, spot_diameter

if TYPE_CHECKING:
    from zarr.abc.buffer import Buffer


def encode_table(table: SpotTable) -> dict[str, bytes]:
    """The files of a slide's AnnData group, without any embedding.

    Returns
    -------
    dict
        Paths below ``STORE/slides/<slide>/`` to contents; every array chunk ends in a crc32c.
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

    buffer = default_buffer_prototype().buffer
    memory = MemoryStore({key: buffer.from_bytes(data) for key, data in files.items()})
    adata = anndata.io.read_elem(zarr.open_group(memory, mode="r"))
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


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
