"""Spot tables are validated, and stored like AnnData."""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

from histoboost.cache.spot_files import decode_table, encode_table
from histoboost.errors import HistoboostError

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"xy": np.zeros((5, 3))}, "coordinates have shape (5, 3), not (N, 2)"),
    ({"xy": np.zeros((0, 2)), "spot_ids": ()}, "has no spots"),
    ({"xy": np.full((5, 2), np.nan)}, "coordinates are not all finite"),
    ({"spot_ids": ("a", "b")}, "5 spots but 2 ids"),
    ({"spot_ids": ("a", "b", "c", "d", "a")}, "spot ids are not unique"),
    ({"cell_types": ("a", "b", "c", "a")}, "cell types are not unique"),
    ({"cell_types": ("a", "b")}, "abundances have shape (5, 4), not (5, 2)"),
    ({"abundance": np.full((5, 4), np.inf)}, "abundances are not all finite"),
]


@pytest.mark.parametrize(("changes", "fault"), WRONG, ids=[fault for _, fault in WRONG])
def test_a_faulty_spot_table_names_slide_and_fault(table, changes, fault):
    with pytest.raises(HistoboostError) as refused:
        table("S_9", 5, **changes)
    assert str(refused.value) == f"slide S_9: {fault}; correct the source"


def test_a_table_is_encoded_like_by_anndata(table):
    own = table(lattice={"kind": "hexagonal", "pitch_px": 3.5, "places": 5})
    adata = anndata.AnnData(
        obs=pd.DataFrame(index=pd.Index(own.spot_ids, dtype=object, name="spot")),
        obsm={"spatial": own.xy, "abundance": own.abundance},
        uns={
            "image_shape": np.array(own.image_shape),
            "um_per_px": own.um_per_px,
            "split": own.split,
            "group": own.group,
            "cell_types": np.array(own.cell_types, dtype=object),
            "lattice": own.lattice,
        },
    )
    written: dict[str, Any] = {}
    group = zarr.open_group(MemoryStore(written), mode="a", zarr_format=3)
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        codecs = {"compressors": [Crc32cCodec()]}
        anndata.io.write_elem(group, "/", adata, dataset_kwargs=codecs)
    assert encode_table(own) == {key: value.to_bytes() for key, value in written.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"abundance": None, "cell_types": ()},
        {"split": None},
        {"split": ""},
        {"group": None},
        {"um_per_px": None},
        {"image_shape": None},
        {"n": 1},
        {"group": None, "split": None, "um_per_px": None, "image_shape": None},
        {"lattice": {"places": 5}},
    ],
    ids=str,
)
def test_a_table_round_trips(table, changes):
    own = table(**changes)
    assert not decode_table(own.slide, encode_table(own)).differences(own)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"pitch_px": 4.0}, "its lattice's pitch in px is 3.5 in the store, 4 in the data"),
        (
            {"pitch_px": 3.50004},
            "its lattice's pitch in px is 3.5 in the store, 3.50004 in the data",
        ),
        (
            {"pitch_px": 400.80160320641284},
            "its lattice's pitch in px is 3.5 in the store, 400.8 in the data",
        ),
        ({"tissue": "all"}, "its lattice's tissue is auto in the store, all in the data"),
        ({"copies": 4}, "its lattice's copies (--finer) is 1 in the store, 4 in the data"),
    ],
)
def test_different_lattice_settings_are_named(table, other, message):
    lattice = {"kind": "hexagonal", "pitch_px": 3.5, "tissue": "auto", "places": 5}
    stored, new = table(n=9, lattice=lattice), table(n=5, lattice={**lattice, **other})
    assert stored.differences(new) == [message]
