"""Stain normalisation: what it makes equal, what it leaves alone, and what it refuses."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import numpy as np
import pytest

from histoboost.errors import HistoboostError
from histoboost.featurize import stain
from histoboost.phantom import phantom_slide
from histoboost.slides.images.array import ArrayImage

torchstain = pytest.importorskip("torchstain", reason="pip install 'histoboost[stain]'")

METHODS = ["macenko", "reinhard"]


@dataclass(frozen=True)
class Banded(ArrayImage):
    """An image in memory that is read in bands."""

    rows: int = 7

    @property
    def band_rows(self) -> int:
        return self.rows


def phantom(seed: int) -> np.ndarray:
    image = phantom_slide(seed=seed, spots=30, pitch_px=24.0).image
    return image.read_rows(0, image.shape[0])


def read(image) -> np.ndarray:
    return image.read_rows(0, image.shape[0])


def normalise(pixels: np.ndarray, method: str) -> np.ndarray:
    return read(stain.normalised(ArrayImage(pixels), method, "S_1"))


def colour(pixels: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    return pixels[tissue].astype(float).mean(0)


@pytest.mark.parametrize("method", METHODS)
def test_slides_of_different_stain_come_to_look_alike(method: str):
    first, second = phantom(1), phantom(2)
    # A laboratory that stains stronger, in other hues.
    second = (255 * (second / 255.0) ** np.array([1.5, 0.8, 1.1])).astype(np.uint8)
    masks = [stain.is_tissue(pixels) for pixels in (first, second)]
    before = colour(first, masks[0]) - colour(second, masks[1])
    after = colour(normalise(first, method), masks[0]) - colour(normalise(second, method), masks[1])
    assert np.abs(after).max() < 0.4 * np.abs(before).max()


@pytest.mark.parametrize("method", METHODS)
def test_background_stays_as_it_is(method: str):
    pixels = phantom(3)
    background = ~stain.is_tissue(pixels)
    assert background.mean() > 0.1
    out = normalise(pixels, method)
    np.testing.assert_array_equal(out[background], pixels[background])
    assert (out[~background] != pixels[~background]).any()


@pytest.mark.parametrize("method", METHODS)
def test_any_band_size_gives_the_same_pixels(method: str):
    pixels = phantom(4)
    whole = normalise(pixels, method)
    image = stain.normalised(Banded(pixels), method, "S_1")
    image = pickle.loads(pickle.dumps(image))
    assert image.shape == pixels.shape[:2]
    np.testing.assert_array_equal(image.read_region(0, 3, 13, 20, 27), whole[13:40, 3:23])
    for start, stop in [(0, 5), (13, 40), (5, 5)]:
        np.testing.assert_array_equal(image.read_rows(start, stop), whole[start:stop])


@pytest.mark.parametrize("method", METHODS)
def test_how_much_background_a_slide_shows_changes_nothing(method: str):
    pixels = phantom(5)
    height, width, _ = pixels.shape
    wide = np.full((height, 2 * width, 3), 238, np.uint8)
    wide[:, :width] = pixels
    np.testing.assert_array_equal(normalise(pixels, method), normalise(wide, method)[:, :width])


def test_macenko_is_torchstains_own_on_tissue():
    pixels = phantom(6)
    tissue = pixels[stain.is_tissue(pixels)][:, None]
    normalizer = torchstain.normalizers.MacenkoNormalizer(backend="numpy")
    expected, _, _ = normalizer.normalize(tissue, stains=False)
    ours = normalise(pixels, "macenko")[stain.is_tissue(pixels)]
    assert np.abs(ours.astype(int) - expected[:, 0].astype(int)).max() <= 1


def test_reinhard_is_torchstains_own_on_tissue():
    pixels = phantom(6)
    tissue = pixels[stain.is_tissue(pixels)][:, None]
    normalizer = torchstain.normalizers.ReinhardNormalizer(backend="numpy")
    normalizer.fit(stain._reference_tissue())
    expected = normalizer.normalize(tissue)
    ours = normalise(pixels, "reinhard")[stain.is_tissue(pixels)]
    assert np.abs(ours.astype(int) - expected[:, 0].astype(int)).max() <= 1


def test_none_is_the_image_itself():
    image = ArrayImage(np.zeros((4, 4, 3), np.uint8))
    assert stain.normalised(image, "none", "S_1") is image


@pytest.mark.parametrize(
    ("pixels", "method", "message"),
    [
        (np.full((60, 60, 3), 240, np.uint8), "macenko", "slide S_1: 0 of the pixels .* too few"),
        (np.zeros((60, 60, 3), np.uint8), "reinhard", "too few to estimate"),
        (np.full((60, 60, 3), 100, np.uint8), "reinhard", "one colour only"),
        (np.full((60, 60, 3), 100, np.uint8), "vahadane", "unknown; give none, macenko, reinhard"),
    ],
)
def test_a_slide_that_cannot_be_normalised_says_why(pixels: np.ndarray, method: str, message: str):
    with pytest.raises(HistoboostError, match=message) as error:
        normalise(pixels, method)
    assert "\n" not in str(error.value)


def test_one_stain_alone_is_refused_by_macenko():
    amounts = np.random.default_rng(0).uniform(0.5, 1.5, (60, 60, 1))
    pixels = (240 * np.exp(-amounts * np.array([0.56, 0.72, 0.41]))).astype(np.uint8)
    with pytest.raises(HistoboostError, match="shows one stain where Macenko's method needs two"):
        normalise(pixels, "macenko")
