"""The spots of a slide: where they lie and how much of each cell type is under them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoboost.digests import digest_array, digest_bytes
from histoboost.errors import BadInput
from histoboost.names import check_slide_name

#: Diameter of a spot, as a share of the distance to the next: 55 of 100 um on Visium.
SPOT_SHARE = 0.55


@dataclass(frozen=True, eq=False)
class SpotTable:
    """All that is known about a slide's spots besides their embeddings.

    Attributes
    ----------
    slide : str
        Name of the slide.
    xy : ndarray of shape (N, 2), float64
        x = column and y = row, in pixels of the source image, in the source's order.
    spot_ids : tuple of str
        N ids, unique within the slide.
    abundance : ndarray of shape (N, T), float32, or None
        None on a slide without labels.
    cell_types : tuple of str
        T names.
    split, group : str or None
        Part of the data set; patient or animal.
    um_per_px : float or None
        Micrometres per pixel.
    image_shape : tuple of int, or None
        Height and width of the source image in pixels.
    thumbnail : ndarray of shape (h, w, 3), uint8, or None
        The slide in small, for maps. Two tables that differ in it alone are the same table.

    Raises
    ------
    HistoboostError
        If shapes disagree, a number is not finite, or an id or cell type occurs twice.
    """

    slide: str
    xy: NDArray[np.float64]
    spot_ids: tuple[str, ...]
    abundance: NDArray[np.float32] | None = None
    cell_types: tuple[str, ...] = ()
    split: str | None = None
    group: str | None = None
    um_per_px: float | None = None
    image_shape: tuple[int, int] | None = None
    thumbnail: NDArray[np.uint8] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_slide_name(self.slide)
        put = object.__setattr__  # the only way into a frozen dataclass
        put(self, "xy", np.ascontiguousarray(self.xy, dtype=np.float64))
        put(self, "spot_ids", tuple(map(str, self.spot_ids)))
        put(self, "cell_types", tuple(map(str, self.cell_types)))
        if self.abundance is not None:
            put(self, "abundance", np.ascontiguousarray(self.abundance, dtype=np.float32))
        if self.image_shape is not None:
            put(self, "image_shape", (int(self.image_shape[0]), int(self.image_shape[1])))
        fault = self._fault()
        if fault is not None:
            raise BadInput(f"slide {self.slide}: {fault}; correct the source")

    @property
    def labelled(self) -> bool:
        """Whether the slide carries abundances."""
        return self.abundance is not None

    def __len__(self) -> int:
        return len(self.xy)

    def differences(self, other: SpotTable) -> list[str]:
        """Names of the attributes in which two tables differ, a few words each."""
        return [
            _difference(part.name, getattr(self, part.name), getattr(other, part.name))
            for part in fields(self)
            if part.compare and not _same(getattr(self, part.name), getattr(other, part.name))
        ]

    def with_labels(self, other: SpotTable | None) -> SpotTable:
        """The same spots with abundances, cell types, split and group of `other`; None: without."""
        return replace(
            self,
            abundance=None if other is None else other.abundance,
            cell_types=() if other is None else other.cell_types,
            split=None if other is None else other.split,
            group=None if other is None else other.group,
        )

    def with_group_of(self, stored: SpotTable) -> SpotTable:
        """The same, in the group that is known already where this table tells of none."""
        return self if self.group is not None else replace(self, group=stored.group)

    @property
    def digest(self) -> str:
        """SHA-256 over everything that `differences` compares."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.compare}
        plain = {k: digest_array(v) if isinstance(v, np.ndarray) else v for k, v in values.items()}
        return digest_bytes(json.dumps(plain, sort_keys=True).encode())

    def _fault(self) -> str | None:
        n = len(self.xy)
        if self.xy.ndim != 2 or self.xy.shape[1] != 2:
            return f"coordinates have shape {self.xy.shape}, not (N, 2)"
        if n == 0:
            return "has no spots"
        if not np.isfinite(self.xy).all():
            return "coordinates are not all finite"
        if len(self.spot_ids) != n:
            return f"{n} spots but {len(self.spot_ids)} ids"
        if len(set(self.spot_ids)) != n:
            return "spot ids are not unique"
        if len(set(self.cell_types)) != len(self.cell_types):
            return "cell types are not unique"
        if self.thumbnail is not None and (
            self.thumbnail.dtype != np.uint8 or self.thumbnail.shape[2:] != (3,)
        ):
            return f"thumbnail is {self.thumbnail.dtype} {self.thumbnail.shape}, not uint8 RGB"
        if self.abundance is None:
            return None
        if self.abundance.shape != (n, len(self.cell_types)) or not self.cell_types:
            return f"abundances have shape {self.abundance.shape}, not {(n, len(self.cell_types))}"
        if not np.isfinite(self.abundance).all():
            return "abundances are not all finite"
        return None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return bool(np.array_equal(a, b))
    return type(a) is type(b) and bool(a == b)


