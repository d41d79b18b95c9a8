"""On a GPU the embeddings are the CPU's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostWarning
from histoboost.featurize import featurize
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.featurize.engines.torch import TorchEngine
from histoboost.featurize.resize import resize_exact
from histoboost.phantom import write_phantom

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use"
)
GPU = torch.device("cuda", 0)


def noise(count: int, px: int) -> torch.Tensor:
    coarse = torch.rand(count, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, px, mode="bicubic").clamp(0, 1)
    return (fine * 255).to(torch.uint8)


def embedded(patches: torch.Tensor, device: torch.device, **options: object) -> np.ndarray:
    engine = TorchEngine(load_backbone("resnet18", "random"), device, **options)
    return engine.submit(patches.to(device))()


@pytest.mark.parametrize("px", [32, 100, 224, 512])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_patches_are_resized_to_the_same_bytes(px: int, interpolation: str) -> None:
    patches = noise(4, px)
    here = resize_exact(patches.to(GPU), 224, interpolation)
    assert torch.equal(here.cpu(), resize_exact(patches, 224, interpolation))


@pytest.mark.parametrize("views", [1, 8])
def test_fp32_embeddings_agree_to_1e_4(views: int) -> None:
    patches = noise(8, 224)
    there = embedded(patches, torch.device("cpu"), views=views)
    here = embedded(patches, GPU, views=views)
    error = np.linalg.norm(here - there, axis=1) / np.linalg.norm(there, axis=1)
    assert error.max() < 1e-4


def test_bf16_errors_are_small_beside_the_distance_of_patches() -> None:
    patches = noise(16, 224)
    there, here = embedded(patches, GPU), embedded(patches, GPU, precision="bf16")
    apart = np.linalg.norm(there - there[::-1], axis=1).mean()
    assert np.linalg.norm(here - there, axis=1).mean() < 0.1 * apart


def test_an_embedding_does_not_depend_on_what_fills_the_batch() -> None:
    patches = noise(16, 224)
    whole = embedded(patches, GPU, batch=16)
    engine = TorchEngine(load_backbone("resnet18", "random"), GPU, batch=16)
    engine.submit(noise(16, 224).flip(0).to(GPU))()
    assert np.array_equal(engine.submit(patches[:3].to(GPU))(), whole[:3])


def test_results_that_are_awaited_late_are_each_their_own() -> None:
    engine = TorchEngine(load_backbone("resnet18", "random"), GPU, batch=4)
    batches = [part.to(GPU) for part in noise(24, 224).split(4)]
    at_once = [engine.submit(batch)() for batch in batches]
    waiting = [engine.submit(batch) for batch in batches]
    assert all(np.array_equal(wait(), rows) for wait, rows in zip(waiting, at_once, strict=True))


def assert_same_embeddings(here: Path, there: Path) -> None:
    """As far as float16 tells."""
    ours, theirs = EmbeddingStore(here, mode="r"), EmbeddingStore(there, mode="r")
    for slide in theirs.slides():
        for name in theirs.embeddings(slide):
            rows = theirs.read(slide, name).astype(np.float32)
            error = np.linalg.norm(ours.read(slide, name).astype(np.float32) - rows, axis=1)
            assert (error < 1e-3 * np.linalg.norm(rows, axis=1)).all()


def test_what_the_gpu_embedded_is_complete_for_the_cpu(tmp_path: Path) -> None:
    data = write_phantom(tmp_path / "slides.h5", slides=2, spots=30)
    options = {"backbone": "resnet18", "weights": "random", "patch": [32, 64]}
    featurize(data, tmp_path / "gpu", device="cuda", **options)
    assert featurize(data, tmp_path / "gpu", device="cpu", **options).computed == 0
    featurize(data, tmp_path / "cpu", device="cpu", **options)
    assert_same_embeddings(tmp_path / "gpu", tmp_path / "cpu")


def test_batches_are_halved_where_memory_runs_out(tmp_path: Path) -> None:
    data = write_phantom(tmp_path / "slides.h5", slides=1, unlabelled=0, spots=600)
    options = {"backbone": "resnet50", "weights": "random", "patch": 64, "device": "cuda"}
    featurize(data, tmp_path / "plenty", batch_size=64, **options)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.set_per_process_memory_fraction(2.0 * 2**30 / total, GPU)
    try:
        with pytest.warns(HistoboostWarning, match="do not fit into the memory"):
            featurize(data, tmp_path / "scarce", batch_size=1024, **options)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    assert_same_embeddings(tmp_path / "scarce", tmp_path / "plenty")
