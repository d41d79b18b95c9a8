"""A second run over a complete store loads no network, and still detects changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from histoboost import CompositionRegressor, EmbeddingStore, map_slide
from histoboost.errors import BadInput
from histoboost.featurize import featurize
from histoboost.featurize.request import backbone_key
from histoboost.featurize.run import Run
from histoboost.phantom import phantom_slide

CHOICES: dict[str, Any] = {"backbone": "stain-texture", "patch": 32, "pitch": 40}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = phantom_slide(spots=40, seed=1, pitch_px=40.0).image
    Image.fromarray(pixels.read_rows(0, pixels.shape[0])).save(tmp_path / "plain.png")
    return tmp_path / "plain.png"


@pytest.fixture
def store(image: Path) -> Path:
    featurize(image, image.with_name("s.zarr"), **CHOICES)
    return image.with_name("s.zarr")


@pytest.fixture
def no_network(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(request: object) -> None:
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(Run, "load", fail)


@pytest.mark.usefixtures("no_network")
def test_a_complete_store_needs_no_network(image: Path, store: Path) -> None:
    done = featurize(image, store, **CHOICES)
    kept = EmbeddingStore(store, mode="r")
    assert (done.computed, done.kept) == (0, len(kept.spots("plain")))
    assert done.embeddings == ["stain-texture@32"]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    "other", [{"patch": 24}, {"check_sources": True}, {"views": 8}, {"layers": "default"}]
)
def test_other_options_need_the_network(image: Path, store: Path, other: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="the network was loaded"):
        featurize(image, store, **{**CHOICES, **other})


@pytest.mark.parametrize(
    "wrong", [{"engine": "fast"}, {"device": "gpu"}, {"precision": "fp8"}, {"views": 3}]
)
def test_invalid_options_are_refused_although_all_is_stored(
    image: Path, store: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(BadInput, match="unknown"):
        featurize(image, store, **{**CHOICES, **wrong})


def test_a_damaged_slide_is_repaired_by_the_same_run(image: Path, store: Path) -> None:
    document = store / "slides" / "plain" / "zarr.json"
    document.write_bytes(document.read_bytes().replace(b"n_spots", b"n_spotz"))
    assert EmbeddingStore(store).verify().damaged
    featurize(image, store, **CHOICES)
    assert not EmbeddingStore(store).verify().damaged


def test_a_weights_file_is_identified_by_path_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    assert backbone_key("resnet18", str(file), "deep") is None
    file.write_bytes(b"one")
    key = backbone_key("resnet18", str(file), "deep")
    assert key == backbone_key("resnet18", str(file), "deep")
    os.utime(file, ns=(1, 1))
    late = backbone_key("resnet18", str(file), "deep")
    file.write_bytes(b"other")
    os.utime(file, ns=(1, 1))
    larger = backbone_key("resnet18", str(file), "deep")
    others = {backbone_key(name, "random", "deep") for name in ("resnet18", "resnet50")}
    assert len({key, late, larger, *others}) == 5


def test_your_own_network_is_loaded_every_time(
    image: Path, tiny_net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {**CHOICES, "backbone": tiny_net, "weights": "random"}
    featurize(image, image.with_name("o.zarr"), **own)
    loaded: list[object] = []
    load = Run.load
    monkeypatch.setattr(Run, "load", lambda request: loaded.append(request) or load(request))
    assert featurize(image, image.with_name("o.zarr"), **own).computed == 0
    assert len(loaded) == 1


def test_neither_featurize_nor_map_imports_torch_for_what_is_stored(
    image: Path, tmp_path: Path
) -> None:
    from histoboost.slides.slide import Dataset

    slides = [phantom_slide(f"S_{k}", seed=k, spots=40, pitch_px=40.0) for k in (2, 3)]
    how = {"backbone": "stain-texture", "patch": 32}
    featurize(Dataset(tmp_path, slides), tmp_path / "train.zarr", **how)
    model = CompositionRegressor(model="ridge").fit(tmp_path / "train.zarr")
    model.save(tmp_path / "model")
    [first] = map_slide(image, tmp_path / "model", store=tmp_path / "m.zarr", um_per_px=2.5)
    assert EmbeddingStore(tmp_path / "m.zarr").source(first.slide)["turns"]
    featurize(image, tmp_path / "s.zarr", **CHOICES)
    code = f"""
import sys, numpy
from histoboost import map_slide
from histoboost.featurize import featurize
assert featurize({str(image)!r}, "s.zarr", **{CHOICES!r}).computed == 0
[found] = map_slide({str(image)!r}, "model", store="m.zarr", um_per_px=2.5)
numpy.save("again.npy", found.values)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert np.array_equal(np.load(tmp_path / "again.npy"), first.values)
