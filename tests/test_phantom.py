"""Phantom slides have the layout of the challenge, realistic tissue and a real signal."""

import h5py
import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from scipy.spatial import cKDTree
from scipy.stats import rankdata, spearmanr

from histoboost.errors import HistoboostError
from histoboost.phantom import CELL_TYPES, phantom_slide, write_phantom
from histoboost.slides.readers import open_dataset


def test_the_file_has_the_layout_of_the_challenge(phantom_h5):
    with h5py.File(phantom_h5) as file:
        assert list(file["images/Train"]) == ["S_1", "S_2", "S_3"]
        assert list(file["spots/Test"]) == list(file["images/Test"]) == ["S_4"]
        assert file["spots/Train/S_1"].dtype.names == ("x", "y", *CELL_TYPES)
        test = file["spots/Test/S_4"][()]
        assert test.dtype.names == ("x", "y", "Test_Set")
        assert set(test["Test_Set"]) == {1, 2}
        image = file["images/Train/S_1"]
        assert image.dtype == np.float32
        pixels = image[()]
        assert 0 <= pixels.min() < 0.4
        assert 0.8 < pixels.max() <= 1


def test_float_and_uint8_files_hold_the_same_slides(tmp_path):
    data = [
        open_dataset(write_phantom(tmp_path / f"{dtype}.h5", slides=1, spots=20, dtype=dtype))
        for dtype in ("float32", "uint8")
    ]
    for one, other in zip(*(dataset.slides for dataset in data), strict=True):
        rows = one.image.shape[0]
        assert np.array_equal(one.image.read_rows(0, rows), other.image.read_rows(0, rows))
        assert np.array_equal(one.xy, other.xy)


def test_slides_are_reproducible_by_seed():
    first, again, other = (phantom_slide(seed=seed, spots=20) for seed in (5, 5, 6))
    rows = first.image.shape[0]
    assert np.array_equal(first.image.read_rows(0, rows), again.image.read_rows(0, rows))
    assert np.array_equal(first.abundance, again.abundance)
    assert first.image.shape != other.image.shape or not np.array_equal(first.xy, other.xy)


@pytest.mark.parametrize("pitch", [16.0, 25.0])
def test_spots_form_a_hexagonal_lattice_on_tissue(pitch):
    slide = phantom_slide(seed=2, spots=120, pitch_px=pitch)
    assert 80 < len(slide.xy) < 170
    distance, _ = cKDTree(slide.xy).query(slide.xy, k=7)
    inner = distance[distance[:, 6] < 1.3 * pitch, 1:]
    assert len(inner) > 30
    assert np.abs(inner - pitch).max() < 2  # rounding to whole pixels
    pixels = slide.image.read_rows(0, slide.image.shape[0])
    tint = uniform_filter(np.ptp(pixels, axis=2).astype(float), pitch / 2)
    column, row = slide.xy.astype(int).T
    border = np.concatenate([tint[0], tint[-1], tint[:, 0], tint[:, -1]])
    assert np.mean(tint[row, column] > np.median(border) + 10) > 0.95


def test_abundances_are_raw_positive_and_heavy_tailed():
    abundance = phantom_slide(seed=1, spots=150).abundance
    assert len(CELL_TYPES) >= 12
    assert np.isfinite(abundance).all()
    assert abundance.min() > 0
    assert not np.allclose(abundance.sum(axis=1), abundance.sum(axis=1).mean(), rtol=0.2)
    assert np.median(abundance.max(axis=0) / np.median(abundance, axis=0)) > 20


def test_neighbouring_spots_are_similar():
    slide = phantom_slide(seed=3, spots=150)
    ranks = rankdata(slide.abundance, axis=1)
    near = cKDTree(slide.xy).query(slide.xy, k=2)[1][:, 1]
    far = np.random.default_rng(0).permutation(len(ranks))
    similarity, chance = (
        np.mean([spearmanr(a, b)[0] for a, b in zip(ranks, ranks[other], strict=True)])
        for other in (near, far)
    )
    assert similarity > chance + 0.15


def test_impossible_phantoms_are_refused(tmp_path):
    with pytest.raises(HistoboostError, match="too small"):
        phantom_slide(spots=3)
    with pytest.raises(HistoboostError, match="int16"):
        write_phantom(tmp_path / "x.h5", dtype="int16")
