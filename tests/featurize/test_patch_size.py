"""Patch sizes in micrometres: parsed, converted to pixels, kept in the recipe."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError, HistoboostWarning
from histoboost.featurize import featurize
from histoboost.featurize.patch_size import PatchSize, parse_sizes
from histoboost.phantom import phantom_slide
from histoboost.slides.slide import Dataset


@pytest.fixture(scope="module")
def slide():
    return phantom_slide(spots=20, pitch_px=20.0)  # 5 um per px


@pytest.mark.parametrize(
    ("patch", "sides"),
    [
        *((64, ["64"]), ("64", ["64"]), ("55um", ["55um"]), ("32, 64", ["32", "64"])),
        *(([32, "64"], ["32", "64"]), (("32,64", "55um"), ["32", "64", "55um"])),
        *((np.int64(64), ["64"]), (PatchSize(64), ["64"]), ([], [])),
        *(("55 µm", ["55um"]), ("27.5um", ["27.5um"]), ([64, "64"], ["64"])),
    ],
)
def test_patch_sizes_are_parsed_and_named(patch: object, sides: list[str]):
    assert [str(size) for size in parse_sizes(patch, [])] == sides


def test_a_patch_far_larger_than_the_slide_is_refused(slide):
    height, width = slide.image.shape
    assert parse_sizes(2 * max(height, width), [slide])
    with pytest.raises(HistoboostError, match="is 5000 px, the slide only .*; give a smaller"):
        parse_sizes("5000", [slide])


@pytest.mark.parametrize("text", ["0", "-3", "6.5", "55mm", "um", "nan", "1e99", "infum"])
def test_an_invalid_patch_size_is_refused(text: str):
    with pytest.raises(HistoboostError, match="is no size; give whole pixels"):
        parse_sizes([text], [])


def test_micrometres_need_a_known_scale_and_a_whole_pixel(slide):
    assert [size.pixels(slide) for size in parse_sizes(["55um", "100um", "64"], [slide])] == [
        *(11, 20, 64)
    ]
    with pytest.raises(HistoboostError, match="micrometres per pixel are unknown"):
        parse_sizes(["55um"], [replace(slide, um_per_px=None)])
    with pytest.raises(HistoboostError, match="less than one of its pixels"):
        parse_sizes(["2um"], [slide])
    with pytest.raises(HistoboostError, match="55um and 11 are both 11 px"):
        parse_sizes(["55um", "11"], [slide])


def test_slides_of_two_scales_share_one_embedding_and_their_recipes_agree(tmp_path, slide):
    fine = replace(slide, name="S_2", um_per_px=2.5)
    store = EmbeddingStore(tmp_path / "store")
    data = Dataset(tmp_path, (slide, fine))
    featurize(data, store, backbone="stain-texture", patch=["100um"])
    recipes = [store.embeddings(name)["stain-texture@100um"] for name in ("S_1", "S_2")]
    scales = [recipe.fields["slide_scale"] for recipe in recipes]
    assert scales == [
        {"patch_px": 20, "um_per_px": 5.0},
        {"patch_px": 40, "um_per_px": 2.5},
    ]
    assert recipes[0].without_slide() == recipes[1].without_slide()
    assert recipes[0].fields["patch_um"] == 100.0
    in_pixels = EmbeddingStore(tmp_path / "pixels")
    featurize(data, in_pixels, backbone="stain-texture", patch=["20"])
    np.testing.assert_array_equal(
        store.read("S_1", "stain-texture@100um"), in_pixels.read("S_1", "stain-texture@20")
    )


@pytest.mark.parametrize("patch", [[64], ["64px", "110um"]])
def test_pixels_on_slides_of_other_scale_are_warned_of(patch):
    slides = [phantom_slide(name, spots=10, pitch_px=px) for name, px in (("A", 20), ("B", 40))]
    with pytest.warns(HistoboostWarning, match="160 um on slide B but 320 um on slide A"):
        parse_sizes(patch, slides)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse_sizes(["55um"], slides)
        parse_sizes(patch, slides[:1] * 2)
