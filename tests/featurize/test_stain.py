"""Stain normalisation: what it equalises, what it leaves alone, and what it refuses."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from histoboost.errors import HistoboostError
from histoboost.featurize import stain
from histoboost.phantom import phantom_slide
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.images.base import SlideImage

torchstain = pytest.importorskip("torchstain", reason="pip install 'histoboost[stain]'")

METHODS = ["macenko", "reinhard"]
AMOUNTS = np.random.default_rng(0).uniform(0.5, 1.5, (60, 60, 1))
ONE_STAIN = (240 * np.exp(-AMOUNTS * np.array([0.56, 0.72, 0.41]))).astype(np.uint8)


class Banded(ArrayImage):
    """An image in memory that is read in bands."""

    band_rows = 7


def phantom(seed: int) -> np.ndarray:
    return read(phantom_slide(seed=seed, spots=30, pitch_px=24.0).image)


def read(image: SlideImage) -> np.ndarray:
    return image.read_rows(0, image.shape[0])


def normalise(pixels: np.ndarray, method: str) -> np.ndarray:
    return read(stain.normalised(ArrayImage(pixels), method, "S_1"))


@pytest.mark.parametrize("method", METHODS)
def test_slides_of_different_stain_come_to_look_alike_and_background_is_kept(method: str):
    first, second = phantom(1), phantom(2)
    # A laboratory that stains stronger, in other hues.
    second = (255 * (second / 255.0) ** np.array([1.5, 0.8, 1.1])).astype(np.uint8)
    masks = [stain.is_tissue(pixels) for pixels in (first, second)]
    normalised = [normalise(pixels, method) for pixels in (first, second)]
    before, after = (
        np.subtract(*(p[mask].mean(0) for p, mask in zip(slides, masks, strict=True)))
        for slides in ((first, second), normalised)
    )
    assert np.abs(after).max() < 0.4 * np.abs(before).max()
    np.testing.assert_array_equal(normalised[0][~masks[0]], first[~masks[0]])
    assert (~masks[0]).mean() > 0.1


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
def test_the_amount_of_background_changes_nothing(method: str):
    pixels = phantom(5)
    height, width, _ = pixels.shape
    wide = np.full((height, 2 * width, 3), 238, np.uint8)
    wide[:, :width] = pixels
    np.testing.assert_array_equal(normalise(pixels, method), normalise(wide, method)[:, :width])


@pytest.mark.parametrize("method", METHODS)
def test_a_method_equals_torchstain_on_tissue(method: str):
    pixels = phantom(6)
    tissue = pixels[stain.is_tissue(pixels)][:, None]
    if method == "macenko":
        normalizer = torchstain.normalizers.MacenkoNormalizer(backend="numpy")
        expected, _, _ = normalizer.normalize(tissue, stains=False)
    else:
        normalizer = torchstain.normalizers.ReinhardNormalizer(backend="numpy")
        normalizer.fit(stain._reference_tissue())
        expected = normalizer.normalize(tissue)
    ours = normalise(pixels, method)[stain.is_tissue(pixels)]
    assert np.abs(ours.astype(int) - expected[:, 0].astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("pixels", "method", "message"),
    [
        (np.full((60, 60, 3), 240, np.uint8), "macenko", "slide S_1: 0 of the pixels .* too few"),
        (np.zeros((60, 60, 3), np.uint8), "reinhard", "too few to estimate"),
        (np.full((60, 60, 3), 100, np.uint8), "reinhard", "one colour only"),
        (ONE_STAIN, "macenko", "shows one stain where Macenko's method needs two"),
    ],
)
def test_a_slide_that_cannot_be_normalised_is_refused_with_the_reason(
    pixels: np.ndarray, method: str, message: str
):
    with pytest.raises(HistoboostError, match=message) as error:
        normalise(pixels, method)
    assert "\n" not in str(error.value)
