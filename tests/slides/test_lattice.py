"""Slides without spots get a lattice: hexagonal, on tissue, deterministic."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import compress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, HistoboostWarning, warnings_kept
from histoboost.phantom import phantom_slide
from histoboost.regress.neighbors import spot_graph
from histoboost.slides.inspect import inspect
from histoboost.slides.lattice import hexagonal, lay_lattice, lay_lattices
from histoboost.slides.readers import open_dataset
from histoboost.slides.regions import check_on_slide, read_regions
from histoboost.slides.slide import Slide
from histoboost.spots import spot_pitch


@pytest.fixture(scope="module")
def plain() -> Slide:
    """A phantom without its spots."""
    slide = phantom_slide(spots=80, seed=1)
    return replace(slide, xy=np.empty((0, 2)), spot_ids=(), abundance=None, cell_types=())


@pytest.fixture(scope="module")
def image(plain: Slide, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "section.png"
    Image.fromarray(plain.image.read_rows(0, plain.image.shape[0])).save(path)
    return path


def draw(folder: Path, *rings: NDArray[np.float64]) -> Path:
    """Write a polygon and its holes (K, 2) as GeoJSON."""
    polygon = {"type": "Polygon", "coordinates": [ring.tolist() for ring in rings]}
    (folder / "regions.geojson").write_text(json.dumps(polygon))
    return folder / "regions.geojson"


def with_cells(folder: Path, image: Path, table: str) -> Path:
    """Write a manifest of an image with single cells."""
    (folder / "cells.csv").write_text(table)
    (folder / "cells.manifest.csv").write_text(f"slide,image,spots,cells\nA,{image},,cells.csv\n")
    return folder / "cells.manifest.csv"


SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])


def test_inner_places_have_six_neighbours_at_the_pitch() -> None:
    lattice = hexagonal((300, 300), 25.5)
    degree = spot_graph(lattice.xy).sum(axis=1)
    inner = ((lattice.xy > 40) & (lattice.xy < 260)).all(axis=1)
    assert spot_pitch(lattice.xy) == pytest.approx(25.5)
    assert set(degree[inner]) == {6}


@pytest.mark.parametrize("finer", [2, 3])
def test_a_finer_lattice_is_copies_of_the_coarse_one(finer: int) -> None:
    coarse, fine = hexagonal((300, 280), 25.0), hexagonal((300, 280), 25.0, finer)
    assert spot_pitch(fine.xy) == pytest.approx(25 / finer)
    assert np.allclose(fine.xy[fine.copy == 0], coarse.xy)
    for copy in range(finer**2):
        assert spot_pitch(fine.xy[fine.copy == copy]) == pytest.approx(25)


def test_the_lattice_is_deterministic_and_ids_encode_row_and_column(plain: Slide) -> None:
    [first], [second] = lay_lattice(plain, "100um"), lay_lattice(plain, "25px")
    assert np.array_equal(first.xy, second.xy)
    assert first.spot_ids == second.spot_ids
    assert len(set(first.spot_ids)) == len(first.xy)
    assert all(len(name) == 8 and name[0] == "r" and name[4] == "c" for name in first.spot_ids)


def test_a_store_records_the_settings_of_the_lattice(plain: Slide, tmp_path: Path) -> None:
    [laid] = lay_lattice(plain, 25)
    store = EmbeddingStore(tmp_path / "store.zarr")
    store.write_spots(laid.spot_table())
    store.write_spots(laid.spot_table())  # the same
    expected = {"kind": "hexagonal", "pitch_px": 25.0, "tissue": "auto", "least_share": 0.5}
    stored = dict(store.spots(laid.name).lattice or {})
    assert str(stored.pop("found")).startswith("tissue on")
    assert stored.pop("places") == len(laid.xy)
    assert stored == expected


def test_tables_without_a_lattice_keep_the_digest_they_had() -> None:
    table = phantom_slide(spots=20).spot_table()
    assert replace(table, lattice={"kind": "hexagonal"}).digest != table.digest
    assert table.digest == "cb8eeaa0fbc66539312681367691e2b86540a4b778ef10b0069d8421bd10d53a"


def test_a_drawn_region_restricts_the_lattice_and_its_hole_stays_empty(plain, tmp_path):
    height, width = plain.image.shape
    x, y = width / 4, height / 2
    path = draw(tmp_path, SQUARE * [width / 2, height], [x - 30, y - 30] + 60 * SQUARE)
    [free], [drawn] = lay_lattice(plain, 25), lay_lattice(plain, 25, path)
    beside = free.xy[:, 0] < width / 2 - 10
    outside_hole = (np.abs(free.xy - [x, y]) > 45).any(axis=1)
    expected = set(compress(free.spot_ids, beside & outside_hole))
    assert expected <= set(drawn.spot_ids) <= set(free.spot_ids)
    assert (drawn.xy[:, 0] < width / 2 + 10).all()
    assert (np.abs(drawn.xy - [x, y]) > 25).any(axis=1).all()
    assert drawn.lattice is not None
    assert drawn.lattice["tissue"] == "regions.geojson"


@pytest.mark.parametrize(
    ("pitch", "tissue", "um", "message"),
    [
        ("100um", "auto", None, "micrometres per pixel are unknown"),
        ("wide", "auto", 4.0, "--pitch: wide is not a length"),
        (1, "auto", 4.0, "puts spots 1 px apart"),
        ("1um", "auto", 4.0, "puts spots 0.25 px apart"),
        (25, "no.geojson", 4.0, "no.geojson is neither auto, all nor a file"),
    ],
)
def test_a_bad_pitch_or_region_is_one_clear_line(
    plain: Slide, pitch, tissue: str, um, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        lay_lattice(replace(plain, um_per_px=um), pitch, tissue)


def test_regions_off_the_slide_are_refused(plain: Slide, tmp_path: Path) -> None:
    far = draw(tmp_path, 9000 + 900 * SQUARE)
    with pytest.raises(BadInput, match=rf"{far}: no region lies on slide .* drawn on it\?"):
        lay_lattice(plain, 25, far)


def test_regions_that_cover_almost_nothing_give_a_warning(plain, tmp_path):
    slide = replace(plain, name="s", um_per_px=0.05)
    pixels = (0.1 + 0.8 * SQUARE) * slide.image.shape[::-1]

    def heard(ring: NDArray[np.float64]) -> list[str]:
        path = draw(tmp_path, ring)
        with warnings_kept() as lines:
            check_on_slide(path, read_regions(path), slide)
        return lines

    assert heard(pixels) == []
    [said] = heard(0.05 * pixels)  # as if in micrometres
    assert said.startswith(f"{draw(tmp_path, pixels)}: its regions cover 0.16% of slide s")
    assert said.endswith("divide micrometres by 0.05")


def test_a_folder_of_images_warns_about_other_data_in_it(image, tmp_path):
    shutil.copy(image, tmp_path / image.name)
    (tmp_path / "notes.txt").touch()
    assert len(open_dataset(tmp_path).slides) == 1
    (tmp_path / "spots.csv").touch()
    (tmp_path / "more").mkdir()
    shutil.copy(image, tmp_path / "more")
    with pytest.warns(
        HistoboostWarning, match=r"plain images \(1\), without more, spots.csv; if you mean"
    ):
        open_dataset(tmp_path)


def test_one_image_or_a_folder_of_them_are_slides_without_spots(image: Path) -> None:
    for path in (image, image.parent):
        [slide] = open_dataset(path).slides
        assert slide.plain
        assert slide.name == "section"


def test_inspect_describes_the_tissue_of_a_plain_image(image: Path) -> None:
    found = inspect(image)
    assert found["problems"] == []
    assert "tissue on" in found["slides"][0]["tissue"]


def test_a_slide_without_spots_needs_a_pitch_and_one_with_spots_takes_none(image, phantom_h5):
    with pytest.raises(BadInput, match="slide section: has no spots; give --pitch"):
        lay_lattices(open_dataset(image), None)
    with pytest.raises(BadInput, match="all slides have spots"):
        lay_lattices(open_dataset(phantom_h5), "25px")


def test_single_cells_of_a_manifest_are_counted_on_the_lattice(image: Path, tmp_path: Path) -> None:
    [bare] = lay_lattices(open_dataset(image), 25).slides
    cells = pd.DataFrame({"x": bare.xy[:5, 0], "y": bare.xy[:5, 1], "cell_type": list("abbca")})
    manifest = with_cells(tmp_path, image, cells.to_csv(index=False))
    [slide] = lay_lattices(open_dataset(manifest), 25).slides
    assert slide.cell_types == ("a", "b", "c")
    assert slide.abundance is not None
    assert slide.abundance.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert slide.spot_ids == bare.spot_ids[:5]
    assert inspect(manifest)["slides"][0]["cells"] == 5


def test_cells_without_a_type_are_counted_in_a_warning(image: Path, tmp_path: Path) -> None:
    with pytest.warns(HistoboostWarning, match="2 of 3 cells have no cell_type"):
        open_dataset(with_cells(tmp_path, image, "x,y,cell_type\n1,2,a\n3,4,\n5,6,\n"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("x,y\n1,2\n", "no column 'cell_type'"),
        ("x,y,cell_type\n1,,a\n", "coordinates are missing"),
        ("x_um,y_um,cell_type\n1,2,a\n", "micrometres on an image of unknown scale"),
    ],
)
def test_a_table_of_cells_that_cannot_be_used_is_one_line(image, tmp_path, table, message):
    with pytest.raises(BadInput, match=message):
        open_dataset(with_cells(tmp_path, image, table))


def test_featurize_embeds_a_plain_image(image: Path, tmp_path: Path) -> None:
    from histoboost.featurize import featurize

    for _ in range(2):
        done = featurize(
            image, tmp_path / "s.zarr", backbone="stain-texture", patch=32, pitch=25, um_per_px=4.0
        )
    table = EmbeddingStore(tmp_path / "s.zarr").spots("section")
    assert done.computed == 0
    assert done.kept == len(table)
    assert table.um_per_px == 4.0
    assert table.lattice is not None
