"""Recipes of `featurize` contain everything that changes the numbers, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.featurize import featurize, recipe_fields
from histoboost.featurize.backbones.weights import weights_digest
from histoboost.phantom import phantom_slide
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.slide import Dataset

ARGUMENTS = {"backbone": "stain-texture", "patch": [16], "name": "net", "device": "cpu"}


@pytest.fixture(scope="module")
def slide():
    return phantom_slide(spots=20, pitch_px=20.0)


@pytest.fixture
def stored(slide, tmp_path) -> EmbeddingStore:
    store = EmbeddingStore(tmp_path / "store")
    featurize(Dataset(tmp_path, (slide,)), store, **ARGUMENTS)
    return store


def run(store, slide, **changes):
    return featurize(Dataset(Path("elsewhere"), (slide,)), store, **{**ARGUMENTS, **changes})


def test_a_changed_pixel_changes_the_recipe(stored, slide):
    pixels = slide.image.read_rows(0, slide.image.shape[0]).copy()
    pixels[0, 0, 0] ^= 1
    with pytest.raises(HistoboostError, match="stored with a different recipe .the image of"):
        run(stored, replace(slide, image=ArrayImage(pixels)))


def test_a_moved_spot_is_refused(stored, slide):
    moved = slide.xy.copy()
    moved[3] += 0.25
    with pytest.raises(HistoboostError, match="stored with a different spot table: xy differs"):
        run(stored, replace(slide, xy=moved))


@pytest.mark.parametrize("changes", [{"patch": [32]}, {"stain": "macenko"}, {"views": 8}], ids=str)
def test_options_that_change_the_numbers_are_refused_under_the_same_name(stored, slide, changes):
    with pytest.raises(HistoboostError, match=rf"different recipe \(.*{next(iter(changes))}"):
        run(stored, slide, **changes)


@pytest.mark.parametrize("name", ["RESIZE", "BORDER"])
def test_another_way_to_crop_is_another_recipe(stored, slide, name, monkeypatch):
    another = {"bilinear": "another"} if name == "RESIZE" else "another"
    monkeypatch.setattr(recipe_fields, name, another)
    with pytest.raises(HistoboostError, match=f"{name.lower()}: .*not .another"):
        run(stored, slide)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_batch_size_is_not_in_the_recipe(stored, slide, batch_size):
    assert run(stored, slide, batch_size=batch_size).computed == 0


def test_paths_devices_and_workers_are_not_in_the_recipe(stored):
    (recipe,) = stored.embeddings(stored.slides()[0]).values()
    assert str(stored.location) not in repr(recipe)
    for word in ("path", "device", "cuda", "batch", "worker", "job", "thread", "host", "time"):
        assert not any(word in field for field in recipe.fields if field != "patch_px"), word


def test_one_byte_of_the_weights_changes_the_digest():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    before = weights_digest(net)
    for key, tensor in net.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue  # no effect in evaluation mode
        raw = tensor.reshape(-1).view(torch.uint8)
        raw[0] ^= 1
        assert weights_digest(net) != before
        raw[0] ^= 1
    assert weights_digest(net) == before


def test_swapped_weights_change_the_digest():
    torch.manual_seed(0)
    a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    swapped = weights_digest(torch.nn.Sequential(b, a))
    assert weights_digest(torch.nn.Sequential(a, b)) != swapped
