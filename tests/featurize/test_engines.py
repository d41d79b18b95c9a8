"""Engines: the numbers of a plain implementation, one spot at a time, in eager fp32."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from histoboost.cache.store import EmbeddingStore
from histoboost.errors import HistoboostError
from histoboost.featurize import featurize, patches
from histoboost.featurize.backbones.base import Backbone
from histoboost.featurize.backbones.factory import load_backbone
from histoboost.featurize.backbones.torchvision import NETWORKS
from histoboost.featurize.engines import openvino as openvino_engine
from histoboost.featurize.engines import pick as engines
from histoboost.featurize.engines.base import DihedralMean
from histoboost.featurize.engines.pick import pick_engine
from histoboost.featurize.engines.torch import TorchEngine, fold_batch_norm
from histoboost.slides.images.array import ArrayImage
from histoboost.slides.slide import Dataset, Slide
from histoboost.spots import window_starts

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra [openvino] is not installed"
)


def tissue(height: int = 90, width: int = 110) -> np.ndarray:
    """Smooth colours with a little noise, as tissue has."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 9, 11)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    noisy = smooth[0].permute(1, 2, 0).numpy() * 200 + 30 + rng.normal(0, 8, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def slide() -> Slide:
    xy = np.array([[55.0, 45.0], [0.0, 0.0], [110.0, 90.0], [3.5, 88.2]])
    return Slide("S", ArrayImage(tissue()), xy, ("0", "1", "2", "3"))


