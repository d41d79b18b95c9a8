"""Fixtures for the tests of stage 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from histoboost.slides.images.array import ArrayImage
from histoboost.slides.slide import Slide


@pytest.fixture(scope="session")
def noise_slide() -> Callable[..., Slide]:
    """Makes slides of 70 x 90 random pixels, with spots at random and at all four corners."""

    def make(name: str = "S", spots: int = 9, seed: int = 0) -> Slide:
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (70, 90, 3), np.uint8)
        corners = np.array([[0, 0], [90, 70], [0, 70], [89.5, 0.5]])
        xy = np.concatenate([corners, rng.random((spots, 2)) * [90, 70]])[:spots]
        return Slide(name, ArrayImage(pixels), xy, tuple(map(str, range(spots))))

    return make


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """An offline cache of huggingface.co; call it to add a repository."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(repository: str, config: dict, revision: str = "0123abc") -> Path:
        folder = tmp_path / f"models--{repository.replace('/', '--')}"
        snapshot = folder / "snapshots" / revision
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(revision)
        (snapshot / "config.json").write_text(json.dumps(config))
        return snapshot

    return put
