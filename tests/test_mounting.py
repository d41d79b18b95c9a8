"""Slides mounted differently from the training slides are embedded in their orientation."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from histoboost import CompositionRegressor, map_slide
from histoboost.cache.store import EmbeddingStore
from histoboost.errors import BadInput, HistoboostWarning
from histoboost.featurize import featurize
from histoboost.featurize.backbones.base import Architecture
from histoboost.featurize.backbones.factory import REGISTRY
from histoboost.mounting import FEWEST, Mounting, _mosaic, nearest_way
from histoboost.regress.guard import turn_of
from histoboost.regress.predictions import Prediction
from histoboost.slides.images import open_image
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.slide import Dataset, Slide
from histoboost.slides.thumbnail import thumbnail
from histoboost.slides.turned_slide import mounted_slide, turned_slide

#: Mean colours in a 4 x 4 grid, which depend on the orientation.
EMBED = {"backbone": "fields", "patch": [32]}


def section(name: str, seed: int) -> Slide:
    """A section of the same tissue in the same orientation, with its own noise."""
    tissue = gaussian_filter(np.random.default_rng(7).normal(size=(170, 230, 3)), (6, 6, 0))
    noise = np.random.default_rng(seed).normal(size=tissue.shape)
    pixels = np.clip(128 + 900 * tissue + 4 * noise, 0, 255).astype(np.uint8)
    xy = np.stack(np.meshgrid(np.arange(15.0, 220, 20), np.arange(15.0, 160, 20)), -1).reshape(
        -1, 2
    )
    abundance = 1.0 + np.stack([gaussian_filter(tissue[..., c], 4) for c in range(3)], -1)
    return Slide(
        name,
        ArrayImage(pixels),
        xy,
        tuple(map(str, range(len(xy)))),
        abundance[xy[:, 1].astype(int), xy[:, 0].astype(int)].astype(np.float32),
        ("A", "B", "C"),
    )


@pytest.fixture(scope="module", autouse=True)
def fields() -> Iterator[None]:
    module = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
    options = {"head": "none", "layer": "1", "input_px": 32, "pretrained": None}

    def architecture() -> Architecture:
        return Architecture(module=module, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(REGISTRY, "fields", architecture)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, held_out: Slide) -> Path:
    """``model`` of two sections, ``coords`` with coordinates, and ``plain.zarr`` of S_3."""
    folder = tmp_path_factory.mktemp("mounting")
    data = Dataset(folder, [section("S_1", 1), section("S_2", 2)])
    featurize(data, folder / "store.zarr", **EMBED)
    for name, features in (("model", "*"), ("coords", "*+coords")):
        fitted = CompositionRegressor(model="ridge", features=features).fit(folder / "store.zarr")
        fitted.save(folder / name)
    featurize(Dataset(folder, [held_out]), folder / "plain.zarr", **EMBED)
    return folder


@pytest.fixture(scope="module")
def upright(folder: Path) -> Prediction:
    """Prediction of the held-out section."""
    model = CompositionRegressor.load(folder / "model")
    [found] = model.predict(folder / "plain.zarr", ["S_3"], units="share")
    return found


@pytest.fixture(scope="module")
def held_out() -> Slide:
    return section("S_3", 3)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Fail on a warning about the orientation."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "slide .* is mounted differently", HistoboostWarning)
        yield


def test_a_map_of_a_turned_slide_is_the_turned_map(folder, held_out, upright):
    turned = turned_slide(held_out, "180-mirrored")
    with pytest.warns(HistoboostWarning, match="S_3: is mounted differently from the training"):
        [found] = map_slide(turned, folder / "model")
    np.testing.assert_allclose(found.values, upright.values, atol=1e-3)
    np.testing.assert_array_equal(found.spots.xy, turned.xy)
    np.testing.assert_array_equal(found.spots.thumbnail, thumbnail(turned.image))


def test_a_slide_in_the_orientation_of_training_is_not_turned(folder, held_out, upright, quiet):
    [mapped] = map_slide(held_out, folder / "model")
    np.testing.assert_array_equal(mapped.values, upright.values)
    assert mapped.turn is None


@pytest.mark.parametrize("turn", ["180", "270-mirrored"])
def test_a_turned_slide_is_turned_back(folder: Path, held_out: Slide, turn: str) -> None:
    turned = turned_slide(held_out, turn)
    with pytest.warns(HistoboostWarning, match="is mounted differently"):
        back = mounted_slide(turned, _turn(folder, turned))
    np.testing.assert_allclose(back.xy, held_out.xy)
    height, width = held_out.image.shape
    regions = [slide.image.read_region(0, 0, 0, width, height) for slide in (back, held_out)]
    np.testing.assert_array_equal(*regions)
    np.testing.assert_array_equal(back.spot_table().xy, turned.xy)


def _turn(folder: Path, slide: Slide, model: str = "model") -> str | None:
    mount = Mounting(
        CompositionRegressor.load(folder / model), [EMBED], EmbeddingStore(folder / "none.zarr")
    )
    return mount([slide])[slide.name]


def test_a_slide_unlike_the_training_tissue_is_not_turned(folder, held_out, quiet):
    height, width = held_out.image.shape
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert _turn(folder, replace(held_out, image=ArrayImage(noise))) is None


def test_a_slide_with_few_spots_is_not_turned(folder: Path, held_out: Slide, quiet: None) -> None:
    few = held_out.only(np.arange(len(held_out.xy)) < FEWEST - 1)
    assert _turn(folder, turned_slide(few, "180")) is None


def test_slides_are_not_turned_for_a_model_with_coordinates(folder, held_out, quiet):
    assert _turn(folder, turned_slide(held_out, "180"), "coords") is None


@pytest.fixture
def turned_data(folder: Path, held_out: Slide, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """The held-out section turned and unlabelled, as DATA of any command."""
    data = Dataset(folder, [replace(turned_slide(held_out, "90"), abundance=None, cell_types=())])
    monkeypatch.setattr("histoboost.slides.readers.open_dataset", lambda *_: data)
    return data


LIKE = ("--backbone", "fields", "--patch", "32", "--mounted-like")


@pytest.mark.usefixtures("turned_data")
def test_mounted_like_refuses_a_model_with_coordinates(refusal, folder, tmp_path):
    line = refusal("featurize", "x", tmp_path / "s.zarr", *LIKE, folder / "coords")
    assert "cannot recognise the orientation" in line
    assert not (tmp_path / "s.zarr").exists()


def test_featurize_turns_slides_and_predict_reports_it(succeeds, folder, turned_data, tmp_path):
    store, model = tmp_path / "new.zarr", folder / "model"
    done = succeeds("featurize", "x", store, *LIKE, model)
    assert "is mounted differently from the training slides" in done.output
    new, plain = EmbeddingStore(store, mode="r"), EmbeddingStore(folder / "plain.zarr", mode="r")
    np.testing.assert_array_equal(new.read("S_3", "fields@32"), plain.read("S_3", "fields@32"))
    np.testing.assert_array_equal(new.spots("S_3").xy, turned_data.slides[0].xy)

    summary = tmp_path / "summary.json"
    done = succeeds("predict", store, model, "-o", tmp_path / "x.parquet", "--json", summary)
    [slide] = json.loads(summary.read_text())["slides"]
    assert slide["turn"] == "270"
    assert "rotated by 270 degrees counterclockwise" in slide["warnings"][0]
    assert slide["warnings"][0] in " ".join(done.output.split())


def test_a_store_keeps_the_orientation_of_a_slide(folder, held_out, tmp_path, monkeypatch):
    turned = turned_slide(held_out, "mirrored")
    pixels = turned.image.read_rows(0, turned.image.shape[0])
    Image.fromarray(pixels).save(tmp_path / "S_3.png")
    turned = replace(turned, image=open_image(tmp_path / "S_3.png"))
    [first] = map_slide(turned, folder / "model", store=tmp_path / "kept.zarr")
    monkeypatch.setattr(Mounting, "novelty", None)
    [second] = map_slide(turned, folder / "model", store=tmp_path / "kept.zarr")
    assert first.turn == second.turn == "mirrored"
    assert first.warnings == second.warnings
    np.testing.assert_array_equal(first.values, second.values)


def test_turned_and_unturned_embeddings_have_different_recipes(folder, held_out, tmp_path):
    data = Dataset(folder, [held_out])
    featurize(data, tmp_path / "x.zarr", **EMBED)
    with pytest.raises(BadInput, match=r'different recipe \(slide_turn: absent, not "180"'):
        featurize(data, tmp_path / "x.zarr", mount=lambda slides: {"S_3": "180"}, **EMBED)


def test_a_large_slide_is_turned_at_all_its_levels(held_out, tmp_path, monkeypatch):
    import tifffile

    monkeypatch.setattr("histoboost.slides.tile_cache.SMALL", 0)
    aligned = replace(held_out, xy=held_out.xy + 1)  # integer pixels at the coarser level, too
    both: list[Slide] = []
    for slide in (aligned, turned_slide(aligned, "90")):
        pixels = slide.image.read_rows(0, slide.image.shape[0])
        height, width = slide.image.shape
        coarse = pixels.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3)).astype(np.uint8)
        with tifffile.TiffWriter(path := tmp_path / f"{len(both)}.ome.tif", ome=True) as tiff:
            tiff.write(pixels, subifds=1, tile=(64, 64), photometric="rgb")
            tiff.write(coarse, subfiletype=1, tile=(64, 64), photometric="rgb")
        both.append(replace(slide, image=open_image(path)))
    plain, turned = (Dataset(tmp_path, [slide]) for slide in both)
    how: dict[str, Any] = {"backbone": "fields", "patch": [32, 128]}
    featurize(plain, tmp_path / "plain.zarr", **how)
    featurize(turned, tmp_path / "back.zarr", mount=lambda slides: {"S_3": "270"}, **how)
    back, expected = (EmbeddingStore(tmp_path / f"{n}.zarr", mode="r") for n in ("back", "plain"))
    for name, recipe in back.embeddings("S_3").items():
        assert ("slide_level" in recipe.fields) == (name == "fields@128")
        np.testing.assert_array_equal(back.read("S_3", name), expected.read("S_3", name))
    np.testing.assert_array_equal(back.spots("S_3").thumbnail, thumbnail(both[1].image))


def test_embeddings_with_different_turns_are_not_combined() -> None:
    recipes = {"a@32": {"slide_turn": "180"}, "a@64": {}}
    with pytest.raises(BadInput, match="S_3: patches of its embeddings were turned differently"):
        turn_of("S_3", recipes)
    assert turn_of("S_3", {"a@32": {"slide_turn": "180"}}) == "180"


@pytest.mark.parametrize("other", [{"alignment": "auto"}, {"turned": "90"}])
def test_mounting_excludes_alignment_and_turning(folder, held_out, other):
    data, options = Dataset(folder, [held_out]), {**EMBED, **other}
    with pytest.raises(BadInput, match="omit --alignment and --turned"):
        featurize(data, folder / "x.zarr", mount=lambda slides: {}, **options)


def test_rounding_errors_turn_no_slide() -> None:
    apart = np.random.default_rng(0).uniform(0.4, 0.6, 64) + np.linspace(1e-4, 0, 8)[:, None]
    assert nearest_way(apart) == 0
    assert nearest_way(apart - 0.1 * np.eye(8)[:, [5]]) == 5


@pytest.mark.parametrize("corner", [(5, 7), (-3, 2), (60, -8), (50, 30)])
def test_squares_are_mirrored_at_the_border(corner: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    x, y = corner
    slide = Slide("S", ArrayImage(pixels), np.array([[x + 8.0, y + 8.0]]), ("0",))
    padded = np.pad(pixels, [(20, 20), (20, 20), (0, 0)], mode="symmetric")
    image = _mosaic(slide, 16).image
    assert image.shape == (16, 16)
    expected = padded[y + 20 : y + 36, x + 20 : x + 36]
    np.testing.assert_array_equal(image.read_region(0, 0, 0, 16, 16), expected)
