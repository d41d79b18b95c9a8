"""Whole runs: resumed after a crash, on several devices, each row read once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostWarning
from histoboost.featurize import embed, featurize, run
from histoboost.featurize.engines import pick
from histoboost.phantom import phantom_slide
from histoboost.slides.align.estimate import Alignment
from histoboost.slides.images.base import Level, SlideImage
from histoboost.slides.slide import Dataset, Slide


@pytest.fixture
def data(noise_slide: Callable[..., Slide], monkeypatch: pytest.MonkeyPatch) -> Dataset:
    # These spots lie on no lattice; checking whether they lie on tissue would take long.
    still = {name: Alignment(name) for name in "ABC"}
    monkeypatch.setattr(embed, "alignment_choices", lambda dataset, alignment: still)
    spots = {"A": 20, "B": 1040, "C": 30}
    return Dataset(Path("memory"), [noise_slide(name, n, n) for name, n in spots.items()])


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(pick, "pick_devices", lambda device: [cpu, cpu])


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


def test_an_interrupted_run_resumes(tmp_path, data, tiny_net, monkeypatch):
    options = {"backbone": tiny_net, "patch": [4, 9], "engine": "torch", "batch_size": 64}
    make: Callable[..., run.Engine] = run.Run.make_engine
    # Slide A has 40 patches, one batch, and B has 2 x 1024 in its first chunk.
    monkeypatch.setattr(run.Run, "make_engine", lambda *a: Failing(make(*a), 1 + 32))
    with pytest.raises(RuntimeError, match="switched off"):
        featurize(data, tmp_path / "store", **options)
    store = EmbeddingStore(tmp_path / "store")
    assert set(store.embeddings("A")) == {f"{tiny_net}@4", f"{tiny_net}@9"}
    assert store.embeddings("B") == {}
    monkeypatch.setattr(run.Run, "make_engine", make)
    summary = featurize(data, tmp_path / "store", **options)
    assert summary.kept == 2 * 20 + 2 * 1024
    assert summary.computed == 2 * 16 + 2 * 30
    featurize(data, tmp_path / "whole", **options)
    assert_equal(store, EmbeddingStore(tmp_path / "whole"))
    monkeypatch.setattr(run.Run, "make_engine", None)  # what is complete needs no engine
    assert featurize(data, tmp_path / "store", **options).computed == 0


def assert_equal(one: EmbeddingStore, two: EmbeddingStore) -> None:
    for name in ("A", "B", "C"):
        assert one.embeddings(name) == two.embeddings(name)
        for key in one.embeddings(name):
            rows = [store.read(name, key).astype(float) for store in (one, two)]
            np.testing.assert_allclose(*rows, rtol=2e-3, atol=1e-4)


@dataclass
class CountingImage(SlideImage):
    """Pixels in tiles of 16 rows, like a compressed source; counts how often a row is read."""

    pixels: np.ndarray

    def __post_init__(self) -> None:
        self.levels = (Level(*self.pixels.shape[:2]),)
        self.tiles = ((16, self.pixels.shape[1]),)
        self.reads = np.zeros(len(self.pixels), int)

    def read_region(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        self.reads[y : y + height] += 1
        return self.pixels[y : y + height, x : x + width].copy()


@pytest.mark.parametrize("stain", ["none", "macenko"])
@pytest.mark.parametrize("alignment", ["none", "auto"])
def test_a_run_reads_every_row_of_a_small_slide_once(tmp_path, alignment, stain):
    if stain != "none":
        pytest.importorskip("torchstain", reason="pip install 'histoboost[stain]'")
    source = phantom_slide("S_1", seed=8000)
    image = CountingImage(source.image.read_rows(0, source.image.shape[0]))
    data = Dataset(Path("memory"), [replace(source, image=image)])
    options = {"backbone": "stain-texture", "patch": [16, 33]}
    featurize(data, tmp_path / "one", alignment=alignment, stain=stain, **options)
    assert (image.reads == 1).all()
    whole = Dataset(Path("memory"), [source])
    featurize(whole, tmp_path / "two", alignment=alignment, stain=stain, **options)
    one, two = EmbeddingStore(tmp_path / "one"), EmbeddingStore(tmp_path / "two")
    assert one.embeddings("S_1") == two.embeddings("S_1")
    np.testing.assert_array_equal(one.spots("S_1").thumbnail, two.spots("S_1").thumbnail)


@pytest.mark.usefixtures("two_devices")
def test_warnings_of_other_processes_are_repeated(tmp_path, data):
    for each in data.slides:
        each.image.pixels[:] = 1
    with pytest.warns(HistoboostWarning, match="slide B: .* patches of 8 px are one flat colour"):
        featurize(data, tmp_path / "two", backbone="stain-texture", patch=[8])


def test_several_devices_store_the_same(tmp_path, data, tiny_net, request):
    layers = "default,0:std"
    options = {"backbone": tiny_net, "patch": [4, 9], "engine": "torch", "layers": layers}
    featurize(data, tmp_path / "one", **options)
    request.getfixturevalue("two_devices")
    summary = featurize(data, tmp_path / "two", **options)
    assert summary.computed == 2 * (20 + 1040 + 30)
    one, two = EmbeddingStore(tmp_path / "one"), EmbeddingStore(tmp_path / "two")
    assert two.slides() == ["A", "B", "C"]
    assert len(one.embeddings("A")) == 4
    assert_equal(one, two)
