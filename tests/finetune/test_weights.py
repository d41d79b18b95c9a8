"""Weights of a fine-tuned network carry the slides they were tuned on into the store."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from histoboost.cache.store import EmbeddingStore
from histoboost.featurize import featurize
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.finetune.folder import save_tensors
from histoboost.phantom import phantom_slide
from histoboost.slides.slide import Dataset

SLIDES = [{"slide": "S_1", "pixels": "ab", "spots": "cd"}]


@pytest.fixture
def tuned(tmp_path: Path, tiny_net: str) -> Path:
    """A weights file as finetune writes it."""
    path = tmp_path / "backbone.pth"
    state = load_backbone(tiny_net, "random", seed=7).module.state_dict()
    save_tensors(
        {"state_dict": state, "backbone": tiny_net, "tuned_on": SLIDES, "input_px": 48}, path
    )
    return path


def test_the_backbone_knows_its_slides_and_its_input_size(tuned: Path, tiny_net: str) -> None:
    backbone = load_backbone(tiny_net, str(tuned))
    assert list(backbone.tuned_on) == SLIDES
    assert backbone.input_px == 48
    fresh = load_backbone(tiny_net, "random", seed=7)
    assert all(
        torch.equal(value, fresh.module.state_dict()[name])
        for name, value in backbone.module.state_dict().items()
    )
    assert (fresh.tuned_on, fresh.input_px) == ((), 32)


def test_the_recipe_in_the_store_names_the_slides(
    tuned: Path, tiny_net: str, tmp_path: Path
) -> None:
    dataset = Dataset(Path("phantom"), (phantom_slide("S_2", spots=12),))
    for name, weights in (("tuned", str(tuned)), ("frozen", "random")):
        featurize(
            dataset, tmp_path / "s.zarr", backbone=tiny_net, patch=[24], weights=weights, name=name
        )
    recipes = EmbeddingStore(tmp_path / "s.zarr", mode="r").embeddings("S_2")
    assert recipes["tuned"].fields["tuned_on"] == SLIDES
    assert recipes["tuned"].fields["input_px"] == 48
    assert "tuned_on" not in recipes["frozen"].fields