def plain(net: Backbone, xy: np.ndarray, px: int) -> np.ndarray:
    """Crop, resize, normalise and embed one spot after the other with torchvision."""
    from torchvision.transforms.v2 import functional

    pixels = slide().image.pixels
    padded = np.pad(pixels, ((px, px), (px, px), (0, 0)), mode="symmetric")
    rows = []
    for x, y in xy:
        top, left = (int(np.floor(v - px / 2 + 0.5)) + px for v in (y, x))
        image = torch.from_numpy(padded).permute(2, 0, 1)
        patch = functional.crop(image, top, left, px, px)
        patch = functional.resize(patch, [net.input_px, net.input_px], antialias=True)
        patch = functional.to_dtype(patch, torch.float32, scale=True)
        patch = functional.normalize(patch, list(net.mean), list(net.std))
        with torch.inference_mode():
            rows.append(net.module(patch[None].contiguous())[0].numpy())
    return np.stack(rows)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest relative difference over spots."""
    gap = np.linalg.norm(ours - theirs, axis=1)
    return float((gap / np.linalg.norm(theirs, axis=1)).max())


def cut(slide: Slide, px: int, input_px: int | None) -> torch.Tensor:
    """Patches of the first four spots."""
    found = torch.from_numpy(patches.crop(slide.image, window_starts(slide.xy[:4], px), px))
    return patches.resize(found.permute(0, 3, 1, 2), input_px)


def openvino(name: str) -> object:
    marks = [needs_openvino, *([] if name == "mobilenet_v3_large" else [pytest.mark.soak])]
    return pytest.param("openvino", name, marks=marks)


@pytest.mark.parametrize(
    ("engine", "name"), [*(("torch", name) for name in NETWORKS), *map(openvino, NETWORKS)]
)
def test_an_engine_equals_the_plain_implementation_also_at_borders(engine: str, name: str):
    # Networks take any input; a small one keeps the test short.
    net = replace(load_backbone(name, "random"), input_px=96)
    ours = pick_engine(net, CPU, engine=engine, batch=8).submit(cut(slide(), 33, 96))()
    assert difference(ours, plain(net, slide().xy, 33)) < 1e-4


@needs_openvino
def test_overlapping_requests_to_openvino_do_not_mix(tiny_net: str):
    net = load_backbone(tiny_net)
    engine = openvino_engine.OpenVinoEngine(net, 1, 4, 1)
    torch_engine = TorchEngine(net, CPU)
    noise = torch.Generator().manual_seed(0)
    batches = [
        torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8, generator=noise)
        for size in (4, 4, 1, 3)
    ]
    for pair in (batches[:2], batches[2:]):
        for batch, wait in [(batch, engine.submit(batch)) for batch in pair]:
            assert difference(wait(), torch_engine.submit(batch)()) < 1e-4


def test_folding_removes_all_batch_norms_from_a_copy():
    def batch_norms(module: torch.nn.Module) -> int:
        return sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in module.modules())

    net = load_backbone("resnet18", "random")
    before = batch_norms(net.module)
    assert batch_norms(fold_batch_norm(net.module)) == 0
    assert batch_norms(net.module) == before > 0


@pytest.mark.parametrize("engine", ["torch", pytest.param("openvino", marks=needs_openvino)])
def test_eight_views_are_the_mean_over_flips_and_quarter_turns(tiny_net: str, engine: str):
    net = load_backbone(tiny_net)
    noise = torch.Generator().manual_seed(0)
    patches = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=noise)
    single = TorchEngine(net, CPU)
    turned = [torch.rot90(patches, k, (2, 3)) for k in range(4)]
    views = [view for turn in turned for view in (turn, turn.flip(3))]
    mean = np.mean([single.submit(view)() for view in views], axis=0)
    eight = pick_engine(net, CPU, engine=engine, views=8, batch=4)
    assert difference(eight.submit(patches)(), mean) < 1e-4
    # Turning the patch changes nothing any more.
    assert difference(eight.submit(turned[1].contiguous())(), mean) < 1e-4
    assert isinstance(DihedralMean(net.module)(torch.zeros(1, 3, 32, 32)), torch.Tensor)


def test_bf16_is_close_to_fp32_with_another_identity(tiny_net: str, tmp_path: Path):
    data = Dataset(Path("memory"), [slide()])
    for precision in ("fp32", "bf16"):
        featurize(data, tmp_path / precision, backbone=tiny_net, patch=[16], precision=precision)
    stores = [EmbeddingStore(tmp_path / precision) for precision in ("fp32", "bf16")]
    full, half = (store.read("S", f"{tiny_net}@16").astype(float) for store in stores)
    assert 0 < difference(half, full) < 0.1
    with pytest.raises(HistoboostError, match="precision"):
        featurize(data, tmp_path / "fp32", backbone=tiny_net, patch=[16], precision="bf16")


def test_the_engine_is_not_part_of_the_identity(tiny_net: str, tmp_path: Path):
    data = Dataset(Path("memory"), [slide()])
    options = {"backbone": tiny_net, "patch": [16, 31]}
    first = featurize(data, tmp_path / "s", engine="torch", **options)
    again = featurize(data, tmp_path / "s", engine="auto", **options)
    assert (first.computed, again.computed, again.kept) == (8, 0, 8)


def test_without_the_extra_openvino_is_refused_and_auto_takes_torch(tiny_net: str, monkeypatch):
    net = load_backbone(tiny_net)
    monkeypatch.setattr("histoboost.errors.find_spec", lambda name: None)
    monkeypatch.setattr(openvino_engine, "find_spec", lambda name: None)
    with pytest.raises(HistoboostError, match=r"pip install 'histoboost\[openvino\]'"):
        pick_engine(net, CPU, engine="openvino")
    assert pick_engine(net, CPU).name == "torch"


@needs_openvino
def test_a_network_without_an_input_size_of_its_own_runs_in_torch():
    net = load_backbone("stain-texture")
    assert pick_engine(net, CPU).name == "torch"
    net = replace(net, exportable=True)
    assert pick_engine(net, CPU).name == "torch"
    with pytest.raises(HistoboostError, match="cannot run stain-texture; give --engine torch"):
        pick_engine(net, CPU, engine="openvino")
    with pytest.raises(HistoboostError, match="fp32 here, not in bf16; give --engine torch"):
        pick_engine(net, CPU, engine="openvino", precision="bf16")


def test_threads_stay_within_the_allowed_cores(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(engines.joblib, "cpu_count", lambda: 1)
    try:
        assert engines.limit_threads() == 1
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.real
def test_the_real_network_equals_the_plain_implementation_on_real_tissue(shared: Path):
    from histoboost.slides.readers import open_dataset
    from histoboost.slides.tile_cache import read_pixels

    net = load_backbone("mobilenet_v2", str(shared / "weights" / "mobilenet_v2.pth"))
    section = open_dataset(shared / "data" / "mob.h5")["MOB1"]
    batch = cut(replace(section, image=read_pixels(section.image)[0]), 64, 224)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (net.mean, net.std))
    normal = (batch / 255 - mean) / std
    with torch.inference_mode():
        reference = np.concatenate([net.module(one[None].contiguous()) for one in normal])
    assert difference(TorchEngine(net, CPU).submit(batch)(), reference) < 1e-4


def test_fp32_convolutions_are_never_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    net = load_backbone("resnet18", "random")
    allowed = []

    class Recorded(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            allowed.append(torch.backends.cudnn.allow_tf32)
            return pixels.mean((2, 3))

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    TorchEngine(replace(net, module=Recorded()), CPU).submit(cut(slide(), 32, 64))()
    assert allowed == [False]
    assert torch.backends.cudnn.allow_tf32


@needs_openvino
def test_openvino_reports_to_nobody():
    pick_engine(load_backbone("resnet18", "random"), CPU, engine="openvino")
    from openvino.tools.ovc import convert_impl, telemetry_stub

    assert convert_impl.tm is telemetry_stub
    assert convert_impl.init_ovc_telemetry().send_event("ovc", "test", "test") is None
