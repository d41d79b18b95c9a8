"""Convert a spot table to the files of an AnnData group and back."""

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
    from zarr import Group
    from zarr.abc.buffer import Buffer

# Raised by zarr and anndata on damaged files.
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
    """Files of a slide's AnnData group without embeddings, by path.

    Identical to those of anndata (on-disk format 0.1.0), which takes a second to import. Every
    array chunk ends in a crc32c.
    """
    import zarr
    from zarr.storage import MemoryStore

    uns = {
        "image_shape": None if table.image_shape is None else np.array(table.image_shape),
        "um_per_px": table.um_per_px,
        "split": table.split,
        "group": table.group,
        "cell_types": table.cell_types or None,
        "spatial": _spatial(table),
        "lattice": None if table.lattice is None else dict(table.lattice),
    }
    obsm = {"spatial": table.xy, "abundance": table.abundance}
    written: dict[str, Buffer] = {}
    attributes = _encoding("anndata", "0.1.0")
    group = zarr.create_group(MemoryStore(written), zarr_format=3, attributes=attributes)
    for name, index, ids in (("obs", "spot", table.spot_ids), ("var", "_index", ())):
        frame = {"column-order": [], "_index": index, **_encoding("dataframe", "0.2.0")}
        _put(group.create_group(name, attributes=frame), index, ids)
    for name, parts in (("obsm", obsm), ("uns", uns)):
        _put(group, name, {key: value for key, value in parts.items() if value is not None})
    for name in ("varm", "obsp", "varp", "layers"):
        _put(group, name, {})
    group.create_array("raw", shape=(), dtype=bool, attributes=_encoding("null", "0.1.0"))
    return {key: value.to_bytes() for key, value in written.items()}


def _put(group: Group, name: str, value: Any) -> None:
    """Write numbers, strings or a dict of them like anndata."""
    from zarr.codecs import Crc32cCodec

    if isinstance(value, Mapping):
        part = group.create_group(name, attributes=_encoding("dict", "0.1.0"))
        for key, each in value.items():
            _put(part, key, each)
        return
    text = isinstance(value, str | tuple)
    values = np.asarray(value, dtype=object if text else None)
    kinds = ("string", "string-array") if text else ("numeric-scalar", "array")
    array = group.create_array(
        name,
        shape=values.shape,
        dtype="string" if text else values.dtype,
        compressors=[Crc32cCodec()],
        attributes=_encoding(kinds[values.ndim > 0], "0.2.0"),
    )
    if values.size:
        array[...] = values


def _encoding(kind: str, version: str) -> dict[str, Any]:
    return {"encoding-type": kind, "encoding-version": version}


def decode_table(slide: str, files: Mapping[str, bytes]) -> SpotTable:
    """Read back the table from `encode_table`."""
    import zarr
    from zarr.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    check_shapes(files)
    buffer = default_buffer_prototype().buffer
    memory = MemoryStore({key: buffer.from_bytes(data) for key, data in files.items()})
    try:
        group = zarr.open_group(memory, mode="r")
        ids = group[f"obs/{group['obs'].attrs['_index']}"]
        return _table(slide, *map(_read, (ids, group["obsm"], group["uns"])))
    except _UNREADABLE as error:
        raise Damaged(f"spot table cannot be read ({type(error).__name__})") from error


def _read(node: Any) -> Any:
    """Read back a value from `_put`; scalars become Python objects."""
    if hasattr(node, "members"):
        return {name: _read(part) for name, part in sorted(node.members())}
    values = np.asarray(node[...])
    return values if values.ndim else values.item()


def check_shapes(files: Mapping[str, bytes]) -> None:
    """Raise `Damaged` if an array claims more values than there are bytes."""
    stored = sum(map(len, files.values()))
    for path, data in files.items():
        if path.endswith(ROOT_DOCUMENT):
            try:
                size = math.prod(json.loads(data).get("shape", ()))
            except (*_UNREADABLE, RecursionError) as error:
                raise Damaged(f"{path} is damaged") from error
            if not 0 <= size <= stored:
                raise Damaged(f"{path} claims {size:.3g} values in {stored} bytes")


def _table(
    slide: str, ids: NDArray[Any], obsm: Mapping[str, Any], uns: Mapping[str, Any]
) -> SpotTable:
    shape = uns.get("image_shape")
    return SpotTable(
        slide=slide,
        xy=obsm["spatial"],
        spot_ids=tuple(map(str, ids)),
        abundance=obsm.get("abundance"),
        cell_types=tuple(map(str, uns.get("cell_types", ()))),
        split=_text(uns.get("split")),
        group=_text(uns.get("group")),
        um_per_px=None if "um_per_px" not in uns else float(uns["um_per_px"]),
        image_shape=None if shape is None else (int(shape[0]), int(shape[1])),
        thumbnail=uns["spatial"][slide]["images"]["lowres"] if "spatial" in uns else None,
        lattice=uns.get("lattice"),
    )


def _spatial(table: SpotTable) -> dict[str, Any] | None:
    """Thumbnail in the layout that scanpy and squidpy plot."""
    if table.thumbnail is None or table.image_shape is None:
        return None
    scalefactors = {
        "tissue_lowres_scalef": table.thumbnail.shape[1] / table.image_shape[1],
        **scale_factors(table),
    }
    return {table.slide: {"images": {"lowres": table.thumbnail}, "scalefactors": scalefactors}}


def scale_factors(table: SpotTable) -> dict[str, float]:
    """Diameter of the spots on maps, and micrometres per pixel, NaN if unknown.

    Without the NaN, readers would infer the scale from the diameter, a mere share of the pitch.
    """
    return {
        "spot_diameter_fullres": spot_diameter(table.xy),
        "microns_per_pixel": float("nan") if table.um_per_px is None else table.um_per_px,
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
