"""Whole runs: resumed after a crash, on several devices, within bounds of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from histoboost.cache.store import EmbeddingStore
from histoboost.featurize import embed, run
from histoboost.featurize.align import Alignment
from histoboost.featurize.embed import featurize
from histoboost.featurize.slide import ArrayImage, Dataset, Slide


def slide(name: str, spots: int, seed: int = 0) -> Slide:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (60, 50, 3), np.uint8)
    return Slide(
        name, ArrayImage(pixels), rng.random((spots, 2)) * 50, tuple(map(str, range(spots)))
    )


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    # These spots lie on no lattice; asking whether they lie on tissue would take long.
    still = {name: Alignment(name) for name in "ABC"}
    monkeypatch.setattr(embed, "asked_alignments", lambda dataset, alignment: still)
    return Dataset(Path("memory"), [slide("A", 20), slide("B", 1040, 1), slide("C", 30, 2)])


@dataclass
class Failing:
    """An engine that fails after some batches."""

    engine: run.Engine
    left: int

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    def submit(self, patches: torch.Tensor) -> object:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("the machine was switched off")
        return self.engine.submit(patches)


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(tmp_path, data, tiny_net, monkeypatch):
    options = {"backbone": tiny_net, "patch": [4, 9], "engine": "torch", "batch_size": 64}
    make: Callable[..., run.Engine] = run.EngineChoice.make
    # One batch for the width; slide A has 40 patches, B has 2 x 1024 in its first chunk.
    monkeypatch.setattr(run.EngineChoice, "make", lambda *a: Failing(make(*a), 1 + 1 + 32))
    with pytest.raises(RuntimeError, match="switched off"):
        featurize(data, tmp_path / "store", **options)
    store = EmbeddingStore(tmp_path / "store")
    assert set(store.embeddings("A")) == {f"{tiny_net}@4", f"{tiny_net}@9"}
    assert store.embeddings("B") == {}
    monkeypatch.setattr(run.EngineChoice, "make", make)
    summary = featurize(data, tmp_path / "store", **options)
    assert summary.kept == 2 * 20 + 2 * 1024
    assert summary.computed == 2 * 16 + 2 * 30
    featurize(data, tmp_path / "whole", **options)
    for name in ("A", "B", "C"):
        for px in (4, 9):
            np.testing.assert_allclose(
                store.read(name, f"{tiny_net}@{px}").astype(float),
                EmbeddingStore(tmp_path / "whole").read(name, f"{tiny_net}@{px}").astype(float),
                rtol=2e-3,
                atol=1e-4,
            )


def test_what_is_complete_needs_no_engine(tmp_path, data, tiny_net, monkeypatch):
    featurize(data, tmp_path / "store", backbone=tiny_net, patch=[4], engine="torch")
    monkeypatch.setattr(run.EngineChoice, "make", None)
    summary = featurize(data, tmp_path / "store", backbone=tiny_net, patch=[4])
    assert summary.computed == 0


def test_several_devices_take_a_slide_each_and_store_the_same(
    tmp_path, data, tiny_net, monkeypatch
):
    options = {"backbone": tiny_net, "patch": [4, 9], "engine": "torch"}
    featurize(data, tmp_path / "one", **options)
    cpu = torch.device("cpu")
    monkeypatch.setattr(embed, "pick_devices", lambda device: [cpu, cpu])
    summary = featurize(data, tmp_path / "two", **options)
    assert summary.computed == 2 * (20 + 1040 + 30)
    one, two = EmbeddingStore(tmp_path / "one"), EmbeddingStore(tmp_path / "two")
    assert two.slides() == ["A", "B", "C"], "the order is the source's, whoever is done first"
    for name in ("A", "B", "C"):
        assert one.embeddings(name) == two.embeddings(name)
        for key in one.embeddings(name):
            np.testing.assert_allclose(
                one.read(name, key).astype(float), two.read(name, key).astype(float), rtol=2e-3
            )