def _difference(name: str, a: Any, b: Any) -> str:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape != b.shape:
        return f"{name} has shape {a.shape} there, {b.shape} here"
    if a is None or b is None or isinstance(a, str | float):
        return f"{name} is {_brief(a)} there, {_brief(b)} here"
    return f"{name} differ{'' if name.endswith('s') else 's'}"


def _brief(value: Any) -> str:
    if value is None:
        return "absent"
    return "given" if isinstance(value, np.ndarray) else repr(value)


def check_cell_types(labelled: Sequence[SpotTable], location: str, remedy: str) -> None:
    """Refuse labelled slides that do not share their cell types.

    Parameters
    ----------
    labelled : sequence of SpotTable
        Slides with abundances.
    location : str
        Their store.
    remedy : str
        What follows on the two slides' names, up to the command that removes one of them.

    Raises
    ------
    HistoboostError
        Naming the first slide whose cell types are not those of the first.
    """
    for table in labelled:
        if table.cell_types != labelled[0].cell_types:
            raise BadInput(
                f"slide {table.slide}: has other cell types than {labelled[0].slide}{remedy} with "
                f"histoboost cache remove {location} --slide {table.slide}"
            )


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
    memory = MemoryStore()
    group = zarr.open_group(memory, mode="a", zarr_format=3)
    settings: dict[str, Any] = {"zarr_write_format": 3}
    if hasattr(anndata.settings, "auto_shard_zarr_v3"):  # the first of 0.12 never shard
        # Our tables are far below the size for it; an open question would be warned of.
        settings["auto_shard_zarr_v3"] = False
    with anndata.settings.override(**settings):
        anndata.io.write_elem(group, "/", adata, dataset_kwargs={"compressors": [Crc32cCodec()]})
    return {key: value.to_bytes() for key, value in memory._store_dict.items()}


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
    """How large spots are drawn, and the scale: NaN where it is unknown, so that none is guessed.

    Readers take it from the diameter else, which is only a share of the distance between spots.
    """
    return {
        "spot_diameter_fullres": spot_diameter_px(table.xy),
        "microns_per_pixel": float("nan") if table.um_per_px is None else table.um_per_px,
    }


def spot_pitch_px(xy: NDArray[np.float64]) -> float:
    """Median distance of the spots at `xy`, (N, 2), to the nearest other; infinite for one spot."""
    from scipy.spatial import cKDTree

    return float(np.median(cKDTree(xy).query(xy, k=2)[0][:, 1]))


def spot_diameter_px(xy: NDArray[np.float64]) -> float:
    """Diameter of the spots at `xy`, (N, 2) in pixels, as drawn on maps; for one spot a guess."""
    return SPOT_SHARE * (spot_pitch_px(xy) if len(xy) > 1 else 1.0)


def decode_table(slide: str, files: Mapping[str, bytes]) -> SpotTable:
    """The table that `encode_table` wrote."""
    import anndata
    import zarr
    from zarr.core.buffer import default_buffer_prototype
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


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
